/**
 * Idempotency-Key for telemetry (INVARIANTS 3): a request that is repeated with the same key and body within 24 hours gets
 * the first answer again, and the journal is not touched.
 *
 * Where a key is: it travels in the identity of its journal record, so it is as durable as the readings. Until the record
 * is packed the key is remembered here; packing writes it to the store, and `packedUpTo` lets go of it. Memory is bounded:
 * at the bound new keys are throttled, an unpacked key is never forgotten.
 */
import { TwinfoldError } from '../../core/errors.js'
import type { Clock } from '../../core/clock.js'
import { idempotencyKeptMs } from '../../core/limits.js'
import { usPerMs } from '../../core/reading.js'
import type { IdempotencyRecord, IdempotencyStore } from '../../store/small-stores.js'

export interface IdempotencyOptions {
  readonly clock: Clock
  /** Keys remembered until they are packed; one more is throttled. Default 50,000. */
  readonly keysMax?: number
  /** Requests that wait for the first of their key, over all keys; one more is throttled. Default 1,000. */
  readonly waitingMax?: number
  readonly keptMs?: number
}

/** The right to accept a request under a key. Exactly one of the two is called, once. */
export interface IdempotencyClaim {
  /** The record is durable under that stamp (µs). */
  accepted(stamp: number): void
  /** Nothing was accepted: the key is free again. */
  abandoned(): void
}

export type ClaimOutcome =
  | { readonly kind: 'first', readonly claim: IdempotencyClaim }
  /** Answer as the first time: it was accepted with that stamp. */
  | { readonly kind: 'repeated', readonly stamp: number }
  /** The key was used with another body. */
  | { readonly kind: 'mismatch' }
  | { readonly kind: 'throttled', readonly retryAfterMs: number }

interface Entry {
  readonly id: string
  readonly fingerprint: string
  /** null while the first request is under way. */
  stamp: number | null
  waiting: (() => void)[] | null
}

const throttled: ClaimOutcome = { kind: 'throttled', retryAfterMs: 1000 }

export class IdempotencyKeys {
  readonly #store: IdempotencyStore
  readonly #clock: Clock
  readonly #keysMax: number
  readonly #waitingMax: number
  readonly #keptUs: number
  readonly #entries = new Map<string, Entry>()
  /** Accepted entries in the order of their stamps; those before `#head` are done with. */
  #accepted: Entry[] = []
  #head = 0
  #packedStamp = 0
  #waiting = 0

  constructor (store: IdempotencyStore, options: IdempotencyOptions) {
    this.#store = store
    this.#clock = options.clock
    this.#keysMax = options.keysMax ?? 50_000
    this.#waitingMax = options.waitingMax ?? 1000
    this.#keptUs = (options.keptMs ?? idempotencyKeptMs) * usPerMs
  }

  /** Keys in memory: running or accepted and not packed yet. */
  get size (): number { return this.#entries.size }
  get waiting (): number { return this.#waiting }

  /**
   * @param key with the credential's prefix. @param fingerprint of the body, `crc:length`.
   * Waits while another request with the key is under way. Rejects only when the store does.
   */
  async claim (tenant: string, key: string, fingerprint: string): Promise<ClaimOutcome> {
    const id = `${tenant}\0${key}`
    for (;;) {
      const entry = this.#entries.get(id)
      if (entry === undefined) return await this.#claimFirst(id, tenant, key, fingerprint)
      if (entry.fingerprint !== fingerprint) return { kind: 'mismatch' }
      if (entry.stamp !== null) return { kind: 'repeated', stamp: entry.stamp }
      if (this.#waiting >= this.#waitingMax) return throttled
      this.#waiting++
      await new Promise<void>(resolve => { (entry.waiting ??= []).push(resolve) })
      this.#waiting--
    }
  }

  async #claimFirst (id: string, tenant: string, key: string, fingerprint: string): Promise<ClaimOutcome> {
    if (this.#entries.size >= this.#keysMax) return throttled
    // Entered before the store is asked, so that a duplicate that comes meanwhile waits.
    const entry: Entry = { id, fingerprint, stamp: null, waiting: null }
    this.#entries.set(id, entry)
    let stored: IdempotencyRecord | null
    try {
      stored = await this.#store.getIdempotency(tenant, key)
    } catch (error) {
      this.#drop(entry)
      throw error
    }
    if (stored !== null && stored.stamp >= this.#clock.nowUs() - this.#keptUs) {
      this.#drop(entry)
      return stored.fingerprint === fingerprint ? { kind: 'repeated', stamp: stored.stamp } : { kind: 'mismatch' }
    }
    return { kind: 'first', claim: { accepted: stamp => { this.#accept(entry, stamp) }, abandoned: () => { this.#drop(entry) } } }
  }

  #accept (entry: Entry, stamp: number): void {
    entry.stamp = stamp
    if (stamp <= this.#packedStamp) this.#entries.delete(entry.id)
    else this.#accepted.push(entry)
    this.#wake(entry)
  }

  #drop (entry: Entry): void {
    this.#entries.delete(entry.id)
    this.#wake(entry)
  }

  #wake (entry: Entry): void {
    const { waiting } = entry
    entry.waiting = null
    if (waiting !== null) for (const wake of waiting) wake()
  }

  /** Every record with a stamp up to this one is packed: its key is in the store now. */
  packedUpTo (stamp: number): void {
    if (stamp <= this.#packedStamp) return
    this.#packedStamp = stamp
    while (this.#head < this.#accepted.length && this.#accepted[this.#head].stamp as number <= stamp) {
      this.#entries.delete(this.#accepted[this.#head++].id)
    }
    if (this.#head > 1024 && this.#head * 2 > this.#accepted.length) {
      this.#accepted = this.#accepted.slice(this.#head)
      this.#head = 0
    }
  }

  /**
   * At start: the keys of journal records that are not packed yet, in the order of their stamps. They are kept whatever
   * `keysMax` says, because an unpacked key is never forgotten.
   */
  recover (records: Iterable<IdempotencyRecord>): void {
    for (const { tenant, key, fingerprint, stamp } of records) {
      const id = `${tenant}\0${key}`
      if (this.#entries.has(id)) continue
      const entry: Entry = { id, fingerprint, stamp, waiting: null }
      this.#entries.set(id, entry)
      this.#accepted.push(entry)
    }
  }
}

const visibleAscii = /^[\x21-\x7e]{1,128}$/

/** The header's value. @throws TwinfoldError `invalid_field` when it is not 1 to 128 visible ASCII characters. */
export function parseIdempotencyKey (header: string | string[]): string {
  if (typeof header !== 'string' || !visibleAscii.test(header)) {
    throw new TwinfoldError('invalid_field', 'Idempotency-Key must be 1 to 128 visible ASCII characters', { field: 'Idempotency-Key' })
  }
  return header
}
