/**
 * The cluster store: the record in Cassandra, the hot copy in Redis. Every thread opens its own; they share nothing but the
 * services. The main thread's (`writer`) applies the migrations first.
 *
 * What a call returned for is at the configured consistency (LOCAL_QUORUM) in Cassandra, in its commit log on stable storage.
 */
import type { Clock } from '../../core/clock.js'
import type { Log } from '../../core/log.js'
import type { ClusterSpec } from '../../../workers/protocol.js'
import type { Store } from '../store.js'
import { methodsOf } from '../methods-of.js'
import { CassandraClaims } from './cassandra/cassandra-claims.js'
import { CassandraDeadLetters } from './cassandra/cassandra-dead-letters.js'
import { CassandraDocuments } from './cassandra/cassandra-documents.js'
import { CassandraEntities } from './cassandra/cassandra-entities.js'
import { CassandraEventLog } from './cassandra/cassandra-event-log.js'
import { CassandraJobs } from './cassandra/cassandra-jobs.js'
import { CassandraPlans } from './cassandra/cassandra-plans.js'
import { CassandraPresence } from './cassandra/cassandra-presence.js'
import { CassandraRawStore } from './cassandra/cassandra-raw-store.js'
import { CassandraRegistry } from './cassandra/cassandra-registry.js'
import { CassandraSealRequests } from './cassandra/cassandra-seal-requests.js'
import { CassandraSmallStores } from './cassandra/cassandra-small-stores.js'
import { CassandraTierStore } from './cassandra/cassandra-tiers.js'
import { migrateCassandra } from './cassandra/migrate.js'
import { openCassandra } from './cassandra/open-cassandra.js'
import { openRedis } from './redis/open-redis.js'
import { RedisHotState } from './redis/redis-hot-state.js'

export interface ClusterStoreOptions {
  readonly spec: ClusterSpec
  readonly clock: Clock
  readonly log: Log
  readonly writer: boolean
}

/** @throws TwinfoldError `store_unavailable` naming what could not be reached, `format_newer` where the schema is a newer server's. */
export async function openClusterStore ({ spec, clock, log, writer }: ClusterStoreOptions): Promise<Store> {
  if (writer) await migrateCassandra(spec.cassandra, { clock, log })
  const client = await openCassandra(spec.cassandra, { clock, log })
  const redis = openRedis(spec.redis, { clock, log, name: 'Redis' })
  const raw = new CassandraRawStore(client, { clock, outbox: spec.outbox })
  const eventLog = new CassandraEventLog(client, { clock })
  const entities = new CassandraEntities(client, { append: async events => { await eventLog.appendEvents(events) } })
  return {
    raw,
    tiers: new CassandraTierStore(client),
    hot: new RedisHotState(redis),
    outbox: spec.outbox ? raw : null,
    ...methodsOf(new CassandraRegistry(client), [
      'createTenant', 'getTenant', 'updateTenant', 'listTenants', 'createDevice', 'getDevice', 'updateDevice', 'deleteDevice', 'listDevices',
      'listDevicesOfGateway', 'putCredential', 'getCredential', 'listCredentials', 'deleteCredential'
    ]),
    ...methodsOf(new CassandraPlans(client), ['getPlan', 'putPlanIfVersion']),
    ...methodsOf(new CassandraDeadLetters(client), ['putDeadLetters', 'listDeadLetters', 'getDeadLetter', 'deleteDeadLetters', 'trimDeadLetters', 'deadLetterTenants']),
    ...methodsOf(new CassandraSmallStores(client), [
      'getCursor', 'putCursor', 'putErasure', 'erasedBefore', 'erasedParts', 'listErasures', 'getSetting', 'putSetting', 'putIdempotency', 'getIdempotency',
      'dropIdempotencyBefore', 'claimIdempotency'
    ]),
    ...methodsOf(new CassandraJobs(client), ['putJob', 'getJob', 'listJobs', 'listOpenJobs', 'cancelJob', 'isJobCancelled', 'deleteJob']),
    ...methodsOf(new CassandraClaims(client, { clock }), ['takeClaim', 'releaseClaim']),
    ...methodsOf(new CassandraSealRequests(client), ['putSealRequests', 'scanSealRequests', 'countSealRequests', 'deleteSealRequests']),
    ...methodsOf(new CassandraDocuments(client), ['getDocument', 'putDocument', 'deleteDocument', 'listDocuments', 'documentTenants']),
    ...methodsOf(new CassandraPresence(client), [
      'putConnected', 'putDisconnected', 'putLost', 'dropConnections', 'putActivity', 'getPresence', 'putPresenceBoot', 'putPresenceSwept', 'presenceBoots', 'deletePresenceBoot', 'connectionsOf', 'deletePresence'
    ]),
    ...methodsOf(entities, [
      'getEntity', 'getEntityVersion', 'commitEntities', 'readEntityEvents', 'readEntityItems', 'getEntityItem', 'putEntitySnapshot', 'findEntitySnapshot', 'dropEntityHistory', 'scanEntities'
    ]),
    settleMs: eventLog.settleMs,
    ...methodsOf(eventLog, ['appendEvents', 'readEvents', 'endOfEvents', 'positionAt', 'trimEvents', 'onAppended']),
    dependencies: () => [client.status(), redis.status()],
    async open () {},
    async close () {
      eventLog.close()
      await entities.close()
      await redis.close()
      await client.close()
    }
  }
}
