/**
 * Alarm rules on reported values and on presence. They come one change at a time from this process: the twin service and the presence
 * service tell of what they have written. What was written and not evaluated when a server died is found by looking at all devices in
 * the scope of such rules after the start, and when a rule is written.
 *
 * Bounded: `waitingMax` changes wait for the store; beyond, the oldest is let go and the tenant is looked over again.
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { Value } from '../core/reading.js'
import { inScope, Side, sideOf } from '../core/threshold.js'
import type { PresenceChange } from '../presence/presence-events.js'
import type { PresenceSource } from '../presence/presence-sink.js'
import type { RegistryStore } from '../store/registry.js'
import type { Device } from '../tenancy/model.js'
import type { Json, TwinChanged, Twins, TwinView } from '../twin/twin-model.js'
import type { AlarmRule } from '../../workers/watch-protocol.js'
import type { AlarmEngine } from './alarm-engine.js'
import type { Edge } from './alarm-machine.js'
import type { RuleService } from './rule-service.js'

export interface SourceWatchOptions {
  readonly engine: Pick<AlarmEngine, 'note'>
  readonly rules: RuleService
  readonly registry: Pick<RegistryStore, 'getDevice' | 'listDevices'>
  readonly twins: Pick<Twins, 'getMany' | 'onChanged'>
  readonly presence: Pick<PresenceSource, 'view'>
  readonly clock: Clock
  readonly log: Log
}

/** `changed`: its view is made at the first look, which is taken where the tenant has a rule. */
interface Waiting { readonly tenant: string, readonly device: string, readonly changed: TwinChanged | null, readonly presence: PresenceChange | null }

const waitingMax = 10_000
const retryMs = 1000
const page = 500

export class SourceWatch {
  readonly #options: SourceWatchOptions
  readonly #waiting: Waiting[] = []
  readonly #toLookOver = new Set<string>()
  #running: Promise<void> | null = null
  #stop: (() => void) | null = null
  #timer: NodeJS.Timeout | null = null
  #closing = false
  readonly stats = { changes: 0, failures: 0, dropped: 0, lookedOver: 0 }

  constructor (options: SourceWatchOptions) { this.#options = options }

  /** From now on; all devices in scope are looked at once. */
  async open (): Promise<void> {
    this.#stop = this.#options.twins.onChanged(changed => { this.noteTwin(changed) })
    for (const tenant of await this.#options.rules.tenants()) this.#toLookOver.add(tenant)
    this.#timer = setInterval(() => { this.#begin() }, retryMs).unref()
    this.#begin()
  }

  async close (): Promise<void> {
    this.#closing = true
    this.#stop?.()
    if (this.#timer !== null) clearInterval(this.#timer)
    await this.#running
  }

  /** Rules of the tenant were written: its devices are looked over. */
  ruleChanged (tenant: string): void {
    this.#toLookOver.add(tenant)
    this.#begin()
  }

  noteTwin (changed: TwinChanged): void {
    const { id, reported, tags } = changed
    if (id.name !== '' || !(reported || tags)) return
    this.#add({ tenant: id.tenant, device: id.device, changed, presence: null })
  }

  notePresence (change: PresenceChange): void {
    this.#add({ tenant: change.tenant, device: change.device, changed: null, presence: change })
  }

  #add (waiting: Waiting): void {
    if (this.#waiting.length >= waitingMax) {
      const [first] = this.#waiting.splice(0, 1)
      this.stats.dropped++
      this.#toLookOver.add(first.tenant)
    }
    this.#waiting.push(waiting)
    this.#begin()
  }

  #begin (): void {
    if (this.#closing || (this.#waiting.length === 0 && this.#toLookOver.size === 0)) return
    this.#running ??= this.#run().catch((error: Error) => {
      this.stats.failures++
      this.#options.log.debug({ error: error.message }, 'reported values and presence are looked at again for alarms')
    }).finally(() => { this.#running = null })
  }

  async #run (): Promise<void> {
    while (this.#waiting.length > 0 && !this.#closing) {
      await this.#look(this.#waiting[0])
      this.#waiting.shift()
      this.stats.changes++
    }
    for (const tenant of [...this.#toLookOver]) {
      await this.#lookOver(tenant)
      this.#toLookOver.delete(tenant)
      this.stats.lookedOver++
    }
  }

  async #rulesOf (tenant: string, kind: 'reported' | 'presence'): Promise<readonly AlarmRule[]> {
    return (await this.#options.rules.all(tenant)).filter(({ enabled, source }) => enabled && kind in source)
  }

  async #look ({ tenant, device, changed, presence }: Waiting): Promise<void> {
    const rules = await this.#rulesOf(tenant, changed === null ? 'presence' : 'reported')
    if (rules.length === 0) return
    const twin = changed?.twin ?? null
    const known = await this.#options.registry.getDevice(tenant, device)
    if (known === null) return
    for (const rule of rules) {
      const edge = twin !== null ? reportedEdge(rule, twin) : presence !== null ? presenceEdge(rule, presence) : null
      await this.#note(rule, twin === null ? known : { ...known, tags: twin.tags }, edge)
    }
  }

  async #note (rule: AlarmRule, device: Device, edge: Edge | null): Promise<void> {
    if (edge !== null && inScope(rule.scope, device)) await this.#options.engine.note(device.tenant, rule, device.id, [edge], Math.max(edge.ts, this.#options.clock.nowUs()))
  }

