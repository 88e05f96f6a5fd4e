/**
 * Answers of the registry, remembered for a lease: a change made elsewhere is seen at the latest then, one made through this
 * node at once (`forget`). While the registry itself rejects with `store_unavailable`, what it said last serves on, up to
 * `staleMsMax` beyond the lease, so that known devices are served through an outage of the store; any other fault is thrown.
 * "There is no such thing" has a short lease and never serves beyond it: in an outage a stranger hears that it cannot be
 * told, not that it is wrong.
 *
 * Bounded: the `rememberedMax` keys asked for last, unknown ones included, so that guessing ids costs no memory.
 */
import { LRUCache } from 'lru-cache'
import { TwinfoldError } from '../core/errors.js'
import { unknownLeaseMsMax } from '../core/limits.js'

export interface LeaseCacheOptions<V> {
  readonly leaseMs: number
  readonly rememberedMax: number
  readonly monotonicMs: () => number
  /** Milliseconds beyond the lease; 0: never. */
  readonly staleMsMax: number
  /** The answer says that there is no such thing. */
  readonly isUnknown: (value: V) => boolean
}

/** A stale answer is given again without asking for this long. */
const staleLeaseMs = 1000

interface Entry<V> { readonly value: V, untilMs: number, readonly staleUntilMs: number }

export class LeaseCache<V> {
  readonly #options: LeaseCacheOptions<V>
  readonly #entries: LRUCache<string, Entry<V>>
  /** Questions that are under way, so that a burst for one key asks once. */
  readonly #asking = new Map<string, Promise<V>>()
  #generation = 0
  /** Answers given beyond their lease. */
  staleAnswers = 0

  constructor (options: LeaseCacheOptions<V>) {
    this.#options = options
    this.#entries = new LRUCache({ max: options.rememberedMax })
  }

  get size (): number { return this.#entries.size }

  /** The remembered answer without waiting; undefined where the registry must be asked. */
  peek (key: string): V | undefined {
    const entry = this.#entries.get(key)
    return entry === undefined || entry.untilMs <= this.#options.monotonicMs() ? undefined : entry.value
  }

  /** The answer given last, whether its lease has run out or not. */
  last (key: string): V | undefined {
    return this.#entries.peek(key)?.value
  }

  /** Asks where nothing is remembered. Rejects as `ask` does, unless an older answer may serve. */
  async get (key: string, ask: () => Promise<V>): Promise<V> {
    const known = this.peek(key)
    if (known !== undefined) return known
    const asking = this.#asking.get(key)
    if (asking !== undefined) return await asking
    const asked = this.#ask(key, ask)
    this.#asking.set(key, asked)
    try {
      return await asked
    } finally {
      if (this.#asking.get(key) === asked) this.#asking.delete(key)
    }
  }

  /** Drops one answer, or all: what was read before the change is not remembered after it. */
  forget (key?: string): void {
    this.#generation++
    if (key === undefined) {
      this.#entries.clear()
      this.#asking.clear()
    } else {
      this.#entries.delete(key)
      this.#asking.delete(key)
    }
  }

  /** Drops the answers that are wanted dropped. */
  forgetWhere (wanted: (value: V) => boolean): void {
    this.#generation++
    this.#asking.clear()
    const keys: string[] = []
    for (const [key, { value }] of this.#entries.entries()) if (wanted(value)) keys.push(key)
    for (const key of keys) this.#entries.delete(key)
  }

  async #ask (key: string, ask: () => Promise<V>): Promise<V> {
    const { leaseMs, staleMsMax, isUnknown, monotonicMs } = this.#options
    const generation = this.#generation
    const askedMs = monotonicMs()
    let value: V
    try {
      value = await ask()
    } catch (error) {
      return this.#staleOr(key, error)
    }
    if (generation === this.#generation) {
      const unknown = isUnknown(value)
      this.#entries.set(key, {
        value,
        // The lease counts from before the question: the answer is at least that old. The short one counts from the answer, or
        // a registry slower than that would never be believed.
        untilMs: unknown ? monotonicMs() + Math.min(leaseMs, unknownLeaseMsMax) : askedMs + leaseMs,
        staleUntilMs: unknown ? 0 : askedMs + leaseMs + staleMsMax
      })
    }
    return value
  }

  #staleOr (key: string, error: unknown): V {
    const entry = this.#entries.get(key)
    const nowMs = this.#options.monotonicMs()
    if (entry === undefined || this.#options.staleMsMax === 0 || nowMs >= entry.staleUntilMs) throw error
    if (!(error instanceof TwinfoldError) || error.code !== 'store_unavailable') throw error
    entry.untilMs = Math.min(nowMs + staleLeaseMs, entry.staleUntilMs)
    this.staleAnswers++
    return entry.value
  }
}
