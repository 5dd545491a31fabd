-- Shows that a worker is alive, and looks for what dead workers have left.
-- KEYS: unacked, unacked_index, the lock, the claims, when it was looked last.
-- ARGV: worker, seconds of a lease, the lock's value, its milliseconds, a pattern that ends the
--       queue's entries in `unacked`, how many to give at most.
-- Gives the workers whose claims are stale, and tag after entry of leases that have run out; if
-- there are any, the lock is taken.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local function stamp(seconds) return string.format('%.6f', seconds) end
local lease = tonumber(ARGV[2])

redis.call('ZADD', KEYS[4], stamp(now), ARGV[1])
local stale = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', stamp(now - lease))

-- If nobody has been here for a whole lease, then Redis itself was away, or its clock has been
-- set: the living need time to renew what they hold.
local last = tonumber(redis.call('HGET', KEYS[5], 'at') or now)
local grace = tonumber(redis.call('HGET', KEYS[5], 'grace') or 0)
if now - last > lease or last > now or grace > now + lease then
  grace = now + lease / 2
end
redis.call('HSET', KEYS[5], 'at', stamp(now), 'grace', stamp(grace))
if now < grace then return {stale, {}} end

if not redis.call('SET', KEYS[3], ARGV[3], 'NX', 'PX', ARGV[4]) then return {stale, {}} end

-- A lease that begins in the future was written by a clock that is fast: it begins now.
for _, tag in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. stamp(now), '+inf', 'LIMIT', 0, 100)) do
  local entry = redis.call('HGET', KEYS[1], tag)
  if entry and string.find(entry, ARGV[5]) then redis.call('ZADD', KEYS[2], 'XX', stamp(now), tag) end
end

local lost, offset = {}, 0
repeat
  local page = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', stamp(now - lease), 'LIMIT', offset, 100)
  for _, tag in ipairs(page) do
    local entry = redis.call('HGET', KEYS[1], tag)
    if not entry then
      redis.call('ZREM', KEYS[2], tag)
    else
      offset = offset + 1
      -- `unacked` is shared by all queues of this database; others' are not ours to restore.
      if string.find(entry, ARGV[5]) then
        lost[#lost + 1] = tag
        lost[#lost + 1] = entry
      end
    end
  end
until #page < 100 or #lost >= 2 * ARGV[6] or offset >= 10000
if #lost == 0 then redis.call('DEL', KEYS[3]) end
return {stale, lost}
