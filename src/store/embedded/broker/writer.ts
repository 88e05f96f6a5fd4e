/**
 * All writes of the broker's database, in one order: one batch is in flight, and what gathers meanwhile is the next
 * one. A batch is atomic, and a later write never reaches the log before an earlier one, so a crash keeps a prefix.
 */
import type { ClassicLevel } from 'classic-level'
import { TwinfoldError } from '../../../core/errors.js'

export type BrokerDatabase = ClassicLevel<Buffer, Buffer>

export type WriteOperation =
  | { readonly type: 'put', readonly key: Buffer, readonly value: Buffer }
  | { readonly type: 'del', readonly key: Buffer }

export const put = (key: Buffer, value: Buffer): WriteOperation => ({ type: 'put', key, value })
export const del = (key: Buffer): WriteOperation => ({ type: 'del', key })

interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class BatchWriter {
  readonly #database: BrokerDatabase
  readonly #sync: boolean
  /** Bounded by its callers, who wait: Aedes lets a connection's next read wait for the writes of the last one. */
  #operations: WriteOperation[] = []
  #waiters: Waiter[] = []
  #running: Promise<void> | null = null
  #closed = false
  batches = 0
  operations = 0

  /** @param sync fsync every batch: power loss keeps what was resolved; without it a SIGKILL does. */
  constructor (database: BrokerDatabase, sync: boolean) {
    this.#database = database
    this.#sync = sync
  }

  /**
   * Resolves when LevelDB has the operations in its log, in the order of the calls. An empty list resolves when all
   * earlier ones have. `store_unavailable` when LevelDB refuses; nothing of that batch is stored then.
   */
  write (operations: readonly WriteOperation[]): Promise<void> {
    if (this.#closed) return Promise.reject(new TwinfoldError('not_ready', 'the broker persistence is closed'))
    if (operations.length === 0 && this.#running === null) return Promise.resolve()
    for (const operation of operations) this.#operations.push(operation)
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject })
      this.#running ??= this.#run()
    })
  }

  /** Resolves when everything handed in so far is written; what failed was told to its own caller. */
  async settled (): Promise<void> {
    while (this.#running !== null) await this.#running
  }

  /** Writes what is waiting; later writes are refused. */
  async close (): Promise<void> {
    this.#closed = true
    await this.settled()
  }

  async #run (): Promise<void> {
    // Lets the rest of this turn join the first batch.
    await null
    while (this.#waiters.length > 0) {
      const operations = this.#operations
      const waiters = this.#waiters
      this.#operations = []
      this.#waiters = []
      try {
        if (operations.length > 0) await this.#database.batch(operations, { sync: this.#sync })
        this.batches++
        this.operations += operations.length
        for (const waiter of waiters) waiter.resolve()
      } catch (cause) {
        const error = new TwinfoldError('store_unavailable', 'the broker database cannot be written', { cause })
        for (const waiter of waiters) waiter.reject(error)
      }
    }
    this.#running = null
  }
}
