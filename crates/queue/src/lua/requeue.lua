-- Puts tasks on the queue once more, if their job is still queued.
-- KEYS: the server's open jobs, then the queue's four lists.
-- ARGV: for each job its id, the mark, the list's number, the message.
local pushed = 0
for i = 1, #ARGV, 4 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('LPUSH', KEYS[1 + ARGV[i + 2]], ARGV[i + 3])
    pushed = pushed + 1
  end
end
return pushed
