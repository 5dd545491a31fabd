-- Puts a message back on its list, if its lease is still there: whoever removes the lease does it.
-- KEYS: unacked, unacked_index, the takeovers, the list.
-- ARGV: RPUSH (unfinished, to be the next) or LPUSH (tried in vain, to be tried again), message,
--       task id, delivery tags.
if redis.call('HDEL', KEYS[1], unpack(ARGV, 4)) == 0 then return 0 end
redis.call('ZREM', KEYS[2], unpack(ARGV, 4))
redis.call(ARGV[1], KEYS[4], ARGV[2])
if ARGV[1] == 'LPUSH' then
  -- Its worker has lived to say so.
  redis.call('HDEL', KEYS[3], ARGV[3])
elseif redis.call('HGET', KEYS[3], ARGV[3]) == 'alone' then
  -- It killed nobody this time: it still has its last chance.
  redis.call('HSET', KEYS[3], ARGV[3], 2)
end
return 1
