/**
 * The half of a connection that faces its client: what is sent to it, and how it ends. Towards the broker it is the
 * stream that Aedes reads and writes; its `write` always takes everything at once, so the broker never waits for a slow
 * client, and what the client does not read is bounded here (outbound.ts).
 */
import { EventEmitter } from 'node:events'
import type { Duplex } from 'node:stream'
import { mqttOutboundBytesMax } from '../../core/limits.js'
import type { DisconnectReason } from '../../store/presence-store.js'
import type { Principal } from '../../tenancy/model.js'
import type { AckQueue } from './ack-queue.js'
import type { PacketSink } from './assembler.js'
import type { BrokerClient } from './broker.js'
import type { ConnectionLink } from './device-links.js'
import type { Downstream } from './downstream.js'
import { disconnectReasonOf } from './end-reasons.js'
import type { MqttContext } from './mqtt-context.js'
import { countReason } from './mqtt-stats.js'
import { Outbound, qos0BytesMax, replayBytesMax } from './outbound.js'
import type { Receiver } from './paced-persistence.js'
import type { HandOverJob } from './publish-jobs.js'
import { encodeConnack, headerBytes, newPacket, PacketType } from './wire.js'

/** Time that a closed connection gets to take its last bytes. */
const lingerMs = 3000
/** Packet ids of QoS 1 and 2 messages that the client may leave unacknowledged. */
const unackedMax = 16_384
/** A replay of stored messages waits while the client owes this many. */
const replayUnackedMax = 512

/** Marks a packet id whose PUBREC has come and whose PUBCOMP is awaited (`unacked`). */
export const released = 0x10000

/** Stands in the codes of a SUBACK for a filter that the stage serves itself, at QoS 0. */
export const grantedHere = -2

export const ConnectionState = { awaitingConnect: 0, authenticating: 1, connecting: 2, open: 3 } as const

function closeClient (client: BrokerClient): void { client.close() }

export abstract class ClientSide extends EventEmitter implements PacketSink, Receiver {
  protected readonly context: MqttContext
  protected readonly socket: Duplex
  protected readonly outbound: Outbound
  state: number = ConnectionState.awaitingConnect
  destroyed = false
  /** In the context's list of connections to flush. */
  flushing = false

  principal: Principal | null = null
  tenant = ''
  /** `tenant/`: what the broker's topics begin with. */
  brokerPrefix = ''
  /** Client id in the broker. */
  sessionId = ''
  /** Protocol level: 4 for MQTT 3.1.1, 3 for MQTT 3.1. */
  protected level = 4
  /** Set by the broker (`conn.client`). */
  client: BrokerClient | null = null
  /** The last emission that it got, and the range of its subscriptions' QoS, -1 where it must be found out (delivery.ts). */
  emission = 0
  lowestQos = -1
  highestQos = -1
  /** Numbered messages up to here reach the session by replay only; the greatest that was passed over for that (delivery.ts). */
  replayedUpTo = 0
  skippedUpTo = 0
  acks: AckQueue | null = null
  /** Packet ids that the client has not acknowledged; see `released` for the second half of QoS 2. */
  unacked: Set<number> | null = null
  /** A SUBSCRIBE or UNSUBSCRIBE that the broker works on. */
  awaiting: HandOverJob | null = null
  /** Names the connection for presence and deliveries; '' before it is open. */
  connectionId = ''
  /** Messages of the server itself; made at the first. */
  downstream: Downstream | null = null
  /** Of a device's open connection: the devices that it receives for. */
  links: Map<string, ConnectionLink> | null = null
  /** Why it ends, where the stage knows. */
  endReason: DisconnectReason | null = null
  /** Of its CONNECT; 0: none. */
  keepAliveSeconds = 0
  /** Said DISCONNECT: nothing more is read. */
  leaving = false
  #inbox: Buffer | null = null
  #roomWaiters: (() => void)[] | null = null

  constructor (context: MqttContext, socket: Duplex) {
    super()
    this.context = context
    this.socket = socket
    this.outbound = new Outbound(socket)
  }

  /** Queues a whole packet for the client. */
  send (packet: Buffer): void {
    if (this.destroyed) return
    if (this.outbound.pendingBytes + packet.length > mqttOutboundBytesMax) this.tooSlow('outbound_bytes')
    else this.outbound.push(packet)
  }

  /** A whole packet from the broker. */
  outgoing (packet: Buffer): void {
    if (this.destroyed) return
    switch (packet[0] >> 4) {
      case PacketType.publish:
        this.#deliver(packet)
        this.context.flush(this, false)
        return
      case PacketType.suback:
        this.#subscribed(packet)
        break
      case PacketType.unsuback:
        this.lowestQos = -1
        if (this.awaiting?.silent !== true) this.send(Buffer.from(packet))
        this.awaiting?.answered()
        this.context.links.changed(this)
        break
      case PacketType.connack:
        // MQTT 3.1 knows no "session present".
        if (this.level === 3) packet[2] = 0
        this.send(Buffer.from(packet))
        break
      case PacketType.pubrel:
        (this.unacked ??= new Set()).add(packet.readUInt16BE(2) | released)
        this.send(Buffer.from(packet))
        break
      default:
        this.send(Buffer.from(packet))
    }
    this.context.flush(this, true)
  }

  /** Queues a QoS 0 PUBLISH in the client's own form, which other connections get as well; dropped where it does not read. */
  deliverPlain (packet: Buffer): void {
    const context = this.context
    if (this.outbound.pendingBytes + packet.length > qos0BytesMax) {
      context.stats.droppedQos0++
      return
    }
    context.stats.delivered++
    this.outbound.push(packet)
    context.flush(this, false)
  }

