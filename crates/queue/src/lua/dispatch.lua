-- Puts jobs of a server into Redis: the event, the mark and the task, all three or none.
-- A job that is open already is left alone, so sending the same again changes nothing.
-- KEYS: the events, the server's open jobs, then the queue's four lists.
-- ARGV: for each job its id, the mark, the event's data, the list's number, the message.
for i = 1, #ARGV, 5 do
  if redis.call('HSETNX', KEYS[2], ARGV[i], ARGV[i + 1]) == 1 then
    redis.call('XADD', KEYS[1], '*', 'event', 'accepted', 'data', ARGV[i + 2])
    redis.call('LPUSH', KEYS[2 + ARGV[i + 3]], ARGV[i + 4])
  end
end
