-- Add or move timers. Arming an id again moves it; there is never a second one.
-- KEYS due, data, wake   ARGV horizon_us, then (due, id, value) for each
-- due: microseconds of this server's clock, or '+n': n microseconds from now
-- Returns how many of the ids were not there before.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local scores, values, first, n = {}, {}, nil, 0
for i = 2, #ARGV, 3 do
  local due = tonumber(ARGV[i])
  if string.byte(ARGV[i]) == 43 then due = due + now end
  if not first or due < first then first = due end
  local id = ARGV[i + 1]
  scores[n + 1], scores[n + 2] = due, id
  values[n + 1], values[n + 2] = id, ARGV[i + 2]
  n = n + 2
end
local added = redis.call('ZADD', KEYS[1], unpack(scores))
redis.call('HSET', KEYS[2], unpack(values))
-- Sleepers look by themselves at least once per horizon: only an earlier head within it needs a wake-up.
if first < now + ARGV[1] and (not head or first < tonumber(head)) then
  redis.call('XADD', KEYS[3], 'MAXLEN', 1, '*', 'w', 'arm')
end
return added
