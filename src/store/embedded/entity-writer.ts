/**
 * The one writer of the database `entities`: one write is in flight, the next takes what has gathered meanwhile, and every write is on
 * stable storage when it is answered. Versions are compared inside it, against what is stored and what the same write changes before, so a
 * condition is exact; a state, its events, its items and what is told of it are one atomic batch (INVARIANTS 5).
 *
 * Every write is synced, wished or not: a commit that was lost under a later one which was kept (LevelDB syncs its newest log alone) would
 * be a hole in a history. A group shares one sync, so it costs throughput nothing.
 *
 * Positions of the event log are assigned here: microseconds of the wall clock, pushed to be strictly increasing.
 */
import type { Clock } from '../../core/clock.js'
import type { EntityCommit } from '../entity-store.js'
import { laneOf, type OutEvent } from '../event-log.js'
import { encodeEvents } from '../out-event-codec.js'
import type { DatabasePool } from './database-pool.js'
import { encodeEvent, encodeHead, entityTables, headKey, itemKey, logEndKey, logKey, positionOfLogKey, versionKey, versionOfHead } from './entity-keys.js'
import { entitiesName } from './filenames.js'
import { del, put, type Database, type Operation } from './level.js'
import { rangeOf } from './key-bytes.js'

/** A write takes no more than this of what has gathered, about: one that waits for the next is not delayed by it for long. */
const groupBytesMax = 4 * 1024 * 1024
/** Entities whose versions are remembered, so that a write need not read first; the ones changed longest ago go. */
const versionsMax = 20_000

interface Told { readonly lane: number, readonly value: Buffer }

/** A commit as rows: made before it waits, so that one that cannot be made rejects its own call alone. */
interface Prepared {
  readonly head: Buffer
  /** The head's key as the name that its version is remembered by. */
  readonly name: string
  readonly expected: number
  readonly version: number
  readonly operations: readonly Operation[]
  readonly told: readonly Told[]
}

interface Request {
  readonly commits: readonly Prepared[]
  readonly told: readonly Told[]
  readonly bytes: number
  readonly resolve: (committed: boolean[]) => void
  readonly reject: (error: unknown) => void
}

/** One write in the making. */
class Group {
  readonly operations: Operation[] = []
  readonly versions = new Map<string, number>()
  readonly lanes = new Set<number>()
  readonly outcomes: boolean[][] = []
}

export class EntityWriter {
  readonly #pool: DatabasePool
  readonly #clock: Clock
  readonly #versions = new Map<string, number>()
  readonly #listeners = new Set<(lanes: ReadonlySet<number>) => void>()
  /** Bounded by the callers, each of whom waits. */
  #requests: Request[] = []
  #writing = false
  /** The greatest position given out; null: not read yet. */
  #position: number | null = null
  /** The greatest position that can be read: all up to it are written. */
  #readable: number | null = null
  readonly stats = { commits: 0, refused: 0, writes: 0, events: 0 }

  constructor (pool: DatabasePool, clock: Clock) {
    this.#pool = pool
    this.#clock = clock
  }

