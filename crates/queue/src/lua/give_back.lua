-- Puts a message back on its list, if its lease is still there: whoever removes the lease does it.
-- KEYS: unacked, unacked_index, the takeovers, the list.
-- ARGV: LPUSH (to wait its turn) or RPUSH (to be the next), message, task id, delivery tags.
if redis.call('HDEL', KEYS[1], unpack(ARGV, 4)) == 0 then return 0 end
redis.call('ZREM', KEYS[2], unpack(ARGV, 4))
redis.call(ARGV[1], KEYS[4], ARGV[2])
-- It was given back, so it killed nobody: it still has its last chance.
if redis.call('HGET', KEYS[3], ARGV[3]) == 'alone' then
  redis.call('HSET', KEYS[3], ARGV[3], 2)
end
return 1
