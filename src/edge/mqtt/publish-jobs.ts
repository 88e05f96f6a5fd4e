/**
 * What goes through the broker. An acknowledgement leaves only after the broker has stored what it must store
 * (retained message, queues of sessions that are offline): the broker's own order is the other way round.
 */
import type { AckEntry } from './ack-queue.js'
import type { BrokerPacket } from './broker.js'
import type { Lane, LaneJob } from './lane.js'
import type { MqttConnection } from './mqtt-connection.js'
import type { MqttContext } from './mqtt-context.js'
import { RecordFlags, RecordKind } from '../../journal/record.js'
import { isStoreUnavailable } from './paced-persistence.js'
import { refreshWatch, writtenOut } from './publish-intake.js'
import { TopicKind, type TopicEntry } from './topic-directory.js'
import { askTwin } from './twin-get.js'
import { headerBytes, packetBytes } from './wire.js'

abstract class Job implements LaneJob {
  abstract readonly exclusive: boolean
  protected readonly context: MqttContext
  protected readonly connection: MqttConnection
  protected readonly ack: AckEntry

  constructor (context: MqttContext, connection: MqttConnection, ack: AckEntry) {
    this.context = context
    this.connection = connection
    this.ack = ack
  }

  abstract start (): void

  /** Ends the job: acknowledged, or, where it failed, the connection closed un-acked. */
  protected finish (error?: unknown): void {
    const { connection, context } = this
    if (error !== undefined && error !== null) {
      context.log.warn({ tenant: connection.tenant, error: String(error) }, 'the broker did not take a publish')
      connection.close('broker_failed')
    } else {
      this.ack.done = true
      context.flush(connection, true)
    }
    (connection.lane as Lane).finished(this)
  }
}

/** One publish of QoS 0 or 1, or of QoS 2 in a clean session. A retained one may take longer, so it runs alone. */
export class PublishJob extends Job {
  readonly exclusive: boolean
  readonly #packet: BrokerPacket

  constructor (context: MqttContext, connection: MqttConnection, ack: AckEntry, packet: BrokerPacket) {
    super(context, connection, ack)
    this.#packet = packet
    this.exclusive = packet.retain
  }

  start (): void {
    this.context.broker.publish(this.#packet, this.connection.client, error => { this.finish(error) })
  }
}

/** The broker's form of the PUBLISH at `at` of a journaled body whose topics are all ones that the sender may publish to. */
function journaledPacket (connection: MqttConnection, body: Buffer, at: number, total: number): BrokerPacket {
  const qos = (body[at] >> 1) & 3
  const topicAt = at + headerBytes(body, at) + 2
  const topicEnd = topicAt + body.readUInt16BE(topicAt - 2)
  const topic = body.toString('utf8', topicAt, topicEnd)
  return {
    cmd: 'publish',
    // Of the short forms only this one is journaled as it was sent.
    topic: connection.brokerPrefix + (topic === 'telemetry' ? `devices/${connection.principal?.device ?? ''}/telemetry` : topic),
    payload: Buffer.from(body.subarray(qos === 0 ? topicEnd : topicEnd + 2, at + total)),
    qos,
    retain: (body[at] & 1) === 1,
    dup: false
  }
}

/** A committed run that somebody listens to, or that holds a retained message. */
export class RunJob extends Job {
  exclusive = false
  readonly #packets: BrokerPacket[] = []
  #left = 0

  constructor (context: MqttContext, connection: MqttConnection, ack: AckEntry, body: Buffer) {
    super(context, connection, ack)
    for (let at = 0; at < body.length;) {
      const total = packetBytes(body, at, body.length)
      const packet = journaledPacket(connection, body, at, total)
      if (packet.retain) this.exclusive = true
      this.#packets.push(packet)
      at += total
    }
  }

