-- Ends a job that is still queued; gives the state in which it was.
-- KEYS: the server's open jobs, the events, the task's Celery result.
-- ARGV: job, mark, the event's data, the server's channel, the Celery result or '', seconds to
--       keep it.
local state = redis.call('HGET', KEYS[1], ARGV[1])
if state == ARGV[2] then
  local entry = redis.call('XADD', KEYS[2], '*', 'event', 'failed', 'data', ARGV[3])
  redis.call('HSET', KEYS[1], ARGV[1], entry)
  redis.call('PUBLISH', ARGV[4], ARGV[3])
  if ARGV[5] ~= '' then
    redis.call('SETEX', KEYS[3], ARGV[6], ARGV[5])
    redis.call('PUBLISH', KEYS[3], ARGV[5])
  end
end
return state
