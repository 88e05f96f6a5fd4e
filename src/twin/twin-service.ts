/**
 * Twins: what operators change over HTTP, what devices report through the journal, what was and what is (DESIGN 3.6). Every change is one
 * step of the twin's version with one event (INVARIANTS 5), made by the writer (twin-writer.ts) on the state it is committed upon.
 */
import { inParallel } from '../core/in-parallel.js'
import type { KeyedLock } from '../core/keyed-lock.js'
import type { Log } from '../core/log.js'
import type { DeviceMessage, IntentHandler, IntentLog, MessageHandler, MessageOutcome } from '../inlet/device-message.js'
import type { EntityKey, EntityStore } from '../store/entity-store.js'
import type { EventLog } from '../store/event-log.js'
import type { Device } from '../tenancy/model.js'
import type { StoredTwinEvent } from './event-codec.js'
import { diffPatch, sameJson } from './json-merge.js'
import { planChange, planDelete, planName } from './plan-change.js'
import { RegistryTags } from './registry-tags.js'
import { ReportHandler } from './report-handler.js'
import { TwinCache, keyText, type CachedTwin } from './twin-cache.js'
import { changesBefore, stateAt } from './twin-history.js'
import { twinLimits, type Refusal, type TwinLimits } from './twin-limits.js'
import type { Actor, ChangeOutcome, JsonObject, TwinChange, TwinChanged, TwinEvent, TwinId, TwinRulesSource, Twins, TwinView } from './twin-model.js'
import type { TwinState } from './twin-state.js'
import { TwinUpkeep } from './twin-upkeep.js'
import { viewOf } from './twin-view.js'
import { TwinWriter } from './twin-writer.js'

export interface TwinServiceOptions {
  readonly store: EntityStore & Pick<EventLog, 'appendEvents'>
  readonly registry: { getDevice (tenant: string, id: string): Promise<Device | null>, updateDevice (device: Device): Promise<void> }
  /** The edge's lock of changes, so that the copy of tags does not race its own changes of a device. */
  readonly deviceLock: KeyedLock
  /** After the registry's copy of a device's tags was changed. */
  readonly onTagsCopied?: (tenant: string, device: string) => void
  readonly rules: TwinRulesSource
  /** Id of this node's journal. */
  readonly writer: string
  /** This process alone writes the store (embedded). */
  readonly authoritative: boolean
  /** Null where commit and event log are one write. */
  readonly intents: IntentLog | null
  /** A fresh accept stamp, µs. */
  readonly nowStamp: () => number
  readonly random: () => number
  readonly historyDays: number
  readonly log: Log
  readonly limits?: Partial<TwinLimits>
  /** Of states kept in memory, default 64 Mi. */
  readonly cacheCharsMax?: number
}

const serverActor: Actor = { kind: 'server', id: 'twins', via: 'server' }
const cacheCharsDefault = 64 * 1024 * 1024
const untoldIntervalMs = 5000

export class TwinService implements Twins, MessageHandler, IntentHandler {
  readonly #options: TwinServiceOptions
  readonly #limits: TwinLimits
  readonly #cache: TwinCache
  readonly #writer: TwinWriter
  readonly #upkeep: TwinUpkeep
  readonly #tags: RegistryTags
  readonly #reports: ReportHandler
  readonly #listeners = new Set<(changed: TwinChanged) => void>()
  #timer: NodeJS.Timeout | null = null

