/**
 * Devices for drills: they remember what they sent and what was acknowledged, survive the death of the server, reconnect,
 * and send again whatever was not acknowledged, as MQTT 3.1.1 demands of a QoS 1 sender (4.3.2). They also send again some
 * of what was acknowledged, as a device does whose acknowledgement was lost on the way: it must not count twice.
 */
import { connect, type Socket } from 'node:net'
import { encodeConnect, encodePublish, packetIdMax } from '../../simulators/fleet/packets.js'
import type { Random } from '../../simulators/fleet/seeded-random.js'
import type { TwinfoldApi } from '../../simulators/twinfold-api.js'

/** What a device knows of its readings: value by key, and which keys were acknowledged. */
export class Ledger {
  readonly sent = new Map<number, number>()
  readonly acked = new Set<number>()
}

export interface DrillMqttOptions {
  readonly clientId: string
  readonly token: string
  readonly inFlight: number
  /** First timestamp, ms; every reading is one further. */
  readonly firstTsMs: number
  /** New readings per second at most, so that the ledgers of a long drill stay countable. */
  readonly ratePerSecond: number
}

const reconnectMs = 20
const paceMs = 5
/** Acknowledged readings that are sent once more after a reconnect. */
const repeatedMax = 20

interface Message { readonly tsMs: number, readonly payload: Buffer, sentBefore: boolean }

/** An MQTT device: one reading per publish, timestamp and value unique. */
export class DrillMqttDevice {
  /** Timestamp in ms to value. */
  readonly ledger = new Ledger()
  readonly #options: DrillMqttOptions
  readonly #waiting = new Map<number, Message>()
  #recent: Message[] = []
  #socket: Socket | undefined
  #port = 0
  #running = false
  #producing = false
  #nextTsMs: number
  #nextPacketId = 1
  #input: Buffer = Buffer.alloc(0)
  #connected = false
  #pace: NodeJS.Timeout | undefined
  /** New readings that may be made at this moment. */
  #budget = 0
  redelivered = 0
  reconnects = 0

  constructor (options: DrillMqttOptions) {
    this.#options = options
    this.#nextTsMs = options.firstTsMs
  }

