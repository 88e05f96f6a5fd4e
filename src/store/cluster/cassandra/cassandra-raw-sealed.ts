/**
 * Sealed buckets: the chunks of a generation, spread over the bucket's salts, and a header that names the slices covered and
 * is written last. A generation counts once its header is there; the highest counts.
 *
 * Claims (DESIGN 3.2) see to it that one device's seals run one after the other. A sealer that wakes up late carries a lower
 * generation: it writes rows that nobody reads, finds that its header is not the highest, and removes nothing of the head.
 */
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { inParallel } from '../../../core/in-parallel.js'
import { ByteReader, ByteWriter } from '../../../series/columns/bytes.js'
import { CoveredChunks } from '../../covered.js'
import { compareGenerations } from '../../generations.js'
import type { BucketRef, CoveredChunk, Generation, RetentionClass, SealedBucket, SealedWrite } from '../../raw-store.js'
import type { CassandraClient, Row, Statement } from './cassandra-client.js'
import { bucketKey, damaged, groupBy, readChunkKey, ttlSeconds } from './cassandra-raw-keys.js'
import type { OutboxWriter } from './cassandra-raw-outbox.js'
import { removeLowerTierRows, writeTierRows } from './cassandra-tiers.js'

const inBucket = 'tenant = ? AND device = ? AND width = ? AND start = ?'
const selectHeader = `SELECT epoch, sequence, salts, chunks, covered FROM sealed_headers WHERE ${inBucket} LIMIT 1`
const selectGeneration = `SELECT epoch, sequence FROM sealed_headers WHERE ${inBucket} LIMIT 1`
const insertHeader = 'INSERT INTO sealed_headers (tenant, device, width, start, epoch, sequence, salts, chunks, covered) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ?'
const deleteHeaders = `DELETE FROM sealed_headers WHERE ${inBucket} AND (epoch, sequence) < (?, ?)`
const selectChunks = `SELECT i, min_ts, max_ts, bytes FROM sealed_chunks WHERE ${inBucket} AND salt = ? AND epoch = ? AND sequence = ?`
const insertChunk = 'INSERT INTO sealed_chunks (tenant, device, width, start, salt, epoch, sequence, i, min_ts, max_ts, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ?'
const deleteChunks = `DELETE FROM sealed_chunks WHERE ${inBucket} AND salt = ? AND (epoch, sequence) < (?, ?)`
const selectKeys = `SELECT k FROM head_chunks WHERE ${inBucket} AND salt = ?`
const deleteChunk = `DELETE FROM head_chunks WHERE ${inBucket} AND salt = ? AND k = ?`

/** A newer generation may replace the chunks while they are read: then the newer one is read. */
const readTriesMax = 5
const chunksPerPage = 16
const keysPerPage = 2000
const deletesPerBatch = 200
/** Headers go before their chunks do, when both expire. */
const headerEndsEarlierSeconds = 3600
/** 1: without parts. */
const headerVersion = 2

function generationIn (row: Row): Generation {
  return { epoch: row.epoch as number, sequence: row.sequence as number }
}

function bucketOnly (ref: BucketRef): (string | number)[] {
  return bucketKey(ref, 0).slice(0, -1)
}

function salts (count: number): number[] {
  return Array.from({ length: count }, (_, salt) => salt)
}

/** Version, then by journal: id, number of chunks, of each the mark as a difference, ascending, and the part plus 1 (0: all parts); deflated. */
export function encodeCovered (covered: readonly CoveredChunk[]): Buffer {
  const writer = new ByteWriter(64 + covered.length * 4)
  const journals = groupBy(covered, slice => slice.journalId)
  writer.varint(journals.size)
  for (const [journalId, chunks] of journals) {
    writer.raw(Buffer.from(journalId, 'hex'))
    writer.varint(chunks.length)
    let last = 0
    for (const { mark, part = -1 } of [...chunks].sort((a, b) => a.mark - b.mark || (a.part ?? -1) - (b.part ?? -1))) {
      writer.varint(mark - last)
      writer.varint(part + 1)
      last = mark
    }
  }
  return Buffer.concat([Buffer.of(headerVersion), deflateRawSync(writer.take(), { level: 1 })])
}

/** @throws TwinfoldError `corrupt_data` */
export function decodeCovered (bytes: Buffer): CoveredChunk[] {
  if (bytes[0] === 0 || bytes[0] > headerVersion) throw damaged(`a sealed header of version ${bytes[0]}`)
  const reader = new ByteReader(inflateRawSync(bytes.subarray(1)))
  const covered: CoveredChunk[] = []
  for (let journals = reader.varint(); journals > 0; journals--) {
    const at = reader.skip(8)
    const journalId = Buffer.from(reader.bytes.subarray(at, at + 8)).toString('hex')
    let mark = 0
    for (let chunks = reader.varint(); chunks > 0; chunks--) {
      mark += reader.varint()
      const part = bytes[0] === 1 ? -1 : reader.varint() - 1
      covered.push(part < 0 ? { journalId, mark } : { journalId, mark, part })
    }
  }
  return covered
}

