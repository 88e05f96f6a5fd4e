/**
 * Histories of entities. A commit puts its events beside the state; when a new thousand of versions begins, those before it move to a table
 * of their own, behind the commit, so that the partition of the state stays small (at most two thousand events where a move failed: the next
 * one takes them along). Snapshots are always there, with a row each in the state's partition by which they are found.
 *
 * A move names the thousand in the state's partition, then copies, then deletes. It may stop anywhere and be made again. Readers look at the
 * state's partition first and at the moved events afterwards, so they see an event on the one side or the other, or on both.
 */
import { TwinfoldError } from '../../../core/errors.js'
import { KeyedLock } from '../../../core/keyed-lock.js'
import type { EntityEvent, EntityKey, EntitySnapshot } from '../../entity-store.js'
import type { CassandraClient, Row, Statement } from './cassandra-client.js'
import { entityPart, historyVersions, lockName, partitionOf, thousandOf, wherePartition } from './cassandra-entity-keys.js'

const selectNewest = `SELECT number, stamp, body FROM entity WHERE ${wherePartition} AND part = ${entityPart.event} AND number >= ? AND number <= ? LIMIT ?`
const selectThousands = `SELECT number FROM entity WHERE ${wherePartition} AND part = ${entityPart.thousand} AND number >= ? AND number <= ?`
const insertThousand = `INSERT INTO entity (tenant, device, kind, name, part, number, id) VALUES (?, ?, ?, ?, ${entityPart.thousand}, ?, '')`
const deleteMoved = `DELETE FROM entity WHERE ${wherePartition} AND part = ${entityPart.event} AND number < ?`
const selectMoved = `SELECT version, stamp, body FROM entity_history WHERE ${wherePartition} AND thousand = ? AND part = ${entityPart.event} AND version >= ? AND version <= ? LIMIT ?`
const insertMoved = `INSERT INTO entity_history (tenant, device, kind, name, thousand, part, version, stamp, body) VALUES (?, ?, ?, ?, ?, ${entityPart.event}, ?, ?, ?)`
const insertSnapshot = `INSERT INTO entity_history (tenant, device, kind, name, thousand, part, version, stamp, body) VALUES (?, ?, ?, ?, ?, ${entityPart.snapshot}, ?, ?, ?)`
const insertSnapshotName = `INSERT INTO entity (tenant, device, kind, name, part, number, id, stamp) VALUES (?, ?, ?, ?, ${entityPart.snapshot}, ?, '', ?)`
const selectSnapshotNames = `SELECT number, stamp FROM entity WHERE ${wherePartition} AND part = ${entityPart.snapshot} AND number <= ? ORDER BY part DESC, number DESC, id DESC`
const selectSnapshot = `SELECT version, stamp, body FROM entity_history WHERE ${wherePartition} AND thousand = ? AND part = ${entityPart.snapshot} AND version = ?`
const deleteThousand = `DELETE FROM entity_history WHERE ${wherePartition} AND thousand = ?`
const deleteOfThousand = `DELETE FROM entity_history WHERE ${wherePartition} AND thousand = ? AND part = ? AND version < ?`
const selectCut = `SELECT part, version, history_from FROM entity WHERE ${wherePartition} AND part = ${entityPart.first} AND number = 0 AND id = ''`
const setCut = `UPDATE entity SET history_from = ? WHERE ${wherePartition} IF version = ?`
const deleteNames = `DELETE FROM entity WHERE ${wherePartition} AND part = ? AND number < ?`

/** Bytes of events that are copied in one batch, and rows that are read for it. */
const batchBytesMax = 48 * 1024
const moveRows = 200
/** Entities that wait to have their events moved; of more, the next thousand takes them along. */
const movesMax = 1000
/** A cut is made under the condition that nothing was committed meanwhile; so often it is tried. */
const cutAttemptsMax = 16
const versionMax = Number.MAX_SAFE_INTEGER

export class EntityHistory {
  readonly #client: CassandraClient
  readonly #locks = new KeyedLock()
  readonly #moves = new Map<string, { readonly key: EntityKey, readonly below: number }>()
  #moving: Promise<void> | null = null
  readonly #stats: { moved: number, moveFailures: number }

  /** @param stats counted up: moves that were finished, and that were not */
  constructor (client: CassandraClient, stats: { moved: number, moveFailures: number }) {
    this.#client = client
    this.#stats = stats
  }

