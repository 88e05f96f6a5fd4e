/**
 * Writes to the raw windows: what a slice made (`writeHead`) and what a merge of slabs made (`replaceSlabs`). Everything that
 * goes into one window is one atomic batch. Rows that tell readers where to look (`seen`, pending periods) are written first:
 * until the rows themselves are there, a reader looks in vain, which is right.
 */
import { createHash } from 'node:crypto'
import type { SliceId } from '../../core/reading.js'
import type { HeadWrite, RetentionClass, SeriesSeenRow, SlabRow } from '../raw-store.js'
import type { DatabasePool } from './database-pool.js'
import { metaName, rawPath, seenPath } from './filenames.js'
import type { EmbeddedOutboxWriter } from './outbox.js'
import { chunkKey, pendingKey, seenKey, slabKey, slabPeriod } from './keys.js'
import { del, emptyValue, put, type Operation } from './level.js'
import { rawWindowStart, seenWindowStart } from './windows.js'

type Batches = Map<string, Operation[]>

/** Lists of metrics whose encoding is remembered: devices of one kind send the same. */
const metricListsMax = 1000

interface MetricList { readonly value: Buffer, readonly hash: Buffer }

export class RawWriter {
  readonly #pool: DatabasePool
  readonly #outbox: EmbeddedOutboxWriter
  readonly #metricLists = new Map<string, MetricList>()

  constructor (pool: DatabasePool, outbox: EmbeddedOutboxWriter) {
    this.#pool = pool
    this.#outbox = outbox
  }

  async writeHead (write: HeadWrite): Promise<void> {
    const pending = pendingOperations(write.slabs)
    await Promise.all([this.#writeAll(this.#seenBatches(write.seen)), this.#notePending(pending)])
    await this.#writeAll(headBatches(write))
    await this.#outbox.write(write.outbox, write)
    await this.#keepPending(pending)
  }

  async replaceSlabs (slabs: readonly (SlabRow & RetentionClass)[], write: HeadWrite): Promise<void> {
    const pending = pendingOperations(write.slabs)
    await Promise.all([this.#writeAll(this.#seenBatches(write.seen)), this.#notePending(pending)])
    const puts = headBatches(write)
    const dels: Batches = new Map()
    const written = new Set(write.slabs.map(slab => slabKey(slab).toString('latin1')))
    for (const slab of slabs) {
      const key = slabKey(slab)
      if (!written.has(key.toString('latin1'))) batchOf(dels, slabPath(slab)).push(del(key))
    }
    const [only] = new Set([...puts.keys(), ...dels.keys()])
    if (!this.#outbox.on && only !== undefined && puts.size <= 1 && dels.size <= 1 && (puts.size === 0 || puts.has(only)) && (dels.size === 0 || dels.has(only))) {
      await this.#pool.write(only, [...puts.get(only) ?? [], ...dels.get(only) ?? []])
    } else {
      // Over several windows: all chunks are there, and named in the outbox, before the first slab goes.
      await this.#writeAll(puts)
      await this.#outbox.write(write.outbox, write)
      await this.#writeAll(dels)
    }
    await this.#keepPending(pending)
  }

  async #writeAll (batches: Batches): Promise<void> {
    for (const [path, operations] of batches) await this.#pool.write(path, operations)
  }

  async #notePending (operations: Operation[]): Promise<void> {
    if (operations.length > 0) await this.#pool.write(metaName, operations)
  }

  /** A merge that ran side by side may have taken the rows away as done with: then they are put again. */
  async #keepPending (operations: Operation[]): Promise<void> {
    if (operations.length === 0) return
    const present = await this.#pool.read(metaName, [], async database => await database.hasMany(operations.map(operation => operation.key)))
    const missing = operations.filter((_, i) => !present[i])
    if (missing.length > 0) await this.#pool.write(metaName, missing)
  }

  #seenBatches (rows: readonly (SeriesSeenRow & RetentionClass)[]): Batches {
    const batches: Batches = new Map()
    for (const row of rows) {
      const { value, hash } = this.#metricList(row.metrics)
      batchOf(batches, seenPath(row.retentionDays, seenWindowStart(row.retentionDays, row.day))).push(put(seenKey(row.tenant, row.device, row.day, hash), value))
    }
    return batches
  }

  #metricList (metrics: readonly string[]): MetricList {
    const text = JSON.stringify(metrics)
    let list = this.#metricLists.get(text)
    if (list === undefined) {
      if (this.#metricLists.size >= metricListsMax) this.#metricLists.clear()
      list = { value: Buffer.from(text), hash: createHash('sha256').update(text).digest().subarray(0, 8) }
      this.#metricLists.set(text, list)
    }
    return list
  }
}

function headBatches (write: HeadWrite): Batches {
  const batches: Batches = new Map()
  for (const row of write.chunks) {
    const path = rawPath(row.retentionDays, rawWindowStart(row.retentionDays, row.bucket.start))
    batchOf(batches, path).push(put(chunkKey(row), row.bytes))
  }
  for (const slab of write.slabs) batchOf(batches, slabPath(slab)).push(put(slabKey(slab), slab.bytes))
  return batches
}

function slabPath (slab: { minute: number } & RetentionClass): string {
  return rawPath(slab.retentionDays, rawWindowStart(slab.retentionDays, slab.minute))
}

function pendingOperations (slabs: readonly ({ minute: number, slice: SliceId } & RetentionClass)[]): Operation[] {
  const operations: Operation[] = []
  const known = new Set<string>()
  for (const { retentionDays, minute, slice } of slabs) {
    const period = slabPeriod(minute)
    const name = `${retentionDays}:${period}:${slice.journalId}:${slice.mark}`
    if (known.has(name)) continue
    known.add(name)
    operations.push(put(pendingKey(retentionDays, period, slice), emptyValue))
  }
  return operations
}

function batchOf (batches: Batches, path: string): Operation[] {
  let batch = batches.get(path)
  if (batch === undefined) batches.set(path, batch = [])
  return batch
}
