/**
 * Reads one device's readings out of the store in event-time order: slabs, head chunks and sealed chunks, joined so that
 * every point appears once (INVARIANTS 3). Runs in a worker thread.
 *
 * Slabs are read before chunks: a merge writes the chunk before it removes the slabs, so a reader that looks in that order
 * misses nothing; what it sees twice the join drops.
 */
import { shardOf } from '../core/ids.js'
import { usPerDay, usPerMinute, type Chunk } from '../core/reading.js'
import { inParallel } from '../core/in-parallel.js'
import { decodeChunk, decodeSlabDevice } from '../series/codec.js'
import { dropErased } from '../series/erase.js'
import { mergeChunks, type MergeRange } from '../series/merge.js'
import { bucketsIn, saltsToRead, type Bucket, type PartitionPlan } from '../series/partition-plan.js'
import { CoveredChunks } from './covered.js'
import { cutChunk } from '../series/cut-chunk.js'
import type { BucketRef, DeviceChunkRow } from './raw-store.js'
import type { ErasedPart } from './small-stores.js'
import type { Store } from './store.js'
import type { ReadingOrder } from '../../workers/protocol.js'

export interface ReadRequest {
  readonly tenant: string
  readonly device: string
  readonly retentionDays: readonly number[]
  /** Points before this, µs, are outside the retention. */
  readonly oldestTs: number
  /** µs, [fromTs, toTs) */
  readonly fromTs: number
  readonly toTs: number
  readonly order: ReadingOrder
  readonly metrics: ReadonlySet<string> | null
  /** Called between rows: throws where the reader is to give up. */
  readonly checkpoint?: () => void
  /** Every chunk names the journals of its rows, as `MergeOptions` says. */
  readonly keepJournals?: boolean
}

interface Source {
  readonly chunk: Chunk
  readonly journalId: string
  /** The chunk is a result of `mergeChunks`: sorted, and every point in it once. */
  readonly merged?: boolean
}

/** What is erased of the device, in the two forms in which readers use it. */
export interface Erased {
  /** Points with a lower accept stamp are erased, all of them. */
  readonly before: number
  /** Erasures of a metric or a range. */
  readonly parts: readonly ErasedPart[]
}

export function erasedOf (parts: readonly ErasedPart[]): Erased {
  const isWhole = ({ metric, fromTs, toTs }: ErasedPart): boolean => (metric ?? null) === null && fromTs === undefined && toTs === undefined
  return { before: parts.filter(isWhole).reduce((stamp, part) => Math.max(stamp, part.stamp), 0), parts: parts.filter(part => !isWhole(part)) }
}

/** Spans that are read ahead of the consumer: none for the first, so that one who stops early has cost little. */
const spansAheadMax = 4

/**
 * Yields chunks of joined readings: each ascending inside, following one another in the order asked for, without overlap.
 * A consumer that stops early costs little more than what it took.
 */
export async function * readReadings (store: Store, request: ReadRequest): AsyncGenerator<Chunk> {
  const fromTs = Math.max(request.fromTs, request.oldestTs)
  const { toTs } = request
  if (fromTs >= toTs) return
  const [parts, { plan }, days] = await Promise.all([
    store.erasedParts(request.tenant, request.device), store.getPlan(request.tenant, request.device), daysSeen(store, request, fromTs, toTs)
  ])
  const erased = erasedOf(parts)
  const spans = bucketSpans(plan, days, fromTs, toTs, request.order)
  const ahead: Promise<SpanRows>[] = []
  let started = 0
  try {
    for (let i = 0; i < spans.length; i++) {
      request.checkpoint?.()
      for (; started < spans.length && started <= i + Math.min(i, spansAheadMax); started++) {
        const reading = rowsOfSpan(store, request, plan, spans[started])
        // Whoever waits for it hears of a failure; nobody may.
        reading.catch(() => {})
        ahead.push(reading)
      }
      yield * joinSpan(request, spans[i], await (ahead.shift() as Promise<SpanRows>), erased)
    }
  } finally {
    await Promise.allSettled(ahead)
  }
}

