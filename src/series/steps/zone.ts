/**
 * Local time of an IANA time zone: its offset at an instant, and where a local day begins. Pure; the rules are those of the
 * running Node's ICU. Offsets are remembered per UTC day, bounded, so that a year of local days costs a few hundred look-ups once.
 */
import { usPerDay, usPerMs, usPerSecond } from '../../core/reading.js'

/** UTC days whose offset is remembered; beyond, all are forgotten. */
const daysRememberedMax = 100_000

const parts = { year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric', hourCycle: 'h23', era: 'short' } as const

export class Zone {
  readonly name: string
  readonly #format: Intl.DateTimeFormat | null
  readonly #offsets = new Map<number, number>()

  /** @throws RangeError for a zone that is not known. */
  constructor (name: string) {
    this.name = name
    this.#format = name === 'UTC' ? null : new Intl.DateTimeFormat('en-US', { timeZone: name, calendar: 'gregory', numberingSystem: 'latn', ...parts })
  }

  /** Local time minus UTC at an instant, µs. Zones change their offset at most once between two UTC midnights. */
  offsetAt (ts: number): number {
    if (this.#format === null) return 0
    const day = Math.floor(ts / usPerDay)
    const before = this.#midnight(day)
    return before === this.#midnight(day + 1) ? before : this.#look(ts)
  }

  #midnight (day: number): number {
    let offset = this.#offsets.get(day)
    if (offset === undefined) {
      if (this.#offsets.size >= daysRememberedMax) this.#offsets.clear()
      this.#offsets.set(day, offset = this.#look(day * usPerDay))
    }
    return offset
  }

  #look (ts: number): number {
    const ms = Math.floor(ts / usPerSecond) * 1000
    const fields: Record<string, number> = {}
    for (const { type, value } of (this.#format as Intl.DateTimeFormat).formatToParts(ms)) fields[type] = Number(value)
    const { year, month, day, hour, minute, second } = fields
    const local = new Date(0)
    local.setUTCFullYear(year, month - 1, day)
    return (local.getTime() + (hour * 3600 + minute * 60 + second) * 1000 - ms) * usPerMs
  }

  /** Number of the local day (days since 1970-01-01) that an instant belongs to. */
  dayOf (ts: number): number {
    return Math.floor((ts + this.offsetAt(ts)) / usPerDay)
  }

  /** The first instant, µs, of a local day; where clocks are put forward at midnight that is 01:00. */
  startOfDay (day: number): number {
    const local = day * usPerDay
    if (this.#format === null) return local
    const before = this.offsetAt(local - usPerDay)
    const after = this.offsetAt(local + usPerDay)
    if (before === after) return local - before
    const change = this.#changeBetween(local - usPerDay, local + usPerDay)
    if (local - before < change) return local - before
    return Math.max(change, local - after)
  }

  /** The instant in (from, to] from which the offset of `to` holds, to the second. */
  #changeBetween (fromTs: number, toTs: number): number {
    const offset = this.offsetAt(toTs)
    let low = Math.floor(fromTs / usPerSecond)
    let high = Math.ceil(toTs / usPerSecond)
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2)
      if (this.offsetAt(middle * usPerSecond) === offset) high = middle
      else low = middle
    }
    return high * usPerSecond
  }
}
