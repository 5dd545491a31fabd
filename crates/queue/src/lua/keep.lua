-- Keeps an analysis, and drops the oldest beyond so many.
-- KEYS: the analyses, their order. ARGV: the image, the analysis, how many are kept.
if redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) == 1 then
  redis.call('LPUSH', KEYS[2], ARGV[1])
end
-- Not all at once if many fewer are to be kept than before: others wait for Redis.
for _ = 1, 100 do
  if redis.call('LLEN', KEYS[2]) <= tonumber(ARGV[3]) then break end
  redis.call('HDEL', KEYS[1], redis.call('RPOP', KEYS[2]))
end
