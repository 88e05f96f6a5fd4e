/**
 * Decides which buckets are sealed and when, and hands them to the seal threads (DESIGN 3.2): the main thread's part. It looks after
 * this node's share of the shards and works under claims, so every bucket is sealed by one node at a time, and by another one if
 * this one is gone. A bucket that fails is tried again with a growing pause and does not hold up the others.
 *
 * Due are: buckets whose time has passed; late points, gathered for `gatherMs` (a bucket that was sealed a moment ago waits a
 * little longer, and late points are in the tiers within two minutes all the same); open buckets of which the packers say that they
 * have grown; and what was asked for (`seal-requests.ts`).
 *
 * Sealing yields to packing: while senders are slowed nothing is begun, unless the oldest bucket is overdue by half the alert time.
 */
import { LRUCache } from 'lru-cache'
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import { shardOf } from '../core/ids.js'
import type { Log } from '../core/log.js'
import { usPerDay, usPerMinute } from '../core/reading.js'
import type { ClaimStore } from '../store/claim-store.js'
import type { RegistryStore } from '../store/registry.js'
import type { SealRequest, SealRequestStore } from '../store/seal-requests.js'
import { retentionDaysAt, type Tenant } from '../tenancy/model.js'
import type { BucketName, DirtyBucket, ScanResult, ScanTask, SealResult, SealTask } from '../../workers/seal-protocol.js'
import { DirtySweep } from './dirty-sweep.js'
import { bucketKey, SealSchedule, type SealEntry } from './seal-schedule.js'
import { ShardClaims } from './shard-claims.js'
import { shardsOf } from './shard-share.js'

export interface SealerOptions {
  readonly store: ClaimStore & SealRequestStore & Pick<RegistryStore, 'listTenants'>
  readonly pool: { readonly threads: number, seal(task: SealTask): Promise<SealResult>, scan(task: ScanTask): Promise<ScanResult> }
  /** `releaseStamps`: the seal with that stamp is over, however it ended. */
  readonly journal: { readonly journalId: string, takeStamps(count: number): number, releaseStamps?(first: number): void }
  /** Of the claims: never that of another server that may run at once, or has run a moment ago and may wake up again. */
  readonly owner: string
  /** Name of this server among `nodes`. */
  readonly node: string
  /** Nodes that live now; this one may be missing. */
  readonly nodes: () => readonly string[]
  /** Packing has the floor. */
  readonly busy: () => boolean
  /** Seals are named in the outbox. */
  readonly outbox: boolean
  readonly clock: Clock
  readonly log: Log
  /** How long late points of a bucket are gathered, ms. */
  readonly gatherMs: number
  /** An oldest overdue bucket older than this is told of, ms. */
  readonly lagAlertMs: number
  /** Default 60,000. */
  readonly leaseMs?: number
}

/** After the end of its time a bucket waits this long for what is under way. */
export const sealGraceUs = 60e6
const tickMs = 250
const requestsEveryMs = 15_000
/** A round of the sweep begins this often, in times of gathering; twenty seconds make half a minute. */
const sweepRoundFactor = 1.5
const entriesMax = 100_000
const rememberedMax = 20_000
/** A bucket sealed less than this ago gathers late points this many times as long. */
const againUs = 300e6
const againFactor = 3
/** A bucket that cannot be sealed for damage is left alone this long. */
const damagedPauseMs = 3_600_000
/** Until a claim that another node holds is asked for again. */
const claimPauseUs = 10e6
/** How often it is counted what is overdue. */
const overdueEveryUs = 2e6
/** Erasures with a younger stamp may not be stored yet. */
const erasureSettleUs = 30e6

const counters = {
  sealed: 0, clean: 0, expired: 0, leaseLost: 0, failures: 0, damagedChunks: 0, readings: 0, points: 0, chunksIn: 0, chunksOut: 0,
  bytesIn: 0, bytesOut: 0, tierRows: 0, tierBytes: 0, busyMs: 0, notesRefused: 0
}
const sums = ['readings', 'points', 'chunksIn', 'chunksOut', 'bytesIn', 'bytesOut', 'tierRows', 'tierBytes'] as const

