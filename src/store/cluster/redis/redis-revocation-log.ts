/**
 * Revocations in a Redis stream. Its ids are Redis's clock, so a node's place stays good over a flush: what comes after it has a
 * greater id. Bounded: Redis keeps about the last `kept`; a node that slept longer finds its leases over as well.
 */
import type { Revocation, RevocationLog } from '../../revocation-log.js'
import type { RedisConnection } from './open-redis.js'

const kept = 10_000

export class RedisRevocationLog implements RevocationLog {
  readonly #redis: Pick<RedisConnection, 'run' | 'prefix'>
  readonly #key: string

  constructor (redis: Pick<RedisConnection, 'run' | 'prefix'>) {
    this.#redis = redis
    this.#key = `${redis.prefix}:revocations`
  }

  async add (revocation: Revocation): Promise<void> {
    await this.#redis.run(async client => await client.xadd(this.#key, 'MAXLEN', '~', kept, '*', 'r', JSON.stringify(revocation)))
  }

  async end (): Promise<string> {
    return await this.#redis.run(async client => {
      const [newest] = await client.xrevrange(this.#key, '+', '-', 'COUNT', 1)
      if (newest !== undefined) return newest[0]
      const [seconds, micros] = await client.time()
      return `${Math.max(0, Number(seconds) * 1000 + Math.floor(Number(micros) / 1000) - 1)}-0`
    })
  }

  async readAfter (place: string, limit: number): Promise<{ readonly revocations: readonly Revocation[], readonly place: string }> {
    const entries = await this.#redis.run(async client => await client.xrange(this.#key, `(${place}`, '+', 'COUNT', limit))
    return { revocations: entries.map(([, fields]) => JSON.parse(fields[1]) as Revocation), place: entries.at(-1)?.[0] ?? place }
  }
}
