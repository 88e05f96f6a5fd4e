/**
 * The outbox: one row for each packed slice and each merge of slabs, with the keys of the rows it wrote (src/store/outbox.ts).
 *
 * Entries lie in ranges of their sequence, so that a reader walks partitions of bounded size; `outbox_shelves` says which
 * stretches of many ranges have any, so that it passes over the rest. A shelf's row is there before its first entry, and is
 * written again before it could expire. Entries live seven days.
 */
import type { Clock } from '../../../core/clock.js'
import { inParallel } from '../../../core/in-parallel.js'
import { usPerSecond } from '../../../core/reading.js'
import type { OutboxEntry, OutboxSlot, OutboxStream } from '../../outbox.js'
import type { DeviceChunkRow, HeadWrite, SlabRow } from '../../raw-store.js'
import type { CassandraClient, Row } from './cassandra-client.js'
import { bucketKey, chunkKey, slabKey } from './cassandra-raw-keys.js'
import { decodeEntry, encodeEntry } from './cassandra-raw-outbox-codec.js'

const insertEntry = 'INSERT INTO outbox (journal, stream, range_start, sequence, entry) VALUES (?, ?, ?, ?, ?)'
const insertShelf = 'INSERT INTO outbox_shelves (journal, stream, shelf) VALUES (?, ?, ?)'
const selectShelves = 'SELECT shelf FROM outbox_shelves WHERE journal = ? AND stream = ? AND shelf >= ? AND shelf <= ?'
const selectEntries = 'SELECT sequence, entry FROM outbox WHERE journal = ? AND stream = ? AND range_start = ? AND sequence > ? AND sequence <= ? LIMIT ?'
const selectChunk = 'SELECT bytes FROM head_chunks WHERE tenant = ? AND device = ? AND width = ? AND start = ? AND salt = ? AND k = ?'
const selectSlab = 'SELECT bytes FROM slabs WHERE journal = ? AND period = ? AND salt = ? AND tenant = ? AND shard = ? AND minute = ? AND mark = ?'

/**
 * Width of a range, and ranges of a shelf. `pack`: sequences are bytes of the journal; slices of one small message make some
 * 5 MB of entries in 32 MiB, large ones less. `merge`, `seal`: microseconds; what a thread merges in 15 s, and
 * what a node seals in a minute, a small entry a bucket.
 */
const rangeOf: Readonly<Record<OutboxStream, { readonly width: number, readonly perShelf: number }>> = {
  pack: { width: 32 * 1024 * 1024, perShelf: 64 },
  merge: { width: 15 * usPerSecond, perShelf: 240 },
  seal: { width: 60 * usPerSecond, perShelf: 240 }
}
/** Empty ranges that are looked at side by side. */
const rangesAtOnce = 16
/** Entries have a TTL of seven days and a shelf's row of eight: within a day it is written again. */
const shelfKnownMs = 12 * 3600 * 1000
const rowsAtOnce = 32

function rangeStart (stream: OutboxStream, sequence: number): number {
  const { width } = rangeOf[stream]
  return Math.floor(sequence / width) * width
}

function shelfStart (stream: OutboxStream, sequence: number): number {
  const { width, perShelf } = rangeOf[stream]
  return Math.floor(sequence / (width * perShelf)) * width * perShelf
}

export class OutboxWriter {
  readonly #client: CassandraClient
  readonly #clock: Clock
  /** Shelf written last, by journal and stream: two entries where a thread packs one journal. */
  readonly #shelves = new Map<string, { shelf: number, atMs: number }>()

  constructor (client: CassandraClient, clock: Clock) {
    this.#client = client
    this.#clock = clock
  }

  async write (slot: OutboxSlot, write: HeadWrite): Promise<void> {
    await this.#write(slot, encodeEntry(write))
  }

  async writeSealed (slot: OutboxSlot, sealed: NonNullable<OutboxEntry['sealed']>): Promise<void> {
    await this.#write(slot, encodeEntry({ chunks: [], slabs: [], sealed }))
  }

  async #write (slot: OutboxSlot, entry: Buffer): Promise<void> {
    const { journalId, stream, sequence } = slot
    await this.#shelve(journalId, stream, shelfStart(stream, sequence))
    await this.#client.write(insertEntry, [journalId, stream, rangeStart(stream, sequence), sequence, entry])
  }

  async #shelve (journalId: string, stream: OutboxStream, shelf: number): Promise<void> {
    const name = `${journalId}:${stream}`
    const known = this.#shelves.get(name)
    const nowMs = this.#clock.monotonicMs()
    if (known !== undefined && known.shelf === shelf && nowMs - known.atMs < shelfKnownMs) return
    await this.#client.write(insertShelf, [journalId, stream, shelf])
    if (this.#shelves.size >= 16) this.#shelves.clear()
    this.#shelves.set(name, { shelf, atMs: nowMs })
  }
}

/** Entries with a sequence in (after, upTo], ascending, at most `limit`. */
export async function readOutbox (client: CassandraClient, journalId: string, stream: OutboxStream, after: number, upTo: number, limit: number): Promise<OutboxEntry[]> {
  const entries: OutboxEntry[] = []
  upTo = Math.min(upTo, Number.MAX_SAFE_INTEGER)
  after = Math.max(after, -1)
  if (after >= upTo || limit <= 0) return entries
  const { width, perShelf } = rangeOf[stream]
  const firstRange = rangeStart(stream, after + 1)
  const shelves = await client.read(selectShelves, [journalId, stream, shelfStart(stream, after + 1), shelfStart(stream, upTo)])
  for (const row of shelves) {
    const shelf = row.shelf as number
    const ranges = Array.from({ length: perShelf }, (_, i) => shelf + i * width).filter(range => range >= firstRange && range <= upTo)
    // One range after the other where they have entries, as these may be large; several side by side where they have none.
    for (let i = 0, atOnce = 1; i < ranges.length;) {
      const found = (await inParallel(ranges.slice(i, i + atOnce), async range =>
        await client.read(selectEntries, [journalId, stream, range, after, upTo, limit - entries.length]))).flat()
      for (const entry of found.slice(0, limit - entries.length)) entries.push(entryOf(journalId, stream, entry))
      if (entries.length === limit) return entries
      i += atOnce
      atOnce = found.length > 0 ? 1 : Math.min(rangesAtOnce, atOnce * 4)
    }
  }
  return entries
}

function entryOf (journalId: string, stream: OutboxStream, row: Row): OutboxEntry {
  return { journalId, stream, sequence: row.sequence as number, ...decodeEntry(row.entry as Buffer) }
}

/** The entry's rows that are still there. */
export async function readEntry (client: CassandraClient, entry: OutboxEntry): Promise<{ chunks: DeviceChunkRow[], slabs: SlabRow[] }> {
  const chunks = await inParallel(entry.chunks, async row => await withBytes(row, selectChunk, [...bucketKey(row, row.salt), chunkKey(row.slice, row.part)]), rowsAtOnce)
  const slabs = await inParallel(entry.slabs, async row => await withBytes(row, selectSlab, slabKey(row)), rowsAtOnce)
  return { chunks: chunks.filter(row => row !== null), slabs: slabs.filter(row => row !== null) }

  async function withBytes<T> (row: T, cql: string, parameters: readonly unknown[]): Promise<(T & { bytes: Buffer }) | null> {
    const [found] = await client.read(cql, parameters)
    return found === undefined ? null : { ...row, bytes: found.bytes as Buffer }
  }
}