  start (): void {
    this.#left = this.#packets.length
    if (this.exclusive) this.#next()
    else for (const packet of this.#packets) this.#publish(packet)
  }

  #publish (packet: BrokerPacket): void {
    this.context.broker.publish(packet, this.connection.client, error => {
      if (this.#left === 0) return
      this.#left = error !== undefined && error !== null ? 0 : this.#left - 1
      if (this.#left === 0) this.finish(error)
      else if (this.exclusive) this.#next()
    })
  }

  #next (): void { this.#publish(this.#packets[this.#packets.length - this.#left]) }
}

/**
 * A QoS 2 publish of a persistent session: its effect first, then its packet id on stable storage, then PUBREC. A
 * crash between the first two repeats the publish when the client sends it again; the other order would lose it.
 */
export class StoredExchangeJob extends Job {
  readonly exclusive = true
  readonly #entry: TopicEntry
  readonly #publish: Buffer
  readonly #payloadAt: number
  readonly #packetId: number

  constructor (context: MqttContext, connection: MqttConnection, ack: AckEntry, entry: TopicEntry, publish: Buffer, payloadAt: number, packetId: number) {
    super(context, connection, ack)
    this.#entry = entry
    this.#publish = publish
    this.#payloadAt = payloadAt
    this.#packetId = packetId
  }

  start (): void {
    this.#run().then(() => { this.finish() }, error => { this.finish(error) })
  }

  async #run (): Promise<void> {
    const { context, connection } = this
    const session = { id: connection.sessionId }
    const reference = { cmd: 'publish', messageId: this.#packetId, topic: this.#entry.brokerTopic, payload: Buffer.alloc(0), qos: 2, retain: false, dup: false }
    // The persistence rejects where it knows no such id; where it cannot tell, taking the publish for a new one could double it.
    const known = await context.persistence.incomingGetPacket(session, reference).then(() => true, (error: unknown) => {
      if (isStoreUnavailable(error)) throw error
      return false
    })
    if (known) return
    let throughBroker = true
    if (this.#entry.kind === TopicKind.telemetry) {
      await this.#journaled(RecordKind.mqttPublishes, this.#publish)
      throughBroker = this.#watched() || (this.#publish[0] & 1) === 1
    } else if (this.#entry.kind === TopicKind.message) {
      await this.#journaled(RecordKind.deviceMessages, writtenOut(connection, this.#entry, this.#publish, 0, this.#publish.length, this.#payloadAt))
    } else if (this.#entry.kind === TopicKind.question) {
      askTwin(context, connection, this.#entry)
      throughBroker = false
    }
    if (throughBroker) await this.#publishToBroker()
    await context.persistence.incomingStorePacket(session, reference)
  }

  /** Resolves when the publish is durable in the journal. */
  #journaled (kind: RecordKind, body: Buffer): Promise<void> {
    const { context, connection, ack } = this
    return new Promise((resolve, reject) => {
      ack.onCommit = error => { if (error === null) resolve(); else reject(error) }
      const flags = this.#entry.device === connection.principal?.device ? 0 : RecordFlags.gateway
      if (context.intake.journal(connection, ack, flags, body, kind)) connection.acks?.pushJournaled(ack)
      else reject(new Error('the journal did not take the publish'))
    })
  }

  #watched (): boolean {
    const { context } = this
    const entry = this.#entry
    if (entry.epoch !== context.watch.epoch(entry.tenantSlot, entry.deviceSlot)) refreshWatch(context, entry, this.connection.tenant)
    return entry.watched
  }

  #publishToBroker (): Promise<void> {
    const packet: BrokerPacket = {
      cmd: 'publish',
      topic: this.#entry.brokerTopic,
      payload: this.#publish.subarray(this.#payloadAt),
      qos: 2,
      retain: (this.#publish[0] & 1) === 1,
      dup: false
    }
    return new Promise((resolve, reject) => {
      this.context.broker.publish(packet, this.connection.client, error => {
        if (error !== undefined && error !== null) reject(error)
        else resolve()
      })
    })
  }
}

/** A PUBREL of a persistent session: the stored packet id is released, then PUBCOMP. */
export class ReleaseJob extends Job {
  readonly exclusive = true
  readonly #packetId: number

  constructor (context: MqttContext, connection: MqttConnection, ack: AckEntry, packetId: number) {
    super(context, connection, ack)
    this.#packetId = packetId
  }

  start (): void {
    const { context, connection } = this
    const reference = { cmd: 'pubrel', messageId: this.#packetId }
    // The persistence rejects where it knows no such id; PUBCOMP is owed all the same ([MQTT-4.3.3-2]). An id that stays stored
    // would make the next publish under it a repeat, so where it cannot be released the client is to ask again.
    context.persistence.incomingDelPacket({ id: connection.sessionId }, reference).then(() => { this.finish() }, (error: unknown) => { this.finish(isStoreUnavailable(error) ? error : undefined) })
  }
}

/** Something that the broker does with its own parser and answers itself: SUBSCRIBE, UNSUBSCRIBE, DISCONNECT. */
export class HandOverJob extends Job {
  readonly exclusive = true
  readonly #packet: Buffer
  readonly #awaitsAnswer: boolean
  /** SUBACK codes in the order asked: an index into the broker's answer, -1 for a refusal, or `grantedHere`; null for UNSUBSCRIBE. */
  readonly codes: readonly number[] | null
  /** The client did not ask for it and hears nothing of it. */
  readonly silent: boolean
  #finished = false

  constructor (context: MqttContext, connection: MqttConnection, ack: AckEntry, packet: Buffer, awaitsAnswer: boolean, codes: readonly number[] | null, silent = false) {
    super(context, connection, ack)
    this.#packet = packet
    this.#awaitsAnswer = awaitsAnswer
    this.codes = codes
    this.silent = silent
  }

  start (): void {
    const { connection } = this
    if (connection.destroyed || !this.#awaitsAnswer) {
      if (!connection.destroyed) connection.feed(this.#packet)
      this.answered()
      return
    }
    connection.awaiting = this
    connection.feed(this.#packet)
  }

  /** The broker has answered, or never will because the connection has ended. */
  answered (): void {
    if (this.#finished) return
    this.#finished = true
    if (this.connection.awaiting === this) this.connection.awaiting = null
    this.finish()
  }
}
