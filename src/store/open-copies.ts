/** The one place that knows where hot copies of twins are. */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { RedisSettings } from '../../workers/protocol.js'
import { openRedis } from './cluster/redis/open-redis.js'
import { RedisEntityCopies } from './cluster/redis/redis-twin-cache.js'
import type { Watched } from './dependency-status.js'
import type { EntityCopies } from './twin-cache.js'

export interface OpenedEntityCopies extends Watched {
  readonly copies: EntityCopies
  close(): Promise<void>
}

/** Does not wait for Redis. */
export function openEntityCopies (settings: RedisSettings, options: { readonly clock: Clock, readonly log: Log }): OpenedEntityCopies {
  const redis = openRedis(settings, { ...options, name: 'Redis' })
  return { copies: new RedisEntityCopies(redis), status: () => redis.status(), close: async () => { await redis.close() } }
}
