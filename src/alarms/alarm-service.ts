/** Alarms as people and programs see them: rules written, alarms listed from the store, acknowledged and cleared by hand. */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import { inParallel } from '../core/in-parallel.js'
import type { Log } from '../core/log.js'
import type { Severity } from '../core/threshold.js'
import type { DocumentStore, StoredDocument } from '../store/document-store.js'
import type { Page } from '../store/registry.js'
import type { AlarmRule } from '../../workers/watch-protocol.js'
import { acknowledged, alarmId, type AlarmDocument } from './alarm-document.js'
import type { AlarmEngine } from './alarm-engine.js'
import type { RuleBody } from './rule.js'
import type { RuleService } from './rule-service.js'

export interface AlarmFilter {
  readonly state?: 'active' | 'cleared'
  readonly severity?: Severity
  readonly device?: string
  readonly rule?: string
  readonly acked?: boolean
}

export interface AlarmServiceOptions {
  readonly documents: DocumentStore
  readonly engine: Pick<AlarmEngine, 'pairFor' | 'ruleChanged' | 'writer'>
  readonly rules: RuleService
  readonly clock: Clock
  readonly log: Log
  /** Told after a rule was written or deleted. */
  readonly ruleChanged?: (tenant: string) => void
}

const pageSize = 500
/** Alarms looked at for one page; a filter that fits few gives a short page and a cursor to go on from. */
const lookedAtMax = 5000

export class AlarmService {
  readonly rules: Pick<RuleService, 'get' | 'list'>
  readonly #options: AlarmServiceOptions

  constructor (options: AlarmServiceOptions) {
    this.#options = options
    this.rules = options.rules
  }

  /** Alarms of other versions of the rule are cleared when it resolves. */
  async putRule (tenant: string, id: string, body: RuleBody, expected: string | null): Promise<{ readonly rule: AlarmRule, readonly created: boolean }> {
    const written = await this.#options.rules.put(tenant, id, body, expected)
    await this.#follow(tenant, id, written.rule)
    return written
  }

  async deleteRule (tenant: string, id: string, expected: string | null): Promise<boolean> {
    const deleted = await this.#options.rules.delete(tenant, id, expected)
    if (deleted) await this.#follow(tenant, id, null)
    return deleted
  }

  async #follow (tenant: string, id: string, rule: AlarmRule | null): Promise<void> {
    try {
      await this.#options.engine.ruleChanged(tenant, id, rule)
    } catch (error) {
      // The rule is as it was asked for; alarms of the version before are cleared within the hour.
      this.#options.log.warn({ tenant, rule: id, error: (error as Error).message }, 'alarms of a changed rule are cleared later')
    }
    this.#options.ruleChanged?.(tenant)
  }

  /** In order of rule and device. A page may be short, or empty, though there are more. */
  async list (tenant: string, filter: AlarmFilter, cursor: string | null, limit: number): Promise<Page<AlarmDocument>> {
    if (filter.rule !== undefined && filter.device !== undefined) return { items: (await this.#read(tenant, [filter.rule], filter.device)).filter(alarm => fits(alarm, filter)), next: null }
    const items: AlarmDocument[] = []
    // A cursor says where a page of the store begins and up to which alarm of it was given.
    let [after, at] = cursor === null ? ['', null] : readCursor(cursor)
    for (let looked = 0; looked < lookedAtMax;) {
      const page: Page<StoredDocument> = await this.#options.documents.listDocuments('alarm', tenant, filter.rule === undefined ? '' : `${filter.rule}~`, at, pageSize)
      looked += page.items.length
      for (const { id, body } of page.items) {
        if (id.startsWith('~')) return { items, next: null }
        if (id <= after) continue
        const alarm = JSON.parse(body) as AlarmDocument
        if (!fits(alarm, filter)) continue
        if (items.length === limit) return { items, next: writeCursor(after, at) }
        items.push(alarm)
        after = id
      }
      at = page.next
      if (at === null) return { items, next: null }
    }
    return { items, next: writeCursor(after, at) }
  }

  /** Of one device, by the rules that there are. */
  async ofDevice (tenant: string, device: string): Promise<readonly AlarmDocument[]> {
    return await this.#read(tenant, (await this.#options.rules.all(tenant)).map(({ id }) => id), device)
  }

  async #read (tenant: string, rules: readonly string[], device: string): Promise<readonly AlarmDocument[]> {
    const found = await inParallel(rules, async rule => await this.#options.documents.getDocument('alarm', tenant, alarmId(rule, device)))
    return found.flatMap(document => document === null ? [] : [JSON.parse(document.body) as AlarmDocument]).filter(({ state }) => state !== 'none')
  }

  /** What is known of the bounds of a tenant. */
  counts (tenant: string): { readonly active: number, readonly notRaised: number } {
    return { active: this.#options.engine.writer.activeOf(tenant), notRaised: this.#options.engine.writer.notRaisedOf(tenant) }
  }

  async get (tenant: string, id: string): Promise<AlarmDocument | null> {
    const { rule, device } = partsOf(id)
    const [alarm] = await this.#read(tenant, [rule], device)
    return alarm ?? null
  }

  /** The device was deleted: its alarms are over. */
  async deviceDeleted (tenant: string, device: string): Promise<void> {
    const { rules, engine } = this.#options
    await inParallel(await rules.all(tenant), async ({ id }) => {
      const pair = await engine.pairFor(tenant, id, device)
      if (pair !== null) await engine.writer.end(pair, 'device_deleted')
    })
  }

  /** null: there is no such alarm. One that is acknowledged stays as it is. */
  async acknowledge (tenant: string, id: string, by: string, comment: string): Promise<AlarmDocument | null> {
    const { rule, device } = partsOf(id)
    const { engine, clock } = this.#options
    const pair = await engine.pairFor(tenant, rule, device)
    if (pair === null || pair.stored?.document.state === 'none') return null
    return await engine.writer.edit(pair, alarm => alarm.state === 'none' || alarm.acknowledged ? null : acknowledged(tenant, alarm, by, comment, clock.nowUs()))
  }

  /** null: there is no such alarm. One that is cleared stays as it is; the streak that raised it raises no other. */
  async clear (tenant: string, id: string): Promise<AlarmDocument | null> {
    const { rule, device } = partsOf(id)
    const { engine } = this.#options
    const pair = await engine.pairFor(tenant, rule, device)
    if (pair === null || pair.stored?.document.state === 'none') return null
    if (pair.stored?.document.state === 'active') await engine.writer.end(pair, 'manual')
    return pair.stored?.document ?? null
  }
}

function writeCursor (after: string, at: string | null): string { return JSON.stringify([after, at]) }
function readCursor (cursor: string): [string, string | null] { return JSON.parse(cursor) as [string, string | null] }

/** @throws TwinfoldError `not_found` for what is no id of an alarm */
function partsOf (id: string): { readonly rule: string, readonly device: string } {
  const found = /^([A-Za-z0-9][A-Za-z0-9._:-]{0,63})~([A-Za-z0-9._:@-]{1,128})$/.exec(id)
  if (found === null) throw new TwinfoldError('not_found', 'an alarm is named RULE~DEVICE')
  return { rule: found[1], device: found[2] }
}

function fits (alarm: AlarmDocument, { state, severity, device, rule, acked }: AlarmFilter): boolean {
  return alarm.state !== 'none' && (state === undefined || alarm.state === state) && (severity === undefined || alarm.severity === severity) && (device === undefined || alarm.device === device) &&
    (rule === undefined || alarm.rule === rule) && (acked === undefined || alarm.acknowledged === acked)
}