  /** Strips the tenant from a PUBLISH and queues it. */
  #deliver (packet: Buffer): void {
    const { stats } = this.context
    const { brokerPrefix } = this
    const at = headerBytes(packet, 0)
    const topicBytes = packet.readUInt16BE(at)
    // INVARIANTS 7: whatever the matching said.
    for (let i = 0; i < brokerPrefix.length; i++) if (packet[at + 2 + i] !== brokerPrefix.charCodeAt(i)) return
    if ((packet[0] & 6) !== 0) {
      const unacked = this.unacked ??= new Set()
      const packetId = packet.readUInt16BE(at + 2 + topicBytes)
      if (unacked.size >= unackedMax) return this.tooSlow('unacknowledged')
      // A message that an older version had numbered: it comes again on the next connection.
      if (this.downstream?.has(packetId) === true) return this.close('broker_failed')
      unacked.add(packetId)
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
    this.lowestQos = -1
    const job = this.awaiting
    const codes = job?.codes
    if (job === null || codes === null || codes === undefined) return
    const at = headerBytes(packet, 0) + 2
    const answer = newPacket(packet[0], 2 + codes.length)
    packet.copy(answer.packet, answer.at, at - 2, at)
    for (let i = 0; i < codes.length; i++) answer.packet[answer.at + 2 + i] = codes[i] < 0 ? (codes[i] === grantedHere ? 0 : 0x80) : packet[at + codes[i]]
    this.send(answer.packet)
    job.answered()
    this.context.links.changed(this)
  }

  /** A PUBLISH of the server itself, with the packet id that is to be acknowledged, 0 for none. */
  sendOwn (packet: Buffer, packetId: number): void {
    if (packetId !== 0) {
      const unacked = this.unacked ??= new Set()
      if (unacked.size >= unackedMax) return this.tooSlow('unacknowledged')
      unacked.add(packetId)
    }
    this.context.stats.delivered++
    this.send(packet)
    this.context.flush(this, true)
  }

  get subscriptionCount (): number {
    return this.client === null ? 0 : Object.keys(this.client.subscriptions).length
  }

  get hasRoom (): boolean {
    return this.outbound.pendingBytes < replayBytesMax && (this.unacked === null || this.unacked.size < replayUnackedMax)
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
    if (!this.destroyed) this.context.assembler.write(this, piece)
    return true
  }

  // The end

  /** Answers CONNECT with a refusal. */
  refuse (returnCode: number, reason: string): void {
    if (this.destroyed) return
    countReason(this.context.stats.refusedConnects, reason)
    this.context.log.debug({ tenant: this.tenant, returnCode, reason }, 'an MQTT connection was refused')
    this.send(encodeConnack(returnCode, false))
    this.destroy()
  }

  /** Closes for a breach of the protocol; what an authenticated client sent is kept as a dead letter (INVARIANTS 9). */
  fault (reason: string, packet: Uint8Array): void {
    if (this.destroyed) return
    const { tenant, principal } = this
    if (principal !== null) {
      this.context.onRefused?.({ tenant, device: principal.device ?? '', topic: '', payload: packet, reason: 'packet_invalid', detail: reason })
    }
    this.close(reason)
  }

  close (reason: string): void {
    if (this.destroyed) return
    this.endReason ??= disconnectReasonOf(reason)
    countReason(this.context.stats.closed, reason)
    this.context.log.debug({ tenant: this.tenant, client: this.sessionId, reason }, 'an MQTT connection was closed')
    this.destroy()
  }

  /** The client does not take what it is sent; its session keeps QoS 1 and 2. */
  protected tooSlow (reason: string): void {
    this.context.stats.slowClosed++
    this.outbound.drop()
    this.close(reason)
    this.socket.destroy()
  }

  /** Ends the connection: the last bytes leave, the broker is told, commits on their way are awaited by nobody. */
  destroy (error?: unknown): this {
    if (this.destroyed) return this
    const context = this.context
    const socket = this.socket
    const wasOpen = this.state === ConnectionState.open
    if (wasOpen) context.stats.sessions--
    if (!socket.destroyed) {
      this.acks?.drain(this)
      this.outbound.flushAll()
      socket.end()
      // The peer's end is seen only by reading.
      socket.resume()
    }
    this.destroyed = true
    context.live?.end(this)
    this.downstream?.end()
    // The broker ends a connection by itself for a packet that it cannot handle, or because its client has come again.
    if (wasOpen) context.ended(this, this.leaving ? 'client' : this.endReason ?? (context.stopping ? 'server_stopped' : error === undefined ? 'taken_over' : 'protocol'))
    this.outbound.drop()
    this.#inbox = null
    this.dropInbound()
    this.lookAgain(context.ticks(lingerMs))
    this.awaiting?.answered()
    this.roomMade()
    // While the broker still registers the session it would forget to take it off again; then `brokerAccepted` tells it.
    if (this.client !== null && this.state === ConnectionState.open) process.nextTick(closeClient, this.client)
    return this
  }

  /** Ends the socket without waiting for its last bytes. */
  abort (): void {
    this.destroy()
    this.socket.destroy()
  }

  /** Lets go of what was read and not handled. */
  protected abstract dropInbound (): void

  /** When the client was last heard, µs. */
  abstract get lastHeardUs (): number

  /** Has the connection looked at by the wheel after so many ticks. */
  protected abstract lookAgain (delayTicks: number): void

  /** Writes what is due. */
  abstract flush (): void
}
