/**
 * Entities by way of their hot copies (INVARIANTS 5): the version is asked of the record and the copy of Redis side by side, and the copy
 * counts where the versions agree; else the record is read, and the copy put right. So a reader never sees less than was acknowledged,
 * whatever Redis lost or brought back.
 *
 * What is asked in one turn is asked together. Copies are put together, too: while some are on their way the next gather, of each entity the
 * newest, so a twin that changes a hundred times a second is not put a hundred times.
 *
 * Bounded: a copy that does not come within `copyWaitMs` of the version is not waited for; `gatheredMax` copies wait to be put,
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
const gatheredMax = 1000
/** Copies in one go: of states of 100 KiB, too, Redis is not held up for long. */
const putAtOnceMax = 100
const askedAtOnceMax = 200

export class CachedEntityReader implements Pick<EntityStore, 'getEntity'> {
  readonly #store: Pick<EntityStore, 'getEntity' | 'getEntityVersion'>
  readonly #copies: EntityCopies | null
  /** To be put, by entity. */
  readonly #gathered = new Map<string, { readonly key: EntityKey, readonly entity: Entity }>()
  #putting = false
  #asked: { readonly key: EntityKey, readonly found: (copy: Entity | null) => void }[] = []
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
    const copying = this.#copyOf(key)
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
    const name = `${key.kind}\0${key.tenant}\0${key.device}\0${key.name}`
    const before = this.#gathered.get(name)
    if (before !== undefined && before.entity.version >= entity.version) return
    if (before === undefined && this.#gathered.size >= gatheredMax) {
      this.stats.putsLeftOut++
      return
    }
    this.#gathered.set(name, { key, entity })
    if (!this.#putting) void this.#putGathered(this.#copies)
  }

  async #putGathered (copies: EntityCopies): Promise<void> {
    this.#putting = true
    // What is committed in the same turn is put together.
    await null
    while (this.#gathered.size > 0) {
      const some: { readonly key: EntityKey, readonly entity: Entity }[] = []
      for (const [name, copy] of this.#gathered) {
        this.#gathered.delete(name)
        if (some.push(copy) === putAtOnceMax) break
      }
      await copies.putAll(some).catch(() => { /* The next reader finds the copy missing or older. */ })
    }
    this.#putting = false
  }

  /** null where there is none, or Redis does not answer. */
  async #copyOf (key: EntityKey): Promise<Entity | null> {
    return await new Promise(resolve => {
      if (this.#asked.push({ key, found: resolve }) === 1) queueMicrotask(() => { this.#ask() })
    })
  }

  #ask (): void {
    const asked = this.#asked
    this.#asked = []
    for (let from = 0; from < asked.length; from += askedAtOnceMax) {
      const some = asked.slice(from, from + askedAtOnceMax)
      const none = (): void => { for (const { found } of some) found(null) }
      this.#copies?.get(some.map(({ key }) => key)).then(copies => { some.forEach(({ found }, i) => { found(copies[i] ?? null) }) }, none)
    }
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
