/**
 * A journal's rows, outbox, cursors and analytics in memory, for driving the projector through every interleaving: slices are
 * packed (out of order, as threads do), slabs merged, buckets sealed, calls fail before or after they took effect, and things
 * happen between any two calls of the projector. It also keeps what must be in analytics in the end.
 */
import { usPerDay, type Chunk, type Column, type Value } from '../../src/core/reading.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { runProjectTask, type ProjectTaskLimits } from '../../src/analytics/project-task.js'
import { decodeChunk, decodeSlab, encodeChunk, encodeSlab } from '../../src/series/codec.js'
import { mergeChunks } from '../../src/series/merge.js'
import { defaultPlan } from '../../src/series/partition-plan.js'
import type { AnalyticsPoint } from '../../src/store/analytics-store.js'
import type { Outbox, OutboxEntry, OutboxStream } from '../../src/store/outbox.js'
import type { BucketRef, DeviceChunkRow, SealedBucket, SlabRow } from '../../src/store/raw-store.js'
import type { Store } from '../../src/store/store.js'
import type { ProjectResult, ProjectTask } from '../../workers/protocol.js'
import { tenantOf } from '../store/store-fixtures.js'

export const journalId = '00000000000000aa'
export const tenant = 'acme'
const day = 660 * 30 * usPerDay
/** A history ends by itself, however much happens meanwhile. */
const slicesMax = 120
const bucket = { start: day, widthMinutes: 1440 } as const

interface Reading { readonly device: string, readonly ts: number, readonly stamp: number, readonly metric: string, readonly value: Value }

/** Points as a store that keeps the greatest (stamp, journal) holds them; of equal ones the last. */
export class KeptPoints {
  readonly byKey = new Map<string, AnalyticsPoint>()

  put (point: AnalyticsPoint): void {
    const key = `${point.device} ${point.metric} ${point.ts}`
    const before = this.byKey.get(key)
    if (before !== undefined && (before.stamp > point.stamp || (before.stamp === point.stamp && before.journalId > point.journalId))) return
    this.byKey.set(key, point)
  }

  readable (): string[] {
    return [...this.byKey].map(([key, { value, stamp }]) => `${key} = ${String(value)} @ ${stamp}`).sort()
  }
}

export class MemoryWorld implements Outbox {
  readonly #random: () => number
  readonly expected = new KeptPoints()
  readonly analytics = new KeptPoints()
  readonly #chunks = new Map<string, DeviceChunkRow>()
  readonly #slabs = new Map<string, SlabRow>()
  readonly #sealed = new Map<string, SealedBucket>()
  readonly #entries = new Map<OutboxStream, OutboxEntry[]>([['pack', []], ['merge', []], ['seal', []]])
  readonly cursors = new Map<string, number>()
  readonly erasures = new Map<string, number>()
  /** Slices that were closed and are not packed: threads finish them in any order. */
  #open: { mark: number, readings: Reading[] }[] = []
  #mark = 0
  #slices = 0
  #stamp = day
  /** As the packer keeps it. */
  readonly packer = { cursor: 0, stats: { slices: 0 } }
  /** How likely a call fails, and things happen between calls. */
  faults = 0
  bustle = 0
  inserted = 0

  constructor (random: () => number) {
    this.#random = random
  }

  takeStamps (count: number): number {
    const first = this.#stamp + 1
    this.#stamp += count
    return first
  }

  #pick (count: number): number { return Math.floor(this.#random() * count) }

  /** Closes a slice of a few readings; packs later. */
  closeSlice (): void {
    if (this.#slices++ >= slicesMax) return
    const readings = Array.from({ length: 1 + this.#pick(12) }, (_, i) => ({
      // Few timestamps, so that late duplicates with other values are common; now and then two of one stamp, as in one message.
      device: `d${this.#pick(5)}`, ts: day + this.#pick(40) * 1e6, stamp: i === 0 || this.#random() < 0.9 ? this.takeStamps(1) : this.#stamp, metric: `m${this.#pick(2)}`, value: this.#value()
    }))
    this.#mark += 1 + this.#pick(1000)
    this.#open.push({ mark: this.#mark, readings })
  }

