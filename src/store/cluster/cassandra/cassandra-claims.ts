/**
 * Claims: one row a claim, written conditionally alone, so that of several who take it one has it and every one's epoch is its own.
 * A claim that changes hands does so under the condition that nothing happened to it since it was read, a renewal included.
 */
import type { Clock } from '../../../core/clock.js'
import { KeyedLock } from '../../../core/keyed-lock.js'
import { usPerMs } from '../../../core/reading.js'
import type { ClaimStore } from '../../claim-store.js'
import type { CassandraClient, Row } from './cassandra-client.js'
import { writeSettled } from './settled-write.js'

const select = 'SELECT owner, epoch, until FROM claims WHERE name = ?'
const insert = 'INSERT INTO claims (name, owner, epoch, until) VALUES (?, ?, 1, ?) IF NOT EXISTS'
const renew = 'UPDATE claims SET until = ? WHERE name = ? IF owner = ? AND epoch = ?'
const takeOver = 'UPDATE claims SET owner = ?, epoch = ?, until = ? WHERE name = ? IF owner = ? AND epoch = ? AND until = ?'
const giveBack = "UPDATE claims SET owner = '', until = 0 WHERE name = ? IF owner = ? AND epoch = ?"

/** What clocks of nodes may differ by (DESIGN 3.8), µs. */
const clockSkewUs = 250_000
const noOwner = ''

export class CassandraClaims implements ClaimStore {
  readonly #client: CassandraClient
  readonly #clock: Clock
  /** Writers of this thread queue up here: among themselves they would only wear out Cassandra's rounds. */
  readonly #locks = new KeyedLock()
  /** Epochs of claims that are held here, by name and owner; a renewal need not read. As many as there are names of claims. */
  readonly #epochs = new Map<string, number>()

  constructor (client: CassandraClient, options: { clock: Clock }) {
    this.#client = client
    this.#clock = options.clock
  }

  async takeClaim (name: string, owner: string, leaseMs: number): Promise<{ readonly epoch: number } | null> {
    return await this.#locks.run(name, async () => {
      const untilUs = this.#clock.nowUs() + leaseMs * usPerMs
      const known = this.#epochs.get(heldName(name, owner))
      if (known !== undefined && await this.#renew(name, owner, known, untilUs)) return { epoch: known }
      this.#epochs.delete(heldName(name, owner))
      const epoch = await this.#take(name, owner, untilUs)
      if (epoch !== null) this.#epochs.set(heldName(name, owner), epoch)
      return epoch === null ? null : { epoch }
    })
  }

  async releaseClaim (name: string, owner: string): Promise<void> {
    await this.#locks.run(name, async () => {
      this.#epochs.delete(heldName(name, owner))
      const [row] = await this.#client.readSerial(select, [name])
      if (row === undefined || row.owner !== owner) return
      await writeSettled(this.#client, { cql: giveBack, parameters: [name, owner, row.epoch] }, () => false)
    })
  }

  async #renew (name: string, owner: string, epoch: number, untilUs: number): Promise<boolean> {
    // Sent again after an unknown outcome, it finds its own row and applies once more.
    const { applied } = await writeSettled(this.#client, { cql: renew, parameters: [untilUs, name, owner, epoch] }, () => false)
    return applied
  }

  async #take (name: string, owner: string, untilUs: number): Promise<number | null> {
    const [row] = await this.#client.readSerial(select, [name])
    const isOurs = (epoch: number) => (found: Row | null): boolean => found?.owner === owner && found.epoch === epoch
    if (row === undefined) {
      const { applied } = await writeSettled(this.#client, { cql: insert, parameters: [name, owner, untilUs] }, isOurs(1))
      return applied ? 1 : null
    }
    const epoch = row.epoch as number
    if (row.owner === owner) return await this.#renew(name, owner, epoch, untilUs) ? epoch : null
    const until = row.until as number
    if (row.owner !== noOwner && until + clockSkewUs > this.#clock.nowUs()) return null
    const parameters = [owner, epoch + 1, untilUs, name, row.owner, epoch, until]
    const { applied } = await writeSettled(this.#client, { cql: takeOver, parameters }, isOurs(epoch + 1))
    return applied ? epoch + 1 : null
  }
}

function heldName (name: string, owner: string): string {
  return `${name}\0${owner}`
}
