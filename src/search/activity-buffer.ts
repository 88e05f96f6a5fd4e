/** When devices were last heard, gathered before it goes to search: many devices, one small row each. What finds no room is said again later. */
import type { TwinSearchStore } from '../store/twin-search.js'

const devicesMax = 100_000
const rowsPerWrite = 10_000
const everyMs = 5000

export class ActivityBuffer {
  readonly #search: Pick<TwinSearchStore, 'putActivity'>
  #rows = new Map<string, { readonly tenant: string, readonly device: string, readonly at: number }>()
  #nextMs = 0
  written = 0

  constructor (search: Pick<TwinSearchStore, 'putActivity'>) { this.#search = search }

  add (rows: readonly { readonly tenant: string, readonly device: string, readonly at: number }[]): void {
    for (const row of rows) {
      const key = `${row.tenant}\0${row.device}`
      const known = this.#rows.get(key)
      if (known === undefined ? this.#rows.size < devicesMax : known.at < row.at) this.#rows.set(key, row)
    }
  }

  /** Every few seconds. @throws TwinfoldError `analytics_unavailable`: what was not written waits */
  async write (nowMs: number): Promise<void> {
    if (this.#rows.size === 0 || nowMs < this.#nextMs) return
    this.#nextMs = nowMs + everyMs
    const rows = [...this.#rows.values()]
    this.#rows = new Map()
    for (let at = 0; at < rows.length; at += rowsPerWrite) {
      try {
        await this.#search.putActivity(rows.slice(at, at + rowsPerWrite))
        this.written += Math.min(rowsPerWrite, rows.length - at)
      } catch (error) {
        this.add(rows.slice(at))
        throw error
      }
    }
  }
}
