/**
 * Measures how long an acknowledged reading takes until queries show it (INVARIANTS 2): asks for exactly that reading until
 * it is there. Few readings a second are probed, so that the probe does not become the load.
 */
import { LatencyHistogram } from './latency-histogram.js'

export interface ProbeOptions {
  /** As in http://127.0.0.1:8080 */
  readonly httpUrl: string
  readonly key: string
  readonly probesPerSecond: number
  /** A reading that is not there after this long counts as missing. */
  readonly giveUpMs: number
  readonly pollMs: number
}

export interface ProbeResult {
  readonly probes: number
  readonly missing: number
  readonly failedRequests: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
}

const probesAtOnceMax = 32

export class VisibilityProbe {
  readonly #options: ProbeOptions
  readonly #delays = new LatencyHistogram()
  readonly #running = new Set<Promise<void>>()
  #nextAtMs = 0
  #missing = 0
  #failedRequests = 0

  constructor (options: ProbeOptions) {
    this.#options = options
  }

  /** Is a further probe due? */
  wants (nowMs: number): boolean {
    return nowMs >= this.#nextAtMs && this.#running.size < probesAtOnceMax
  }

  /** Starts to look for a reading that was acknowledged at `ackedAtMs` (performance.now()). */
  probe (device: string, tsUs: number, ackedAtMs: number): void {
    this.#nextAtMs = performance.now() + 1000 / this.#options.probesPerSecond
    const running = this.#look(device, tsUs, ackedAtMs).finally(() => { this.#running.delete(running) })
    this.#running.add(running)
  }

  async #look (device: string, tsUs: number, ackedAtMs: number): Promise<void> {
    const { httpUrl, key, giveUpMs, pollMs } = this.#options
    const range = `from=${(tsUs / 1000).toFixed(3)}&to=${((tsUs + 1) / 1000).toFixed(3)}`
    const url = `${httpUrl}/api/v1/devices/${encodeURIComponent(device)}/telemetry?${range}&order=asc&limit=1&times=ms`
    for (;;) {
      const askedAtMs = performance.now()
      try {
        const answer = await fetch(url, { headers: { authorization: `Bearer ${key}` } })
        const body = await answer.json() as { readings?: unknown[] }
        if (!answer.ok) this.#failedRequests++
        if (body.readings?.length === 1) {
          // The query's own time is included: it is what a reader waits.
          this.#delays.add(performance.now() - ackedAtMs)
          return
        }
      } catch {
        this.#failedRequests++
      }
      if (askedAtMs - ackedAtMs > giveUpMs) {
        this.#missing++
        return
      }
      await new Promise(resolve => { setTimeout(resolve, pollMs) })
    }
  }

  async finish (): Promise<ProbeResult> {
    await Promise.all(this.#running)
    return {
      probes: this.#delays.count + this.#missing,
      missing: this.#missing,
      failedRequests: this.#failedRequests,
      p50Ms: this.#delays.quantileMs(0.5),
      p99Ms: this.#delays.quantileMs(0.99),
      maxMs: this.#delays.maxMs
    }
  }
}
