-- Put dead letters back to work.   KEYS dead, then a stream per priority   ARGV letters, then (dead id, letter, data) for each
-- Returns how many were still there.
local stream = {}
for i = 1, #ARGV[1] do stream[string.sub(ARGV[1], i, i)] = KEYS[1 + i] end
local moved = 0
-- A full server refuses a script whose first write takes memory: begin with one that takes none.
redis.call('XDEL', KEYS[1], '0-1')
for i = 2, #ARGV, 3 do
  if redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1] then
    -- In this order: a stream may refuse it (another program wrote to its key).
    redis.call('XADD', stream[ARGV[i + 1]] or KEYS[#KEYS], '*', 'd', ARGV[i + 2])
    redis.call('XDEL', KEYS[1], ARGV[i])
    moved = moved + 1
  end
end
return moved
