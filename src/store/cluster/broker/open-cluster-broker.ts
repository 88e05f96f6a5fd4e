/** Puts the cluster broker together: persistence and messaging on one connection to Redis, and one more for what nodes say to each other. */
import { randomBytes } from 'node:crypto'
import type { RedisSettings } from '../../../../workers/protocol.js'
import type { Clock } from '../../../core/clock.js'
import type { Log } from '../../../core/log.js'
import { Ledger, type BrokerLimits, type LimitListener } from '../../broker/ledger.js'
import type { BrokerMessaging, ConnectedClient, LocalBroker } from '../../broker/messaging.js'
import type { DependencyStatus } from '../../dependency-status.js'
import { openRedis } from '../redis/open-redis.js'
import { filtersPerTenantMax } from './announcer.js'
import type { BrokerShared } from './broker-redis.js'
import { Caretaker } from './caretaker.js'
import { ClusterPersistence } from './cluster-persistence.js'
import { BrokerKeys } from './keys.js'
import { LiveClients } from './live-clients.js'
import { ClusterOutgoing } from './outgoing.js'
import { RedisMessaging } from './redis-messaging.js'
import { Rejoin } from './rejoin.js'
import { ClusterRetained } from './retained.js'
import { ClusterSessions } from './sessions.js'

export interface ClusterBrokerOptions {
  readonly settings: RedisSettings
  readonly clock: Clock
  readonly log: Log
  /** Those not named have the default. */
  readonly limits?: Partial<BrokerLimits>
  readonly onLimit?: LimitListener
  /** Distinct filters of one tenant that this node announces one by one; 50,000 unless given. */
  readonly filtersPerTenantMax?: number
}

export interface ClusterBroker {
  readonly persistence: ClusterPersistence
  readonly messaging: RedisMessaging
  readonly caretaker: Caretaker
  readonly stats: object
  status(): DependencyStatus
  close(): Promise<void>
}

/** Returns at once; the messaging joins the other nodes when it is opened. */
export function openClusterBroker (options: ClusterBrokerOptions): ClusterBroker {
  const { settings, clock, log } = options
  const nodeId = randomBytes(9).toString('base64url')
  const redis = openRedis(settings, { clock, log, name: 'Redis' })
  const shared: BrokerShared = {
    redis,
    keys: new BrokerKeys(settings.prefix),
    ledger: new Ledger(options.limits ?? {}, options.onLimit ?? (() => {})),
    live: new LiveClients(nodeId),
    nodeId,
    link: { up: false },
    log
  }
  const sessions = new ClusterSessions(shared)
  const outgoing = new ClusterOutgoing(shared, topic => messaging.wanting(topic))
  const caretaker = new Caretaker(shared)
  const messaging: RedisMessaging = new RedisMessaging({
    settings,
    shared,
    clock,
    filtersPerTenantMax: options.filtersPerTenantMax ?? filtersPerTenantMax,
    rejoin: new Rejoin(shared, sessions, outgoing),
    dead: nodes => { caretaker.bury(nodes) },
    tenantSeen: clientId => { caretaker.tenantSeen(clientId) }
  })
  caretaker.liveNodes = () => messaging.liveNodes
  const open = messaging.open.bind(messaging)
  messaging.open = async (local: LocalBroker) => {
    caretaker.open(async packet => { await local.publishWill(packet) })
    await open(local)
  }
  const persistence = new ClusterPersistence({
    shared,
    sessions,
    outgoing,
    retained: new ClusterRetained(shared),
    disconnected: client => { messaging.release(client as ConnectedClient) },
    tenantSeen: topic => { caretaker.tenantSeen(topic) }
  })
  return {
    persistence,
    messaging: messaging satisfies BrokerMessaging,
    caretaker,
    get stats () { return { ...shared.ledger.stats, ...messaging.stats } },
    status: () => redis.status(),
    async close () {
      caretaker.close()
      await messaging.close()
      await redis.close()
    }
  }
}
