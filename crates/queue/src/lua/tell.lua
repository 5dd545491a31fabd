-- Makes the event of jobs that were sent without it and have not ended since.
-- KEYS: the events, the server's open jobs.
-- ARGV: for each job its id, the mark, the event's data.
for i = 1, #ARGV, 3 do
  if redis.call('HGET', KEYS[2], ARGV[i]) == ARGV[i + 1] then
    redis.call('XADD', KEYS[1], '*', 'event', 'accepted', 'data', ARGV[i + 2])
  end
end
