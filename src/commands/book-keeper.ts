/**
 * The one way to read and change books: changes that wait for one device share a commit, every commit is conditional on the version it
 * was made on, and what another node did first is read and taken into account before the change is tried again (INVARIANTS 5, 6).
 *
 * Embedded, this process is the only writer and what it remembers is the truth. Where nodes share the store it is a guess: a change
 * made on it fails at the commit where it was wrong, and an answer without a change is only given on a book that was just read.
 */
import { LRUCache } from 'lru-cache'
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import { inParallel } from '../core/in-parallel.js'
import type { IntentLog } from '../inlet/device-message.js'
import type { EntityStore } from '../store/entity-store.js'
import type { EventLog, OutEvent } from '../store/event-log.js'
import { bookKey, BookDraft, type Beside, type Book } from './book.js'
import { BookQueues, type BookOperation, type Settled } from './book-queues.js'
import type { Command } from './command.js'
import { decodeBookState, decodeCommand, decodeKeyRecord, emptyBookState, type KeyRecord } from './command-codec.js'
import { commandEvent } from './command-event.js'
import { finishedItem, keyItem, pendingItem, pendingPrefix } from './command-id.js'

export interface BookKeeperOptions {
  readonly store: EntityStore & Pick<EventLog, 'appendEvents'>
  readonly journalId: string
  readonly clock: Clock
  /** Other nodes write the same store. */
  readonly shared: boolean
  /** null: state and events are one write. */
  readonly intents: IntentLog | null
  /** Makes sure that the deadline index names the book where it must; called before the commit. Returns the minute, or null: it does. */
  readonly index: (tenant: string, device: string, draft: BookDraft) => Promise<number | null>
  /** After a commit of this process. Must not throw. */
  readonly onChanged: (tenant: string, device: string, commands: readonly Command[], book: Book) => void
  readonly booksCachedMax?: number
  readonly bookBytesCachedMax?: number
}

export interface BookKeeperStats { commits: number, conflicts: number, retold: number }

/** Tries against other writers; beyond, `store_unavailable`. */
const triesMax = 30
const pendingPage = 50
const idleLook: Beside = { finished: new Map(), keys: new Map() }

export class BookKeeper {
  readonly stats: BookKeeperStats = { commits: 0, conflicts: 0, retold: 0 }
  readonly #options: BookKeeperOptions
  readonly #books: LRUCache<string, Book>
  /** Versions that this process has committed, and so told. */
  readonly #told = new LRUCache<string, number>({ max: 100_000 })
  readonly #queues = new BookQueues(async (tenant, device, operations) => await this.#commitOrForget(tenant, device, operations))

  constructor (options: BookKeeperOptions) {
    this.#options = options
    this.#books = new LRUCache({ max: options.booksCachedMax ?? 50_000, maxSize: options.bookBytesCachedMax ?? 64 * 1024 * 1024, sizeCalculation: book => book.bytes })
  }

