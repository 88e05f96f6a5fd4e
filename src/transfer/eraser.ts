/**
 * Deletions on the main thread (DESIGN 3.8). The erasure's row comes first: from then on readers, packers and sealers drop the
 * points. Then what is left of them on disk goes: the touched buckets are sealed again, analytics deletes, and the job is done when
 * every journal that could still hold such points has been packed past the erasure's stamp. Every step may be repeated; a job
 * is taken up by whatever node holds the claim.
 *
 * Which journals: those of the nodes that were heard of within a day when the deletion was asked for, and this node's. A node that was
 * silent for longer is not waited for: what its journal holds is packed when it comes back or is adopted, has a lower stamp, and
 * is dropped by every reader and sealer, for the erasure's row stays.
 */
import type { Clock } from '../core/clock.js'
import { usPerDay } from '../core/reading.js'
import { bucketsIn, type Bucket } from '../series/partition-plan.js'
import { isOpen, type Job } from '../store/job-store.js'
import type { Erasure } from '../store/small-stores.js'
import type { SealRequest } from '../store/seal-requests.js'
import type { Store } from '../store/store.js'
import { detailOf, eraseBodyOf, erasuresOf, isSealed, isWholeDevice, type EraseBody } from './erase-job.js'
import type { JobHandler } from './job-runner.js'
import { journalsPassed, type JournalWitness } from './journal-witness.js'

export interface EraserOptions {
  readonly store: Store
  /** Unique among running servers. */
  readonly owner: string
  readonly witness: JournalWitness
  /** null: analytics is off. Rejects while it is away. */
  readonly analytics: { erase(erasures: readonly Erasure[]): Promise<void> } | null
  /** A stamp above all that the journal has given out. */
  readonly stampNow: () => number
  readonly clock: Clock
  /** How long seals wait for the journals before they are asked for without them. Default 10 s. */
  readonly journalWaitUs?: number
}

const claimName = 'jobs'
const claimLeaseMs = 15_000
/** The claim is renewed when this much of its lease is gone. */
const claimRenewMs = 5000
const requestsPerPut = 500

export class Eraser implements JobHandler {
  readonly #options: EraserOptions
  #claimedMs = -Infinity
  #askedMs = -Infinity

  constructor (options: EraserOptions) {
    this.#options = options
  }

  /** Every node says how far its journal is; one runs the jobs. */
  async mayRun (_job: Job): Promise<boolean> {
    const { store, owner, clock, witness } = this.#options
    const nowMs = clock.monotonicMs()
    if (nowMs - this.#askedMs >= 500) {
      this.#askedMs = nowMs
      await witness.look()
      if (nowMs - this.#claimedMs >= claimRenewMs) this.#claimedMs = await store.takeClaim(claimName, owner, claimLeaseMs) === null ? -Infinity : nowMs
    }
    return nowMs - this.#claimedMs < claimLeaseMs - claimRenewMs
  }

  async close (): Promise<void> {
    if (this.#claimedMs !== -Infinity) await this.#options.store.releaseClaim(claimName, this.#options.owner).catch(() => {})
  }

  /** One round; what has to wait is looked at again at the next. */
  async run (found: Job, signal: AbortSignal): Promise<void> {
    const { store, clock } = this.#options
    // Read anew: another node may have finished it since it was listed.
    const job = await store.getJob(found.tenant, found.id)
    if (job === null || !isOpen(job.state)) return
    let body = eraseBodyOf(job)
    if (job.state === 'queued') {
      await this.#erase(job.tenant, body)
      await store.putJob({ ...job, state: 'running', updatedAt: clock.nowUs(), detail: detailOf(body) })
    }
    const before = body
    body = { ...body, passed: await journalsPassed(store, body.journals, body.stamp) }
    body = await this.#requestSeals(job, body, signal)
    if (body.requested > 0) body = { ...body, left: await store.countSealRequests(job.tenant, body.device, body.requested) }
    body = await this.#eraseAnalytics(job.tenant, body)
    const done = body.passed.length === body.journals.length && isSealed(body) && body.analytics !== 'waiting'
    if (!done && JSON.stringify(before) === JSON.stringify(body)) return
    await store.putJob({
      ...job, state: done ? 'done' : 'running', updatedAt: clock.nowUs(), progress: done ? 1 : progressOf(body), detail: detailOf(body), body: body as unknown as Job['body']
    })
  }

  async #erase (tenant: string, body: EraseBody): Promise<void> {
    const { store } = this.#options
    for (const erasure of erasuresOf(tenant, body)) await store.putErasure(erasure)
    // Queries obey the erasure whatever the hot state holds: it may be away.
    await store.hot?.forgetDevice(tenant, body.device, isWholeDevice(body) ? body.stamp : 0).catch(() => {})
  }

  /** At once when the journals have passed, else after a while without them, and then once more when they have. */
  async #requestSeals (job: Job, body: EraseBody, signal: AbortSignal): Promise<EraseBody> {
    const { clock, store, stampNow, journalWaitUs = 10e6 } = this.#options
    const passed = body.passed.length === body.journals.length
    const due = body.requested === 0 ? passed || clock.nowUs() - job.createdAt > journalWaitUs : passed && !body.requestedLast
    if (!due || signal.aborted) return body
    const requested = stampNow()
    let buckets = 0
    for await (const requests of this.#touched(job.tenant, body, requested)) {
      if (signal.aborted) return body
      await store.putSealRequests(requests)
      buckets += requests.length
    }
    return { ...body, requested, requestedLast: passed, buckets, left: buckets }
  }

