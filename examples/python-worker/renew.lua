-- Renews leases; those that are gone stay gone.
-- KEYS: unacked_index. ARGV: delivery tags.
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
for _, tag in ipairs(ARGV) do
  redis.call('ZADD', KEYS[1], 'XX', now, tag)
end
