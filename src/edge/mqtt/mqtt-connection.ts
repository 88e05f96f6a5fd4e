/**
 * One MQTT connection: the stage between a socket and the broker (DESIGN 3.0). Towards the socket it frames what comes
 * in without copying and refuses a packet that is too large by its header, before anything of it is kept. Towards the
 * journal it is the waiter whose commits become acknowledgements. What faces the client: client-side.ts.
 *
 * Bounds: one partial packet, one read that waits for an answer, `mqttInflightMax` publishes and
 * `mqttInflightBytesMax` un-acked plus the read that crossed them, `mqttOutboundBytesMax` towards the client,
 * `unackedMax` packet ids without the client's acknowledgement.
 */
import type { Duplex } from 'node:stream'
import { mqttConnectBytesMax, mqttInflightBytesMax, mqttInflightMax, mqttPacketBytesMax } from '../../core/limits.js'
import type { CommitWaiter } from '../../journal/journal-types.js'
import type { Principal } from '../../tenancy/model.js'
import { ClientSide, ConnectionState } from './client-side.js'
import { controlReceived } from './control-intake.js'
import type { ConnectRequest } from './control-packets.js'
import { connectReceived } from './handshake.js'
import { Lane } from './lane.js'
import type { MqttContext } from './mqtt-context.js'
import { PartialPacket } from './partial-packet.js'
import { Intake } from './publish-intake.js'
import { RunJob } from './publish-jobs.js'
import type { WheelItem } from './timer-wheel.js'
import type { TopicEntry } from './topic-directory.js'
import { headerMalformed, packetBytes, PacketType } from './wire.js'

/** Time for CONNECT and its authentication. */
const connectTimeoutMs = 10_000
/** A client that takes no byte of what waits for it for this long is closed; looked at that often, so at most twice as long. */
const stallMs = 30_000
/** Why the socket is not read; bits. */
const Pause = { held: 1, inflight: 2, pressure: 4, closing: 8 } as const

const owner = Symbol('connection')
type OwnedSocket = Duplex & { [owner]: MqttConnection }

// Listeners that all sockets share: a connection costs no closure.
function onData (this: Duplex, read: Buffer): void { (this as OwnedSocket)[owner].received(read) }
function onDrain (this: Duplex): void { (this as OwnedSocket)[owner].drained() }
function onEnd (this: Duplex): void { (this as OwnedSocket)[owner].socketEnded() }
function onError (this: Duplex): void { (this as OwnedSocket)[owner].socketEnded() }
function onClose (this: Duplex): void { (this as OwnedSocket)[owner].socketClosed() }

export class MqttConnection extends ClientSide implements CommitWaiter, WheelItem {
  wheelNext: WheelItem | null = null
  wheelPrevious: WheelItem | null = null
  wheelSlot = -1

  clean = true
  /** Looked up at this moment (twin-get.ts). */
  questions = 0
  #partial: PartialPacket | null = null
  #held: Buffer | null = null
  #pauses = 0
  /** Who sends, as the journal wants it; made at the first telemetry. */
  identity: Buffer | null = null
  lastTopic: TopicEntry | null = null
  topics: Map<string, TopicEntry> | null = null
  lane: Lane | null = null
  /** Packet ids of a clean session's QoS 2 publishes without their PUBREL. */
  qos2Ids: Set<number> | null = null
  nextToken = 0
  /** The running read holds telemetry. */
  journaled = false

  #keepAliveTicks = 0
  #activeTick: number
  #progressSeen = 0
  #progressTick: number

  constructor (context: MqttContext, socket: Duplex) {
    super(context, socket)
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
    this.#activeTick = this.context.wheel.tick
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
    const { intake } = this.context
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
    const context = this.context
    if (this.state !== ConnectionState.open) return connectReceived(context, this, read.subarray(at, next))
    context.intake.end(this, read, at)
    return controlReceived(context, this, read.subarray(at, next))
  }

