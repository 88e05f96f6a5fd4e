/**
 * The bounds of the broker persistence (INVARIANTS 8), what is counted against them per tenant, and what happened at
 * them. Every refusal is counted in `stats.refused` and told to `onLimit` (INVARIANTS 9).
 */
import { mqttSubscriptionsPerSessionMax } from '../../core/limits.js'
import { tenantOf } from './types.js'

const MIB = 1024 * 1024

export interface BrokerLimits {
  /** Retained messages of a tenant; a further topic is delivered and not retained. */
  readonly retainedPerTenantMax: number
  /** Bytes of them, topics included; a message beyond is not retained, and an older value of its topic is removed: no stale value. */
  readonly retainedBytesPerTenantMax: number
  /** Sessions of a tenant; a further one works while connected and is not there after a reconnect. */
  readonly sessionsPerTenantMax: number
  /** Filters stored of one session; further ones work while connected only. */
  readonly subscriptionsPerSessionMax: number
  /** A session ends this long after its last disconnect, with its queue. */
  readonly sessionExpiryMs: number
  /**
   * Messages in one session's queue, un-acknowledged ones included, 60,000 at most. The newest is refused, as Mosquitto
   * and HiveMQ do by default: it costs nothing at the limit, leaves no holes in the order, and nothing in flight
   * vanishes. To a connected subscriber the message still goes, once, without being stored.
   */
  readonly queuedPerSessionMax: number
  /** Bytes of them, each message counted in full. */
  readonly queuedBytesPerSessionMax: number
  /** Queue entries of all sessions of a tenant, and stored bytes of their messages (shared ones count once). */
  readonly queuedPerTenantMax: number
  readonly queuedBytesPerTenantMax: number
  /** Wills of a tenant that survive the server; one beyond is kept in memory by the broker only. */
  readonly willsPerTenantMax: number
  /** Received QoS 2 identifiers of one client that wait for PUBREL; beyond, the oldest is forgotten. */
  readonly incomingPerClientMax: number
  /** The same of a tenant; one beyond is not remembered: its redelivery would be a second message. */
  readonly incomingPerTenantMax: number
  /** A larger payload of an incoming QoS 2 message is not stored: only its identifier is needed (MQTT 3.1.1 4.3.3, method B). */
  readonly incomingPayloadBytesMax: number
}

export const brokerLimitsDefault: BrokerLimits = {
  retainedPerTenantMax: 100_000,
  retainedBytesPerTenantMax: 256 * MIB,
  sessionsPerTenantMax: 1_000_000,
  subscriptionsPerSessionMax: mqttSubscriptionsPerSessionMax,
  sessionExpiryMs: 7 * 24 * 3600 * 1000,
  queuedPerSessionMax: 1000,
  queuedBytesPerSessionMax: 16 * MIB,
  queuedPerTenantMax: 1_000_000,
  queuedBytesPerTenantMax: 1024 * MIB,
  willsPerTenantMax: 1_000_000,
  incomingPerClientMax: 1000,
  incomingPerTenantMax: 100_000,
  incomingPayloadBytesMax: 4096
}

/** A session's queue must leave free packet identifiers (16 bits, 0 is none). */
export const queuedPerSessionCeiling = 60_000

const kinds = ['retained', 'retained_bytes', 'sessions', 'subscriptions', 'queued', 'queued_bytes', 'queued_tenant', 'wills', 'incoming'] as const
export type LimitKind = typeof kinds[number]

/** Told of every refusal. `subject` is a client id, or for `retained` and `retained_bytes` a tenant. Must not throw. */
export type LimitListener = (kind: LimitKind, subject: string) => void

export interface BrokerPersistenceStats {
  retained: number
  retainedBytes: number
  sessions: number
  subscriptions: number
  /** Entries of all queues, and stored bytes of their messages. */
  queued: number
  queuedBytes: number
  wills: number
  incoming: number
  /** What was refused at a limit, by kind. */
  readonly refused: Record<LimitKind, number>
  /** Deliveries to a subscriber whose message was not in its queue (refused at a limit, or acknowledged meanwhile). */
  untracked: number
  sessionsExpired: number
  retainedLookups: number
  /** Rows that look-ups of retained messages touched. */
  retainedRowsVisited: number
  /** Rows that could not be read and were passed over. */
  rowsDamaged: number
  /** Look-ups that ended early because the database failed. */
  readsFailed: number
  batches: number
  operations: number
}

/** What one tenant holds. */
export interface TenantCounts {
  readonly tenant: string
  retained: number
  retainedBytes: number
  sessions: number
  queued: number
  queuedBytes: number
  wills: number
  incoming: number
}

export type Counted = Exclude<keyof TenantCounts, 'tenant'>

export class Ledger {
  readonly limits: BrokerLimits
  readonly stats: BrokerPersistenceStats
  readonly #onLimit: LimitListener
  /** A tenant is here while it holds anything. */
  readonly #tenants = new Map<string, TenantCounts>()

  constructor (limits: Partial<BrokerLimits>, onLimit: LimitListener) {
    const merged = { ...brokerLimitsDefault, ...limits }
    this.limits = { ...merged, queuedPerSessionMax: Math.min(merged.queuedPerSessionMax, queuedPerSessionCeiling) }
    this.#onLimit = onLimit
    const refused = Object.fromEntries(kinds.map((kind) => [kind, 0])) as Record<LimitKind, number>
    this.stats = {
      retained: 0, retainedBytes: 0, sessions: 0, subscriptions: 0, queued: 0, queuedBytes: 0, wills: 0, incoming: 0,
      refused, untracked: 0, sessionsExpired: 0, retainedLookups: 0, retainedRowsVisited: 0, rowsDamaged: 0,
      readsFailed: 0, batches: 0, operations: 0
    }
  }

  /** What the tenant of a client id or topic holds now. */
  held (text: string, what: Counted): number {
    return this.#tenants.get(tenantOf(text))?.[what] ?? 0
  }

  add (text: string, what: Counted, change: number): void {
    if (change === 0) return
    const tenant = tenantOf(text)
    let counts = this.#tenants.get(tenant)
    if (counts === undefined) {
      counts = { tenant, retained: 0, retainedBytes: 0, sessions: 0, queued: 0, queuedBytes: 0, wills: 0, incoming: 0 }
      this.#tenants.set(tenant, counts)
    }
    counts[what] += change
    this.stats[what] += change
    if (change < 0 && counts.retained + counts.sessions + counts.queued + counts.wills + counts.incoming === 0) this.#tenants.delete(tenant)
  }

  refuse (kind: LimitKind, subject: string): void {
    this.stats.refused[kind]++
    this.#onLimit(kind, subject)
  }
}
