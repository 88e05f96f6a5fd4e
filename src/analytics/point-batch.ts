/**
 * Points on their way into analytics: gathered to inserts of a bounded size, one in flight. It knows up to which entry of the
 * outbox everything is in, which is as far as a cursor may move.
 */
import type { AnalyticsPoint, AnalyticsStore } from '../store/analytics-store.js'

export interface PointBatchLimits {
  readonly pointsMax: number
  /** Of names and string values; a batch may be larger by one point. */
  readonly textCharsMax: number
}

export class PointBatch {
  readonly #analytics: Pick<AnalyticsStore, 'insertPoints'>
  readonly #limits: PointBatchLimits
  readonly #writtenUs: number | undefined
  #points: AnalyticsPoint[] = []
  #textChars = 0
  /** The last entry whose every point was added, and the last whose every point is in. */
  #added: number
  #durable: number
  #newestStamp = 0
  #addedStamp = 0
  #durableStamp = 0
  readonly stats = { points: 0, inserts: 0, entries: 0 }
  #entriesAdded = 0

  /** @param start where the cursor stands. @param writtenUs as of `insertPoints` */
  constructor (analytics: Pick<AnalyticsStore, 'insertPoints'>, limits: PointBatchLimits, start: number, writtenUs?: number) {
    this.#writtenUs = writtenUs
    this.#analytics = analytics
    this.#limits = limits
    this.#added = start
    this.#durable = start
  }

  /** Every point of the entries up to this sequence is in. */
  get durable (): number { return this.#durable }

  /** Greatest accept stamp among them, µs; 0 where there are none. */
  get durableStamp (): number { return this.#durableStamp }

  /** Points added that are not in yet. */
  get waiting (): number { return this.#points.length }

  /** Rejects as `insertPoints` does; nothing may be added then. */
  async add (points: Iterable<AnalyticsPoint>): Promise<void> {
    for (const point of points) {
      this.#points.push(point)
      if (point.stamp > this.#newestStamp) this.#newestStamp = point.stamp
      this.#textChars += point.metric.length + (typeof point.value === 'string' ? point.value.length : 0)
      if (this.#points.length >= this.#limits.pointsMax || this.#textChars >= this.#limits.textCharsMax) await this.flush()
    }
  }

  /** Every point of the entry was added. */
  endEntry (sequence: number): void {
    this.#added = sequence
    this.#addedStamp = this.#newestStamp
    this.#entriesAdded++
    if (this.#points.length === 0) this.#settle()
  }

  async flush (): Promise<void> {
    if (this.#points.length > 0) {
      await this.#analytics.insertPoints(this.#points, this.#writtenUs)
      this.stats.points += this.#points.length
      this.stats.inserts++
      this.#points = []
      this.#textChars = 0
    }
    this.#settle()
  }

  #settle (): void {
    this.#durable = this.#added
    this.#durableStamp = this.#addedStamp
    this.stats.entries += this.#entriesAdded
    this.#entriesAdded = 0
  }
}
