/**
 * The MQTT load generator: raw sockets, finished packets, one write per read. Acknowledgements are counted, not parsed: a
 * server acknowledges in the order of the publishes ([MQTT-4.6.0-2]) and every PUBACK has four bytes. The first byte of
 * each read is checked, so that a server that answers something else is noticed.
 *
 * Closed loop: every connection keeps `inFlight` publishes outstanding. Open loop: publishes are due at a fixed rate, and
 * the latency counts from when a publish was due, not from when it could be sent, so that a stalled server cannot hide
 * the publishes that waited for it (the "coordinated omission" of G. Tene).
 */
import { connect, type Socket } from 'node:net'
import { LatencyHistogram } from './latency-histogram.js'
import { encodeConnect } from './packets.js'
import type { PublishRing } from './publish-ring.js'

export interface MqttLoadOptions {
  readonly host: string
  readonly port: number
  readonly connections: number
  /** Publishes outstanding per connection, 1 to the length of the ring. */
  readonly inFlight: number
  /** Publishes per second of all connections together; 0: closed loop. */
  readonly ratePerSecond: number
  /** User name of connection i; none when undefined. */
  readonly usernameOf: (connection: number) => string | undefined
  /** The ring of connection i. Rings with timestamps must not be shared. */
  readonly ringOf: (connection: number) => PublishRing
  readonly stamped: boolean
  readonly clientIdPrefix?: string
  /** Called with the ring index of an acknowledged publish, a few times a second at most per connection. */
  readonly onSampleAcked?: (connection: number, ringIndex: number, ackedAtMs: number) => void
  /** Wall clock, µs; for timestamps in payloads. */
  readonly nowUs: () => number
}

export interface LoadCount {
  readonly sent: number
  readonly acked: number
  readonly lost: number
}

/** Most connections that are being opened at the same time. */
const connectingMax = 200
const connectTimeoutMs = 30_000
const readBufferBytes = 64 * 1024

class LoadConnection {
  readonly index: number
  readonly ring: PublishRing
  socket!: Socket
  sent = 0
  acked = 0
  lost = 0
  /** Bytes of an acknowledgement whose rest has not arrived. */
  rest = 0
  connackBytes = 0
  /** Number of the publish whose acknowledgement is timed; -1 when none is. */
  sampled = -1
  sampledAtMs = 0
  lastTsUs = 0
  connected: (() => void) | undefined

  constructor (index: number, ring: PublishRing) {
    this.index = index
    this.ring = ring
  }
}

export class MqttLoad {
  readonly #options: MqttLoadOptions
  readonly #connections: LoadConnection[] = []
  #latency = new LatencyHistogram()
  #running = false
  #ticker: NodeJS.Timeout | undefined
  #startedAtMs = 0
  #dueGiven = 0
  #next = 0
  #pick = 1
  #failure: Error | undefined
  #onFailure: ((error: Error) => void) | undefined

  constructor (options: MqttLoadOptions) {
    this.#options = options
  }

  /** Connects everything. Throws when a connection is refused or takes longer than 30 s. */
  async open (): Promise<void> {
    const { connections, inFlight, ringOf } = this.#options
    // Reads are handled one at a time on this thread, so that all sockets can share the buffer.
    const buffer = Buffer.allocUnsafe(readBufferBytes)
    let at = 0
    const openNext = async (): Promise<void> => {
      for (let index = at++; index < connections; index = at++) {
        const ring = ringOf(index)
        if (inFlight > ring.length) throw new RangeError('inFlight exceeds the ring')
        const connection = new LoadConnection(index, ring)
        this.#connections[index] = connection
        await this.#connect(connection, buffer)
      }
    }
    await Promise.all(Array.from({ length: Math.min(connectingMax, connections) }, openNext))
  }

