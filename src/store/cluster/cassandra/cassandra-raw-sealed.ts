/**
 * Sealed buckets: the chunks of a generation, spread over the bucket's salts, and a header that names the slices covered and
 * is written last. A generation counts once its header is there; the highest counts.
 *
 * Claims (DESIGN 3.2) see to it that one device's seals run one after the other. A sealer that wakes up late carries a lower
 * generation: it writes rows that nobody reads, finds that its header is not the highest, and removes nothing of the head.
 */
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { inParallel } from '../../../core/in-parallel.js'
import type { SliceId } from '../../../core/reading.js'
import { ByteReader, ByteWriter } from '../../../series/columns/bytes.js'
import type { BucketRef, Generation, RetentionClass, SealedBucket } from '../../raw-store.js'
import type { CassandraClient, Row, Statement } from './cassandra-client.js'
import { bucketKey, damaged, groupBy, sliceKeys, sliceName, ttlSeconds } from './cassandra-raw-keys.js'
import { slicesInSalt } from './cassandra-raw-read.js'

const inBucket = 'tenant = ? AND device = ? AND width = ? AND start = ?'
const selectHeader = `SELECT epoch, sequence, salts, chunks, covered FROM sealed_headers WHERE ${inBucket} LIMIT 1`
const selectGeneration = `SELECT epoch, sequence FROM sealed_headers WHERE ${inBucket} LIMIT 1`
const insertHeader = 'INSERT INTO sealed_headers (tenant, device, width, start, epoch, sequence, salts, chunks, covered) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ?'
const deleteHeaders = `DELETE FROM sealed_headers WHERE ${inBucket} AND (epoch, sequence) < (?, ?)`
const selectChunks = `SELECT i, min_ts, max_ts, bytes FROM sealed_chunks WHERE ${inBucket} AND salt = ? AND epoch = ? AND sequence = ?`
const insertChunk = 'INSERT INTO sealed_chunks (tenant, device, width, start, salt, epoch, sequence, i, min_ts, max_ts, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ?'
const deleteChunks = `DELETE FROM sealed_chunks WHERE ${inBucket} AND salt = ? AND (epoch, sequence) < (?, ?)`
const deleteSlice = `DELETE FROM head_chunks WHERE ${inBucket} AND salt = ? AND k >= ? AND k <= ?`

/** A newer generation may replace the chunks while they are read: then the newer one is read. */
const readTriesMax = 5
const chunksPerPage = 16
const slicesPerBatch = 200
/** Headers go before their chunks do, when both expire. */
const headerEndsEarlierSeconds = 3600
const headerVersion = 1

function isLower (a: Generation, b: Generation): boolean {
  return a.epoch < b.epoch || (a.epoch === b.epoch && a.sequence < b.sequence)
}

function bucketOnly (ref: BucketRef): (string | number)[] {
  return bucketKey(ref, 0).slice(0, -1)
}

function salts (count: number): number[] {
  return Array.from({ length: count }, (_, salt) => salt)
}

/** Version, then by journal: id, number of marks, marks as differences, ascending; deflated. */
export function encodeCovered (covered: readonly SliceId[]): Buffer {
  const writer = new ByteWriter(64 + covered.length * 4)
  const journals = groupBy(covered, slice => slice.journalId)
  writer.varint(journals.size)
  for (const [journalId, slices] of journals) {
    writer.raw(Buffer.from(journalId, 'hex'))
    writer.varint(slices.length)
    let last = 0
    for (const mark of slices.map(slice => slice.mark).sort((a, b) => a - b)) {
      writer.varint(mark - last)
      last = mark
    }
  }
  return Buffer.concat([Buffer.of(headerVersion), deflateRawSync(writer.take(), { level: 1 })])
}

/** @throws TwinfoldError `corrupt_data` */
export function decodeCovered (bytes: Buffer): SliceId[] {
  if (bytes[0] !== headerVersion) throw damaged(`a sealed header of version ${bytes[0]}`)
  const reader = new ByteReader(inflateRawSync(bytes.subarray(1)))
  const covered: SliceId[] = []
  for (let journals = reader.varint(); journals > 0; journals--) {
    const at = reader.skip(8)
    const journalId = Buffer.from(reader.bytes.subarray(at, at + 8)).toString('hex')
    let mark = 0
    for (let slices = reader.varint(); slices > 0; slices--) covered.push({ journalId, mark: mark += reader.varint() })
  }
  return covered
}

async function generationOf (client: CassandraClient, ref: BucketRef): Promise<Generation | null> {
  const [row] = await client.read(selectGeneration, bucketOnly(ref))
  return row === undefined ? null : { epoch: row.epoch as number, sequence: row.sequence as number }
}

/** @throws TwinfoldError `corrupt_data` where a generation lacks chunks that its header counts. */
export async function readSealed (client: CassandraClient, ref: BucketRef): Promise<SealedBucket | null> {
  for (let attempt = 1; ; attempt++) {
    const [header] = await client.read(selectHeader, bucketOnly(ref))
    if (header === undefined) return null
    const generation = { epoch: header.epoch as number, sequence: header.sequence as number }
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

export async function writeSealed (client: CassandraClient, ref: BucketRef, into: RetentionClass, sealed: SealedBucket): Promise<void> {
  const { generation, chunks, covered } = sealed
  const { epoch, sequence } = generation
  const [stored] = await client.read(selectHeader, bucketOnly(ref))
  if (stored !== undefined && isLower(generation, { epoch: stored.epoch as number, sequence: stored.sequence as number })) return
  const ttl = ttlSeconds(into.retentionDays, ref.bucket.widthMinutes)
  const chunkTtl = ttl === 0 ? 0 : ttl + headerEndsEarlierSeconds
  await client.writeAll(chunks.map(({ minTs, maxTs, bytes }, i) => ({
    cql: insertChunk, parameters: [...bucketKey(ref, i % ref.salts), epoch, sequence, i, minTs, maxTs, bytes, chunkTtl]
  })))
  await client.write(insertHeader, [...bucketOnly(ref), epoch, sequence, ref.salts, chunks.length, encodeCovered(covered), ttl])
  const highest = await generationOf(client, ref)
  if (highest === null || highest.epoch !== epoch || highest.sequence !== sequence) return
  await removeCovered(client, ref, covered)
  // Headers first: a reader that holds an older one finds its chunks incomplete and then reads this generation.
  await client.write(deleteHeaders, [...bucketOnly(ref), epoch, sequence])
  const written = Math.max(ref.salts, stored?.salts as number | undefined ?? 0)
  await client.writeAll(salts(written).map(salt => ({ cql: deleteChunks, parameters: [...bucketKey(ref, salt), epoch, sequence] })))
}

/** Exactly the covered slices, each by its own range: a range over several would take a slice along that is written just now. */
async function removeCovered (client: CassandraClient, ref: BucketRef, covered: readonly SliceId[]): Promise<void> {
  const names = new Set(covered.map(sliceName))
  await inParallel(salts(ref.salts), async salt => {
    const present = [...await slicesInSalt(client, ref, salt)].filter(([name]) => names.has(name)).map(([, slice]) => slice)
    for (let i = 0; i < present.length; i += slicesPerBatch) {
      const batch: Statement[] = present.slice(i, i + slicesPerBatch).map(slice => {
        const { first, last } = sliceKeys(slice)
        return { cql: deleteSlice, parameters: [...bucketKey(ref, salt), first, last] }
      })
      await client.writePartition(batch)
    }
  }, 8)
}
