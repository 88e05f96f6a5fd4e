/**
 * Back-pressure as one value that both edges obey. `open`: take everything. `slow`: MQTT sockets that publish
 * telemetry are not read until it opens again and HTTP telemetry waits, then gets 429; nobody is disconnected
 * (INVARIANTS 10). `refuse`: the journal cannot take anything: new MQTT connections get CONNACK 3, HTTP gets 503.
 */
export type PressureLevel = 'open' | 'slow' | 'refuse'

export class Pressure {
  #level: PressureLevel = 'open'
  readonly #waiting = new Set<() => void>()

  get level (): PressureLevel { return this.#level }

  set (level: PressureLevel): void {
    if (level === this.#level) return
    this.#level = level
    if (level === 'open') {
      const waiting = [...this.#waiting]
      this.#waiting.clear()
      for (const wake of waiting) wake()
    }
  }

  /** Calls `wake` once, when the level is `open` again. Returns a function that withdraws it. */
  whenOpen (wake: () => void): () => void {
    this.#waiting.add(wake)
    return () => { this.#waiting.delete(wake) }
  }

  get waiting (): number { return this.#waiting.size }
}
