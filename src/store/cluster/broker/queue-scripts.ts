/**
 * Scripts of the queues of QoS 1 and 2 messages, and of retained messages. A publish is one script: it is matched, queued for
 * each session and sent to the nodes in one step, so that the order of a session's queue is the order in which nodes hear of it.
 * KEYS[1] is the tenant's base (keys.ts).
 */
import { script } from './script.js'
import { shared } from './session-scripts.js'

/** Sessions that one script queues a message for; the rest follows in further scripts, so that others get their turn. */
export const sessionsPerScriptMax = 1000

const match = `
local function match (topic, each)
  local levels = {}
  for level in string.gmatch(topic .. '/', '([^/]*)/') do levels[#levels + 1] = level end
  local function collect (filter)
    local found = redis.call('HGETALL', base .. 'l:' .. filter)
    for i = 1, #found, 2 do each(found[i], found[i + 1], filter) end
  end
  local here = { levels[1] }
  if redis.call('HEXISTS', base .. 't', levels[1]) == 0 then return end
  for depth = 1, #levels do
    local next, ask, whole = levels[depth + 1], {}, {}
    for _, prefix in ipairs(here) do
      ask[#ask + 1] = prefix .. '/#'
      if next then
        ask[#ask + 1] = prefix .. '/+'
        if next ~= '+' and next ~= '#' then ask[#ask + 1] = prefix .. '/' .. next end
      else whole[#whole + 1] = prefix end
    end
    local below = {}
    for from = 1, #ask, 900 do
      local there = redis.call('HMGET', base .. 't', unpack(ask, from, math.min(#ask, from + 899)))
      for i, known in ipairs(there) do
        local prefix = ask[from + i - 1]
        if known then
          if string.sub(prefix, -2) == '/#' then collect(prefix) else below[#below + 1] = prefix end
        end
      end
    end
    for _, filter in ipairs(whole) do collect(filter) end
    if #below == 0 then break end
    here = below
  end
end`

/** ARGV: topic. Answers client, filter and options by turns. */
export const matchScript = script(shared, match, `
local answer, n = {}, 0
match(ARGV[1], function (client, option, filter)
  answer[n + 1], answer[n + 2], answer[n + 3] = client, filter, option
  n = n + 3
end)
return answer`)

/**
 * ARGV: topic, QoS, retain (0, 1), identity, packet, 4 limits (entries and bytes of a session, of the tenant), most sessions, this
 * node, prefix of the nodes' channels, number ('' for a new one), '1' where the packet is to be sent to the nodes now,
 * how many nodes follow, nodes, then client and options by turns ('' in place of the first: those that match).
 * Answers number, kind and client by turns of what was refused, and client and options of those that are still to be queued for.
 */
