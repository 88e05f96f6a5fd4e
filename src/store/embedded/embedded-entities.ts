/** Entities in the database `entities`: reads go to LevelDB, every change through the one writer (entity-writer.ts). */
import { TwinfoldError } from '../../core/errors.js'
import type { Entity, EntityCommit, EntityEvent, EntityItem, EntityKey, EntityKind, EntitySnapshot, EntityStore } from '../entity-store.js'
import type { DatabasePool } from './database-pool.js'
import { decodeEvent, decodeHead, decodeItem, decodeSnapshot, encodeSnapshot, entityTables, headKey, headRange, itemKey, itemRange, keyOfHead, stampOf, versionKey, versionOfHead } from './entity-keys.js'
import type { EntityWriter } from './entity-writer.js'
import { entitiesName } from './filenames.js'
import { put, type Database } from './level.js'
import { readRows, scanRows } from './scan.js'

const noEntity: Entity = { version: 0, state: null, writer: '', writerFrom: 0 }
const versionMax = Number.MAX_SAFE_INTEGER

export class EmbeddedEntities implements EntityStore {
  readonly #pool: DatabasePool
  readonly #writer: EntityWriter | null

  /** @param writer null in a store beside the owner's, which reads only. */
  constructor (pool: DatabasePool, writer: EntityWriter | null) {
    this.#pool = pool
    this.#writer = writer
  }

  async getEntity (key: EntityKey): Promise<Entity> {
    const value = await this.#get(headKey(key))
    return value === null ? noEntity : decodeHead(value)
  }

  async getEntityVersion (key: EntityKey): Promise<number> {
    const value = await this.#get(headKey(key))
    return value === null ? 0 : versionOfHead(value)
  }

  /** @throws TwinfoldError `internal` in a store that is not the owner's. */
  async commitEntities (commits: readonly EntityCommit[], _sync: boolean): Promise<readonly boolean[]> {
    return await this.#assertWriter().write(commits, [])
  }

  async readEntityEvents (key: EntityKey, from: number, to: number, limit: number): Promise<readonly EntityEvent[]> {
    if (to < from || limit <= 0) return []
    const gte = versionKey(entityTables.event, key, Math.max(0, from))
    const lte = versionKey(entityTables.event, key, Math.min(versionMax, to))
    return await this.#read([], async database => (await readRows(database, { gte, lte, limit })).map(([at, value]) => decodeEvent(at, value)))
  }

  async readEntityItems (key: EntityKey, prefix: string, after: string, limit: number): Promise<readonly EntityItem[]> {
    if (limit <= 0) return []
    const { gte, lt } = itemRange(key, prefix)
    const gt = itemKey(key, after)
    const idAt = headKey(key).length
    const range = Buffer.compare(gt, gte) < 0 ? { gte, lt, limit } : { gt, lt, limit }
    return await this.#read([], async database => (await readRows(database, range)).map(([at, value]) => decodeItem(at, idAt, value)))
  }

  async getEntityItem (key: EntityKey, id: string): Promise<EntityItem | null> {
    const value = await this.#get(itemKey(key, id))
    return value === null ? null : { id, body: value.toString() }
  }

  async putEntitySnapshot (key: EntityKey, snapshot: EntitySnapshot): Promise<void> {
    this.#assertWriter()
    await this.#pool.write(entitiesName, [put(versionKey(entityTables.snapshot, key, snapshot.version), encodeSnapshot(snapshot))], true)
  }

  async findEntitySnapshot (key: EntityKey, at: { readonly version: number } | { readonly stamp: number }): Promise<EntitySnapshot | null> {
    const gte = versionKey(entityTables.snapshot, key, 0)
    const lte = versionKey(entityTables.snapshot, key, 'version' in at ? Math.min(versionMax, Math.max(0, at.version)) : versionMax)
    return await this.#read(null, async database => {
      for await (const rows of scanRows(database, { gte, lte, reverse: true })) {
        for (const [name, value] of rows) if ('version' in at || stampOf(value) <= at.stamp) return decodeSnapshot(name, value)
      }
      return null
    })
  }

  async dropEntityHistory (key: EntityKey, belowVersion: number): Promise<void> {
    this.#assertWriter()
    if (belowVersion <= 0) return
    await this.#read(undefined, async database => {
      for (const table of [entityTables.event, entityTables.snapshot] as const) {
        await database.clear({ gte: versionKey(table, key, 0), lt: versionKey(table, key, Math.min(versionMax, belowVersion)) })
      }
    })
  }

  async * scanEntities (kind: EntityKind, tenant: string | null): AsyncGenerator<{ readonly key: EntityKey, readonly entity: Entity }, void> {
    const use = this.#pool.useNow(entitiesName) ?? await this.#pool.use(entitiesName, false)
    if (use === null) return
    try {
      for await (const rows of scanRows(use.database, headRange(kind, tenant))) {
        for (const [key, value] of rows) yield { key: keyOfHead(kind, key), entity: decodeHead(value) }
      }
    } finally {
      use.release()
    }
  }

  async #get (key: Buffer): Promise<Buffer | null> {
    return await this.#read(null, async database => await database.get(key) as Buffer | undefined ?? null)
  }

  async #read<T> (absent: T, action: (database: Database) => Promise<T>): Promise<T> {
    return await this.#pool.read(entitiesName, absent, action)
  }

  #assertWriter (): EntityWriter {
    if (this.#writer === null) throw new TwinfoldError('internal', 'only the store that owns the directory changes entities')
    return this.#writer
  }
}
