/** The one place that knows where the nodes of an installation meet. */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { RedisSettings } from '../../workers/protocol.js'
import { openRedis } from './cluster/redis/open-redis.js'
import { RedisNodeStore } from './cluster/redis/redis-node-store.js'
import { RedisRevocationLog } from './cluster/redis/redis-revocation-log.js'
import type { Watched } from './dependency-status.js'
import type { NodeStore } from './node-store.js'
import type { RevocationLog } from './revocation-log.js'

export interface OpenedNodes extends Watched {
  readonly nodes: NodeStore
  readonly revocations: RevocationLog
  close(): Promise<void>
}

/** Does not wait for Redis. */
export function openNodes (settings: RedisSettings, options: { readonly clock: Clock, readonly log: Log }): OpenedNodes {
  const redis = openRedis(settings, { ...options, name: 'Redis' })
  return { nodes: new RedisNodeStore(redis), revocations: new RedisRevocationLog(redis), status: () => redis.status(), close: async () => { await redis.close() } }
}
