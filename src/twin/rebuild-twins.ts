/**
 * Makes twins anew from their events and compares them with the stored states, byte for byte; where one differs, the state of the events is
 * written, as one more step with the server as its actor. Runs beside servers: a twin that is changed meanwhile is looked at again.
 */
import type { EntityKey, EntityStore } from '../store/entity-store.js'
import { encodeEvent, type EventDraft } from './event-codec.js'
import { outEvent } from './out-events.js'
import { eventOf, reduce } from './reduce.js'
import { encodeState } from './state-codec.js'
import { foldEvents, snapshotState } from './twin-history.js'
import { absentTwin, type TwinState } from './twin-state.js'

export interface RebuildTwinsOptions {
  readonly store: EntityStore
  /** null: all. */
  readonly tenant: string | null
  /** False: only compares. */
  readonly write: boolean
  /** Id to write as; not that of a server that runs. */
  readonly writer: string
  readonly nowStamp: () => number
  readonly onProgress?: (report: RebuildTwinsReport) => void
}

export interface RebuildTwinsReport {
  /** Twins that were looked at, deleted ones too. */
  twins: number
  events: number
  /** Their stored state was not that of their events. */
  differing: number
  rewritten: number
  /** Their history has a gap, or cannot be read. */
  unprovable: number
  /** Of differing and unprovable ones, the first ten, for people. */
  readonly examples: string[]
}

const triesMax = 5
const examplesMax = 10

/**
 * The state that the kept events make: from the newest snapshot on, or the first event. null: there is a gap.
 * @param oldest from the oldest snapshot on instead, so that every kept event has its say
 */
export async function foldTwin (store: EntityStore, key: EntityKey, version: number, oldest = false): Promise<{ readonly state: TwinState | null, readonly events: number }> {
  if (version === 0) return { state: absentTwin(0, 0), events: 0 }
  const snapshot = oldest ? await oldestBase(store, key, version) : await store.findEntitySnapshot(key, { version })
  const base = snapshot === null ? null : snapshotState(snapshot)
  let events = 0
  const state = await foldEvents(store, key, base, version, () => { events++; return true })
  return { state: state?.version === version ? state : null, events }
}

/** The snapshot that the kept events begin behind; null where they go back to the first of all, or to a deletion. */
async function oldestBase (store: EntityStore, key: EntityKey, version: number): ReturnType<EntityStore['findEntitySnapshot']> {
  const [first] = await store.readEntityEvents(key, 1, version, 1)
  const from = first?.version ?? version
  const base = await store.findEntitySnapshot(key, { version: from })
  return base ?? null
}

/** @throws TwinfoldError `store_unavailable`, `format_newer` */
export async function rebuildTwins (options: RebuildTwinsOptions): Promise<RebuildTwinsReport> {
  const report: RebuildTwinsReport = { twins: 0, events: 0, differing: 0, rewritten: 0, unprovable: 0, examples: [] }
  for await (const { key } of options.store.scanEntities('twin', options.tenant)) {
    await rebuildOne(options, key, report)
    options.onProgress?.(report)
  }
  return report
}

async function rebuildOne ({ store, write, writer, nowStamp }: RebuildTwinsOptions, key: EntityKey, report: RebuildTwinsReport): Promise<void> {
  report.twins++
  for (let tries = 0; ; tries++) {
    const entity = await store.getEntity(key)
    const { state, events } = await foldTwin(store, key, entity.version, true)
    report.events += events
    if (state === null) {
      report.unprovable++
      note(report, key, 'its history has a gap')
      return
    }
    if (encodeState(state) === entity.state) return
    if ((await store.getEntity(key)).version !== entity.version && tries < triesMax) continue
    if (tries === 0 || !write) {
      report.differing++
      note(report, key, `its state at version ${entity.version} is not that of its events`)
    }
    if (!write) return
    const draft: EventDraft = { stamp: Math.max(nowStamp(), state.updatedAt + 1), kind: state.alive ? 'changed' : 'deleted', actor: { kind: 'server', id: 'rebuild', via: 'job' }, reason: 'rebuilt from its events', patch: {} }
    const event = eventOf(state, draft)
    const after = reduce(state, event)
    const [done] = await store.commitEntities([{ key, writer, expected: entity.version, version: after.version, state: encodeState(after), events: [encodeEvent(event)], outbox: [outEvent(key, event)] }], true)
    if (done) {
      report.rewritten++
      return
    }
    if (tries >= triesMax) return
  }
}

function note (report: RebuildTwinsReport, { tenant, device, name }: EntityKey, what: string): void {
  if (report.examples.length < examplesMax) report.examples.push(`${tenant}/${device}${name === '' ? '' : `/${name}`}: ${what}`)
}
