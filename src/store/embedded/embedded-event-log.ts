/**
 * The event log in the database `entities`. A position is the time of the writing, µs, one event each (entity-writer.ts), so it is a range
 * read from there, and what is too old goes by a range delete.
 */
import { TwinfoldError } from '../../core/errors.js'
import { stampAheadUsMax } from '../../core/clock.js'
import { eventLanes, eventsKeptUs, eventsReadBytesMax, type EventLog, type LoggedEvent, type OutEvent } from '../event-log.js'
import { decodeEvents } from '../out-event-codec.js'
import type { DatabasePool } from './database-pool.js'
import { logKey, positionOfLogKey } from './entity-keys.js'
import type { EntityWriter } from './entity-writer.js'
import { entitiesName } from './filenames.js'
import { compactKeys } from './level.js'
import { firstKey, scanRows } from './scan.js'

const positionDigits = 16

export class EmbeddedEventLog implements EventLog {
  readonly settleMs = 0
  readonly #pool: DatabasePool
  readonly #writer: EntityWriter
  readonly #writes: boolean

  /** @param options.writes false in a store beside the owner's, which reads only. */
  constructor (pool: DatabasePool, writer: EntityWriter, options: { writes: boolean }) {
    this.#pool = pool
    this.#writer = writer
    this.#writes = options.writes
  }

  /** @throws TwinfoldError `internal` in a store that is not the owner's. */
  async appendEvents (events: readonly OutEvent[]): Promise<void> {
    this.#assertWriter()
    if (events.length > 0) await this.#writer.write([], events)
  }

  async readEvents (lane: number, after: string, limit: number): Promise<{ readonly events: readonly LoggedEvent[], readonly position: string }> {
    const from = numberOf(after)
    const end = await this.#writer.readablePosition()
    if (end <= from || limit <= 0) return { events: [], position: after }
    const events: LoggedEvent[] = []
    const complete = await this.#pool.read(entitiesName, true, async database => {
      let bytes = 0
      for await (const rows of scanRows(database, { gt: logKey(lane, from), lte: logKey(lane, end), limit })) {
        for (const [key, value] of rows) {
          events.push({ position: positionText(positionOfLogKey(key)), event: decodeEvents(value)[0] })
          bytes += value.length
          if (events.length >= limit || bytes >= eventsReadBytesMax) return false
        }
      }
      return true
    })
    return { events, position: complete ? positionText(end) : events[events.length - 1].position }
  }

  async endOfEvents (_lane: number): Promise<string> {
    return positionText(await this.#writer.readablePosition())
  }

  positionAt (_lane: number, stampUs: number): string {
    // Accept stamps may run ahead of the wall clock by so much.
    return positionText(Math.max(0, Math.floor(stampUs) - stampAheadUsMax - 1))
  }

  async trimEvents (nowUs: number): Promise<void> {
    this.#assertWriter()
    const before = Math.floor(nowUs) - eventsKeptUs
    if (before <= 0) return
    await this.#writer.keepPosition()
    for (let lane = 0; lane < eventLanes; lane++) {
      const range = { gte: logKey(lane, 0), lt: logKey(lane, before) }
      await this.#pool.read(entitiesName, undefined, async database => {
        if (await firstKey(database, range) === null) return
        await database.clear(range)
        await compactKeys(database, range)
      })
    }
  }

  onAppended (listener: (lanes: ReadonlySet<number>) => void): () => void {
    return this.#writer.onAppended(listener)
  }

  #assertWriter (): void {
    if (!this.#writes) throw new TwinfoldError('internal', 'only the store that owns the directory writes events')
  }
}

function positionText (position: number): string {
  return String(position).padStart(positionDigits, '0')
}

/** @throws TwinfoldError `invalid_field` for what is no position. */
function numberOf (position: string): number {
  if (position === '') return 0
  const number = Number(position)
  if (!/^\d{16}$/.test(position) || !Number.isSafeInteger(number)) throw new TwinfoldError('invalid_field', 'the position is not one of the event log', { field: 'position' })
  return number
}
