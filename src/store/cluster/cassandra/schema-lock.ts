/**
 * The lock under which a schema is changed, held by one node of all data centres: a conditional row with a lease. A holder that
 * died lets go when the lease ends; one that was paused for longer finds out before its next statement.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { types, type Client } from 'cassandra-driver'
import { TwinfoldError } from '../../../core/errors.js'
import { translate } from './cassandra-errors.js'

export interface SchemaLockOptions {
  readonly keyspace: string
  /** Unlike any other's. */
  readonly holder: string
  /** Seconds, at least 1. */
  readonly leaseSeconds: number
  /** How long another's lock is waited for, milliseconds. */
  readonly waitMsMax: number
  readonly monotonicMs: () => number
}

/** Across data centres: LOCAL_SERIAL would let one node of each in. */
const conditional = { prepare: true, isIdempotent: false, consistency: types.consistencies.quorum, serialConsistency: types.consistencies.serial }
const pollMs = 200
/** What is unknown is asked again this often before it is given up. */
const unknownMax = 10

export class SchemaLock {
  readonly #client: Client
  readonly #options: SchemaLockOptions
  readonly #table: string

  constructor (client: Client, options: SchemaLockOptions) {
    this.#client = client
    this.#options = options
    this.#table = `${options.keyspace}.schema_lock`
  }

  /** @throws TwinfoldError `store_unavailable` naming the holder, when it was not to be had in `waitMsMax`. */
  async take (): Promise<void> {
    const { holder, leaseSeconds, waitMsMax, monotonicMs } = this.#options
    const deadlineMs = monotonicMs() + waitMsMax
    for (;;) {
      const current = await this.#decided(`INSERT INTO ${this.#table} (name, holder) VALUES ('schema', ?) IF NOT EXISTS USING TTL ?`, [holder, leaseSeconds])
      if (current === holder) return
      if (monotonicMs() > deadlineMs) throw new TwinfoldError('store_unavailable', `the schema of keyspace ${this.#options.keyspace} is being changed by ${current ?? 'another node'}; it was waited for ${waitMsMax} ms`)
      await pause(pollMs)
    }
  }

  /** Before every change: begins the lease anew. @throws TwinfoldError `store_unavailable` when it has passed to another. */
  async renew (): Promise<void> {
    const { holder, leaseSeconds, keyspace } = this.#options
    const current = await this.#decided(`UPDATE ${this.#table} USING TTL ? SET holder = ? WHERE name = 'schema' IF holder = ?`, [leaseSeconds, holder, holder])
    if (current !== holder) throw new TwinfoldError('store_unavailable', `the lock on the schema of keyspace ${keyspace} was lost to ${current ?? 'nobody: its lease ended'}`)
  }

  /** Never throws: what is not released ends with its lease. */
  async release (): Promise<void> {
    await this.#client.execute(`DELETE FROM ${this.#table} WHERE name = 'schema' IF holder = ?`, [this.#options.holder], conditional).catch(() => {})
  }

  /** Runs a conditional statement until its outcome is known. @returns who holds the lock after it; null: nobody. */
  async #decided (cql: string, parameters: readonly unknown[]): Promise<string | null> {
    for (let tries = 1; ; tries++) {
      try {
        const result = await this.#client.execute(cql, parameters as unknown[], conditional)
        if (result.wasApplied()) return this.#options.holder
        const row = result.first() as types.Row | null
        return (row?.holder as string | null | undefined) ?? null
      } catch (error) {
        // Contention and lost answers: the statement says the same the second time, and a lock of ours is known by its holder.
        if (tries >= unknownMax) throw translate(error)
        await pause(pollMs)
      }
    }
  }
}
