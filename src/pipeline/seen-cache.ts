/**
 * Remembers which (device, day, shape) a worker has already written a `seen` row for, so that the row is written about
 * once a day and not once a slice. Forgetting is harmless: the row is written again, with the same content.
 *
 * Bounded: two generations of at most `devicesMax` devices; when the young one is full it becomes the old one.
 */
interface Entry {
  day: number
  shape: number
  /** Further (day, shape) pairs; made when a device has more than one, at most `pairsMax`. */
  more: Set<number> | null
}

const pairsMax = 256
const shapeSpan = 2 ** 21

export class SeenCache {
  #young = new Map<string, Entry>()
  #old = new Map<string, Entry>()
  readonly #devicesMax: number

  constructor (options: { devicesMax: number }) {
    this.#devicesMax = options.devicesMax
  }

  /** True when the pair was not known; it is from now on. `day` counts days since the epoch. */
  isNew (device: string, day: number, shape: number): boolean {
    let entry = this.#young.get(device)
    if (entry === undefined) {
      entry = this.#old.get(device)
      if (this.#young.size >= this.#devicesMax) {
        this.#old = this.#young
        this.#young = new Map()
      }
      if (entry === undefined) {
        this.#young.set(device, { day, shape, more: null })
        return true
      }
      this.#young.set(device, entry)
    }
    if (entry.day === day && entry.shape === shape) return false
    const pair = day * shapeSpan + shape
    if (entry.more !== null && entry.more.has(pair)) return false
    if (entry.more === null || entry.more.size >= pairsMax) entry.more = new Set()
    entry.more.add(pair)
    return true
  }

  /** Shape ids have changed their meaning. */
  clear (): void {
    this.#young.clear()
    this.#old.clear()
  }
}