  /** For each commit whether it was made; the events are told whatever became of the commits. */
  async write (commits: readonly EntityCommit[], events: readonly OutEvent[]): Promise<boolean[]> {
    const prepared = commits.map(prepare)
    const told = events.map(toldOf)
    const bytes = bytesOf(told) + prepared.reduce((sum, commit) => sum + bytesOf(commit.told) + bytesOf(commit.operations), 0)
    return await new Promise<boolean[]>((resolve, reject) => {
      this.#requests.push({ commits: prepared, told, bytes, resolve, reject })
      if (!this.#writing) void this.#writeGathered()
    })
  }

  onAppended (listener: (lanes: ReadonlySet<number>) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  /** Every event at or before it can be read now, and every later one is behind it. */
  async readablePosition (): Promise<number> {
    return this.#readable ?? await this.#pool.read(entitiesName, 0, lastPosition)
  }

  /** Keeps positions increasing over a trim that leaves nothing to go on from. */
  async keepPosition (): Promise<void> {
    const position = await this.readablePosition()
    if (position > 0) await this.#pool.write(entitiesName, [put(logEndKey, Buffer.from(String(position)))], true)
  }

  async #writeGathered (): Promise<void> {
    this.#writing = true
    // What is asked for in the same turn is written together.
    await null
    while (this.#requests.length > 0) {
      const requests = this.#take()
      try {
        const group = await this.#make(requests)
        if (group.operations.length > 0) await this.#pool.write(entitiesName, group.operations, true)
        this.#written(group)
        requests.forEach(({ resolve }, i) => { resolve(group.outcomes[i]) })
        if (group.lanes.size > 0) for (const listener of this.#listeners) listener(group.lanes)
      } catch (error) {
        // What became of the write is not known: versions are read again before the next.
        this.#versions.clear()
        for (const { reject } of requests) reject(error)
      }
    }
    this.#writing = false
  }

  #take (): Request[] {
    let count = 0
    for (let bytes = 0; count < this.#requests.length && (count === 0 || bytes < groupBytesMax); count++) bytes += this.#requests[count].bytes
    return this.#requests.splice(0, count)
  }

  async #make (requests: readonly Request[]): Promise<Group> {
    await this.#readVersions(requests.flatMap(({ commits }) => commits))
    const group = new Group()
    for (const { commits, told } of requests) {
      group.outcomes.push(commits.map(commit => this.#commit(group, commit)))
      for (const one of told) this.#tell(group, one)
    }
    return group
  }

  #commit (group: Group, { name, expected, version, operations, told }: Prepared): boolean {
    if ((group.versions.get(name) ?? this.#versions.get(name)) !== expected) {
      this.stats.refused++
      return false
    }
    group.versions.set(name, version)
    for (const operation of operations) group.operations.push(operation)
    for (const one of told) this.#tell(group, one)
    this.stats.commits++
    return true
  }

  #tell (group: Group, { lane, value }: Told): void {
    this.#position = Math.max((this.#position as number) + 1, this.#clock.nowUs())
    group.operations.push(put(logKey(lane, this.#position), value))
    group.lanes.add(lane)
    this.stats.events++
  }

  /** Makes the versions of the entities known that are not, and the position where the log goes on. */
  async #readVersions (commits: readonly Prepared[]): Promise<void> {
    const missing = commits.filter(({ name }) => !this.#versions.has(name))
    if (missing.length > 0) {
      const values = await this.#pool.read(entitiesName, [], async database => await database.getMany(missing.map(({ head }) => head)) as Buffer[])
      missing.forEach(({ name }, i) => {
        // Where there is no database yet there are no values either.
        const value = values[i] as Buffer | undefined
        this.#versions.set(name, value === undefined ? 0 : versionOfHead(value))
      })
    }
    this.#readable ??= await this.#pool.read(entitiesName, 0, lastPosition)
    this.#position ??= this.#readable
  }

  #written (group: Group): void {
    for (const [name, version] of group.versions) {
      this.#versions.delete(name)
      this.#versions.set(name, version)
    }
    for (const name of this.#versions.keys()) {
      if (this.#versions.size <= versionsMax) break
      this.#versions.delete(name)
    }
    this.#readable = this.#position
    this.stats.writes++
  }
}

/** The greatest position that was ever given out, 0 where none was. */
async function lastPosition (database: Database): Promise<number> {
  const end = await database.get(logEndKey) as Buffer | undefined
  let last = end === undefined ? 0 : Number(end.toString('latin1'))
  const { lt } = rangeOf(logKey(0, 0).subarray(0, 2))
  for (let lane = 0; lane < 256; lane++) {
    const keys = await database.keys({ gte: logKey(lane, 0), lt, limit: 1 }).all() as Buffer[]
    // Lanes that have nothing are passed over at once.
    if (keys.length === 0) break
    lane = keys[0][2]
    const [key] = await database.keys({ ...rangeOf(keys[0].subarray(0, 3)), reverse: true, limit: 1 }).all() as Buffer[]
    last = Math.max(last, positionOfLogKey(key))
  }
  return last
}

function prepare ({ key, writer, expected, version, state, events, items = [], outbox }: EntityCommit): Prepared {
  const head = headKey(key)
  const operations: Operation[] = [put(head, encodeHead({ version, writer, writerFrom: expected + 1, state }))]
  for (const event of events) operations.push(put(versionKey(entityTables.event, key, event.version), encodeEvent(event)))
  for (const { id, body } of items) operations.push(body === null ? del(itemKey(key, id)) : put(itemKey(key, id), Buffer.from(body)))
  return { head, name: head.toString('latin1'), expected, version, operations, told: outbox.map(toldOf) }
}

function toldOf (event: OutEvent): Told {
  return { lane: laneOf(event.tenant, event.device), value: encodeEvents([event]) }
}

/** About: keys and what LevelDB adds are small beside the values. */
function bytesOf (rows: readonly (Told | Operation)[]): number {
  let bytes = 0
  for (const row of rows) bytes += 100 + ('value' in row ? row.value.length : 0)
  return bytes
}
