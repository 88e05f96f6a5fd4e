/**
 * The `meta` database as its tables see it: point reads, plain writes, writes on stable storage, and pages.
 *
 * Reads are synchronous in worker threads: the database is small, its blocks are in memory, and a look-up there costs a tenth
 * of a trip through the thread pool. The main thread takes the trip, so that a slow disk cannot stop it.
 */
import { TwinfoldError } from '../../core/errors.js'
import type { Page } from '../registry.js'
import type { DatabasePool } from './database-pool.js'
import { metaName } from './filenames.js'
import { after } from './key-bytes.js'
import type { Database, Operation } from './level.js'
import { scanRows, type Row } from './scan.js'
import { storeError } from './store-errors.js'

interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export class Meta {
  readonly #pool: DatabasePool
  readonly #readsWait: boolean
  #gathered: Operation[] = []
  /** Bounded by the callers, each of whom waits. */
  #waiters: Waiter[] = []
  #writing = false

  constructor (pool: DatabasePool, options: { readsWait: boolean }) {
    this.#pool = pool
    this.#readsWait = options.readsWait
  }

  async get (key: Uint8Array): Promise<Buffer | null> {
    const use = this.#readsWait ? null : this.#pool.useNow(metaName)
    if (use === null) return await this.read(async database => await database.get(key) as Buffer | undefined ?? null)
    try {
      return use.database.getSync(key) as Buffer | undefined ?? null
    } catch (error) {
      throw storeError(error, metaName)
    } finally {
      use.release()
    }
  }

  async read<T> (action: (database: Database) => Promise<T>): Promise<T> {
    const use = this.#pool.useNow(metaName) ?? await this.#pool.use(metaName, true)
    try {
      return await action((use as NonNullable<typeof use>).database)
    } catch (error) {
      throw storeError(error, metaName)
    } finally {
      use?.release()
    }
  }

  /** One atomic batch that survives SIGKILL when it resolves. */
  async write (operations: Operation[]): Promise<void> {
    if (operations.length > 0) await this.#pool.write(metaName, operations)
  }

  /** One atomic batch on stable storage when it resolves. Whatever is asked for during one sync shares the next. */
  async writeSynced (operations: readonly Operation[]): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      for (const operation of operations) this.#gathered.push(operation)
      this.#waiters.push({ resolve, reject })
      if (!this.#writing) void this.#writeGathered()
    })
  }

  async #writeGathered (): Promise<void> {
    this.#writing = true
    await null
    while (this.#waiters.length > 0) {
      const operations = this.#gathered
      const waiters = this.#waiters
      this.#gathered = []
      this.#waiters = []
      try {
        await this.#pool.write(metaName, operations, true)
        for (const waiter of waiters) waiter.resolve()
      } catch (error) {
        for (const waiter of waiters) waiter.reject(error)
      }
    }
    this.#writing = false
  }

  /** Rows of the range in order until `visit` returns false. */
  async scan (range: { gte: Uint8Array, lt: Uint8Array, reverse?: boolean }, visit: (row: Row) => boolean): Promise<void> {
    await this.read(async database => {
      for await (const rows of scanRows(database, range)) {
        for (const row of rows) if (!visit(row)) return
      }
    })
  }

  /**
   * At most `limit` items of the rows under a prefix. The cursor is what follows the prefix in the last row's key, so a forged
   * one stays inside the prefix. `itemOf` returns null for rows to pass over.
   */
  async page<T> (prefix: Buffer, cursor: string | null, limit: number, itemOf: (row: Row) => T | null, reverse = false): Promise<Page<T>> {
    const range = { gte: prefix, lt: after(prefix), reverse }
    if (cursor !== null) {
      const at = Buffer.concat([prefix, decodeCursor(cursor)])
      if (reverse) range.lt = at
      else range.gte = Buffer.concat([at, Buffer.from([0])])
    }
    const items: T[] = []
    let last: Buffer | null = null
    let more = false
    await this.scan(range, row => {
      const item = itemOf(row)
      if (item === null) return true
      if (items.length >= limit) {
        more = true
        return false
      }
      items.push(item)
      last = row[0]
      return true
    })
    return { items, next: more && last !== null ? (last as Buffer).toString('base64url', prefix.length) : null }
  }
}

function decodeCursor (cursor: string): Buffer {
  const bytes = Buffer.from(cursor, 'base64url')
  if (!/^[A-Za-z0-9_-]{1,1024}$/.test(cursor) || bytes.length === 0) throw new TwinfoldError('invalid_field', 'the cursor is not one that this server gave out', { field: 'cursor' })
  return bytes
}
