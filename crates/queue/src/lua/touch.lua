-- Shows that a worker is alive, before it claims anything. KEYS: the claims. ARGV: worker.
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%d.%06d', time[1], time[2]), ARGV[1])
