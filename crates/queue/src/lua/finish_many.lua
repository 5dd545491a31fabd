-- Ends several tasks of one server's jobs as the finishing script ends one: only what is ordinary, a
-- task that is held under one tag, with an event, and with nothing that follows. Safe to send again.
-- KEYS: 1 the server's open jobs   2 the events   3 unacked   4 unacked_index   5 the takeovers
--       6… the tasks' Celery results
-- ARGV: 1 the server's channel   2 seconds to keep Celery's results
--       3… the jobs, each once; their delivery tags; their tasks' ids
--       …then for each the mark of a queued job, the event's kind, its data, the Celery result or ''
-- Gives the states in which the jobs were, as the finishing script does.
local n = #KEYS - 5
local jobs, tags, tasks, rest = 3, 3 + n, 3 + 2 * n, 3 + 3 * n
redis.call('HDEL', KEYS[3], unpack(ARGV, tags, tasks - 1))
redis.call('ZREM', KEYS[4], unpack(ARGV, tags, tasks - 1))
redis.call('HDEL', KEYS[5], unpack(ARGV, tasks, rest - 1))
local states = redis.call('HMGET', KEYS[1], unpack(ARGV, jobs, tags - 1))
local marks, events = {}, {}
for i = 1, n do
  local at = rest + 4 * (i - 1)
  local state = states[i] or ''
  states[i] = state
  if state == ARGV[at] then
    local entry = redis.call('XADD', KEYS[2], '*', 'event', ARGV[at + 1], 'data', ARGV[at + 2])
    marks[#marks + 1] = ARGV[jobs + i - 1]
    marks[#marks + 1] = entry
    events[#events + 1] = ARGV[at + 2]
  end
end
if #marks > 0 then
  redis.call('HSET', KEYS[1], unpack(marks))
  redis.call('PUBLISH', ARGV[1], table.concat(events, '\n'))
end
for i = 1, n do
  local at = rest + 4 * (i - 1)
  if ARGV[at + 3] ~= '' and (states[i] == ARGV[at] or states[i] == '') then
    redis.call('SETEX', KEYS[5 + i], ARGV[2], ARGV[at + 3])
    redis.call('PUBLISH', KEYS[5 + i], ARGV[at + 3])
  end
end
return states
