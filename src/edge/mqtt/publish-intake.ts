/**
 * The way of a PUBLISH from the socket read to the journal. Neighbouring telemetry of one read becomes one record of
 * the journal, with the bytes as they were received; per message this costs a look at its header, a comparison of its
 * topic with the last one, and four bytes of acknowledgement. Everything else ends the run and takes the slow way:
 * through the broker (publish-jobs.ts), or acknowledged and dropped with a reason, because MQTT 3.1.1 knows no
 * negative acknowledgement ([MQTT-3.3.5-2]).
 *
 * QoS 2: for a clean session its packet ids are kept in memory, and telemetry is acknowledged with PUBREC from the
 * group commit like QoS 1. For a persistent session the exchange is stored (publish-jobs.ts).
 */
import { mqttInflightMax, topicCachePerDeviceMax, topicCachePerSpeakerMax } from '../../core/limits.js'
import { encodeIdentity, RecordFlags, RecordKind } from '../../journal/record.js'
import type { Principal } from '../../tenancy/model.js'
import { AckQueue, type AckEntry } from './ack-queue.js'
import { Lane } from './lane.js'
import type { MqttConnection } from './mqtt-connection.js'
import type { MqttContext } from './mqtt-context.js'
import { countReason } from './mqtt-stats.js'
import { PublishJob, StoredExchangeJob } from './publish-jobs.js'
import { TopicKind, type TopicEntry } from './topic-directory.js'
import type { TelemetryWatch } from './telemetry-watch.js'
import { topicNameFault } from './topic-grammar.js'
import { askTwin } from './twin-get.js'
import { acknowledgementBytes, encodePublish, headerBytes, pubackByte, pubrecByte } from './wire.js'

/** What became of a packet of a read. */
export const Intake = {
  /** Dealt with; go on with the next one. */
  taken: 0,
  /** The connection was closed; drop the rest. */
  stopped: 1,
  /** Must wait for an answer; keep this packet and the rest. */
  holdThis: 2,
  /** Taken, but the rest must wait. */
  holdRest: 3
} as const

/** A run that is longer becomes several records. */
const runBytesMax = 512 * 1024
const letterD = 0x64

function sameTopic (expected: Uint8Array, bytes: Uint8Array, at: number, end: number): boolean {
  const length = expected.length
  if (length !== end - at) return false
  // From the end: topics of a tenant differ in their later levels.
  for (let i = length - 1; i >= 0; i--) if (expected[i] !== bytes[at + i]) return false
  return true
}

/** Of the topic's kind. */
function watchOf (context: MqttContext, entry: TopicEntry): TelemetryWatch {
  return entry.kind === TopicKind.message ? context.messageWatch : context.watch
}

/** What was made out does not hold any more. */
function isWatchStale (context: MqttContext, entry: TopicEntry): boolean {
  return entry.epoch !== watchOf(context, entry).epoch(entry.tenantSlot, entry.deviceSlot) || (entry.watched && entry.watchedUntil <= context.wheel.tick)
}

/** Makes out anew whether somebody listens; says yes until the sessions that are offline have been asked. */
export function refreshWatch (context: MqttContext, entry: TopicEntry, tenant: string): void {
  const watch = watchOf(context, entry)
  const epoch = watch.epoch(entry.tenantSlot, entry.deviceSlot)
  entry.epoch = epoch
  entry.watchedUntil = context.wheel.tick + context.leaseTicks
  entry.watched = true
  if (watch.online(tenant, entry.device)) return
  context.persistence.subscriptionsByTopic(entry.brokerTopic).then(
    // Where the look-up failed there is one that stands for the failure: publishes go through the broker, which meets it too.
    subscriptions => { if (entry.epoch === epoch) entry.watched = subscriptions.length > 0 },
    (error: unknown) => { context.log.warn({ tenant, error: String(error) }, 'subscriptions could not be read') }
  )
}

