/**
 * One MQTT connection: the stage between a socket and the broker (DESIGN 3.0). Towards the socket it frames what comes
 * in without copying and refuses a packet that is too large by its header, before anything of it is kept. Towards the
 * broker it is the stream that Aedes reads and writes; its `write` always takes everything at once, so the broker
 * never waits for a slow client. Towards the journal it is the waiter whose commits become acknowledgements.
 *
 * Bounds: one partial packet, one read that waits for an answer, `mqttInflightMax` publishes and
 * `mqttInflightBytesMax` un-acked plus the read that crossed them, `mqttOutboundBytesMax` towards the client,
 * `unackedMax` packet ids without the client's acknowledgement.
 */
import { EventEmitter } from 'node:events'
import type { Duplex } from 'node:stream'
import { mqttConnectBytesMax, mqttInflightBytesMax, mqttInflightMax, mqttOutboundBytesMax, mqttPacketBytesMax } from '../../core/limits.js'
import type { CommitWaiter } from '../../journal/journal-types.js'
import type { Principal } from '../../tenancy/model.js'
import type { AckQueue } from './ack-queue.js'
import type { PacketSink } from './assembler.js'
import type { BrokerClient } from './broker.js'
import { controlReceived, released } from './control-intake.js'
import type { ConnectRequest } from './control-packets.js'
import { connectReceived } from './handshake.js'
import { Lane } from './lane.js'
import type { MqttContext } from './mqtt-context.js'
import { countReason } from './mqtt-stats.js'
import { Outbound, qos0BytesMax, replayBytesMax } from './outbound.js'
import type { Receiver } from './paced-persistence.js'
import { PartialPacket } from './partial-packet.js'
import { Intake } from './publish-intake.js'
import { RunJob, type HandOverJob } from './publish-jobs.js'
import type { WheelItem } from './timer-wheel.js'
import type { TopicEntry } from './topic-directory.js'
import { encodeConnack, headerMalformed, newPacket, packetBytes, headerBytes, PacketType } from './wire.js'

/** Time for CONNECT and its authentication. */
const connectTimeoutMs = 10_000
/** Time that a closed connection gets to take its last bytes. */
const lingerMs = 3000
/** A client that takes no byte of what waits for it for this long is closed; looked at that often, so at most twice as long. */
const stallMs = 30_000
/** Packet ids of QoS 1 and 2 messages that the client may leave unacknowledged. */
const unackedMax = 16_384
/** A replay of stored messages waits while the client owes this many. */
const replayUnackedMax = 512

export const ConnectionState = { awaitingConnect: 0, authenticating: 1, connecting: 2, open: 3 } as const

/** Why the socket is not read; bits. */
const Pause = { held: 1, inflight: 2, pressure: 4, closing: 8 } as const

const owner = Symbol('connection')
type OwnedSocket = Duplex & { [owner]: MqttConnection }

// Listeners that all sockets share: a connection costs no closure.
function onData (this: Duplex, read: Buffer): void { (this as OwnedSocket)[owner].received(read) }
function onDrain (this: Duplex): void { (this as OwnedSocket)[owner].drained() }
function onEnd (this: Duplex): void { (this as OwnedSocket)[owner].destroy() }
function onError (this: Duplex): void { (this as OwnedSocket)[owner].destroy() }
function onClose (this: Duplex): void { (this as OwnedSocket)[owner].socketClosed() }
function closeClient (client: BrokerClient): void { client.close() }

export class MqttConnection extends EventEmitter implements CommitWaiter, PacketSink, Receiver, WheelItem {
  wheelNext: WheelItem | null = null
  wheelPrevious: WheelItem | null = null
  wheelSlot = -1

  readonly #context: MqttContext
  readonly #socket: Duplex
  readonly #outbound: Outbound
  state: number = ConnectionState.awaitingConnect
  destroyed = false
  /** Said DISCONNECT: nothing more is read. */
  leaving = false
  /** In the context's list of connections to flush. */
  flushing = false

  principal: Principal | null = null
  tenant = ''
  /** `tenant/`: what the broker's topics begin with. */
  brokerPrefix = ''
  /** Client id in the broker. */
  sessionId = ''
  clean = true
  #level = 4
  /** Set by the broker (`conn.client`). */
  client: BrokerClient | null = null
  /** The last emission that it got (delivery.ts). */
  emission = 0

