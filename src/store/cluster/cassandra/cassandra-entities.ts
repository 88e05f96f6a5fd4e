/**
 * Entities: a partition each, its state in static columns beside the newest events and the items, changed by one conditional batch
 * (INVARIANTS 5). Older events lie in a table of their own (cassandra-entity-history.ts).
 *
 * Reads are at the ordinary consistency. A commit that was acknowledged has reached a quorum, so every later read at a quorum sees it, and a
 * read that sees one repairs it to a quorum before it answers, so no later read sees less. What such a read may miss is a commit whose own
 * writer does not know of it yet; it shows later, as any commit does. Serial reads would cost each reader a round of Paxos for that.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { TwinfoldError } from '../../../core/errors.js'
import { inParallel } from '../../../core/in-parallel.js'
import { KeyedLock } from '../../../core/keyed-lock.js'
import type { Entity, EntityCommit, EntityEvent, EntityItem, EntityKey, EntityKind, EntitySnapshot, EntityStore } from '../../entity-store.js'
import type { OutEvent } from '../../event-log.js'
import type { CassandraClient, Row, Statement } from './cassandra-client.js'
import { EntityHistory } from './cassandra-entity-history.js'
import { entityPart, lockName, partitionOf, wherePartition } from './cassandra-entity-keys.js'
import { allSalts, saltOf } from './salted.js'

const columns = 'version, state, writer, writer_from'
const selectState = `SELECT part, ${columns} FROM entity WHERE ${wherePartition} AND part = ${entityPart.first} AND number = 0 AND id = ''`
const selectVersion = `SELECT part, version FROM entity WHERE ${wherePartition} AND part = ${entityPart.first} AND number = 0 AND id = ''`
const selectCommit = `SELECT part, version, commit_id FROM entity WHERE ${wherePartition} AND part = ${entityPart.first} AND number = 0 AND id = ''`
const selectRowCommit = `SELECT row_commit FROM entity WHERE ${wherePartition} AND part = ? AND number = ? AND id = ?`
const setState = `UPDATE entity SET version = ?, state = ?, writer = ?, writer_from = ?, commit_id = ? WHERE ${wherePartition} IF version = ?`
const insertFirst = `INSERT INTO entity (tenant, device, kind, name, part, number, id) VALUES (?, ?, ?, ?, ${entityPart.first}, 0, '')`
const insertRow = 'INSERT INTO entity (tenant, device, kind, name, part, number, id, stamp, body, row_commit) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)'
const deleteItem = `DELETE FROM entity WHERE ${wherePartition} AND part = ${entityPart.item} AND number = 0 AND id = ?`
const selectItem = `SELECT body FROM entity WHERE ${wherePartition} AND part = ${entityPart.item} AND number = 0 AND id = ?`
const selectItems = `SELECT id, body FROM entity WHERE ${wherePartition} AND part = ${entityPart.item} AND number = 0 AND id > ? AND id < ? LIMIT ?`
const selectItemsFrom = `SELECT id, body FROM entity WHERE ${wherePartition} AND part = ${entityPart.item} AND number = 0 AND id >= ? AND id < ? LIMIT ?`
const insertOfTenant = 'INSERT INTO entity_by_tenant (tenant, kind, salt, device, name) VALUES (?, ?, ?, ?, ?)'
const selectOfTenant = 'SELECT device, name FROM entity_by_tenant WHERE tenant = ? AND kind = ? AND salt = ?'
const selectAll = `SELECT DISTINCT tenant, device, kind, name, ${columns} FROM entity`

const attemptsMax = 4
/** Before the second attempt; twice as long before each further one. */
const pauseMs = 20
/** Rows of a page of a scan: a state has up to 100 KiB or so. */
const scanRowsMax = 64
const commitsAtOnce = 64

