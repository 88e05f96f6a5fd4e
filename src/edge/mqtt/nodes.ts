/**
 * This node's broker as one of several (store/broker/messaging.ts): who connects is claimed first, what is subscribed to is announced
 * before SUBACK, publishes above QoS 0 are queued and sent to the other nodes in one step, and what comes from them is handed to
 * the connections here. While the other nodes cannot be reached: clean sessions work on this node; a kept session is
 * refused (CONNACK 3, SUBACK 0x80), a publish above QoS 0 or a retained one is not acknowledged and its connection closed, except
 * telemetry, which the journal has: it is acknowledged, and reaches the subscribers on this node only.
 */
import type { Log } from '../../core/log.js'
import type { BrokerMessaging, ConnectedClient } from '../../store/broker/messaging.js'
import { isMessagePath, parseDeviceTopic } from '../../gate/access.js'
import type { Broker, BrokerClient, BrokerPacket } from './broker.js'
import { ConnectionState } from './client-side.js'
import type { Emissions } from './delivery.js'
import { isStoreUnavailable, PacedPersistence, type BrokerPersistence, type MatchedSubscription, type Receiver, type SessionRef } from './paced-persistence.js'
import type { SubscriptionWatch } from './telemetry-watch.js'
import { ReturnCode } from './wire.js'

const nobody: readonly MatchedSubscription[] = []

/** In broker form, `tenant/devices/{id}/…`: telemetry, or a message for the applier. */
function isJournaled (topic: string): boolean {
  const parsed = parseDeviceTopic(topic.slice(topic.indexOf('/') + 1))
  return parsed !== null && parsed.device !== null && (parsed.rest === 'telemetry' || isMessagePath(parsed.rest))
}

/** What Aedes gets: a publish is matched where it is queued, so nothing is asked before. */
export class QueueingPersistence extends PacedPersistence {
  readonly #stored: BrokerPersistence
  readonly #log: Log
  readonly #stats: { telemetryLocalOnly: number }
  /** Between the first message that reached this node only and the next that reached all. */
  #localOnly = false

  constructor (stored: BrokerPersistence, receiverOf: (client: SessionRef) => Receiver | null, log: Log, stats: { telemetryLocalOnly: number }) {
    super(stored, receiverOf)
    this.#stored = stored
    this.#log = log
    this.#stats = stats
  }

  override subscriptionsByTopic (): Promise<readonly MatchedSubscription[]> { return Promise.resolve(nobody) }

  override outgoingEnqueueCombi (_subscriptions: readonly unknown[], packet: BrokerPacket): Promise<void> {
    return this.#orJournalOnly(packet, this.#stored.outgoingEnqueueMatching?.(packet) ?? Promise.resolve())
  }

  override storeRetained (packet: BrokerPacket): Promise<void> {
    return this.#orJournalOnly(packet, this.#stored.storeRetained(packet))
  }

  /** Telemetry is acknowledged for being in the journal; what else would have become of it is given up while the store is away. */
  #orJournalOnly (packet: BrokerPacket, stored: Promise<void>): Promise<void> {
    return stored.then(() => { this.#localOnly = false }, (error: unknown) => {
      if (!isStoreUnavailable(error) || !isJournaled(packet.topic)) throw error
      // INVARIANTS 9: counted, and said once an outage.
      this.#stats.telemetryLocalOnly++
      if (!this.#localOnly) this.#log.warn({ error: (error as Error).message }, 'telemetry reaches the journal and the subscribers of this node only, until Redis is back')
      this.#localOnly = true
    })
  }
}

type Authenticate = (client: unknown, userName: unknown, password: unknown, done: (error: (Error & { returnCode: number }) | null, accepted: boolean) => void) => void

/** For Aedes' `authenticate`: the stage has authenticated the client already. */
export function claimClient (messaging: BrokerMessaging): Authenticate {
  return (client, _userName, _password, done) => {
    messaging.claim(client as ConnectedClient).then(
      () => { done(null, true) },
      () => { done(Object.assign(new Error('sessions cannot be reached'), { returnCode: ReturnCode.serverUnavailable }), false) }
    )
  }
}

