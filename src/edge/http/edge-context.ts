/** What the routes of the HTTP edge share. Made once per edge; holds no request's state. */
import type { Clock } from '../../core/clock.js'
import type { KeyedLock } from '../../core/keyed-lock.js'
import type { DeviceDirectory } from './device-directory.js'
import type { HttpEdgeOptions, HttpEdgeStats } from './edge-types.js'

export interface EdgeContext {
  readonly options: HttpEdgeOptions
  readonly devices: DeviceDirectory
  readonly stats: HttpEdgeStats
  /** One change of a tenant or device at a time: the registry's updates replace whole records. */
  readonly changes: KeyedLock
  readonly stamps: StampSeen
  /** True once `close` has begun. */
  closing: boolean
}

/**
 * The stamp that a change made now gets: above every stamp this edge has seen the journal give out, even where those run
 * ahead of the wall clock (DESIGN 3.8).
 */
export class StampSeen {
  readonly #clock: Clock
  #last = 0

  constructor (clock: Clock) { this.#clock = clock }

  observe (stamp: number): void {
    if (stamp > this.#last) this.#last = stamp
  }

  now (): number { return Math.max(this.#clock.nowUs(), this.#last + 1) }
}
