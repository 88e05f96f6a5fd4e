/**
 * Hot copies of entities in Redis: a string a copy, `{version} {writer} {writerFrom} {+|-}{state}`, `-` where it is deleted. A script
 * compares versions, so that copies put by several nodes in any order end with the newest.
 */
import { createHash } from 'node:crypto'
import type { Redis } from 'ioredis'
import { TwinfoldError } from '../../../core/errors.js'
import type { Entity, EntityKey } from '../../entity-store.js'
import { entityCopyKeptMs, type EntityCopies } from '../../twin-cache.js'

/** What it needs of `openRedis`. */
export interface CopiesRedis {
  readonly client: Pick<Redis, 'pipeline' | 'eval' | 'evalsha' | 'del'>
  readonly prefix: string
  /** Rejects with `store_unavailable` where Redis does not answer. */
  run<T>(action: () => Promise<T>): Promise<T>
}

/** KEYS 1: the copy. ARGV: version, copy, lifetime in ms. The version is in the first bytes: a copy of 100 KiB is not read for it. */
const putScript = `
local held = tonumber(string.match(redis.call('GETRANGE', KEYS[1], 0, 20), '^(%d+) ') or '-1')
if held > tonumber(ARGV[1]) then return 0 end
if held == tonumber(ARGV[1]) then return redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`
const putSha1 = createHash('sha1').update(putScript).digest('hex')

export class RedisEntityCopies implements EntityCopies {
  readonly #redis: CopiesRedis

  constructor (redis: CopiesRedis) {
    this.#redis = redis
  }

  async get (keys: readonly EntityKey[]): Promise<readonly (Entity | null)[]> {
    if (keys.length === 0) return []
    return await this.#run(async () => {
      // Not MGET: the copies may lie in several slots.
      const pipeline = this.#redis.client.pipeline()
      for (const key of keys) pipeline.get(this.#name(key))
      const answers = await pipeline.exec() ?? []
      return answers.map(([error, value]) => {
        if (error !== null) throw error
        return decodeCopy(value as string | null)
      })
    })
  }

  async put (key: EntityKey, entity: Entity): Promise<void> {
    await this.putAll([{ key, entity }])
  }

  async putAll (copies: readonly { readonly key: EntityKey, readonly entity: Entity }[]): Promise<void> {
    if (copies.length === 0) return
    await this.#run(async () => {
      const { client } = this.#redis
      const pipeline = client.pipeline()
      const puts = copies.map(({ key, entity }) => [1, this.#name(key), entity.version, encodeCopy(entity), entityCopyKeptMs] as const)
      for (const put of puts) pipeline.evalsha(putSha1, ...put)
      const answers = await pipeline.exec() ?? []
      for (const [i, [error]] of answers.entries()) {
        if (error === null) continue
        if (!error.message.startsWith('NOSCRIPT')) throw error
        await client.eval(putScript, ...puts[i])
      }
    })
  }

  async forget (key: EntityKey): Promise<void> {
    await this.#run(async () => { await this.#redis.client.del(this.#name(key)) })
  }

  async #run<T> (action: () => Promise<T>): Promise<T> {
    try {
      return await this.#redis.run(action)
    } catch (error) {
      if (error instanceof TwinfoldError) throw error
      throw new TwinfoldError('store_unavailable', `the copies of twins in Redis: ${(error as Error).message}`, { cause: error, retryAfterMs: 1000 })
    }
  }

  /** Neither ids nor names hold a slash. */
  #name ({ tenant, device, kind, name }: EntityKey): string {
    return `${this.#redis.prefix}:entity/${kind}/${tenant}/${device}/${name}`
  }
}

function encodeCopy ({ version, writer, writerFrom, state }: Entity): string {
  return `${version} ${writer} ${writerFrom} ${state === null ? '-' : `+${state}`}`
}

/** null for what is no copy of ours. */
function decodeCopy (value: string | null): Entity | null {
  const head = value === null ? null : /^(\d+) (\S*) (\d+) ([+-])/.exec(value)
  if (value === null || head === null) return null
  return { version: Number(head[1]), writer: head[2], writerFrom: Number(head[3]), state: head[4] === '-' ? null : value.slice(head[0].length) }
}
