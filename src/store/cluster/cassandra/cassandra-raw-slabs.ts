/**
 * Slabs of sparse devices: where they wait until they are merged, and how readers and the merger find them.
 *
 * A slab lies in a partition of (journal, period, salt), the period being the minute in which its slice was accepted.
 * `slab_periods` says which periods of a journal may hold any, `slab_journals` which journals there are, and `low` before
 * which period everything is merged. Merged slabs are deleted one by one; a period without any left is struck off the list, so
 * that nobody reads its tombstones again: the cost of a read follows what waits to be merged, not what ever was.
 *
 * Why no slab is missed: the period is listed before the slab is written, and struck off only when it was found empty while
 * slabs of a *later* period are old enough to be merged. Those are of a slice that was packed, as all slices before it were,
 * and a slice of the struck period was accepted before it. So no slice of a struck period is still to be packed for the first
 * time; one that is packed again puts its period back on the list.
 */
import type { Clock } from '../../../core/clock.js'
import { inParallel } from '../../../core/in-parallel.js'
import { timestampUsMax } from '../../../core/limits.js'
import type { SliceId } from '../../../core/reading.js'
import { usPerHour } from '../../../core/reading.js'
import { mergeOrdered } from '../../merge-ordered.js'
import type { LateSlabs, RetentionClass, SlabRow } from '../../raw-store.js'
import type { CassandraClient, Row, Statement } from './cassandra-client.js'
import { slabArrival, slabSalt, slabSalts, type SlabKey } from './cassandra-raw-keys.js'

const shelf = 0
const selectJournals = 'SELECT journal, low FROM slab_journals WHERE shelf = ?'
const insertJournal = 'INSERT INTO slab_journals (shelf, journal, low) VALUES (?, ?, ?)'
const selectPeriods = 'SELECT period FROM slab_periods WHERE journal = ? AND period >= ?'
const insertPeriod = 'INSERT INTO slab_periods (journal, period) VALUES (?, ?)'
const deletePeriod = 'DELETE FROM slab_periods WHERE journal = ? AND period = ?'
const selectOfShard = 'SELECT minute, mark, bytes FROM slabs WHERE journal = ? AND period = ? AND salt = ? AND tenant = ? AND shard = ? AND minute >= ? AND minute <= ?'
const selectAll = 'SELECT tenant, shard, minute, mark, days, bytes FROM slabs WHERE journal = ? AND period = ? AND salt = ?'
// Inside one partition the filter costs no more than reading it does, and what is current never leaves the server.
const selectLate = `${selectAll} AND minute < ? ALLOW FILTERING`

/** How long another journal's first slab may go unseen, milliseconds: half of what a query may lag behind (INVARIANTS 2). */
const journalsKnownMs = 250
/** Periods of acceptance that are merged together, so that a device's readings of several minutes come into one chunk. */
const mergedPeriods = 10
/** Event time that is merged together. */
const mergedSpanUs = usPerHour
const rowsPerPage = 100

type StoredSlab = SlabRow & RetentionClass

export class SlabIndex {
  readonly #client: CassandraClient
  readonly #clock: Clock
  #journals: { readonly lows: Map<string, number>, readonly atMs: number } | null = null

  constructor (client: CassandraClient, clock: Clock) {
    this.#client = client
    this.#clock = clock
  }

  /** Lists the periods of slabs; call before they are written. */
  async note (slabs: readonly SlabKey[]): Promise<void> {
    if (slabs.length === 0) return
    const lows = await this.#lows()
    const statements = new Map<string, Statement>()
    for (const slab of slabs) {
      const { journalId } = slab.slice
      const period = slabArrival(slab)
      const low = lows.get(journalId)
      // 0: nothing is merged for sure. The merger alone raises it, as a first writer cannot know what others write.
      if (low === undefined || low > period) {
        statements.set(journalId, { cql: insertJournal, parameters: [shelf, journalId, 0] })
      }
      statements.set(`${journalId}:${period}`, { cql: insertPeriod, parameters: [journalId, period] })
    }
    await this.#client.writeAll(statements.values())
    for (const { cql, parameters } of statements.values()) if (cql === insertJournal) lows.set(parameters[1] as string, 0)
  }

