-- Ends a task: the lease goes, and if its job is still queued, the event is made, the server is
-- told and the job is marked as ended. All of it or nothing, and safe to send again.
-- KEYS: 1 the server's open jobs   2 the events   3 unacked   4 unacked_index   5 the takeovers
--       6 the task's Celery result   7 the dead letters
--       8… what follows: lists of queues, Celery results of other tasks
-- ARGV: 1 job   2 the mark of a queued job   3 the event's kind   4 the event's data, or ''
--       5 the server's channel   6 the Celery result, or ''   7 seconds to keep it
--       8 a dead letter, or ''   9 how many dead letters to keep   10 task id
--       11… for each key that follows: LPUSH and a message, or SETEX and a Celery result
--       …then delivery tags
-- Gives the state in which the job was: the mark, the entry that had ended it, or '' if not open.
local follow = #KEYS - 7
local tags = 11 + 2 * follow
local held = redis.call('HDEL', KEYS[3], unpack(ARGV, tags))
redis.call('ZREM', KEYS[4], unpack(ARGV, tags))
redis.call('HDEL', KEYS[5], ARGV[10])
local state = ''
if ARGV[4] ~= '' then
  state = redis.call('HGET', KEYS[1], ARGV[1]) or ''
  if state == ARGV[2] then
    local entry = redis.call('XADD', KEYS[2], '*', 'event', ARGV[3], 'data', ARGV[4])
    redis.call('HSET', KEYS[1], ARGV[1], entry)
    redis.call('PUBLISH', ARGV[5], ARGV[4])
  end
end
if ARGV[6] ~= '' and (state == ARGV[2] or state == '') then
  redis.call('SETEX', KEYS[6], ARGV[7], ARGV[6])
  redis.call('PUBLISH', KEYS[6], ARGV[6])
end
if ARGV[8] ~= '' and held > 0 then
  redis.call('LPUSH', KEYS[7], ARGV[8])
  redis.call('LTRIM', KEYS[7], 0, ARGV[9] - 1)
end
-- If no server knows the job, then whoever holds the message is the one whose end counts.
if state == ARGV[2] or (state == '' and held > 0) then
  for i = 1, follow do
    local key, value = KEYS[7 + i], ARGV[10 + 2 * i]
    if ARGV[9 + 2 * i] == 'LPUSH' then
      redis.call('LPUSH', key, value)
    else
      redis.call('SETEX', key, ARGV[7], value)
      redis.call('PUBLISH', key, value)
    end
  end
end
return state
