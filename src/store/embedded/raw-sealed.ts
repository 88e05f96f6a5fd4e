/**
 * Sealed buckets: for each generation a header row (slices covered, number of chunks) and a row per chunk, the highest
 * generation first. Claims (DESIGN 3.2) see to it that one device's seals run one after the other; a sealer that wakes up late
 * carries a lower generation and changes nothing.
 */
import type { BucketRef, Generation, RetentionClass, SealedBucket } from '../raw-store.js'
import type { SliceId } from '../../core/reading.js'
import type { DatabasePool } from './database-pool.js'
import { rawPath } from './filenames.js'
import { rangeOf, readTime, timeBytes, writeTime } from './key-bytes.js'
import { bucketPrefix, chunkTail, sealedKey, sealedTail, tables } from './keys.js'
import { del, put, type Operation } from './level.js'
import { bucketPaths, headKeys, readFrom } from './raw-read.js'
import { scanRows } from './scan.js'
import { rawWindowStart } from './windows.js'

const spanBytes = 2 * timeBytes

function compareGenerations (a: Generation, b: Generation): number {
  return a.epoch - b.epoch || a.sequence - b.sequence
}

function encodeHeader (sealed: SealedBucket): Buffer {
  const marks = new Map<string, number[]>()
  for (const { journalId, mark } of sealed.covered) marks.set(journalId, [...marks.get(journalId) ?? [], mark])
  return Buffer.from(JSON.stringify({ chunks: sealed.chunks.length, covered: [...marks] }))
}

function decodeHeader (value: Buffer): { chunks: number, covered: SliceId[] } {
  const { chunks, covered } = JSON.parse(value.toString()) as { chunks: number, covered: [string, number[]][] }
  return { chunks, covered: covered.flatMap(([journalId, marks]) => marks.map(mark => ({ journalId, mark }))) }
}

function encodeChunkRow (chunk: SealedBucket['chunks'][number]): Buffer {
  const value = Buffer.allocUnsafe(spanBytes + chunk.bytes.length)
  value.set(chunk.bytes, writeTime(value, writeTime(value, 0, chunk.minTs), chunk.maxTs))
  return value
}

/** The highest generation that one window has of the bucket, and the keys of all. */
async function readWindow (pool: DatabasePool, path: string, ref: BucketRef): Promise<{ sealed: SealedBucket | null, keys: Buffer[] }> {
  const prefix = bucketPrefix(tables.sealed, ref.tenant, ref.device, ref.bucket)
  let sealed: { generation: Generation, covered: SliceId[], chunks: { minTs: number, maxTs: number, bytes: Uint8Array }[] } | null = null
  const keys: Buffer[] = []
  for await (const rows of readFrom(pool, path, database => scanRows(database, rangeOf(prefix)))) {
    for (const [key, value] of rows) {
      keys.push(key)
      const { epoch, sequence, index } = sealedTail(key)
      if (sealed === null && index === 0) sealed = { generation: { epoch, sequence }, covered: decodeHeader(value).covered, chunks: [] }
      else if (sealed !== null && index > 0 && sealed.generation.epoch === epoch && sealed.generation.sequence === sequence) {
        sealed.chunks.push({ minTs: readTime(value, 0), maxTs: readTime(value, timeBytes), bytes: value.subarray(spanBytes) })
      }
    }
  }
  return { sealed, keys }
}

export async function readSealed (pool: DatabasePool, ref: BucketRef): Promise<SealedBucket | null> {
  let best: SealedBucket | null = null
  for (const path of bucketPaths(ref)) {
    const { sealed } = await readWindow(pool, path, ref)
    if (sealed !== null && (best === null || compareGenerations(sealed.generation, best.generation) > 0)) best = sealed
  }
  return best
}

export async function writeSealed (pool: DatabasePool, ref: BucketRef, into: RetentionClass, sealed: SealedBucket): Promise<void> {
  const stored = await readSealed(pool, ref)
  if (stored !== null && compareGenerations(stored.generation, sealed.generation) > 0) return
  const target = rawPath(into.retentionDays, rawWindowStart(into.retentionDays, ref.bucket.start))
  const prefix = bucketPrefix(tables.sealed, ref.tenant, ref.device, ref.bucket)
  const { epoch, sequence } = sealed.generation
  const covered = new Set(sealed.covered.map(slice => `${slice.journalId}:${slice.mark}`))
  // The new rows go in first; elsewhere, what they replace goes afterwards.
  for (const path of new Set([target, ...bucketPaths(ref)])) {
    const operations: Operation[] = (await readWindow(pool, path, ref)).keys.map(key => del(key))
    for await (const key of headKeys(pool, path, ref)) {
      const { slice } = chunkTail(key)
      if (covered.has(`${slice.journalId}:${slice.mark}`)) operations.push(del(key))
    }
    if (path === target) {
      operations.push(put(sealedKey(prefix, epoch, sequence, 0), encodeHeader(sealed)))
      sealed.chunks.forEach((chunk, i) => { operations.push(put(sealedKey(prefix, epoch, sequence, i + 1), encodeChunkRow(chunk))) })
    }
    if (operations.length > 0) await pool.write(path, operations)
  }
}
