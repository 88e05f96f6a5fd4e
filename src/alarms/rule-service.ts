/**
 * Alarm rules of a tenant: written, read, deleted, with entity tags. The stamp of a rule's version is never given twice, so an alarm's
 * cause names one version of one rule for ever, whatever is deleted and made again under its id.
 */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import { LeaseCache } from '../gate/lease-cache.js'
import type { DocumentStore } from '../store/document-store.js'
import type { Page } from '../store/registry.js'
import type { AlarmRule } from '../../workers/watch-protocol.js'
import { checkedRule, isRuleId, rulesPerTenantMax, type RuleBody } from './rule.js'

export interface RuleServiceOptions {
  readonly documents: DocumentStore
  readonly clock: Clock
  /** How long the rules of a tenant may be remembered, milliseconds; those written through this node are seen at once. Default 2,000. */
  readonly leaseMs?: number
}

const attemptsMax = 20

export class RuleService {
  readonly #documents: DocumentStore
  readonly #clock: Clock
  readonly #rules: LeaseCache<readonly AlarmRule[]>
  #lastStamp = 0
  readonly stats = { written: 0, deleted: 0 }

  constructor ({ documents, clock, leaseMs = 2000 }: RuleServiceOptions) {
    this.#documents = documents
    this.#clock = clock
    this.#rules = new LeaseCache({ leaseMs, rememberedMax: 10_000, staleMsMax: 0, monotonicMs: () => clock.monotonicMs(), isUnknown: rules => rules.length === 0 })
  }

  /** All of a tenant, in order of id; remembered for a lease. */
  async all (tenant: string): Promise<readonly AlarmRule[]> {
    return this.#rules.peek(tenant) ?? await this.#rules.get(tenant, async () => {
      const { items } = await this.#documents.listDocuments('alarm-rule', tenant, '', null, 1000)
      return items.map(({ body }) => JSON.parse(body) as AlarmRule)
    })
  }

  /** As it is stored now. */
  async get (tenant: string, id: string): Promise<AlarmRule | null> {
    return (await this.#read(tenant, id))?.rule ?? null
  }

  async list (tenant: string, cursor: string | null, limit: number): Promise<Page<AlarmRule>> {
    const { items, next } = await this.#documents.listDocuments('alarm-rule', tenant, '', cursor, limit)
    return { items: items.map(({ body }) => JSON.parse(body) as AlarmRule), next }
  }

  /** Tenants that may have rules. */
  async tenants (): Promise<readonly string[]> { return await this.#documents.documentTenants('alarm-rule') }

  /** @throws TwinfoldError `invalid_field`, `limit_reached`, `precondition_failed` */
  async put (tenant: string, id: string, body: RuleBody, expected: string | null): Promise<{ readonly rule: AlarmRule, readonly created: boolean }> {
    checkedRule(id, body, 0)
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const before = await this.#read(tenant, id)
      requireTag(before?.rule ?? null, expected)
      if (before === null) await this.#requireRoom(tenant)
      this.#lastStamp = Math.max(this.#clock.nowUs(), this.#lastStamp + 1, (before?.rule.stamp ?? 0) + 1)
      const rule = checkedRule(id, body, this.#lastStamp)
      if (!await this.#documents.putDocument('alarm-rule', tenant, id, JSON.stringify(rule), before?.revision ?? 0)) continue
      this.stats.written++
      this.#rules.forget(tenant)
      return { rule, created: before === null }
    }
    throw new TwinfoldError('precondition_failed', 'others write this rule all the time; read it and try again')
  }

  /** False: there is none. @throws TwinfoldError `precondition_failed` */
  async delete (tenant: string, id: string, expected: string | null): Promise<boolean> {
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const before = await this.#read(tenant, id)
      if (before === null && expected === null) return false
      requireTag(before?.rule ?? null, expected)
      if (before === null) return false
      if (!await this.#documents.deleteDocument('alarm-rule', tenant, id, before.revision)) continue
      this.stats.deleted++
      this.#rules.forget(tenant)
      return true
    }
    throw new TwinfoldError('precondition_failed', 'others write this rule all the time; read it and try again')
  }

  async #read (tenant: string, id: string): Promise<{ readonly rule: AlarmRule, readonly revision: number } | null> {
    const document = isRuleId(id) ? await this.#documents.getDocument('alarm-rule', tenant, id) : null
    return document === null ? null : { rule: JSON.parse(document.body) as AlarmRule, revision: document.revision }
  }

  async #requireRoom (tenant: string): Promise<void> {
    const { items } = await this.#documents.listDocuments('alarm-rule', tenant, '', null, rulesPerTenantMax)
    if (items.length >= rulesPerTenantMax) throw new TwinfoldError('limit_reached', `a tenant has ${rulesPerTenantMax} alarm rules at most`)
  }
}

export function ruleTag (rule: AlarmRule): string { return String(rule.stamp) }

function requireTag (rule: AlarmRule | null, expected: string | null): void {
  if (expected === null) return
  const fits = expected === '*' ? rule !== null : expected === 'none' ? rule === null : rule !== null && ruleTag(rule) === expected
  if (!fits) throw new TwinfoldError('precondition_failed', rule === null ? 'there is no such rule' : 'the rule was changed since; read it and try again', { field: 'If-Match' })
}