export const enqueueScript = script(shared, match, `
local topic, qos, retain, identity, packet = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local sessionMax, sessionBytesMax, tenantMax, tenantBytesMax, sessionsMax = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local self, channels, number, send, nodeCount = ARGV[11], ARGV[12], ARGV[13], ARGV[14], tonumber(ARGV[15])
local nodes = {}
for i = 16, 15 + nodeCount do nodes[ARGV[i]] = true end
local clients, options = {}, {}
-- overlapping filters: one message, at the greatest QoS of them
local function receiver (client, option)
  if not options[client] then
    clients[#clients + 1] = client
    options[client] = option
  elseif string.sub(option, 1, 1) > string.sub(options[client], 1, 1) then options[client] = option end
end
if #ARGV == 15 + nodeCount then match(topic, receiver) else
  for i = 16 + nodeCount, #ARGV, 2 do receiver(ARGV[i], ARGV[i + 1]) end
end
local refused, rest = {}, {}
if #clients > 0 and number == '' then
  local last, t = tonumber(redis.call('GET', base .. 'n') or '0'), redis.call('TIME')
  number = string.format('%.0f', math.max(last + 1, t[1] * 1000000 + t[2]))
  redis.call('SET', base .. 'n', number)
end
local size, added = #packet, 0
local stored, tenantQueued, tenantBytes = false, 0, 0
if #clients > 0 then
  stored = redis.call('HEXISTS', base .. 'm', number) == 1
  tenantQueued, tenantBytes = held('queued'), held('queuedBytes')
end
for i, client in ipairs(clients) do
  local option = options[client]
  if i > ${sessionsPerScriptMax} then
    rest[#rest + 1] = client
    rest[#rest + 1] = option
  else
    local kind
    local key, queue = base .. 's:' .. client, base .. 'q:' .. client
    if not obtain(client, '', '', sessionsMax) then kind = 'sessions' else
      local session = redis.call('HMGET', key, 'node', 'q', 'qb')
      if session[1] ~= '' then nodes[session[1]] = true end
      local storedBytes = (stored or added > 0) and 0 or size
      if tenantQueued + added >= tenantMax or tenantBytes + storedBytes > tenantBytesMax then kind = 'queued_tenant'
      elseif tonumber(session[2]) >= sessionMax then kind = 'queued'
      elseif tonumber(session[3]) + size > sessionBytesMax then kind = 'queued_bytes'
      else
        local granted = string.sub(option, 1, 1)
        if granted > qos then granted = qos end
        local kept = (retain == '1' and string.sub(option, 2, 2) == 'r') and '1' or '0'
        if redis.call('HSETNX', queue, 'm' .. identity, number .. '|' .. size .. '|' .. granted .. '|' .. kept .. '|0|p') == 1 then
          redis.call('HINCRBY', key, 'q', 1)
          redis.call('HINCRBY', key, 'qb', size)
          added = added + 1
        end
      end
    end
    if kind then
      refused[#refused + 1] = kind
      refused[#refused + 1] = client
    end
  end
end
if added > 0 then
  count('queued', added)
  if stored then
    if redis.call('HEXISTS', base .. 'r', number) == 0 then redis.call('HSET', base .. 'r', number, 1) end
    redis.call('HINCRBY', base .. 'r', number, added)
  else
    redis.call('HSET', base .. 'm', number, packet)
    count('queuedBytes', size)
    if added > 1 then redis.call('HSET', base .. 'r', number, added) end
  end
end
local heard = {}
if #rest == 0 and send == '1' then
  local message = 'p' .. string.format('%016d', tonumber(number ~= '' and number or '0')) .. packet
  for node in pairs(nodes) do
    if node ~= self then redis.call('PUBLISH', channels .. node, message) end
  end
elseif #rest > 0 then
  for node in pairs(nodes) do heard[#heard + 1] = node end
end
return { number, refused, rest, heard }`)

/** ARGV: client, connection, identity, packet id, QoS. Answers the packet id to send it under: 0 not queued, -1 the client is elsewhere. */
export const sendingScript = script(shared, `
local client, queue = ARGV[1], base .. 'q:' .. ARGV[1]
local conn = redis.call('HGET', base .. 's:' .. client, 'conn')
if not conn then return 0 end
if conn ~= ARGV[2] then return -1 end
local entry = redis.call('HGET', queue, 'm' .. ARGV[3])
if not entry then return 0 end
local number, size, qos, retain, id, state = parse(entry)
if state ~= 'p' then return tonumber(id) end
if id == ARGV[4] and qos == ARGV[5] then return tonumber(id) end
local free = tonumber(ARGV[4])
local user = redis.call('HGET', queue, 'i' .. free)
while user and user ~= ARGV[3] do
  free = free % 65535 + 1
  user = redis.call('HGET', queue, 'i' .. free)
end
if id ~= '0' and tonumber(id) ~= free then redis.call('HDEL', queue, 'i' .. id) end
redis.call('HSET', queue, 'm' .. ARGV[3], number .. '|' .. size .. '|' .. ARGV[5] .. '|' .. retain .. '|' .. free .. '|p', 'i' .. free, ARGV[3])
return free`)