/** The PUBLISH at [at, next) as it is journaled for the applier: its topic without a short form. Memory of its own. */
export function writtenOut (connection: MqttConnection, entry: TopicEntry, chunk: Buffer, at: number, next: number, payloadAt: number): Buffer {
  // No short form begins as `devices/` does.
  if (entry.bytes[0] === letterD) return Buffer.from(chunk.subarray(at, next))
  const topic = entry.brokerTopic.slice(connection.brokerPrefix.length)
  const qos = (chunk[at] >> 1) & 3
  return encodePublish(topic, chunk.subarray(payloadAt, next), qos, qos === 0 ? 0 : chunk.readUInt16BE(payloadAt - 2), (chunk[at] & 1) === 1)
}

export class PublishIntake {
  readonly #context: MqttContext
  #arrivedMs = 0
  // The run that is being gathered; reads are handled one after the other, so one run serves all connections.
  #start = -1
  #messages = 0
  #ackStart = 0
  #flags = 0
  #throughBroker = false

  constructor (context: MqttContext) { this.#context = context }

  /** A read begins. */
  begin (readBytes: number): void {
    this.#arrivedMs = this.#context.clock.monotonicMs()
    // The smallest packet with an acknowledgement is a PUBREL, of four bytes as well.
    this.#context.ackSlab.reserve(Math.ceil(readBytes / acknowledgementBytes))
  }

  /** One PUBLISH at [at, next) of a read. */
  publish (connection: MqttConnection, chunk: Buffer, at: number, next: number): number {
    const context = this.#context
    const first = chunk[at]
    const qos = (first >> 1) & 3
    const body = at + headerBytes(chunk, at)
    const topicAt = body + 2
    const topicEnd = topicAt + ((chunk[body] << 8) | chunk[body + 1])
    const payloadAt = qos === 0 ? topicEnd : topicEnd + 2
    if (topicAt > next || payloadAt > next) return this.#fault(connection, chunk, at, next, 'packet_truncated')
    if (qos === 3) return this.#fault(connection, chunk, at, next, 'publish_qos')
    if ((first & 14) === 8) return this.#fault(connection, chunk, at, next, 'publish_dup')
    if (qos !== 0 && (chunk[topicEnd] | chunk[topicEnd + 1]) === 0) return this.#fault(connection, chunk, at, next, 'packet_id_zero')
    const { tick } = context.wheel
    let entry = connection.lastTopic
    if (entry === null || entry.validUntil <= tick || !sameTopic(entry.bytes, chunk, topicAt, topicEnd)) {
      const wrong = topicNameFault(chunk.subarray(topicAt, topicEnd))
      if (wrong !== null) return this.#fault(connection, chunk, at, next, wrong)
      entry = this.#topic(connection, chunk, topicAt, topicEnd)
      if (entry === null) {
        this.end(connection, chunk, at)
        return Intake.holdThis
      }
    }
    if (entry.kind !== TopicKind.telemetry || qos === 2) return this.#slowWay(connection, entry, chunk, at, next, payloadAt, qos)
    // A read from a WebSocket may be larger than a record of the journal.
    if (this.#start !== -1 && at - this.#start > runBytesMax) this.end(connection, chunk, at)
    this.#addToRun(connection, entry, first, at)
    if (qos === 1) context.ackSlab.write(pubackByte, chunk[topicEnd], chunk[topicEnd + 1])
    return Intake.taken
  }

  #addToRun (connection: MqttConnection, entry: TopicEntry, first: number, at: number): void {
    const context = this.#context
    if (this.#start === -1) {
      this.#start = at
      this.#ackStart = context.ackSlab.at
    }
    this.#messages++
    if (entry.device !== (connection.principal as Principal).device) this.#flags = RecordFlags.gateway
    if (isWatchStale(context, entry)) refreshWatch(context, entry, connection.tenant)
    if (entry.watched || (first & 1) === 1) this.#throughBroker = true
  }

  /** The decision on a topic that is not the last one; null when the registry must be asked first. */
  #topic (connection: MqttConnection, chunk: Buffer, topicAt: number, topicEnd: number): TopicEntry | null {
    const { topics, wheel, presence, clock } = this.#context
    const key = chunk.toString('latin1', topicAt, topicEnd)
    const known = connection.topics?.get(key)
    if (known !== undefined && known.validUntil > wheel.tick) {
      connection.lastTopic = known
      return known
    }
    const decision = topics.decide(connection.principal as Principal, chunk.subarray(topicAt, topicEnd), wheel.tick)
    if ('ask' in decision) {
      connection.hold(topics.ask(connection.principal as Principal, decision.ask))
      return null
    }
    // Once in a lease: a gateway's child is alive without a connection of its own.
    if (decision.validUntil !== Infinity && decision.kind !== TopicKind.refused && connection.principal?.role === 'device') presence?.noteActivity(connection.tenant, decision.device, clock.nowUs())
    const last = connection.lastTopic
    if (last !== null) {
      // Only a connection with a second topic pays for a map.
      connection.topics ??= new Map([[Buffer.from(last.bytes).toString('latin1'), last]])
      // What names another device has been confirmed by the registry: only such connections hold many topics.
      const speaks = decision.device !== '' && decision.device !== (connection.principal as Principal).device
      if (connection.topics.size >= (speaks ? topicCachePerSpeakerMax : topicCachePerDeviceMax)) connection.topics.delete(connection.topics.keys().next().value as string)
      connection.topics.set(key, decision)
    }
    connection.lastTopic = decision
    return decision
  }

