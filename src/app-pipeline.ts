/** Wires the pipeline: from the journal to rows, and what follows the packer: plans, merges, hot state, analytics, the journal's release. */
import type { Clock } from './core/clock.js'
import type { KeyedLock } from './core/keyed-lock.js'
import type { Lifecycle } from './core/lifecycle.js'
import { segmentBytesMax } from './core/limits.js'
import type { Log } from './core/log.js'
import { openAnalyticsService, type OpenedService } from './app-analytics.js'
import { PendingStamps } from './core/pending-stamps.js'
import type { PackingPool } from './alarms/alarm-tap.js'
import type { Config } from './config.js'
import type { IdempotencyKeys } from './edge/http/idempotency-keys.js'
import type { Pressure } from './gate/pressure.js'
import type { JournalFiles } from './journal/journal.js'
import type { LiveHub } from './live/live-hub.js'
import { HotFollower } from './pipeline/hot-follower.js'
import { JournalKeeper } from './pipeline/journal-keeper.js'
import { Packer } from './pipeline/packer.js'
import { PackPool } from './pipeline/pack-pool.js'
import { PlanKeeper } from './pipeline/plan-keeper.js'
import { PressureControl } from './pipeline/pressure-control.js'
import { SlabMerger } from './pipeline/slab-merger.js'
import { RetentionRewrite } from './sealing/retention-rewrite.js'
import { Sealer } from './sealing/sealer.js'
import { SealPool } from './sealing/seal-pool.js'
import type { DependencyStatus } from './store/dependency-status.js'
import type { DeadLetterReason } from './store/dead-letter-store.js'
import type { Store } from './store/store.js'
import type { DeadLetterKeeper } from './tenancy/dead-letter-keeper.js'
import type { StoreSpec } from '../workers/protocol.js'

export interface PipelineParts {
  readonly clock: Clock
  readonly log: Log
  readonly store: Store
  readonly journal: JournalFiles
  readonly spec: StoreSpec
  readonly watched: (() => readonly DependencyStatus[])[]
  readonly pressure: Pressure
  readonly lifecycle: Lifecycle
  readonly deadLetters: DeadLetterKeeper
  readonly idempotency: IdempotencyKeys
  readonly live: LiveHub
  /** Evaluates alarm rules on what is packed. */
  readonly alarms: { on (pool: PackingPool): PackingPool }
  /** Holds the journal back until what devices said is applied. */
  readonly applier: { readonly appliedTo: number, readonly behind: boolean, flushed (position: number): Promise<void> }
  /** Held (key `merge`) while entries of the outbox's stream `merge` are written. */
  readonly outboxLane: KeyedLock
  /** How long workers may remember tenants, plans and erasures, milliseconds. */
  readonly leaseMs: number
  /** Told of every move of the packer's cursor. */
  readonly onCursor: (position: number) => void
  /** The nodes that share the sealing, by name; null where one node has everything to itself. */
  readonly sealers: { readonly node: string, readonly bootId: string, readonly live: () => readonly string[] } | null
}

export interface Pipeline {
  readonly packer: Packer
  readonly merger: SlabMerger
  readonly planKeeper: PlanKeeper
  readonly sealer: Sealer
  readonly keeper: JournalKeeper
  readonly pressureControl: PressureControl
  /** null where rows are kept by the tenant's settings of now, whatever they were written under. */
  readonly retentionRewrite: RetentionRewrite | null
  /** null where the backend has no hot state. */
  readonly hotFollower: HotFollower | null
  /** null: analytics is off. */
  readonly analytics: OpenedService | null
}

/** Slices of an idle server that acknowledges only what is in Cassandra: every one of them is waited for. */
const replicatedSliceIntervalMs = 10
const slabsPerTaskMax = 4000
/** A clean stop packs what is left for at most this long; the rest is packed at the next start. */
const drainMs = 5000

