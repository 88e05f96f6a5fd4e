/**
 * Reads one device's readings out of the store in event-time order: slabs, head chunks and sealed chunks, joined so that
 * every point appears once (INVARIANTS 3). Runs in a worker thread.
 *
 * Slabs are read before chunks: a merge writes the chunk before it removes the slabs, so a reader that looks in that order
 * misses nothing; what it sees twice the join drops.
 */
import { shardOf } from '../core/ids.js'
import { usPerDay, usPerMinute, type Chunk } from '../core/reading.js'
import { decodeChunk, decodeSlabDevice } from '../series/codec.js'
import { mergeChunks } from '../series/merge.js'
import { bucketsIn, saltsToRead, type Bucket, type PartitionPlan } from '../series/partition-plan.js'
import type { BucketRef, DeviceChunkRow } from './raw-store.js'
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
}

interface Source { readonly chunk: Chunk, readonly journalId: string }

/**
 * Yields chunks of joined readings: each ascending inside, following one another in the order asked for, without overlap.
 * A consumer that stops early costs little more than what it took.
 */
export async function * readReadings (store: Store, request: ReadRequest): AsyncGenerator<Chunk> {
  const fromTs = Math.max(request.fromTs, request.oldestTs)
  const { toTs } = request
  if (fromTs >= toTs) return
  const erasedBefore = await store.erasedBefore(request.tenant, request.device)
  const { plan } = await store.getPlan(request.tenant, request.device)
  const days = await daysSeen(store, request, fromTs, toTs)
  for (const span of bucketSpans(plan, days, fromTs, toTs, request.order)) {
    request.checkpoint?.()
    yield * readSpan(store, request, plan, span, erasedBefore)
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

async function * readSpan (store: Store, request: ReadRequest, plan: PartitionPlan, span: BucketSpan, erasedBefore: number): AsyncGenerator<Chunk> {
  const metrics = request.metrics ?? undefined
  let held: Source[] = await slabSources(store, request, span)
  const rows = await chunkRows(store, request, plan, span)
  if (request.order === 'asc') rows.sort((a, b) => a.minTs - b.minTs)
  else rows.sort((a, b) => b.maxTs - a.maxTs)
  // What lies beyond the next row's nearest end is final: no later row can change it.
  let { fromTs, toTs } = span
  const range = (from: number, to: number): { fromTs: number, toTs: number, erasedBefore: number, oldestTs: number } => ({ fromTs: from, toTs: to, erasedBefore, oldestTs: request.oldestTs })
  let heldReadings = 0
  let releaseAt = 2048
  for (let i = 0; i < rows.length; i++) {
    request.checkpoint?.()
    const row = rows[i]
    held.push({ chunk: decodeChunk(row.bytes, metrics), journalId: row.journalId })
    heldReadings += held[held.length - 1].chunk.ts.length
    const next = rows[i + 1]
    if (next === undefined || heldReadings < releaseAt) continue
    // At least an equal timestamp of the next row must still be joined with what is held.
    const border = request.order === 'asc' ? next.minTs : next.maxTs + 1
    if (request.order === 'asc' ? border <= fromTs : border >= toTs) { releaseAt = heldReadings * 2; continue }
    const final = request.order === 'asc' ? mergeChunks(held, range(fromTs, border)) : mergeChunks(held, range(border, toTs))
    const rest = request.order === 'asc' ? mergeSources(held, range(border, toTs)) : mergeSources(held, range(fromTs, border))
    if (request.order === 'asc') fromTs = border
    else toTs = border
    held = rest
    heldReadings = rest.reduce((sum, source) => sum + source.chunk.ts.length, 0)
    releaseAt = Math.max(2048, heldReadings * 2)
    if (final.ts.length > 0) yield final
  }
  const last = mergeChunks(held, range(fromTs, toTs))
  if (last.ts.length > 0) yield last
}

/** Joins what is held per journal, so that ties are still decided by journal later. */
function mergeSources (held: readonly Source[], range: { fromTs: number, toTs: number, erasedBefore: number, oldestTs: number }): Source[] {
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

interface ChunkRow { readonly minTs: number, readonly maxTs: number, readonly bytes: Uint8Array, readonly journalId: string }

async function chunkRows (store: Store, request: ReadRequest, plan: PartitionPlan, span: BucketSpan): Promise<ChunkRow[]> {
  const rows: ChunkRow[] = []
  for (const bucket of span.buckets) {
    const ref: BucketRef = { tenant: request.tenant, device: request.device, retentionDays: request.retentionDays, bucket, salts: saltsToRead(plan) }
    // Head before sealed: a seal writes its rows before it removes the head rows that they cover.
    const head: DeviceChunkRow[] = []
    for await (const row of store.raw.scanChunks(ref, span.fromTs, span.toTs)) {
      request.checkpoint?.()
      head.push(row)
    }
    const sealed = await store.raw.readSealed(ref)
    const covered = new Set(sealed?.covered.map(slice => `${slice.journalId}:${slice.mark}`))
    for (const row of head) {
      if (!covered.has(`${row.slice.journalId}:${row.slice.mark}`)) rows.push({ minTs: row.minTs, maxTs: row.maxTs, bytes: row.bytes, journalId: row.slice.journalId })
    }
    for (const chunk of sealed?.chunks ?? []) {
      if (chunk.maxTs >= span.fromTs && chunk.minTs < span.toTs) rows.push({ ...chunk, journalId: '' })
    }
  }
  return rows
}
