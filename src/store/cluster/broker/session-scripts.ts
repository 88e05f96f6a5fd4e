/**
 * Scripts that change sessions: who holds a client, its subscriptions and the tree they are matched in, its end. A script is
 * atomic, so a publish either finds a subscription whole or not at all. KEYS[1] is the tenant's base (keys.ts).
 */
import { script } from './script.js'

/** What several scripts use. */
export const shared = `
local base = KEYS[1]
local function nowMs ()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function count (what, by)
  if by ~= 0 then redis.call('HINCRBY', base .. 'c', what, by) end
end
local function held (what) return tonumber(redis.call('HGET', base .. 'c', what) or '0') end
local function grow (filter, by)
  local from = 1
  repeat
    local slash = string.find(filter, '/', from, true)
    local prefix = slash and string.sub(filter, 1, slash - 1) or filter
    if redis.call('HINCRBY', base .. 't', prefix, by) <= 0 then redis.call('HDEL', base .. 't', prefix) end
    from = slash and slash + 1
  until not from
end
local function leave (client, filter)
  if redis.call('HDEL', base .. 'l:' .. filter, client) == 1 then grow(filter, -1) end
end
-- number, size, qos, retain, packet id, state
local function parse (entry) return string.match(entry, '^(%d+)|(%d+)|(%d)|(%d)|(%d+)|(%a)$') end
local function letGo (number, size)
  local references = tonumber(redis.call('HGET', base .. 'r', number) or '1')
  if references > 2 then redis.call('HINCRBY', base .. 'r', number, -1) else redis.call('HDEL', base .. 'r', number) end
  if references > 1 then return end
  redis.call('HDEL', base .. 'm', number)
  count('queuedBytes', -size)
end
-- true where the session is there; made where the tenant may have another
local function obtain (client, node, conn, most)
  local key = base .. 's:' .. client
  if redis.call('EXISTS', key) == 1 then return true end
  if held('sessions') >= most then return false end
  count('sessions', 1)
  redis.call('HSET', key, 'node', node, 'conn', conn, 'q', 0, 'qb', 0)
  redis.call('ZADD', base .. 'z', nowMs(), client)
  return true
end
local function discard (client)
  local key = base .. 's:' .. client
  local filters = redis.call('HGETALL', base .. 'f:' .. client)
  for i = 1, #filters, 2 do
    if string.sub(filters[i + 1], 1, 1) ~= '0' then leave(client, filters[i]) end
  end
  count('subscriptions', -#filters / 2)
  local queue = redis.call('HGETALL', base .. 'q:' .. client)
  local queued = 0
  for i = 1, #queue, 2 do
    if string.sub(queue[i], 1, 1) == 'm' then
      local number, size, _, _, _, state = parse(queue[i + 1])
      queued = queued + 1
      if state == 'p' then letGo(number, tonumber(size)) end
    end
  end
  count('queued', -queued)
  count('incoming', -redis.call('ZCARD', base .. 'y:' .. client))
  if redis.call('DEL', key) == 1 then count('sessions', -1) end
  redis.call('DEL', base .. 'f:' .. client, base .. 'q:' .. client, base .. 'p:' .. client, base .. 'y:' .. client)
  redis.call('ZREM', base .. 'z', client)
end
local function discardEmpty (client)
  local key = base .. 's:' .. client
  local session = redis.call('HMGET', key, 'node', 'q')
  if session[1] ~= '' or session[2] ~= '0' then return end
  if redis.call('EXISTS', base .. 'f:' .. client, base .. 'y:' .. client) == 0 then discard(client) end
end`

/**
 * ARGV: client, node, connection, '1' where it is a clean one, since (ms; '' for now: a new connection), Answers the owner before
 * ('' for none) and '1' where the claim holds: one that is repeated after an outage gives way to a newer connection.
 */
export const claimScript = script(shared, `
local client, node, conn, clean, since = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local before = redis.call('HGET', base .. 'o', client) or ''
local beforeNode, beforeSince = string.match(before, '^([^|]*)|[^|]*|(%d+)$')
if since ~= '' and beforeNode and beforeNode ~= node and tonumber(beforeSince) > tonumber(since) then return { before, 0 } end
if since == '' then since = string.format('%.0f', nowMs()) end
redis.call('HSET', base .. 'o', client, node .. '|' .. conn .. '|' .. since)
local key = base .. 's:' .. client
if clean == '1' then
  discard(client)
elseif redis.call('EXISTS', key) == 1 then
  redis.call('HSET', key, 'node', node, 'conn', conn)
  redis.call('ZADD', base .. 'z', nowMs(), client)
end
return { before, 1 }`)

/** ARGV: client, node, connection. Only where that connection holds the client. */
export const releaseScript = script(shared, `
local client, owner = ARGV[1], ARGV[2] .. '|' .. ARGV[3] .. '|'
local present = redis.call('HGET', base .. 'o', client)
if present and string.sub(present, 1, #owner) == owner then redis.call('HDEL', base .. 'o', client) end
local key = base .. 's:' .. client
local session = redis.call('HMGET', key, 'node', 'conn')
if session[1] ~= ARGV[2] or session[2] ~= ARGV[3] then return 0 end
redis.call('HSET', key, 'node', '', 'conn', '')
redis.call('ZADD', base .. 'z', nowMs(), client)
discardEmpty(client)
return 1`)