export async function openPipeline (config: Config, parts: PipelineParts): Promise<Pipeline> {
  const { clock, log, store, journal, spec, pressure, lifecycle, deadLetters, idempotency, leaseMs, outboxLane } = parts
  const pool = new PackPool({ store: spec, threads: config.packThreads, leaseMs })
  await lifecycle.open({ name: 'pack threads', close: async () => { await pool.close() } })
  const tapped = parts.alarms.on(parts.live.on(pool))
  const planKeeper = new PlanKeeper({ plans: store, clock, log, devicesMax: 10_000, measureMs: 10_000 })
  const merger = new SlabMerger({
    journalId: journal.journalId,
    // Entries of merges and imports become visible in the order of their numbers: the projection follows it.
    pool: { merge: async task => await outboxLane.run('merge', async () => await pool.merge({ ...task, firstSequence: journal.takeStamps(slabsPerTaskMax) })) },
    busy: () => pressure.level !== 'open' || packer.stuck,
    clock,
    log,
    afterMs: config.mergeAfterMs,
    intervalMs: config.mergeAfterMs * 2,
    lateAfterMs: config.mergeAfterMs / 4,
    slabsPerTaskMax,
    takeStamps: count => journal.takeStamps(count),
    onLate: buckets => { sealer.noteLate(buckets) },
    onGrowing: buckets => { sealer.noteGrowing(buckets) }
  })
  const sealStamps = new PendingStamps(journal)
  const sealPool = new SealPool({ store: spec, threads: config.sealThreads })
  await lifecycle.open({ name: 'seal threads', close: async () => { await sealPool.close() } })
  const sealer = new Sealer({
    store,
    pool: sealPool,
    journal: { journalId: journal.journalId, takeStamps: count => sealStamps.takeStamps(count), releaseStamps: first => { sealStamps.releaseStamps(first) } },
    owner: parts.sealers?.bootId ?? journal.journalId,
    node: parts.sealers?.node ?? journal.journalId,
    nodes: () => parts.sealers?.live() ?? [],
    busy: () => pressure.level !== 'open' || packer.stuck,
    outbox: store.outbox !== null,
    clock,
    log,
    gatherMs: config.sealAfterMs,
    lagAlertMs: config.sealLagAlertS * 1000
  })
  const packer: Packer = new Packer({
    journal,
    cursors: store,
    pool: tapped,
    clock,
    log,
    sliceIntervalMs: config.ack === 'replicated' ? Math.min(replicatedSliceIntervalMs, config.sliceIntervalMs) : config.sliceIntervalMs,
    onPacked: result => {
      planKeeper.note(result.loads)
      merger.notePacked(packer.cursor)
      if (result.late !== undefined) sealer.noteLate(result.late)
      if (result.growing !== undefined) sealer.noteGrowing(result.growing)
      if (result.lateSlabs !== undefined) merger.noteLate(result.lateSlabs)
      for (const [key, count] of result.refused) {
        const [tenant, reason] = key.split('\0')
        deadLetters.noteAdded(tenant, count, reason as DeadLetterReason)
      }
      idempotency.packedUpTo(packer.cursor)
      parts.onCursor(packer.cursor)
    }
  }, { cursor: journal.recovered.cursor, marks: journal.recovered.marks })
  // Before the packer packs anything: what it packed in earlier runs tells whether analytics was there then.
  const analytics = await openAnalyticsService(config, { clock, log, lifecycle, watched: parts.watched, store, spec, journal, sealStamps, packer, leaseMs })
  const keeper = new JournalKeeper({
    journal, cursors: store, packer, applier: parts.applier, clock, log, flush: async () => { await store.raw.flush() }, flushIntervalMs: 30_000, keepMs: config.journalKeepMs, flushBytes: segmentBytesMax * 4
  })
  const pressureControl = new PressureControl({ journal, packer, applier: parts.applier, pressure, lagMsMax: config.lagMsMax, backlogBytesMin: 16 * 1024 * 1024, intervalMs: 10 })
  const hotFollower = store.hot === null ? null : new HotFollower({ journal, packer, pool: tapped, log })
  await lifecycle.open({ name: 'plan keeper', open: async () => { planKeeper.open() }, close: async () => { await planKeeper.close() } })
  await lifecycle.open({ name: 'journal keeper', open: async () => { keeper.open() }, close: async () => { await keeper.close() } })
  await lifecycle.open({
    name: 'packer',
    open: async () => { packer.open() },
    close: async () => {
      // What is acknowledged and not packed yet is packed at the next start, but a clean stop leaves nothing behind.
      const drained = await packer.drain(drainMs)
      await packer.close()
      if (drained) await keeper.flushNow()
    }
  })
  if (hotFollower !== null) await lifecycle.open({ name: 'hot follower', open: async () => { hotFollower.open() }, close: async () => { await hotFollower.close() } })
  await lifecycle.open({
    name: 'merger',
    open: async () => {
      merger.notePacked(packer.cursor)
      merger.open()
    },
    close: async () => { await merger.close() }
  })
  await lifecycle.open({ name: 'sealer', open: async () => { sealer.open() }, close: async () => { await sealer.close() } })
  const retentionRewrite = parts.sealers === null ? null : new RetentionRewrite({ store, owner: parts.sealers.bootId, takeStamp: () => journal.takeStamps(1), clock, log })
  if (retentionRewrite !== null) await lifecycle.open({ name: 'retention rewrite', open: async () => { retentionRewrite.open() }, close: async () => { await retentionRewrite.close() } })
  await lifecycle.open({ name: 'pressure', open: async () => { pressureControl.open() }, close: async () => { pressureControl.close() } })
  return { packer, merger, planKeeper, sealer, retentionRewrite, keeper, pressureControl, hotFollower, analytics }
}