async function generationOf (client: CassandraClient, ref: BucketRef): Promise<Generation | null> {
  const [row] = await client.read(selectGeneration, bucketOnly(ref))
  return row === undefined ? null : generationIn(row)
}

/** @throws TwinfoldError `corrupt_data` where a generation lacks chunks that its header counts. */
export async function readSealed (client: CassandraClient, ref: BucketRef): Promise<SealedBucket | null> {
  for (let attempt = 1; ; attempt++) {
    const [header] = await client.read(selectHeader, bucketOnly(ref))
    if (header === undefined) return null
    const generation = generationIn(header)
    const rows = (await inParallel(salts(header.salts as number), async salt => await chunksOfSalt(client, ref, salt, generation))).flat()
    if (rows.length === header.chunks) {
      rows.sort((a, b) => (a.i as number) - (b.i as number))
      const chunks = rows.map(row => ({ minTs: row.min_ts as number, maxTs: row.max_ts as number, bytes: row.bytes as Buffer }))
      return { generation, covered: decodeCovered(header.covered as Buffer), chunks }
    }
    if (attempt === readTriesMax) throw damaged(`${rows.length} of ${String(header.chunks)} chunks of a sealed bucket of device '${ref.device}'`)
  }
}

async function chunksOfSalt (client: CassandraClient, ref: BucketRef, salt: number, { epoch, sequence }: Generation): Promise<Row[]> {
  const rows: Row[] = []
  for await (const row of client.stream(selectChunks, [...bucketKey(ref, salt), epoch, sequence], chunksPerPage)) rows.push(row)
  return rows
}

export interface SealParts {
  readonly client: CassandraClient
  /** null: no outbox is kept. */
  readonly outbox: OutboxWriter | null
}

/**
 * Chunks and tier rows, then the outbox entry, then the header, and only then do covered head chunks go: a reader that finds none there finds
 * their points in what came before. What the generation replaces goes last.
 */
export async function writeSealed ({ client, outbox }: SealParts, ref: BucketRef, into: RetentionClass, sealed: SealedWrite): Promise<void> {
  const { tenant, device, bucket } = ref
  const { generation, chunks, covered } = sealed
  const { epoch, sequence } = generation
  const [stored] = await client.read(selectHeader, bucketOnly(ref))
  if (stored !== undefined && compareGenerations(generation, generationIn(stored)) < 0) return
  const ttl = ttlSeconds(into.retentionDays, bucket.widthMinutes)
  const chunkTtl = ttl === 0 ? 0 : ttl + headerEndsEarlierSeconds
  await Promise.all([
    writeTierRows(client, tenant, device, generation, sealed.tiers ?? []),
    client.writeAll(chunks.map(({ minTs, maxTs, bytes }, i) => ({
      cql: insertChunk, parameters: [...bucketKey(ref, i % ref.salts), epoch, sequence, i, minTs, maxTs, bytes, chunkTtl]
    })))
  ])
  // Before the header, which makes the bucket clean: one whose entry was never written would never be brought over.
  if (outbox !== null && sealed.outbox !== undefined) await outbox.writeSealed(sealed.outbox, { tenant, device, bucket })
  await client.write(insertHeader, [...bucketOnly(ref), epoch, sequence, ref.salts, chunks.length, encodeCovered(covered), ttl])
  const highest = await generationOf(client, ref)
  if (highest === null || compareGenerations(highest, generation) !== 0) return
  await removeCovered(client, ref, covered)
  // A first seal replaces nothing.
  if (stored === undefined) return
  // Headers first: a reader that holds an older one finds its chunks incomplete and then reads this generation.
  await client.write(deleteHeaders, [...bucketOnly(ref), epoch, sequence])
  await Promise.all([
    removeLowerTierRows(client, tenant, device, bucket, generation),
    client.writeAll(salts(Math.max(ref.salts, stored.salts as number)).map(salt => ({ cql: deleteChunks, parameters: [...bucketKey(ref, salt), epoch, sequence] })))
  ])
}

/** Exactly the covered chunks, each by its key: a range over several would take one along that is written just now. */
async function removeCovered (client: CassandraClient, ref: BucketRef, chunks: readonly CoveredChunk[]): Promise<void> {
  const covered = new CoveredChunks(chunks)
  await inParallel(salts(ref.salts), async salt => {
    const present: Buffer[] = []
    for await (const row of client.stream(selectKeys, bucketKey(ref, salt), keysPerPage)) if (covered.has(readChunkKey(row.k as Buffer))) present.push(row.k as Buffer)
    for (let i = 0; i < present.length; i += deletesPerBatch) {
      const batch: Statement[] = present.slice(i, i + deletesPerBatch).map(key => ({ cql: deleteChunk, parameters: [...bucketKey(ref, salt), key] }))
      await client.writePartition(batch)
    }
  }, 8)
}