/** ARGV: clients that are connected now. */
export const seenScript = script(shared, `
local now = nowMs()
for i = 1, #ARGV do redis.call('ZADD', base .. 'z', 'XX', now, ARGV[i]) end
return 1`)

/** ARGV: client, node, connection, most sessions, most filters, then filter and options by turns. Answers -1, or how many filters were refused. */
export const subscribeScript = script(shared, `
local client, most = ARGV[1], tonumber(ARGV[5])
if not obtain(client, ARGV[2], ARGV[3], tonumber(ARGV[4])) then return -1 end
local filters, refused = base .. 'f:' .. client, 0
for i = 6, #ARGV, 2 do
  local filter, options = ARGV[i], ARGV[i + 1]
  local before = redis.call('HGET', filters, filter)
  if not before and redis.call('HLEN', filters) >= most then
    refused = refused + 1
  else
    if not before then count('subscriptions', 1) end
    redis.call('HSET', filters, filter, options)
    if string.sub(options, 1, 1) == '0' then leave(client, filter)
    elseif redis.call('HSET', base .. 'l:' .. filter, client, options) == 1 then grow(filter, 1) end
  end
end
return refused`)

/** ARGV: client, filters. */
export const unsubscribeScript = script(shared, `
local client = ARGV[1]
for i = 2, #ARGV do
  if redis.call('HDEL', base .. 'f:' .. client, ARGV[i]) == 1 then
    count('subscriptions', -1)
    leave(client, ARGV[i])
  end
end
if redis.call('EXISTS', base .. 's:' .. client) == 1 then discardEmpty(client) end
return 1`)

/** ARGV: client. */
export const discardScript = script(shared, 'discard(ARGV[1]) return 1')

/**
 * ARGV: seen before (ms), seen before for those that a node holds, most, live nodes. Ends sessions that were last seen earlier;
 * answers how many were looked at and how many ended. What a live node holds is marked as seen now.
 */
export const expireScript = script(shared, `
local live = {}
for i = 4, #ARGV do live[ARGV[i]] = true end
local now = nowMs()
local old = redis.call('ZRANGEBYSCORE', base .. 'z', '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local ended = 0
for i = 1, #old, 2 do
  local node = redis.call('HGET', base .. 's:' .. old[i], 'node')
  if node and node ~= '' and (live[node] or tonumber(old[i + 1]) > tonumber(ARGV[2])) then
    if live[node] then redis.call('ZADD', base .. 'z', now, old[i]) end
  else
    discard(old[i])
    ended = ended + 1
  end
end
return { #old / 2, ended }`)

/** ARGV: client, packet id, packet, most of a client, most of the tenant, most sessions, node, connection. Answers 1, or 0 where it is not remembered. */
export const incomingScript = script(shared, `
local client, id = ARGV[1], ARGV[2]
local packets, order = base .. 'p:' .. client, base .. 'y:' .. client
local answer = 1
if redis.call('HEXISTS', packets, id) == 0 then
  local mine = redis.call('ZCARD', order)
  if mine >= tonumber(ARGV[4]) then
    local oldest = redis.call('ZPOPMIN', order)
    redis.call('HDEL', packets, oldest[1])
    count('incoming', -1)
    answer = 2
  elseif held('incoming') >= tonumber(ARGV[5]) then return 0 end
  if not obtain(client, ARGV[7], ARGV[8], tonumber(ARGV[6])) then return 0 end
  local last = redis.call('ZRANGE', order, -1, -1, 'WITHSCORES')
  redis.call('ZADD', order, (tonumber(last[2]) or 0) + 1, id)
  count('incoming', 1)
end
redis.call('HSET', packets, id, ARGV[3])
return answer`)

/** ARGV: client, packet id ('' for all). Answers how many went. */
export const incomingDeleteScript = script(shared, `
local packets, order = base .. 'p:' .. ARGV[1], base .. 'y:' .. ARGV[1]
local gone
if ARGV[2] == '' then
  gone = redis.call('ZCARD', order)
  redis.call('DEL', packets, order)
else
  gone = redis.call('HDEL', packets, ARGV[2])
  redis.call('ZREM', order, ARGV[2])
end
count('incoming', -gone)
return gone`)

/** ARGV: node, client, will ('' to remove), most of the tenant. Answers the will before, and 0 where there is no room. */
export const willScript = script(shared, `
local key, client = base .. 'w:' .. ARGV[1], ARGV[2]
local before = redis.call('HGET', key, client)
if ARGV[3] == '' then
  if before then
    redis.call('HDEL', key, client)
    count('wills', -1)
  end
  return { before or '', 1 }
end
if not before then
  if held('wills') >= tonumber(ARGV[4]) then return { '', 0 } end
  count('wills', 1)
end
redis.call('HSET', key, client, ARGV[3])
return { before or '', 1 }`)

export const sessionScripts = [
  claimScript, releaseScript, seenScript, subscribeScript, unsubscribeScript, discardScript, expireScript, incomingScript, incomingDeleteScript, willScript
]
