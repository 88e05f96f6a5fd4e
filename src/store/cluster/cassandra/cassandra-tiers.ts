/**
 * Rows of the pyramid (schemas/cassandra/0007-tiers.cql). The generation is part of a row's key: a sealer that wakes up late writes
 * rows beside the newer ones, and readers take the highest. A row's TTL is that of its class.
 */
import { timestampUsMax } from '../../../core/limits.js'
import { inParallel } from '../../../core/in-parallel.js'
import { usPerDay, usPerHour, usPerMinute } from '../../../core/reading.js'
import type { Bucket, BucketWidthMinutes } from '../../../series/partition-plan.js'
import type { DeviceRange, Generation, RetentionClass } from '../../raw-store.js'
import { tierKinds, tierOfKind, type FoundTierRow, type Tier, type TierKind, type TierRow, type TierStore } from '../../tier-store.js'
import type { CassandraClient, Row, Statement } from './cassandra-client.js'
import { batchBytesMax, groupBy, ttlSeconds } from './cassandra-raw-keys.js'

type StoredTierRow = TierRow & RetentionClass

interface TierTable {
  /** µs that one partition holds. */
  readonly spanUs: number
  readonly insert: string
  readonly select: string
  readonly deleteLower: string
}

function tableOf (tier: Tier, spanDays: number): TierTable {
  const name = `tier_rows_${tier}`
  const inPartition = 'tenant = ? AND device = ? AND span = ?'
  return {
    spanUs: spanDays * usPerDay,
    insert: `INSERT INTO ${name} (tenant, device, span, kind, start, width, bucket, epoch, sequence, as_of, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ?`,
    select: `SELECT start, width, bucket, sequence, as_of, bytes FROM ${name} WHERE ${inPartition} AND kind = ? AND start >= ? AND start < ?`,
    deleteLower: `DELETE FROM ${name} WHERE ${inPartition} AND kind = ? AND start = ? AND width = ? AND bucket = ? AND (epoch, sequence) < (?, ?)`
  }
}

/** Minutes are up to 10 KiB a row, an hour's sketches up to 100 KiB a day: a partition stays below 10 MiB. */
const tables: Readonly<Record<Tier, TierTable>> = { '1m': tableOf('1m', 30), '1h': tableOf('1h', 90), '1d': tableOf('1d', 360) }

const pageRows = 500
/** Partitions that one scan has under way at once; rows that are read ahead stay below so many pages. */
const spansAtOnce = 8
/** What a row's keys count in a batch, bytes. */
const rowBytes = 160
const deletesPerBatch = 200
const minutesPerHour = 60
const minutesPerDay = 1440

function spanOf (tier: Tier, start: number): number {
  const { spanUs } = tables[tier]
  return Math.floor(start / spanUs) * spanUs
}

function periodMinutes (kind: TierKind): number {
  return kind === '1m' ? minutesPerHour : minutesPerDay
}

export class CassandraTierStore implements TierStore {
  readonly #client: CassandraClient

  constructor (client: CassandraClient) {
    this.#client = client
  }

  async * scanTiers (range: DeviceRange, kind: TierKind, fromTs: number, toTs: number): AsyncGenerator<FoundTierRow> {
    fromTs = Math.max(0, Math.ceil(fromTs))
    toTs = Math.min(timestampUsMax, Math.ceil(toTs))
    if (fromTs >= toTs) return
    const tier = tierOfKind(kind)
    const { spanUs } = tables[tier]
    const first = spanOf(tier, fromTs)
    const last = spanOf(tier, toTs - 1)
    for (let from = first; from <= last; from += spansAtOnce * spanUs) {
      const spans: number[] = []
      for (let span = from; span <= last && spans.length < spansAtOnce; span += spanUs) spans.push(span)
      // The first pages side by side: as a rule they are all there is.
      const pages = await inParallel(spans, async span => await this.#page(range, kind, span, fromTs, toTs, null))
      for (const [i, span] of spans.entries()) yield * highest(kind, this.#rows(range, kind, span, fromTs, toTs, pages[i]))
    }
  }

  async readTiers (range: DeviceRange, kind: TierKind, fromTs: number, toTs: number): Promise<readonly FoundTierRow[]> {
    fromTs = Math.max(0, Math.ceil(fromTs))
    toTs = Math.min(timestampUsMax, Math.ceil(toTs))
    if (fromTs >= toTs) return []
    const tier = tierOfKind(kind)
    const spans: number[] = []
    for (let span = spanOf(tier, fromTs); span < toTs; span += tables[tier].spanUs) spans.push(span)
    const read = await inParallel(spans, async span => {
      const rows: Row[] = []
      for (let state: string | null = null; ;) {
        const page: Awaited<ReturnType<CassandraClient['page']>> = await this.#page(range, kind, span, fromTs, toTs, state)
        rows.push(...page.rows)
        if (page.pageState === null) return rows
        state = page.pageState
      }
    }, spansAtOnce)
    const rows = read.flat()
    return rows.filter((row, i) => i === 0 || !isSameRow(rows[i - 1], row)).map(row => found(kind, row))
  }

  /** Nothing to do: rows carry their class as TTL. */
  async dropExpiredTiers (): Promise<number> { return 0 }

  async * #rows (range: DeviceRange, kind: TierKind, span: number, fromTs: number, toTs: number, page: Awaited<ReturnType<CassandraClient['page']>>): AsyncGenerator<Row> {
    for (;;) {
      yield * page.rows
      if (page.pageState === null) return
      page = await this.#page(range, kind, span, fromTs, toTs, page.pageState)
    }
  }

  async #page (range: DeviceRange, kind: TierKind, span: number, fromTs: number, toTs: number, pageState: string | null): ReturnType<CassandraClient['page']> {
    return await this.#client.page(tables[tierOfKind(kind)].select, [range.tenant, range.device, span, kind, fromTs, toTs], pageRows, pageState)
  }
}

