/**
 * An export in a worker thread: device after device, chunk after chunk, through a port to the main thread, never further ahead of
 * the client than the credit it gave. Memory is what one device's chunks of one bucket take, and one message (Parquet: one row
 * group), whatever the length of the export.
 */
import { TwinfoldError } from '../core/errors.js'
import type { Chunk } from '../core/reading.js'
import { readReadings } from '../store/read-readings.js'
import type { Store } from '../store/store.js'
import type { ExportControl, ExportMessage, ExportTask } from '../../workers/transfer-protocol.js'
import type { ExportWriter } from './export-writer.js'
import { openWriter } from './open-writer.js'
import { exportMessageBytes, wideColumnsMax } from './row-limits.js'
import { tierRecords } from './tier-records.js'

const messageBytesMax = 4 * exportMessageBytes

/** The client went away. */
class Stopped extends Error {}

/** Sends bytes within the credit of the other side. */
class Outlet {
  readonly #task: ExportTask
  #parts: Uint8Array[] = []
  #bytes = 0
  #credit = 0
  #stopped = false
  #wake: (() => void) | null = null

  constructor (task: ExportTask) {
    this.#task = task
    task.port.on('message', (message: ExportControl) => {
      if (message.kind === 'stop') this.#stop()
      else this.#credit += message.messages
      this.#wake?.()
    })
    task.port.on('close', () => {
      this.#stop()
      this.#wake?.()
    })
  }

  #stop (): void { this.#stopped = true }

  /** Called between rows. @throws Stopped */
  readonly checkpoint = (): void => {
    if (this.#stopped) throw new Stopped()
  }

  /** Keeps the bytes, and sends what has gathered when it is a message's worth. */
  async write (bytes: Uint8Array): Promise<void> {
    this.#parts.push(bytes)
    this.#bytes += bytes.length
    if (this.#bytes >= exportMessageBytes) await this.flush()
    else this.checkpoint()
  }

  async flush (): Promise<void> {
    if (this.#bytes === 0) return
    const bytes = Buffer.concat(this.#parts, this.#bytes)
    this.#parts = []
    this.#bytes = 0
    // One message a slice: what is ahead of the client is bounded in bytes as well.
    for (let at = 0; at < bytes.length; at += messageBytesMax) await this.#send(Uint8Array.prototype.slice.call(bytes, at, at + messageBytesMax) as Uint8Array<ArrayBuffer>)
  }

  async #send (bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.checkpoint()
    while (this.#credit <= 0) {
      await new Promise<void>(resolve => { this.#wake = resolve })
      this.#wake = null
      this.checkpoint()
    }
    this.#credit--
    this.post({ kind: 'bytes', bytes })
  }

  post (message: ExportMessage): void {
    this.#task.port.postMessage(message, message.kind === 'bytes' ? [message.bytes.buffer] : [])
  }
}

export async function runExport (task: ExportTask, { store }: { readonly store: Store }): Promise<void> {
  const outlet = new Outlet(task)
  try {
    const columns = await columnsOf(store, task, outlet.checkpoint)
    const writer = openWriter(task, columns, async bytes => { await outlet.write(bytes) })
    await writer.begin()
    let devices = 0
    let points = 0
    for await (const device of devicesOf(store, task)) {
      devices++
      points += await exportDevice(store, task, device, writer, outlet.checkpoint)
    }
    await writer.end()
    await outlet.flush()
    outlet.post({ kind: 'end', devices, points })
  } catch (error) {
    if (error instanceof Stopped) return
    const isKnown = error instanceof TwinfoldError
    outlet.post({ kind: 'failed', code: isKnown ? error.code : 'internal', detail: isKnown ? error.message : 'the export failed' })
    if (!isKnown) throw error
  } finally {
    // What was posted before is still delivered.
    task.port.close()
  }
}

async function exportDevice (store: Store, task: ExportTask, device: string, writer: ExportWriter, checkpoint: () => void): Promise<number> {
  let points = 0
  if (task.tier !== 'raw') {
    for await (const records of tierRecords(store, task, device, checkpoint)) points += await writer.windows(device, records)
    return points
  }
  for await (const chunk of rawChunks(store, task, device, checkpoint)) points += await writer.chunk(device, chunk)
  return points
}

function rawChunks (store: Store, task: ExportTask, device: string, checkpoint: () => void): AsyncGenerator<Chunk> {
  const { tenant, retentionDays, oldestTs, fromTs, toTs, metrics } = task
  return readReadings(store, { tenant, device, retentionDays, oldestTs, fromTs, toTs, order: 'asc', metrics: metrics === null ? null : new Set(metrics), checkpoint })
}

async function * devicesOf (store: Store, task: ExportTask): AsyncGenerator<string> {
  if (task.devices !== null) {
    yield * task.devices
    return
  }
  let cursor: string | null = null
  do {
    const page = await store.listDevices(task.tenant, cursor, 500)
    for (const { id } of page.items) yield id
    cursor = page.next
  } while (cursor !== null)
}

export interface ExportColumn { readonly metric: string, readonly types: ReadonlySet<'number' | 'boolean' | 'string'> }

/**
 * The columns of a wide export, in order of metric. CSV takes the metrics that the days of the range have had; Parquet needs their types
 * too, and reads everything once for them.
 */
async function columnsOf (store: Store, task: ExportTask, checkpoint: () => void): Promise<readonly ExportColumn[]> {
  if (task.shape === 'long' || task.format === 'ndjson' || task.tier !== 'raw') return []
  const types = new Map<string, Set<'number' | 'boolean' | 'string'>>()
  const typesOf = (metric: string): Set<'number' | 'boolean' | 'string'> => {
    let known = types.get(metric)
    if (known === undefined) types.set(metric, known = new Set())
    if (types.size > wideColumnsMax) throw new TwinfoldError('limit_reached', `the export has more than ${wideColumnsMax} metrics; ask for shape=long, or name metrics`, { field: 'shape' })
    return known
  }
  for await (const device of devicesOf(store, task)) {
    if (task.format === 'csv') {
      for await (const { day, metrics } of store.raw.scanSeen({ tenant: task.tenant, device, retentionDays: task.retentionDays })) {
        checkpoint()
        if (day >= task.toTs || day + 86_400e6 <= task.fromTs) continue
        for (const metric of metrics) if (task.metrics === null || task.metrics.includes(metric)) typesOf(metric)
      }
    } else {
      for await (const chunk of rawChunks(store, task, device, checkpoint)) for (const { metric, type } of chunk.columns) if (metric !== '') typesOf(metric).add(type)
    }
  }
  return [...types].sort(([a], [b]) => a < b ? -1 : 1).map(([metric, known]) => ({ metric, types: known }))
}