export class Sealer {
  readonly #options: SealerOptions
  readonly #schedule = new SealSchedule({ entriesMax })
  readonly #claims: ShardClaims
  readonly #sweep: DirtySweep
  readonly #counts = { ...counters }
  readonly #running = new Set<Promise<void>>()
  /** When a bucket was sealed last, µs. */
  readonly #sealedAt = new LRUCache<string, number>({ max: rememberedMax })
  readonly #leftAlone = new LRUCache<string, true>({ max: rememberedMax, ttl: damagedPauseMs })
  /** Late buckets of other nodes' shards, told to them through the store. */
  readonly #foreign = new Map<string, BucketName>()
  #shards: readonly number[] = []
  #own: ReadonlySet<number> = new Set()
  #sharedBy = ''
  #timer: NodeJS.Timeout | null = null
  #step: Promise<void> | null = null
  #closing = false
  #alerted = false
  #requestsAtMs = -Infinity
  #overdueAtUs = -Infinity
  #overdueThen: ReturnType<SealSchedule['overdue']> = { count: 0, oldestUs: null }

  constructor (options: SealerOptions) {
    this.#options = options
    const { store, owner, clock, leaseMs = 60_000, pool } = options
    this.#claims = new ShardClaims({ store, owner, clock, leaseMs })
    this.#sweep = new DirtySweep({
      listTenants: async (cursor, limit) => await store.listTenants(cursor, limit),
      scan: async task => await pool.scan(task),
      endBefore: () => clock.nowUs() - sealGraceUs,
      found: (tenant, bucket) => this.#found(tenant, bucket),
      clock,
      roundMs: options.gatherMs * sweepRoundFactor
    })
  }

  get stats () {
    const nowUs = this.#options.clock.nowUs()
    const { count, oldestUs } = this.#overdue(nowUs)
    const { rounds: sweeps, scans, busyMs: scanBusyMs } = this.#sweep.stats
    return {
      ...this.#counts, sweeps, scans, scanBusyMs, waiting: this.#schedule.size, dueBuckets: count, claims: this.#claims.size, lagSeconds: oldestUs === null ? 0 : (nowUs - oldestUs) / 1e6
    }
  }

  open (): void {
    this.#share()
    this.#timer = setInterval(() => { this.#tick() }, tickMs)
    this.#tick()
  }

  /** Waits for the seals under way and gives the claims back. */
  async close (): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#closing = true
    await this.#step
    await Promise.all(this.#running)
    await this.#claims.release(() => false)
  }

  /** Points came into these buckets, whose time is past: they are sealed again soon, by whichever node has them. */
  noteLate (buckets: readonly BucketName[]): void {
    const nowUs = this.#options.clock.nowUs()
    for (const name of buckets) {
      if (!this.#own.has(shardOf(name.device))) {
        if (this.#foreign.size < entriesMax) this.#foreign.set(bucketKey(name), name)
        continue
      }
      this.#note(name, { dueUs: Math.max(nowUs + this.#gatherUs(name, nowUs), endOf(name) + sealGraceUs) })
    }
  }

  /** Much has come into these buckets, which are open: what is there is sealed for now. */
  noteGrowing (buckets: readonly BucketName[]): void {
    const nowUs = this.#options.clock.nowUs()
    for (const name of buckets) {
      if (this.#own.has(shardOf(name.device))) this.#note(name, { dueUs: nowUs, growing: true })
      else if (this.#foreign.size < entriesMax) this.#foreign.set(bucketKey(name), name)
    }
  }

  /**
   * One full round, for tests: every bucket of this node's shards that has anything unsealed or is asked for, those that grow too.
   * @throws TwinfoldError `internal` where a seal failed
   */
  async sealDue (): Promise<void> {
    this.#share()
    await this.#step
    await this.#readRequests()
    const { store, pool, clock } = this.#options
    for (let cursor: string | null = null, first = true; first || cursor !== null; first = false) {
      const page: { readonly items: readonly Tenant[], readonly next: string | null } = await store.listTenants(cursor, 100)
      for (const tenant of page.items) {
        const retentionDays = [...new Set(tenant.retention.map(entry => entry.days))]
        const { buckets } = await pool.scan({ kind: 'scan', tenant: tenant.id, retentionDays, shards: this.#shards, endBefore: Infinity, bucketsMax: entriesMax, timeMs: Infinity })
        for (const bucket of buckets) this.#note(bucket, { dueUs: clock.nowUs() })
      }
      cursor = page.next
    }
    const dueUs = clock.nowUs()
    const { failures } = this.#counts
    for (let entry = this.#schedule.take(dueUs); entry !== null; entry = this.#schedule.take(dueUs)) await this.#seal(entry)
    await Promise.all(this.#running)
    if (this.#counts.failures > failures) throw new TwinfoldError('internal', `${this.#counts.failures - failures} buckets could not be sealed; the log names them`)
  }

  #note (name: BucketName, options: { readonly dueUs: number, readonly growing?: boolean, readonly request?: SealRequest }): boolean {
    const taken = this.#schedule.note(name, options)
    if (!taken) this.#counts.notesRefused++
    return taken
  }

  #gatherUs (name: BucketName, nowUs: number): number {
    const gatherUs = this.#options.gatherMs * 1000
    return nowUs - (this.#sealedAt.get(bucketKey(name)) ?? -Infinity) < againUs ? gatherUs * againFactor : gatherUs
  }

  /** What the sweep came upon. */
  #found (tenant: Tenant, found: DirtyBucket): boolean {
    const nowUs = this.#options.clock.nowUs()
    const { tenant: id, device, bucket } = found
    const name = { tenant: id, device, bucket }
    if (this.#schedule.has(name) || this.#leftAlone.has(bucketKey(name))) return false
    if (endOf(name) + (retentionDaysAt(tenant, nowUs) + 1) * usPerDay < nowUs) return false
    return this.#note(name, { dueUs: nowUs })
  }

  #share (): void {
    const { nodes, node } = this.#options
    const names = nodes()
    const sharedBy = [...names].sort().join('\0')
    if (sharedBy === this.#sharedBy && this.#shards.length > 0) return
    this.#sharedBy = sharedBy
    this.#shards = shardsOf(node, names)
    this.#own = new Set(this.#shards)
    this.#sweep.restart()
    void this.#claims.release(shard => this.#own.has(shard))
  }

  #tick (): void {
    this.#share()
    this.#watchLag()
    this.#start()
    this.#step ??= this.#background().catch((error: Error) => {
      this.#counts.failures++
      this.#options.log.debug({ error: error.message }, 'looking for buckets to seal failed; it is tried again')
    }).finally(() => { this.#step = null })
  }

  /** Begins as many seals as there are threads. */
  #start (): void {
    const { pool, busy, clock, lagAlertMs } = this.#options
    while (!this.#closing && this.#running.size < pool.threads) {
      const nowUs = clock.nowUs()
      if (busy()) {
        const { oldestUs } = this.#overdue(nowUs)
        if (oldestUs === null || nowUs - oldestUs < lagAlertMs * 500) return
      }
      const entry = this.#schedule.take(nowUs)
      if (entry === null) return
      const running = this.#seal(entry).finally(() => {
        this.#running.delete(running)
        this.#start()
      })
      this.#running.add(running)
    }
  }

  /** What is not sealing itself: requests, late buckets of other nodes, and the sweep while no thread is wanted for better. */
  async #background (): Promise<void> {
    const { clock, busy } = this.#options
    const nowMs = clock.monotonicMs()
    if (nowMs - this.#requestsAtMs >= requestsEveryMs) {
      this.#requestsAtMs = nowMs
      await this.#tellOthers()
      await this.#readRequests()
    }
    while (!this.#closing && !busy() && this.#running.size === 0 && clock.monotonicMs() >= this.#sweep.nextMs) {
      const goesOn = await this.#sweep.step(this.#shards)
      this.#start()
      if (!goesOn) return
    }
  }

  async #tellOthers (): Promise<void> {
    if (this.#foreign.size === 0) return
    const { store, journal } = this.#options
    const names = [...this.#foreign.values()]
    this.#foreign.clear()
    const first = journal.takeStamps(names.length)
    journal.releaseStamps?.(first)
    try {
      await store.putSealRequests(names.map((name, i) => ({ ...name, stamp: first + i })))
    } catch (error) {
      for (const name of names) this.#foreign.set(bucketKey(name), name)
      throw error
    }
  }

  async #readRequests (): Promise<void> {
    const { store, clock } = this.#options
    for (const shard of this.#shards) {
      for await (const request of store.scanSealRequests(shard)) {
        const { tenant, device, bucket } = request
        if (!this.#note({ tenant, device, bucket }, { dueUs: clock.nowUs(), request })) return
      }
    }
  }

  async #seal (entry: SealEntry): Promise<void> {
    const { clock, log } = this.#options
    const { tenant, device, bucket } = entry
    try {
      const result = await this.#sealUnderClaim(entry)
      if (result === null) {
        this.#yield(entry)
        return
      }
      this.#count(result)
      for (const what of result.damaged) log.error({ tenant, device, bucketStart: bucket.start, widthMinutes: bucket.widthMinutes }, `a bucket was sealed without ${what}`)
      if (result.outcome === 'lease-over') {
        this.#schedule.failed(entry, clock.nowUs(), 0)
        return
      }
      if (result.outcome === 'expired') log.info({ tenant, device, bucketStart: bucket.start }, 'a bucket older than the retention is not sealed any more')
      if (result.damaged.length > 0 || result.outcome === 'expired') this.#leftAlone.set(entry.key, true)
      if (entry.requests.length > 0) await this.#options.store.deleteSealRequests(entry.requests)
      this.#sealedAt.set(entry.key, clock.nowUs())
      this.#schedule.finished(entry)
    } catch (error) {
      this.#counts.failures++
      const pauseUs = this.#schedule.failed(entry, clock.nowUs())
      log.warn({ error: (error as Error).message, tenant, device, bucketStart: bucket.start, widthMinutes: bucket.widthMinutes, attempt: entry.attempts + 1, pauseMs: pauseUs / 1000 },
        'sealing a bucket failed; it is tried again')
    }
  }

  /** The shard is another node's now, or still. */
  #yield (entry: SealEntry): void {
    const nowUs = this.#options.clock.nowUs()
    if (this.#own.has(shardOf(entry.device))) this.#schedule.failed(entry, nowUs, claimPauseUs)
    else {
      this.#schedule.finished(entry)
      this.noteLate([entry])
    }
  }

  /** null: another node holds the shard. */
  async #sealUnderClaim (entry: SealEntry): Promise<SealResult | null> {
    const { pool, journal, clock, outbox } = this.#options
    const { tenant, device, bucket, growing, requests } = entry
    const shard = shardOf(device)
    if (!this.#own.has(shard)) return null
    const claim = await this.#claims.hold(shard)
    if (claim === null) return null
    const stamp = journal.takeStamps(1)
    return await pool.seal({
      kind: 'seal',
      tenant,
      device,
      bucket,
      generation: { epoch: claim.epoch, sequence: stamp },
      // Whoever asks for a seal has stored its erasure before; of others, the youngest may still be on their way.
      asOf: Math.max(stamp - erasureSettleUs, ...requests.map(request => request.stamp)),
      nowUs: clock.nowUs(),
      leaseEndUs: claim.endUs,
      growing,
      again: requests.length > 0,
      outbox: outbox ? { journalId: journal.journalId, sequence: stamp } : null
    }).finally(() => { journal.releaseStamps?.(stamp) })
  }

  #count (result: SealResult): void {
    const { outcome, damaged, cpuMs } = result
    const counts = this.#counts
    for (const name of sums) counts[name] += result[name]
    counts.busyMs += cpuMs
    counts.damagedChunks += damaged.length
    if (outcome === 'sealed') counts.sealed++
    else if (outcome === 'expired') counts.expired++
    else if (outcome === 'lease-over') counts.leaseLost++
    else counts.clean++
  }

  #overdue (nowUs: number): ReturnType<SealSchedule['overdue']> {
    if (nowUs - this.#overdueAtUs > overdueEveryUs) {
      this.#overdueAtUs = nowUs
      this.#overdueThen = this.#schedule.overdue(nowUs)
    }
    return this.#overdueThen
  }

  #watchLag (): void {
    const { clock, log, lagAlertMs } = this.#options
    const nowUs = clock.nowUs()
    const { oldestUs, count } = this.#overdue(nowUs)
    const late = oldestUs !== null && nowUs - oldestUs > lagAlertMs * 1000
    if (late && !this.#alerted) log.warn({ lagSeconds: Math.round((nowUs - oldestUs) / 1e6), buckets: count }, 'sealing is behind; answers stay right, but those over long ranges take longer')
    else if (!late && this.#alerted) log.info({}, 'sealing has caught up')
    this.#alerted = late
  }
}

function endOf ({ bucket }: BucketName): number {
  return bucket.start + bucket.widthMinutes * usPerMinute
}
