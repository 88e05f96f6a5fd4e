/** How a driver connection to Cassandra is made: from the settings, patiently while Cassandra is still starting. */
import { setTimeout as pause } from 'node:timers/promises'
import { Client, auth, errors, policies, types, type ClientOptions } from 'cassandra-driver'
import type { CassandraSettings } from '../../../../workers/protocol.js'
import type { Clock } from '../../../core/clock.js'
import { TwinfoldError } from '../../../core/errors.js'
import type { Log } from '../../../core/log.js'
import { translate } from './cassandra-errors.js'
import { IdempotentRetry } from './retry.js'

export const consistencyOf: Readonly<Record<CassandraSettings['consistency'], types.consistencies>> = {
  LOCAL_QUORUM: types.consistencies.localQuorum,
  QUORUM: types.consistencies.quorum,
  EACH_QUORUM: types.consistencies.eachQuorum,
  LOCAL_ONE: types.consistencies.localOne
}

export interface ConnectOptions {
  readonly clock: Clock
  readonly log: Log
  /** null: no keyspace, as before it is made. */
  readonly keyspace: string | null
  /** How long opening is tried while nothing answers, milliseconds. */
  readonly openWithinMs: number
  /** One try of one statement on one node, milliseconds. Above the server's own time-outs, whose answers say more. */
  readonly requestTimeoutMs: number
  /** For schema changes: knows the nodes but not the tables, and leaves it to the caller to wait until the nodes agree. */
  readonly forSchema?: boolean
}

const pauseMsMin = 100
const pauseMsMax = 2000

/** An option that the driver's types forgot: no reports about this client to anybody. */
type DriverOptions = ClientOptions & { readonly monitorReporting: { readonly enabled: boolean } }

/** Of `host:port` or `[address]:port`; Cassandra's own unless given. */
function portOf (contactPoint: string): number {
  return Number(/^(?:\[.*\]|[^:]+):(\d+)$/.exec(contactPoint)?.[1] ?? 9042)
}

function driverOptions (settings: CassandraSettings, { keyspace, requestTimeoutMs, forSchema = false }: ConnectOptions): DriverOptions {
  return {
    contactPoints: [...settings.contactPoints],
    localDataCenter: settings.dataCenter,
    ...(keyspace === null ? {} : { keyspace }),
    ...(settings.user === '' ? {} : { authProvider: new auth.PlainTextAuthProvider(settings.user, settings.password) }),
    // The driver's own default would not check the certificate.
    ...(settings.tls ? { sslOptions: { rejectUnauthorized: true } } : {}),
    policies: {
      // The default load balancing is token-aware, local to the data centre, and avoids replicas that are slow just now.
      retry: new IdempotentRetry(),
      // A node that comes back is in use again within about a second.
      reconnection: new policies.reconnection.ExponentialReconnectionPolicy(100, 1000, false),
      // No client timestamps, which are USING TIMESTAMP by another name: Cassandra stamps the cells, accept stamps decide (DESIGN 3.8).
      timestampGeneration: null as unknown as policies.timestampGeneration.TimestampGenerator
    },
    queryOptions: {
      prepare: true,
      consistency: consistencyOf[settings.consistency],
      serialConsistency: types.consistencies.localSerial,
      isIdempotent: false
    },
    pooling: { heartBeatInterval: 10_000 },
    socketOptions: { connectTimeout: 2000, readTimeout: requestTimeoutMs, tcpNoDelay: true },
    // A node that hangs must not hold up the first use of a statement; others are prepared when they are first asked.
    prepareOnAllHosts: false,
    // Nodes that the driver hears of from others come without a port: they listen where the contact points do.
    protocolOptions: { port: portOf(settings.contactPoints[0]), ...(forSchema ? { maxSchemaAgreementWaitSeconds: 0 } : {}) },
    ...(forSchema ? { isMetadataSyncEnabled: false } : {}),
    monitorReporting: { enabled: false }
  }
}

/** Closes a client that did not open. The driver itself forgets its first connection when the node's answers on it were no good. */
async function discard (client: Client): Promise<void> {
  const { controlConnection } = client as unknown as { readonly controlConnection?: { readonly connection?: { closeAsync?(): Promise<void> } | null } }
  await client.shutdown().catch(() => {})
  await controlConnection?.connection?.closeAsync?.().catch(() => {})
}

/** What no waiting mends: the data centre has another name. */
function isMistake (error: unknown): boolean {
  const inner: unknown[] = error instanceof errors.NoHostAvailableError ? Object.values(error.innerErrors ?? {}) : []
  return [error, ...inner].some(one => one instanceof errors.ArgumentError)
}

/**
 * @throws TwinfoldError `store_unavailable` naming the contact points when nothing answered in `openWithinMs`, and at once when
 * the data centre's name is wrong.
 */
export async function connect (settings: CassandraSettings, options: ConnectOptions): Promise<Client> {
  const { clock, log, openWithinMs } = options
  const deadlineMs = clock.monotonicMs() + openWithinMs
  for (let pauseMs = pauseMsMin; ; pauseMs = Math.min(pauseMsMax, pauseMs * 2)) {
    const client = new Client(driverOptions(settings, options))
    // The driver's words are for those who look for a fault; what matters is said by the dependency's state.
    client.on('log', (level: string, source: string, message: string) => { if (level === 'warning' || level === 'error') log.debug({ source }, message) })
    try {
      await client.connect()
      return client
    } catch (error) {
      await discard(client)
      const reason = translate(error).message
      const text = `Cassandra at ${settings.contactPoints.join(', ')} (data centre ${settings.dataCenter}) does not answer: ${reason}`
      if (isMistake(error) || clock.monotonicMs() + pauseMs > deadlineMs) throw new TwinfoldError('store_unavailable', text, { cause: error })
      log.warn({ retryMs: pauseMs }, text)
      await pause(pauseMs)
    }
  }
}
