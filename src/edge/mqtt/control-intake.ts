/**
 * Packets other than CONNECT and PUBLISH, after the handshake. The broker gets only what belongs to its sessions, with
 * filters rewritten to `tenant/…`; an acknowledgement of something that was never sent ends here, so that no flood of
 * them costs the broker memory.
 */
import { mqttSubscriptionsPerSessionMax } from '../../core/limits.js'
import { maySubscribe } from '../../gate/access.js'
import type { Principal } from '../../tenancy/model.js'
import { readFilters, shortPacketFault, type RequestedFilter } from './control-packets.js'
import { grantedHere, released } from './client-side.js'
import { Lane, type LaneJob } from './lane.js'
import { liveTopicOf } from './live-subscriptions.js'
import type { MqttConnection } from './mqtt-connection.js'
import type { MqttContext } from './mqtt-context.js'
import { countReason } from './mqtt-stats.js'
import { Intake } from './publish-intake.js'
import { HandOverJob, ReleaseJob } from './publish-jobs.js'
import { exceedsTopicLimits } from './topic-grammar.js'
import { encodeAcknowledgement, encodeSuback, encodeSubscribe, encodeUnsubscribe, PacketType, pubcompByte } from './wire.js'

const pingresp = Buffer.from([0xd0, 0])

function queue (connection: MqttConnection, job: LaneJob): number {
  (connection.lane ??= new Lane()).push(job)
  return connection.destroyed ? Intake.stopped : Intake.taken
}

/** One packet of an open connection; a run of publishes before it has been ended. */
export function controlReceived (context: MqttContext, connection: MqttConnection, packet: Buffer): number {
  switch (packet[0] >> 4) {
    case PacketType.puback: return acknowledgementReceived(connection, packet, false)
    case PacketType.pubrec: return acknowledgementReceived(connection, packet, true)
    case PacketType.pubcomp: return completionReceived(connection, packet)
    case PacketType.pubrel: return releaseReceived(context, connection, packet)
    case PacketType.subscribe: return subscribeReceived(context, connection, packet)
    case PacketType.unsubscribe: return unsubscribeReceived(context, connection, packet)
    case PacketType.pingreq: return pingReceived(context, connection, packet)
    case PacketType.disconnect: return disconnectReceived(context, connection, packet)
    case PacketType.connect: return fault(connection, 'connect_twice', packet)
    default: return fault(connection, 'packet_type', packet)
  }
}

function fault (connection: MqttConnection, reason: string, packet: Buffer): number {
  connection.fault(reason, packet)
  return Intake.stopped
}

function pingReceived (context: MqttContext, connection: MqttConnection, packet: Buffer): number {
  const wrong = shortPacketFault(packet, 0, false)
  if (wrong !== null) return fault(connection, wrong, packet)
  connection.send(pingresp)
  context.flush(connection, true)
  return Intake.taken
}

/** PUBACK, or PUBREC (`more`), of a message that was sent to the client. */
function acknowledgementReceived (connection: MqttConnection, packet: Buffer, more: boolean): number {
  const wrong = shortPacketFault(packet, 0, true)
  if (wrong !== null) return fault(connection, wrong, packet)
  const packetId = packet.readUInt16BE(2)
  if (connection.downstream?.has(packetId) === true) {
    // What the stage sent is of QoS 1: a PUBREC says nothing about it.
    if (more) return Intake.taken
    connection.unacked?.delete(packetId)
    connection.downstream.acked(packetId)
    connection.roomMade()
    return Intake.taken
  }
  if (connection.unacked === null || !connection.unacked.delete(packetId)) return Intake.taken
  if (more) connection.unacked.add(packetId | released)
  connection.feed(packet)
  connection.roomMade()
  return Intake.taken
}

function completionReceived (connection: MqttConnection, packet: Buffer): number {
  const wrong = shortPacketFault(packet, 0, true)
  if (wrong !== null) return fault(connection, wrong, packet)
  if (connection.unacked === null || !connection.unacked.delete(packet.readUInt16BE(2) | released)) return Intake.taken
  connection.feed(packet)
  connection.roomMade()
  return Intake.taken
}

/** PUBREL: the client's half of a QoS 2 exchange; the stage answers PUBCOMP ([MQTT-4.3.3-2]). */
function releaseReceived (context: MqttContext, connection: MqttConnection, packet: Buffer): number {
  const wrong = shortPacketFault(packet, 2, true)
  if (wrong !== null) return fault(connection, wrong, packet)
  const packetId = packet.readUInt16BE(2)
  if (connection.clean) {
    connection.qos2Ids?.delete(packetId)
    connection.send(encodeAcknowledgement(pubcompByte, packetId))
    context.flush(connection, true)
    return Intake.taken
  }
  const ack = context.intake.entry(connection, pubcompByte, packetId, packet.length)
  context.intake.pushAck(connection, ack)
  return queue(connection, new ReleaseJob(context, connection, ack, packetId))
}

