/**
 * Applies what devices report, in the order of the journal. A twin remembers how far each journal was applied to it, so a message that comes
 * again changes nothing; where its events may not have been told, they are told again (src/inlet/device-message.ts).
 */
import { isTwinName } from '../core/ids.js'
import { inParallel } from '../core/in-parallel.js'
import type { DeviceMessage, MessageOutcome } from '../inlet/device-message.js'
import type { EntityKey } from '../store/entity-store.js'
import type { Device } from '../tenancy/model.js'
import { planReport } from './plan-change.js'
import { parseReport, type Report } from './report.js'
import { keyText, type CachedTwin } from './twin-cache.js'
import type { Refusal, TwinLimits } from './twin-limits.js'
import type { Actor, TwinId } from './twin-model.js'
import type { TwinWriter, Work, WorkResult } from './twin-writer.js'

export interface ReportHandlerOptions {
  readonly writer: TwinWriter
  readonly limits: TwinLimits
  readonly authoritative: boolean
  readonly read: (id: TwinId) => Promise<CachedTwin>
  /** Puts the name on the device's list; what stands against it, or null. */
  readonly nameTwin: (id: TwinId, actor: Actor, device: Device) => Promise<Refusal | null>
  readonly getDevice: (tenant: string, device: string) => Promise<Device | null>
}

/** Of the device's own twin: almost all of them. */
const ownPath = 'twin/reported'
const pathPattern = /^twin\/(?:([^/]+)\/)?reported$/

interface Parsed { readonly index: number, readonly message: DeviceMessage, readonly report: Report }

export class ReportHandler {
  readonly #options: ReportHandlerOptions
  readonly stats = { applied: 0, unchanged: 0, refused: 0, repeated: 0 }

  constructor (options: ReportHandlerOptions) {
    this.#options = options
  }

  takes (path: string): boolean {
    if (path === ownPath) return true
    const match = pathPattern.exec(path)
    return match !== null && (match[1] === undefined || isTwinName(match[1]))
  }

  async apply (messages: readonly DeviceMessage[]): Promise<readonly MessageOutcome[]> {
    const outcomes = new Array<MessageOutcome>(messages.length)
    const groups = new Map<string, { id: TwinId, parsed: Parsed[] }>()
    messages.forEach((message, index) => {
      const { tenant, device, path, payload, stamp } = message
      const report = parseReport(payload, stamp, this.#options.limits)
      if ('code' in report) {
        outcomes[index] = { kind: 'refused', ...report }
        return
      }
      const id: TwinId = { tenant, device, name: path === ownPath ? '' : pathPattern.exec(path)?.[1] ?? '' }
      const key = keyText(id)
      const group = groups.get(key)
      if (group === undefined) groups.set(key, { id, parsed: [{ index, message, report }] })
      else group.parsed.push({ index, message, report })
    })
    await inParallel([...groups.values()], async ({ id, parsed }) => { await this.#applyTo(id, parsed, outcomes) }, groups.size)
    for (const { kind } of outcomes) this.stats[kind]++
    return outcomes
  }

  /** Messages of one twin, in order: they wait side by side, and share a commit. */
  async #applyTo (id: TwinId, parsed: readonly Parsed[], outcomes: MessageOutcome[]): Promise<void> {
    const works = parsed.map(({ message, report }) => this.#workOf(message, report))
    const refusal = id.name === '' ? null : await this.#makeNamed(id, works)
    if (refusal !== null) {
      for (const { index } of parsed) outcomes[index] = refusal
      return
    }
    const results = await this.#options.writer.submitAll(id, works)
    for (const [i, result] of results.entries()) {
      const { index, message } = parsed[i]
      if (result.plan.kind === 'repeated') await this.#repeated(id, message)
      outcomes[index] = outcomeOf(result)
    }
  }

  #workOf (message: DeviceMessage, report: Report): Work {
    const { journalId, position, stamp, device } = message
    const actor: Actor = { kind: 'device', id: device, via: 'mqtt' }
    return {
      // The journal holds it.
      sync: false,
      creates: true,
      stamp,
      isRepeat: state => position <= (state.applied.get(journalId) ?? -1),
      plan: (state, context) => planReport(state, { report, from: { journalId, position, stamp }, actor, byStamp: !this.#options.authoritative }, context)
    }
  }

  /** The first report to a named twin puts it on the device's list. */
  async #makeNamed (id: TwinId, works: readonly Work[]): Promise<MessageOutcome | null> {
    const { read, getDevice, nameTwin, writer } = this.#options
    const { state } = await read(id)
    if (state.alive) return null
    const device = await getDevice(id.tenant, id.device)
    if (device === null) return null
    const context = await writer.context(id, state, device)
    // What will be refused, or is about a twin that was deleted, leaves no name behind.
    if (!works.some(work => work.isRepeat?.(state) !== true && work.plan(state, context).kind === 'step')) return null
    const refusal = await nameTwin(id, { kind: 'device', id: id.device, via: 'mqtt' }, device)
    return refusal === null ? null : { kind: 'refused', code: 'twin_too_large', detail: refusal.detail }
  }

  async #repeated (id: TwinId, message: DeviceMessage): Promise<void> {
    this.stats.repeated++
    if (message.replayed || this.#options.writer.isUntold(keyText(id))) await this.#tellAgain(id)
  }

  async #tellAgain (id: TwinId): Promise<void> {
    if (this.#options.authoritative) return
    const key: EntityKey = { tenant: id.tenant, device: id.device, kind: 'twin', name: id.name }
    await this.#options.writer.tellAgain(key, await this.#options.read(id))
  }
}

function outcomeOf ({ plan, state }: WorkResult): MessageOutcome {
  switch (plan.kind) {
    case 'step': return { kind: 'applied', version: state.version }
    case 'no_device': return { kind: 'refused', code: 'device_unknown', detail: 'the device is not registered' }
    case 'refused': return { kind: 'refused', code: plan.refusal.code === 'limit_reached' ? 'twin_too_large' : 'twin_invalid', detail: plan.refusal.detail }
    case 'refused_by_rules': return { kind: 'refused', code: 'twin_schema', detail: plan.detail }
    default: return { kind: 'unchanged', version: state.version }
  }
}
