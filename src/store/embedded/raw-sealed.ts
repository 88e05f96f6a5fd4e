/**
 * Sealed buckets: for each generation a header row (slices covered, number of chunks) and a row per chunk, the highest
 * generation first. Claims (DESIGN 3.2) see to it that one device's seals run one after the other; a sealer that wakes up late
 * carries a lower generation and changes nothing.
 */
import { CoveredChunks } from '../covered.js'
import { compareGenerations } from '../generations.js'
import type { BucketRef, CoveredChunk, Generation, RetentionClass, SealedBucket, SealedWrite } from '../raw-store.js'
import type { DatabasePool } from './database-pool.js'
import { rawPath } from './filenames.js'
import { rangeOf, readTime, timeBytes, writeTime } from './key-bytes.js'
import { bucketPrefix, chunkTail, sealedKey, sealedTail, tables } from './keys.js'
import { del, put, type Operation } from './level.js'
import type { EmbeddedOutboxWriter } from './outbox.js'
import { bucketPaths, headKeys, readFrom } from './raw-read.js'
import type { RemovedHeads } from './removed-heads.js'
import { firstKey, scanKeys, scanRows } from './scan.js'
import { removeLowerTierRows, writeTierRows } from './tiers.js'
import { rawWindowStart } from './windows.js'

const spanBytes = 2 * timeBytes

function encodeHeader (sealed: SealedBucket): Buffer {
  const journals = new Map<string, [marks: number[], parts: (number | null)[]]>()
  for (const { journalId, mark, part = null } of sealed.covered) {
    let lists = journals.get(journalId)
    if (lists === undefined) journals.set(journalId, lists = [[], []])
    lists[0].push(mark)
    lists[1].push(part)
  }
  return Buffer.from(JSON.stringify({ chunks: sealed.chunks.length, covered: [...journals].map(([journalId, lists]) => [journalId, ...lists]) }))
}

function decodeHeader (value: Buffer): { chunks: number, covered: CoveredChunk[] } {
  const { chunks, covered } = JSON.parse(value.toString()) as { chunks: number, covered: [string, number[], (number | null)[]?][] }
  return {
    chunks,
    covered: covered.flatMap(([journalId, marks, parts]) => marks.map((mark, i) => {
      const part = parts?.[i] ?? null
      return part === null ? { journalId, mark } : { journalId, mark, part }
    }))
  }
}

function encodeChunkRow (chunk: SealedBucket['chunks'][number]): Buffer {
  const value = Buffer.allocUnsafe(spanBytes + chunk.bytes.length)
  value.set(chunk.bytes, writeTime(value, writeTime(value, 0, chunk.minTs), chunk.maxTs))
  return value
}

/** The highest generation that one window has of the bucket, and the keys of all. */
async function readWindow (pool: DatabasePool, path: string, ref: BucketRef): Promise<{ sealed: SealedBucket | null, keys: Buffer[] }> {
  const prefix = bucketPrefix(tables.sealed, ref.tenant, ref.device, ref.bucket)
  let sealed: { generation: Generation, covered: CoveredChunk[], chunks: { minTs: number, maxTs: number, bytes: Uint8Array }[] } | null = null
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

/** The highest generation that is stored of the bucket, by keys alone. */
async function highestGeneration (pool: DatabasePool, ref: BucketRef, paths: ReadonlySet<string>): Promise<Generation | null> {
  let highest: Generation | null = null
  const range = rangeOf(bucketPrefix(tables.sealed, ref.tenant, ref.device, ref.bucket))
  for (const path of paths) {
    const key = await pool.read(path, null, async database => await firstKey(database, range))
    if (key !== null && (highest === null || compareGenerations(sealedTail(key), highest) > 0)) highest = sealedTail(key)
  }
  return highest
}

export interface SealParts {
  readonly pool: DatabasePool
  readonly directory: string
  readonly outbox: EmbeddedOutboxWriter
  readonly removed: RemovedHeads
}

/**
 * Tier rows first, on stable storage: what makes the bucket clean must not outlive them when the power fails. Then the chunks come and
 * the covered head chunks go, in one batch. Then what is replaced goes: in other classes, and of the tiers.
 */
export async function writeSealed ({ pool, directory, outbox, removed }: SealParts, ref: BucketRef, into: RetentionClass, sealed: SealedWrite): Promise<void> {
  const { generation } = sealed
  const target = rawPath(into.retentionDays, rawWindowStart(into.retentionDays, ref.bucket.start))
  const paths = new Set([target, ...bucketPaths(ref)])
  const isLower = async (): Promise<boolean> => {
    const highest = await highestGeneration(pool, ref, paths)
    return highest !== null && compareGenerations(highest, generation) > 0
  }
  if (await isLower()) return
  await writeTierRows(pool, ref.tenant, ref.device, generation, sealed.tiers ?? [])
  // Waiting for the disk took its time: a sealer that has the claim now may have come first. Its rows are the ones that are seen.
  if (await isLower()) return
  // Synced as the tier rows are: a clean bucket whose entry is lost would never be brought over.
  await outbox.write(sealed.outbox, { chunks: [], slabs: [], sealed: { tenant: ref.tenant, device: ref.device, bucket: ref.bucket } }, true)
  const covered = new CoveredChunks(sealed.covered)
  for (const path of paths) {
    const operations = await replaced(pool, path, ref, generation, covered)
    const removals = operations.length
    if (path === target) operations.push(...sealedRows(ref, sealed))
    if (operations.length > 0) await pool.write(path, operations)
    await removed.add(path, removals)
  }
  await removeLowerTierRows(pool, directory, ref.tenant, ref.device, ref.bucket, generation)
}

/** Removes from one window what the generation replaces. */
async function replaced (pool: DatabasePool, path: string, ref: BucketRef, generation: Generation, covered: CoveredChunks): Promise<Operation[]> {
  const operations: Operation[] = []
  const range = rangeOf(bucketPrefix(tables.sealed, ref.tenant, ref.device, ref.bucket))
  for await (const keys of readFrom<readonly Buffer[]>(pool, path, database => scanKeys(database, range))) {
    for (const key of keys) if (compareGenerations(sealedTail(key), generation) <= 0) operations.push(del(key))
  }
  for await (const key of headKeys(pool, path, ref)) if (covered.has(chunkTail(key))) operations.push(del(key))
  return operations
}

function sealedRows (ref: BucketRef, sealed: SealedBucket): Operation[] {
  const prefix = bucketPrefix(tables.sealed, ref.tenant, ref.device, ref.bucket)
  const { epoch, sequence } = sealed.generation
  return [
    put(sealedKey(prefix, epoch, sequence, 0), encodeHeader(sealed)),
    ...sealed.chunks.map((chunk, i) => put(sealedKey(prefix, epoch, sequence, i + 1), encodeChunkRow(chunk)))
  ]
}
