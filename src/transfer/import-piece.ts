/**
 * One piece of an import in a worker thread: read, check, group by device and bucket, and write head chunks straight to the store
 * (DESIGN 3.2). The rows carry a slice id of their own and one accept stamp a piece, so that a later piece wins over an earlier one
 * and a piece that is written again gives the same points. Nothing is written while a device's bucket would outgrow its
 * salts: the caller is told first (DESIGN 3.3: a backfill sets salts from the file's density).
 */
import { open, stat } from 'node:fs/promises'
import { LRUCache } from 'lru-cache'
import { inParallel } from '../core/in-parallel.js'
import { chunkReadingsMax } from '../core/limits.js'
import { usPerMinute, type Chunk } from '../core/reading.js'
import { encodeChunk } from '../series/codec.js'
import { bucketOf, partitionBytesTarget, saltFor, saltsMax, saltsToRead, type Bucket, type PartitionPlan } from '../series/partition-plan.js'
import { refusedToDeadLetter } from '../store/dead-letter-row.js'
import { changeHotGeneration } from '../store/hot-generation.js'
import type { DeviceLatest } from '../store/hot-state.js'
import type { DeviceChunkRow, RetentionClass, SeriesSeenRow } from '../store/raw-store.js'
import type { Store } from '../store/store.js'
import type { ImportCursor, ImportPieceResult, ImportPieceTask } from '../../workers/transfer-protocol.js'
import { csvHeader, csvLayout, parseCsv } from './parse-csv.js'
import { parseNdjson } from './parse-ndjson.js'
import { parseParquet } from './parse-parquet.js'
import { metricsByDay } from './piece-rows.js'
import { PieceSink } from './piece-sink.js'
import { readPiece } from './record-splitter.js'
import { newestOf } from './newest-values.js'
import { pieceRowsMax } from './row-limits.js'
import { sliceRows } from '../series/cut-chunk.js'

export interface ImportPiecesOptions {
  readonly store: Store
  readonly monotonicMs: () => number
  readonly newGeneration: () => string
  /** µs of ISO 8601, NaN where the text is none. */
  readonly isoUs: (text: string) => number
  /** Body format of a reading in JSON, as dead letters name it. */
  readonly jsonFormat: number
}

const knownDevicesMax = 100_000
const knownDevicesMs = 10_000
/** Buckets whose bytes are counted, so that their salts are set in time. */
const bucketsCountedMax = 20_000
/** Rows that a bucket takes beside its bytes. */
const rowBytes = 100

interface Gathered { readonly device: string, readonly chunk: Chunk, readonly plan: PartitionPlan }
interface Progress { readonly next: ImportCursor, readonly done: boolean, readonly progress: number }

export class ImportPieces {
  readonly #options: ImportPiecesOptions
  readonly #known = new LRUCache<string, boolean>({ max: knownDevicesMax, ttl: knownDevicesMs })
  readonly #bucketBytes = new LRUCache<string, number>({ max: bucketsCountedMax })

  constructor (options: ImportPiecesOptions) {
    this.#options = options
  }

