/**
 * Rows of the pyramid in windows of their own: per tier and class, because each tier has its own retention (tiers-keys.ts,
 * windows.ts). Readers take the highest generation of each row, over all classes: a row that moves to another class has the old one
 * beside it for a moment.
 */
import { TwinfoldError } from '../../core/errors.js'
import { inParallel } from '../../core/in-parallel.js'
import { timestampUsMax } from '../../core/limits.js'
import { usPerDay } from '../../core/reading.js'
import type { Bucket } from '../../series/partition-plan.js'
import { compareGenerations } from '../generations.js'
import { mergeOrdered } from '../merge-ordered.js'
import type { DeviceRange, Generation, RetentionClass } from '../raw-store.js'
import { tierKinds, tierOfKind, tiers, type FoundTierRow, type Tier, type TierKind, type TierRow, type TierStore } from '../tier-store.js'
import type { DatabasePool } from './database-pool.js'
import { tierNames, tierPath } from './filenames.js'
import type { KeeperOwner } from './keeper-owner.js'
import { del, put, type Operation } from './level.js'
import { dropDatabase, listWindows, type StoredWindow } from './raw-files.js'
import { readFrom } from './raw-read.js'
import { readRows, scanKeys, scanRows, type Row } from './scan.js'
import { bucketTierRange, decodeTierValue, encodeTierValue, readTierKey, startsOf, tierKey, tierRange, type TierKeyParts } from './tiers-keys.js'
import { tierWindowStart, tierWindowUs } from './windows.js'

export interface EmbeddedTiersOptions {
  readonly directory: string
  readonly pool: DatabasePool
  /** null in a store beside the owner's. */
  readonly owner: KeeperOwner | null
}

export class EmbeddedTierStore implements TierStore {
  readonly #options: EmbeddedTiersOptions

  constructor (options: EmbeddedTiersOptions) {
    this.#options = options
  }

