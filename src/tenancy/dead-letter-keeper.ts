/**
 * Keeps each tenant's dead letters within their bounds (INVARIANTS 8) and counts what was refused (INVARIANTS 9). Workers
 * write letters by themselves and report how many. A trim reads a row a letter, so it is done for an eighth of the bound at
 * a time: down to seven eighths, then not before the last eighth may be full again.
 */
import { deadLetterBytesPerTenantMax, deadLetterPayloadBytesMax, deadLettersPerTenantMax } from '../core/limits.js'
import type { Log } from '../core/log.js'
import type { DeadLetter, DeadLetterReason, DeadLetterStore } from '../store/dead-letter-store.js'

export interface DeadLetterLimits {
  /** Letters of a tenant; between two trims what `trimEveryMs` brings may stand above it. */
  readonly countMax: number
  /** Payload bytes of them. */
  readonly bytesMax: number
  /** Tenants that are counted by name; refusals of further ones are counted under the tenant ''. */
  readonly tenantsMax: number
}

export const deadLetterLimitsDefault: DeadLetterLimits = { countMax: deadLettersPerTenantMax, bytesMax: deadLetterBytesPerTenantMax, tenantsMax: 1000 }

export interface DeadLetterKeeperOptions {
  /** Those not named have the default. */
  readonly limits?: Partial<DeadLetterLimits>
  readonly log: Log
  /** How often tenants are looked at that may have reached a bound: also the least time between two trims of one. Default 1000. */
  readonly trimEveryMs?: number
  /** Told of everything that is counted as refused, for events about it; must not throw. */
  readonly noted?: (tenant: string, reason: DeadLetterReason | undefined, count: number) => void
}

/** What may have come since a tenant's last trim. */
interface Gathered {
  count: number
  bytes: number
}

const trimEveryMsDefault = 1000
/** What a trim leaves free, as a part of the bound. */
const slack = 1 / 8

export class DeadLetterKeeper {
  readonly #store: DeadLetterStore
  readonly #limits: DeadLetterLimits
  readonly #log: Log
  readonly #trimEveryMs: number
  readonly #noted: DeadLetterKeeperOptions['noted']
  readonly #gathered = new Map<string, Gathered>()
  readonly #refused = new Map<string, Map<DeadLetterReason, number>>()
  #timer: NodeJS.Timeout | null = null
  #trimming: Promise<void> | null = null
  #closed = false
  readonly stats = {
    /** Letters written through `add`. */
    added: 0,
    /** Letters that workers reported. */
    noted: 0,
    trims: 0,
    trimmed: 0,
    trimsFailed: 0,
    /** Refusals by reason, where the reason was told. */
    refused: new Map<DeadLetterReason, number>()
  }

  constructor (store: DeadLetterStore, options: DeadLetterKeeperOptions) {
    this.#store = store
    this.#limits = { ...deadLetterLimitsDefault, ...options.limits }
    this.#log = options.log
    this.#trimEveryMs = options.trimEveryMs ?? trimEveryMsDefault
    this.#noted = options.noted
  }

  /** Looks at every tenant that has letters, since nothing is known of what an earlier process left; then now and then. */
  async start (): Promise<void> {
    for (const tenant of await this.#store.deadLetterTenants()) this.#gather(tenant, Infinity, 0)
    this.#timer = setInterval(() => { void this.trim() }, this.#trimEveryMs).unref()
  }

  /** Stores letters, which counts them as refused. Rejects when the store does; nothing is counted then. */
  async add (letters: readonly DeadLetter[]): Promise<void> {
    if (letters.length === 0) return
    await this.#store.putDeadLetters(letters)
    this.stats.added += letters.length
    for (const { tenant, reason, payload } of letters) {
      this.#gather(tenant, 1, payload.length)
      this.#count(tenant, reason, 1)
      this.#noted?.(tenant, reason, 1)
    }
  }

  /**
   * A worker has refused that many parts of messages and written letters for them, or for the first of them.
   * @param bytes payload bytes written, where known; else each is taken for the largest.
   */
  noteAdded (tenant: string, count: number, reason?: DeadLetterReason, bytes = count * deadLetterPayloadBytesMax): void {
    this.stats.noted += count
    this.#gather(tenant, count, bytes)
    if (reason !== undefined) this.#count(tenant, reason, count)
    this.#noted?.(tenant, reason, count)
  }

  /** Refusals by tenant and reason since the start; at most `tenantsMax` tenants and one more, named ''. */
  * refusals (): Generator<{ readonly tenant: string, readonly reason: DeadLetterReason, readonly count: number }> {
    for (const [tenant, reasons] of this.#refused) {
      for (const [reason, count] of reasons) yield { tenant, reason, count }
    }
  }

  /** Trims the tenants that may have reached a bound, one after the other. Never rejects: a failure is logged and tried again. */
  async trim (): Promise<void> {
    this.#trimming ??= this.#trimDue().finally(() => { this.#trimming = null })
    await this.#trimming
  }

  /** Stops looking; a trim under way is finished. */
  async close (): Promise<void> {
    this.#closed = true
    if (this.#timer !== null) clearInterval(this.#timer)
    await this.#trimming
  }

  async #trimDue (): Promise<void> {
    const { countMax, bytesMax } = this.#limits
    for (const [tenant, gathered] of [...this.#gathered]) {
      if (this.#closed) return
      if (gathered.count < countMax * slack && gathered.bytes < bytesMax * slack) continue
      // What comes while this tenant is trimmed counts towards its next trim.
      this.#gathered.delete(tenant)
      try {
        const removed = await this.#store.trimDeadLetters(tenant, Math.floor(countMax * (1 - slack)), Math.floor(bytesMax * (1 - slack)))
        this.stats.trims++
        this.stats.trimmed += removed
        if (removed > 0) this.#log.debug({ tenant, removed }, 'the oldest dead letters were removed')
      } catch (error) {
        this.stats.trimsFailed++
        this.#gather(tenant, gathered.count, gathered.bytes)
        this.#log.warn({ tenant, error: (error as Error).message }, 'dead letters could not be trimmed')
      }
    }
  }

  #gather (tenant: string, count: number, bytes: number): void {
    const gathered = this.#gathered.get(tenant)
    if (gathered !== undefined) {
      gathered.count += count
      gathered.bytes += bytes
      return
    }
    if (this.#gathered.size >= this.#limits.tenantsMax) this.#makeOldestDue()
    this.#gathered.set(tenant, { count, bytes })
  }

  /** Bounds the map: the tenant that has been in it longest is trimmed next, and leaves it. */
  #makeOldestDue (): void {
    for (const gathered of this.#gathered.values()) {
      if (gathered.count === Infinity) continue
      gathered.count = Infinity
      return
    }
  }

  #count (tenant: string, reason: DeadLetterReason, count: number): void {
    this.stats.refused.set(reason, (this.stats.refused.get(reason) ?? 0) + count)
    const named = this.#refused.has(tenant) || this.#refused.size < this.#limits.tenantsMax ? tenant : ''
    let reasons = this.#refused.get(named)
    if (reasons === undefined) {
      reasons = new Map()
      this.#refused.set(named, reasons)
    }
    reasons.set(reason, (reasons.get(reason) ?? 0) + count)
  }
}
