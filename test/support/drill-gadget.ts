/**
 * A device for the command drill: connects and drops at random, subscribes, acknowledges most of what it gets, answers some of it (now
 * and then twice, now and then late), sends an answer again until it is acknowledged, and remembers all of it.
 */
import { connect, type Socket } from 'node:net'
import mqttPacket, { type Packet } from 'mqtt-packet'
import { encodeConnect, encodePublish, encodeSubscribe } from '../../simulators/fleet/packets.js'
import type { Random } from '../../simulators/fleet/seeded-random.js'

export interface Receipt {
  /** Wall clock of the device, ms. */
  readonly atMs: number
  readonly connection: number
  /** The device has written its PUBACK. */
  acknowledged: boolean
}

export interface GivenAnswer {
  readonly outcome: 'succeeded' | 'failed'
  /** When the first answer was first written, and when it was first acknowledged; 0: it was not. */
  sentAtMs: number
  ackedAtMs: number
  /** Answers that were acknowledged, repeats of the same one counted once. */
  acked: number
}

interface Outgoing { readonly id: string, readonly topic: string, readonly payload: Buffer, packetId: number, first: boolean, sentBefore: boolean }

export interface GadgetOptions {
  readonly id: string
  readonly token: string
  readonly random: Random
  /** How long a connection lasts and how long it takes until the next, ms at most. */
  readonly connectedMsMax: number
  readonly awayMsMax: number
}

export class DrillGadget {
  readonly receipts = new Map<string, Receipt[]>()
  readonly answers = new Map<string, GivenAnswer>()
  connects = 0
  /** The same command twice on one connection. */
  readonly doubled: string[] = []
  readonly #options: GadgetOptions
  readonly #waiting: Outgoing[] = []
  #socket: Socket | undefined
  #port = 0
  #running = false
  #drops = true
  #connected = false
  #nextPacketId = 1
  #drop: NodeJS.Timeout | undefined
  #next: NodeJS.Timeout | undefined
  readonly #delayed = new Set<NodeJS.Timeout>()

  constructor (options: GadgetOptions) {
    this.#options = options
  }

