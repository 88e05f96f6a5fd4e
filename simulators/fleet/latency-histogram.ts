/**
 * Latencies in logarithmic buckets, as an HDR histogram does: constant memory, no allocation per sample, a relative error
 * below 1.6 % (64 buckets per power of two). Histograms of several connections or runs can be added.
 */
const bucketsPerOctave = 64
const octaves = 40

export class LatencyHistogram {
  readonly #counts = new Float64Array(bucketsPerOctave * octaves)
  #count = 0
  #maxMs = 0
  #sumMs = 0

  get count (): number { return this.#count }
  get maxMs (): number { return this.#maxMs }
  get meanMs (): number { return this.#count === 0 ? 0 : this.#sumMs / this.#count }

  /** Adds a latency; below 1 µs counts as 1 µs. */
  add (latencyMs: number): void {
    const octave = Math.log2(Math.max(1, latencyMs * 1000))
    const bucket = Math.min(this.#counts.length - 1, Math.floor(octave * bucketsPerOctave))
    this.#counts[bucket]++
    this.#count++
    this.#sumMs += latencyMs
    if (latencyMs > this.#maxMs) this.#maxMs = latencyMs
  }

  merge (other: LatencyHistogram): void {
    for (let i = 0; i < this.#counts.length; i++) this.#counts[i] += other.#counts[i]
    this.#count += other.#count
    this.#sumMs += other.#sumMs
    this.#maxMs = Math.max(this.#maxMs, other.#maxMs)
  }

  /** Latency in ms below which the share (0 to 1) of the samples lies; 0 when there are none. */
  quantileMs (share: number): number {
    if (this.#count === 0) return 0
    const rank = Math.max(1, Math.ceil(share * this.#count))
    let seen = 0
    for (let i = 0; i < this.#counts.length; i++) {
      seen += this.#counts[i]
      if (seen >= rank) return Math.min(this.#maxMs, 2 ** ((i + 0.5) / bucketsPerOctave) / 1000)
    }
    return this.#maxMs
  }
}