  #partial: PartialPacket | null = null
  #held: Buffer | null = null
  #pauses = 0
  #inbox: Buffer | null = null
  /** Who sends, as the journal wants it; made at the first telemetry. */
  identity: Buffer | null = null
  lastTopic: TopicEntry | null = null
  topics: Map<string, TopicEntry> | null = null
  acks: AckQueue | null = null
  lane: Lane | null = null
  /** Packet ids of a clean session's QoS 2 publishes without their PUBREL. */
  qos2Ids: Set<number> | null = null
  /** Packet ids that the client has not acknowledged; see `released` for the second half of QoS 2. */
  unacked: Set<number> | null = null
  /** A SUBSCRIBE or UNSUBSCRIBE that the broker works on. */
  awaiting: HandOverJob | null = null
  nextToken = 0
  /** The running read holds telemetry. */
  journaled = false

  #keepAliveTicks = 0
  #activeTick: number
  #progressSeen = 0
  #progressTick: number
  #roomWaiters: (() => void)[] | null = null

  constructor (context: MqttContext, socket: Duplex) {
    super()
    this.#context = context
    this.#socket = socket
    this.#outbound = new Outbound(socket)
    this.#activeTick = this.#progressTick = context.wheel.tick;
    (socket as OwnedSocket)[owner] = this
    socket.on('data', onData)
    socket.on('drain', onDrain)
    socket.on('end', onEnd)
    socket.on('error', onError)
    socket.on('close', onClose)
    context.connections.add(this)
    context.stats.connections++
    context.wheel.schedule(this, context.ticks(connectTimeoutMs))
  }

  // From the socket

  received (read: Buffer): void {
    if (this.destroyed || this.leaving) return
    this.#activeTick = this.#context.wheel.tick
    if (this.#held !== null) this.#held = Buffer.concat([this.#held, read])
    else this.#read(read)
  }

  #read (read: Buffer): void {
    this.journaled = false
    let rest: Buffer | null = read
    if (this.#partial !== null) rest = this.#complete(this.#partial, read)
    if (rest !== null && rest.length > 0) this.#scan(rest)
    this.#brake()
  }

  /** Completes the partial packet; returns what follows it in the read, null when there is nothing to go on with. */
  #complete (partial: PartialPacket, read: Buffer): Buffer | null {
    const taken = partial.fill(read, this.#packetBytesMax())
    if (taken < 0) {
      this.fault('packet_too_large', read.subarray(0, 0))
      return null
    }
    if (partial.whole === null) return null
    this.#partial = null
    this.#scan(partial.whole)
    const rest = read.subarray(taken)
    if (this.#held === null) return this.destroyed || this.leaving ? null : rest
    this.#held = Buffer.concat([this.#held, rest])
    return null
  }

  #packetBytesMax (): number {
    return this.state === ConnectionState.awaitingConnect ? mqttConnectBytesMax : mqttPacketBytesMax
  }

  /** Handles all whole packets of a read and keeps the rest. */
  #scan (read: Buffer): void {
    const { intake } = this.#context
    const end = read.length
    const open = this.state === ConnectionState.open
    if (!open && (read[0] >> 4) !== PacketType.connect) return this.fault('connect_expected', read.subarray(0, 0))
    const bytesMax = this.#packetBytesMax()
    if (open) intake.begin(end)
    let at = 0
    while (at < end) {
      const total = packetBytes(read, at, end)
      if (total === headerMalformed || total > bytesMax) {
        intake.end(this, read, at)
        return this.fault(total === headerMalformed ? 'remaining_length' : 'packet_too_large', read.subarray(0, 0))
      }
      const next = at + total
      if (total < 0 || next > end) break
      const outcome = open && (read[at] & 0xf0) === 0x30 ? intake.publish(this, read, at, next) : this.#control(read, at, next)
      if (outcome !== Intake.taken) {
        if (outcome !== Intake.stopped) {
          this.#pause(Pause.held)
          this.#held = read.subarray(outcome === Intake.holdThis ? at : next)
        }
        return
      }
      at = next
    }
    intake.end(this, read, at)
    if (at < end) this.#partial = new PartialPacket(read.subarray(at))
  }

