/** What the HTTP edge is made of and what it offers: the surface that `app.ts` wires. */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import type { Clock } from '../../core/clock.js'
import type { ErrorCode } from '../../core/errors.js'
import type { KeyedLock } from '../../core/keyed-lock.js'
import type { Log } from '../../core/log.js'
import type { Authenticator } from '../../gate/authenticate.js'
import type { Pressure } from '../../gate/pressure.js'
import type { DeviceInlet } from '../../inlet/device-message.js'
import type { Journal } from '../../journal/journal-types.js'
import type { Commands } from '../../commands/commands.js'
import type { PresenceSink, PresenceSource } from '../../presence/presence-sink.js'
import type { DependencyStatus } from '../../store/dependency-status.js'
import type { FleetStore, TenantSql } from '../../store/fleet-store.js'
import type { LiveSource } from '../../live/live-hub.js'
import type { Revocation } from '../../store/revocation-log.js'
import type { Store } from '../../store/store.js'
import type { Principal, Role, Tenant } from '../../tenancy/model.js'
import type { Twins } from '../../twin/twin-model.js'
import type { QueryResult, QueryTask } from '../../../workers/protocol.js'
import type { AlarmSource } from './alarm-routes.js'
import type { AnalyticsSource } from './analytics-routes.js'
import type { DeviceEntry } from './device-directory.js'
import type { SearchSource } from './device-search.js'
import type { EventsSource } from './event-routes.js'
import type { IdempotencyKeys } from './idempotency-keys.js'
import type { ModelSource } from './model-routes.js'
import type { NodeListing } from './node-routes.js'
import type { TransferSource } from './transfer-source.js'
import type { TwinJobSource } from './twin-job-routes.js'

export interface HttpEdgeOptions {
  readonly host: string
  /** 0: a free one; `HttpEdge.port` tells which. */
  readonly port: number
  readonly journal: Journal
  readonly store: Store
  readonly authenticator: Authenticator
  /** Tenants by id, cached with a lease. */
  readonly tenants: { get(id: string): Promise<Tenant | null>, forget(id?: string): void }
  readonly pressure: Pressure
  /** Throws TwinfoldError `throttled` when its queue is full. */
  readonly queries: { run(task: QueryTask): Promise<QueryResult> }
  readonly mqtt: {
    /** Takes over a connection that speaks MQTT in binary WebSocket messages. */
    accept(stream: Duplex, request: IncomingMessage): void
    /** Cuts the connections of the principals that are wanted; returns how many. */
    disconnect(wanted: (principal: Principal) => boolean): number
  }
  /** Tells the other nodes of what was revoked here; absent where there are none. */
  readonly announce?: (revocation: Revocation) => void
  readonly readiness: () => { readonly ready: boolean, readonly reasons: readonly string[] }
  /** What the server leans on, for /readyz; one that is down makes the node degraded, not unready. Default: nothing. */
  readonly dependencies?: () => readonly DependencyReport[]
  readonly metrics: { render(): Promise<{ readonly contentType: string, readonly body: string }> }
  readonly idempotency: IdempotencyKeys
  /** Absent: analytics is off. */
  readonly analytics?: AnalyticsSource
  /** Absent: analytics is off. */
  readonly fleet?: FleetStore
  /** Absent: analytics is off. */
  readonly sql?: TenantSql
  /** Absent: nobody can watch. */
  readonly live?: LiveSource
  /** Webhooks and streams of events; absent: their routes answer 503. */
  readonly events?: EventsSource
  /** Fleet search; absent: analytics is off. */
  readonly search?: SearchSource
  /** Bulk changes of twins; absent: their route answers 503. */
  readonly twinJobs?: TwinJobSource
  /** Imports, exports and deletions; absent: their routes answer 503. */
  readonly transfer?: TransferSource
  /** Models of device types; absent: their routes answer 503. */
  readonly models?: ModelSource
  /** Alarms and their rules; absent: their routes answer 503. */
  readonly alarms?: AlarmSource
  /** Who is connected; absent: nobody knows, and devices are shown without it. */
  readonly presence?: PresenceSource & Pick<PresenceSink, 'noteActivity'>
  /** Commands to devices; absent: their routes answer 503. */
  readonly commands?: Commands
  /** Takes what devices say beside telemetry; absent: its routes answer 503. */
  readonly inlet?: DeviceInlet
  /** The servers of the installation; none where this one has the store to itself. */
  readonly nodes?: NodeListing
  /** Twins; absent: their routes answer 503. */
  readonly twins?: Twins
  /** Told of every device that was made, changed or deleted here. */
  readonly deviceChanged?: (tenant: string, device: string) => void
  /** Held while a tenant or device is changed, by others too; default one of its own. */
  readonly changes?: KeyedLock
  readonly clock: Clock
  readonly log: Log
  /** Largest telemetry body; default `httpBodyBytesMax`, which it may not exceed. */
  readonly bodyBytesMax?: number
  /** Believe `X-Forwarded-*`: only behind a proxy that sets them. Default false. */
  readonly trustProxy?: boolean
  /** Who may read /metrics: connections from this machine and admin keys (default), admin keys, or everybody. */
  readonly metricsAccess?: 'loopback' | 'admin' | 'public'
  /** How long telemetry waits for the pressure to fall before it is answered with 429. Default 5,000. */
  readonly pressureWaitMs?: number
  /** Requests that may wait so; one more gets 429 at once. Default 1,000. */
  readonly pressureWaitersMax?: number
  /** Bytes of telemetry bodies being read or committed; beyond, 429. Default 256 MiB. */
  readonly bodiesBytesMax?: number
  /** Open connections, WebSockets included; more are closed unread. Default 20,000. */
  readonly connectionsMax?: number
  /** How long the registration of a device may be remembered. Default 5,000. */
  readonly deviceLeaseMs?: number
  /** Devices remembered. Default 200,000. */
  readonly devicesCachedMax?: number
  /** How long running requests may take to finish at close. Default 10,000. */
  readonly closeGraceMs?: number
}

