/**
 * Idempotency-Key for telemetry (INVARIANTS 3): a request that is repeated with the same key and body within 24 hours gets
 * the first answer again, and its points are counted once, whichever node takes the repetition and whatever died meanwhile.
 *
 * Where a key is: it travels in the identity of its journal record, so it is as durable as the readings. Until the record
 * is packed the key is remembered here; packing writes it to the store, and `packedUpTo` lets go of it. Memory is bounded:
 * at the bound new keys are throttled, an unpacked key is never forgotten.
 *
 * Where several nodes share the store, a key is also reserved there, with the stamp that the request is to have, before
 * anything is appended. Who finds a reservation that is not known to be packed cannot know whether the reserver appended
 * its record, was killed before, or sits on it: it accepts the request again **under the reserved stamp**. Two records in two
 * journals then hold the same points under the same stamp, and the join drops one (docs/adr/0008). So keyed requests need
 * the store: while it is away they are answered 503, except where this node has the key itself.
 */
import { TwinfoldError } from '../../core/errors.js'
import { stampAheadUsMax, type Clock } from '../../core/clock.js'
import { idempotencyKeptMs } from '../../core/limits.js'
import { usPerMs } from '../../core/reading.js'
import type { Journal } from '../../journal/journal-types.js'
import type { IdempotencyRecord, IdempotencyStore } from '../../store/small-stores.js'

export interface IdempotencyOptions {
  readonly clock: Clock
  /** Gives the stamps that are reserved; without it nothing is reserved, and one node must have the store to itself. */
  readonly stamps?: Pick<Journal, 'takeStamps' | 'observeStamp'>
  /** Keys remembered until they are packed; one more is throttled. Default 50,000. */
  readonly keysMax?: number
  /** Requests that wait for the first of their key, over all keys; one more is throttled. Default 1,000. */
  readonly waitingMax?: number
  /** How long one of them waits before it is throttled. Default 30,000. */
  readonly waitMs?: number
  readonly keptMs?: number
}

/** The right to accept a request under a key. Exactly one of the two is called, once. */
export interface IdempotencyClaim {
  /** The record is acknowledged under that stamp (µs); `end` is the journal's `appendedEnd` behind it. */
  accepted(stamp: number, end: number): void
  /** Nothing was accepted: the key is free again on this node. A reservation stays, and is found by the next attempt. */
  abandoned(): void
}

export type ClaimOutcome =
  /** `stamp`: the record must be appended under it, flagged `reserved`; null: with a new one. */
  | { readonly kind: 'first', readonly stamp: number | null, readonly claim: IdempotencyClaim }
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
  /** Packed once the packer's cursor is there. */
  end: number
  waiting: (() => void)[] | null
}

const throttled: ClaimOutcome = { kind: 'throttled', retryAfterMs: 1000 }

export class IdempotencyKeys {
  readonly #store: IdempotencyStore
  readonly #options: IdempotencyOptions
  readonly #keysMax: number
  readonly #waitingMax: number
  readonly #waitMs: number
  readonly #keptUs: number
  readonly #entries = new Map<string, Entry>()
  /** Accepted entries in the order of their records; those before `#head` are done with. */
  #accepted: Entry[] = []
  #head = 0
  #packedEnd = 0
  #waiting = 0
  /** False once the store has said that nobody shares it. */
  #shared: boolean

  constructor (store: IdempotencyStore, options: IdempotencyOptions) {
    this.#store = store
    this.#options = options
    this.#keysMax = options.keysMax ?? 50_000
    this.#waitingMax = options.waitingMax ?? 1000
    this.#waitMs = options.waitMs ?? 30_000
    this.#keptUs = (options.keptMs ?? idempotencyKeptMs) * usPerMs
    this.#shared = options.stamps !== undefined
  }