  /** Journals that wrote slabs, and before which period each has none left. */
  async #lows (): Promise<Map<string, number>> {
    const nowMs = this.#clock.monotonicMs()
    if (this.#journals === null || nowMs - this.#journals.atMs > journalsKnownMs) {
      const rows = await this.#client.read(selectJournals, [shelf])
      this.#journals = { lows: new Map(rows.map(row => [row.journal as string, row.low as number | null ?? 0])), atMs: nowMs }
    }
    return this.#journals.lows
  }

  /** Periods of the journal that may hold slabs, ascending. */
  async #periods (journalId: string, low: number): Promise<number[]> {
    return (await this.#client.read(selectPeriods, [journalId, low])).map(row => row.period as number)
  }

  async * scan (tenant: string, shard: number, fromMinute: number, toMinute: number): AsyncGenerator<SlabRow> {
    fromMinute = Math.max(0, fromMinute)
    toMinute = Math.min(toMinute, timestampUsMax)
    if (fromMinute > toMinute) return
    const lows = await this.#lows()
    const places = await inParallel([...lows], async ([journalId, low]) => (await this.#periods(journalId, low)).map(period => ({ journalId, period })))
    const sources = places.flat().map(({ journalId, period }) => this.#ofShard(journalId, period, tenant, shard, fromMinute, toMinute))
    yield * mergeOrdered(sources, (a, b) => a.minute > b.minute)
  }

  async * #ofShard (journalId: string, period: number, tenant: string, shard: number, fromMinute: number, toMinute: number): AsyncGenerator<SlabRow> {
    const stamp = period === 0 ? undefined : period
    for await (const row of this.#client.stream(selectOfShard, [journalId, period, slabSalt(shard), tenant, shard, fromMinute, toMinute], rowsPerPage)) {
      yield { tenant, shard, minute: row.minute as number, slice: { journalId, mark: row.mark as number }, stamp, bytes: row.bytes as Buffer }
    }
  }

  /**
   * @see RawStore.scanSlabsToMerge. Memory: the slabs of ten periods of one salt.
   * A named journal's mark of Infinity says that the journal has ended: then its last periods are struck off as well.
   */
  async * scanToMerge (before: SliceId, limit: number): AsyncGenerator<StoredSlab> {
    const lows = await this.#lows()
    const journals = before.journalId === '' ? [...lows.keys()] : [before.journalId]
    let left = limit
    for (const journalId of journals) {
      if (left <= 0) return
      const beforeMark = before.journalId === '' ? Math.min(before.mark, Number.MAX_SAFE_INTEGER) : before.mark
      for await (const slab of this.#ofJournal(journalId, lows.get(journalId) ?? 0, beforeMark, left)) {
        left--
        yield slab
      }
    }
  }

  async * #ofJournal (journalId: string, low: number, beforeMark: number, limit: number): AsyncGenerator<StoredSlab> {
    const periods = await this.#periods(journalId, low)
    const empty = new Set(periods)
    // Of a journal that has ended nothing is still to be packed.
    let newestDone = beforeMark === Infinity ? Infinity : -1
    let left = limit
    for (let at = 0; at < periods.length; at += mergedPeriods) {
      const together = periods.slice(at, at + mergedPeriods)
      for (let salt = 0; salt < slabSalts; salt++) {
        const found: StoredSlab[] = []
        await inParallel(together, async period => {
          for await (const row of this.#client.stream(selectAll, [journalId, period, salt], rowsPerPage)) {
            empty.delete(period)
            if (row.mark as number >= beforeMark) continue
            newestDone = Math.max(newestDone, period)
            found.push(storedSlab(journalId, period, row))
          }
        })
        for (const slab of found.sort(mergeOrder)) {
          yield slab
          // The rest of the journal has not been looked at: nothing is known of its periods.
          if (--left === 0) return
        }
      }
    }
    await this.#strike(journalId, low, periods, empty, newestDone)
  }

  /**
   * @see RawStore.scanSlabsToMerge. Reads the partitions of what was accepted since, and gives the late slabs alone. Nothing is struck off: of
   * a period without late slabs nothing is known. Memory: the late slabs of one salt.
   */
  async * scanLate (before: SliceId, limit: number, { beforeMinute, sinceStamp }: LateSlabs): AsyncGenerator<StoredSlab> {
    const lows = await this.#lows()
    const journals = before.journalId === '' ? [...lows.keys()] : [before.journalId]
    let left = limit
    for (const journalId of journals) {
      const periods = await this.#periods(journalId, Math.max(lows.get(journalId) ?? 0, slabArrival({ stamp: sinceStamp })))
      for (let salt = 0; salt < slabSalts; salt++) {
        const found: StoredSlab[] = []
        await inParallel(periods, async period => {
          for await (const row of this.#client.stream(selectLate, [journalId, period, salt, beforeMinute], rowsPerPage)) {
            if (row.mark as number < before.mark) found.push(storedSlab(journalId, period, row))
            if (found.length >= left) return
          }
        })
        for (const slab of found.sort(mergeOrder)) {
          if (left-- <= 0) return
          yield slab
        }
      }
    }
  }

  async #strike (journalId: string, low: number, periods: readonly number[], empty: ReadonlySet<number>, newestDone: number): Promise<void> {
    const struck = periods.filter(period => empty.has(period) && period < newestDone)
    if (struck.length === 0) return
    await this.#client.writeAll(struck.map(period => ({ cql: deletePeriod, parameters: [journalId, period] })))
    const lowest = periods.find(period => !(empty.has(period) && period < newestDone)) ?? periods[periods.length - 1]
    if (lowest <= low) return
    await this.#client.write(insertJournal, [shelf, journalId, lowest])
    this.#journals?.lows.set(journalId, lowest)
  }
}

function storedSlab (journalId: string, period: number, row: Row): StoredSlab {
  return {
    tenant: row.tenant as string, shard: row.shard as number, minute: row.minute as number, slice: { journalId, mark: row.mark as number },
    stamp: period === 0 ? undefined : period, bytes: row.bytes as Buffer, retentionDays: row.days as number
  }
}

/** Oldest span of event time first; in it, shard by shard. */
function mergeOrder (a: StoredSlab, b: StoredSlab): number {
  const span = Math.floor(a.minute / mergedSpanUs) - Math.floor(b.minute / mergedSpanUs)
  if (span !== 0) return span
  if (a.tenant !== b.tenant) return a.tenant < b.tenant ? -1 : 1
  return a.shard - b.shard || a.minute - b.minute || a.slice.mark - b.slice.mark
}
