/**
 * Aedes behind the stage. It keeps sessions, subscriptions, retained messages, wills and queues; who may do what was
 * decided before it sees a packet. Its own limits stand behind ours. How its matches become
 * deliveries is in delivery.ts.
 */
import type { Duplex } from 'node:stream'
import { Aedes } from 'aedes'
import * as memoryPersistence from 'aedes-persistence'
import { topicLevelsMax } from '../../core/limits.js'
import type { Log } from '../../core/log.js'
import type { BrokerMessaging } from '../../store/broker/messaging.js'
import { Emissions, limitReplay } from './delivery.js'
import type { MqttConnection } from './mqtt-connection.js'
import { authorizeStoredSubscription, claimClient, joinNodes, QueueingPersistence } from './nodes.js'
import { PacedPersistence, type BrokerPersistence, type SessionRef } from './paced-persistence.js'
import type { SubscriptionWatch } from './telemetry-watch.js'

export interface BrokerPacket {
  cmd: 'publish'
  topic: string
  payload: Buffer
  qos: number
  retain: boolean
  dup: boolean
}

export type Deliver = (packet: BrokerPacket, done: () => void) => void

/** The parts of Aedes' client that the stage uses. */
export interface BrokerClient {
  readonly id: string
  readonly clean: boolean
  readonly conn: MqttConnection
  /** Has been answered with CONNACK. */
  readonly connackSent: boolean
  readonly closed: boolean
  readonly will: BrokerPacket | null
  readonly subscriptions: Record<string, { readonly qos: number }>
  duplicates: object
  deliver0: Deliver
  deliverQoS: Deliver
  close(done?: () => void): void
}

/** The parts of Aedes that the stage uses, `publish` in the form that names the sender. */
export interface Broker {
  handle(connection: Duplex): BrokerClient
  publish(packet: BrokerPacket, client: BrokerClient | null, done: (error?: Error | null) => void): void
  close(done: () => void): void
  on(event: string, listener: (...parameters: never[]) => void): void
  readonly clients: Readonly<Record<string, BrokerClient>>
  readonly mq: {
    on(topic: string, listener: unknown, done?: () => void): unknown
    emit(packet: BrokerPacket & { readonly queueNumber?: number }, done: () => void): unknown
    removeListener(topic: string, listener: unknown, done?: () => void): unknown
  }
}

export interface OpenBroker {
  readonly emissions: Emissions
  readonly broker: Broker
  readonly persistence: BrokerPersistence
}

export interface BrokerOptions {
  readonly persistence: unknown
  /** Joins this broker with those of other nodes. */
  readonly messaging?: BrokerMessaging
  /** Told of the filters of this node's connections, and of what other nodes want. */
  readonly watch: SubscriptionWatch
  readonly log: Log
  /** Called for a will that fires; calls back when it may be published, with an error when it may not. */
  readonly will: (packet: BrokerPacket, done: (error?: Error | null) => void) => void
  /** Of the edge. */
  readonly stats: { telemetryLocalOnly: number }
  /** Counts a CONNECT that was refused. */
  readonly refused: (reason: string) => void
}

export async function openBroker (options: BrokerOptions): Promise<OpenBroker> {
  const { watch, log, messaging } = options
  // The package is CommonJS with types of a module: its default export is the function itself.
  const memory = memoryPersistence.default as unknown as () => unknown
  const stored = (options.persistence ?? memory()) as BrokerPersistence
  const receiverOf = (client: SessionRef): MqttConnection | null => (client.conn as MqttConnection | undefined) ?? null
  const persistence = new PacedPersistence(stored, receiverOf)
  const queueing = messaging === undefined ? persistence : new QueueingPersistence(stored, receiverOf, log, options.stats)
  const aedes = new Aedes({
    persistence: queueing,
    ...(messaging === undefined ? {} : { id: messaging.nodeId, authenticate: claimClient(messaging), authorizeSubscribe: authorizeStoredSubscription(messaging) }),
    // Messages are bounded where they come in; a bound here would make one session's delivery wait for another's.
    concurrency: 0,
    maxClientsIdLength: 1024,
    maxTopicLevels: topicLevelsMax + 1,
    // The stage hands over a session's packets one after the other; this is the broker's bound behind it.
    queueLimit: 1024,
    // Only wills come this way: the stage publishes everything else itself.
    authorizePublish: (_client, packet, done) => { options.will(packet as unknown as BrokerPacket, done) },
    authorizeForward: (client, packet) => {
      limitReplay(client as unknown as BrokerClient, packet as unknown as BrokerPacket)
      return packet
    }
  })
  const broker = aedes as unknown as Broker
  const { mq } = broker
  const subscribe = mq.on.bind(mq)
  const unsubscribe = mq.removeListener.bind(mq)
  const emissions = new Emissions()
  const emit = mq.emit.bind(mq)
  mq.emit = (packet, done) => {
    emissions.run(() => { emit(packet, done) })
    return mq
  }
  mq.on = (topic, listener, done) => {
    watch.added(topic)
    return subscribe(topic, listener, done)
  }
  mq.removeListener = (topic, listener, done) => {
    watch.removed(topic)
    return unsubscribe(topic, listener, done)
  }
  broker.on('subscribe', (_subscriptions: never, client: BrokerClient) => { queueing.subscriber = client.conn })
  broker.on('connackSent', (packet: { readonly returnCode: number }, client: BrokerClient) => {
    if (packet.returnCode === 0) client.conn.brokerAccepted()
    else options.refused('sessions_unavailable')
  })
  broker.on('clientError', (client: BrokerClient, error: Error) => {
    log.debug({ client: client.id, error: error.message }, 'the broker closed an MQTT connection')
  })
  broker.on('connectionError', (_client: never, error: Error) => {
    log.debug({ error: error.message }, 'the broker closed an MQTT connection')
  })
  broker.on('error', (error: Error) => { log.error({ error: error.message }, 'the broker failed') })
  await aedes.listen()
  if (messaging !== undefined) await joinNodes({ broker, messaging, emissions, persistence: queueing, watch, emit, will: options.will })
  return { broker, persistence, emissions }
}