  /** Keys in memory: running or accepted and not packed yet. */
  get size (): number { return this.#entries.size }
  get waiting (): number { return this.#waiting }

  /**
   * @param key with the credential's prefix. @param fingerprint of the body, `crc:length`.
   * @param readingsMax readings without `ts` in the body at most: that many stamps are reserved
   * Waits while another request with the key is under way. Rejects when the store does, with `store_unavailable`, and with
   * `not_ready` for a key that was reserved by a node whose clock was far ahead.
   */
  async claim (tenant: string, key: string, fingerprint: string, readingsMax = 1): Promise<ClaimOutcome> {
    const id = `${tenant}\0${key}`
    for (;;) {
      const entry = this.#entries.get(id)
      if (entry === undefined) return await this.#claimFirst({ tenant, key, fingerprint }, readingsMax)
      if (entry.fingerprint !== fingerprint) return { kind: 'mismatch' }
      if (entry.stamp !== null) return { kind: 'repeated', stamp: entry.stamp }
      if (this.#waiting >= this.#waitingMax || !await this.#settled(entry)) return throttled
    }
  }

  /** False when the request under way did not come to its end in time. */
  async #settled (entry: Entry): Promise<boolean> {
    this.#waiting++
    try {
      return await new Promise<boolean>(resolve => {
        const timer = setTimeout(() => { resolve(false) }, this.#waitMs)
        const wake = (): void => {
          clearTimeout(timer)
          resolve(true)
        };
        (entry.waiting ??= []).push(wake)
      })
    } finally {
      this.#waiting--
    }
  }

  async #claimFirst (asked: Omit<IdempotencyRecord, 'stamp'>, readingsMax: number): Promise<ClaimOutcome> {
    if (this.#entries.size >= this.#keysMax) return throttled
    // Entered before the store is asked, so that a duplicate that comes meanwhile waits.
    const entry: Entry = { id: `${asked.tenant}\0${asked.key}`, fingerprint: asked.fingerprint, stamp: null, end: 0, waiting: null }
    this.#entries.set(entry.id, entry)
    try {
      const outcome = await this.#look(asked) ?? await this.#reserve(asked, readingsMax)
      if (typeof outcome === 'object' && outcome !== null) {
        this.#drop(entry)
        return outcome
      }
      return { kind: 'first', stamp: outcome, claim: { accepted: (stamp, end) => { this.#accept(entry, stamp, end) }, abandoned: () => { this.#drop(entry) } } }
    } catch (error) {
      this.#drop(entry)
      throw error
    }
  }

  /** The answer where the key is packed; null where it is not, as far as the store knows. */
  async #look ({ tenant, key, fingerprint }: Omit<IdempotencyRecord, 'stamp'>): Promise<ClaimOutcome | null> {
    const stored = await this.#store.getIdempotency(tenant, key)
    if (stored === null || stored.stamp < this.#options.clock.nowUs() - this.#keptUs) return null
    return stored.fingerprint === fingerprint ? { kind: 'repeated', stamp: stored.stamp } : { kind: 'mismatch' }
  }

  /** The stamp to append with, null for a new one; or a mismatch. */
  async #reserve (asked: Omit<IdempotencyRecord, 'stamp'>, readingsMax: number): Promise<number | null | ClaimOutcome> {
    const { stamps, clock } = this.#options
    if (stamps === undefined || !this.#shared) return null
    const own = stamps.takeStamps(readingsMax)
    const holder = await this.#store.claimIdempotency({ ...asked, stamp: own })
    if (holder === null) {
      this.#shared = false
      return null
    }
    if (holder.fingerprint !== asked.fingerprint) return { kind: 'mismatch' }
    if (holder.stamp === own) return own
    const aheadUs = holder.stamp - clock.nowUs()
    if (aheadUs > stampAheadUsMax) {
      throw new TwinfoldError('not_ready', `this Idempotency-Key was reserved by a node whose stamps ran ${Math.ceil(aheadUs / 1e6)} s ahead; nothing was accepted here`, { retryAfterMs: Math.ceil((aheadUs - stampAheadUsMax) / 1000) })
    }
    // What this journal accepts from now on must not share a stamp with the readings of this request.
    stamps.observeStamp(holder.stamp + readingsMax - 1)
    return holder.stamp
  }

  #accept (entry: Entry, stamp: number, end: number): void {
    entry.stamp = stamp
    entry.end = end
    if (end <= this.#packedEnd) this.#entries.delete(entry.id)
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

  /** Every record that ends at or before the position is packed: its key is in the store now. */
  packedUpTo (position: number): void {
    if (position <= this.#packedEnd) return
    this.#packedEnd = position
    while (this.#head < this.#accepted.length && this.#accepted[this.#head].end <= position) {
      this.#entries.delete(this.#accepted[this.#head++].id)
    }
    if (this.#head > 1024 && this.#head * 2 > this.#accepted.length) {
      this.#accepted = this.#accepted.slice(this.#head)
      this.#head = 0
    }
  }

  /**
   * At start: the keys of journal records that are not packed yet, all of them before the position `end`. They are kept
   * whatever `keysMax` says, because an unpacked key is never forgotten.
   */
  recover (records: Iterable<IdempotencyRecord>, end: number): void {
    for (const { tenant, key, fingerprint, stamp } of records) {
      const id = `${tenant}\0${key}`
      if (this.#entries.has(id)) continue
      const entry: Entry = { id, fingerprint, stamp, end, waiting: null }
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

/**
 * Readings in a body at most, whatever its format: every reading after the first begins with `{` (JSON) or with a byte of
 * CBOR's major type 5, and no byte of either is left out. Costs about a nanosecond a byte, for requests with a key alone.
 */
export function readingsAtMost (body: Uint8Array): number {
  let count = 1
  for (let i = 0; i < body.length; i++) {
    const byte = body[i]
    if (byte === 0x7b || (byte >= 0xa0 && byte <= 0xbf)) count++
  }
  return count
}
