/**
 * The HTTP load generator: raw keep-alive sockets and finished POST requests of many readings each (RFC 9112). Answers are
 * found by scanning for status lines; their bodies are skipped unread. One request is outstanding per connection. A 429
 * or 503 is counted, waited out and sent again.
 */
import { connect, type Socket } from 'node:net'
import { LatencyHistogram } from './latency-histogram.js'
import { patchTs, readingText, tsOffset, type WalkingMetrics } from './payloads.js'

export interface HttpLoadOptions {
  readonly host: string
  readonly port: number
  readonly connections: number
  readonly readingsPerPost: number
  /** Path of connection i, as in /api/v1/devices/d0/telemetry. */
  readonly pathOf: (connection: number) => string
  /** Authorization header of connection i; none when undefined. */
  readonly authorizationOf: (connection: number) => string | undefined
  readonly metrics: WalkingMetrics
  /** Give every reading a timestamp of its own. */
  readonly stamped: boolean
  /** Wall clock, µs. */
  readonly nowUs: () => number
}

export interface HttpLoadCount {
  readonly sent: number
  readonly accepted: number
  /** Answers 429 and 503. */
  readonly slowed: number
  /** Other answers outside 2xx. */
  readonly refused: number
}

/** Different bodies per connection. */
const bodiesPerConnection = 4
const statusLine = Buffer.from('HTTP/1.1 ')
const retryMs = 50

interface Request {
  readonly bytes: Buffer
  /** Where each reading's timestamp stands; empty for unstamped ones. */
  readonly tsAt: readonly number[]
}

class HttpConnection {
  socket!: Socket
  tail: Buffer = Buffer.alloc(0)
  requests: readonly Request[] = []
  next = 0
  sentAtMs = 0
  lastTsUs = 0
}

export class HttpLoad {
  readonly #options: HttpLoadOptions
  readonly #connections: HttpConnection[] = []
  #latency = new LatencyHistogram()
  #running = false
  #sent = 0
  #accepted = 0
  #slowed = 0
  #refused = 0
  #onFailure: ((error: Error) => void) | undefined
  #failure: Error | undefined

  constructor (options: HttpLoadOptions) {
    this.#options = options
  }

  async open (): Promise<void> {
    for (let index = 0; index < this.#options.connections; index++) {
      const connection = new HttpConnection()
      connection.requests = Array.from({ length: bodiesPerConnection }, () => this.#encode(index))
      this.#connections.push(connection)
      await this.#connect(connection)
    }
  }

  #encode (index: number): Request {
    const { host, port, pathOf, authorizationOf, readingsPerPost, metrics, stamped } = this.#options
    const body = `[${Array.from({ length: readingsPerPost }, () => readingText(metrics, stamped)).join(',')}]`
    const authorization = authorizationOf(index)
    const head = [
      `POST ${pathOf(index)} HTTP/1.1`, `Host: ${host}:${port}`, 'Content-Type: application/json', `Content-Length: ${Buffer.byteLength(body)}`,
      ...(authorization === undefined ? [] : [`Authorization: ${authorization}`]), '', ''
    ].join('\r\n')
    const bytes = Buffer.from(head + body)
    const tsAt: number[] = []
    if (stamped) {
      for (let at = bytes.indexOf('{"ts":'); at !== -1; at = bytes.indexOf('{"ts":', at + 1)) tsAt.push(at + tsOffset)
    }
    return { bytes, tsAt }
  }

  async #connect (connection: HttpConnection): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const socket = connect({ host: this.#options.host, port: this.#options.port, noDelay: true })
      connection.socket = socket
      socket.on('connect', () => { resolve() })
      socket.on('data', bytes => { this.#read(connection, bytes) })
      socket.on('error', reject)
      socket.on('close', () => {
        const error = new Error('an HTTP connection was closed')
        reject(error)
        if (this.#running) {
          this.#failure ??= error
          this.#onFailure?.(error)
        }
      })
    })
  }

  #read (connection: HttpConnection, bytes: Buffer): void {
    const all = connection.tail.length === 0 ? bytes : Buffer.concat([connection.tail, bytes])
    const at = all.indexOf(statusLine)
    if (at === -1 || all.length < at + 12) {
      connection.tail = all.subarray(at === -1 ? Math.max(0, all.length - statusLine.length + 1) : at)
      return
    }
    connection.tail = Buffer.alloc(0)
    this.#answered(connection, (all[at + 9] - 48) * 100 + (all[at + 10] - 48) * 10 + all[at + 11] - 48)
  }

  #answered (connection: HttpConnection, status: number): void {
    this.#latency.add(performance.now() - connection.sentAtMs)
    if (status === 429 || status === 503) {
      this.#slowed++
      connection.next--
      setTimeout(() => { if (this.#running) this.#send(connection) }, retryMs)
      return
    }
    if (status >= 200 && status < 300) this.#accepted++
    else this.#refused++
    if (this.#running) this.#send(connection)
  }

  #send (connection: HttpConnection): void {
    const { bytes, tsAt } = connection.requests[connection.next++ % connection.requests.length]
    if (tsAt.length > 0) {
      let ts = Math.max(this.#options.nowUs(), connection.lastTsUs + 1)
      for (const at of tsAt) patchTs(bytes, at, ts++)
      connection.lastTsUs = ts
    }
    connection.sentAtMs = performance.now()
    this.#sent++
    connection.socket.write(bytes)
  }

  start (): void {
    this.#running = true
    for (const connection of this.#connections) this.#send(connection)
  }

  /** Rejects when a connection is lost while running; for use in a race. */
  async failure (): Promise<never> {
    return await new Promise((_resolve, reject) => {
      this.#onFailure = reject
      if (this.#failure !== undefined) reject(this.#failure)
    })
  }

  count (): HttpLoadCount {
    return { sent: this.#sent, accepted: this.#accepted, slowed: this.#slowed, refused: this.#refused }
  }

  /** The latencies since the last call. */
  takeLatency (): LatencyHistogram {
    const taken = this.#latency
    this.#latency = new LatencyHistogram()
    return taken
  }

  /** Stops sending and waits for the outstanding answers, at most `timeoutMs`. */
  async drain (timeoutMs: number): Promise<HttpLoadCount> {
    this.#running = false
    const deadlineMs = performance.now() + timeoutMs
    while (this.#accepted + this.#slowed + this.#refused < this.#sent && performance.now() < deadlineMs) {
      await new Promise(resolve => { setTimeout(resolve, 5) })
    }
    return this.count()
  }

  close (): void {
    this.#running = false
    for (const { socket } of this.#connections) socket.destroy()
  }
}
