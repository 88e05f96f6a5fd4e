/**
 * Which buckets have head chunks, for the sealer. Head rows themselves are the marks (a slice that no seal covers makes its
 * bucket dirty); what Cassandra lacks is a way to find their partitions, so a writer notes (device, bucket, salt) beside them,
 * once in a *period of writing* instead of once a slice: a row per slice would double the rows of every dense device. The time until
 * the bucket's end is one period, as it is not sealed before; from then on every minute is one. Each note is written twice: under
 * its bucket, for the sealer, and under its device, for readers, who so learn in one read what of a device may be unsealed.
 *
 * Why none is missed: a writer writes its chunk first, then looks whether it has noted the bucket in the period that it is
 * now; so every chunk has a note of the period in which its write ended, or of a later one. Notes are removed only here, only
 * those of a period that ended at least two minutes before they were listed, and only when the head was found empty after
 * they had been listed: by then every chunk whose write relied on them was to be seen. A note that took longer than a minute to
 * write is written again under the period that it is then; clocks of nodes differ by a quarter of a second at most (DESIGN 3.8).
 */
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../core/clock.js'
import { shardOf } from '../../../core/ids.js'
import { inParallel } from '../../../core/in-parallel.js'
import { usPerMinute } from '../../../core/reading.js'
import type { Bucket, BucketWidthMinutes } from '../../../series/partition-plan.js'
import type { DeviceChunkRow, DirtyMark, RetentionClass } from '../../raw-store.js'
import type { CassandraClient, Row, Statement } from './cassandra-client.js'
import { groupBy, ttlSeconds } from './cassandra-raw-keys.js'
import { slicesInSalt } from './cassandra-raw-read.js'

const insertMark = 'INSERT INTO dirty_marks (tenant, shard, width, start, device, salt, period) VALUES (?, ?, ?, ?, ?, ?, ?) USING TTL ?'
const insertBucket = 'INSERT INTO dirty_buckets (tenant, shard, width, start, period) VALUES (?, ?, ?, ?, ?) USING TTL ?'
const selectBuckets = 'SELECT width, start, period FROM dirty_buckets WHERE tenant = ? AND shard = ?'
const selectMarks = 'SELECT device, salt, period FROM dirty_marks WHERE tenant = ? AND shard = ? AND width = ? AND start = ?'
const deleteMarks = 'DELETE FROM dirty_marks WHERE tenant = ? AND shard = ? AND width = ? AND start = ? AND device = ? AND salt = ? AND period <= ?'
const deleteBuckets = 'DELETE FROM dirty_buckets WHERE tenant = ? AND shard = ? AND width = ? AND start = ? AND period <= ?'
const insertOfDevice = 'INSERT INTO dirty_by_device (tenant, shard, device, width, start, salt, period) VALUES (?, ?, ?, ?, ?, ?, ?) USING TTL ?'
const selectOfDevice = 'SELECT width, start, salt FROM dirty_by_device WHERE tenant = ? AND shard = ? AND device = ?'
const deleteOfDevice = 'DELETE FROM dirty_by_device WHERE tenant = ? AND shard = ? AND device = ? AND width = ? AND start = ? AND salt = ? AND period <= ?'

/** Notes that are remembered as written; a forgotten one is written again. */
const rememberedMax = 100_000
const marksPerBatch = 200
/** Notes that took longer than this to write may be of a period that is past. */
const pauseUsMax = usPerMinute

/** The period of writing until the bucket ends. */
const currentPeriod = 0

function endOf ({ start, widthMinutes }: Bucket): number {
  return start + widthMinutes * usPerMinute
}

function writingPeriod (bucket: Bucket, nowUs: number): number {
  return nowUs < endOf(bucket) ? currentPeriod : Math.floor(nowUs / usPerMinute)
}

/** The last period that ended at least two minutes before `nowUs`, null where none did. */
function pastPeriod (bucket: Bucket, nowUs: number): number | null {
  return nowUs < endOf(bucket) + 3 * usPerMinute ? null : Math.floor(nowUs / usPerMinute) - 3
}

export class DirtyMarks {
  readonly #client: CassandraClient
  readonly #clock: Clock
  /** What was noted last, by its name: the period and the class, as longer classes need a note that lives longer. */
  readonly #noted = new LRUCache<string, { period: number, ttl: number }>({ max: rememberedMax })

  constructor (client: CassandraClient, clock: Clock) {
    this.#client = client
    this.#clock = clock
  }

  /** Call after the chunks are written. */
  async note (chunks: readonly (DeviceChunkRow & RetentionClass)[]): Promise<void> {
    if (chunks.length === 0) return
    let startUs: number
    // A thread that stood still in between might have noted a period that is long past: it does so again.
    do {
      startUs = this.#clock.nowUs()
      await this.#noteAt(chunks, startUs)
    } while (this.#clock.nowUs() - startUs > pauseUsMax)
  }

  async #noteAt (chunks: readonly (DeviceChunkRow & RetentionClass)[], nowUs: number): Promise<void> {
    const marks: Note[] = []
    const buckets: Note[] = []
    for (const { tenant, device, bucket, salt, retentionDays } of chunks) {
      const { widthMinutes, start } = bucket
      const shard = shardOf(device)
      const period = writingPeriod(bucket, nowUs)
      const ttl = ttlSeconds(retentionDays, widthMinutes)
      const partition = `${tenant}\0${shard}\0${widthMinutes}\0${start}`
      const name = `${partition}\0${device}\0${salt}`
      marks.push(
        { name, partition, period, ttl, cql: insertMark, parameters: [tenant, shard, widthMinutes, start, device, salt, period, ttl] },
        { name: `${name}\0`, partition: `${tenant}\0${shard}`, period, ttl, cql: insertOfDevice, parameters: [tenant, shard, device, widthMinutes, start, salt, period, ttl] }
      )
      buckets.push({ name: partition, partition: '', period, ttl, cql: insertBucket, parameters: [tenant, shard, widthMinutes, start, period, ttl] })
    }
    // The partition first: until its rows are there, the sealer looks in vain.
    await this.#write(buckets)
    await this.#write(marks)
  }

