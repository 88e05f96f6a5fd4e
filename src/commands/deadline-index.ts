/**
 * Where it is written down by when a book of commands must be looked at, so that deadlines hold for devices that never come back and
 * after a restart, without a scan of all books (a million devices that once had a command have a million books, few with something
 * pending). A row is (minute, tenant, device): "look at this book in that minute, at the latest". It is written before the commit that
 * needs it and taken away after the book was looked at, so it may be there for nothing and is never missing. A book needs one only where
 * none of an earlier minute is there (`BookState.lookAtMinute`): with deadlines of an hour, one an hour and device, not one a command.
 *
 * A node writes the rows of one minute into one shard, so that what many devices need at a time shares a commit, and nodes do not meet.
 * Rows are items of a few entities of no tenant (their names cannot be a tenant's), so they live in the same store under the same rules.
 */
import { TwinfoldError } from '../core/errors.js'
import { hash32 } from '../core/ids.js'
import type { EntityCommit, EntityKey, EntityStore } from '../store/entity-store.js'

export const deadlineShards = 16
const usPerMinute = 60e6
const minuteChars = 6
const triesMax = 50
const rowsPerCommitMax = 500

export interface DeadlineRow { readonly minute: number, readonly tenant: string, readonly device: string }
/** As it was read: any node may have written it, into any shard. */
export interface FoundRow extends DeadlineRow { readonly shard: number }

export function minuteOf (us: number): number {
  return Math.floor(us / usPerMinute)
}

/** First µs after the minute. */
export function endOfMinute (minute: number): number {
  return (minute + 1) * usPerMinute
}

function rowId ({ minute, tenant, device }: DeadlineRow): string {
  return `d/${minute.toString(36).padStart(minuteChars, '0')}/${tenant}/${device}`
}

function parseRow (id: string): DeadlineRow {
  const [, minute, tenant, device] = id.split('/')
  return { minute: parseInt(minute, 36), tenant, device }
}

interface Change { readonly id: string, readonly body: string | null, readonly resolve: () => void, readonly reject: (error: unknown) => void }
interface Shard { readonly key: EntityKey, waiting: Change[], running: boolean, version: number, swept: number }
interface ShardState { readonly format: 1, readonly swept: number }

export class DeadlineIndex {
  readonly #store: EntityStore
  readonly #writer: string
  readonly #shards: readonly Shard[]

  constructor (store: EntityStore, writer: string) {
    this.#store = store
    this.#writer = writer
    this.#shards = Array.from({ length: deadlineShards }, (_, i) => ({ key: { tenant: '_due', device: `shard-${i}`, kind: 'commands' as const, name: 'deadlines' }, waiting: [], running: false, version: -1, swept: 0 }))
  }

  /** On stable storage when it resolves. @throws TwinfoldError `store_unavailable` */
  async add (row: DeadlineRow): Promise<void> {
    await this.#change((hash32(this.#writer) + row.minute) % deadlineShards, row, '')
  }

  async remove (rows: readonly FoundRow[]): Promise<void> {
    await Promise.all(rows.map(async row => { await this.#change(row.shard, row, null) }))
  }

  /** Every row of the shard up to that minute was looked at and taken away: readers need not pass over where they were. */
  async sweptUpTo (shard: number): Promise<number> {
    await this.#open(this.#shards[shard])
    return this.#shards[shard].swept
  }

  /** Kept with the next change of the shard; where there is none, nothing was taken away either. */
  noteSwept (shard: number, minute: number): void {
    this.#shards[shard].swept = Math.max(this.#shards[shard].swept, minute)
  }

  async #open (shard: Shard): Promise<void> {
    const { version, state } = await this.#store.getEntity(shard.key)
    shard.version = version
    if (state !== null) shard.swept = Math.max(shard.swept, (JSON.parse(state) as ShardState).swept)
  }

  /** Rows of the shard with minutes in [from, to], ascending, behind the given one; at most `limit`. */
  async read (shard: number, from: number, to: number, after: DeadlineRow | null, limit: number): Promise<FoundRow[]> {
    const begin = after === null ? `d/${from.toString(36).padStart(minuteChars, '0')}` : rowId(after)
    const items = await this.#store.readEntityItems(this.#shards[shard].key, 'd/', begin, limit)
    return items.map(({ id }) => ({ ...parseRow(id), shard })).filter(({ minute }) => minute <= to)
  }

  async #change (at: number, row: DeadlineRow, body: string | null): Promise<void> {
    const shard = this.#shards[at]
    await new Promise<void>((resolve, reject) => {
      shard.waiting.push({ id: rowId(row), body, resolve, reject })
      if (!shard.running) void this.#write(shard)
    })
  }

  /** One commit at a time; the next takes what has gathered. */
  async #write (shard: Shard): Promise<void> {
    shard.running = true
    while (shard.waiting.length > 0) {
      const changes = shard.waiting.splice(0, rowsPerCommitMax)
      try {
        await this.#commit(shard, new Map(changes.map(({ id, body }) => [id, body])))
        for (const { resolve } of changes) resolve()
      } catch (error) {
        shard.version = -1
        for (const { reject } of changes) reject(error)
      }
    }
    shard.running = false
  }

  async #commit (shard: Shard, rows: ReadonlyMap<string, string | null>): Promise<void> {
    const items = [...rows].map(([id, body]) => ({ id, body }))
    for (let attempt = 0; attempt < triesMax; attempt++) {
      if (shard.version === -1) await this.#open(shard)
      const commit: EntityCommit = { key: shard.key, writer: this.#writer, expected: shard.version, version: shard.version + 1, state: JSON.stringify({ format: 1, swept: shard.swept } satisfies ShardState), events: [], items, outbox: [] }
      const [committed] = await this.#store.commitEntities([commit], true)
      if (committed) {
        shard.version++
        return
      }
      shard.version = -1
      await new Promise(resolve => { setTimeout(resolve, Math.min(200, 2 ** attempt)) })
    }
    throw new TwinfoldError('store_unavailable', 'other nodes wrote the index of deadlines without pause')
  }
}
