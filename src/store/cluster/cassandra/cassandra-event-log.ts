/**
 * The event log. A node writes what it has to tell of a lane as one row, stamped with its clock, strictly increasing; while one row is
 * written, what comes next gathers for the row behind it. Rows are read up to two seconds before now, by the reader's own clock.
 *
 * Nothing is missed, though nodes write side by side: a write that was not answered within half of that time of its stamp is made again under
 * a new stamp. So a row was there, for every reader at a quorum, a second after its stamp by its writer's clock; clocks of nodes differ
 * by 250 ms at most (a node that is further off is not ready), which the other second covers, with room for a reader's own delays.
 *
 * What a node tells on top of another's commits may stand before them, where its clock is behind. So events of a sequence are put into order
 * over a window of a second (in-sequence.ts): a page ends so much before the newest row that may be read, and is read on by so much.
 *
 * The lane's rows lie in partitions of five minutes each, for seven days.
 */
import { randomBytes } from 'node:crypto'
import { clockOffMsMax, stampAheadUsMax, type Clock } from '../../../core/clock.js'
import { TwinfoldError } from '../../../core/errors.js'
import { inParallel } from '../../../core/in-parallel.js'
import { usPerMs } from '../../../core/reading.js'
import { eventsKeptUs, eventsReadBytesMax, laneOf, type EventLog, type LoggedEvent, type OutEvent } from '../../event-log.js'
import { decodeEvents, encodeEvents, eventSize } from '../../out-event-codec.js'
import { belongsBefore, inSequence, type PlacedEvent } from '../../in-sequence.js'
import type { CassandraClient, Row, Statement } from './cassandra-client.js'

const insert = 'INSERT INTO event_log (lane, slot, stamp, writer, events) VALUES (?, ?, ?, ?, ?)'
const select = 'SELECT stamp, writer, events FROM event_log WHERE lane = ? AND slot = ? AND (stamp, writer) >= (?, ?) AND (stamp, writer) <= (?, ?)'

/** Part of the key layout: it never changes. */
const slotUs = 300 * 1e6
const settleMsDefault = 2000
/**
 * A lower number is told first before a higher one is (who commits on top of another node's commit tells it again before its own), so they
 * stand in the wrong order by what two clocks differ at most: twice what one may be off, and as much again for clocks that are being set.
 */
const windowMsDefault = 4 * clockOffMsMax
/** A row holds so much, or one larger event. */
const rowBytesMax = 64 * 1024
/** What one write takes of what has gathered for a lane. */
const groupBytesMax = 512 * 1024
const attemptsMax = 5
const pageRows = 32
/** What is held of rows behind a page, as it belongs before its events; of more, the rest comes in its own place, perhaps out of order. */
const aheadBytesMax = 16 * 1024 * 1024
/** Empty slots that are looked at side by side, and in one read. */
const slotsAtOnceMax = 32
const slotsPerReadMax = 512
/** Sorts behind every writer. */
const lastWriter = '~'

export interface CassandraEventLogOptions {
  readonly clock: Clock
  /** From the stamp of a row until it can be read; a write has half of it. Default 2000; for tests, which wait for it, as the next. */
  readonly settleMs?: number
  /** How far behind a higher number of its sequence an event may stand and come out in order. Default 1000. */
  readonly windowMs?: number
}

interface Waiting {
  readonly events: readonly OutEvent[]
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

interface Position { readonly stamp: number, readonly writer: string, readonly index: number }

export class CassandraEventLog implements EventLog {
  readonly settleMs: number
  readonly #client: CassandraClient
  readonly #clock: Clock
  readonly #rowSettleMs: number
  readonly #windowUs: number
  /** New at every start: two processes of one node never write the same row. */
  readonly #writer = randomBytes(8).toString('hex')
  /** By lane; bounded by the callers, each of whom waits. */
  readonly #waiting = new Map<number, Waiting[]>()
  readonly #listeners = new Set<(lanes: ReadonlySet<number>) => void>()
  #toTell = new Set<number>()
  #teller: NodeJS.Timeout | null = null
  #stamp = 0
  /** `again`: writes that were made again as they took too long. */
  readonly stats = { events: 0, rows: 0, again: 0 }

  constructor (client: CassandraClient, { clock, settleMs = settleMsDefault, windowMs = windowMsDefault }: CassandraEventLogOptions) {
    this.#client = client
    this.#clock = clock
    this.#rowSettleMs = settleMs
    this.#windowUs = windowMs * usPerMs
    this.settleMs = settleMs + windowMs
  }

