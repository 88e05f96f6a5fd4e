/**
 * Aedes behind the stage. It keeps sessions, subscriptions, retained messages, wills and queues; who may do what was
 * decided before it sees a packet. Its own limits stand behind ours. Two of its answers are corrected here: a message
 * is never delivered at a higher QoS than granted ([MQTT-3.8.4-6]; Aedes looks at exact filters only), and never to a
 * connection of another tenant, whatever the matching said (INVARIANTS 7).
 */
import type { Duplex } from 'node:stream'
import { Aedes } from 'aedes'
import * as memoryPersistence from 'aedes-persistence'
import { topicLevelsMax } from '../../core/limits.js'
import type { Log } from '../../core/log.js'
import type { MqttConnection } from './mqtt-connection.js'
import { PacedPersistence, type BrokerPersistence } from './paced-persistence.js'
import type { TelemetryWatch } from './telemetry-watch.js'
import { filterMatches } from './topic-grammar.js'

/** Messages that the broker hands out at the same time. */
const deliveriesMax = 1000

export interface BrokerPacket {
  cmd: 'publish'
  topic: string
  payload: Buffer
  qos: number
  retain: boolean
  dup: boolean
}

/** The parts of Aedes' client that the stage uses. */
export interface BrokerClient {
  readonly id: string
  readonly clean: boolean
  readonly conn: MqttConnection
  readonly subscriptions: Record<string, { readonly qos: number }>
  close(done?: () => void): void
}

/** The parts of Aedes that the stage uses, `publish` in the form that names the sender. */
export interface Broker {
  handle(connection: Duplex): BrokerClient
  publish(packet: BrokerPacket, client: BrokerClient | null, done: (error?: Error | null) => void): void
  close(done: () => void): void
  on(event: string, listener: (...parameters: never[]) => void): void
  readonly mq: {
    on(topic: string, listener: unknown, done?: () => void): unknown
    removeListener(topic: string, listener: unknown, done?: () => void): unknown
  }
}

export interface OpenBroker {
  readonly broker: Broker
  readonly persistence: BrokerPersistence
}

export interface BrokerOptions {
  readonly persistence: unknown
  readonly watch: TelemetryWatch
  readonly log: Log
  /** Called for a will that fires; calls back when it may be published, with an error when it may not. */
  readonly will: (packet: BrokerPacket, done: (error?: Error | null) => void) => void
}

/** The lowest QoS among a session's subscriptions, and whether a packet must be brought down to it. */
function limitQos (client: BrokerClient, packet: BrokerPacket): void {
  const connection = client.conn
  if (connection.grantedLowest === -1) {
    let lowest = 2
    for (const filter in client.subscriptions) lowest = Math.min(lowest, client.subscriptions[filter].qos)
    connection.grantedLowest = lowest
  }
  if (packet.qos <= connection.grantedLowest) return
  let granted = -1
  for (const filter in client.subscriptions) {
    const { qos } = client.subscriptions[filter]
    if (qos > granted && filterMatches(filter, packet.topic)) granted = qos
  }
  // A queued message stays at QoS 1 at least: the broker waits for its acknowledgement.
  const lowest = packet.retain ? 0 : 1
  if (granted >= 0 && granted < packet.qos) packet.qos = Math.max(granted, lowest)
}

export async function openBroker (options: BrokerOptions): Promise<OpenBroker> {
  const { watch, log } = options
  // The package is CommonJS with types of a module: its default export is the function itself.
  const memory = memoryPersistence.default as unknown as () => unknown
  const stored = (options.persistence ?? memory()) as BrokerPersistence
  const persistence = new PacedPersistence(stored, client => (client.conn as MqttConnection | undefined) ?? null)
  const aedes = new Aedes({
    persistence,
    concurrency: deliveriesMax,
    maxClientsIdLength: 1024,
    maxTopicLevels: topicLevelsMax + 1,
    // The stage hands over a session's packets one after the other; this is the broker's bound behind it.
    queueLimit: 1024,
    // Only wills come this way: the stage publishes everything else itself.
    authorizePublish: (_client, packet, done) => { options.will(packet as unknown as BrokerPacket, done) },
    authorizeForward: (client, packet) => {
      const receiver = client as unknown as BrokerClient
      if (!packet.topic.startsWith(receiver.conn.brokerPrefix)) return null
      if (packet.qos > 0) limitQos(receiver, packet as unknown as BrokerPacket)
      return packet
    }
  })
  const broker = aedes as unknown as Broker
  const { mq } = broker
  const subscribe = mq.on.bind(mq)
  const unsubscribe = mq.removeListener.bind(mq)
  mq.on = (topic, listener, done) => {
    watch.added(topic)
    return subscribe(topic, listener, done)
  }
  mq.removeListener = (topic, listener, done) => {
    watch.removed(topic)
    return unsubscribe(topic, listener, done)
  }
  broker.on('subscribe', (_subscriptions: never, client: BrokerClient) => { persistence.subscriber = client.conn })
  broker.on('connackSent', (_packet: never, client: BrokerClient) => { client.conn.brokerAccepted() })
  broker.on('clientError', (client: BrokerClient, error: Error) => {
    log.debug({ client: client.id, error: error.message }, 'the broker closed an MQTT connection')
  })
  broker.on('connectionError', (_client: never, error: Error) => {
    log.debug({ error: error.message }, 'the broker closed an MQTT connection')
  })
  broker.on('error', (error: Error) => { log.error({ error: error.message }, 'the broker failed') })
  await aedes.listen()
  return { broker, persistence }
}
