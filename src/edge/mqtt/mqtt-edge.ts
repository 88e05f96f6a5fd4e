/**
 * The MQTT edge: MQTT 3.1.1 and 3.1 over TCP, TLS and streams handed in (WebSocket). See mqtt-connection.ts for what
 * happens to one connection and broker.ts for what is left to Aedes.
 *
 * Promises: INVARIANTS 1 (a publish of telemetry is acknowledged after its group commit, any other after the broker
 * stored it), 7 (client ids, wills, topics and filters live under the tenant), 8 (every buffer has a bound), 9 (what
 * is dropped is counted and handed to `onRefused`), 10 (too fast is slowed, not disconnected).
 */
import { randomUUID } from 'node:crypto'
import { createServer, type AddressInfo, type Server } from 'node:net'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls'
import type { Clock } from '../../core/clock.js'
import type { DeviceBell } from '../../core/device-bell.js'
import { TwinfoldError } from '../../core/errors.js'
import type { Log } from '../../core/log.js'
import { isMessagePath, parseDeviceTopic } from '../../gate/access.js'
import type { Authenticator } from '../../gate/authenticate.js'
import type { Pressure } from '../../gate/pressure.js'
import type { Journal } from '../../journal/journal-types.js'
import type { LiveSource } from '../../live/live-hub.js'
import type { PresenceSink } from '../../presence/presence-sink.js'
import { encodeIdentity, RecordKind } from '../../journal/record.js'
import type { BrokerMessaging } from '../../store/broker/messaging.js'
import type { RegistryStore } from '../../store/registry.js'
import type { Principal } from '../../tenancy/model.js'
import type { DeviceSessions, TwinQuestions } from '../../twin/device-link.js'
import { openBroker, type BrokerPacket } from './broker.js'
import { LiveSubscriptions } from './live-subscriptions.js'
import { MqttConnection } from './mqtt-connection.js'
import { MqttContext, type RefusedMessage } from './mqtt-context.js'
import { countReason, MqttStats } from './mqtt-stats.js'
import { bothWatches, TelemetryWatch } from './telemetry-watch.js'
import { TimerWheel } from './timer-wheel.js'
import { TopicDirectory } from './topic-directory.js'
import { messageReach } from './topic-grammar.js'
import { encodePublish } from './wire.js'

export interface MqttEdgeOptions {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  /** Streams handed to `accept` by the HTTP side are taken. */
  readonly webSocket: boolean
  readonly journal: Journal
  readonly registry: RegistryStore
  readonly authenticator: Authenticator
  readonly pressure: Pressure
  /** An Aedes persistence; undefined: in memory, sessions end with the process. */
  readonly persistence: unknown
  /** Joins this broker with those of other nodes; it is opened and closed with the edge. */
  readonly messaging?: BrokerMessaging
  /** Serves `devices/{id}/live`; absent: those topics are like any others. */
  readonly live?: LiveSource
  /** Deliveries of twins and commands, told of the connections of devices. Default: none. */
  readonly sessions?: readonly DeviceSessions[]
  /** Answers `twin/get`; absent: those are rejected. */
  readonly questions?: TwinQuestions
  /** Told of connections of devices. */
  readonly presence?: PresenceSink
  /** Rings where a device was changed or deleted, so that whose child it is is asked anew. */
  readonly bell?: DeviceBell
  readonly clock: Clock
  readonly log: Log
  /** Sockets at a time; one more is closed at once. */
  readonly connectionsMax: number
  readonly tls?: { readonly key: string | Buffer, readonly cert: string | Buffer }
  readonly tlsPort?: number
  /** Told of messages that were acknowledged and dropped, and of packets that broke the protocol. Must not throw. */
  readonly onRefused?: (message: RefusedMessage) => void
  /** Resolution of keep-alive and time-outs; 1000 unless given. */
  readonly tickMs?: number
  /** Names clients without a client id; random UUIDs unless given. */
  readonly newId?: () => string
}

/** For how long an answer of the registry about another device holds. */
const deviceLeaseMs = 30_000
const deviceAnswersMax = 300_000
/** Most ticks ahead that the wheel can hold; a longer keep-alive is looked at in between. */
const wheelSlots = 512
/** A graceful close waits this long for the journal's commits, and then this long for sockets to take their last bytes. */
const closeCommitsMs = 5000
const closeSocketsMs = 1000
const closePollMs = 5
const tlsHandshakeMs = 10_000
/** TCP keep-alive finds peers that vanished without MQTT keep-alive. */
const tcpKeepAliveMs = 60_000

