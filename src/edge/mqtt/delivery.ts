/**
 * From the broker's matching to a connection. Aedes calls a session once per matching subscription and weeds out
 * repeats by a counter that it expects to grow; but a publish that waits for a store (QoS 1, retained) is overtaken by
 * others, and was then dropped as a repeat. Here a repeat is a second call for the same emission, which is exact,
 * because all calls of one emission are made in one synchronous go.
 *
 * Also exact: a session gets a message once, at the greatest QoS of its matching subscriptions ([MQTT-3.3.5-1]) and
 * never above what was granted ([MQTT-3.8.4-6]); nothing before its CONNACK (stored messages are replayed after it);
 * nothing of another tenant, whatever the matching said (INVARIANTS 7). QoS 0 is encoded once for all receivers. On several nodes a
 * message carries its number in the sessions' queues: while a session's queue is replayed, the replay alone delivers them.
 */
import type { BrokerClient, BrokerPacket, Deliver } from './broker.js'
import { ConnectionState } from './client-side.js'
import type { MqttConnection } from './mqtt-connection.js'
import { limitBrokerIds } from './downstream.js'
import { filterMatches } from './topic-grammar.js'
import { encodePublish } from './wire.js'

/** The greatest QoS among the session's subscriptions that match; -1 where none does. */
export function grantedQos (client: BrokerClient, topic: string): number {
  let granted = -1
  for (const filter in client.subscriptions) {
    const { qos } = client.subscriptions[filter]
    if (qos > granted && filterMatches(filter, topic)) granted = qos
  }
  return granted
}

/** Brings a stored message that is replayed down to what is granted now; at least 1, as its acknowledgement clears it. */
export function limitReplay (client: BrokerClient, packet: BrokerPacket): void {
  if (packet.qos < 2) return
  if (grantedQos(client, packet.topic) === 1) packet.qos = 1
}

export class Emissions {
  #count = 0
  /** Number of the emission that is being handed out; 0: none. */
  #current = 0
  /** Its place in the sessions' queues; 0: none. */
  #number = 0
  #encodedFor = 0
  #encoded: Buffer | null = null
  /** Stands in for every session's table of repeats: says that nothing is one. */
  readonly noRepeats: object = new Proxy({}, { get: () => 0, set: () => true, deleteProperty: () => true })

  /** Runs one emission. @param number of the message in the sessions' queues, 0 where it has none. */
  run (emit: () => void, number = 0): void {
    const outer = this.#current
    const outerNumber = this.#number
    this.#current = ++this.#count
    this.#number = number
    try {
      emit()
    } finally {
      this.#current = outer
      this.#number = outerNumber
      this.#encoded = null
    }
  }

  /** Puts the stage's delivery in place of the broker's, right after the broker made the session's client. */
  adopt (connection: MqttConnection, client: BrokerClient): void {
    const { deliverQoS } = client
    client.duplicates = this.noRepeats
    limitBrokerIds(client)
    client.deliver0 = (packet, done) => {
      this.#deliver(connection, client, packet, 0, deliverQoS, done)
    }
    client.deliverQoS = (packet, done) => {
      this.#deliver(connection, client, packet, 1, deliverQoS, done)
    }
  }

  /** @param subscribed 0: called for a subscription of QoS 0; 1: for one of QoS 1 or 2, or for a retained message. */
  #deliver (connection: MqttConnection, client: BrokerClient, packet: BrokerPacket, subscribed: 0 | 1, deliverQoS: Deliver, done: () => void): void {
    if (!packet.topic.startsWith(connection.brokerPrefix) || connection.destroyed || connection.state !== ConnectionState.open) return done()
    const emission = this.#current
    if (emission !== 0 && connection.emission === emission) return done()
    if (packet.qos > 0) {
      const granted = this.#granted(connection, client, packet, subscribed)
      // The call for the better subscription is still to come.
      if (subscribed === 0 && granted > 0) return done()
      packet.qos = Math.min(packet.qos, granted)
    }
    connection.emission = emission
    if (packet.qos > 0) {
      if (this.#number === 0 || this.#number > connection.replayedUpTo) return deliverQoS(packet, done)
      if (this.#number > connection.skippedUpTo) connection.skippedUpTo = this.#number
      return done()
    }
    connection.deliverPlain(this.#encode(connection, packet, emission))
    done()
  }

  /** The QoS that the session gets the packet at; looks at single filters only where its subscriptions differ. */
  #granted (connection: MqttConnection, client: BrokerClient, packet: BrokerPacket, subscribed: 0 | 1): number {
    if (connection.lowestQos === -1) {
      let lowest = 2
      let highest = 0
      for (const filter in client.subscriptions) {
        const { qos } = client.subscriptions[filter]
        if (qos < lowest) lowest = qos
        if (qos > highest) highest = qos
      }
      connection.lowestQos = lowest
      connection.highestQos = highest
    }
    if (subscribed === 1 && packet.qos <= connection.lowestQos) return packet.qos
    if (subscribed === 0 && connection.highestQos === 0) return 0
    const granted = grantedQos(client, packet.topic)
    // A subscription that just went away is in nobody's list any more, but its message is on its way.
    return granted === -1 ? subscribed * packet.qos : granted
  }

  #encode (connection: MqttConnection, packet: BrokerPacket, emission: number): Buffer {
    if (emission !== 0 && this.#encodedFor === emission && this.#encoded !== null) return this.#encoded
    const encoded = encodePublish(packet.topic.slice(connection.brokerPrefix.length), packet.payload, 0, 0, packet.retain)
    this.#encodedFor = emission
    this.#encoded = emission === 0 ? null : encoded
    return encoded
  }
}