  async read (key: EntityKey, from: number, to: number, limit: number): Promise<EntityEvent[]> {
    from = Math.max(0, from)
    to = Math.min(versionMax, to)
    if (to < from || limit <= 0) return []
    const partition = partitionOf(key)
    const newest = (await this.#client.read(selectNewest, [...partition, from, to, limit])).map(row => ({ version: row.number as number, stamp: row.stamp as number, body: row.body as string }))
    // Without a gap from the first on: nothing of it was moved.
    if (newest.length > 0 && newest.every(({ version }, i) => version === from + i)) return newest
    const thousands = await this.#client.read(selectThousands, [...partition, thousandOf(from), thousandOf(to)])
    const moved: EntityEvent[] = []
    for (const { number } of thousands) {
      if (moved.length >= limit) break
      const rows = await this.#client.read(selectMoved, [...partition, number, from, to, limit - moved.length])
      moved.push(...rows.map(eventOf))
    }
    if (moved.length === 0) return newest
    const both = new Map<number, EntityEvent>()
    for (const event of [...moved, ...newest]) both.set(event.version, event)
    return [...both.values()].sort((a, b) => a.version - b.version).slice(0, limit)
  }

  async putSnapshot (key: EntityKey, { version, stamp, state }: EntitySnapshot): Promise<void> {
    const partition = partitionOf(key)
    const thousand = thousandOf(version)
    await this.#client.write(insertThousand, [...partition, thousand])
    await this.#client.write(insertSnapshot, [...partition, thousand, version, stamp, state])
    await this.#client.write(insertSnapshotName, [...partition, version, stamp])
  }

  async findSnapshot (key: EntityKey, at: { readonly version: number } | { readonly stamp: number }): Promise<EntitySnapshot | null> {
    const partition = partitionOf(key)
    for await (const row of this.#client.stream(selectSnapshotNames, [...partition, 'version' in at ? Math.min(versionMax, at.version) : versionMax], 50)) {
      if ('stamp' in at && (row.stamp as number) > at.stamp) continue
      const version = row.number as number
      const [found] = await this.#client.read(selectSnapshot, [...partition, thousandOf(version), version])
      if (found !== undefined) return { version, stamp: found.stamp as number, state: found.body as string | null }
    }
    return null
  }

  async drop (key: EntityKey, below: number): Promise<void> {
    if (below <= 0) return
    await this.#locks.run(lockName(key), async () => {
      const partition = partitionOf(key)
      await this.#dropMoved(key, await this.#thousands(key, below), below)
      for (let attempt = 1; attempt <= cutAttemptsMax; attempt++) {
        const [row] = await this.#client.readSerial(selectCut, partition)
        if (row === undefined) return
        // With the condition the batch is a step of the partition like a commit: it deletes what was committed a moment ago on a node whose clock is ahead.
        const { applied } = await this.#client.writePartitionIf([
          { cql: setCut, parameters: [Math.max(below, (row.history_from as number | null) ?? 0), ...partition, row.version] },
          { cql: deleteNames, parameters: [...partition, entityPart.event, below] },
          { cql: deleteNames, parameters: [...partition, entityPart.snapshot, below] },
          { cql: deleteNames, parameters: [...partition, entityPart.thousand, thousandOf(below)] }
        ])
        if (applied) return
      }
      throw new TwinfoldError('store_unavailable', 'the entity changes too fast for its history to be cut now', { retryAfterMs: 1000 })
    })
  }

  /** Moves what a new thousand of versions leaves behind; does not wait for it. */
  moveBehind (key: EntityKey, before: number, version: number): void {
    if (thousandOf(before) === thousandOf(version) || this.#moves.size >= movesMax) return
    this.#moves.set(lockName(key), { key, below: thousandOf(version) * historyVersions })
    this.#moving ??= this.#moveAll().finally(() => { this.#moving = null })
  }

  /** Waits for the moves that are under way. */
  async close (): Promise<void> {
    this.#moves.clear()
    await this.#moving
  }

  /** Resolves when nothing waits to be moved. */
  async settled (): Promise<void> {
    await this.#moving
  }

  async #moveAll (): Promise<void> {
    for (const [name, { key, below }] of this.#moves) {
      this.#moves.delete(name)
      try {
        await this.#locks.run(name, async () => { await this.#move(key, below) })
        this.#stats.moved++
      } catch {
        // The next thousand takes them along; until then they are read where they are.
        this.#stats.moveFailures++
      }
    }
  }

  async #move (key: EntityKey, below: number): Promise<void> {
    const partition = partitionOf(key)
    const thousands = new Set<number>()
    for (let from = 0; ;) {
      const rows = await this.#client.read(selectNewest, [...partition, from, below - 1, moveRows])
      if (rows.length === 0) break
      for (const thousand of new Set(rows.map(row => thousandOf(row.number as number)))) {
        if (!thousands.has(thousand)) await this.#client.write(insertThousand, [...partition, thousand])
        thousands.add(thousand)
        await this.#copy(key, thousand, rows.filter(row => thousandOf(row.number as number) === thousand))
      }
      from = (rows[rows.length - 1].number as number) + 1
    }
    if (thousands.size === 0) return
    await this.#client.write(deleteMoved, [...partition, below])
    // Who cut the history meanwhile may have looked before these were copied.
    const [row] = await this.#client.read(selectCut, partition)
    const cut = (row?.history_from as number | null | undefined) ?? 0
    if (cut > 0) await this.#dropMoved(key, [...thousands].filter(thousand => thousand * historyVersions < cut), cut)
  }

  async #copy (key: EntityKey, thousand: number, rows: readonly Row[]): Promise<void> {
    let batch: Statement[] = []
    let bytes = 0
    for (const { number, stamp, body } of rows) {
      const size = (body as string).length * 3 + 64
      if (batch.length > 0 && bytes + size > batchBytesMax) {
        await this.#client.writePartition(batch)
        batch = []
        bytes = 0
      }
      batch.push({ cql: insertMoved, parameters: [...partitionOf(key), thousand, number, stamp, body] })
      bytes += size
    }
    await this.#client.writePartition(batch)
  }

  async #thousands (key: EntityKey, below: number): Promise<number[]> {
    return (await this.#client.read(selectThousands, [...partitionOf(key), 0, thousandOf(below - 1)])).map(row => row.number as number)
  }

  async #dropMoved (key: EntityKey, thousands: readonly number[], below: number): Promise<void> {
    const partition = partitionOf(key)
    for (const thousand of thousands) {
      if ((thousand + 1) * historyVersions <= below) {
        await this.#client.write(deleteThousand, [...partition, thousand])
        continue
      }
      for (const part of [entityPart.event, entityPart.snapshot]) await this.#client.write(deleteOfThousand, [...partition, thousand, part, below])
    }
  }
}

function eventOf (row: Row): EntityEvent {
  return { version: row.version as number, stamp: row.stamp as number, body: row.body as string }
}