  /** Stops reading where too much is in flight, or where telemetry comes faster than it is stored. */
  #brake (): void {
    if (this.destroyed) return
    if (this.acks !== null && (this.acks.messages >= mqttInflightMax || this.acks.bytes >= mqttInflightBytesMax)) this.#pause(Pause.inflight)
    if (this.journaled && this.context.pressure.level !== 'open') {
      // INVARIANTS 10: slowed, not disconnected.
      this.#pause(Pause.pressure)
      this.context.slow(this)
    }
  }

  #pause (why: number): void {
    if (this.#pauses === 0) this.socket.pause()
    this.#pauses |= why
  }

  #resume (why: number): void {
    if ((this.#pauses & why) === 0) return
    this.#pauses &= ~why
    if (this.#pauses !== 0) return
    // We did not read, so silence until now is not the client's.
    this.#activeTick = this.context.wheel.tick
    this.socket.resume()
  }

  pressureGone (): void { this.#resume(Pause.pressure) }

  /** The packet at hand waits for an answer; then it and what follows are handled. */
  hold (answer: Promise<void>): void {
    answer.then(() => { this.#release() }, (error: unknown) => {
      this.context.log.warn({ tenant: this.tenant, error: String(error) }, 'the registry did not answer')
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
    this.outbound.progress++
    this.outbound.flush()
    this.roomMade()
  }

  socketEnded (): void {
    this.endReason ??= 'closed'
    this.destroy()
  }

  socketClosed (): void {
    this.socketEnded()
    this.context.wheel.cancel(this)
    if (this.context.connections.delete(this)) this.context.stats.connections--
  }

  // From the handshake

  admitted (principal: Principal, sessionId: string, request: ConnectRequest): void {
    this.state = ConnectionState.connecting
    this.principal = principal
    this.tenant = principal.tenant as string
    this.brokerPrefix = `${this.tenant}/`
    this.sessionId = sessionId
    this.clean = request.clean
    this.level = request.level
    this.keepAliveSeconds = request.keepAliveSeconds
    // [MQTT-3.1.2-24]: one and a half times the keep-alive, rounded up to the wheel's ticks.
    this.#keepAliveTicks = request.keepAliveSeconds === 0 ? 0 : this.context.ticks(request.keepAliveSeconds * 1500) + 1
  }

  /** The broker has written CONNACK. */
  brokerAccepted (): void {
    // The broker takes further packets when its own handler has returned.
    queueMicrotask(() => {
      if (this.destroyed) return this.client?.close()
      const { stats, wheel } = this.context
      this.state = ConnectionState.open
      stats.connects++
      stats.sessions++
      this.#activeTick = wheel.tick
      wheel.schedule(this, this.#nextLook())
      this.context.opened(this)
      this.#release()
    })
  }

  // From the journal

  committed (token: number): void {
    const entry = this.acks === null ? null : this.acks.shiftJournaled()
    const context = this.context
    if (entry === null || entry.token !== token) return this.#outOfOrder(token)
    context.stats.observeAckLatency(context.clock.monotonicMs() - entry.arrivedMs, entry.messages)
    if (entry.onCommit !== null) return entry.onCommit(null)
    const { body } = entry
    if (body !== null && entry.topic?.watched !== false) {
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
    this.context.log.warn({ tenant: this.tenant, error: error.message }, 'telemetry could not be journaled')
    this.close('journal_unavailable')
  }

  #outOfOrder (token: number): void {
    this.context.log.error({ tenant: this.tenant, token }, 'the journal answered out of order')
    this.close('journal_order')
  }

  // Towards the client

  /** Writes acknowledgements that are due and what else has gathered. */
  override flush (): void {
    const { acks } = this
    if (acks !== null) {
      this.context.stats.acks += acks.drain(this)
      if ((this.#pauses & Pause.inflight) !== 0 && acks.messages <= mqttInflightMax / 2 && acks.bytes <= mqttInflightBytesMax / 2) this.#resume(Pause.inflight)
    }
    if (this.destroyed) return
    this.outbound.flush()
    this.roomMade()
  }

  /** Stops reading for good; what was read is finished. */
  stopReading (): void { this.#pause(Pause.closing) }

  protected override dropInbound (): void {
    this.#partial = this.#held = null
    this.context.forget(this)
  }

  protected override lookAgain (delayTicks: number): void { this.context.wheel.schedule(this, delayTicks) }

  // Time

  get lastHeardUs (): number { return this.context.heardUs(this.#activeTick) }

  #nextLook (): number {
    const { wheel } = this.context
    const stall = this.context.ticks(stallMs)
    return this.#keepAliveTicks === 0 ? stall : Math.min(stall, this.#keepAliveTicks - (wheel.tick - this.#activeTick))
  }

  due (): void {
    if (this.destroyed) {
      this.socket.destroy()
      return
    }
    if (this.state !== ConnectionState.open) return this.close('connect_timeout')
    const { wheel } = this.context
    const { tick } = wheel
    if (this.#pauses !== 0) this.#activeTick = tick
    if (this.#keepAliveTicks > 0 && tick - this.#activeTick >= this.#keepAliveTicks) return this.close('keep_alive')
    if (this.outbound.pendingBytes === 0 || this.outbound.progress !== this.#progressSeen) {
      this.#progressSeen = this.outbound.progress
      this.#progressTick = tick
    } else if (tick - this.#progressTick >= this.context.ticks(stallMs)) {
      return this.tooSlow('outbound_stalled')
    }
    wheel.schedule(this, this.#nextLook())
  }
}
