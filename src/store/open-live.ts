/** The one place that knows how nodes tell each other about live readings, and ring for devices. */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { RedisSettings } from '../../workers/protocol.js'
import { openRedis } from './cluster/redis/open-redis.js'
import { RedisLiveBus } from './cluster/redis/redis-live-bus.js'
import type { Watched } from './dependency-status.js'
import type { LiveBus } from './live-bus.js'

/** Does not wait for Redis. */
export function openLiveBus (settings: RedisSettings, options: { readonly clock: Clock, readonly log: Log }): LiveBus & Watched {
  const redis = openRedis(settings, { ...options, name: 'Redis' })
  return Object.assign(new RedisLiveBus(settings, redis), { status: () => redis.status() })
}

/** For `DeviceBells`. Does not wait for Redis. */
export function openBellBus (settings: RedisSettings, options: { readonly clock: Clock, readonly log: Log }): LiveBus & Watched {
  const redis = openRedis(settings, { ...options, name: 'Redis' })
  return Object.assign(new RedisLiveBus(settings, redis, 'bell'), { status: () => redis.status() })
}