  async appendEvents (events: readonly OutEvent[]): Promise<void> {
    const lanes = new Map<number, OutEvent[]>()
    for (const event of events) {
      const lane = laneOf(event.tenant, event.device)
      const list = lanes.get(lane)
      if (list === undefined) lanes.set(lane, [event])
      else list.push(event)
    }
    const outcomes = await Promise.allSettled([...lanes].map(async ([lane, list]) => { await this.#appendToLane(lane, list) }))
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason as Error
  }

  async readEvents (lane: number, after: string, limit: number): Promise<{ readonly events: readonly LoggedEvent[], readonly position: string }> {
    const { events, end } = await this.#readPage(lane, after, limit)
    if (events.length === 0) return { events, position: end }
    return inSequence(events, await this.#readAhead(lane, events), { after, end, windowUs: this.#windowUs, limit })
  }

  /** Events as they stand in the rows. */
  async #readPage (lane: number, after: string, limit: number): Promise<{ readonly events: readonly PlacedEvent[], readonly end: string }> {
    const horizon = this.#horizonUs()
    const oldest = { stamp: Math.max(0, this.#clock.nowUs() - eventsKeptUs - slotUs), writer: '', index: -1 }
    const given = after === '' ? oldest : parsePosition(after)
    const from = given.stamp < oldest.stamp ? oldest : given
    if (limit <= 0 || from.stamp > horizon) return { events: [], end: after }
    const found: PlacedEvent[] = []
    const lastSlot = slotOf(horizon)
    let slot = slotOf(from.stamp)
    let bytes = 0
    for (let atOnce = 1, looked = 0; slot <= lastSlot && looked < slotsPerReadMax;) {
      const slots = Array.from({ length: Math.min(atOnce, lastSlot - slot + 1) }, (_, i) => slot + i)
      // One after the other where they have rows, side by side where they have none.
      const begun = slots.length === 1 ? slots : (await inParallel(slots, async at => (await this.#rows(lane, at, from, horizon, 1, null)).rows.length > 0 ? at : -1)).filter(at => at >= 0)
      for (const at of begun) {
        for (let pageState: string | null = null; ;) {
          const page = await this.#rows(lane, at, from, horizon, pageRows, pageState)
          for (const row of page.rows) {
            bytes += (row.events as Buffer).length
            addEvents(found, row, from)
            if (found.length < limit && (found.length === 0 || bytes < eventsReadBytesMax)) continue
            const some = found.slice(0, limit)
            return { events: some, end: some[some.length - 1].position }
          }
          pageState = page.pageState
          if (pageState === null) break
        }
      }
      slot += slots.length
      looked += slots.length
      atOnce = begun.length > 0 ? 1 : Math.min(slotsAtOnceMax, atOnce * 4)
    }
    const reached = Math.min(horizon, slot * slotUs - 1)
    return { events: found, end: positionText({ stamp: reached, writer: lastWriter, index: 0 }) }
  }

  /** What stands within the window behind the page and belongs before some of it. */
  async #readAhead (lane: number, page: readonly PlacedEvent[]): Promise<readonly PlacedEvent[]> {
    const belongs = belongsBefore(page)
    if (belongs === null) return []
    const found: PlacedEvent[] = []
    let bytes = 0
    const from = parsePosition(page[page.length - 1].position)
    const to = from.stamp + this.#windowUs
    for (let slot = slotOf(from.stamp); slot <= slotOf(to); slot++) {
      for (let pageState: string | null = null; ;) {
        const read = await this.#rows(lane, slot, from, to, pageRows, pageState)
        for (const row of read.rows) {
          const known = found.length
          addEvents(found, row, from, belongs)
          for (let i = known; i < found.length; i++) bytes += eventSize(found[i].event)
          if (bytes >= aheadBytesMax) return found
        }
        pageState = read.pageState
        if (pageState === null) break
      }
    }
    return found
  }

  async endOfEvents (_lane: number): Promise<string> {
    return positionText({ stamp: this.#horizonUs(), writer: lastWriter, index: 0 })
  }

  positionAt (_lane: number, stampUs: number): string {
    // Accept stamps may run ahead of the clock of the node that told of them.
    return positionText({ stamp: Math.max(0, Math.floor(stampUs) - stampAheadUsMax - clockOffMsMax * usPerMs), writer: '', index: 0 })
  }

  /** Nothing to do: rows expire. */
  async trimEvents (_nowUs: number): Promise<void> {}

  /** Told when the events can be read, `settleMs` after they were written, by their writer's clock. */
  onAppended (listener: (lanes: ReadonlySet<number>) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  close (): void {
    if (this.#teller !== null) clearTimeout(this.#teller)
    this.#teller = null
    this.#listeners.clear()
  }

  /** Where pages end: what is within the window behind it can be read. */
  #horizonUs (): number {
    return Math.max(0, this.#clock.nowUs() - this.settleMs * usPerMs)
  }

  async #rows (lane: number, slot: number, from: Position, horizon: number, rows: number, pageState: string | null): Promise<{ readonly rows: readonly Row[], readonly pageState: string | null }> {
    return await this.#client.page(select, [lane, slot, from.stamp, from.writer, horizon, lastWriter], rows, pageState)
  }

  async #appendToLane (lane: number, events: readonly OutEvent[]): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const waiting = { events, resolve, reject }
      const list = this.#waiting.get(lane)
      if (list !== undefined) {
        list.push(waiting)
        return
      }
      const gathered = [waiting]
      this.#waiting.set(lane, gathered)
      void this.#writeGathered(lane, gathered)
    })
  }

  /** One write of a lane at a time, so that its order is the order of the calls. */
  async #writeGathered (lane: number, gathered: Waiting[]): Promise<void> {
    // What is told in the same turn is written together.
    await null
    while (gathered.length > 0) {
      let count = 0
      for (let bytes = 0; count < gathered.length && (count === 0 || bytes < groupBytesMax); count++) bytes += gathered[count].events.reduce((sum, event) => sum + eventSize(event), 0)
      const group = gathered.splice(0, count)
      try {
        await this.#write(lane, group.flatMap(({ events }) => events))
        for (const { resolve } of group) resolve()
        this.#tell(lane)
      } catch (error) {
        for (const { reject } of group) reject(error)
      }
    }
    this.#waiting.delete(lane)
  }

  async #write (lane: number, events: readonly OutEvent[]): Promise<void> {
    const rows = rowsOf(events)
    for (let attempt = 1; ; attempt++) {
      const begunMs = this.#clock.monotonicMs()
      const statements: Statement[] = rows.map(bytes => {
        this.#stamp = Math.max(this.#stamp + 1, this.#clock.nowUs())
        return { cql: insert, parameters: [lane, slotOf(this.#stamp), this.#stamp, this.#writer, bytes] }
      })
      if (statements.length === 1) await this.#client.write(statements[0].cql, statements[0].parameters)
      else await this.#client.writeAll(statements)
      this.stats.rows += rows.length
      if (this.#clock.monotonicMs() - begunMs <= this.#rowSettleMs / 2) break
      this.stats.again++
      if (attempt === attemptsMax) throw new TwinfoldError('store_unavailable', 'Cassandra is too slow for the order of events', { retryAfterMs: 1000 })
    }
    this.stats.events += events.length
  }

  #tell (lane: number): void {
    if (this.#listeners.size === 0) return
    this.#toTell.add(lane)
    if (this.#teller !== null) return
    this.#teller = setTimeout(() => {
      const lanes = this.#toTell
      this.#teller = null
      this.#toTell = new Set()
      for (const listener of this.#listeners) listener(lanes)
    }, this.settleMs + 1)
    this.#teller.unref()
  }
}

function rowsOf (events: readonly OutEvent[]): Buffer[] {
  const rows: Buffer[] = []
  for (let from = 0; from < events.length;) {
    let to = from
    for (let bytes = 0; to < events.length && (to === from || bytes + eventSize(events[to]) <= rowBytesMax); to++) bytes += eventSize(events[to])
    rows.push(encodeEvents(events.slice(from, to)))
    from = to
  }
  return rows
}

function addEvents (found: PlacedEvent[], row: Row, from: Position, wanted: (event: OutEvent) => boolean = () => true): void {
  const stamp = row.stamp as number
  const writer = row.writer as string
  const skipped = stamp === from.stamp && writer === from.writer ? from.index : -1
  decodeEvents(row.events as Buffer).forEach((event, index) => {
    if (index > skipped && wanted(event)) found.push({ position: positionText({ stamp, writer, index }), placedUs: stamp, event })
  })
}

function slotOf (stampUs: number): number {
  return Math.floor(stampUs / slotUs)
}

function positionText ({ stamp, writer, index }: Position): string {
  return `${String(stamp).padStart(16, '0')}.${writer}.${String(index).padStart(5, '0')}`
}

/** @throws TwinfoldError `invalid_field` for what is no position. */
function parsePosition (position: string): Position {
  const match = /^(\d{16})\.([0-9a-f]{16}|~|)\.(\d{5})$/.exec(position)
  if (match === null) throw new TwinfoldError('invalid_field', 'the position is not one of the event log', { field: 'position' })
  return { stamp: Number(match[1]), writer: match[2], index: Number(match[3]) }
}