/** The first of the rows of a period and bucket. */
async function * highest (kind: TierKind, rows: AsyncIterable<Row>): AsyncGenerator<FoundTierRow> {
  let last: Row | null = null
  for await (const row of rows) {
    if (last !== null && isSameRow(last, row)) continue
    last = row
    yield found(kind, row)
  }
}

const isSameRow = (a: Row, b: Row): boolean => a.start === b.start && a.width === b.width && a.bucket === b.bucket

function found (kind: TierKind, row: Row): FoundTierRow {
  return {
    kind,
    start: row.start as number,
    bucket: { start: row.bucket as number, widthMinutes: row.width as BucketWidthMinutes },
    sequence: row.sequence as number,
    asOf: row.as_of as number,
    bytes: row.bytes as Buffer
  }
}
/** Rows of one partition go together, as many as a batch may hold. */
export async function writeTierRows (client: CassandraClient, tenant: string, device: string, generation: Generation, rows: readonly StoredTierRow[]): Promise<void> {
  const batches: Statement[][] = []
  for (const group of groupBy(rows, ({ kind, start }) => `${tierOfKind(kind)}:${spanOf(tierOfKind(kind), start)}`).values()) {
    let batch: Statement[] = []
    let bytes = 0
    for (const row of group) {
      if (batch.length > 0 && bytes + rowBytes + row.bytes.length > batchBytesMax) {
        batches.push(batch)
        batch = []
        bytes = 0
      }
      batch.push(insertOf(tenant, device, generation, row))
      bytes += rowBytes + row.bytes.length
    }
    batches.push(batch)
  }
  await inParallel(batches, async batch => { await writeTogether(client, batch) })
}

function insertOf (tenant: string, device: string, { epoch, sequence }: Generation, { kind, start, bucket, asOf, bytes, retentionDays }: StoredTierRow): Statement {
  const tier = tierOfKind(kind)
  const ttl = ttlSeconds(retentionDays, Math.max(periodMinutes(kind), bucket.widthMinutes))
  return { cql: tables[tier].insert, parameters: [tenant, device, spanOf(tier, start), kind, start, bucket.widthMinutes, bucket.start, epoch, sequence, asOf, bytes, ttl] }
}

/**
 * Removes the bucket's rows of lower generations: of every period that it can have rows of, unread, as none of a lower generation may
 * be left where the newer one has nothing any more.
 */
export async function removeLowerTierRows (client: CassandraClient, tenant: string, device: string, bucket: Bucket, { epoch, sequence }: Generation): Promise<void> {
  const endTs = bucket.start + bucket.widthMinutes * usPerMinute
  const deletes: (Statement & { readonly partition: string })[] = []
  for (const kind of tierKinds) {
    const tier = tierOfKind(kind)
    const periodUs = kind === '1m' ? usPerHour : usPerDay
    for (let start = Math.floor(bucket.start / periodUs) * periodUs; start < endTs; start += periodUs) {
      const span = spanOf(tier, start)
      deletes.push({ partition: `${tier}:${span}`, cql: tables[tier].deleteLower, parameters: [tenant, device, span, kind, start, bucket.widthMinutes, bucket.start, epoch, sequence] })
    }
  }
  const batches: Statement[][] = []
  for (const group of groupBy(deletes, ({ partition }) => partition).values()) {
    for (let i = 0; i < group.length; i += deletesPerBatch) batches.push(group.slice(i, i + deletesPerBatch))
  }
  await inParallel(batches, async batch => { await writeTogether(client, batch) })
}

async function writeTogether (client: CassandraClient, batch: readonly Statement[]): Promise<void> {
  if (batch.length === 1) await client.write(batch[0].cql, batch[0].parameters)
  else await client.writePartition(batch)
}
