-- Puts a message back whose lease has run out: its holder died, which is counted.
-- KEYS: unacked, unacked_index, the takeovers, the list.
-- ARGV: delivery tag, seconds of a lease, task id, message, 1 or, if the task can't have run, 0.
-- Gives 'restored', 'kept' if the lease has been renewed or settled meanwhile, or 'alone' if the
-- task ran alone in its worker: then it is left for the caller to condemn.
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
local time = redis.call('TIME')
if not score or score + ARGV[2] > time[1] + time[2] / 1000000 then return 'kept' end
if redis.call('HGET', KEYS[3], ARGV[3]) == 'alone' then return 'alone' end
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 'kept' end
if ARGV[5] == '1' then redis.call('HINCRBY', KEYS[3], ARGV[3], 1) end
redis.call('RPUSH', KEYS[4], ARGV[4])
return 'restored'