  #value (): Value {
    const kind = this.#pick(5)
    return kind === 0 ? this.#random() < 0.5 : kind === 1 ? `s${this.#pick(100)}` : this.#pick(1e6) / 100
  }

  /** Packs one of the first few open slices, then the cursor passes what is packed without gaps. */
  packSome (): void {
    if (this.#open.length === 0) return
    const at = this.#pick(Math.min(3, this.#open.length))
    const [slice] = this.#open.splice(at, 1)
    this.#pack(slice)
    this.packer.stats.slices++
    const first = this.#open[0]?.mark ?? Infinity
    const packed = this.#entries.get('pack') as OutboxEntry[]
    for (const { sequence } of [...packed].sort((a, b) => a.sequence - b.sequence)) if (sequence < first && sequence > this.packer.cursor) this.packer.cursor = sequence
  }

  #pack ({ mark, readings }: { mark: number, readings: Reading[] }): void {
    const slice = { journalId, mark }
    const chunks: DeviceChunkRow[] = []
    const sparse: { device: string, readings: Reading[] }[] = []
    for (const device of [...new Set(readings.map(reading => reading.device))].sort()) {
      const own = readings.filter(reading => reading.device === device).sort((a, b) => a.ts - b.ts)
      if (own.length >= 4) chunks.push({ tenant, device, bucket, salt: 0, slice, part: 0, minTs: own[0].ts, maxTs: own[own.length - 1].ts, bytes: encodeChunk(chunkOf(own)) })
      else sparse.push({ device, readings: own })
    }
    for (const reading of readings) this.#expect(reading)
    const slabs: SlabRow[] = sparse.length === 0 ? [] : [{ tenant, shard: 7, minute: day, slice, bytes: encodeSlab(sparse.map(({ device, readings: { length } }) => ({ device, rows: length })), chunkOf(sparse.flatMap(item => item.readings))) }]
    this.#write({ journalId, stream: 'pack', sequence: mark, chunks, slabs })
  }

  #expect ({ device, metric, ts, value, stamp }: Reading): void {
    this.expected.put({ tenant, device, metric, ts, value, stamp, journalId })
  }

  #write (write: { journalId: string, stream: OutboxStream, sequence: number, chunks: DeviceChunkRow[], slabs: SlabRow[] }): void {
    for (const row of write.chunks) this.#chunks.set(chunkKey(row), row)
    for (const row of write.slabs) this.#slabs.set(slabKey(row), row)
    const { chunks, slabs, ...slot } = write
    this.#entries.get(write.stream)?.push({ ...slot, chunks: chunks.map(({ bytes: _bytes, ...row }) => row), slabs: slabs.map(({ bytes: _bytes, ...row }) => row) })
  }

  /** Merges some slabs: chunks, entry, then the slabs go. */
  mergeSome (): void {
    const slabs = [...this.#slabs.values()].filter(({ slice }) => slice.mark <= this.packer.cursor).slice(0, 1 + this.#pick(4))
    if (slabs.length === 0) return
    const slice = { journalId, mark: Math.max(...slabs.map(slab => slab.slice.mark)) }
    const byDevice = new Map<string, Chunk[]>()
    for (const slab of slabs) for (const { device, chunk } of decodeSlab(slab.bytes)) byDevice.set(device, [...byDevice.get(device) ?? [], chunk])
    const sequence = this.takeStamps(1)
    const chunks = [...byDevice].map(([device, list]) => {
      const chunk = mergeChunks(list.map(item => ({ chunk: item, journalId })), always)
      return { tenant, device, bucket, salt: 0, slice, part: 1_000_000 + sequence - day, minTs: chunk.ts[0], maxTs: chunk.ts[chunk.ts.length - 1], bytes: encodeChunk(chunk) }
    })
    this.#write({ journalId, stream: 'merge', sequence, chunks, slabs: [] })
    for (const slab of slabs) this.#slabs.delete(slabKey(slab))
  }

  /** Seals a device's bucket: sealed rows first, then the head rows that they cover go. */
  sealSome (): void {
    const device = `d${this.#pick(5)}`
    const head = [...this.#chunks.values()].filter(row => row.device === device)
    if (head.length === 0) return
    const old = this.#sealed.get(device)
    const covered = [...old?.covered ?? [], ...head.map(row => row.slice)]
    const sources = [...head.map(row => ({ bytes: row.bytes, journalId })), ...(old?.chunks ?? []).map(({ bytes }) => ({ bytes, journalId: '' }))]
    const chunk = mergeChunks(sources.map(source => ({ chunk: decodeChunk(source.bytes), journalId: source.journalId })), always, { keepJournals: true })
    this.#sealed.set(device, { generation: { epoch: 1, sequence: (old?.generation.sequence ?? 0) + 1 }, covered, chunks: [{ minTs: 0, maxTs: 0, bytes: encodeChunk(chunk) }] })
    for (const row of head) this.#chunks.delete(chunkKey(row))
  }

  happen (): void {
    const kind = this.#random()
    if (kind < 0.35) this.closeSlice()
    else if (kind < 0.75) this.packSome()
    else if (kind < 0.95) this.mergeSome()
    else this.sealSome()
  }

  /** Between any two steps of the projector. */
  async #meanwhile (): Promise<void> {
    await Promise.resolve()
    while (this.#random() < this.bustle) this.happen()
  }

  async #mayFail (code: 'store_unavailable' | 'analytics_unavailable'): Promise<void> {
    await this.#meanwhile()
    if (this.#random() < this.faults) throw new TwinfoldError(code, 'planned')
  }

  /** In pieces that are read one after the other from the far end, as a store may that reads ranges side by side. */
  async readOutbox (_journalId: string, stream: OutboxStream, after: number, upTo: number, limit: number): Promise<readonly OutboxEntry[]> {
    await this.#mayFail('store_unavailable')
    const pieces = 3
    const found: OutboxEntry[] = []
    const order = Array.from({ length: pieces }, (_, i) => i).sort(() => this.#random() - 0.5)
    for (const piece of order) {
      found.push(...(this.#entries.get(stream) ?? []).filter(({ sequence }) => sequence > after && sequence <= upTo && sequence % pieces === piece))
      await this.#meanwhile()
    }
    return found.sort((a, b) => a.sequence - b.sequence).slice(0, limit)
  }

  async readEntry (entry: OutboxEntry): ReturnType<Outbox['readEntry']> {
    await this.#mayFail('store_unavailable')
    const chunks: DeviceChunkRow[] = []
    const slabs: SlabRow[] = []
    for (const key of entry.chunks) {
      const row = this.#chunks.get(chunkKey(key))
      if (row !== undefined) chunks.push(row)
      await this.#meanwhile()
    }
    for (const key of entry.slabs) {
      const row = this.#slabs.get(slabKey(key))
      if (row !== undefined) slabs.push(row)
      await this.#meanwhile()
    }
    return { chunks, slabs }
  }

  async insertPoints (points: readonly AnalyticsPoint[]): Promise<void> {
    // A failed insert may be in, in part, or not.
    const fails = this.#random() < this.faults
    const taken = fails ? this.#pick(points.length + 1) : points.length
    for (const point of points.slice(0, taken)) this.analytics.put(point)
    this.inserted += taken
    await this.#meanwhile()
    if (fails) throw new TwinfoldError('analytics_unavailable', 'planned')
  }

  async replaceHours (): Promise<void> { await this.#meanwhile() }

  async getSetting (): Promise<string | null> { return null }

  async getCursor (_journalId: string, consumer: string): Promise<number | null> {
    await this.#mayFail('store_unavailable')
    return this.cursors.get(consumer) ?? null
  }

  async putCursor (_journalId: string, consumer: string, position: number): Promise<void> {
    await this.#mayFail('store_unavailable')
    this.cursors.set(consumer, position)
    await this.#mayFail('store_unavailable')
  }

  /** The worker's side of the projector. */
  async project (task: ProjectTask, limits: ProjectTaskLimits): Promise<ProjectResult> {
    const store = {
      raw: { readSealed: async (ref: BucketRef) => this.#sealed.get(ref.device) ?? null },
      getTenant: async () => tenantOf(tenant),
      getPlan: async () => ({ plan: defaultPlan, version: 1 })
    } as unknown as Pick<Store, 'raw' | 'tiers' | 'getTenant' | 'getPlan'>
    const erasures = { parts: async (_tenant: string, device: string) => this.erasures.has(device) ? [{ stamp: this.erasures.get(device) as number }] : [] }
    return await runProjectTask(task, { outbox: this, store, analytics: this, erasures, monotonicMs: () => 0, limits })
  }
}

const always = { fromTs: 0, toTs: Infinity, oldestTs: 0, erasedBefore: 0 }

function chunkKey ({ device, slice, part }: Omit<DeviceChunkRow, 'bytes'>): string { return `${device}:${slice.mark}:${part}` }
function slabKey ({ shard, minute, slice }: Omit<SlabRow, 'bytes'>): string { return `${shard}:${minute}:${slice.mark}` }

/** Rows in the order given; a column for each metric and type. */
function chunkOf (readings: readonly Reading[]): Chunk {
  const columns = new Map<string, { metric: string, type: 'number' | 'boolean' | 'string', rows: number[], values: Value[] }>()
  for (const [row, { metric, value }] of readings.entries()) {
    const type = typeof value as 'number' | 'boolean' | 'string'
    const name = `${metric} ${type}`
    let column = columns.get(name)
    if (column === undefined) columns.set(name, column = { metric, type, rows: [], values: [] })
    column.rows.push(row)
    column.values.push(value)
  }
  return {
    ts: Float64Array.from(readings, reading => reading.ts),
    stamps: Float64Array.from(readings, reading => reading.stamp),
    columns: [...columns.values()].map(({ metric, type, rows, values }): Column => {
      const present = Uint32Array.from(rows)
      if (type === 'number') return { metric, type, rows: present, values: Float64Array.from(values as number[]) }
      if (type === 'boolean') return { metric, type, rows: present, values: Uint8Array.from(values as boolean[], Number) }
      return { metric, type, rows: present, values: values as string[] }
    })
  }
}
