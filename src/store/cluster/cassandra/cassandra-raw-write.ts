/**
 * Writes to the head: what a slice made (`writeHead`) and what a merge of slabs made (`replaceSlabs`). All statements are
 * idempotent, so a write that failed half way is repeated as a whole. The order makes every half right:
 *
 * 1. rows that tell readers where to look (`seen`, periods of slabs): until the rows are there, they look in vain;
 * 2. chunks and slabs;
 * 3. notes for the sealer, which must not miss a chunk that a reader sees (cassandra-raw-marks.ts);
 * 4. the outbox entry, whose rows are to be found from now on;
 * 5. only then merged slabs go: a reader looks at slabs before chunks, so it finds every point in one of them.
 */
import { createHash } from 'node:crypto'
import { inParallel } from '../../../core/in-parallel.js'
import type { HeadWrite, RetentionClass, SeriesSeenRow, SlabRow } from '../../raw-store.js'
import type { CassandraClient, Statement } from './cassandra-client.js'
import { batchBytesMax, bucketKey, chunkKey, groupBy, slabKey, slabPartition, ttlSeconds } from './cassandra-raw-keys.js'
import type { DirtyMarks } from './cassandra-raw-marks.js'
import type { OutboxWriter } from './cassandra-raw-outbox.js'
import type { SlabIndex } from './cassandra-raw-slabs.js'

const insertChunk = 'INSERT INTO head_chunks (tenant, device, width, start, salt, k, min_ts, max_ts, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ?'
const insertSlab = 'INSERT INTO slabs (journal, period, salt, tenant, shard, minute, mark, days, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ?'
const deleteSlab = 'DELETE FROM slabs WHERE journal = ? AND period = ? AND salt = ? AND tenant = ? AND shard = ? AND minute = ? AND mark = ?'
const insertSeen = 'INSERT INTO series_seen (tenant, device, day, hash, metrics) VALUES (?, ?, ?, ?, ?) USING TTL ?'

/** What a row's keys count in a batch, bytes. */
const rowBytes = 160
const slabDeletesPerBatch = 200
/** Lists of metrics whose encoding is remembered: devices of one kind send the same. */
const metricListsMax = 1000
const minutesPerDay = 1440

export interface RawWriterParts {
  readonly marks: DirtyMarks
  readonly slabs: SlabIndex
  /** null: no outbox is kept. */
  readonly outbox: OutboxWriter | null
}

type StoredSlab = SlabRow & RetentionClass

export class RawWriter {
  readonly #client: CassandraClient
  readonly #parts: RawWriterParts
  readonly #metricLists = new Map<string, { text: string, hash: Buffer }>()

  constructor (client: CassandraClient, parts: RawWriterParts) {
    this.#client = client
    this.#parts = parts
  }

  async writeHead (write: HeadWrite): Promise<void> {
    await Promise.all([this.#client.writeAll(this.#seen(write.seen)), this.#parts.slabs.note(write.slabs)])
    await Promise.all([this.#client.writeAll(chunkStatements(write.chunks)), this.#batches(slabBatches(write.slabs))])
    await this.#parts.marks.note(write.chunks)
    if (this.#parts.outbox !== null && write.outbox !== undefined) await this.#parts.outbox.write(write.outbox, write)
  }

  async replaceSlabs (slabs: readonly StoredSlab[], write: HeadWrite): Promise<void> {
    await this.writeHead(write)
    const kept = new Set(write.slabs.map(slab => slabKey(slab).join('\0')))
    const gone = slabs.filter(slab => !kept.has(slabKey(slab).join('\0')))
    const batches: Statement[][] = []
    for (const group of groupBy(gone, slab => slabPartition(slab).join('\0')).values()) {
      for (let i = 0; i < group.length; i += slabDeletesPerBatch) {
        batches.push(group.slice(i, i + slabDeletesPerBatch).map(slab => ({ cql: deleteSlab, parameters: slabKey(slab) })))
      }
    }
    await this.#batches(batches)
  }

  async #batches (batches: readonly (readonly Statement[])[]): Promise<void> {
    await inParallel(batches, async batch => { await this.#client.writePartition(batch) })
  }

  * #seen (rows: readonly (SeriesSeenRow & RetentionClass)[]): Generator<Statement> {
    for (const { tenant, device, day, metrics, retentionDays } of rows) {
      const { text, hash } = this.#metricList(metrics)
      yield { cql: insertSeen, parameters: [tenant, device, day, hash, text, ttlSeconds(retentionDays, minutesPerDay)] }
    }
  }

  #metricList (metrics: readonly string[]): { text: string, hash: Buffer } {
    const text = JSON.stringify(metrics)
    let list = this.#metricLists.get(text)
    if (list === undefined) {
      if (this.#metricLists.size >= metricListsMax) this.#metricLists.clear()
      list = { text, hash: createHash('sha256').update(text).digest().subarray(0, 8) }
      this.#metricLists.set(text, list)
    }
    return list
  }
}

function * chunkStatements (chunks: HeadWrite['chunks']): Generator<Statement> {
  for (const row of chunks) {
    const parameters = [...bucketKey(row, row.salt), chunkKey(row.slice, row.part), row.minTs, row.maxTs, row.bytes, ttlSeconds(row.retentionDays, row.bucket.widthMinutes)]
    yield { cql: insertChunk, parameters }
  }
}

/** Slabs of one partition go together, as many as a batch may hold. */
function slabBatches (slabs: readonly StoredSlab[]): Statement[][] {
  const batches: Statement[][] = []
  for (const group of groupBy(slabs, slab => slabPartition(slab).join('\0')).values()) {
    let batch: Statement[] = []
    let bytes = 0
    for (const slab of group) {
      if (batch.length > 0 && bytes + rowBytes + slab.bytes.length > batchBytesMax) {
        batches.push(batch)
        batch = []
        bytes = 0
      }
      batch.push({ cql: insertSlab, parameters: [...slabKey(slab), slab.retentionDays, slab.bytes, ttlSeconds(slab.retentionDays, 1)] })
      bytes += rowBytes + slab.bytes.length
    }
    batches.push(batch)
  }
  return batches
}