  constructor (options: TwinServiceOptions) {
    const { store, registry, rules, writer, authoritative, nowStamp, random, historyDays, deviceLock, onTagsCopied = () => {}, log } = options
    this.#options = options
    this.#limits = { ...twinLimits, ...options.limits }
    this.#cache = new TwinCache(store, { charsMax: options.cacheCharsMax ?? cacheCharsDefault })
    this.#upkeep = new TwinUpkeep({ store, historyDays, log })
    this.#writer = new TwinWriter({
      store, events: store, cache: this.#cache, rules, limits: this.#limits, writer, authoritative, nowStamp, random,
      getDevice: async (tenant, device) => await registry.getDevice(tenant, device),
      onCommitted: (key, before, after, events) => { this.#committed(key, before, after, events) }
    })
    this.#tags = new RegistryTags({
      registry, lock: deviceLock, onCopied: onTagsCopied, log,
      tagsOf: async (tenant, device) => {
        const { state } = await this.#read({ tenant, device, name: '' })
        return state.alive ? state.tags : null
      }
    })
    this.#reports = new ReportHandler({
      writer: this.#writer, limits: this.#limits, authoritative, read: async id => await this.#read(id),
      nameTwin: async (id, actor, device) => await this.#nameTwin(id, actor, device),
      getDevice: async (tenant, device) => await registry.getDevice(tenant, device)
    })
  }

  get stats (): Readonly<Record<'commits' | 'events' | 'conflicts' | 'faults' | 'retold' | 'waiting' | 'cached' | 'snapshots' | 'tagCopies' | 'applied' | 'unchanged' | 'refused' | 'repeated', number>> {
    const { applied, unchanged, refused, repeated } = this.#reports.stats
    return { ...this.#writer.stats, cached: this.#cache.size, snapshots: this.#upkeep.stats.snapshots, tagCopies: this.#tags.stats.copies, applied, unchanged, refused, repeated }
  }

  open (): void {
    if (this.#options.authoritative) return
    this.#timer = setInterval(() => { void this.#tellUntold() }, untoldIntervalMs)
    this.#timer.unref()
  }

  /** Waits for what is under way. */
  async close (): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    await this.#writer.close()
    await this.#upkeep.close()
    await this.#tags.close()
  }

  async get (id: TwinId): Promise<TwinView | null> {
    const { state } = await this.#read(id)
    if (state.alive) return viewOf(id, state)
    if (id.name !== '') return null
    const device = await this.#options.registry.getDevice(id.tenant, id.device)
    return device === null ? null : viewOf(id, { ...state, tags: device.tags ?? {} })
  }

  async getMany (ids: readonly TwinId[]): Promise<readonly (TwinView | null)[]> {
    return await inParallel(ids, async id => await this.get(id))
  }

  async change (id: TwinId, change: TwinChange, actor: Actor): Promise<ChangeOutcome> {
    if (id.name !== '') {
      const refused = await this.#makeNamed(id, change, actor)
      if (refused !== null) return refused
    }
    await this.#options.intents?.note(keyOf(id))
    const { plan, state } = await this.#writer.submit(id, { sync: true, creates: true, plan: (now, context) => planChange(now, change, actor, context) })
    switch (plan.kind) {
      case 'no_device': return noDevice(id)
      case 'refused': return { kind: 'refused', ...plan.refusal }
      case 'precondition_failed': return { kind: 'precondition_failed', twin: await this.#view(id, state) }
      case 'step':
        if (plan.draft.patch.tags !== undefined) await this.#tags.copy(id.tenant, id.device)
        return { kind: 'changed', twin: viewOf(id, state) }
      default: return { kind: 'unchanged', twin: await this.#view(id, state) }
    }
  }

  async remove (id: TwinId, actor: Actor): Promise<boolean> {
    if (id.name === '') return false
    const removed = await this.#delete(id, actor)
    const { plan } = await this.#writer.submit({ ...id, name: '' }, { sync: true, creates: false, plan: (state, context) => state.alive ? planName(state, id.name, 'removed', actor, context) : { kind: 'unchanged' } })
    return removed || plan.kind === 'step'
  }

  async deviceCreated (tenant: string, device: string, tags: Readonly<Record<string, string>>, actor: Actor): Promise<void> {
    const id: TwinId = { tenant, device, name: '' }
    const { state } = await this.#read(id)
    const registered = await this.#options.registry.getDevice(tenant, device)
    // Left over from a device of this id whose deletion was cut short.
    if (state.alive && registered !== null && state.createdAt < registered.createdAt) await this.deviceDeleted(tenant, device, serverActor)
    await this.#options.intents?.note(keyOf(id))
    await this.#writer.submit(id, {
      sync: true,
      creates: true,
      plan: (now, { stamp }) => {
        if (now.alive && sameJson(now.tags, tags)) return { kind: 'unchanged' }
        const patch = diffPatch(now.tags, tags) as Record<string, string | null>
        return { kind: 'step', draft: { stamp, kind: now.alive ? 'changed' : 'created', actor, reason: '', patch: Object.keys(patch).length === 0 ? {} : { tags: patch } } }
      }
    })
  }

  /** May be called again: what was left is deleted then. */
  async deviceDeleted (tenant: string, device: string, actor: Actor): Promise<void> {
    const id: TwinId = { tenant, device, name: '' }
    const { state } = await this.#read(id)
    await inParallel(state.names, async name => { await this.#delete({ ...id, name }, actor) })
    await this.#delete(id, actor)
  }

  async at (id: TwinId, when: { readonly version: number } | { readonly stamp: number }): Promise<TwinView | null> {
    const { state: now } = await this.#read(id)
    if ('version' in when ? when.version > now.version : when.stamp >= now.updatedAt) return 'stamp' in when && now.alive ? viewOf(id, now) : null
    const state = await stateAt(this.#options.store, keyOf(id), when)
    return state?.alive === true ? viewOf(id, state) : null
  }

  async changes (id: TwinId, before: number | null, limit: number): Promise<readonly TwinEvent[]> {
    const { state } = await this.#read(id)
    return await changesBefore(this.#options.store, keyOf(id), state.version, before, limit)
  }

  async diff (id: TwinId, from: number, to: number): Promise<{ readonly desired: JsonObject, readonly reported: JsonObject, readonly tags: JsonObject } | null> {
    const [a, b] = await Promise.all([from, to].map(async version => version === 0 ? null : await this.at(id, { version })))
    if (a === null || b === null) return null
    return { desired: diffPatch(a.desired, b.desired), reported: diffPatch(a.reported, b.reported), tags: diffPatch(a.tags, b.tags) }
  }

  onChanged (listener: (changed: TwinChanged) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  seenTags (tenant: string, device: string, shown: TwinView, copy: Readonly<Record<string, string>>): void {
    if (shown.version > 0 && !sameJson(shown.tags, copy)) this.#tags.repair(tenant, device)
  }

  takes (path: string): boolean { return this.#reports.takes(path) }

  async apply (messages: readonly DeviceMessage[]): Promise<readonly MessageOutcome[]> {
    return await this.#reports.apply(messages)
  }

  async repeat (key: EntityKey): Promise<void> {
    if (key.kind === 'twin' && !this.#options.authoritative) await this.#writer.tellAgain(key, await this.#cache.read(keyText(key), key))
  }

  /** Newest state: what is remembered where nobody else writes, else from the store. */
  async #read (id: TwinId): Promise<CachedTwin> {
    const text = keyText(id)
    return (this.#options.authoritative ? this.#cache.peek(text) : undefined) ?? await this.#cache.read(text, keyOf(id))
  }

  /** Of a twin that may have no state of its own yet. */
  async #view (id: TwinId, state: TwinState): Promise<TwinView> {
    if (state.alive || id.name !== '') return viewOf(id, state)
    const device = await this.#options.registry.getDevice(id.tenant, id.device)
    return viewOf(id, { ...state, tags: device?.tags ?? {} })
  }

  /** Puts the name of a twin that is about to be made on the device's list. null: the change can go on. */
  async #makeNamed (id: TwinId, change: TwinChange, actor: Actor): Promise<ChangeOutcome | null> {
    const { state } = await this.#read(id)
    if (state.alive) return null
    const device = await this.#options.registry.getDevice(id.tenant, id.device)
    if (device === null) return noDevice(id)
    // A change that will be refused must not leave a name behind.
    if (planChange(state, change, actor, await this.#writer.context(id, state, device)).kind !== 'step') return null
    const refusal = await this.#nameTwin(id, actor, device)
    return refusal === null ? null : { kind: 'refused', ...refusal }
  }

  async #nameTwin (id: TwinId, actor: Actor, _device: Device): Promise<Refusal | null> {
    const ownId = { ...id, name: '' }
    await this.#options.intents?.note(keyOf(ownId))
    const { plan } = await this.#writer.submit(ownId, { sync: true, creates: true, plan: (state, context) => planName(state, id.name, 'added', actor, context) })
    return plan.kind === 'refused' ? plan.refusal : null
  }

  async #delete (id: TwinId, actor: Actor): Promise<boolean> {
    await this.#options.intents?.note(keyOf(id))
    const { plan, state } = await this.#writer.submit(id, { sync: true, creates: false, plan: (now, { stamp }) => planDelete(now, actor, stamp) })
    // Again where it was deleted before: that one may have been cut short.
    if (!state.alive && state.version > 0) await this.#upkeep.drop(keyOf(id), state.version)
    return plan.kind === 'step'
  }

  #committed (key: EntityKey, before: TwinState, after: TwinState, events: readonly StoredTwinEvent[]): void {
    this.#upkeep.committed(key, before, after)
    if (this.#listeners.size === 0) return
    const has = (part: 'desired' | 'reported' | 'tags'): boolean => events.some(event => event.kind === 'deleted' || event.patch[part] !== undefined)
    const id: TwinId = { tenant: key.tenant, device: key.device, name: key.name }
    // Most changes interest nobody: what their listeners would see is made for the first that looks.
    let view: TwinView | null = null
    const changed: TwinChanged = { id, version: after.version, desired: has('desired'), reported: has('reported'), tags: has('tags'), get twin () { return view ??= viewOf(id, after) } }
    for (const listener of this.#listeners) listener(changed)
  }

  async #tellUntold (): Promise<void> {
    for (const key of this.#writer.untold) {
      try {
        await this.repeat(key)
      } catch (error) {
        this.#options.log.debug({ tenant: key.tenant, device: key.device, error: String(error) }, 'the events of a twin wait for the event log')
        return
      }
    }
  }
}

function keyOf ({ tenant, device, name }: TwinId): EntityKey {
  return { tenant, device, kind: 'twin', name }
}

function noDevice ({ device }: TwinId): ChangeOutcome {
  return { kind: 'refused', code: 'not_found', detail: `there is no device '${device}' in this tenant`, field: '' }
}
