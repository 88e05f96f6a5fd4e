/**
 * Imports on the main thread: hands the file to the import thread piece by piece and keeps the job up to date after each, so that
 * a crash repeats one piece at most. A lane of low priority: one thread, one import at a time, and it rests while live ingest
 * is under pressure (`busy`), and between pieces.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import type { KeyedLock } from '../core/keyed-lock.js'
import { futureUsMax } from '../core/limits.js'
import type { Log } from '../core/log.js'
import { usPerDay } from '../core/reading.js'
import { planLeaseUs, saltsToRead } from '../series/partition-plan.js'
import type { DeadLetterReason } from '../store/dead-letter-store.js'
import type { Job } from '../store/job-store.js'
import type { Store } from '../store/store.js'
import { retentionDaysAt } from '../tenancy/model.js'
import type { ImportCursor, ImportPieceResult, ImportPieceTask } from '../../workers/transfer-protocol.js'
import { afterPiece, bodyOf, markOf, refusedRows, stampOf, type ImportBody } from './import-job.js'
import type { JobHandler } from './job-runner.js'
import { lettersPerImportMax } from './row-limits.js'
import type { Spool } from './spool.js'

export interface ImporterOptions {
  readonly store: Store
  readonly spool: Spool
  readonly node: string
  readonly pool: { importPiece(task: ImportPieceTask): Promise<ImportPieceResult> }
  /** This node's journal: what an import writes stands in its outbox. */
  readonly journal: { readonly journalId: string, takeStamps(count: number): number }
  /** Held (key `merge`) from the taking of an outbox sequence until the entry is visible, as by slab merges: they become visible in order. */
  readonly outboxLane: KeyedLock
  /** Imports rest while this is true: live ingest goes first. */
  readonly busy: () => boolean
  /** Dead letters were kept. */
  readonly noteRefused: (tenant: string, count: number, reason: DeadLetterReason) => void
  readonly clock: Clock
  readonly log: Log
  /** Rest after a piece, as a part of the time that it took. Default 0.25. */
  readonly restFraction?: number
  /** Default: two plan leases (DESIGN 3.3). */
  readonly saltsAheadUs?: number
}

const busyPauseMs = 250
const failuresMax = 5
const failurePauseMsMax = 15_000

/** What a failed attempt means for the job. */
const lasting: ReadonlySet<string> = new Set(['invalid_request', 'invalid_field', 'format_newer', 'corrupt_data', 'limit_reached'])

export class Importer implements JobHandler {
  readonly #options: ImporterOptions
  #current: string | null = null
  readonly stats = { pieces: 0, rows: 0, points: 0, refused: 0, busyMs: 0, waitedMs: 0, failures: 0 }

  constructor (options: ImporterOptions) {
    this.#options = options
  }

