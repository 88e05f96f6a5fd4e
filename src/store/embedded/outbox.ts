/**
 * The embedded outbox: one row for each packed slice, merge and seal, with the keys of the rows it wrote (src/store/outbox.ts), in a
 * database a day of writing, which goes as a whole after a week. Nothing is written while analytics is off.
 *
 *     entry    journal64 stream8 sequence56 -> outbox-codec.ts
 *
 * An entry that is written again on another day (a repeated slice) is there twice, the same both times; readers give it once.
 */
import type { Clock } from '../../core/clock.js'
import { usPerDay } from '../../core/reading.js'
import { decodeEntry, encodeEntry, type EntrySource } from '../outbox-codec.js'
import type { Outbox, OutboxEntry, OutboxSlot, OutboxStream } from '../outbox.js'
import type { DeviceChunkRow, SlabRow } from '../raw-store.js'
import type { DatabasePool } from './database-pool.js'
import { outboxPath, rawPath } from './filenames.js'
import type { KeeperOwner } from './keeper-owner.js'
import { after as firstAfter, readTime, timeBytes, writeJournalId, writeTime } from './key-bytes.js'
import { chunkKey, keyVersion, slabKey, tables } from './keys.js'
import { put } from './level.js'
import { dropDatabase, listOutboxWindows, rawClasses } from './raw-files.js'
import { readFrom } from './raw-read.js'
import { scanRows } from './scan.js'
import { rawWindowStart } from './windows.js'

/** Entries are kept so long after their writing, and up to a day longer. */
export const outboxKeptUs = 7 * usPerDay

const streamBytes: Readonly<Record<OutboxStream, number>> = { pack: 1, merge: 2, seal: 3 }
const headBytes = 2 + 8 + 1
/** Rows whose values are read at once. */
const rowsAtOnce = 256

function entryKey ({ journalId, stream, sequence }: OutboxSlot): Buffer {
  const key = Buffer.allocUnsafe(headBytes + timeBytes)
  key[0] = keyVersion
  key[1] = tables.outbox
  key[writeJournalId(key, 2, journalId)] = streamBytes[stream]
  writeTime(key, headBytes, sequence)
  return key
}

export class EmbeddedOutboxWriter {
  readonly #pool: DatabasePool
  readonly #clock: Clock
  readonly #on: Uint8Array | null

  /** @param flag a byte that the main thread sets while analytics follows; null: never. */
  constructor (pool: DatabasePool, clock: Clock, flag: SharedArrayBuffer | null) {
    this.#pool = pool
    this.#clock = clock
    this.#on = flag === null ? null : new Uint8Array(flag)
  }

  get on (): boolean { return this.#on !== null && Atomics.load(this.#on, 0) !== 0 }

  /** Nothing where there is no slot, or analytics is off. `sync`: on stable storage when it returns. */
  async write (slot: OutboxSlot | undefined, source: EntrySource, sync = false): Promise<void> {
    if (slot === undefined || !this.on) return
    const day = Math.floor(this.#clock.nowUs() / usPerDay) * usPerDay
    await this.#pool.write(outboxPath(day), [put(entryKey(slot), encodeEntry(source))], sync)
  }
}

export class EmbeddedOutbox implements Outbox {
  readonly #pool: DatabasePool
  readonly #directory: string
  readonly #clock: Clock

  constructor (options: { pool: DatabasePool, directory: string, clock: Clock }) {
    this.#pool = options.pool
    this.#directory = options.directory
    this.#clock = options.clock
  }

  async readOutbox (journalId: string, stream: OutboxStream, after: number, upTo: number, limit: number): Promise<readonly OutboxEntry[]> {
    after = Math.max(-1, after)
    upTo = Math.min(upTo, Number.MAX_SAFE_INTEGER)
    if (after >= upTo || limit <= 0) return []
    const gte = entryKey({ journalId, stream, sequence: after + 1 })
    const lt = firstAfter(entryKey({ journalId, stream, sequence: upTo }))
    const oldest = this.#clock.nowUs() - outboxKeptUs - usPerDay
    const found = new Map<number, Buffer>()
    for (const { start, path } of await listOutboxWindows(this.#directory)) {
      if (start < oldest) continue
      // The first ones of every day: the first of all are among them.
      let left = limit
      for await (const rows of readFrom(this.#pool, path, database => scanRows(database, { gte, lt }))) {
        for (const [key, value] of rows.slice(0, left)) found.set(readTime(key, headBytes), value)
        left -= rows.length
        if (left <= 0) break
      }
    }
    return [...found.keys()].sort((a, b) => a - b).slice(0, limit).map(sequence => ({ journalId, stream, sequence, ...decodeEntry(found.get(sequence) as Buffer) }))
  }

  /** An entry does not say under which class its rows are: all classes that have the window are looked at. */
  async readEntry (entry: OutboxEntry): Promise<{ readonly chunks: readonly DeviceChunkRow[], readonly slabs: readonly SlabRow[] }> {
    return {
      chunks: await this.#read(entry.chunks, chunk => ({ ts: chunk.bucket.start, key: chunkKey(chunk) })),
      slabs: await this.#read(entry.slabs, slab => ({ ts: slab.minute, key: slabKey(slab) }))
    }
  }

  /** The rows that are there, in the order of the entry. */
  async #read<T> (rows: readonly T[], where: (row: T) => { ts: number, key: Buffer }): Promise<(T & { bytes: Uint8Array })[]> {
    const places = rows.map(where)
    const bytes: (Uint8Array | undefined)[] = rows.map(() => undefined)
    for (const retentionDays of rows.length === 0 ? [] : await rawClasses(this.#directory)) {
      const byPath = new Map<string, number[]>()
      places.forEach(({ ts }, i) => {
        if (bytes[i] !== undefined) return
        const path = rawPath(retentionDays, rawWindowStart(retentionDays, ts))
        const list = byPath.get(path)
        if (list === undefined) byPath.set(path, [i])
        else list.push(i)
      })
      for (const [path, indexes] of byPath) {
        for (let at = 0; at < indexes.length; at += rowsAtOnce) {
          const some = indexes.slice(at, at + rowsAtOnce)
          const values = await this.#pool.read(path, [], async database => await database.getMany(some.map(i => places[i].key)) as (Buffer | undefined)[])
          values.forEach((value, i) => { bytes[some[i]] = value })
        }
      }
    }
    return rows.flatMap((row, i) => {
      const { [i]: value } = bytes
      return value === undefined ? [] : [{ ...row, bytes: value }]
    })
  }
}

/** Removes the days that are past. Returns how many. */
export async function dropExpiredOutbox (directory: string, owner: KeeperOwner, nowUs: number): Promise<number> {
  let dropped = 0
  for (const { start, path } of await listOutboxWindows(directory)) {
    if (start + 2 * usPerDay + outboxKeptUs > nowUs) continue
    if (await owner.exclusively(path, async () => { await dropDatabase(directory, path) })) dropped++
  }
  return dropped
}
