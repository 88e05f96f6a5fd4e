/** Import, export and deletion as the edge sees them: puts the parts together, and makes jobs. */
import { randomBytes } from 'node:crypto'
import type { Readable } from 'node:stream'
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import { KeyedLock } from '../core/keyed-lock.js'
import type { Log } from '../core/log.js'
import type { DeadLetterReason } from '../store/dead-letter-store.js'
import { isOpen, type Job, type JobKind } from '../store/job-store.js'
import type { Page } from '../store/registry.js'
import type { Erasure } from '../store/small-stores.js'
import type { Store } from '../store/store.js'
import type { StoreSpec } from '../../workers/protocol.js'
import type { ImportSettings } from '../../workers/transfer-protocol.js'
import { detailOf, erasuresOf, type EraseBody } from './erase-job.js'
import { Eraser } from './eraser.js'
import { ExportSource, type ExportRequest } from './export-source.js'
import { newImportBody, stampsFor } from './import-job.js'
import { Importer } from './importer.js'
import { isJobId, newJobId } from './job-id.js'
import { JobRunner, type JobHandler } from './job-runner.js'
import { jobView } from './job-view.js'
import { JournalWitness } from './journal-witness.js'
import { openDeletionsPerTenantMax, openImportsPerTenantMax } from './row-limits.js'
import { Spool } from './spool.js'
import { TransferPool } from './transfer-pool.js'

export interface TransferOptions {
  readonly store: Store
  readonly spec: StoreSpec
  /** Where uploads wait. */
  readonly directory: string
  readonly node: string
  /** Unique among running servers. */
  readonly owner: string
  readonly journal: { readonly journalId: string, readonly waitingBytes: number, readonly stampLast: number, takeStamps(count: number): number }
  readonly packer: { readonly cursorStamp: number, readonly backlogBytes: number }
  /** Shared with slab merges (importer.ts). Default: imports alone. */
  readonly outboxLane?: KeyedLock
  readonly busy: () => boolean
  /** Journals of the nodes heard of within a day. Default: none but this one. */
  readonly journals?: () => readonly string[]
  readonly analytics: { erase(erasures: readonly Erasure[]): Promise<void> } | null
  readonly noteRefused: (tenant: string, count: number, reason: DeadLetterReason) => void
  readonly importBytesMax: number
  readonly spoolBytesMax: number
  readonly exportsMax: number
  readonly clock: Clock
  readonly log: Log
}

/** Free bytes that uploads leave on the disk, which the journal is on too. */
const freeBytesMin = 512 * 1024 * 1024

export interface EraseRequest {
  readonly tenant: string
  readonly device: string
  /** null: all. */
  readonly metrics: readonly string[] | null
  /** µs; null: no limit. */
  readonly fromTs: number | null
  readonly toTs: number | null
  readonly deviceDeleted?: boolean
  /** Default: a new one. */
  readonly stamp?: number
}

/** A kind of job of another part of the server. */
export interface JobKindHandler extends JobHandler {
  /** What its view has beside what every job has. */
  view (job: Job): object
}

export class TransferService {
  readonly #options: TransferOptions
  readonly #pool: TransferPool
  readonly #spool: Spool
  readonly #runner: JobRunner
  readonly #eraser: Eraser
  readonly #exports: ExportSource
  readonly #handlers: Partial<Record<JobKind, JobHandler>>
  readonly #kinds = new Map<JobKind, JobKindHandler>()
  readonly importer: Importer
  #uploads = 0