  async mayRun (job: Job): Promise<boolean> {
    if (bodyOf(job).node !== this.#options.node || (this.#current !== null && this.#current !== job.id)) return false
    // Taken at once: two jobs of one look are not both begun.
    this.#current = job.id
    return true
  }

  async run (job: Job, signal: AbortSignal): Promise<void> {
    try {
      await new ImportRun(this.#options, job, signal, this.stats).run()
    } finally {
      this.#current = null
    }
  }
}

class ImportRun {
  readonly #options: ImporterOptions
  readonly #signal: AbortSignal
  readonly #stats: Importer['stats']
  #job: Job
  #columns: readonly string[] | null = null
  #failures = 0

  constructor (options: ImporterOptions, job: Job, signal: AbortSignal, stats: Importer['stats']) {
    this.#options = options
    this.#job = job
    this.#signal = signal
    this.#stats = stats
  }

  get #body (): ImportBody { return bodyOf(this.#job) }

  async run (): Promise<void> {
    const { store, spool } = this.#options
    const { tenant, id } = this.#job
    if (!await spool.has(id)) { await this.#put({ state: 'failed', detail: 'the file is gone from this node; send it again' }); return }
    await this.#begin()
    while (!this.#signal.aborted) {
      if (await store.isJobCancelled(tenant, id)) { await this.#end('cancelled', `cancelled; ${this.#body.points} points had been written and stay`); return }
      await this.#restWhileBusy()
      if (this.#signal.aborted) return
      const done = await this.#piece()
      if (done) return
    }
  }

  /** Every beginning is an attempt of its own. */
  async #begin (): Promise<void> {
    await this.#put({ state: 'running', detail: 'reading', body: { ...this.#body, attempt: this.#body.attempt + 1 } })
  }

  /** True when the job is finished. */
  async #piece (): Promise<boolean> {
    const { clock, restFraction = 0.25 } = this.#options
    const startMs = clock.monotonicMs()
    try {
      const result = await this.#runPiece()
      if (result.denser.length > 0) {
        await this.#raiseSalts(result.denser)
        return false
      }
      this.#failures = 0
      this.#note(result)
      this.#columns = result.next.columns
      const body = afterPiece(this.#body, result)
      if (result.done) {
        const refused = refusedRows(body)
        await this.#end('done', `${body.rows} rows, ${body.points} points${refused === 0 ? '' : `, ${refused} rows refused`}`, body)
        return true
      }
      await this.#put({ state: 'running', progress: result.progress, detail: `line ${body.at.line}`, body })
    } catch (error) {
      return await this.#failed(error as Error & { code?: string })
    }
    await this.#pause((clock.monotonicMs() - startMs) * restFraction)
    return false
  }

  async #runPiece (): Promise<ImportPieceResult> {
    const { store, pool, journal, outboxLane, spool, clock } = this.#options
    const { tenant, id } = this.#job
    const body = this.#body
    const found = await store.getTenant(tenant)
    if (found === null) throw new TwinfoldError('invalid_request', 'the tenant is gone')
    const stamp = stampOf(body)
    const retentionDays = retentionDaysAt(found, stamp)
    const at: ImportCursor = { ...body.at, columns: this.#columns }
    return await outboxLane.run('merge', async () => await pool.importPiece({
      kind: 'piece', tenant, job: id, path: spool.path(id), settings: body.settings, at,
      journalId: body.journalId, mark: markOf(body), stamp, saltStamp: clock.nowUs(),
      outboxJournalId: journal.journalId, outboxSequence: journal.takeStamps(1),
      retentionDays, oldestTs: Math.max(0, stamp - retentionDays * usPerDay), newestTs: stamp + futureUsMax,
      lettersMax: Math.max(0, lettersPerImportMax - body.letters)
    }))
  }

  #note (result: ImportPieceResult): void {
    const stats = this.#stats
    stats.pieces++
    stats.rows += result.rows
    stats.points += result.points
    stats.busyMs += result.cpuMs
    for (const [reason, count] of result.refused) {
      stats.refused += count
      this.#options.noteRefused(this.#job.tenant, count, reason)
    }
  }

  async #failed (error: Error & { code?: string }): Promise<boolean> {
    this.#stats.failures++
    if (this.#signal.aborted) return true
    if (error.code !== undefined && lasting.has(error.code)) {
      await this.#end('failed', error.message)
      return true
    }
    // A store that is away is waited for; a thread that dies again and again dies of the file.
    const away = error instanceof TwinfoldError && error.code !== 'internal'
    if (!away && ++this.#failures >= failuresMax) {
      await this.#end('failed', `the import stopped at line ${this.#body.at.line}: an unexpected fault, ${failuresMax} times`)
      this.#options.log.error({ tenant: this.#job.tenant, job: this.#job.id, error: error.message }, 'an import failed')
      return true
    }
    if (away) this.#failures++
    this.#options.log.warn({ tenant: this.#job.tenant, job: this.#job.id, error: error.message }, 'a piece of an import is tried again')
    await this.#pause(Math.min(failurePauseMsMax, 250 * 2 ** Math.min(this.#failures, 8)))
    if (this.#signal.aborted) return true
    await this.#retryPut({ state: 'waiting', detail: away ? 'the store does not answer; it goes on by itself' : 'a piece is tried again', body: { ...this.#body, attempt: this.#body.attempt + 1 } })
    return false
  }

  /** The job's row says the new attempt before the attempt is made. */
  async #retryPut (change: Partial<Job>): Promise<void> {
    while (!this.#signal.aborted) {
      try {
        await this.#put(change)
        return
      } catch {
        await this.#pause(1000)
      }
    }
  }

  /** New salts are used by all writers after two leases of the plan; until then nothing more is written. */
  async #raiseSalts (denser: ImportPieceResult['denser']): Promise<void> {
    const { store, clock, saltsAheadUs = 2 * planLeaseUs } = this.#options
    let fromStamp = 0
    for (const { device, salts } of denser) {
      for (;;) {
        const { plan, version } = await store.getPlan(this.#job.tenant, device)
        const last = plan.salts[plan.salts.length - 1]
        fromStamp = Math.max(fromStamp, last.fromStamp)
        if (saltsToRead(plan) >= salts) break
        const entry = { fromStamp: clock.nowUs() + saltsAheadUs, salts }
        if (await store.putPlanIfVersion(this.#job.tenant, device, { ...plan, salts: [...plan.salts, entry] }, version)) {
          fromStamp = Math.max(fromStamp, entry.fromStamp)
          break
        }
      }
    }
    await this.#put({ detail: `spreads ${denser.length} dense devices over more partitions` })
    while (!this.#signal.aborted && clock.nowUs() <= fromStamp) await this.#pause(Math.min(1000, (fromStamp - clock.nowUs()) / 1000 + 1))
  }

  async #restWhileBusy (): Promise<void> {
    const { busy, clock } = this.#options
    const startMs = clock.monotonicMs()
    while (busy() && !this.#signal.aborted) await this.#pause(busyPauseMs)
    this.#stats.waitedMs += clock.monotonicMs() - startMs
  }

  async #pause (ms: number): Promise<void> {
    if (ms > 0) await pause(ms, undefined, { signal: this.#signal }).catch(() => {})
  }

  async #end (state: 'done' | 'failed' | 'cancelled', detail: string, body: ImportBody = this.#body): Promise<void> {
    await this.#put({ state, detail, body, ...(state === 'done' ? { progress: 1 } : {}) })
    await this.#options.spool.remove(this.#job.id)
  }

  async #put (change: Partial<Omit<Job, 'body'>> & { readonly body?: unknown }): Promise<void> {
    const { store, clock } = this.#options
    this.#job = { ...this.#job, ...change, updatedAt: clock.nowUs() } as Job
    await store.putJob(this.#job)
  }
}