/** The state of a service that this server leans on. */
export type DependencyReport = Pick<DependencyStatus, 'name' | 'state' | 'reason'>

/** Counters since the start; plain numbers, read by the metrics. */
export interface HttpEdgeStats {
  requests: number
  telemetryRequests: number
  telemetryAccepted: number
  telemetryBytes: number
  idempotentReplays: number
  /** Requests that waited for the pressure to fall. */
  pressureWaits: number
  pressureWaiting: number
  /** Telemetry bodies being read or committed, bytes. */
  bodiesBytes: number
  webSockets: number
  /** Answers with a problem, by code. */
  readonly problems: Partial<Record<ErrorCode, number>>
}

export interface HttpEdge {
  readonly app: FastifyInstance
  /** The port listened on, after `open`. */
  readonly port: number
  readonly stats: Readonly<HttpEdgeStats>
  open(): Promise<void>
  /** Stops accepting, lets running requests finish (bounded by `closeGraceMs`), closes WebSockets. */
  close(): Promise<void>
}

/** Who a request acts for, after authentication. */
export interface Caller {
  readonly principal: Principal
  /** What the request may do: an admin inside a tenant (`X-Tenant`) acts as its operator. */
  readonly role: Role
  /** null only on routes of the platform. */
  readonly tenant: string | null
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The body may take longer than a minute to arrive: a file. */
    longBody?: boolean
  }
  interface FastifyRequest {
    caller: Caller | null
    /** Telemetry: what was decided before the body was read. */
    admission: Admission | null
  }
}

/** What is settled about a telemetry request before a byte of its body is read. */
export interface Admission {
  readonly credentialId: string
  readonly tenant: string
  /** null: a batch that names a device per reading. */
  readonly device: DeviceEntry | null
  readonly identity: Buffer
}