  constructor (options: TransferOptions) {
    const { store, spec, directory, journal, packer, clock, log, node, owner, exportsMax } = options
    this.#options = options
    this.#pool = new TransferPool({ store: spec, exportsMax })
    this.#spool = new Spool({ directory, fileBytesMax: options.importBytesMax, allBytesMax: options.spoolBytesMax, freeBytesMin })
    this.importer = new Importer({
      store, spool: this.#spool, node, pool: this.#pool, journal, outboxLane: options.outboxLane ?? new KeyedLock(), busy: options.busy, noteRefused: options.noteRefused, clock, log
    })
    this.#eraser = new Eraser({
      store, owner, witness: new JournalWitness({ journal, packer, cursors: store }), analytics: options.analytics, stampNow: () => journal.takeStamps(1), clock
    })
    this.#handlers = { import: this.importer, delete: this.#eraser }
    this.#runner = new JobRunner({ store, handlers: this.#handlers, clock, log })
    this.#exports = new ExportSource({ pool: this.#pool, exportsMax })
  }

  get stats () {
    return { imports: this.importer.stats, exports: this.#exports.stats, exportsRunning: this.#exports.running, jobs: this.#runner.stats, spoolBytes: this.#spool.bytes }
  }

  async open (): Promise<void> {
    const wanted = new Set<string>()
    for await (const { id, kind } of this.#options.store.listOpenJobs()) if (kind === 'import') wanted.add(id)
    await this.#spool.open(async id => wanted.has(id))
    this.#runner.open()
  }

  async close (): Promise<void> {
    this.#exports.close()
    await this.#runner.close()
    await this.#eraser.close()
    await this.#pool.close()
  }

  async export (request: ExportRequest): Promise<Readable> {
    return await this.#exports.open(request)
  }

  /**
   * Takes the file and makes the job. The points are accepted when this returns: their stamps are above all that was accepted before.
   * @throws TwinfoldError `limit_reached`, `payload_too_large`, `invalid_request`
   */
  async import (tenant: string, settings: ImportSettings, stream: Readable, encoding: { readonly gzip: boolean }): Promise<Job> {
    const { journal, node } = this.#options
    await this.#requireRoom(tenant, 'import', openImportsPerTenantMax - this.#uploads)
    const id = this.#newId()
    this.#uploads++
    try {
      const bytes = await this.#spool.write(id, stream, encoding)
      if (bytes === 0) {
        await this.#spool.remove(id)
        throw new TwinfoldError('invalid_request', 'the body is empty; send the file')
      }
      const stamps = stampsFor(bytes)
      const body = newImportBody({ node, bytes, settings, journalId: randomBytes(8).toString('hex'), stamp: journal.takeStamps(stamps), stamps })
      return await this.#create(tenant, id, 'import', body)
    } finally {
      this.#uploads--
    }
  }

  /** The points are in no answer any more when this returns. @throws TwinfoldError `limit_reached` */
  async erase (request: EraseRequest): Promise<Job> {
    const { journal, store, journals } = this.#options
    const { tenant, device, metrics, fromTs, toTs, deviceDeleted = false, stamp = journal.takeStamps(1) } = request
    // A device that is gone must not keep its readings: there are as many of those as there were devices.
    if (!deviceDeleted) await this.#requireRoom(tenant, 'delete', openDeletionsPerTenantMax)
    const body: EraseBody = {
      device, metrics, fromTs, toTs, stamp, deviceDeleted, journals: [...new Set([journal.journalId, ...journals?.() ?? []])].sort(), passed: [],
      requested: 0, requestedLast: false, buckets: 0, left: 0, analytics: this.#options.analytics === null ? 'off' : 'waiting'
    }
    // The rows first: one too many is refused, and then there is no job either. A repetition of them changes nothing.
    for (const erasure of erasuresOf(tenant, body)) await store.putErasure(erasure)
    return await this.#create(tenant, this.#newId(), 'delete', body, detailOf(body))
  }

  async list (tenant: string, cursor: string | null, limit: number): Promise<Page<Job>> {
    return await this.#options.store.listJobs(tenant, cursor, limit)
  }

  async get (tenant: string, id: string): Promise<Job | null> {
    return isJobId(id) ? await this.#options.store.getJob(tenant, id) : null
  }

  /** Jobs of this kind are run from now on. They can be cancelled. */
  addKind (kind: JobKind, handler: JobKindHandler): void {
    this.#handlers[kind] = handler
    this.#kinds.set(kind, handler)
  }

  /**
   * Makes a job of such a kind.
   * @param options.prepare makes what the job's row holds, and what it needs beside it, before it can be run
   * @throws TwinfoldError `limit_reached`: `openMax` of its kind are open
   */
  async createJob (tenant: string, kind: JobKind, { openMax, detail, prepare }: { readonly openMax: number, readonly detail: string, readonly prepare: (id: string) => Promise<object> }): Promise<Job> {
    await this.#requireRoom(tenant, kind, openMax)
    const id = this.#newId()
    return await this.#create(tenant, id, kind, await prepare(id), detail)
  }

  /** Asks an import to stop, or a job of an added kind; what it has done stays. False: it is finished, or cannot be stopped. */
  async cancel (job: Job): Promise<boolean> {
    if (!isOpen(job.state) || (job.kind !== 'import' && !this.#kinds.has(job.kind))) return false
    await this.#options.store.cancelJob(job.tenant, job.id)
    this.#runner.look()
    return true
  }

  view (job: Job): object { return jobView(job, other => this.#kinds.get(other.kind)?.view(other) ?? null) }

  #newId (): string { return newJobId(this.#options.clock.nowUs(), randomBytes(4).toString('hex')) }

  async #create (tenant: string, id: string, kind: Job['kind'], body: object, detail = 'waits for its turn'): Promise<Job> {
    const now = this.#options.clock.nowUs()
    const job: Job = { tenant, id, kind, state: 'queued', createdAt: now, updatedAt: now, progress: kind === 'delete' ? null : 0, detail, body: body as Job['body'] }
    await this.#options.store.putJob(job)
    this.#runner.look()
    return job
  }

  async #requireRoom (tenant: string, kind: Job['kind'], most: number): Promise<void> {
    let open = 0
    for await (const job of this.#options.store.listOpenJobs()) if (job.tenant === tenant && job.kind === kind) open++
    if (open >= most) throw new TwinfoldError('limit_reached', `${most} jobs of this kind are open already; wait until some are done`)
  }
}