export class CassandraEntities implements EntityStore {
  readonly #client: CassandraClient
  readonly #append: (events: readonly OutEvent[]) => Promise<void>
  readonly #history: EntityHistory
  /** Writers of this thread queue up here: among themselves they would only wear out Cassandra's rounds. */
  readonly #locks = new KeyedLock()
  /** `unknown`: batches that were sent again, as their outcome was not known. `moved`, `moveFailures`: histories (cassandra-entity-history.ts). */
  readonly stats = { commits: 0, refused: 0, unknown: 0, moved: 0, moveFailures: 0 }

  /** @param options.append tells the event log of a commit that was made */
  constructor (client: CassandraClient, options: { append: (events: readonly OutEvent[]) => Promise<void> }) {
    this.#client = client
    this.#append = options.append
    this.#history = new EntityHistory(client, this.stats)
  }

  async getEntity (key: EntityKey): Promise<Entity> {
    const [row] = await this.#client.read(selectState, partitionOf(key))
    return entityOf(row)
  }

  async getEntityVersion (key: EntityKey): Promise<number> {
    const [row] = await this.#client.read(selectVersion, partitionOf(key)) as readonly (Row | undefined)[]
    return row?.version as number | null | undefined ?? 0
  }

  async commitEntities (commits: readonly EntityCommit[], _sync: boolean): Promise<readonly boolean[]> {
    const failures: unknown[] = []
    const outcomes = await inParallel(commits, async commit => {
      try {
        return await this.#locks.run(lockName(commit.key), async () => await this.#commit(commit))
      } catch (error) {
        failures.push(error)
        return false
      }
    }, commitsAtOnce)
    if (failures.length > 0) throw failures[0]
    return outcomes
  }

  async readEntityEvents (key: EntityKey, from: number, to: number, limit: number): Promise<readonly EntityEvent[]> {
    return await this.#history.read(key, from, to, limit)
  }

  async readEntityItems (key: EntityKey, prefix: string, after: string, limit: number): Promise<readonly EntityItem[]> {
    if (limit <= 0) return []
    // Ids are printable ASCII.
    const end = `${prefix}\x7f`
    const rows = after >= prefix && after !== ''
      ? await this.#client.read(selectItems, [...partitionOf(key), after, end, limit])
      : await this.#client.read(selectItemsFrom, [...partitionOf(key), prefix, end, limit])
    return rows.map(row => ({ id: row.id as string, body: row.body as string }))
  }

  async getEntityItem (key: EntityKey, id: string): Promise<EntityItem | null> {
    const [row] = await this.#client.read(selectItem, [...partitionOf(key), id])
    return row === undefined ? null : { id, body: row.body as string }
  }

  async putEntitySnapshot (key: EntityKey, snapshot: EntitySnapshot): Promise<void> {
    await this.#history.putSnapshot(key, snapshot)
  }

  async findEntitySnapshot (key: EntityKey, at: { readonly version: number } | { readonly stamp: number }): Promise<EntitySnapshot | null> {
    return await this.#history.findSnapshot(key, at)
  }

  async dropEntityHistory (key: EntityKey, belowVersion: number): Promise<void> {
    await this.#history.drop(key, belowVersion)
  }

  /**
   * Of all: the partitions in the order of their tokens, page by page. Of a tenant: by its index, a look-up each, as a scan of everything
   * would cost a small tenant what all others have.
   */
  async * scanEntities (kind: EntityKind, tenant: string | null): AsyncGenerator<{ readonly key: EntityKey, readonly entity: Entity }, void> {
    if (tenant === null) {
      for await (const row of this.#client.stream(selectAll, [], scanRowsMax)) {
        if (row.kind === kind && row.version !== null) yield { key: { tenant: row.tenant as string, device: row.device as string, kind, name: row.name as string }, entity: entityOf(row) }
      }
      return
    }
    for (const salt of allSalts) {
      let keys: EntityKey[] = []
      for await (const row of this.#client.stream(selectOfTenant, [tenant, kind, salt], 1000)) {
        keys.push({ tenant, kind, device: row.device as string, name: row.name as string })
        if (keys.length < scanRowsMax) continue
        yield * await this.#found(keys)
        keys = []
      }
      yield * await this.#found(keys)
    }
  }

