-- Puts jobs of a server into Redis: the event, the mark and the task, all three or none.
-- A job that is open already is left alone, so sending the same again changes nothing; unless its
-- mark is the one that may be replaced, that of an earlier run which has ended.
-- KEYS: the events, the server's open jobs, then the queue's four lists.
-- ARGV: for each job its id, the mark, the mark that may be replaced or '', the event's data, the
--       list's number, the message.
for i = 1, #ARGV, 6 do
  local mark = redis.call('HGET', KEYS[2], ARGV[i])
  if not mark or mark == ARGV[i + 2] then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    redis.call('XADD', KEYS[1], '*', 'event', 'accepted', 'data', ARGV[i + 3])
    redis.call('LPUSH', KEYS[2 + ARGV[i + 4]], ARGV[i + 5])
  end
end