  get id (): string { return this.#options.id }
  /** Answers that are not acknowledged, or not written yet. */
  get outstanding (): number { return this.#waiting.length + this.#delayed.size }

  run (port: number): void {
    this.#port = port
    if (this.#running) return
    this.#running = true
    this.#connectLater()
  }

  /** Stays connected from now on, so that what is outstanding can be told. */
  settle (): void {
    this.#drops = false
    clearTimeout(this.#drop)
    if (!this.#connected) this.#connectLater()
  }

  close (): void {
    this.#running = false
    clearTimeout(this.#drop)
    clearTimeout(this.#next)
    for (const timer of this.#delayed) clearTimeout(timer)
    this.#socket?.destroy()
  }

  #chance (share: number): boolean {
    return this.#options.random() < share
  }

  #connectLater (): void {
    clearTimeout(this.#next)
    this.#next = setTimeout(() => { this.#connect() }, this.#drops ? this.#options.random() * this.#options.awayMsMax : 20)
  }

  #connect (): void {
    if (!this.#running || this.#connected) return
    this.#socket?.destroy()
    const socket = connect({ host: '127.0.0.1', port: this.#port, noDelay: true })
    this.#socket = socket
    const parser = mqttPacket.parser()
    const number = ++this.connects
    parser.on('packet', packet => { this.#got(packet, number, socket) })
    parser.on('error', () => { socket.destroy() })
    socket.on('connect', () => socket.write(encodeConnect({ clientId: this.#options.id, username: this.#options.token, cleanSession: this.#chance(0.5), keepAliveSeconds: 30 })))
    socket.on('data', bytes => { parser.parse(bytes) })
    socket.on('error', () => {})
    socket.on('close', () => {
      if (this.#socket !== socket) return
      this.#connected = false
      clearTimeout(this.#drop)
      if (this.#running) this.#connectLater()
    })
  }

  #got (packet: Packet, number: number, socket: Socket): void {
    if (socket !== this.#socket || socket.destroyed) return
    if (packet.cmd === 'connack') {
      if (packet.returnCode !== 0) {
        socket.destroy()
        return
      }
      this.#connected = true
      // A few listen with QoS 0: nobody is told then that a command arrived.
      socket.write(encodeSubscribe(this.#takePacketId(), `devices/${this.#options.id}/commands/+/request/+`, this.#chance(0.9) ? 1 : 0))
      for (const message of this.#waiting) this.#write(message)
      if (this.#drops) this.#drop = setTimeout(() => { socket.destroy() }, this.#options.random() * this.#options.connectedMsMax)
    } else if (packet.cmd === 'puback') {
      this.#acknowledged(packet.messageId as number)
    } else if (packet.cmd === 'publish') {
      this.#receive(packet.topic, packet.qos, packet.messageId as number, number, socket)
    }
  }

  #receive (topic: string, qos: number, messageId: number, number: number, socket: Socket): void {
    const id = topic.split('/')[5]
    const receipt: Receipt = { atMs: Date.now(), connection: number, acknowledged: false }
    const receipts = this.receipts.get(id) ?? []
    if (receipts.some(({ connection }) => connection === number)) this.doubled.push(id)
    this.receipts.set(id, [...receipts, receipt])
    // Some die before they acknowledge, some right after, some carry it out without a word.
    if (this.#drops && this.#chance(0.05)) {
      socket.destroy()
      return
    }
    if (qos === 1) {
      const acknowledge = (): void => {
        if (socket.destroyed || socket !== this.#socket) return
        receipt.acknowledged = true
        socket.write(Buffer.from([0x40, 2, messageId >> 8, messageId & 0xff]))
      }
      if (this.#chance(0.1)) setTimeout(acknowledge, this.#options.random() * 200)
      else acknowledge()
    }
    if (this.#drops && this.#chance(0.05)) {
      socket.destroy()
      return
    }
    if (this.answers.has(id) || this.#chance(0.25)) return
    const outcome = this.#chance(0.7) ? 'succeeded' : 'failed'
    this.answers.set(id, { outcome, sentAtMs: 0, ackedAtMs: 0, acked: 0 })
    this.#later(this.#options.random() * (this.#chance(0.1) ? 4000 : 100), () => {
      this.#answer(topic, id, outcome, true)
      if (this.#chance(0.05)) this.#answer(topic, id, outcome === 'failed' ? 'succeeded' : 'failed', false)
    })
  }

  #later (delayMs: number, action: () => void): void {
    const timer = setTimeout(() => {
      this.#delayed.delete(timer)
      action()
    }, delayMs)
    this.#delayed.add(timer)
  }

  #answer (topic: string, id: string, outcome: 'succeeded' | 'failed', first: boolean): void {
    const message: Outgoing = { id, topic: topic.replace('/request/', '/response/'), payload: Buffer.from(JSON.stringify({ status: outcome, payload: { first } })), packetId: this.#takePacketId(), first, sentBefore: false }
    this.#waiting.push(message)
    if (this.#connected) this.#write(message)
  }

  #write (message: Outgoing): void {
    const given = this.answers.get(message.id) as GivenAnswer
    if (message.first && given.sentAtMs === 0) given.sentAtMs = Date.now()
    this.#socket?.write(encodePublish(message.topic, message.packetId, message.payload, { duplicate: message.sentBefore }))
    message.sentBefore = true
  }

  #acknowledged (packetId: number): void {
    const index = this.#waiting.findIndex(message => message.packetId === packetId)
    if (index === -1) return
    const [message] = this.#waiting.splice(index, 1)
    const given = this.answers.get(message.id) as GivenAnswer
    given.acked++
    if (message.first) given.ackedAtMs = Date.now()
  }

  #takePacketId (): number {
    do this.#nextPacketId = this.#nextPacketId % 65_535 + 1
    while (this.#waiting.some(({ packetId }) => packetId === this.#nextPacketId))
    return this.#nextPacketId
  }
}