  async #connect (connection: LoadConnection, buffer: Buffer): Promise<void> {
    const { host, port, usernameOf, clientIdPrefix = 'fleet' } = this.#options
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => { reject(new Error(`connection ${connection.index}: no CONNACK in ${connectTimeoutMs} ms`)) }, connectTimeoutMs)
      const socket = connect({
        host,
        port,
        noDelay: true,
        onread: { buffer, callback: (count, bytes) => { this.#read(connection, bytes, count); return true } }
      })
      connection.socket = socket
      connection.connected = () => { clearTimeout(timer); resolve() }
      socket.on('connect', () => socket.write(encodeConnect({ clientId: `${clientIdPrefix}-${connection.index}`, username: usernameOf(connection.index) })))
      socket.on('error', () => {})
      socket.on('close', () => {
        clearTimeout(timer)
        const error = new Error(`connection ${connection.index} was closed after ${connection.sent} publishes`)
        reject(error)
        connection.lost += connection.sent - connection.acked
        if (this.#running) this.#fail(error)
      })
    })
  }

  #fail (error: Error): void {
    this.#failure ??= error
    this.#onFailure?.(error)
  }

  #read (connection: LoadConnection, bytes: Uint8Array, count: number): void {
    let at = 0
    if (connection.connackBytes < 4) {
      at = Math.min(4 - connection.connackBytes, count)
      connection.connackBytes += at
      if (connection.connackBytes < 4) return
      // A refused CONNECT is followed by a close, which reports it. [MQTT-3.2.2-5]
      if (bytes[at - 1] === 0) connection.connected?.()
      else connection.socket.destroy()
      if (at === count) return
    }
    if (connection.rest === 0 && bytes[at] !== 0x40) {
      this.#fail(new Error(`connection ${connection.index}: packet type ${bytes[at] >> 4} instead of PUBACK`))
      connection.socket.destroy()
      return
    }
    const total = connection.rest + count - at
    connection.rest = total & 3
    connection.acked += total >> 2
    if (connection.sampled !== -1 && connection.acked > connection.sampled) this.#sample(connection)
    if (this.#running && this.#options.ratePerSecond === 0) {
      this.#send(connection, this.#options.inFlight - (connection.sent - connection.acked), 0)
    }
  }

  #sample (connection: LoadConnection): void {
    const nowMs = performance.now()
    this.#latency.add(nowMs - connection.sampledAtMs)
    const ringIndex = connection.sampled % connection.ring.length
    connection.sampled = -1
    this.#options.onSampleAcked?.(connection.index, ringIndex, nowMs)
  }

  /** @param dueAtMs when the publishes were due; 0: now */
  #send (connection: LoadConnection, count: number, dueAtMs: number): void {
    if (count <= 0) return
    const { ring, socket } = connection
    const first = connection.sent % ring.length
    const firstRun = Math.min(count, ring.length - first)
    if (this.#options.stamped) {
      connection.lastTsUs = ring.stamp(first, first + firstRun, this.#options.nowUs(), connection.lastTsUs)
      if (firstRun < count) connection.lastTsUs = ring.stamp(0, count - firstRun, connection.lastTsUs + 1, connection.lastTsUs)
    }
    if (connection.sampled === -1) {
      // Any publish of the run may be the timed one: the first of a run waits less than the last.
      this.#pick = Math.imul(this.#pick, 1_664_525) + 1_013_904_223 >>> 0
      connection.sampled = connection.sent + this.#pick % count
      connection.sampledAtMs = dueAtMs === 0 ? performance.now() : dueAtMs
    }
    connection.sent += count
    if (firstRun === count) {
      socket.write(ring.slice(first, first + count))
      return
    }
    socket.cork()
    socket.write(ring.slice(first, ring.length))
    socket.write(ring.slice(0, count - firstRun))
    socket.uncork()
  }

  #tick (): void {
    const { ratePerSecond, inFlight } = this.#options
    const elapsedMs = performance.now() - this.#startedAtMs
    let due = Math.floor(elapsedMs * ratePerSecond / 1000) - this.#dueGiven
    const share = Math.max(1, Math.ceil(due / this.#connections.length))
    for (let tried = 0; tried < this.#connections.length && due > 0; tried++) {
      const connection = this.#connections[this.#next]
      this.#next = (this.#next + 1) % this.#connections.length
      const count = Math.min(share, due, inFlight - (connection.sent - connection.acked))
      if (count <= 0) continue
      this.#send(connection, count, this.#startedAtMs + this.#dueGiven * 1000 / ratePerSecond)
      this.#dueGiven += count
      due -= count
    }
  }

  /** Starts sending. */
  start (): void {
    this.#running = true
    this.#startedAtMs = performance.now()
    this.#dueGiven = 0
    if (this.#options.ratePerSecond > 0) {
      this.#ticker = setInterval(() => { this.#tick() }, 1)
      return
    }
    for (const connection of this.#connections) this.#send(connection, this.#options.inFlight - (connection.sent - connection.acked), 0)
  }

  /** Rejects when a connection is lost or answers wrongly while running; for use in a race. */
  async failure (): Promise<never> {
    return await new Promise((_resolve, reject) => {
      this.#onFailure = reject
      if (this.#failure !== undefined) reject(this.#failure)
    })
  }

  count (): LoadCount {
    let sent = 0
    let acked = 0
    let lost = 0
    for (const connection of this.#connections) {
      sent += connection.sent
      acked += connection.acked
      lost += connection.lost
    }
    return { sent, acked, lost }
  }

  /** Publishes that are due in an open loop and could not be sent yet. */
  get behind (): number {
    return this.#options.ratePerSecond === 0 ? 0 : Math.max(0, Math.floor((performance.now() - this.#startedAtMs) * this.#options.ratePerSecond / 1000) - this.#dueGiven)
  }

  /** The latencies since the last call. */
  takeLatency (): LatencyHistogram {
    const taken = this.#latency
    this.#latency = new LatencyHistogram()
    return taken
  }

  /** The ring of a connection, for looking up what was acknowledged. */
  ring (connection: number): PublishRing {
    return this.#connections[connection].ring
  }

  /** Stops sending and waits for the outstanding acknowledgements, at most `timeoutMs`. */
  async drain (timeoutMs: number): Promise<LoadCount> {
    this.#running = false
    clearInterval(this.#ticker)
    const deadlineMs = performance.now() + timeoutMs
    for (let count = this.count(); ; count = this.count()) {
      if (count.acked >= count.sent - count.lost || performance.now() > deadlineMs) return count
      await new Promise(resolve => { setTimeout(resolve, 5) })
    }
  }

  close (): void {
    this.#running = false
    clearInterval(this.#ticker)
    for (const { socket } of this.#connections) socket?.destroy()
  }
}
