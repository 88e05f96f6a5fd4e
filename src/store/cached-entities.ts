/**
 * Entities by way of their hot copies (INVARIANTS 5): the version is asked of the record and the copy of Redis side by side, and the copy
 * counts where the versions agree; else the record is read, and the copy put right. So a reader never sees less than was acknowledged,
 * whatever Redis lost or brought back.
 *
 * Bounded: a copy that does not come within `copyWaitMs` of the version is not waited for; `puttingMax` copies are on their way to Redis,
 * and what is beyond is not put.
 */
import { TwinfoldError } from '../core/errors.js'
import type { Entity, EntityKey, EntityStore } from './entity-store.js'
import type { EntityCopies } from './twin-cache.js'

export interface ReadEntity {
  readonly entity: Entity
  /** false: the record could not be asked; it may be newer. */
  readonly verified: boolean
}

const copyWaitMs = 25
const puttingMax = 1000

export class CachedEntityReader implements Pick<EntityStore, 'getEntity'> {
  readonly #store: Pick<EntityStore, 'getEntity' | 'getEntityVersion'>
  readonly #copies: EntityCopies | null
  #putting = 0
  readonly stats = { hits: 0, misses: 0, unverified: 0, putsLeftOut: 0 }

  /** @param options.copies null: the record is as near (embedded). */
  constructor (options: { readonly store: Pick<EntityStore, 'getEntity' | 'getEntityVersion'>, readonly copies: EntityCopies | null }) {
    this.#store = options.store
    this.#copies = options.copies
  }

  /** @throws TwinfoldError `store_unavailable` */
  async getEntity (key: EntityKey): Promise<Entity> {
    return (await this.read(key)).entity
  }

  /**
   * @param options.acceptUnverified while the record cannot be asked the copy will do, where there is one
   * @throws TwinfoldError `store_unavailable`
   */
  async read (key: EntityKey, options: { readonly acceptUnverified: boolean } = { acceptUnverified: false }): Promise<ReadEntity> {
    if (this.#copies === null) return { entity: await this.#store.getEntity(key), verified: true }
    const copying = this.#copies.get([key]).then(([copy]) => copy, () => null)
    let version: number
    try {
      version = await this.#store.getEntityVersion(key)
    } catch (error) {
      if (!options.acceptUnverified || !(error instanceof TwinfoldError) || error.code !== 'store_unavailable') throw error
      const copy = await copying
      if (copy === null) throw error
      this.stats.unverified++
      return { entity: copy, verified: false }
    }
    const copy = await withinMs(copying, copyWaitMs)
    if (copy?.version === version) {
      this.stats.hits++
      return { entity: copy, verified: true }
    }
    this.stats.misses++
    const entity = await this.#store.getEntity(key)
    this.noteCommitted(key, entity)
    return { entity, verified: true }
  }

  /** What was committed, or read from the record, goes into the copy; nothing waits for that. */
  noteCommitted (key: EntityKey, entity: Entity): void {
    if (this.#copies === null || entity.version === 0) return
    if (this.#putting >= puttingMax) {
      this.stats.putsLeftOut++
      return
    }
    this.#putting++
    this.#copies.put(key, entity).catch(() => { /* The next reader finds the copy missing or older. */ }).finally(() => { this.#putting-- })
  }
}

/** null where it takes longer. The promise must not reject. */
async function withinMs<T> (promise: Promise<T>, ms: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<null>(resolve => { timer = setTimeout(() => { resolve(null) }, ms) })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