type AuthorizeSubscribe = (client: unknown, subscription: object, done: (error: Error | null, subscription: null) => void) => void

/** For Aedes' `authorizeSubscribe`: a filter that could not be kept is refused. */
export function authorizeStoredSubscription (messaging: BrokerMessaging): AuthorizeSubscribe {
  return (client, subscription, done) => {
    const { clean, connackSent } = client as BrokerClient
    // What a returning session restores is stored already.
    done(null, (clean || !connackSent || messaging.up ? subscription : null) as null)
  }
}

export interface JoinOptions {
  readonly broker: Broker
  readonly messaging: BrokerMessaging
  readonly emissions: Emissions
  readonly persistence: PacedPersistence
  readonly watch: SubscriptionWatch
  /** Hands a packet to the listeners of this node. */
  readonly emit: (packet: BrokerPacket, done: () => void) => void
  readonly will: (packet: BrokerPacket, done: (error?: Error | null) => void) => void
}

const noop = (): void => {}
const dollar = 0x24
/** Aedes' own topics begin with `$SYS`; every tenant's with the tenant. */
const isOwn = (topic: string): boolean => topic.charCodeAt(0) === dollar

/** Puts the messaging between Aedes and its listeners, and joins the other nodes. */
export async function joinNodes ({ broker, messaging, emissions, persistence, watch, emit, will }: JoinOptions): Promise<void> {
  const { mq } = broker
  const subscribe = mq.on.bind(mq)
  const unsubscribe = mq.removeListener.bind(mq)
  mq.emit = (packet, done) => {
    emissions.run(() => { emit(packet, done) }, packet.queueNumber)
    if (packet.qos === 0 && !isOwn(packet.topic)) messaging.forward(packet)
    return mq
  }
  mq.on = (topic, listener, done = noop) => {
    if (isOwn(topic)) return subscribe(topic, listener, done)
    subscribe(topic, listener)
    void messaging.subscribed(topic).then(done)
    return mq
  }
  mq.removeListener = (topic, listener, done) => {
    if (!isOwn(topic)) messaging.unsubscribed(topic)
    return unsubscribe(topic, listener, done)
  }
  await messaging.open({
    deliver: (packet, number) => { emissions.run(() => { emit(packet as BrokerPacket, noop) }, number) },
    closeClient: (client, done) => { closeClient(client as unknown as BrokerClient, done) },
    publishWill: async packet => { await publishWill(broker, packet as BrokerPacket, will) },
    catchUp: async client => { await catchUp(persistence, client as unknown as BrokerClient) },
    wanted: filter => { watch.added(filter) },
    unwanted: filter => { watch.removed(filter) }
  })
}

/** Another connection of the client has come, on another node ([MQTT-3.1.4-2]). */
function closeClient (client: BrokerClient, done: () => void): void {
  const { conn } = client
  if (conn.state === ConnectionState.open) {
    client.close(done)
    return
  }
  conn.close('taken_over')
  setImmediate(done)
}

async function publishWill (broker: Broker, packet: BrokerPacket, will: JoinOptions['will']): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const done = (error?: Error | null): void => { if (error === undefined || error === null) resolve(); else reject(error) }
    will(packet, error => {
      if (error === undefined || error === null) broker.publish(packet, null, done)
      else reject(error)
    })
  })
}

/** Sends what waits in a connected session's queue, as its CONNECT would. */
async function catchUp (persistence: PacedPersistence, client: BrokerClient): Promise<void> {
  if (client.conn.state !== ConnectionState.open || client.closed) return
  for await (const item of persistence.outgoingStream(client)) {
    const packet = item as BrokerPacket | { readonly cmd: 'pubrel', readonly messageId: number }
    if (client.closed) return
    if (packet.cmd === 'publish') await new Promise<void>(resolve => { client.deliverQoS(packet, resolve) })
    else client.conn.write(Buffer.from([0x62, 2, packet.messageId >> 8, packet.messageId & 255]))
  }
}
