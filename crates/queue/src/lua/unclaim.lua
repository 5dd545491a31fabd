-- Puts back what a worker has claimed and not leased, each to be the next on the list it was on.
-- KEYS: pairs of a claim list and the list that it is put back on. Gives how many messages.
local moved = 0
for i = 1, #KEYS, 2 do
  while redis.call('LMOVE', KEYS[i], KEYS[i + 1], 'LEFT', 'RIGHT') do moved = moved + 1 end
end
return moved