  get outstanding (): number { return this.#waiting.size }

  /** Connects to a server (a restarted one has another port) and keeps sending. */
  run (port: number): void {
    this.#port = port
    this.#producing = true
    if (this.#running) {
      this.#socket?.destroy()
      return
    }
    this.#running = true
    this.#pace = setInterval(() => {
      const perTick = this.#options.ratePerSecond * paceMs / 1000
      this.#budget = Math.min(this.#budget + perTick, this.#options.inFlight + perTick)
      this.#produce()
    }, paceMs)
    this.#connect()
  }

  /** No new readings; what is outstanding is still sent again until it is acknowledged. */
  stopProducing (): void {
    this.#producing = false
  }

  close (): void {
    this.#running = false
    clearInterval(this.#pace)
    this.#socket?.destroy()
  }

  #connect (): void {
    const socket = connect({ host: '127.0.0.1', port: this.#port, noDelay: true })
    this.#socket = socket
    this.#input = Buffer.alloc(0)
    this.#connected = false
    socket.on('connect', () => socket.write(encodeConnect({ clientId: this.#options.clientId, username: this.#options.token })))
    socket.on('data', bytes => { this.#read(bytes) })
    socket.on('error', () => {})
    socket.on('close', () => {
      if (!this.#running) return
      this.reconnects++
      setTimeout(() => { if (this.#running) this.#connect() }, reconnectMs)
    })
  }

  #read (bytes: Buffer): void {
    this.#input = Buffer.concat([this.#input, bytes])
    while (this.#input.length >= 4) {
      const type = this.#input[0] >> 4
      if (type === 2) {
        if (this.#input[3] !== 0) {
          this.#socket?.destroy()
          return
        }
        this.#connected = true
        this.#repeatAcknowledged()
        this.#resend()
      } else if (type === 4) {
        this.#acknowledged(this.#input.readUInt16BE(2))
      } else {
        throw new Error(`a device got packet type ${type}`)
      }
      this.#input = this.#input.subarray(4)
    }
    this.#produce()
  }

  /** [MQTT-4.4.0-1]: what is unacknowledged goes first, with its packet id and the DUP flag. */
  #resend (): void {
    for (const [packetId, message] of this.#waiting) {
      if (message.sentBefore) this.redelivered++
      this.#socket?.write(encodePublish('telemetry', packetId, message.payload, { duplicate: message.sentBefore }))
      message.sentBefore = true
    }
  }

  /** The same readings under new packet ids: only their timestamps say that they are the same (INVARIANTS 3). */
  #repeatAcknowledged (): void {
    for (const { tsMs, payload } of this.#recent.splice(0)) {
      this.#waiting.set(this.#takePacketId(), { tsMs, payload, sentBefore: false })
      this.redelivered++
    }
  }

  #takePacketId (): number {
    for (;;) {
      const packetId = this.#nextPacketId
      this.#nextPacketId = packetId % packetIdMax + 1
      if (!this.#waiting.has(packetId)) return packetId
    }
  }

  #acknowledged (packetId: number): void {
    const message = this.#waiting.get(packetId)
    if (message === undefined) throw new Error(`PUBACK for packet ${packetId}, which is not outstanding`)
    this.#waiting.delete(packetId)
    this.ledger.acked.add(message.tsMs)
    this.#recent.push(message)
    if (this.#recent.length > repeatedMax) this.#recent.shift()
  }

  #produce (): void {
    if (!this.#producing || !this.#connected) return
    const packets: Buffer[] = []
    while (this.#waiting.size < this.#options.inFlight && this.#budget >= 1) {
      this.#budget--
      const tsMs = this.#nextTsMs++
      const value = tsMs % 1_000_003 / 4
      const payload = Buffer.from(`{"ts":${tsMs},"values":{"v":${value}}}`)
      const packetId = this.#takePacketId()
      this.#waiting.set(packetId, { tsMs, payload, sentBefore: true })
      this.ledger.sent.set(tsMs, value)
      packets.push(encodePublish('telemetry', packetId, payload))
    }
    if (packets.length > 0) this.#socket?.write(Buffer.concat(packets))
  }
}

const retryMs = 20
/** Every so many batches, an accepted one is sent once more: one of this many before it, so that it may lie before a kill. */
const repeatEvery = 4
const repeatBackMax = 40

interface Batch { readonly body: string, readonly key: string }

/**
 * An HTTP device: batches without timestamps under an Idempotency-Key, sent again until they are accepted. Only the key can
 * keep such a batch from counting twice (INVARIANTS 3). Values are unique.
 */
export class DrillHttpDevice {
  /** Value to value: unstamped readings are known by their value. */
  readonly ledger = new Ledger()
  readonly id: string
  repeats = 0
  accepted = 0
  /** Answers by status, other than 2xx. */
  readonly refusals = new Map<number, number>()
  readonly #readingsPerBatch: number
  readonly #random: Random
  readonly #done: Batch[] = []
  #api: TwinfoldApi | undefined
  #producing = false
  #next = 1
  #loop: Promise<void> | undefined

  constructor (id: string, readingsPerBatch: number, random: Random) {
    this.id = id
    this.#random = random
    this.#readingsPerBatch = readingsPerBatch
  }

  /** Sends to a server (a restarted one has another address). */
  run (api: TwinfoldApi): void {
    this.#api = api
    if (this.#producing) return
    this.#producing = true
    this.#loop = this.#send()
  }

  /** Resolves when the last batch was accepted. */
  async finish (): Promise<void> {
    this.#producing = false
    await this.#loop
  }

  async #send (): Promise<void> {
    for (let batch = 0; this.#producing; batch++) {
      const values = Array.from({ length: this.#readingsPerBatch }, () => this.#next++)
      for (const value of values) this.ledger.sent.set(value, value)
      const made: Batch = { body: JSON.stringify(values.map(value => ({ v: value }))), key: `${this.id}-${batch}` }
      await this.#sendUntilAccepted(made)
      for (const value of values) this.ledger.acked.add(value)
      this.accepted++
      this.#done.push(made)
      if (this.#done.length > repeatBackMax) this.#done.shift()
      if (batch % repeatEvery === 0) {
        this.repeats++
        await this.#sendUntilAccepted(this.#done[Math.floor(this.#random() * this.#done.length)])
      }
    }
  }

  async #sendUntilAccepted ({ body, key }: Batch): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      if (attempt > 0) this.repeats++
      try {
        const answer = await (this.#api as TwinfoldApi).ask('POST', `/devices/${this.id}/telemetry`, body, { 'idempotency-key': key })
        if (answer.status >= 200 && answer.status < 300) return
        this.refusals.set(answer.status, (this.refusals.get(answer.status) ?? 0) + 1)
        if (answer.status < 500 && answer.status !== 429) throw new Refused(`${answer.status}: ${JSON.stringify(answer.body)}`)
      } catch (error) {
        if (error instanceof Refused) throw error
      }
      await new Promise(resolve => { setTimeout(resolve, retryMs) })
    }
  }
}

class Refused extends Error {}
