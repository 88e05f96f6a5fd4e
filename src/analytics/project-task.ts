/**
 * One task of the projection: entries of a journal's outbox, their rows, their points, into analytics. Runs in a worker thread,
 * and may be repeated: analytics keeps a point once, whatever is inserted twice.
 *
 * Memory is bounded by one entry's rows (a slice of 8 MiB of journal, or a merge of as much) and one insert. An entry counts as
 * done when every point of it was answered for by analytics; a fault in the middle leaves the cursor before that entry.
 */
import { TwinfoldError } from '../core/errors.js'
import type { Chunk } from '../core/reading.js'
import { decodeChunk, decodeSlab } from '../series/codec.js'
import type { AnalyticsHours, AnalyticsStore } from '../store/analytics-store.js'
import type { Outbox, OutboxEntry } from '../store/outbox.js'
import type { Store } from '../store/store.js'
import type { ProjectResult, ProjectTask } from '../../workers/protocol.js'
import { BucketHours } from './bucket-hours.js'
import { pointsOf } from './chunk-points.js'
import type { ErasureLookup } from './erasure-lookup.js'
import { PointBatch } from './point-batch.js'
import { SealedRows, type ChunkKey } from './sealed-rows.js'

export interface ProjectTaskLimits {
  /** Entries read in one go. */
  readonly pageEntries: number
  /** A task ends with the entry that reaches this many points, or this many entries. */
  readonly pointsMax: number
  readonly entriesMax: number
  /** One insert. */
  readonly insertPointsMax: number
  readonly insertTextCharsMax: number
}

export const projectTaskLimits: ProjectTaskLimits = {
  pageEntries: 32, pointsMax: 500_000, entriesMax: 1024, insertPointsMax: 50_000, insertTextCharsMax: 4 * 1024 * 1024
}

export interface ProjectTaskOptions {
  readonly outbox: Outbox
  readonly store: Pick<Store, 'raw' | 'tiers' | 'getTenant' | 'getPlan'>
  readonly analytics: Pick<AnalyticsStore, 'insertPoints' | 'replaceHours'>
  readonly erasures: Pick<ErasureLookup, 'parts'>
  readonly monotonicMs: () => number
  readonly limits?: ProjectTaskLimits
}

/** What is told of damaged rows at most. */
const damagedTold = 20

export async function runProjectTask (task: ProjectTask, options: ProjectTaskOptions): Promise<ProjectResult> {
  const startMs = options.monotonicMs()
  const run = new ProjectRun(task, options)
  let failure: ProjectResult['failure'] = null
  try {
    await run.run()
  } catch (error) {
    failure = { code: error instanceof TwinfoldError ? error.code : 'internal', detail: (error as Error).message }
  }
  const { batch, counts, damaged } = run
  return {
    cursor: batch.durable,
    atEnd: failure === null && run.atEnd,
    ...batch.stats,
    ...counts,
    damaged,
    newestStamp: batch.durableStamp,
    cpuMs: options.monotonicMs() - startMs,
    failure
  }
}

class ProjectRun {
  readonly #task: ProjectTask
  readonly #options: ProjectTaskOptions
  readonly #limits: ProjectTaskLimits
  readonly #sealed: SealedRows
  readonly #hours: BucketHours
  readonly batch: PointBatch
  readonly counts = { rowsPassed: 0, rowsMissing: 0, hours: 0 }
  readonly damaged: string[] = []
  atEnd = false

  constructor (task: ProjectTask, options: ProjectTaskOptions) {
    this.#task = task
    this.#options = options
    this.#limits = options.limits ?? projectTaskLimits
    this.#sealed = new SealedRows(options.store)
    this.#hours = new BucketHours(options.store)
    const { insertPointsMax, insertTextCharsMax } = this.#limits
    this.batch = new PointBatch(options.analytics, { pointsMax: insertPointsMax, textCharsMax: insertTextCharsMax }, task.after)
  }

  async run (): Promise<void> {
    const { pointsMax, entriesMax } = this.#limits
    let { after } = this.#task
    let entries = 0
    for (;;) {
      const { page, isLast } = await this.#page(after)
      if (this.#task.stream === 'seal') await this.#replaceHours(page)
      for (const entry of page) {
        await this.#addEntry(entry)
        this.batch.endEntry(entry.sequence)
        after = entry.sequence
        entries++
        if (entries < entriesMax && this.batch.stats.points + this.batch.waiting < pointsMax) continue
        await this.batch.flush()
        return
      }
      if (isLast) break
    }
    await this.batch.flush()
    this.atEnd = true
  }

  /**
   * Merges are written while they are read, and a store may read a page in pieces: it could see a merge and miss the one before.
   * Merges become visible in order, so everything up to the last one that was seen is seen by a second look.
   */
  async #page (after: number): Promise<{ page: readonly OutboxEntry[], isLast: boolean }> {
    const { journalId, stream, upTo } = this.#task
    const { pageEntries } = this.#limits
    const { outbox } = this.#options
    const seen = await outbox.readOutbox(journalId, stream, after, upTo, pageEntries)
    const isLast = seen.length < pageEntries
    // Seals are asked for only up to where none is under way.
    if (stream !== 'merge' || seen.length === 0) return { page: seen, isLast }
    const page = await outbox.readOutbox(journalId, stream, after, seen[seen.length - 1].sequence, pageEntries)
    return { page, isLast: isLast && page.length < pageEntries }
  }