  /** Resolves when the histories that were to be moved have been. */
  async settled (): Promise<void> {
    await this.#history.settled()
  }

  /** Waits for what goes on behind commits. */
  async close (): Promise<void> {
    await this.#history.close()
  }

  async #found (keys: readonly EntityKey[]): Promise<{ readonly key: EntityKey, readonly entity: Entity }[]> {
    const found = await inParallel(keys, async key => ({ key, entity: await this.getEntity(key) }))
    // A row of the index leads nowhere where the first commit was not made.
    return found.filter(({ entity }) => entity.version > 0)
  }

  async #commit (commit: EntityCommit): Promise<boolean> {
    const { key, expected, version, events, outbox } = commit
    if (expected === 0) await this.#client.write(insertOfTenant, [key.tenant, key.kind, saltOf(`${key.device}\0${key.name}`), key.device, key.name])
    const id = randomBytes(8).toString('hex')
    if (!await this.#settled(commit, id)) {
      this.stats.refused++
      return false
    }
    this.stats.commits++
    if (outbox.length > 0) await this.#append(outbox)
    if (events.length > 0) this.#history.moveBehind(key, expected, version)
    return true
  }

  /**
   * A batch that was not answered may have been applied, or may yet be while its coordinator tries on. It is sent again, the same, until it is
   * answered: of copies that are conditional on one version a single one applies, and where it was not this one, what is there tells.
   */
  async #settled (commit: EntityCommit, id: string): Promise<boolean> {
    const statements = statementsOf(commit, id)
    let unknown = false
    for (let attempt = 1; ; attempt++) {
      try {
        const { applied } = await this.#client.writePartitionIf(statements)
        return applied || (unknown && await this.#wasOurs(commit, id))
      } catch (error) {
        if (!(error instanceof TwinfoldError) || error.code !== 'store_unavailable' || attempt === attemptsMax) throw error
        unknown = true
        this.stats.unknown++
        await pause(pauseMs * 2 ** (attempt - 1))
      }
    }
  }

  /** Whether the commit stands, though an answer to it was lost and others may have committed on top of it. */
  async #wasOurs ({ key, version, events, items = [] }: EntityCommit, id: string): Promise<boolean> {
    const partition = partitionOf(key)
    const [state] = await this.#client.readSerial(selectCommit, partition)
    if (state === undefined || (state.version as number) < version) return false
    if (state.version === version) return state.commit_id === id
    if (events.length > 0) {
      const [row] = await this.#client.readSerial(selectRowCommit, [...partition, entityPart.event, events[0].version, ''])
      if (row !== undefined) return row.row_commit === id
    }
    const item = items.find(({ body }) => body !== null)
    if (item !== undefined) {
      const [row] = await this.#client.readSerial(selectRowCommit, [...partition, entityPart.item, 0, item.id])
      if (row?.row_commit === id) return true
    }
    throw new TwinfoldError('store_unavailable', 'Cassandra did not say whether the change was made, and others were made since', { retryAfterMs: 100 })
  }
}

function statementsOf ({ key, writer, expected, version, state, events, items = [] }: EntityCommit, id: string): Statement[] {
  const partition = partitionOf(key)
  const statements: Statement[] = [{ cql: setState, parameters: [version, state, writer, expected + 1, id, ...partition, expected === 0 ? null : expected] }]
  if (expected === 0) statements.push({ cql: insertFirst, parameters: partition })
  for (const event of events) statements.push({ cql: insertRow, parameters: [...partition, entityPart.event, event.version, '', event.stamp, event.body, id] })
  for (const item of items) {
    if (item.body === null) statements.push({ cql: deleteItem, parameters: [...partition, item.id] })
    else statements.push({ cql: insertRow, parameters: [...partition, entityPart.item, 0, item.id, null, item.body, id] })
  }
  return statements
}

function entityOf (row: Row | undefined): Entity {
  if (row === undefined) return { version: 0, state: null, writer: '', writerFrom: 0 }
  return { version: row.version as number, state: row.state as string | null, writer: row.writer as string, writerFrom: row.writer_from as number }
}
