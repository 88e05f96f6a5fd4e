/**
 * The handles of one thread: opened when first needed, shared by everything that runs side by side, closed when idle. At most
 * `openMax` are open when none is in use; more only while as many are in use at once (a scan over many windows).
 */
import type { Clock } from '../../core/clock.js'
import type { Log } from '../../core/log.js'
import type { Keeper } from './keeper.js'
import { openDatabase, type Database, type Operation } from './level.js'
import { isWriteFault, storeError } from './store-errors.js'
import { StoredWindows } from './stored-windows.js'

export interface DatabasePoolOptions {
  readonly directory: string
  readonly keeper: Keeper
  readonly clock: Clock
  readonly log: Log
  readonly openMax: number
  readonly idleMs: number
  /** Databases that stay open. */
  readonly pinned: readonly string[]
}

/** A database in use; must be released, after which its handle may be closed. */
export interface DatabaseUse {
  readonly database: Database
  release(): void
}

class Entry implements DatabaseUse {
  readonly #onRelease: (entry: Entry) => void
  uses = 0
  lastUsedMs = 0
  suspect = false
  retired = false

  constructor (readonly path: string, readonly database: Database, onRelease: (entry: Entry) => void) {
    this.#onRelease = onRelease
  }

  release (): void { this.#onRelease(this) }
}

export class DatabasePool {
  /** What there is to read. */
  readonly windows: StoredWindows
  readonly #options: DatabasePoolOptions
  readonly #entries = new Map<string, Entry>()
  /** Paths that are being opened or closed. */
  readonly #changing = new Map<string, Promise<unknown>>()
  readonly #pinned: ReadonlySet<string>
  readonly #sweeper: NodeJS.Timeout
  readonly #onRelease = (entry: Entry): void => { this.#released(entry) }
  #closed = false

  constructor (options: DatabasePoolOptions) {
    this.#options = options
    this.#pinned = new Set(options.pinned)
    this.windows = new StoredWindows(options.directory)
    options.keeper.onRetire = path => { this.#retire(path) }
    options.keeper.onSuspected = path => {
      const entry = this.#entries.get(path)
      if (entry !== undefined) entry.suspect = true
    }
    this.#sweeper = setInterval(() => { this.closeIdle() }, Math.max(1000, options.idleMs / 4))
    this.#sweeper.unref()
  }

  /** Handles that are open now. */
  get openCount (): number { return this.#entries.size }

  /** The database, kept open until `release`; null when it does not exist and `create` is false. */
  async use (path: string, create: boolean): Promise<DatabaseUse | null> {
    for (;;) {
      const entry = this.#entries.get(path)
      if (entry !== undefined) return this.#take(entry)
      const changing = this.#changing.get(path)
      if (changing === undefined) {
        if (this.#closed) throw storeError(new Error('the store is closed'), path)
        if (!await this.#during(path, this.#open(path, create))) return null
      } else {
        // Whoever opens it now may have another wish or may fail; that is theirs. Look again afterwards.
        await changing.catch(() => {})
      }
    }
  }

  /** The open database, without waiting; null when it is not open. */
  useNow (path: string): DatabaseUse | null {
    const entry = this.#entries.get(path)
    return entry === undefined ? null : this.#take(entry)
  }

  /** Writes one atomic batch; creates the database where there is none. `sync`: on stable storage when it resolves. */
  async write (path: string, operations: Operation[], sync = false): Promise<void> {
    const entry = await this.#mended(path)
    try {
      await entry.database.batch(operations, { sync })
    } catch (error) {
      if (isWriteFault(error)) {
        entry.suspect = true
        this.#options.keeper.suspect(path)
        this.#options.log.warn({ database: path, error: (error as Error).message }, 'a write to the store failed')
      }
      throw storeError(error, path)
    } finally {
      entry.release()
    }
  }

  /** Runs an action on a database that exists; `absent` where it does not. */
  async read<T> (path: string, absent: T, action: (database: Database) => Promise<T>): Promise<T> {
    const use = this.useNow(path) ?? await this.use(path, false)
    if (use === null) return absent
    try {
      return await action(use.database)
    } catch (error) {
      throw storeError(error, path)
    } finally {
      use.release()
    }
  }

  /** Closes what has not been used for `idleMs`. */
  closeIdle (): void {
    const before = this.#options.clock.monotonicMs() - this.#options.idleMs
    for (const entry of [...this.#entries.values()]) {
      if (entry.uses === 0 && entry.lastUsedMs <= before && !this.#pinned.has(entry.path)) this.#close(entry)
    }
  }

  /** Closes everything; uses that are still running get errors from the database. */
  async close (): Promise<void> {
    this.#closed = true
    clearInterval(this.#sweeper)
    await Promise.allSettled(this.#changing.values())
    for (const entry of [...this.#entries.values()]) this.#close(entry)
    await Promise.allSettled(this.#changing.values())
  }

  /** A handle whose database takes writes, as far as is known. */
  async #mended (path: string): Promise<Entry> {
    for (;;) {
      const entry = await this.use(path, true) as Entry
      if (!entry.suspect) return entry
      // Not in use while it is mended, so that it can be closed and opened again.
      entry.release()
      await this.#options.keeper.repair(path)
      entry.suspect = false
    }
  }

  #take (entry: Entry): Entry {
    entry.uses++
    entry.lastUsedMs = this.#options.clock.monotonicMs()
    return entry
  }

  #released (entry: Entry): void {
    entry.uses--
    entry.lastUsedMs = this.#options.clock.monotonicMs()
    if (entry.uses > 0) return
    if (entry.retired) this.#close(entry)
    else if (this.#entries.size - this.#pinnedOpen > this.#options.openMax) this.#closeOldest()
  }

  get #pinnedOpen (): number {
    let open = 0
    for (const path of this.#pinned) if (this.#entries.has(path)) open++
    return open
  }

  #closeOldest (): void {
    let oldest: Entry | null = null
    for (const entry of this.#entries.values()) {
      if (entry.uses === 0 && !this.#pinned.has(entry.path) && (oldest === null || entry.lastUsedMs < oldest.lastUsedMs)) oldest = entry
    }
    if (oldest !== null) this.#close(oldest)
  }

  #retire (path: string): void {
    const entry = this.#entries.get(path)
    if (entry === undefined) return
    // Until its last use ends it is shared as before: a use inside a use must not wait for itself.
    entry.retired = true
    if (entry.uses === 0) this.#close(entry)
  }

  #close (entry: Entry): void {
    this.#entries.delete(entry.path)
    const closing = entry.database.close()
      .catch((error: Error) => { this.#options.log.warn({ database: entry.path, error: error.message }, 'a database was not closed cleanly') })
      .then(() => { this.#options.keeper.release(entry.path) })
    void this.#during(entry.path, closing)
  }

  async #open (path: string, create: boolean): Promise<boolean> {
    const { directory, keeper } = this.#options
    if (!await keeper.hold(path, create)) return false
    try {
      const database = await openDatabase(directory, path, false)
      this.#entries.set(path, new Entry(path, database, this.#onRelease))
      return true
    } catch (error) {
      keeper.release(path)
      throw error
    }
  }

  async #during<T> (path: string, change: Promise<T>): Promise<T> {
    this.#changing.set(path, change)
    try {
      return await change
    } finally {
      if (this.#changing.get(path) === change) this.#changing.delete(path)
    }
  }
}
