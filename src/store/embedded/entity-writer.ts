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
import { encodeEvents, eventSize } from '../out-event-codec.js'
import type { DatabasePool } from './database-pool.js'
import { encodeEvent, encodeHead, entityTables, headKey, itemKey, logEndKey, logKey, positionOfLogKey, versionKey, versionOfHead } from './entity-keys.js'
import { entitiesName } from './filenames.js'
import { del, put, type Database, type Operation } from './level.js'
import { rangeOf } from './key-bytes.js'

/** A write takes no more than this of what has gathered, about: one that waits for the next is not delayed by it for long. */
const groupBytesMax = 4 * 1024 * 1024
/** Entities whose versions are remembered, so that a write need not read first; the ones changed longest ago go. */
const versionsMax = 20_000

interface Request {
  readonly commits: readonly EntityCommit[]
  readonly events: readonly OutEvent[]
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
    return await new Promise<boolean[]>((resolve, reject) => {
      this.#requests.push({ commits, events, bytes: sizeOf(commits, events), resolve, reject })
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
    const keys = requests.map(({ commits }) => commits.map(({ key }) => headKey(key)))
    await this.#readVersions(keys.flat())
    const group = new Group()
    requests.forEach(({ commits, events }, r) => {
      group.outcomes.push(commits.map((commit, i) => this.#commit(group, keys[r][i], commit)))
      for (const event of events) this.#tell(group, event)
    })
    return group
  }

  #commit (group: Group, head: Buffer, commit: EntityCommit): boolean {
    const name = head.toString('latin1')
    const version = group.versions.get(name) ?? this.#versions.get(name) ?? 0
    if (version !== commit.expected) {
      this.stats.refused++
      return false
    }
    const { key, writer, state, events, items = [], outbox } = commit
    group.versions.set(name, commit.version)
    const { operations } = group
    operations.push(put(head, encodeHead({ version: commit.version, writer, writerFrom: commit.expected + 1, state })))
    for (const event of events) operations.push(put(versionKey(entityTables.event, key, event.version), encodeEvent(event)))
    for (const { id, body } of items) operations.push(body === null ? del(itemKey(key, id)) : put(itemKey(key, id), Buffer.from(body)))
    for (const event of outbox) this.#tell(group, event)
    this.stats.commits++
    return true
  }

  #tell (group: Group, event: OutEvent): void {
    const lane = laneOf(event.tenant, event.device)
    this.#position = Math.max((this.#position as number) + 1, this.#clock.nowUs())
    group.operations.push(put(logKey(lane, this.#position), encodeEvents([event])))
    group.lanes.add(lane)
    this.stats.events++
  }

  /** Makes the versions of the entities known that are not, and the position where the log goes on. */
  async #readVersions (heads: readonly Buffer[]): Promise<void> {
    const missing = heads.filter(head => !this.#versions.has(head.toString('latin1')))
    if (missing.length > 0) {
      const values = await this.#pool.read(entitiesName, [], async database => await database.getMany(missing) as (Buffer | undefined)[])
      missing.forEach((head, i) => {
        const value = values[i]
        this.#versions.set(head.toString('latin1'), value === undefined ? 0 : versionOfHead(value))
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

function sizeOf (commits: readonly EntityCommit[], events: readonly OutEvent[]): number {
  let bytes = 0
  for (const event of events) bytes += eventSize(event)
  for (const { state, events: history, items, outbox } of commits) {
    bytes += 200 + (state?.length ?? 0)
    for (const { body } of history) bytes += 100 + body.length
    for (const item of items ?? []) bytes += 100 + (item.body?.length ?? 0)
    for (const event of outbox) bytes += eventSize(event)
  }
  return bytes
}