  #control (read: Buffer, at: number, next: number): number {
    const context = this.#context
    if (this.state !== ConnectionState.open) return connectReceived(context, this, read.subarray(at, next))
    context.intake.end(this, read, at)
    return controlReceived(context, this, read.subarray(at, next))
  }

  /** Stops reading where too much is in flight, or where telemetry comes faster than it is stored. */
  #brake (): void {
    if (this.destroyed) return
    if (this.acks !== null && (this.acks.messages >= mqttInflightMax || this.acks.bytes >= mqttInflightBytesMax)) this.#pause(Pause.inflight)
    if (this.journaled && this.#context.pressure.level !== 'open') {
      // INVARIANTS 10: slowed, not disconnected.
      this.#pause(Pause.pressure)
      this.#context.slow(this)
    }
  }

  #pause (why: number): void {
    if (this.#pauses === 0) this.#socket.pause()
    this.#pauses |= why
  }

  #resume (why: number): void {
    if ((this.#pauses & why) === 0) return
    this.#pauses &= ~why
    if (this.#pauses !== 0) return
    // We did not read, so silence until now is not the client's.
    this.#activeTick = this.#context.wheel.tick
    this.#socket.resume()
  }

  pressureGone (): void { this.#resume(Pause.pressure) }

  /** The packet at hand waits for an answer; then it and what follows are handled. */
  hold (answer: Promise<void>): void {
    answer.then(() => { this.#release() }, (error: unknown) => {
      this.#context.log.warn({ tenant: this.tenant, error: String(error) }, 'the registry did not answer')
      this.close('registry_unavailable')
    })
  }

  #release (): void {
    if (this.destroyed) return
    const held = this.#held
    this.#held = null
    this.#resume(Pause.held)
    if (held !== null && held.length > 0) this.#read(held)
  }

  drained (): void {
    this.#outbound.progress++
    this.#outbound.flush()
    this.roomMade()
  }

  socketClosed (): void {
    this.destroy()
    this.#context.wheel.cancel(this)
    if (this.#context.connections.delete(this)) this.#context.stats.connections--
  }

  // From the handshake

  admitted (principal: Principal, sessionId: string, request: ConnectRequest): void {
    this.state = ConnectionState.connecting
    this.principal = principal
    this.tenant = principal.tenant as string
    this.brokerPrefix = `${this.tenant}/`
    this.sessionId = sessionId
    this.clean = request.clean
    this.#level = request.level
    // [MQTT-3.1.2-24]: one and a half times the keep-alive, rounded up to the wheel's ticks.
    this.#keepAliveTicks = request.keepAliveSeconds === 0 ? 0 : this.#context.ticks(request.keepAliveSeconds * 1500) + 1
  }

  /** The broker has written CONNACK. */
  brokerAccepted (): void {
    // The broker takes further packets when its own handler has returned.
    queueMicrotask(() => {
      if (this.destroyed) return
      const { stats, wheel } = this.#context
      this.state = ConnectionState.open
      stats.connects++
      stats.sessions++
      this.#activeTick = wheel.tick
      wheel.schedule(this, this.#nextLook())
      this.#release()
    })
  }

  // From the journal

  committed (token: number): void {
    const entry = this.acks === null ? null : this.acks.shiftJournaled()
    const context = this.#context
    if (entry === null || entry.token !== token) return this.#outOfOrder(token)
    context.stats.observeAckLatency(context.clock.monotonicMs() - entry.arrivedMs, entry.messages)
    if (entry.onCommit !== null) return entry.onCommit(null)
    const { body } = entry
    if (body !== null) {
      entry.body = null;
      (this.lane ??= new Lane()).push(new RunJob(context, this, entry, body))
      return
    }
    entry.done = true
    context.flush(this, true)
  }

  failed (token: number, error: Error): void {
    const entry = this.acks === null ? null : this.acks.shiftJournaled()
    if (entry === null || entry.token !== token) return this.#outOfOrder(token)
    entry.onCommit?.(error)
    this.journalFailed(error)
  }

  /** INVARIANTS 1: what is not durable is never acknowledged; the client sends it again on its next connection. */
  journalFailed (error: Error): void {
    this.#context.log.warn({ tenant: this.tenant, error: error.message }, 'telemetry could not be journaled')
    this.close('journal_unavailable')
  }

  #outOfOrder (token: number): void {
    this.#context.log.error({ tenant: this.tenant, token }, 'the journal answered out of order')
    this.close('journal_order')
  }

  // Towards the client

  /** Queues a whole packet for the client. */
  send (packet: Buffer): void {
    if (this.destroyed) return
    if (this.#outbound.pendingBytes + packet.length > mqttOutboundBytesMax) this.#tooSlow('outbound_bytes')
    else this.#outbound.push(packet)
  }

  /** Writes acknowledgements that are due and what else has gathered. */
  flush (): void {
    const { acks } = this
    if (acks !== null) {
      this.#context.stats.acks += acks.drain(this)
      if ((this.#pauses & Pause.inflight) !== 0 && acks.messages <= mqttInflightMax / 2 && acks.bytes <= mqttInflightBytesMax / 2) this.#resume(Pause.inflight)
    }
    if (this.destroyed) return
    this.#outbound.flush()
    this.roomMade()
  }

  /** A whole packet from the broker. */
  outgoing (packet: Buffer): void {
    if (this.destroyed) return
    switch (packet[0] >> 4) {
      case PacketType.publish:
        this.#deliver(packet)
        this.#context.flush(this, false)
        return
      case PacketType.suback:
        this.#subscribed(packet)
        break
      case PacketType.unsuback:
        this.send(Buffer.from(packet))
        this.awaiting?.answered()
        break
      case PacketType.connack:
        // MQTT 3.1 knows no "session present".
        if (this.#level === 3) packet[2] = 0
        this.send(Buffer.from(packet))
        break
      case PacketType.pubrel:
        (this.unacked ??= new Set()).add(packet.readUInt16BE(2) | released)
        this.send(Buffer.from(packet))
        break
      default:
        this.send(Buffer.from(packet))
    }
    this.#context.flush(this, true)
  }

  /** Queues a QoS 0 PUBLISH in the client's own form, which other connections get as well; dropped where it does not read. */
  deliverPlain (packet: Buffer): void {
    const context = this.#context
    if (this.#outbound.pendingBytes + packet.length > qos0BytesMax) {
      context.stats.droppedQos0++
      return
    }
    context.stats.delivered++
    this.#outbound.push(packet)
    context.flush(this, false)
  }

  /** Strips the tenant from a PUBLISH and queues it. */
  #deliver (packet: Buffer): void {
    const { stats } = this.#context
    const { brokerPrefix } = this
    const at = headerBytes(packet, 0)
    const topicBytes = packet.readUInt16BE(at)
    // INVARIANTS 7: whatever the matching said.
    for (let i = 0; i < brokerPrefix.length; i++) if (packet[at + 2 + i] !== brokerPrefix.charCodeAt(i)) return
    if ((packet[0] & 6) !== 0) {
      const unacked = this.unacked ??= new Set()
      if (unacked.size >= unackedMax) return this.#tooSlow('unacknowledged')
      unacked.add(packet.readUInt16BE(at + 2 + topicBytes))
    }
    const stripped = brokerPrefix.length
    const { packet: sent, at: sentAt } = newPacket(packet[0], packet.length - at - stripped)
    sent.writeUInt16BE(topicBytes - stripped, sentAt)
    packet.copy(sent, sentAt + 2, at + 2 + stripped)
    stats.delivered++
    this.send(sent)
  }

  /** SUBACK: one return code for each filter that the client asked for, refused ones too ([MQTT-3.8.4-5]). */
  #subscribed (packet: Buffer): void {
    const job = this.awaiting
    const codes = job?.codes
    if (job === null || codes === null || codes === undefined) return
    const at = headerBytes(packet, 0) + 2
    const answer = newPacket(packet[0], 2 + codes.length)
    packet.copy(answer.packet, answer.at, at - 2, at)
    for (let i = 0; i < codes.length; i++) answer.packet[answer.at + 2 + i] = codes[i] < 0 ? 0x80 : packet[at + codes[i]]
    this.send(answer.packet)
    job.answered()
  }

  get singleSubscription (): boolean {
    let count = 0
    for (const _filter in this.client?.subscriptions) if (++count > 1) return false
    return true
  }

  get subscriptionCount (): number {
    return this.client === null ? 0 : Object.keys(this.client.subscriptions).length
  }

  get hasRoom (): boolean {
    return this.#outbound.pendingBytes < replayBytesMax && (this.unacked === null || this.unacked.size < replayUnackedMax)
  }

  room (): Promise<void> {
    return new Promise(resolve => { (this.#roomWaiters ??= []).push(resolve) })
  }

  /** Wakes replays that wait, where there is room now. */
  roomMade (): void {
    const waiters = this.#roomWaiters
    if (waiters === null || !(this.destroyed || this.hasRoom)) return
    this.#roomWaiters = null
    for (const wake of waiters) wake()
  }

  // The stream that the broker sees

  get asStream (): Duplex { return this as unknown as Duplex }

  /** Hands a packet to the broker. */
  feed (packet: Buffer): void {
    this.#inbox = this.#inbox === null ? packet : Buffer.concat([this.#inbox, packet])
    this.emit('readable')
  }

  read (): Buffer | null {
    const inbox = this.#inbox
    this.#inbox = null
    return inbox
  }

  /** Always takes everything, so that the broker never waits. */
  write (piece: Uint8Array | string): boolean {
    if (!this.destroyed) this.#context.assembler.write(this, piece)
    return true
  }

  // The end

  /** Answers CONNECT with a refusal. */
  refuse (returnCode: number, reason: string): void {
    if (this.destroyed) return
    countReason(this.#context.stats.refusedConnects, reason)
    this.#context.log.debug({ tenant: this.tenant, returnCode, reason }, 'an MQTT connection was refused')
    this.send(encodeConnack(returnCode, false))
    this.destroy()
  }

  /** Closes for a breach of the protocol; what an authenticated client sent is kept as a dead letter (INVARIANTS 9). */
  fault (reason: string, packet: Uint8Array): void {
    if (this.destroyed) return
    const { tenant, principal } = this
    if (principal !== null) {
      this.#context.onRefused?.({ tenant, device: principal.device ?? '', topic: '', payload: packet, reason: 'packet_invalid', detail: reason })
    }
    this.close(reason)
  }

  close (reason: string): void {
    if (this.destroyed) return
    countReason(this.#context.stats.closed, reason)
    this.#context.log.debug({ tenant: this.tenant, client: this.sessionId, reason }, 'an MQTT connection was closed')
    this.destroy()
  }

  /** The client does not take what it is sent; its session keeps QoS 1 and 2. */
  #tooSlow (reason: string): void {
    this.#context.stats.slowClosed++
    this.#outbound.drop()
    this.close(reason)
    this.#socket.destroy()
  }

  /** Stops reading for good; what was read is finished. */
  stopReading (): void { this.#pause(Pause.closing) }

  /** Ends the connection: the last bytes leave, the broker is told, commits on their way are awaited by nobody. */
  destroy (): this {
    if (this.destroyed) return this
    const context = this.#context
    const socket = this.#socket
    if (this.state === ConnectionState.open) context.stats.sessions--
    if (!socket.destroyed) {
      this.acks?.drain(this)
      this.#outbound.flushAll()
      socket.end()
      // The peer's end is seen only by reading.
      socket.resume()
    }
    this.destroyed = true
    this.#outbound.drop()
    this.#partial = this.#held = this.#inbox = null
    context.forget(this)
    context.wheel.schedule(this, context.ticks(lingerMs))
    this.awaiting?.answered()
    this.roomMade()
    if (this.client !== null) process.nextTick(closeClient, this.client)
    return this
  }

  /** Ends the socket without waiting for its last bytes. */
  abort (): void {
    this.destroy()
    this.#socket.destroy()
  }

  // Time

  #nextLook (): number {
    const { wheel } = this.#context
    const stall = this.#context.ticks(stallMs)
    return this.#keepAliveTicks === 0 ? stall : Math.min(stall, this.#keepAliveTicks - (wheel.tick - this.#activeTick))
  }

  due (): void {
    if (this.destroyed) {
      this.#socket.destroy()
      return
    }
    if (this.state !== ConnectionState.open) return this.close('connect_timeout')
    const { wheel } = this.#context
    const { tick } = wheel
    if (this.#pauses !== 0) this.#activeTick = tick
    if (this.#keepAliveTicks > 0 && tick - this.#activeTick >= this.#keepAliveTicks) return this.close('keep_alive')
    if (this.#outbound.pendingBytes === 0 || this.#outbound.progress !== this.#progressSeen) {
      this.#progressSeen = this.#outbound.progress
      this.#progressTick = tick
    } else if (tick - this.#progressTick >= this.#context.ticks(stallMs)) {
      return this.#tooSlow('outbound_stalled')
    }
    wheel.schedule(this, this.#nextLook())
  }
}