  async * scanTiers (range: DeviceRange, kind: TierKind, fromTs: number, toTs: number): AsyncGenerator<FoundTierRow> {
    const wanted = await this.#wanted(range, kind, fromTs, toTs)
    if (wanted === null) return
    let last: FoundRow | null = null
    for await (const row of mergeOrdered(wanted.classes.map(paths => rowsOfWindows(this.#options.pool, paths, wanted.keys)), comesBefore)) {
      if (last !== null && isSameRow(last, row)) continue
      last = row
      yield found(kind, row)
    }
  }

  async readTiers (range: DeviceRange, kind: TierKind, fromTs: number, toTs: number): Promise<readonly FoundTierRow[]> {
    const wanted = await this.#wanted(range, kind, fromTs, toTs)
    if (wanted === null) return []
    const read = await inParallel(wanted.classes.flat(), async path => await this.#options.pool.read<readonly Row[]>(path, [], async database => await readRows(database, wanted.keys)))
    const rows = read.flat().map(([key, value]): FoundRow => ({ ...readTierKey(key), value }))
    // Windows of one class follow one another.
    if (wanted.classes.length > 1) rows.sort((a, b) => comesBefore(a, b) ? -1 : comesBefore(b, a) ? 1 : 0)
    return rows.filter((row, i) => i === 0 || !isSameRow(rows[i - 1], row)).map(row => found(kind, row))
  }

  /** Keys to read, and where: windows by class, ascending; null where nothing can be found. */
  async #wanted ({ tenant, device, retentionDays }: DeviceRange, kind: TierKind, fromTs: number, toTs: number): Promise<{ keys: { gte: Buffer, lt: Buffer }, classes: string[][] } | null> {
    fromTs = Math.max(0, Math.ceil(fromTs))
    toTs = Math.min(timestampUsMax, Math.ceil(toTs))
    if (fromTs >= toTs) return null
    const tier = tierOfKind(kind)
    const byClass = new Map<number, string[]>()
    for (const window of await this.#options.pool.windows.list(tierNames[tier], retentionDays)) {
      if (!meets(window, tier, fromTs, toTs)) continue
      const paths = byClass.get(window.retentionDays)
      if (paths === undefined) byClass.set(window.retentionDays, [window.path])
      else paths.push(window.path)
    }
    return { keys: tierRange(tenant, device, kind, fromTs, toTs), classes: [...byClass.values()] }
  }

  /** @throws TwinfoldError `internal` in a store that is not the owner's. */
  async dropExpiredTiers (nowUs: number, keepDays: (tier: Tier, retentionDays: number) => number): Promise<number> {
    const { directory, owner } = this.#options
    if (owner === null) throw new TwinfoldError('internal', 'only the store that owns the directory drops windows')
    let dropped = 0
    for (const tier of tiers) {
      for (const { path, retentionDays, start } of await listWindows(directory, tierNames[tier])) {
        if (start + tierWindowUs(tier, retentionDays) + keepDays(tier, retentionDays) * usPerDay > nowUs) continue
        // A thread that still reads the window keeps it until the next time.
        if (await owner.exclusively(path, async () => { await dropDatabase(directory, path) })) dropped++
      }
    }
    return dropped
  }
}

interface FoundRow extends TierKeyParts { readonly value: Buffer }

function found (kind: TierKind, { start, bucket, generation, value }: FoundRow): FoundTierRow {
  return { kind, start, bucket, sequence: generation.sequence, ...decodeTierValue(value) }
}

function meets ({ start, retentionDays }: StoredWindow, tier: Tier, fromTs: number, toTs: number): boolean {
  return start < toTs && start + tierWindowUs(tier, retentionDays) > fromTs
}

async function * rowsOfWindows (pool: DatabasePool, paths: readonly string[], keys: { gte: Buffer, lt: Buffer }): AsyncGenerator<FoundRow> {
  for (const path of paths) {
    for await (const rows of readFrom<readonly Row[]>(pool, path, database => scanRows(database, keys))) {
      for (const [key, value] of rows) yield { ...readTierKey(key), value }
    }
  }
}

/** In the order of their keys: by start and bucket, the highest generation of a row first. */
function comesBefore (a: FoundRow, b: FoundRow): boolean {
  const order = a.start - b.start || a.bucket.widthMinutes - b.bucket.widthMinutes || a.bucket.start - b.bucket.start
  return order === 0 ? compareGenerations(a.generation, b.generation) > 0 : order < 0
}

function isSameRow (a: TierKeyParts, b: TierKeyParts): boolean {
  return a.start === b.start && isSameBucket(a.bucket, b.bucket)
}

function isSameBucket (a: Bucket, b: Bucket): boolean {
  return a.start === b.start && a.widthMinutes === b.widthMinutes
}

/** The bucket's rows of a generation, on stable storage when it resolves. */
export async function writeTierRows (pool: DatabasePool, tenant: string, device: string, generation: Generation, rows: readonly (TierRow & RetentionClass)[]): Promise<void> {
  const batches = new Map<string, Operation[]>()
  for (const row of rows) {
    const tier = tierOfKind(row.kind)
    const path = tierPath(tier, row.retentionDays, tierWindowStart(tier, row.retentionDays, row.start))
    const operation = put(tierKey(tenant, device, row, generation), encodeTierValue(row))
    const batch = batches.get(path)
    if (batch === undefined) batches.set(path, [operation])
    else batch.push(operation)
  }
  await Promise.all([...batches].map(async ([path, operations]) => { await pool.write(path, operations, true) }))
}

/** Removes the bucket's rows of lower generations, in every class. */
export async function removeLowerTierRows (pool: DatabasePool, directory: string, tenant: string, device: string, bucket: Bucket, generation: Generation): Promise<void> {
  for (const tier of tiers) {
    const kinds = tierKinds.filter(kind => tierOfKind(kind) === tier)
    const { first, last } = startsOf(kinds[0], bucket)
    const windows = (await listWindows(directory, tierNames[tier])).filter(window => meets(window, tier, first, last + 1))
    await Promise.all(windows.map(async ({ path }) => {
      const operations: Operation[] = []
      for (const kind of kinds) {
        for await (const keys of readFrom<readonly Buffer[]>(pool, path, database => scanKeys(database, bucketTierRange(tenant, device, kind, bucket)))) {
          for (const key of keys) {
            const found = readTierKey(key)
            if (isSameBucket(found.bucket, bucket) && compareGenerations(found.generation, generation) < 0) operations.push(del(key))
          }
        }
      }
      if (operations.length > 0) await pool.write(path, operations)
    }))
  }
}