  /** @throws TwinfoldError `invalid_request` for a file that cannot be read at all; what the store throws. */
  async run (task: ImportPieceTask): Promise<ImportPieceResult> {
    const startMs = this.#options.monotonicMs()
    const { settings } = task
    const sink = new PieceSink({ device: settings.device, oldestTs: task.oldestTs, newestTs: task.newestTs, lettersMax: task.lettersMax })
    const read = settings.format === 'parquet' ? await parseParquet(task.path, task.at, sink, { settings, isoUs: this.#options.isoUs }) : await this.#readText(task, sink)
    await this.#dropUnknown(task.tenant, sink)
    const devices = await this.#gather(task, sink)
    const { chunks, seen, denser, sizes } = this.#rowsOf(task, devices)
    const { number, boolean, string } = sink.types
    const result = {
      ...read, rows: sink.rows, points: number + boolean + string, types: { number, boolean, string }, refused: [...sink.refused], samples: sink.samples, letters: sink.letters.length,
      chunkRows: chunks.length, bytesOut: chunks.reduce((sum, row) => sum + row.bytes.length, 0), denser
    }
    const cpuMs = this.#options.monotonicMs() - startMs
    if (denser.length > 0) return { ...result, cpuMs }
    if (chunks.length > 0) {
      await this.#options.store.raw.writeHead({ chunks, slabs: [], seen, outbox: { journalId: task.outboxJournalId, stream: 'merge', sequence: task.outboxSequence } })
      await this.#putHot(task, devices)
    }
    for (const [key, bytes] of sizes) this.#bucketBytes.set(key, bytes)
    await this.#putLetters(task, sink)
    return { ...result, cpuMs }
  }

  async #readText (task: ImportPieceTask, sink: PieceSink): Promise<Progress> {
    const { settings, at } = task
    const { size } = await stat(task.path)
    const file = await open(task.path)
    try {
      const piece = await readPiece(file, size, { offset: at.offset, line: at.line, recordsMax: pieceRowsMax, quotes: settings.format === 'csv' })
      for (const line of piece.tooLong) sink.refuse(line, 'not_a_reading', 'the row is longer than 1 MiB, or a quote in it is not closed', () => new Uint8Array(0))
      const columns = settings.format === 'csv' ? at.columns ?? csvHeader(at.offset === 0 ? piece : await readPiece(file, size, { offset: 0, line: 1, recordsMax: 1, quotes: true }), settings) : null
      if (columns === null) parseNdjson(piece, sink, { settings, isoUs: this.#options.isoUs })
      else parseCsv(piece, at.offset === 0 ? 1 : 0, csvLayout(columns, settings), sink, { settings, isoUs: this.#options.isoUs })
      return { next: { offset: piece.nextOffset, line: piece.nextLine, columns }, done: piece.atEnd, progress: size === 0 ? 1 : piece.nextOffset / size }
    } finally {
      await file.close()
    }
  }

  async #dropUnknown (tenant: string, sink: PieceSink): Promise<void> {
    await inParallel([...sink.devices.keys()], async device => {
      const key = `${tenant}\0${device}`
      let known = this.#known.get(key)
      if (known === undefined) {
        known = await this.#options.store.getDevice(tenant, device) !== null
        // One that is registered meanwhile must not wait.
        if (known) this.#known.set(key, known)
      }
      if (!known) sink.dropUnknown(device)
    })
  }

  /** Plans are read anew for every piece: far younger than their lease when the rows are written. */
  async #gather ({ tenant, stamp, journalId }: ImportPieceTask, sink: PieceSink): Promise<Gathered[]> {
    return await inParallel([...sink.devices], async ([device, { rows }]) => {
      const { plan } = await this.#options.store.getPlan(tenant, device)
      return { device, plan, chunk: rows.chunk(stamp, journalId) }
    })
  }

  #rowsOf (task: ImportPieceTask, devices: readonly Gathered[]) {
    const { tenant, retentionDays, mark, saltStamp, journalId } = task
    const slice = { journalId, mark }
    const chunks: (DeviceChunkRow & RetentionClass)[] = []
    const seen: (SeriesSeenRow & RetentionClass)[] = []
    const denser: { device: string, salts: number }[] = []
    const sizes = new Map<string, number>()
    for (const { device, chunk, plan } of devices) {
      const salt = saltFor(plan, slice, saltStamp)
      let part = 0
      let largest = 0
      for (const { bucket, from, to } of bucketRuns(chunk, plan)) {
        const row = sliceRows(chunk, from, to)
        const bytes = encodeChunk(row)
        chunks.push({ tenant, device, bucket, salt, slice, part: part++, minTs: row.ts[0], maxTs: row.ts[row.ts.length - 1], bytes, retentionDays })
        const key = `${task.job}\0${device}\0${bucket.widthMinutes}:${bucket.start}`
        const size = (sizes.get(key) ?? this.#bucketBytes.get(key) ?? 0) + bytes.length + rowBytes
        sizes.set(key, size)
        largest = Math.max(largest, size)
      }
      const salts = saltsToRead(plan)
      if (largest > salts * partitionBytesTarget && salts < saltsMax) denser.push({ device, salts: Math.min(saltsMax, Math.max(salts * 4, Math.ceil(2 * largest / partitionBytesTarget))) })
      for (const [day, metrics] of metricsByDay(chunk)) seen.push({ tenant, device, day, metrics: [...metrics].sort(), retentionDays })
    }
    return { chunks, seen, denser, sizes }
  }

  /** As packing does: what the cache did not take makes it distrusted, before the piece counts as done. */
  async #putHot ({ journalId, stamp, tenant }: ImportPieceTask, devices: readonly Gathered[]): Promise<void> {
    const { store, newGeneration } = this.#options
    if (store.hot === null) return
    const latest: DeviceLatest[] = devices.map(({ device, chunk }) => ({ tenant, device, values: newestOf(chunk, stamp, journalId) }))
    try {
      await store.hot.putLatest(latest)
    } catch {
      await changeHotGeneration(store, newGeneration)
    }
  }

  async #putLetters (task: ImportPieceTask, sink: PieceSink): Promise<void> {
    if (sink.letters.length === 0) return
    await this.#options.store.putDeadLetters(sink.letters.map(({ line, reason, detail, device, payload }) => refusedToDeadLetter({
      tenant: task.tenant, stamp: task.stamp, index: `i${line}`, journalId: task.journalId, reason, detail: `import ${task.job}, line ${line}: ${detail}`, device, source: 'http',
      format: this.#options.jsonFormat, multiDevice: true, payload
    })))
  }
}

/** Runs of rows of one bucket, each at most a chunk. */
function * bucketRuns (chunk: Chunk, plan: PartitionPlan): Generator<{ bucket: Bucket, from: number, to: number }> {
  const { ts } = chunk
  for (let from = 0; from < ts.length;) {
    const bucket = bucketOf(plan, ts[from])
    const end = bucket.start + bucket.widthMinutes * usPerMinute
    let to = from + 1
    while (to < ts.length && ts[to] < end && (to - from < chunkReadingsMax || ts[to] === ts[to - 1]) &&
      (plan.widths.length === 1 || bucketOf(plan, ts[to]).widthMinutes === bucket.widthMinutes)) to++
    yield { bucket, from, to }
    from = to
  }
}
