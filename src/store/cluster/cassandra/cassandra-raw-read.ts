/**
 * Reads of head chunks and of the days on which a device had points.
 *
 * A small bucket is read in one go, all salts side by side. Where a salt has more than a page, the keys and times of the rest
 * are read first, then the bytes, newest first, in groups: so memory is bounded by the keys and one group of rows.
 */
import { inParallel } from '../../../core/in-parallel.js'
import type { SliceId } from '../../../core/reading.js'
import type { BucketRef, DeviceChunkRow, DeviceRange, HeadSpan, SeriesSeenRow } from '../../raw-store.js'
import type { CassandraClient, Row } from './cassandra-client.js'
import { bucketKey, readChunkKey, sliceName } from './cassandra-raw-keys.js'

const inPartition = 'tenant = ? AND device = ? AND width = ? AND start = ? AND salt = ?'
const firstRows = `SELECT k, min_ts, max_ts, bytes FROM head_chunks WHERE ${inPartition}`
const laterKeys = `SELECT k, min_ts, max_ts FROM head_chunks WHERE ${inPartition} AND k > ?`
const rowsByKey = `SELECT k, bytes FROM head_chunks WHERE ${inPartition} AND k IN ?`
const keysAndTimes = `SELECT k, min_ts, max_ts FROM head_chunks WHERE ${inPartition}`
const allKeys = `SELECT k FROM head_chunks WHERE ${inPartition}`
const seenRows = 'SELECT day, metrics FROM series_seen WHERE tenant = ? AND device = ?'

/** Rows of a salt that are read with their bytes at once. */
const firstPageRows = 100
const keysPerPage = 2000
/** Rows whose bytes are read together, over all salts; a statement asks for at most `keysPerRead` of them. */
const groupRows = 256
const keysPerRead = 64

interface Found {
  readonly salt: number
  readonly key: Buffer
  readonly minTs: number
  readonly maxTs: number
  /** null: not read yet, or given away. */
  bytes: Buffer | null
}

export async function * scanChunks (client: CassandraClient, ref: BucketRef, fromTs: number, toTs: number): AsyncGenerator<DeviceChunkRow> {
  const salts = Array.from({ length: ref.salts }, (_, salt) => salt)
  const found = (await inParallel(salts, async salt => await findInSalt(client, ref, salt, fromTs, toTs))).flat()
  found.sort((a, b) => b.maxTs - a.maxTs)
  let loadedTo = 0
  for (let i = 0; i < found.length; i++) {
    if (found[i].bytes === null && i >= loadedTo) loadedTo = await loadGroup(client, ref, found, i)
    const { salt, key, minTs, maxTs, bytes } = found[i]
    found[i].bytes = null
    // A row that is gone was sealed in the meantime; the reader looks at sealed rows after the head.
    if (bytes !== null) yield { tenant: ref.tenant, device: ref.device, bucket: ref.bucket, salt, ...readChunkKey(key), minTs, maxTs, bytes }
  }
}

/** Rows of the salt in the range: the first page's with their bytes, the others without. */
async function findInSalt (client: CassandraClient, ref: BucketRef, salt: number, fromTs: number, toTs: number): Promise<Found[]> {
  const partition = bucketKey(ref, salt)
  const found: Found[] = []
  const take = (row: Row): void => {
    const minTs = row.min_ts as number
    const maxTs = row.max_ts as number
    if (maxTs >= fromTs && minTs < toTs) found.push({ salt, key: row.k as Buffer, minTs, maxTs, bytes: row.bytes as Buffer | undefined ?? null })
  }
  const { rows, pageState } = await client.page(firstRows, partition, firstPageRows, null)
  for (const row of rows) take(row)
  if (pageState === null || rows.length === 0) return found
  for await (const row of client.stream(laterKeys, [...partition, rows[rows.length - 1].k], keysPerPage)) take(row)
  return found
}

/** Reads the bytes of the next rows that lack them; returns the index before which all were asked for. */
async function loadGroup (client: CassandraClient, ref: BucketRef, found: readonly Found[], from: number): Promise<number> {
  const wanted = new Map<number, Map<string, Found>[]>()
  let count = 0
  let to = from
  for (; to < found.length && count < groupRows; to++) {
    const item = found[to]
    if (item.bytes !== null) continue
    count++
    let batches = wanted.get(item.salt)
    if (batches === undefined) wanted.set(item.salt, batches = [new Map()])
    if (batches[batches.length - 1].size === keysPerRead) batches.push(new Map())
    batches[batches.length - 1].set(item.key.toString('latin1'), item)
  }
  const reads = [...wanted].flatMap(([salt, batches]) => batches.map(batch => ({ salt, batch })))
  await inParallel(reads, async ({ salt, batch }) => {
    const keys = [...batch.values()].map(({ key }) => key)
    for (const row of await client.read(rowsByKey, [...bucketKey(ref, salt), keys])) {
      const item = batch.get((row.k as Buffer).toString('latin1'))
      if (item !== undefined) item.bytes = row.bytes as Buffer
    }
  })
  return to
}

/** Chunks in one salt of the bucket whose times meet [fromTs, toTs), without their bytes. */
export async function spansInSalt (client: CassandraClient, ref: Pick<BucketRef, 'tenant' | 'device' | 'bucket'>, salt: number, fromTs: number, toTs: number): Promise<HeadSpan[]> {
  const spans: HeadSpan[] = []
  for await (const row of client.stream(keysAndTimes, bucketKey(ref, salt), keysPerPage)) {
    const minTs = row.min_ts as number
    const maxTs = row.max_ts as number
    if (maxTs >= fromTs && minTs < toTs) spans.push({ bucket: ref.bucket, slice: readChunkKey(row.k as Buffer).slice, minTs, maxTs })
  }
  return spans
}

/** Slices that have chunks in one salt of the bucket. */
export async function slicesInSalt (client: CassandraClient, ref: Pick<BucketRef, 'tenant' | 'device' | 'bucket'>, salt: number): Promise<Map<string, SliceId>> {
  const slices = new Map<string, SliceId>()
  for await (const row of client.stream(allKeys, bucketKey(ref, salt), keysPerPage)) {
    const { slice } = readChunkKey(row.k as Buffer)
    slices.set(sliceName(slice), slice)
  }
  return slices
}

export async function listHeadSlices (client: CassandraClient, ref: BucketRef): Promise<readonly SliceId[]> {
  const salts = Array.from({ length: ref.salts }, (_, salt) => salt)
  const maps = await inParallel(salts, async salt => await slicesInSalt(client, ref, salt))
  return [...new Map(maps.flatMap(map => [...map])).values()]
}

export async function * scanSeen (client: CassandraClient, { tenant, device }: DeviceRange): AsyncGenerator<SeriesSeenRow> {
  for await (const row of client.stream(seenRows, [tenant, device], 100)) {
    yield { tenant, device, day: row.day as number, metrics: JSON.parse(row.metrics as string) as string[] }
  }
}
