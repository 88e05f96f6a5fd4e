/**
 * Payloads as typical devices send them: ten metrics that walk, in JSON, with or without a timestamp. A timestamp stands
 * first and has a fixed width, so that a sender can write a new one into the finished packet.
 */
import type { Random } from './seeded-random.js'

/** `{"ts":` */
export const tsOffset = 6
/** Milliseconds with three decimals, as in 1700000000000.123: a microsecond each. */
export const tsWidth = 17

/** Values that walk at random with two decimals, one state per metric. */
export class WalkingMetrics {
  readonly #values: Float64Array
  readonly #random: Random

  constructor (metrics: number, random: Random) {
    this.#random = random
    this.#values = Float64Array.from({ length: metrics }, () => Math.round(random() * 10_000))
  }

  /** The next values as JSON members, `"m0":21.37,"m1":…`. */
  next (): string {
    const members: string[] = []
    for (let i = 0; i < this.#values.length; i++) {
      const moved = this.#values[i] + Math.round((this.#random() - 0.5) * 40)
      this.#values[i] = Math.min(10_000, Math.max(0, moved))
      members.push(`"m${i}":${this.#values[i] / 100}`)
    }
    return members.join(',')
  }
}

const tsBlank = '0000000000000.000'

/** One reading; `stamped` ones carry a blank timestamp to be patched at `tsOffset`. */
export function readingText (metrics: WalkingMetrics, stamped: boolean): string {
  return stamped ? `{"ts":${tsBlank},"values":{${metrics.next()}}}` : `{${metrics.next()}}`
}

/** Writes a timestamp (µs, 16 digits) as milliseconds with three decimals at `at`. No allocation. */
export function patchTs (bytes: Buffer, at: number, tsUs: number): void {
  let high = Math.floor(tsUs / 1e8)
  let low = tsUs - high * 1e8
  for (let i = at + 16; i > at + 13; i--) {
    bytes[i] = 48 + low % 10
    low = Math.floor(low / 10)
  }
  for (let i = at + 12; i > at + 7; i--) {
    bytes[i] = 48 + low % 10
    low = Math.floor(low / 10)
  }
  for (let i = at + 7; i >= at; i--) {
    bytes[i] = 48 + high % 10
    high = Math.floor(high / 10)
  }
}