  async #write (notes: readonly Note[]): Promise<void> {
    const wanted = new Map<string, Note>()
    for (const note of notes) {
      const known = this.#noted.get(note.name) ?? wanted.get(note.name)
      if (known === undefined || known.period !== note.period || livesLonger(note.ttl, known.ttl)) wanted.set(note.name, note)
    }
    if (wanted.size === 0) return
    const singles: Statement[] = []
    const batches: Statement[][] = []
    for (const [partition, group] of groupBy(wanted.values(), note => note.partition)) {
      if (partition === '' || group.length === 1) singles.push(...group)
      else for (let i = 0; i < group.length; i += marksPerBatch) batches.push(group.slice(i, i + marksPerBatch))
    }
    await Promise.all([this.#client.writeAll(singles), inParallel(batches, async batch => { await this.#client.writePartition(batch) })])
    for (const [name, { period, ttl }] of wanted) this.#noted.set(name, { period, ttl })
  }

  async * scan (tenant: string, shard: number, wanted: (bucket: Bucket) => boolean = () => true): AsyncGenerator<DirtyMark> {
    const nowUs = this.#clock.nowUs()
    const rows = await this.#client.read(selectBuckets, [tenant, shard])
    for (const group of groupBy(rows, row => `${String(row.width)}:${String(row.start)}`).values()) {
      const bucket: Bucket = { widthMinutes: group[0].width as BucketWidthMinutes, start: group[0].start as number }
      if (!wanted(bucket)) continue
      let marked = false
      for await (const mark of this.#scanBucket(tenant, shard, bucket)) {
        marked = true
        if (mark !== null) yield mark
      }
      if (!marked) await this.#forget([{ cql: deleteBuckets, parameters: [tenant, shard, bucket.widthMinutes, bucket.start] }], bucket, group, nowUs)
    }
  }

  /** Marks of one bucket's devices; null for a note that is left without any. */
  async * #scanBucket (tenant: string, shard: number, bucket: Bucket): AsyncGenerator<DirtyMark | null> {
    const nowUs = this.#clock.nowUs()
    const partition = [tenant, shard, bucket.widthMinutes, bucket.start]
    let group: Row[] = []
    for await (const row of this.#client.stream(selectMarks, partition, 1000)) {
      if (group.length > 0 && group[0].device !== row.device) {
        yield * this.#scanDevice(partition, tenant, shard, bucket, group, nowUs)
        group = []
      }
      group.push(row)
    }
    if (group.length > 0) yield * this.#scanDevice(partition, tenant, shard, bucket, group, nowUs)
  }

  async * #scanDevice (partition: readonly unknown[], tenant: string, shard: number, bucket: Bucket, notes: readonly Row[], nowUs: number): AsyncGenerator<DirtyMark | null> {
    const device = notes[0].device as string
    const named = new Set<string>()
    let left = 0
    for (const [, ofSalt] of groupBy(notes, row => String(row.salt))) {
      const salt = ofSalt[0].salt as number
      const slices = await slicesInSalt(this.#client, { tenant, device, bucket }, salt)
      for (const [name, slice] of slices) {
        if (named.has(name)) continue
        named.add(name)
        yield { tenant, device, bucket, slice }
      }
      if (slices.size > 0) continue
      left += await this.#forget([
        { cql: deleteOfDevice, parameters: [tenant, shard, device, bucket.widthMinutes, bucket.start, salt] },
        { cql: deleteMarks, parameters: [...partition, device, salt] }
      ], bucket, ofSalt, nowUs)
    }
    if (left > 0) yield null
  }

  /** Removes notes of past periods, those under their bucket last, as they lead here again; returns how many are left. */
  async #forget (deletes: readonly Statement[], bucket: Bucket, notes: readonly Row[], listedUs: number): Promise<number> {
    const past = pastPeriod(bucket, listedUs)
    const left = notes.filter(({ period }) => past === null || period as number > past).length
    if (past === null || left === notes.length) return left
    for (const { cql, parameters } of deletes) await this.#client.write(cql, [...parameters, past])
    return left
  }

  /** Buckets and salts of the device that may have head chunks: every one that has is named. */
  async ofDevice (tenant: string, device: string): Promise<readonly { readonly bucket: Bucket, readonly salt: number }[]> {
    const rows = await this.#client.read(selectOfDevice, [tenant, shardOf(device), device])
    const named = groupBy(rows, row => `${String(row.width)}:${String(row.start)}:${String(row.salt)}`)
    return [...named.values()].map(([{ width, start, salt }]) => ({ bucket: { widthMinutes: width as BucketWidthMinutes, start: start as number }, salt: salt as number }))
  }
}

interface Note extends Statement {
  readonly name: string
  /** Notes of one partition go in one batch; '': none do. */
  readonly partition: string
  readonly period: number
  readonly ttl: number
}

/** 0 is for ever. */
function livesLonger (ttl: number, than: number): boolean {
  return than !== 0 && (ttl === 0 || ttl > than)
}