  async #addEntry (named: OutboxEntry): Promise<void> {
    const entry = this.#task.stream === 'merge' ? this.#notInYet(named) : named
    if (entry.chunks.length === 0 && entry.slabs.length === 0) return
    const rows = await this.#options.outbox.readEntry(entry)
    const found = new Set<string>()
    for (const row of rows.chunks) {
      found.add(chunkName(row))
      await this.#addChunk(row.tenant, row.device, row.slice.journalId, row.bytes, chunkName(row))
    }
    for (const { tenant, shard, minute, slice, bytes } of rows.slabs) {
      const devices = this.#decoded(`slab ${tenant}/${shard}/${minute} of slice ${slice.journalId}:${slice.mark}`, () => decodeSlab(bytes)) ?? []
      for (const { device, chunk } of devices) await this.#add(tenant, device, slice.journalId, chunk)
    }
    this.counts.rowsMissing += entry.slabs.length - rows.slabs.length
    for (const key of entry.chunks) if (!found.has(chunkName(key))) await this.#addSealed(key, entry.sequence)
  }

  /** Of buckets that were sealed several times the last one says how they are. */
  async #replaceHours (page: readonly OutboxEntry[]): Promise<void> {
    const latest = new Map<string, OutboxEntry>()
    for (const entry of page) if (entry.sealed !== undefined) latest.set(bucketName(entry.sealed), entry)
    const buckets: AnalyticsHours[] = []
    for (const { sealed, sequence } of latest.values()) {
      if (sealed === undefined) continue
      const name = bucketName(sealed)
      const hours = await this.#decodedLater(`tier rows of ${name}`, async () => await this.#hours.read(sealed, sequence))
      if (hours !== null) buckets.push(hours)
    }
    await this.#options.analytics.replaceHours(buckets)
    this.counts.hours += buckets.reduce((sum, { windows }) => sum + windows.reduce((count, { starts }) => count + starts.length, 0), 0)
  }

  /** Merged rows hold nothing but slices up to their own: where all of those are in, so are they. Imported rows are of another journal. */
  #notInYet (entry: OutboxEntry): OutboxEntry {
    const chunks = entry.chunks.filter(({ slice }) => slice.journalId !== this.#task.journalId || slice.mark > this.#task.whole)
    this.counts.rowsPassed += entry.chunks.length - chunks.length
    return { ...entry, chunks }
  }

  async #addSealed (key: ChunkKey, entry: number): Promise<void> {
    this.counts.rowsMissing++
    const sealed = await this.#sealed.find(key, entry)
    for (const { bytes } of sealed?.chunks ?? []) await this.#addChunk(key.tenant, key.device, '', bytes, `sealed rows of ${chunkName(key)}`)
  }

  async #addChunk (tenant: string, device: string, journalId: string, bytes: Uint8Array, name: string): Promise<void> {
    const chunk = this.#decoded(name, () => decodeChunk(bytes))
    if (chunk !== null) await this.#add(tenant, device, journalId, chunk)
  }

  async #add (tenant: string, device: string, journalId: string, chunk: Chunk): Promise<void> {
    const erased = await this.#options.erasures.parts(tenant, device)
    await this.batch.add(pointsOf({ tenant, device, journalId, chunk, erased }))
  }

  /** null for damaged bytes: one bad row must not hold up all that come after it. It is reported, and stays in the store. */
  #decoded<T> (name: string, decode: () => T): T | null {
    try {
      return decode()
    } catch (error) {
      return this.#damage(name, error)
    }
  }

  async #decodedLater<T> (name: string, decode: () => Promise<T>): Promise<T | null> {
    try {
      return await decode()
    } catch (error) {
      return this.#damage(name, error)
    }
  }

  #damage (name: string, error: unknown): null {
    if (!(error instanceof TwinfoldError) || error.code !== 'corrupt_data') throw error
    if (this.damaged.length < damagedTold) this.damaged.push(`${name}: ${error.message}`)
    return null
  }
}

function bucketName ({ tenant, device, bucket }: { readonly tenant: string, readonly device: string, readonly bucket: ChunkKey['bucket'] }): string {
  return `${tenant}/${device}/${bucket.widthMinutes}/${bucket.start}`
}

function chunkName ({ tenant, device, bucket, salt, slice, part }: ChunkKey): string {
  return `chunk ${tenant}/${device}/${bucket.widthMinutes}/${bucket.start}/${salt} of slice ${slice.journalId}:${slice.mark}:${part}`
}