  /** Buckets that can hold points of the erasure, some hundred at a time. */
  async * #touched (tenant: string, body: EraseBody, stamp: number): AsyncGenerator<SealRequest[]> {
    const { store } = this.#options
    const found = await store.getTenant(tenant)
    if (found === null) return
    const { device, metrics, fromTs, toTs } = body
    const retentionDays = [...new Set(found.retention.map(entry => entry.days))]
    const { plan } = await store.getPlan(tenant, device)
    let requests: SealRequest[] = []
    const seen = new Set<string>()
    let lastDay = Infinity
    for await (const { day, metrics: had } of store.raw.scanSeen({ tenant, device, retentionDays })) {
      if ((fromTs !== null && day + usPerDay <= fromTs) || (toTs !== null && day >= toTs)) continue
      if (metrics !== null && !had.some(metric => metrics.includes(metric))) continue
      // Newest first: a bucket of 30 days comes again with the days before, and never after that.
      if (day !== lastDay && seen.size > 10_000) seen.clear()
      lastDay = day
      for (const bucket of bucketsIn(plan, Math.max(day, fromTs ?? 0), Math.min(day + usPerDay, toTs ?? Infinity))) {
        const name = nameOf(bucket)
        if (seen.has(name)) continue
        seen.add(name)
        requests.push({ tenant, device, bucket, stamp })
        if (requests.length < requestsPerPut) continue
        yield requests
        requests = []
      }
    }
    if (requests.length > 0) yield requests
  }

  /** After the journals: what was packed before them is projected, or is dropped by the projection. */
  async #eraseAnalytics (tenant: string, body: EraseBody): Promise<EraseBody> {
    const { analytics } = this.#options
    if (body.analytics !== 'waiting' || body.passed.length < body.journals.length || !isSealed(body)) return body
    if (analytics === null) return { ...body, analytics: 'off' }
    try {
      await analytics.erase(erasuresOf(tenant, body))
      return { ...body, analytics: 'done' }
    } catch {
      // Away: tried again at the next look.
      return body
    }
  }
}

function nameOf ({ widthMinutes, start }: Bucket): string {
  return `${widthMinutes}:${start}`
}

function progressOf (body: EraseBody): number | null {
  if (body.requested === 0 || body.buckets === 0) return null
  return Math.min(0.95, (body.buckets - body.left) / body.buckets)
}
