/**
 * The nodes of an installation in one Redis hash, a field a node. A beat is one script: it reads Redis's clock, writes the node
 * with that time, forgets those that were silent for a day or are more than `nodesMax`, and answers with all of them. So leases
 * are judged by one clock, and every beat measures the node's own against it.
 */
import type { Redis } from 'ioredis'
import { nodesMax, type BeatAnswer, type NodeBeat, type NodeSeen, type NodeStore } from '../../node-store.js'

/** What it needs of `openRedis`. */
export interface NodeRedis {
  readonly client: Pick<Redis, 'eval'>
  readonly prefix: string
  /** Rejects with `store_unavailable` where Redis does not answer. */
  run<T>(action: () => Promise<T>): Promise<T>
}

const forgottenAfterUs = 24 * 3600 * 1e6

/** KEYS 1: the hash. ARGV: name, boot id, beat as JSON, µs after which a node is forgotten, most nodes. A field is `{time} {boot id} {beat}`. */
const beatScript = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local before = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
local all = redis.call('HGETALL', KEYS[1])
local kept = {}
for i = 1, #all, 2 do
  local at = tonumber(string.match(all[i + 1], '^%d+'))
  if at == nil or now - at > tonumber(ARGV[4]) then redis.call('HDEL', KEYS[1], all[i])
  else kept[#kept + 1] = { all[i], all[i + 1], at } end
end
if #kept > tonumber(ARGV[5]) then
  table.sort(kept, function (a, b) return a[3] > b[3] end)
  while #kept > tonumber(ARGV[5]) do redis.call('HDEL', KEYS[1], table.remove(kept)[1]) end
end
local answer = { string.format('%.0f', now), before or '' }
for _, node in ipairs(kept) do answer[#answer + 1] = node[2] end
return answer`

/** KEYS 1: the hash. */
const seenScript = `
local time = redis.call('TIME')
local answer = redis.call('HVALS', KEYS[1])
table.insert(answer, 1, string.format('%.0f', time[1] * 1000000 + time[2]))
return answer`

/** KEYS 1: the hash. ARGV: name, boot id. */
const leaveScript = `
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and string.match(held, '^%d+ (%S+)') == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0`

export class RedisNodeStore implements NodeStore {
  readonly #redis: NodeRedis
  readonly #key: string

  constructor (redis: NodeRedis) {
    this.#redis = redis
    this.#key = `${redis.prefix}:nodes`
  }

  async beat (beat: NodeBeat): Promise<BeatAnswer> {
    const args = [beat.name, beat.bootId, JSON.stringify(beat), forgottenAfterUs, nodesMax]
    const [now, before, ...fields] = await this.#redis.run(async () => await this.#redis.client.eval(beatScript, 1, this.#key, ...args)) as string[]
    const clusterUs = Number(now)
    return { clusterUs, replacedBootId: bootIdOf(before), nodes: fields.map(field => parseField(field, clusterUs)).filter(node => node !== null) }
  }

  async seen (): Promise<readonly NodeSeen[]> {
    const [now, ...fields] = await this.#redis.run(async () => await this.#redis.client.eval(seenScript, 1, this.#key)) as string[]
    return fields.map(field => parseField(field, Number(now))).filter(node => node !== null)
  }

  async leave (name: string, bootId: string): Promise<void> {
    await this.#redis.run(async () => await this.#redis.client.eval(leaveScript, 1, this.#key, name, bootId))
  }
}

function bootIdOf (field: string): string | null {
  return field === '' ? null : field.split(' ', 2)[1]
}

/** null for a field that is none of ours. */
function parseField (field: string, clusterUs: number): NodeSeen | null {
  const at = field.indexOf(' ')
  try {
    const beat = JSON.parse(field.slice(field.indexOf(' ', at + 1) + 1)) as NodeBeat
    return { ...beat, silentMs: Math.max(0, (clusterUs - Number(field.slice(0, at))) / 1000) }
  } catch {
    return null
  }
}
