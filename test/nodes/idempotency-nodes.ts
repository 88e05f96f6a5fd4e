/**
 * Several nodes' IdempotencyKeys over one store, with journals of their own in memory: what the drills need to crash a node at
 * any step of a keyed request, and to see at the end which points were stored.
 */
import type { Clock } from '../../src/core/clock.js'
import { StampClock } from '../../src/core/clock.js'
import { IdempotencyKeys } from '../../src/edge/http/idempotency-keys.js'
import type { IdempotencyRecord, IdempotencyStore } from '../../src/store/small-stores.js'

/** The store's part in memory, with the contract of its port; every call takes a turn. */
export class SharedIdempotency implements IdempotencyStore {
  readonly packed = new Map<string, IdempotencyRecord>()
  readonly reserved = new Map<string, IdempotencyRecord>()
  fault: Error | null = null

  async #turn (): Promise<void> {
    await new Promise(resolve => { setImmediate(resolve) })
    if (this.fault !== null) throw this.fault
  }

  async putIdempotency (records: readonly IdempotencyRecord[]): Promise<void> {
    await this.#turn()
    for (const record of records) this.packed.set(`${record.tenant}\0${record.key}`, record)
  }

  async getIdempotency (tenant: string, key: string): Promise<IdempotencyRecord | null> {
    await this.#turn()
    return this.packed.get(`${tenant}\0${key}`) ?? null
  }

  async dropIdempotencyBefore (): Promise<void> {}

  async claimIdempotency (record: IdempotencyRecord): Promise<IdempotencyRecord> {
    await this.#turn()
    const id = `${record.tenant}\0${record.key}`
    const holder = this.reserved.get(id)
    if (holder !== undefined) return holder
    this.reserved.set(id, record)
    // The answer takes its time: others find the reservation first.
    await this.#turn()
    return record
  }
}

export type Step = 'reserved' | 'appended' | 'durable' | 'acknowledged'

/** A node that dies and comes back on its journal. */
export class KeyedNode {
  readonly #store: IdempotencyStore
  readonly #clock: Clock
  #stamps: StampClock
  keys: IdempotencyKeys
  /** Durable records, the unpacked ones from `packedCount` on. */
  readonly journal: IdempotencyRecord[] = []
  packedCount = 0

  constructor (store: IdempotencyStore, clock: Clock) {
    this.#store = store
    this.#clock = clock
    this.#stamps = new StampClock(clock, 0)
    this.keys = this.#newKeys()
  }

  #newKeys (): IdempotencyKeys {
    return new IdempotencyKeys(this.#store, { clock: this.#clock, waitMs: 50, stamps: { takeStamps: count => this.#stamps.take(count), observeStamp: stamp => { this.#stamps.observe(stamp) } } })
  }

  /** Sends a keyed request; the node dies behind the step that is named. The stamp that was answered, or what else was. */
  async request (key: string, diesAfter: Step | null, fingerprint = 'f'): Promise<number | 'died' | 'mismatch' | 'throttled'> {
    const { keys } = this
    const outcome = await keys.claim('acme', key, fingerprint, 3)
    if (keys !== this.keys) return 'died'
    if (outcome.kind === 'repeated') return outcome.stamp
    if (outcome.kind !== 'first') return outcome.kind
    if (diesAfter === 'reserved') return this.#die()
    const stamp = outcome.stamp ?? this.#stamps.take(1)
    const end = this.journal.length + 1
    if (diesAfter === 'appended') return this.#die()
    this.journal.push({ tenant: 'acme', key, fingerprint, stamp })
    if (diesAfter === 'durable') return this.#die()
    outcome.claim.accepted(stamp, end)
    if (diesAfter === 'acknowledged') return this.#die()
    return stamp
  }

  #die (): 'died' {
    this.restart()
    return 'died'
  }

  /** What was not durable is gone; what is not packed is recovered. */
  restart (): void {
    this.#stamps = new StampClock(this.#clock, Math.max(0, ...this.journal.map(({ stamp }) => stamp)))
    this.keys = this.#newKeys()
    this.keys.recover(this.journal.slice(this.packedCount), this.journal.length)
  }

  /** Packs up to so many records. */
  async pack (count: number): Promise<void> {
    const { keys } = this
    const records = this.journal.slice(this.packedCount, this.packedCount + count)
    await this.#store.putIdempotency(records)
    this.packedCount += records.length
    if (keys === this.keys) keys.packedUpTo(this.packedCount)
  }
}
