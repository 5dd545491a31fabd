-- Puts jobs of a server into Redis: the event, the mark and the task, all three or none; or without the
-- event, which then comes later.
-- A job that is open already is left alone, so sending the same again changes nothing; unless its
-- mark is the one that may be replaced, that of an earlier run which has ended.
-- KEYS: the events, the server's open jobs, then the queue's four lists.
-- ARGV: for each job its id, the mark, the mark that may be replaced or '', the event's data or '',
--       the list's number, the message.
local jobs, marks, lists = {}, {}, {{}, {}, {}, {}}
for i = 1, #ARGV, 6 do
  jobs[#jobs + 1] = ARGV[i]
end
for k, mark in ipairs(redis.call('HMGET', KEYS[2], unpack(jobs))) do
  local i = 6 * k - 5
  if not mark or mark == ARGV[i + 2] then
    marks[#marks + 1] = ARGV[i]
    marks[#marks + 1] = ARGV[i + 1]
    if ARGV[i + 3] ~= '' then
      redis.call('XADD', KEYS[1], '*', 'event', 'accepted', 'data', ARGV[i + 3])
    end
    local list = lists[tonumber(ARGV[i + 4])]
    list[#list + 1] = ARGV[i + 5]
  end
end
if #marks > 0 then
  redis.call('HSET', KEYS[2], unpack(marks))
end
for k, messages in ipairs(lists) do
  if #messages > 0 then
    redis.call('LPUSH', KEYS[2 + k], unpack(messages))
  end
end