function mayHear (context: MqttContext, connection: MqttConnection, filter: string): boolean {
  const principal = connection.principal as Principal
  const may = maySubscribe(principal, filter)
  return typeof may === 'boolean' ? may : context.topics.mayHear(principal, may.ask) === true
}

/** Devices that a gateway wants to listen for and that the registry must be asked about first; so many at a time. */
const askedAtOnceMax = 64

function unknownChildren (context: MqttContext, connection: MqttConnection, filters: readonly RequestedFilter[]): ReadonlySet<string> {
  const principal = connection.principal as Principal
  const unknown = new Set<string>()
  if (principal.role !== 'device') return unknown
  for (const { filter } of filters) {
    const may = maySubscribe(principal, filter)
    if (typeof may !== 'boolean' && context.topics.mayHear(principal, may.ask) === undefined) unknown.add(may.ask)
    if (unknown.size === askedAtOnceMax) break
  }
  return unknown
}

function subscribeReceived (context: MqttContext, connection: MqttConnection, packet: Buffer): number {
  const outcome = readFilters(packet, true)
  if (outcome.kind === 'fault') return fault(connection, outcome.reason, packet)
  const unknown = unknownChildren(context, connection, outcome.filters)
  if (unknown.size > 0) {
    connection.hold(Promise.all([...unknown].map(async device => { await context.topics.ask(connection.principal as Principal, device) })).then(() => {}))
    return Intake.holdThis
  }
  const codes: number[] = []
  const wanted = new Map<string, { index: number, qos: number }>()
  let room = mqttSubscriptionsPerSessionMax - connection.subscriptionCount - (context.live?.count(connection) ?? 0)
  for (const { filter, bytes, qos } of outcome.filters) {
    const known = wanted.get(filter)
    if (known !== undefined) {
      // The later of two equal filters replaces the earlier ([MQTT-3.8.4-3]); each gets its return code.
      known.qos = qos
      codes.push(known.index)
      continue
    }
    const live = context.live === null ? null : liveTopicOf(filter)
    let refusal: string | null = null
    if (filter.startsWith('$share/')) refusal = 'filter_shared'
    else if (exceedsTopicLimits(bytes)) refusal = 'filter_too_long'
    else if (!mayHear(context, connection, filter)) refusal = 'filter_forbidden'
    else if (room-- <= 0) refusal = 'subscriptions_max'
    else if (live === 'refused') refusal = 'filter_live'
    else if (live !== null && context.live?.subscribe(connection, filter, live) !== true) refusal = 'live_max'
    if (refusal !== null) {
      countReason(context.stats.refused, refusal)
      context.log.debug({ tenant: connection.tenant, filter, reason: refusal }, 'an MQTT subscription was refused')
      codes.push(-1)
      continue
    }
    if (live !== null) {
      codes.push(grantedHere)
      continue
    }
    codes.push(wanted.size)
    wanted.set(filter, { index: wanted.size, qos })
  }
  if (wanted.size === 0) {
    connection.send(encodeSuback(outcome.packetId, codes.map(code => code === grantedHere ? 0 : 0x80)))
    context.flush(connection, true)
    return Intake.taken
  }
  const subscriptions = [...wanted].map(([filter, { qos }]) => ({ filter: connection.brokerPrefix + filter, qos }))
  const ack = context.intake.entry(connection, 0, 0, packet.length)
  context.intake.pushAck(connection, ack)
  return queue(connection, new HandOverJob(context, connection, ack, encodeSubscribe(outcome.packetId, subscriptions), true, codes))
}

function unsubscribeReceived (context: MqttContext, connection: MqttConnection, packet: Buffer): number {
  const outcome = readFilters(packet, false)
  if (outcome.kind === 'fault') return fault(connection, outcome.reason, packet)
  for (const { filter } of outcome.filters) context.live?.unsubscribe(connection, filter)
  const filters = new Set(outcome.filters.map(({ filter }) => connection.brokerPrefix + filter))
  const ack = context.intake.entry(connection, 0, 0, packet.length)
  context.intake.pushAck(connection, ack)
  return queue(connection, new HandOverJob(context, connection, ack, encodeUnsubscribe(outcome.packetId, [...filters]), true, null))
}

/** Takes filters out of a session on the server's own account. */
export function dropFilters (context: MqttContext, connection: MqttConnection, filters: readonly string[]): void {
  const packet = encodeUnsubscribe(1, filters.map(filter => connection.brokerPrefix + filter))
  const ack = context.intake.entry(connection, 0, 0, packet.length)
  context.intake.pushAck(connection, ack)
  queue(connection, new HandOverJob(context, connection, ack, packet, true, null, true))
}

/** After everything before it: what a client sent before it said goodbye still counts. */
function disconnectReceived (context: MqttContext, connection: MqttConnection, packet: Buffer): number {
  const wrong = shortPacketFault(packet, 0, false)
  if (wrong !== null) return fault(connection, wrong, packet)
  connection.leaving = true
  const ack = context.intake.entry(connection, 0, 0, packet.length)
  context.intake.pushAck(connection, ack)
  queue(connection, new HandOverJob(context, connection, ack, Buffer.from(packet), false, null))
  return Intake.stopped
}
