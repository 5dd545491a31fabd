-- Releases the mutex, if it is still ours. KEYS: the mutex. ARGV: its value.
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