/** Days (µs) that have points in the range, ascending: buckets elsewhere need not be looked at. */
async function daysSeen (store: Store, request: ReadRequest, fromTs: number, toTs: number): Promise<number[]> {
  const days = new Set<number>()
  for await (const row of store.raw.scanSeen(request)) {
    request.checkpoint?.()
    if (row.day + usPerDay <= fromTs) break
    if (row.day < toTs) days.add(row.day)
  }
  return [...days].sort((a, b) => a - b)
}

interface BucketSpan { readonly buckets: readonly Bucket[], readonly fromTs: number, readonly toTs: number }

/**
 * The buckets that can hold points of those days, gathered into spans of event time that do not overlap one another
 * (buckets of different widths do, where the plan changed), in the order asked for.
 */
export function bucketSpans (plan: PartitionPlan, days: readonly number[], fromTs: number, toTs: number, order: ReadingOrder): BucketSpan[] {
  const wanted = new Map<string, Bucket>()
  for (const day of days) {
    for (const bucket of bucketsIn(plan, Math.max(day, fromTs), Math.min(day + usPerDay, toTs))) wanted.set(`${bucket.widthMinutes}:${bucket.start}`, bucket)
  }
  const endOf = (bucket: Bucket): number => bucket.start + bucket.widthMinutes * usPerMinute
  const sorted = [...wanted.values()].sort((a, b) => a.start - b.start || b.widthMinutes - a.widthMinutes)
  const spans: { buckets: Bucket[], fromTs: number, toTs: number }[] = []
  for (const bucket of sorted) {
    const last = spans[spans.length - 1]
    if (last !== undefined && bucket.start < last.toTs) {
      last.buckets.push(bucket)
      last.toTs = Math.max(last.toTs, endOf(bucket))
    } else {
      spans.push({ buckets: [bucket], fromTs: bucket.start, toTs: endOf(bucket) })
    }
  }
  const cut = spans.map(span => ({ ...span, fromTs: Math.max(span.fromTs, fromTs), toTs: Math.min(span.toTs, toTs) })).filter(span => span.fromTs < span.toTs)
  return order === 'asc' ? cut : cut.reverse()
}

interface SpanRows { readonly slabs: readonly Source[], readonly rows: readonly ChunkRow[] }

async function rowsOfSpan (store: Store, request: ReadRequest, plan: PartitionPlan, span: BucketSpan): Promise<SpanRows> {
  const slabs = await slabSources(store, request, span)
  const rows = (await inParallel(span.buckets, async bucket => await chunkRows(store, request, plan, span, bucket), bucketsAtOnce)).flat()
  if (request.order === 'asc') rows.sort((a, b) => a.minTs - b.minTs)
  else rows.sort((a, b) => b.maxTs - a.maxTs)
  return { slabs, rows }
}

const bucketsAtOnce = 16

function * joinSpan (request: ReadRequest, span: BucketSpan, { slabs, rows }: SpanRows, erased: Erased): Generator<Chunk> {
  const metrics = request.metrics ?? undefined
  const ascending = request.order === 'asc'
  const live = (source: Source): Source => erased.parts.length === 0 ? source : { ...source, chunk: dropErased(source.chunk, erased.parts) }
  let held: Source[] = slabs.map(live)
  // What lies beyond the next row's nearest end is final: no later row can change it.
  let { fromTs, toTs } = span
  const range = (from: number, to: number): MergeRange => ({ fromTs: from, toTs: to, erasedBefore: erased.before, oldestTs: request.oldestTs })
  let heldReadings = 0
  let releaseAt = 2048
  for (let i = 0; i < rows.length; i++) {
    request.checkpoint?.()
    const row = rows[i]
    held.push(live({ chunk: decodeChunk(row.bytes, metrics), journalId: row.journalId, merged: row.merged }))
    heldReadings += held[held.length - 1].chunk.ts.length
    const next = rows.at(i + 1)
    if (next === undefined || heldReadings < releaseAt) continue
    // At least an equal timestamp of the next row must still be joined with what is held.
    const border = ascending ? next.minTs : next.maxTs + 1
    if (ascending ? border <= fromTs : border >= toTs) { releaseAt = heldReadings * 2; continue }
    const final = joined(held, ascending ? range(fromTs, border) : range(border, toTs), request)
    const rest = mergeSources(held, ascending ? range(border, toTs) : range(fromTs, border))
    if (ascending) fromTs = border
    else toTs = border
    held = rest
    heldReadings = rest.reduce((sum, source) => sum + source.chunk.ts.length, 0)
    releaseAt = Math.max(2048, heldReadings * 2)
    if (final.ts.length > 0) yield final
  }
  const last = joined(held, range(fromTs, toTs), request)
  if (last.ts.length > 0) yield last
}

