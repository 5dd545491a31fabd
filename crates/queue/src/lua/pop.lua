-- Takes messages from the queue and leases them, in one step.
-- KEYS: unacked, unacked_index, then the lists to take from, in the order of their priority.
-- ARGV: what follows a message in `unacked`, then a delivery tag for each message wanted.
-- Gives the messages: the first has the first tag, and so on.
local messages, held, leased = {}, {}, {}
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
for k = 3, #KEYS do
  local want = #ARGV - 1 - #messages
  if want == 0 then break end
  for _, message in ipairs(redis.call('RPOP', KEYS[k], want) or {}) do
    local tag = ARGV[#messages + 2]
    messages[#messages + 1] = message
    held[#held + 1] = tag
    held[#held + 1] = '[' .. message .. ARGV[1]
    leased[#leased + 1] = now
    leased[#leased + 1] = tag
  end
end
if #messages > 0 then
  redis.call('HSET', KEYS[1], unpack(held))
  redis.call('ZADD', KEYS[2], unpack(leased))
end
return messages
