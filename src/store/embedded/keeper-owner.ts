/** The owner's side of the keeper (keeper.ts): one anchor handle per database in use, and who uses it. */
import { BroadcastChannel, threadId, type Worker } from 'node:worker_threads'
import { TwinfoldError } from '../../core/errors.js'
import type { Clock } from '../../core/clock.js'
import type { Log } from '../../core/log.js'
import { channelName, memberId, threadOf, type KeeperMessage, type MemberMessage } from './keeper-messages.js'
import { failureOf, retireWaitMs, type Keeper } from './keeper.js'
import { KeyedLock } from '../../core/keyed-lock.js'
import { databaseExists, openDatabase, probe, rotate, type Database } from './level.js'
import { storeError } from './store-errors.js'

interface Anchor {
  readonly database: Database
  readonly holders: Set<string>
  /** Since when nobody holds it, milliseconds. */
  freeSinceMs: number
  /** Wakes whoever waits for the last holder to go. */
  wake: (() => void) | null
}

/**
 * Databases that nobody uses stay open so long, and so many of them: opening one costs several syncs of the disk, a handle of
 * one that is open costs nothing.
 */
const freeAnchorsMax = 64
const freeAnchorMs = 600_000

export class KeeperOwner implements Keeper {
  readonly #directory: string
  readonly #log: Log
  readonly #channel: BroadcastChannel
  readonly #anchors = new Map<string, Anchor>()
  readonly #locks = new KeyedLock()
  readonly #clock: Clock
  readonly #sweeper: NodeJS.Timeout
  readonly #self = memberId(threadId, 'owner')
  /** Paths whose last repair failed or that nobody has mended yet. */
  readonly #suspects = new Set<string>()
  readonly #onWorker = (worker: Worker): void => {
    const thread = worker.threadId
    worker.once('exit', () => { this.#threadEnded(thread) })
  }

  onRetire: (path: string) => void = () => {}
  onSuspected: (path: string) => void = () => {}
  readonly stats = { opened: 0, repairs: 0, reopened: 0 }

  constructor (options: { directory: string, log: Log, clock: Clock }) {
    this.#clock = options.clock
    this.#directory = options.directory
    this.#log = options.log
    this.#channel = new BroadcastChannel(channelName(options.directory))
    this.#channel.onmessage = event => { this.#receive((event as { data: KeeperMessage }).data) }
    this.#channel.unref()
    process.on('worker', this.#onWorker)
    this.#sweeper = setInterval(() => { this.#sweep() }, freeAnchorMs / 10)
    this.#sweeper.unref()
  }

  async hold (path: string, create: boolean): Promise<boolean> { return await this.#hold(path, create, this.#self) }

  release (path: string): void { this.#release(path, this.#self) }

  suspect (path: string): void {
    this.#suspects.add(path)
    this.onSuspected(path)
    this.#post({ kind: 'suspected', path })
  }

  async repair (path: string): Promise<void> {
    await this.#locks.run(path, async () => {
      // Whoever asked first has had it mended for the others.
      if (!this.#suspects.has(path)) return
      this.stats.repairs++
      await this.#mend(path)
      this.#suspects.delete(path)
      this.#log.info({ database: path }, 'the database takes writes again')
    })
  }

  /**
   * Takes the database out of use in every thread and runs the action while nobody can open it. False when some thread
   * still used it after `retireWaitMs`; the action did not run then.
   */
  async exclusively (path: string, action: () => Promise<void>): Promise<boolean> {
    return await this.#locks.run(path, async () => {
      if (!await this.#retire(path)) return false
      this.#suspects.delete(path)
      await action()
      return true
    })
  }

  /** Closes all anchors. One that another thread still uses is left to the end of the process: closing it would crash that thread. */
  async close (): Promise<void> {
    clearInterval(this.#sweeper)
    for (const path of [...this.#anchors.keys()]) {
      const closed = await this.#locks.run(path, async () => await this.#retire(path))
      if (!closed) this.#log.warn({ database: path }, 'another thread still uses a database; it stays open')
    }
    process.removeListener('worker', this.#onWorker)
    this.#channel.close()
  }

  #post (message: KeeperMessage): void {
    this.#channel.postMessage(message)
  }

  #receive (message: KeeperMessage): void {
    switch (message.kind) {
      case 'hold':
        this.#answer(message, this.#hold(message.path, message.create, message.member))
        break
      case 'repair':
        this.#answer(message, this.repair(message.path).then(() => true))
        break
      case 'release':
        this.#release(message.path, message.member)
        break
      case 'suspect':
        this.suspect(message.path)
        break
      default:
    }
  }

  #answer (message: MemberMessage & { call: number }, outcome: Promise<boolean>): void {
    const { member, call } = message
    outcome.then(
      held => { this.#post({ kind: 'answer', member, call, held }) },
      (error: unknown) => { this.#post({ kind: 'failed', member, call, ...failureOf(error) }) })
  }

  async #hold (path: string, create: boolean, holder: string): Promise<boolean> {
    return await this.#locks.run(path, async () => {
      let anchor = this.#anchors.get(path)
      if (anchor === undefined) {
        if (!create && !databaseExists(this.#directory, path)) return false
        const database = await openDatabase(this.#directory, path, create)
        this.stats.opened++
        this.#suspects.delete(path)
        anchor = { database, holders: new Set(), freeSinceMs: 0, wake: null }
        this.#anchors.set(path, anchor)
      }
      anchor.holders.add(holder)
      return true
    })
  }

  #release (path: string, holder: string): void {
    const anchor = this.#anchors.get(path)
    if (anchor === undefined || !anchor.holders.delete(holder) || anchor.holders.size > 0) return
    anchor.freeSinceMs = this.#clock.monotonicMs()
    anchor.wake?.()
    const free = [...this.#anchors].filter(([, { holders }]) => holders.size === 0)
    if (free.length <= freeAnchorsMax) return
    const [oldest] = free.reduce((a, b) => a[1].freeSinceMs <= b[1].freeSinceMs ? a : b)
    void this.#locks.run(oldest, async () => await this.#closeIfFree(oldest))
  }

  #sweep (): void {
    const before = this.#clock.monotonicMs() - freeAnchorMs
    for (const [path, { holders, freeSinceMs }] of this.#anchors) {
      if (holders.size === 0 && freeSinceMs <= before) void this.#locks.run(path, async () => await this.#closeIfFree(path))
    }
  }

  #threadEnded (thread: number): void {
    for (const [path, anchor] of this.#anchors) {
      for (const holder of [...anchor.holders]) if (threadOf(holder) === thread) this.#release(path, holder)
    }
  }

  async #closeIfFree (path: string): Promise<boolean> {
    const anchor = this.#anchors.get(path)
    if (anchor === undefined) return true
    if (anchor.holders.size > 0) return false
    this.#anchors.delete(path)
    await anchor.database.close().catch((error: Error) => { this.#log.warn({ database: path, error: error.message }, 'a database was not closed cleanly') })
    return true
  }

  async #retire (path: string): Promise<boolean> {
    const anchor = this.#anchors.get(path)
    if (anchor === undefined) return true
    if (anchor.holders.size > 0) {
      this.onRetire(path)
      this.#post({ kind: 'retire', path })
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, retireWaitMs)
        anchor.wake = () => { clearTimeout(timer); resolve() }
        if (anchor.holders.size === 0) anchor.wake()
      })
      anchor.wake = null
    }
    return await this.#closeIfFree(path)
  }

  /**
   * After a failed append the log may hold half a record, and what is appended behind it could not be recovered: a new
   * log is begun first, which keeps what is in memory. Where LevelDB has gone read-only (an error in the background), it
   * is opened again; everything it had acknowledged is in its logs then.
   */
  async #mend (path: string): Promise<void> {
    const anchor = this.#anchors.get(path)
    if (anchor !== undefined) {
      try {
        await rotate(anchor.database)
        await probe(anchor.database)
        return
      } catch (error) {
        this.#log.warn({ database: path, error: (error as Error).message }, 'the database refuses writes; it is opened again')
      }
      if (!await this.#retire(path)) throw new TwinfoldError('store_unavailable', `the store's database ${path} refuses writes and is still being read; it is opened again as soon as that ends`, { retryAfterMs: 1000 })
    }
    const database = await openDatabase(this.#directory, path, true)
    try {
      await probe(database)
      this.stats.reopened++
    } catch (error) {
      throw storeError(error, path)
    } finally {
      await database.close().catch(() => {})
    }
  }
}