/** As `mergeChunks`; a sealed chunk that stands alone is joined already, and only cut. */
function joined (held: readonly Source[], range: MergeRange, { keepJournals }: ReadRequest): Chunk {
  if (held.length === 1 && held[0].merged === true && range.erasedBefore === 0) return cutChunk(held[0].chunk, Math.max(range.fromTs, range.oldestTs), range.toTs)
  return mergeChunks(held, range, { keepJournals })
}

/** Joins what is held per journal, so that ties are still decided by journal later. */
function mergeSources (held: readonly Source[], range: MergeRange): Source[] {
  const byJournal = new Map<string, Source[]>()
  for (const source of held) {
    const list = byJournal.get(source.journalId)
    if (list === undefined) byJournal.set(source.journalId, [source])
    else list.push(source)
  }
  const merged: Source[] = []
  for (const [journalId, list] of byJournal) {
    const chunk = mergeChunks(list, range)
    if (chunk.ts.length > 0) merged.push({ chunk, journalId })
  }
  return merged
}

async function slabSources (store: Store, request: ReadRequest, span: BucketSpan): Promise<Source[]> {
  const sources: Source[] = []
  const metrics = request.metrics ?? undefined
  const firstMinute = Math.floor(span.fromTs / usPerMinute) * usPerMinute
  const lastMinute = Math.floor((span.toTs - 1) / usPerMinute) * usPerMinute
  for await (const slab of store.raw.scanSlabs(request.tenant, shardOf(request.device), request.retentionDays, firstMinute, lastMinute)) {
    request.checkpoint?.()
    const chunk = decodeSlabDevice(slab.bytes, request.device, metrics)
    if (chunk !== null) sources.push({ chunk, journalId: slab.slice.journalId })
  }
  return sources
}

interface ChunkRow { readonly minTs: number, readonly maxTs: number, readonly bytes: Uint8Array, readonly journalId: string, readonly merged: boolean }

async function chunkRows (store: Store, request: ReadRequest, plan: PartitionPlan, span: BucketSpan, bucket: Bucket): Promise<ChunkRow[]> {
  const ref: BucketRef = { tenant: request.tenant, device: request.device, retentionDays: request.retentionDays, bucket, salts: saltsToRead(plan) }
  // Head before sealed: a seal writes its rows before it removes the head rows that they cover.
  const head: DeviceChunkRow[] = []
  for await (const row of store.raw.scanChunks(ref, span.fromTs, span.toTs)) {
    request.checkpoint?.()
    head.push(row)
  }
  const sealed = await store.raw.readSealed(ref)
  const covered = new CoveredChunks(head.length === 0 ? [] : sealed?.covered)
  const rows: ChunkRow[] = []
  for (const { slice, part, minTs, maxTs, bytes } of head) {
    if (!covered.has({ slice, part })) rows.push({ minTs, maxTs, bytes, journalId: slice.journalId, merged: false })
  }
  for (const { minTs, maxTs, bytes } of sealed?.chunks ?? []) {
    if (maxTs >= span.fromTs && minTs < span.toTs) rows.push({ minTs, maxTs, bytes, journalId: '', merged: true })
  }
  return rows
}
