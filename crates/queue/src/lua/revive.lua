-- Puts the message of a dead letter on the queue once more, if it still is one.
-- KEYS: the dead letters, the takeovers, the list, the open jobs of the server that sent it.
-- ARGV: the letter, task id, message, job or '', the mark of the job's next run.
-- Gives 'queued', 'gone', or 'open' if the end of its job is not in the database yet.
if ARGV[4] ~= '' and redis.call('HEXISTS', KEYS[4], ARGV[4]) == 1 then return 'open' end
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 'gone' end
redis.call('HDEL', KEYS[2], ARGV[2])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[4], ARGV[4], ARGV[5]) end
redis.call('LPUSH', KEYS[3], ARGV[3])
return 'queued'
