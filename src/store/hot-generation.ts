/**
 * The generation of the hot state, kept in the store and not in the cache: a packer that could not put newest values changes it
 * after their rows are written and before it reports the slice packed. Whatever was marked complete before is not from then on,
 * so a cache that was away while newer values were packed never answers older ones as the latest.
 */
import { TwinfoldError } from '../core/errors.js'
import type { SettingsStore } from './small-stores.js'

const setting = 'hot-generation'
/** Nodes' clocks differ by less than this, or the node is not ready (DESIGN 3.8). */
const attemptsMax = 20
const attemptPauseMs = 50

export async function readHotGeneration (settings: Pick<SettingsStore, 'getSetting'>): Promise<string> {
  return await settings.getSetting(setting) ?? '0'
}

/**
 * Returns when a generation is in force that no reader can have seen before the call. Another node's counts as well. A store
 * that orders writes by the clocks of the writers may hide ours for as long as another node's clock is ahead: it is repeated.
 * @param newGeneration never used before
 */
export async function changeHotGeneration (settings: SettingsStore, newGeneration: () => string): Promise<void> {
  const before = await readHotGeneration(settings)
  for (let attempt = 0; attempt < attemptsMax; attempt++) {
    if (attempt > 0) await new Promise(resolve => setTimeout(resolve, attemptPauseMs))
    await settings.putSetting(setting, newGeneration())
    if (await readHotGeneration(settings) !== before) return
  }
  throw new TwinfoldError('store_unavailable', 'the generation of the hot state could not be changed', { retryAfterMs: 1000 })
}

/** The generation, asked for at most every `leaseMs`: an answer may be that old, which is part of the 500 ms of INVARIANTS 2. */
export class HotGenerationLease {
  readonly #settings: Pick<SettingsStore, 'getSetting'>
  readonly #leaseMs: number
  readonly #monotonicMs: () => number
  #generation = ''
  #untilMs = -Infinity

  constructor (settings: Pick<SettingsStore, 'getSetting'>, options: { readonly leaseMs: number, readonly monotonicMs: () => number }) {
    this.#settings = settings
    this.#leaseMs = options.leaseMs
    this.#monotonicMs = options.monotonicMs
  }

  async read (): Promise<string> {
    const askedMs = this.#monotonicMs()
    if (askedMs < this.#untilMs) return this.#generation
    this.#generation = await readHotGeneration(this.#settings)
    this.#untilMs = askedMs + this.#leaseMs
    return this.#generation
  }
}
