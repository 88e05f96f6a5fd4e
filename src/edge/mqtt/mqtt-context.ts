/** What all connections of the MQTT edge share: the ports, the tables, and the one flush per turn. */
import type { Clock } from '../../core/clock.js'
import type { Log } from '../../core/log.js'
import type { Authenticator } from '../../gate/authenticate.js'
import type { Pressure } from '../../gate/pressure.js'
import type { Journal } from '../../journal/journal-types.js'
import type { PresenceSink } from '../../presence/presence-sink.js'
import type { DeadLetterReason } from '../../store/dead-letter-store.js'
import type { DisconnectReason } from '../../store/presence-store.js'
import type { DeviceSessions, TwinQuestions } from '../../twin/device-link.js'
import { AckEntryPool, AckSlab } from './ack-queue.js'
import { PacketAssembler } from './assembler.js'
import type { OpenBroker } from './broker.js'
import type { ClientSide } from './client-side.js'
import { dropFilters } from './control-intake.js'
import { DeviceLinks } from './device-links.js'
import type { LiveSubscriptions } from './live-subscriptions.js'
import type { MqttConnection } from './mqtt-connection.js'
import type { MqttStats } from './mqtt-stats.js'
import { PublishIntake } from './publish-intake.js'
import type { TelemetryWatch } from './telemetry-watch.js'
import type { TimerWheel } from './timer-wheel.js'
import type { TopicDirectory } from './topic-directory.js'

/** A message that was acknowledged but not taken, for the tenant's dead letters (INVARIANTS 9). */
export interface RefusedMessage {
  readonly tenant: string
  /** '' where none could be told. */
  readonly device: string
  /** As sent; '' where the packet could not be read. */
  readonly topic: string
  /** Part of a larger buffer: copy it to keep it. The whole packet where that could not be read. */
  readonly payload: Uint8Array
  readonly reason: DeadLetterReason
  readonly detail: string
}

export interface MqttContextOptions {
  readonly journal: Journal
  readonly authenticator: Authenticator
  readonly pressure: Pressure
  readonly clock: Clock
  readonly log: Log
  readonly stats: MqttStats
  readonly watch: TelemetryWatch
  /** The same of messages for the applier. */
  readonly messageWatch: TelemetryWatch
  readonly topics: TopicDirectory
  readonly wheel: TimerWheel
  readonly tickMs: number
  /** For how long an answer about subscribers holds without being asked anew. */
  readonly leaseTicks: number
  readonly newId: () => string
  readonly onRefused: ((message: RefusedMessage) => void) | undefined
  /** null: the topics of live readings are like any others. */
  readonly live: LiveSubscriptions | null
  /** Deliveries to devices. */
  readonly sessions: readonly DeviceSessions[]
  /** null: nobody wants to know. */
  readonly presence: PresenceSink | null
  /** null: `twin/get` is rejected. */
  readonly questions: TwinQuestions | null
}

const ackSlabBytes = 256 * 1024
const pooledEntriesMax = 4096

export class MqttContext {
  readonly journal: Journal
  readonly authenticator: Authenticator
  readonly pressure: Pressure
  readonly clock: Clock
  readonly log: Log
  readonly stats: MqttStats
  readonly watch: TelemetryWatch
  readonly messageWatch: TelemetryWatch
  readonly topics: TopicDirectory
  readonly wheel: TimerWheel
  readonly leaseTicks: number
  readonly newId: () => string
  readonly onRefused: ((message: RefusedMessage) => void) | undefined
  readonly live: LiveSubscriptions | null
  readonly links: DeviceLinks
  readonly presence: PresenceSink | null
  readonly questions: TwinQuestions | null
  /** The edge is being closed. */
  stopping = false
  readonly #tickMs: number
  readonly connections = new Set<MqttConnection>()
  readonly ackSlab = new AckSlab(ackSlabBytes)
  readonly ackEntries = new AckEntryPool(pooledEntriesMax)
  readonly assembler = new PacketAssembler()
  readonly intake: PublishIntake
  /** Set while the edge is open. */
  open: OpenBroker | null = null

  #dirty: ClientSide[] = []
  #flushSoon = false
  #flushLater = false
  readonly #slowed = new Set<MqttConnection>()

  constructor (options: MqttContextOptions) {
    this.journal = options.journal
    this.authenticator = options.authenticator
    this.pressure = options.pressure
    this.clock = options.clock
    this.log = options.log
    this.stats = options.stats
    this.watch = options.watch
    this.messageWatch = options.messageWatch
    this.topics = options.topics
    this.wheel = options.wheel
    this.leaseTicks = options.leaseTicks
    this.newId = options.newId
    this.onRefused = options.onRefused
    this.live = options.live
    this.#tickMs = options.tickMs
    this.presence = options.presence
    this.questions = options.questions
    this.links = new DeviceLinks({
      sessions: options.sessions, presence: options.presence, topics: options.topics, log: options.log,
      drop: (connection, filters) => { dropFilters(this, connection as MqttConnection, filters) }
    })
    this.intake = new PublishIntake(this)
  }

  get broker (): OpenBroker['broker'] { return (this.open as OpenBroker).broker }

  get persistence (): OpenBroker['persistence'] { return (this.open as OpenBroker).persistence }

  get emissions (): OpenBroker['emissions'] { return (this.open as OpenBroker).emissions }

  /** Ticks of the wheel for a time, at least one. */
  ticks (ms: number): number { return Math.max(1, Math.ceil(ms / this.#tickMs)) }

  /**
   * The connection has something to write. `soon`: at the end of the running turn (acknowledgements of one commit);
   * otherwise after the other events that wait, so that deliveries gather.
   */
  flush (connection: ClientSide, soon: boolean): void {
    if (!connection.flushing) {
      connection.flushing = true
      this.#dirty.push(connection)
    }
    if (soon) {
      if (this.#flushSoon) return
      this.#flushSoon = true
      queueMicrotask(this.#flushAll)
    } else if (!this.#flushLater && !this.#flushSoon) {
      this.#flushLater = true
      setImmediate(this.#flushAll)
    }
  }

  readonly #flushAll = (): void => {
    this.#flushSoon = this.#flushLater = false
    const dirty = this.#dirty
    this.#dirty = []
    for (const connection of dirty) {
      connection.flushing = false
      connection.flush()
    }
  }

  /** Wakes the connection when the pressure is gone. */
  slow (connection: MqttConnection): void {
    if (this.#slowed.size === 0) this.pressure.whenOpen(this.#wake)
    this.#slowed.add(connection)
  }

  /** The broker has accepted the connection and restored its session. */
  opened (connection: ClientSide): void {
    // Stamps of the journal: unique, and ascending over restarts.
    connection.connectionId = `${String(this.journal.takeStamps(1)).padStart(16, '0')}-${this.journal.journalId}`
    this.links.opened(connection)
  }

  /** An open connection has ended. */
  ended (connection: ClientSide, reason: DisconnectReason): void { this.links.ended(connection, reason) }

  /** The time of a tick of the wheel, µs. */
  heardUs (tick: number): number { return this.clock.nowUs() - (this.wheel.tick - tick) * this.#tickMs * 1000 }

  /** Nothing more is to be done for the connection. */
  forget (connection: MqttConnection): void { this.#slowed.delete(connection) }

  readonly #wake = (): void => {
    const slowed = [...this.#slowed]
    this.#slowed.clear()
    for (const connection of slowed) connection.pressureGone()
  }
}
