/**
 * How far this node's wall clock is from the cluster's (DESIGN 3.8), by Cristian's method ("Probabilistic clock
 * synchronization", 1989): the answer's time lies between question and answer, so half the round trip bounds the error. The
 * median of several samples decides, so that one slow answer or one pause of this process does not. Pure.
 *
 * Promise: a verdict stays as it is while there are no new samples.
 */
import { clockOffMsMax } from '../core/clock.js'

/** Samples that are remembered, and how many a verdict needs. */
const samplesMax = 9
const samplesMin = 3

interface Sample { readonly offsetUs: number, readonly roundTripUs: number }

export type ClockVerdict = 'ok' | 'off' | 'unknown'

export class ClusterClock {
  readonly #samples: Sample[] = []
  #offsetUs: number | null = null
  #errorUs = 0

  /** @param askedUs @param answeredUs of the own wall clock @param clusterUs what the answer said */
  add (askedUs: number, answeredUs: number, clusterUs: number): void {
    const roundTripUs = answeredUs - askedUs
    // The wall clock was set back in between.
    if (roundTripUs < 0) return
    this.#samples.push({ offsetUs: (askedUs + answeredUs) / 2 - clusterUs, roundTripUs })
    if (this.#samples.length > samplesMax) this.#samples.shift()
    if (this.#samples.length < samplesMin) return
    const median = [...this.#samples].sort((a, b) => a.offsetUs - b.offsetUs)[this.#samples.length >> 1]
    this.#offsetUs = median.offsetUs
    this.#errorUs = median.roundTripUs / 2
  }

  get samples (): number { return this.#samples.length }

  /** Own wall clock minus the cluster's, µs: positive when ahead; null while unknown. */
  get offsetUs (): number | null { return this.#offsetUs }

  get verdict (): ClockVerdict {
    if (this.#offsetUs === null) return 'unknown'
    // Half a round trip is in doubt: a node is called off only where it is off whatever the doubt.
    return Math.abs(this.#offsetUs) - this.#errorUs > clockOffMsMax * 1000 ? 'off' : 'ok'
  }

  /** Why the node is not ready, for people; null where it is. */
  get reason (): string | null {
    if (this.verdict !== 'off') return null
    const ms = Math.round(this.#offsetUs as number / 1000)
    return `the clock of this machine is ${Math.abs(ms)} ms ${ms > 0 ? 'ahead of' : 'behind'} the cluster's (${clockOffMsMax} ms are allowed); synchronise it (chrony, NTP); if every node says so, the clock of Redis is the one to mend`
  }
}