  async #lookOver (tenant: string): Promise<void> {
    const { registry, twins, presence } = this.#options
    const reported = await this.#rulesOf(tenant, 'reported')
    const ofPresence = await this.#rulesOf(tenant, 'presence')
    if (reported.length === 0 && ofPresence.length === 0) return
    let cursor: string | null = null
    do {
      const found: Awaited<ReturnType<RegistryStore['listDevices']>> = await registry.listDevices(tenant, cursor, page)
      const ids = found.items.map(({ id }) => id)
      const views = reported.length === 0 ? [] : await twins.getMany(ids.map(device => ({ tenant, device, name: '' })))
      const presences = ofPresence.length === 0 ? [] : await presence.view(tenant, ids)
      for (const [at, device] of found.items.entries()) {
        if (this.#closing) return
        const view = views[at] ?? null
        if (view !== null) for (const rule of reported) await this.#note(rule, device, reportedEdge(rule, view))
        const { connected = false, since = 0 } = presences[at] ?? {}
        // 0: it was never connected.
        if (since > 0) for (const rule of ofPresence) await this.#note(rule, device, presenceEdge(rule, { tenant, device: device.id, connected, at: since }))
      }
      cursor = found.next
    } while (cursor !== null)
  }
}

function presenceEdge ({ condition }: AlarmRule, { connected, at }: PresenceChange): Edge | null {
  const value = connected ? 'connected' : 'disconnected'
  const side = condition === null ? null : sideOf(condition, value)
  return side === null ? null : { ts: at, side, value }
}

/** What is not there raises nothing: it is clear. By accept stamp, which never runs backwards as a device's own times do. */
function reportedEdge ({ source, condition }: AlarmRule, twin: TwinView): Edge | null {
  if (!('reported' in source) || condition === null) return null
  const value = leafAt(twin.reported, source.reported)
  if (value === null) return { ts: twin.updatedAt, side: Side.clear, value: '' }
  const side = sideOf(condition, value)
  return side === null ? null : { ts: twin.metadata.reported[source.reported]?.stamp ?? twin.updatedAt, side, value }
}

/** The value at a dotted path (a dot in a key is escaped by a backslash); null where none is, or no plain one. */
export function leafAt (state: Json, path: string): Value | null {
  let at: Json | undefined = state
  for (const part of path.match(/(?:\\.|[^.\\])+/g) ?? []) {
    const name = part.replaceAll(/\\(.)/g, '$1')
    at = typeof at === 'object' && at !== null && !Array.isArray(at) && Object.hasOwn(at, name) ? (at as Readonly<Record<string, Json>>)[name] : undefined
  }
  return typeof at === 'number' || typeof at === 'boolean' || typeof at === 'string' ? at : null
}