export class MqttEdge {
  readonly stats = new MqttStats()
  readonly #options: MqttEdgeOptions
  readonly #context: MqttContext
  readonly #wheel = new TimerWheel(wheelSlots)
  readonly #servers: (Server | TlsServer)[] = []
  #ticker: NodeJS.Timeout | null = null
  #accepting = false
  #tickedMs = 0
  #unhook: readonly ((() => void) | undefined)[] = []

  constructor (options: MqttEdgeOptions) {
    const tickMs = options.tickMs ?? 1000
    const leaseTicks = Math.ceil(deviceLeaseMs / tickMs)
    const watch = new TelemetryWatch()
    this.#options = options
    this.#context = new MqttContext({
      journal: options.journal,
      authenticator: options.authenticator,
      pressure: options.pressure,
      clock: options.clock,
      log: options.log,
      stats: this.stats,
      watch,
      messageWatch: new TelemetryWatch(messageReach),
      topics: new TopicDirectory(options.registry, watch, { leaseMs: deviceLeaseMs, leaseTicks, answersMax: deviceAnswersMax, nowMs: () => options.clock.monotonicMs() }),
      wheel: this.#wheel,
      tickMs,
      leaseTicks,
      newId: options.newId ?? randomUUID,
      onRefused: options.onRefused,
      sessions: options.sessions ?? [],
      questions: options.questions ?? null,
      presence: options.presence ?? null,
      live: options.live === undefined ? null : new LiveSubscriptions(options.live, options.registry)
    })
  }

  /** Listens. Rejects with the socket's error where the address cannot be had; nothing is left open then. */
  async open (): Promise<void> {
    const { host, port, tls, tlsPort, persistence, messaging, clock, log, tickMs } = this.#options
    this.#context.open = await openBroker({ persistence, messaging, watch: bothWatches(this.#context.watch, this.#context.messageWatch), log, stats: this.stats, will: (packet, done) => { this.#will(packet, done) }, refused: reason => { countReason(this.stats.refusedConnects, reason) } })
    this.#tickedMs = clock.monotonicMs()
    this.#ticker = setInterval(() => { this.#tick() }, tickMs ?? 1000).unref()
    this.#accepting = true
    const recheck = (tenant: string | null, device: string | null): void => {
      this.#context.topics.forget()
      void this.#context.links.recheck(tenant, device)
    }
    this.#unhook = [
      this.#options.bell?.onRing((tenant, device, reason) => { if (reason === 'registry') recheck(tenant, device) }),
      this.#options.bell?.onRelinked(() => { recheck(null, null) })
    ]
    try {
      await this.#listen(createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: tcpKeepAliveMs }, socket => { this.accept(socket) }), port, host)
      if (tls === undefined || tlsPort === undefined) return
      const secure = createTlsServer({ key: tls.key, cert: tls.cert, handshakeTimeout: tlsHandshakeMs, noDelay: true }, socket => { this.accept(socket) })
      secure.on('tlsClientError', error => { log.debug({ error: error.message }, 'a TLS handshake failed') })
      await this.#listen(secure, tlsPort, host)
    } catch (error) {
      await this.close()
      throw error
    }
  }

  async #listen (server: Server | TlsServer, port: number, host: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, host, () => {
        server.off('error', reject)
        server.on('error', error => { this.#options.log.error({ error: error.message }, 'the MQTT listener failed') })
        resolve()
      })
    })
    this.#servers.push(server)
  }

  #tick (): void {
    // One tick at most, however long the process was held up: what clients sent meanwhile is not read yet.
    const nowMs = this.#options.clock.monotonicMs()
    if (nowMs === this.#tickedMs) return
    this.#tickedMs = nowMs
    this.advance()
  }

  /** Lets one tick of the coarse timer pass: keep-alive and time-outs. The edge does so itself every `tickMs`. */
  advance (): void { this.#wheel.advance() }

  /** The TCP port that is listened on. */
  get port (): number { return this.#portOf(0) }

  /** The TLS port that is listened on; 0 without TLS. */
  get tlsPort (): number { return this.#portOf(1) }

  #portOf (index: number): number {
    return (this.#servers[index]?.address() as AddressInfo | null | undefined)?.port ?? 0
  }

  /** Takes a connection: a socket, or a WebSocket's stream. Beyond `connectionsMax` it is closed at once. */
  accept (stream: Duplex, _request?: IncomingMessage): void {
    if (!this.#accepting || this.#context.connections.size >= this.#options.connectionsMax) {
      countReason(this.stats.refusedConnects, this.#accepting ? 'connections_max' : 'closing')
      stream.on('error', () => {})
      stream.destroy()
      return
    }
    new MqttConnection(this.#context, stream)
  }

  /** Closes the connections whose principal the predicate names (a revoked credential, a deleted device). Returns their number. */
  disconnect (predicate: (principal: Principal) => boolean): number {
    this.#context.topics.forget()
    let count = 0
    for (const connection of this.#context.connections) {
      if (connection.destroyed || connection.principal === null || !predicate(connection.principal)) continue
      connection.close('disconnected')
      count++
    }
    return count
  }

  /**
   * Publishes on behalf of the server. Resolves when the broker has stored what it must and handed the message to the
   * connections that are online. Throws `invalid_request` for a topic with wildcards, `not_ready` when closed.
   */
  async publish (tenant: string, topic: string, payload: Uint8Array, options: { qos: 0 | 1 | 2, retain: boolean }): Promise<void> {
    if (topic === '' || /[+#\0]/.test(topic)) throw new TwinfoldError('invalid_request', `'${topic}' is no topic to publish to`)
    if (!this.#accepting) throw new TwinfoldError('not_ready', 'the MQTT edge is not open')
    const { broker } = this.#context
    const packet: BrokerPacket = { cmd: 'publish', topic: `${tenant}/${topic}`, payload: Buffer.from(payload), qos: options.qos, retain: options.retain, dup: false }
    await new Promise<void>((resolve, reject) => {
      broker.publish(packet, null, error => {
        if (error === undefined || error === null) resolve()
        else reject(new TwinfoldError('store_unavailable', 'the broker could not store the message', { cause: error }))
      })
    })
  }

  /** A will fires. One that is telemetry, or a message for the applier, is journaled like a publish of its device, and published after the commit. */
  #will (packet: BrokerPacket, done: (error?: Error | null) => void): void {
    const slash = packet.topic.indexOf('/')
    const tenant = packet.topic.slice(0, slash)
    const topic = packet.topic.slice(slash + 1)
    const parsed = parseDeviceTopic(topic)
    if (parsed === null || parsed.device === null) return done(null)
    const isTelemetry = parsed.rest === 'telemetry'
    if (!isTelemetry && !isMessagePath(parsed.rest)) return done(null)
    const { journal, log } = this.#options
    const { stats } = this
    const failed = (error: Error): void => {
      countReason(stats.refused, 'will_not_journaled')
      log.error({ tenant, device: parsed.device, error: error.message }, 'the will of a device could not be journaled')
      done(error)
    }
    const body = encodePublish(topic, packet.payload, 0, 0, false)
    const identity = encodeIdentity({ tenant, device: parsed.device, idempotencyKey: '', fingerprint: '' })
    try {
      journal.append({ kind: isTelemetry ? RecordKind.mqttPublishes : RecordKind.deviceMessages, flags: 0, identity, body, messages: 1 }, { committed: () => { done(null) }, failed: (_token, error) => { failed(error) } }, 0)
      stats.journalRecords++
      if (!isTelemetry) stats.deviceMessages++
      else {
        stats.telemetryMessages++
        stats.telemetryBytes += body.length
      }
    } catch (error) {
      failed(error as Error)
    }
  }

  /** Stops accepting and reading, lets commits on their way be acknowledged, then closes every connection. */
  async close (): Promise<void> {
    const { connections } = this.#context
    this.#accepting = false
    this.#context.stopping = true
    for (const unhook of this.#unhook) unhook?.()
    const closed = this.#servers.map(server => new Promise<void>(resolve => { server.close(() => { resolve() }) }))
    for (const connection of connections) connection.stopReading()
    await this.#until(closeCommitsMs, () => ![...connections].some(connection => !connection.destroyed && connection.acks !== null && !connection.acks.empty))
    if (this.#context.open !== null) {
      const { broker } = this.#context
      await new Promise<void>(resolve => { broker.close(resolve) })
    }
    for (const connection of connections) connection.destroy()
    await this.#until(closeSocketsMs, () => connections.size === 0)
    for (const connection of connections) connection.abort()
    await this.#options.messaging?.close()
    await Promise.all(closed)
    if (this.#ticker !== null) clearInterval(this.#ticker)
    this.#ticker = null
  }

  async #until (timeoutMs: number, holds: () => boolean): Promise<void> {
    for (let waitedMs = 0; waitedMs < timeoutMs && !holds(); waitedMs += closePollMs) await delay(closePollMs)
  }
}
