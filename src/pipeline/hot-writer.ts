/**
 * Puts newest values into the hot state for a packer: best effort, and never for longer than `putMsMax`. What was not put for
 * certain must be distrusted after the rows are written and before the slice counts as packed (src/store/hot-generation.ts), so
 * that a cache that was away, or is too slow for the load, never answers older values as the latest.
 *
 * A hot state that does not keep up is left alone for `restMs` after each try: it costs a slice now and then, not every one.
 */
import { hotPutMsMax } from '../core/limits.js'
import type { DeviceLatest, HotState } from '../store/hot-state.js'

export interface HotWriterOptions {
  readonly hot: HotState
  readonly monotonicMs: () => number
  readonly putMsMax?: number
  readonly restMs?: number
}

/** Devices whose values are handed over before the time is looked at again. */
const devicesPerPut = 500

export class HotWriter {
  readonly #options: Required<HotWriterOptions>
  #restUntilMs = -Infinity
  readonly stats = { devices: 0, skippedDevices: 0 }

  constructor (options: HotWriterOptions) {
    this.#options = { putMsMax: hotPutMsMax, restMs: 5000, ...options }
  }

  /** True when all of it is there. Never rejects. */
  async put (devices: readonly DeviceLatest[]): Promise<boolean> {
    const { hot, monotonicMs, putMsMax, restMs } = this.#options
    const deadlineMs = monotonicMs() + putMsMax
    let put = 0
    if (monotonicMs() >= this.#restUntilMs) {
      while (put < devices.length && monotonicMs() < deadlineMs) {
        const part = devices.slice(put, put + devicesPerPut)
        if (!await succeedsWithin(hot.putLatest(part), deadlineMs - monotonicMs())) break
        put += part.length
      }
      if (put < devices.length) this.#restUntilMs = monotonicMs() + restMs
    }
    this.stats.devices += put
    this.stats.skippedDevices += devices.length - put
    return put === devices.length
  }
}

async function succeedsWithin (action: Promise<void>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<boolean>(resolve => { timer = setTimeout(() => { resolve(false) }, ms) })
  try {
    return await Promise.race([action.then(() => true, () => false), late])
  } finally {
    clearTimeout(timer)
  }
}