/** ARGV: client, packet id, identity ('' unless known). The subscriber has the message, its PUBREL is owed. Answers 0 where there is none. */
export const pubrelScript = script(shared, `
local queue = base .. 'q:' .. ARGV[1]
local identity = ARGV[3] ~= '' and ARGV[3] or redis.call('HGET', queue, 'i' .. ARGV[2])
local entry = identity and redis.call('HGET', queue, 'm' .. identity)
if not entry then return 0 end
local number, size, qos, retain, id, state = parse(entry)
if state ~= 'p' then return 1 end
if id ~= ARGV[2] then redis.call('HDEL', queue, 'i' .. id) end
letGo(number, tonumber(size))
redis.call('HINCRBY', base .. 's:' .. ARGV[1], 'qb', -size)
redis.call('HSET', queue, 'm' .. identity, number .. '|0|' .. qos .. '|' .. retain .. '|' .. ARGV[2] .. '|r', 'i' .. ARGV[2], identity)
return 1`)

/** ARGV: client, packet id, identity ('' to go by packet id). Answers identity, entry and packet of what is gone; nothing where there was none. */
export const clearScript = script(shared, `
local queue, identity = base .. 'q:' .. ARGV[1], ARGV[3]
if identity == '' then identity = redis.call('HGET', queue, 'i' .. ARGV[2]) end
if not identity then return {} end
local entry = redis.call('HGET', queue, 'm' .. identity)
if not entry then return {} end
local number, size, qos, retain, id, state = parse(entry)
local packet = ''
redis.call('HDEL', queue, 'm' .. identity, 'i' .. id)
redis.call('HINCRBY', base .. 's:' .. ARGV[1], 'q', -1)
count('queued', -1)
if state == 'p' then
  packet = redis.call('HGET', base .. 'm', number) or ''
  redis.call('HINCRBY', base .. 's:' .. ARGV[1], 'qb', -size)
  letGo(number, tonumber(size))
end
discardEmpty(ARGV[1])
return { identity, entry, packet }`)

/** ARGV: client, number. Answers the last number given out, then identity and entry by turns of what was queued after that number. */
export const readQueueScript = script(shared, `
local queue, after = redis.call('HGETALL', base .. 'q:' .. ARGV[1]), tonumber(ARGV[2])
local answer = { redis.call('GET', base .. 'n') or '0' }
for i = 1, #queue, 2 do
  if string.sub(queue[i], 1, 1) == 'm' then
    local number = parse(queue[i + 1])
    if tonumber(number) > after then
      answer[#answer + 1] = string.sub(queue[i], 2)
      answer[#answer + 1] = queue[i + 1]
    end
  end
end
return answer`)

/** ARGV: topic, packet ('' to remove), most of the tenant, most bytes of the tenant. Answers '' or the limit that it met: nothing is retained then. */
export const retainScript = script(shared, `
local topic, packet = ARGV[1], ARGV[2]
local before = redis.call('HSTRLEN', base .. 'h', topic)
local beforeBytes = before > 0 and before + #topic or 0
local refused = ''
if packet ~= '' then
  if before == 0 and held('retained') >= tonumber(ARGV[3]) then refused = 'retained'
  elseif held('retainedBytes') - beforeBytes + #topic + #packet > tonumber(ARGV[4]) then refused = 'retained_bytes' end
end
if packet == '' or refused ~= '' then
  if before > 0 then
    redis.call('HDEL', base .. 'h', topic)
    redis.call('ZREM', base .. 'x', topic)
    count('retained', -1)
    count('retainedBytes', -beforeBytes)
  end
  return refused
end
redis.call('HSET', base .. 'h', topic, packet)
if before == 0 then
  redis.call('ZADD', base .. 'x', 0, topic)
  count('retained', 1)
end
count('retainedBytes', #topic + #packet - beforeBytes)
return ''`)

export const queueScripts = [matchScript, enqueueScript, sendingScript, pubrelScript, clearScript, readQueueScript, retainScript]