  /** As remembered, or read. @param fresh read it where nodes share the store. @throws TwinfoldError `store_unavailable` */
  async read (tenant: string, device: string, fresh = false): Promise<Book> {
    const cached = this.#books.get(`${tenant}\0${device}`)
    if (cached !== undefined && !(fresh && this.#options.shared)) return cached
    // In its turn, so that it is not remembered over a newer one.
    await this.apply(tenant, device, { sync: false, run: () => {} })
    return this.#books.get(`${tenant}\0${device}`) ?? await this.#load(tenant, device)
  }

  /** What is in memory; undefined: it would have to be read. */
  peek (tenant: string, device: string): Book | undefined {
    return this.#books.get(`${tenant}\0${device}`)
  }

  /** Forgotten: another node has said that it changed. */
  forget (tenant: string, device: string): void {
    if (this.#options.shared) this.#books.delete(`${tenant}\0${device}`)
  }

  async command (tenant: string, device: string, id: string): Promise<Command | null> {
    const { store } = this.#options
    const key = bookKey(tenant, device)
    // A command moves from pending to finished only.
    const item = await store.getEntityItem(key, pendingItem(id)) ?? await store.getEntityItem(key, finishedItem(id))
    return item === null ? null : decodeCommand(item.body)
  }

  /** @throws TwinfoldError `store_unavailable`: whether it was made is not known; and what the operation throws */
  async apply<R> (tenant: string, device: string, operation: BookOperation<R>): Promise<R> {
    return await this.#queues.add(tenant, device, operation)
  }

  /** What waits to share a commit is committed now. */
  hurry (tenant: string, device: string): void {
    this.#queues.hurry(tenant, device)
  }

  /** Resolves when everything that waits is committed or has failed. */
  async close (): Promise<void> {
    await this.#queues.close()
  }

  async #commitOrForget (tenant: string, device: string, operations: readonly BookOperation<unknown>[]): Promise<Settled[]> {
    const id = `${tenant}\0${device}`
    try {
      return await this.#commit(id, tenant, device, operations)
    } catch (error) {
      // Unknown whether it was committed: only the store can say what is there.
      this.#books.delete(id)
      throw error
    }
  }

  async #commit (id: string, tenant: string, device: string, operations: readonly BookOperation<unknown>[]): Promise<Settled[]> {
    const { store, clock, shared, journalId, intents } = this.#options
    for (let attempt = 0; attempt < triesMax; attempt++) {
      const remembered = this.#books.get(id)
      const book = remembered ?? await this.#load(tenant, device)
      const draft = new BookDraft(book, await this.#beside(tenant, device, book, operations), clock.nowUs())
      const settled = operations.map(operation => settle(operation, draft))
      if (!draft.changed) {
        if (remembered !== undefined && shared) {
          this.#books.delete(id)
          continue
        }
        this.#books.set(id, book)
        return settled
      }
      const minute = await this.#options.index(tenant, device, draft)
      if (minute !== null) draft.lookAt(minute)
      const earlier = book.untold ? await this.#lastEvents(tenant, device, book) : []
      const made = draft.finish(tenant, device, journalId, earlier, false)
      // With a message of the journal in it, that one is given again after a crash, and the whole commit told again.
      if (intents !== null && !operations.some(operation => operation.journaled === true)) await intents.note(bookKey(tenant, device))
      const [committed] = await store.commitEntities([made.commit], operations.some(operation => operation.sync))
      if (!committed) {
        this.stats.conflicts++
        this.#books.delete(id)
        if (attempt > 1) await new Promise(resolve => { setTimeout(resolve, Math.min(100, 2 ** attempt) * (0.5 + (clock.nowUs() % 997) / 997)) })
        continue
      }
      this.stats.commits++
      this.#books.set(id, made.book)
      if (shared) this.#told.set(id, made.book.version)
      this.#options.onChanged(tenant, device, draft.changedCommands, made.book)
      return settled
    }
    throw new TwinfoldError('store_unavailable', 'other writers changed the commands of this device without pause')
  }

  async #beside (tenant: string, device: string, book: Book, operations: readonly BookOperation<unknown>[]): Promise<Beside> {
    const ids = new Set(operations.flatMap(({ ids = [] }) => ids).filter(id => !book.pending.has(id)))
    const keys = new Set(operations.flatMap(({ keys = [] }) => keys))
    if (!book.exists || (ids.size === 0 && keys.size === 0)) return idleLook
    const { store } = this.#options
    const key = bookKey(tenant, device)
    const records = new Map<string, KeyRecord>()
    await inParallel([...keys], async name => {
      const item = await store.getEntityItem(key, keyItem(name))
      if (item === null) return
      const record = decodeKeyRecord(item.body)
      records.set(name, record)
      if (!book.pending.has(record.id)) ids.add(record.id)
    })
    const finished = new Map<string, Command>()
    await inParallel([...ids], async id => {
      const item = await store.getEntityItem(key, finishedItem(id))
      if (item !== null) finished.set(id, decodeCommand(item.body))
    })
    return { finished, keys: records }
  }

  /** The version is read before the items: a commit on a mixture fails, because items only change with the version. */
  async #load (tenant: string, device: string): Promise<Book> {
    const { store, shared } = this.#options
    const key = bookKey(tenant, device)
    const entity = await store.getEntity(key)
    const pending = new Map<string, Command>()
    if (entity.state === null) return { version: entity.version, exists: false, state: emptyBookState, pending, untold: false, bytes: 512 }
    const state = decodeBookState(entity.state)
    let bytes = entity.state.length + 512
    for (let after = '', more = state.pending > 0; more;) {
      const items = await store.readEntityItems(key, pendingPrefix, after, pendingPage)
      for (const { body } of items) {
        const command = decodeCommand(body)
        pending.set(command.id, command)
        bytes += body.length
      }
      after = items.at(-1)?.id ?? ''
      more = items.length === pendingPage
    }
    return { version: entity.version, exists: true, state, pending, untold: shared && this.#told.get(`${tenant}\0${device}`) !== entity.version, bytes }
  }

  async #lastEvents (tenant: string, device: string, { state, pending }: Book): Promise<OutEvent[]> {
    const events: OutEvent[] = []
    for (const entry of state.last) {
      const command = pending.get(entry.id) ?? await this.command(tenant, device, entry.id)
      if (command !== null) events.push(commandEvent(tenant, device, command, entry))
    }
    this.stats.retold += events.length
    return events
  }

  /** Tells the last commit again where this node made it: after a restart, when it may not have been told. */
  async repeat (tenant: string, device: string): Promise<void> {
    const { store, journalId } = this.#options
    const entity = await store.getEntity(bookKey(tenant, device))
    if (entity.writer !== journalId || entity.state === null) return
    const events = await this.#lastEvents(tenant, device, await this.#load(tenant, device))
    if (events.length > 0) await store.appendEvents(events)
  }

  /**
   * Takes everything of the device away, in steps that may be repeated: the version stays, so that it goes on when the device is made
   * again. Pending commands have been ended before.
   */
  async erase (tenant: string, device: string): Promise<void> {
    const { store, journalId } = this.#options
    const id = `${tenant}\0${device}`
    const key = bookKey(tenant, device)
    for (let attempt = 0; attempt < triesMax * 100; attempt++) {
      const { version, state } = await store.getEntity(key)
      if (state === null) break
      const items = await store.readEntityItems(key, '', '', pendingPage)
      const last = items.length < pendingPage
      await store.commitEntities([{ key, writer: journalId, expected: version, version: version + 1, state: last ? null : state, events: [], items: items.map(item => ({ id: item.id, body: null })), outbox: [] }], true)
      this.#books.delete(id)
    }
    this.#books.delete(id)
  }
}

function settle (operation: BookOperation<unknown>, draft: BookDraft): Settled {
  try {
    return { value: operation.run(draft) }
  } catch (error) {
    if (error instanceof TwinfoldError) return { error }
    throw error
  }
}
