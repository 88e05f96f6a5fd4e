/**
 * Claims of the one process that owns the store. Who had a claim last and its epoch are kept on stable storage; until when it is held
 * is not: an owner of an earlier process is gone with it. So a renewal costs nothing.
 */
import type { Clock } from '../../core/clock.js'
import { TwinfoldError } from '../../core/errors.js'
import { KeyedLock } from '../../core/keyed-lock.js'
import { usPerMs } from '../../core/reading.js'
import type { ClaimStore } from '../claim-store.js'
import { put } from './level.js'
import type { Meta } from './meta.js'
import { jsonValue, metaKey, metaTables, parseJson } from './meta-keys.js'

/** `owner` '': given back. */
interface StoredClaim { readonly owner: string, readonly epoch: number }

interface HeldClaim extends StoredClaim { untilUs: number }

export class EmbeddedClaims implements ClaimStore {
  readonly #meta: Meta
  readonly #clock: Clock
  readonly #writes: boolean
  readonly #locks = new KeyedLock()
  /** By name: as many as there are names of claims. */
  readonly #held = new Map<string, HeldClaim>()

  /** @param options.writes false in a store beside the owner's, which holds no claims. */
  constructor (meta: Meta, options: { clock: Clock, writes: boolean }) {
    this.#meta = meta
    this.#clock = options.clock
    this.#writes = options.writes
  }

  /** @throws TwinfoldError `internal` in a store that is not the owner's. */
  async takeClaim (name: string, owner: string, leaseMs: number): Promise<{ readonly epoch: number } | null> {
    this.#assertWriter()
    return await this.#locks.run(name, async () => {
      const nowUs = this.#clock.nowUs()
      const held = this.#held.get(name)
      const untilUs = nowUs + leaseMs * usPerMs
      if (held !== undefined && held.owner === owner) {
        held.untilUs = untilUs
        return { epoch: held.epoch }
      }
      if (held !== undefined && held.owner !== '' && held.untilUs > nowUs) return null
      const key = metaKey(metaTables.claim, name)
      const value = await this.#meta.get(key)
      const stored: StoredClaim = value === null ? { owner: '', epoch: 0 } : parseJson(value)
      const epoch = stored.owner === owner ? stored.epoch : stored.epoch + 1
      if (stored.owner !== owner) await this.#meta.writeSynced([put(key, jsonValue({ owner, epoch } satisfies StoredClaim))])
      this.#held.set(name, { owner, epoch, untilUs })
      return { epoch }
    })
  }

  /** @throws TwinfoldError `internal` in a store that is not the owner's. */
  async releaseClaim (name: string, owner: string): Promise<void> {
    this.#assertWriter()
    await this.#locks.run(name, async () => {
      const held = this.#held.get(name)
      if (held?.owner !== owner) return
      await this.#meta.writeSynced([put(metaKey(metaTables.claim, name), jsonValue({ owner: '', epoch: held.epoch } satisfies StoredClaim))])
      this.#held.delete(name)
    })
  }

  #assertWriter (): void {
    if (!this.#writes) throw new TwinfoldError('internal', 'only the store that owns the directory holds claims')
  }
}
