-- Makes events of results that their clients know already, unless the job's end has its event. They
-- say so, for what was told stands: another result of the same run gives way to it.
-- KEYS: the events, the server's open jobs.
-- ARGV: for each job its id, the mark, the event's kind and data.
for i = 1, #ARGV, 4 do
  local state = redis.call('HGET', KEYS[2], ARGV[i])
  if not state or state == ARGV[i + 1] then
    local entry = redis.call('XADD', KEYS[1], '*', 'event', ARGV[i + 2], 'data', ARGV[i + 3], 'told', '1')
    redis.call('HSET', KEYS[2], ARGV[i], entry)
  end
end
