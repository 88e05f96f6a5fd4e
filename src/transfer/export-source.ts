/**
 * An export on the main thread: a stream of bytes that a thread makes, never more than a few messages ahead of the client. A client
 * that goes away ends the thread's reading. A bounded number run at once; one more is refused with `throttled`.
 */
import { Readable } from 'node:stream'
import { MessageChannel, type MessagePort } from 'node:worker_threads'
import { errorTable, TwinfoldError, type ErrorCode } from '../core/errors.js'
import type { ExportControl, ExportMessage, ExportTask } from '../../workers/transfer-protocol.js'
import { exportAheadMax } from './row-limits.js'

export interface ExportSourceOptions {
  readonly pool: { export(task: ExportTask): Promise<void> }
  readonly exportsMax: number
}

export type ExportRequest = Omit<ExportTask, 'kind' | 'port'>

export class ExportSource {
  readonly #options: ExportSourceOptions
  readonly #open = new Set<ExportStream>()
  readonly stats = { exports: 0, refused: 0, aborted: 0, bytes: 0, points: 0 }

  constructor (options: ExportSourceOptions) {
    this.#options = options
  }

  /** Exports under way. */
  get running (): number { return this.#open.size }

  /**
   * The bytes of the export. Waits for the first of them: what is wrong from the start rejects, what breaks later destroys the stream.
   * @throws TwinfoldError `throttled` where too many run already.
   */
  async open (request: ExportRequest): Promise<Readable> {
    const { pool, exportsMax } = this.#options
    if (this.#open.size >= exportsMax) {
      this.stats.refused++
      throw new TwinfoldError('throttled', `${exportsMax} exports run on this node already`, { retryAfterMs: 5000 })
    }
    const { port1, port2 } = new MessageChannel()
    const stream = new ExportStream(port1, this.stats)
    this.#open.add(stream)
    this.stats.exports++
    stream.once('close', () => { this.#open.delete(stream) })
    pool.export({ ...request, kind: 'export', port: port2 }).catch((error: unknown) => { stream.destroy(error as Error) })
    await stream.begun
    return stream
  }

  close (): void {
    for (const stream of this.#open) stream.destroy(new TwinfoldError('not_ready', 'the server is stopping'))
  }
}

class ExportStream extends Readable {
  readonly #port: MessagePort
  readonly #stats: ExportSource['stats']
  #begun: { resolve: () => void, reject: (error: Error) => void } | null = null
  /** Resolves with the first bytes or the end, rejects with what came before them. */
  readonly begun: Promise<void>
  #ended = false

  constructor (port: MessagePort, stats: ExportSource['stats']) {
    super({ highWaterMark: 1 })
    this.#port = port
    this.#stats = stats
    this.begun = new Promise((resolve, reject) => { this.#begun = { resolve, reject } })
    port.on('message', (message: ExportMessage) => { this.#take(message) })
    port.on('close', () => {
      if (!this.#ended) this.destroy(new TwinfoldError('internal', 'the export broke off'))
    })
    this.#send({ kind: 'credit', messages: exportAheadMax })
  }

  #send (message: ExportControl): void {
    this.#port.postMessage(message)
  }

  #take (message: ExportMessage): void {
    switch (message.kind) {
      case 'bytes':
        this.#stats.bytes += message.bytes.length
        this.#settle(null)
        this.#waiting++
        this.push(Buffer.from(message.bytes.buffer, message.bytes.byteOffset, message.bytes.byteLength))
        break
      case 'end':
        this.#ended = true
        this.#stats.points += message.points
        this.#settle(null)
        this.push(null)
        break
      case 'failed': {
        this.#ended = true
        const code = message.code in errorTable ? message.code as ErrorCode : 'internal'
        this.destroy(new TwinfoldError(code, message.detail))
      }
    }
  }

  /** Messages taken from the thread and not yet from here. */
  #waiting = 0

  /** The consumer took what was there: so many more may come. */
  override _read (): void {
    if (this.#ended || this.#waiting === 0) return
    this.#send({ kind: 'credit', messages: this.#waiting })
    this.#waiting = 0
  }

  #settle (error: Error | null): void {
    if (error === null) this.#begun?.resolve()
    else this.#begun?.reject(error)
    this.#begun = null
  }

  override _destroy (error: Error | null, callback: (error: Error | null) => void): void {
    if (!this.#ended) {
      this.#stats.aborted++
      this.#send({ kind: 'stop' })
    }
    this.#ended = true
    this.#port.close()
    const failed = this.#begun !== null
    this.#settle(error ?? new TwinfoldError('internal', 'the export broke off'))
    // Told by `begun` already: nobody listens yet.
    callback(failed ? null : error)
  }
}
