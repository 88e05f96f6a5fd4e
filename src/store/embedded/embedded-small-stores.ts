/** Cursors, erasures and settings in `meta`; idempotency keys in windows of twelve hours, so that old ones go by directory. */
import { TwinfoldError } from '../../core/errors.js'
import type {
  CursorStore, ErasedPart, Erasure, ErasureStore, IdempotencyRecord, IdempotencyStore, SettingsStore
} from '../small-stores.js'
import { addErasure, joinErased, pageErasures, type ErasedScope } from '../erased-scope.js'
import type { Page } from '../registry.js'
import type { DatabasePool } from './database-pool.js'
import { idempotencyPath } from './filenames.js'
import { after, readTime, timeBytes, writeTime } from './key-bytes.js'
import type { KeeperOwner } from './keeper-owner.js'
import { KeyedLock } from '../../core/keyed-lock.js'
import { put, type Operation } from './level.js'
import type { Meta } from './meta.js'
import { metaKey, metaTables, textsOf } from './meta-keys.js'
import { dropDatabase, listIdempotencyWindows } from './raw-files.js'
import { idempotencyWindowStart, idempotencyWindowUs } from './windows.js'

function timeValue (value: number): Buffer {
  const bytes = Buffer.allocUnsafe(timeBytes)
  writeTime(bytes, 0, value)
  return bytes
}

/** A row of before parts could be erased is a stamp alone. */
function erasuresOf (value: Buffer | null): ErasedScope {
  if (value === null) return { stamp: 0, parts: [] }
  return { stamp: readTime(value, 0), parts: value.length > timeBytes ? JSON.parse(value.toString('utf8', timeBytes)) as ErasedPart[] : [] }
}

/** Clients choose the key, so any character may be in it. */
function idempotencyKey (tenant: string, key: string): Buffer {
  return metaKey(metaTables.idempotency, tenant, encodeURIComponent(key))
}

export class EmbeddedSmallStores implements CursorStore, ErasureStore, SettingsStore {
  readonly #meta: Meta
  readonly #locks = new KeyedLock()

  constructor (meta: Meta) {
    this.#meta = meta
  }

  async getCursor (journalId: string, consumer: string): Promise<number | null> {
    const value = await this.#meta.get(metaKey(metaTables.cursor, journalId, consumer))
    return value === null ? null : readTime(value, 0)
  }

  async putCursor (journalId: string, consumer: string, position: number, sync: boolean): Promise<void> {
    const operation = put(metaKey(metaTables.cursor, journalId, consumer), timeValue(position))
    // The lock keeps the order of the calls: a later position never stands under an earlier one.
    await this.#locks.run(`cursor ${journalId} ${consumer}`, async () => {
      await (sync ? this.#meta.writeSynced([operation]) : this.#meta.write([operation]))
    })
  }

  /** Of several erasures of one scope the greatest stamp is kept: it contains the others. */
  async putErasure (erasure: Erasure): Promise<void> {
    const key = metaKey(metaTables.erasure, erasure.tenant, erasure.device ?? '')
    await this.#locks.run(key.toString('latin1'), async () => {
      const stored = erasuresOf(await this.#meta.get(key))
      const next = addErasure(stored, erasure)
      if (next === stored) return
      const parts = next.parts.length === 0 ? '' : JSON.stringify(next.parts)
      await this.#meta.writeSynced([put(key, Buffer.concat([timeValue(next.stamp), Buffer.from(parts)]))])
    })
  }

  async erasedBefore (tenant: string, device: string): Promise<number> {
    const stamps = await Promise.all(['', device].map(async scope => await this.#meta.get(metaKey(metaTables.erasure, tenant, scope))))
    return Math.max(...stamps.map(value => value === null ? 0 : readTime(value, 0)))
  }

  async erasedParts (tenant: string, device: string): Promise<readonly ErasedPart[]> {
    const [whole, own] = await Promise.all(['', device].map(async scope => await this.#meta.get(metaKey(metaTables.erasure, tenant, scope))))
    return whole === null && own === null ? [] : joinErased(erasuresOf(whole), erasuresOf(own))
  }

  async listErasures (tenant: string, cursor: string | null, limit: number): Promise<Page<Erasure>> {
    const prefix = metaKey(metaTables.erasure, tenant)
    return await pageErasures(tenant, cursor, limit, async (from, visit) => {
      await this.#meta.scan({ gte: metaKey(metaTables.erasure, tenant, from), lt: after(prefix) }, ([key, value]) => visit(textsOf(key)[1], erasuresOf(value)))
    })
  }

  async getSetting (name: string): Promise<string | null> {
    const value = await this.#meta.get(metaKey(metaTables.setting, name))
    return value === null ? null : value.toString()
  }

  async putSetting (name: string, value: string): Promise<void> {
    await this.#meta.writeSynced([put(metaKey(metaTables.setting, name), Buffer.from(value))])
  }
}

export class EmbeddedIdempotency implements IdempotencyStore {
  readonly #directory: string
  readonly #pool: DatabasePool
  readonly #owner: KeeperOwner | null

  constructor (options: { directory: string, pool: DatabasePool, owner: KeeperOwner | null }) {
    this.#directory = options.directory
    this.#pool = options.pool
    this.#owner = options.owner
  }

  async putIdempotency (records: readonly IdempotencyRecord[]): Promise<void> {
    const batches = new Map<string, Operation[]>()
    for (const { tenant, key, fingerprint, stamp } of records) {
      const path = idempotencyPath(idempotencyWindowStart(stamp))
      let batch = batches.get(path)
      if (batch === undefined) batches.set(path, batch = [])
      batch.push(put(idempotencyKey(tenant, key), Buffer.concat([timeValue(stamp), Buffer.from(fingerprint)])))
    }
    for (const [path, operations] of batches) await this.#pool.write(path, operations)
  }

  /** The newest record of the key: one that had expired may have been used again. */
  async getIdempotency (tenant: string, key: string): Promise<IdempotencyRecord | null> {
    const row = idempotencyKey(tenant, key)
    for (const { path } of await listIdempotencyWindows(this.#directory)) {
      const value = await this.#pool.read(path, undefined, async database => await database.get(row) as Buffer | undefined)
      if (value !== undefined) return { tenant, key, fingerprint: value.toString('utf8', timeBytes), stamp: readTime(value, 0) }
    }
    return null
  }

  /** One node has the store to itself: what is under way is known to its memory and its journal. */
  async claimIdempotency (): Promise<null> {
    return null
  }

  /** @throws TwinfoldError `internal` in a store that is not the owner's. */
  async dropIdempotencyBefore (stamp: number): Promise<void> {
    const owner = this.#owner
    if (owner === null) throw new TwinfoldError('internal', 'only the store that owns the directory drops windows')
    for (const { path, start } of await listIdempotencyWindows(this.#directory)) {
      if (start + idempotencyWindowUs <= stamp) await owner.exclusively(path, async () => { await dropDatabase(this.#directory, path) })
    }
  }
}