  #slowWay (connection: MqttConnection, entry: TopicEntry, chunk: Buffer, at: number, next: number, payloadAt: number, qos: number): number {
    const context = this.#context
    const first = chunk[at]
    const packetId = qos === 0 ? 0 : chunk.readUInt16BE(payloadAt - 2)
    if (qos === 2 && connection.clean) {
      const ids = connection.qos2Ids ??= new Set()
      if (ids.has(packetId)) {
        // [MQTT-4.3.3-2]: acknowledged again, taken once.
        this.end(connection, chunk, at)
        this.#acknowledged(connection, this.entry(connection, pubrecByte, packetId, 0))
        return Intake.taken
      }
      if (ids.size >= mqttInflightMax) {
        this.end(connection, chunk, at)
        connection.close('qos2_window')
        return Intake.stopped
      }
      ids.add(packetId)
      if (entry.kind === TopicKind.telemetry) {
        this.#addToRun(connection, entry, first, at)
        context.ackSlab.write(pubrecByte, packetId >>> 8, packetId & 255)
        return Intake.taken
      }
    }
    this.end(connection, chunk, at)
    context.stats.publishes++
    const acknowledgement = qos === 0 ? 0 : qos === 1 ? pubackByte : pubrecByte
    const ack = this.entry(connection, acknowledgement, packetId, next - at)
    const payload = chunk.subarray(payloadAt, next)
    if (entry.kind === TopicKind.refused) {
      this.refuse(connection, entry, payload)
      this.#acknowledged(connection, ack)
      return Intake.taken
    }
    const stored = qos === 2 && !connection.clean
    if (entry.kind === TopicKind.message && !stored) return this.#message(connection, entry, ack, writtenOut(connection, entry, chunk, at, next, payloadAt))
    if (entry.kind === TopicKind.question && !stored) {
      this.#acknowledged(connection, ack)
      askTwin(context, connection, entry)
      return Intake.taken
    }
    const lane = connection.lane ??= new Lane()
    this.pushAck(connection, ack)
    if (stored) {
      lane.push(new StoredExchangeJob(context, connection, ack, entry, Buffer.from(chunk.subarray(at, next)), payloadAt - at, packetId))
    } else {
      const packet = { cmd: 'publish' as const, topic: entry.brokerTopic, payload: Buffer.from(payload), qos, retain: (first & 1) === 1, dup: false }
      lane.push(new PublishJob(context, connection, ack, packet))
    }
    return Intake.taken
  }

  /** Journaled for the applier; after the commit it goes to the broker's subscribers, where there may be any, and is acknowledged. */
  #message (connection: MqttConnection, entry: TopicEntry, ack: AckEntry, body: Buffer): number {
    if (isWatchStale(this.#context, entry)) refreshWatch(this.#context, entry, connection.tenant)
    const isRetained = (body[0] & 1) === 1
    if (entry.watched || isRetained) ack.body = body
    // What is not known yet may be by the time of the commit.
    if (!isRetained) ack.topic = entry
    const flags = entry.device === connection.principal?.device ? 0 : RecordFlags.gateway
    if (!this.journal(connection, ack, flags, body, RecordKind.deviceMessages)) return Intake.stopped
    connection.acks?.push(ack, true)
    return Intake.taken
  }

  /** An entry that owes one acknowledgement (`first` 0: none). Ends must have been called: a run's slab is contiguous. */
  entry (connection: MqttConnection, first: number, packetId: number, bytes: number): AckEntry {
    const { ackSlab, ackEntries } = this.#context
    connection.acks ??= new AckQueue(ackEntries)
    const entry = ackEntries.take()
    entry.slab = ackSlab.slab
    entry.start = ackSlab.at
    if (first !== 0) ackSlab.write(first, packetId >>> 8, packetId & 255)
    entry.end = ackSlab.at
    entry.messages = 1
    entry.bytes = bytes
    entry.arrivedMs = this.#arrivedMs
    return entry
  }

  pushAck (connection: MqttConnection, entry: AckEntry): void {
    (connection.acks as AckQueue).push(entry, false)
  }

  #acknowledged (connection: MqttConnection, entry: AckEntry): void {
    entry.done = true
    this.pushAck(connection, entry)
    this.#context.flush(connection, true)
  }

  #fault (connection: MqttConnection, chunk: Buffer, at: number, next: number, reason: string): number {
    this.end(connection, chunk, at)
    connection.fault(reason, chunk.subarray(at, next))
    return Intake.stopped
  }

  /** Ends the run before `upto` and appends it to the journal. */
  end (connection: MqttConnection, chunk: Buffer, upto: number): void {
    if (this.#start === -1) return
    const context = this.#context
    const { stats, ackSlab } = context
    const body = chunk.subarray(this.#start, upto)
    const entry = context.ackEntries.take()
    entry.slab = ackSlab.slab
    entry.start = this.#ackStart
    entry.end = ackSlab.at
    entry.messages = this.#messages
    entry.bytes = body.length
    entry.arrivedMs = this.#arrivedMs
    entry.body = this.#throughBroker ? body : null
    const flags = this.#flags
    this.#start = -1
    this.#messages = 0
    this.#flags = 0
    this.#throughBroker = false
    if (!this.journal(connection, entry, flags, body)) return
    (connection.acks ??= new AckQueue(context.ackEntries)).push(entry, true)
    stats.publishes += entry.messages
  }

  /**
   * Appends publishes to the journal on behalf of an entry. False when the journal cannot take them: the connection
   * is closed then and nothing of it is acknowledged (INVARIANTS 1).
   */
  journal (connection: MqttConnection, entry: AckEntry, flags: number, body: Buffer, kind: RecordKind = RecordKind.mqttPublishes): boolean {
    const { journal, stats } = this.#context
    const principal = connection.principal as Principal
    connection.identity ??= encodeIdentity({ tenant: connection.tenant, device: principal.device ?? '', idempotencyKey: '', fingerprint: '' })
    const messages = entry.messages
    connection.journaled = true
    entry.token = connection.nextToken++
    try {
      journal.append({ kind, flags, identity: connection.identity, body, messages }, connection, entry.token)
    } catch (error) {
      connection.journalFailed(error as Error)
      return false
    }
    stats.journalRecords++
    if (kind !== RecordKind.mqttPublishes) {
      stats.deviceMessages += messages
      return true
    }
    stats.telemetryMessages += messages
    stats.telemetryBytes += body.length
    return true
  }

  /** Counts a publish that was acknowledged and dropped, and hands it to the dead letters (INVARIANTS 9). */
  refuse (connection: MqttConnection, entry: TopicEntry, payload: Uint8Array): void {
    const { stats, log, onRefused } = this.#context
    const { tenant } = connection
    countReason(stats.refused, entry.reason)
    log.debug({ tenant, device: entry.device, reason: entry.reason, detail: entry.detail }, 'an MQTT publish was refused')
    onRefused?.({ tenant, device: entry.device, topic: Buffer.from(entry.bytes).toString(), payload, reason: entry.reason, detail: entry.detail })
  }
}
