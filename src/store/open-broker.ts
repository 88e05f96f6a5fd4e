/** The one place that chooses what the MQTT broker keeps its sessions in, and how it reaches the brokers of other nodes. */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { RedisSettings } from '../../workers/protocol.js'
import type { LimitListener } from './broker/ledger.js'
import type { BrokerMessaging } from './broker/messaging.js'
import { openClusterBroker } from './cluster/broker/open-cluster-broker.js'
import type { DependencyStatus } from './dependency-status.js'
import { openBrokerPersistence } from './embedded/broker/persistence.js'

/** Embedded: on this machine alone. Cluster: on Redis, together with the other nodes that use it with the same prefix. */
export type BrokerSpec =
  | { readonly kind: 'embedded', readonly directory: string }
  | { readonly kind: 'cluster', readonly redis: RedisSettings }

export interface BrokerBackend {
  /** A persistence of Aedes 1.2. */
  readonly persistence: object
  /** null: there are no other nodes. */
  readonly messaging: BrokerMessaging | null
  /** What is stored (cluster: by all nodes, as of the last minute), and in a cluster what went between the nodes. */
  readonly stats: object
  /** null where nothing outside the process is used. */
  status(): DependencyStatus | null
  /** After the MQTT edge is closed. */
  close(): Promise<void>
}

/** The cluster's is open at once, whether Redis answers or not; the MQTT edge joins the other nodes when it opens. */
export async function openBrokerBackend (spec: BrokerSpec, options: { clock: Clock, log: Log, onLimit?: LimitListener }): Promise<BrokerBackend> {
  if (spec.kind === 'cluster') return openClusterBroker({ settings: spec.redis, ...options })
  const persistence = await openBrokerPersistence({ directory: spec.directory, ...options })
  return {
    persistence,
    messaging: null,
    get stats () { return persistence.stats },
    status: () => null,
    close: async () => { await persistence.close() }
  }
}
