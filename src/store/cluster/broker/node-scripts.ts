/** Scripts of the nodes among themselves: who lives, and what each wants. KEYS[1] is `prefix:b{nodes}:` (keys.ts). */
import { script } from './script.js'

const nowMs = `
local base = KEYS[1]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)`

/**
 * ARGV: node, lease in ms, this node's channel, a mark that comes back on it, '1' to join. Answers 1 where the node was known
 * (its lease may have ended) or has joined, else 0; the nodes whose lease has ended; live nodes and the version of their interest
 * by turns.
 */
export const heartbeatScript = script(nowMs, `
local known = redis.call('ZSCORE', base .. 'live', ARGV[1])
if not known and ARGV[5] == '0' then return { 0, {}, {} } end
redis.call('ZADD', base .. 'live', now + ARGV[2], ARGV[1])
redis.call('PUBLISH', ARGV[3], ARGV[4])
local dead = redis.call('ZRANGEBYSCORE', base .. 'live', '-inf', now)
local live = redis.call('ZRANGEBYSCORE', base .. 'live', '(' .. now, '+inf')
local answer = {}
for i, node in ipairs(live) do
  answer[2 * i - 1] = node
  answer[2 * i] = redis.call('HGET', base .. 'v', node) or '0'
end
return { 1, dead, answer }`)

/**
 * ARGV: node, bus, prefix of the nodes' channels, '1' to begin anew, how many are added, added filters, removed ones. Answers the
 * version of the interest and the live nodes that hear of it: one whose connection is gone has died, or will load everything when
 * it is back. Answers nothing where the node is not known (the data was lost).
 */
export const announceScript = script(nowMs, `
local node, key = ARGV[1], base .. 'i:' .. ARGV[1]
if not redis.call('ZSCORE', base .. 'live', node) then return {} end
if ARGV[4] == '1' then redis.call('DEL', key) end
local added = tonumber(ARGV[5])
for i = 6, 5 + added do redis.call('HSET', key, ARGV[i], '1') end
for i = 6 + added, #ARGV do redis.call('HDEL', key, ARGV[i]) end
local version = redis.call('HINCRBY', base .. 'v', node, 1)
local change = { node, version, ARGV[4], added }
for i = 6, #ARGV do change[i - 1] = ARGV[i] end
redis.call('PUBLISH', ARGV[2], cjson.encode(change))
local hearing = {}
for _, each in ipairs(redis.call('ZRANGEBYSCORE', base .. 'live', '(' .. now, '+inf')) do
  if each ~= node and redis.call('PUBSUB', 'NUMSUB', ARGV[3] .. each)[2] > 0 then hearing[#hearing + 1] = each end
end
return { version, hearing }`)

/** ARGV: node. Answers version and filters. */
export const interestScript = script(`
return { redis.call('HGET', KEYS[1] .. 'v', ARGV[1]) or '0', redis.call('HKEYS', KEYS[1] .. 'i:' .. ARGV[1]) }`)

/** ARGV: node. It is gone. */
export const leaveScript = script(`
redis.call('ZREM', KEYS[1] .. 'live', ARGV[1])
redis.call('HDEL', KEYS[1] .. 'v', ARGV[1])
redis.call('DEL', KEYS[1] .. 'i:' .. ARGV[1])
return 1`)

export const nodeScripts = [heartbeatScript, announceScript, interestScript, leaveScript]
