/**
 * The scripts of the hot state. One hash a device: `m{metric}` a value (hot-values.ts), `c` the basis under which it was filled as a
 * whole, `o` it has more metrics than are kept, `e` the stamp below which values are erased. A script runs alone on one key,
 * so readers never see half of it, and it works on a Redis Cluster as well.
 */
import { createHash } from 'node:crypto'

export interface Script { readonly text: string, readonly sha1: string }

function script (text: string): Script {
  return { text, sha1: createHash('sha1').update(text).digest('hex') }
}

const instance = `string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')`

/**
 * ARGV: lifetime in ms, most metrics, basis ('' for a put), then field and value by turns.
 * A tie that stamp and journal do not decide is not decided: the device is not complete until it is filled again.
 */
export const mergeScript = script(`
local key, lifetime, most, basis = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
local fields = {}
for i = 4, #ARGV, 2 do fields[#fields + 1] = ARGV[i] end
local marks = redis.call('HMGET', key, 'e', 'c', 'o')
local erased = tonumber(marks[1] or '0')
local held = {}
if #fields > 0 then held = redis.call('HMGET', key, unpack(fields)) end
local count = false
local changes, doubtful, overflow = {}, false, false
local unknown = '----------------'
for i = 1, #fields do
  local given, present = ARGV[3 + 2 * i], held[i]
  local stamp = tonumber(string.sub(given, 17, 32))
  if stamp >= erased then
    local newer = false
    if not present then
      if not count then count = redis.call('HLEN', key) end
      if count < most then count = count + 1; newer = true else overflow = true end
    else
      local a, b = tonumber(string.sub(given, 1, 16)), tonumber(string.sub(present, 1, 16))
      if a == b then a, b = stamp, tonumber(string.sub(present, 17, 32)) end
      if a ~= b then newer = a > b
      elseif string.sub(given, 49) ~= string.sub(present, 49) then
        local ja, jb = string.sub(given, 33, 48), string.sub(present, 33, 48)
        if ja == unknown or jb == unknown or ja == jb then
          doubtful = true
          newer = ja == jb
        else newer = ja > jb end
      end
    end
    if newer then
      changes[#changes + 1] = fields[i]
      changes[#changes + 1] = given
    end
  end
end
if overflow then
  changes[#changes + 1] = 'o'
  changes[#changes + 1] = '1'
end
if doubtful then
  if marks[2] then redis.call('HDEL', key, 'c') end
elseif basis ~= '' and not overflow and not marks[3] and string.match(basis, '/(%w+)$') == ${instance} then
  changes[#changes + 1] = 'c'
  changes[#changes + 1] = basis
end
if #changes > 0 then redis.call('HSET', key, unpack(changes)) end
if #fields > 0 or #changes > 0 then redis.call('PEXPIRE', key, lifetime) end
return #changes
`)

/** All fields, and the instance of Redis that answers. */
export const readScript = script(`
return { redis.call('HGETALL', KEYS[1]), ${instance} }
`)

/** ARGV: lifetime in ms, stamp. */
export const forgetScript = script(`
local erased = math.max(tonumber(ARGV[2]), tonumber(redis.call('HGET', KEYS[1], 'e') or '0'))
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'e', string.format('%.0f', erased))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
`)
