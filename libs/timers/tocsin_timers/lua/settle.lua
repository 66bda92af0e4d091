-- End deliveries: done, to be tried again later, or dead. Each is one step, so nothing is both retried and kept.
-- KEYS due, data, wake, dead, stats, then a stream per priority
-- ARGV letters, group, horizon_us, most dead, then for each stream in order: n, and n entry ids that are done,
--   then (verdict, letter, entry id, a, b, c) for each of the others
--   'retry': delay_us, timer id, value     'bury': data, reason, timer id
-- An entry that is no longer there was settled before (a repeated call, or another worker): it changes nothing.
-- It is taken away once what is to be left of it is there: that may be refused (another program wrote to the key), and the call is
-- repeated then. Figures that cannot be counted hold up nothing.
local stream = {}
local group, at, count = ARGV[2], 5, {completed = 0, failed = 0, dead = 0, forgotten = 0}
for i = 1, #ARGV[1] do
  local key = KEYS[5 + i]
  stream[string.sub(ARGV[1], i, i)] = key
  local n = tonumber(ARGV[at])
  if n > 0 then
    redis.call('XACK', key, group, unpack(ARGV, at + 1, at + n))
    count.completed = count.completed + redis.call('XDEL', key, unpack(ARGV, at + 1, at + n))
  else
    -- A full server refuses a script whose first write takes memory: begin with one that takes none.
    redis.call('XACK', key, group, '0-1')
  end
  at = at + n + 1
end
local earliest = nil
for i = at, #ARGV, 6 do
  local verdict, letter, id = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if redis.call('XRANGE', stream[letter], id, id)[1] then
    count.failed = count.failed + 1
    if verdict == 'retry' then
      local t = redis.call('TIME')
      local due = t[1] * 1000000 + t[2] + ARGV[i + 3]
      redis.call('HSET', KEYS[2], ARGV[i + 4], ARGV[i + 5])
      redis.call('ZADD', KEYS[1], string.format('%.0f', due), ARGV[i + 4])
      local wait = tonumber(ARGV[i + 3])
      if not earliest or wait < earliest then earliest = wait end
    else
      redis.call('XADD', KEYS[4], '*', 'd', ARGV[i + 3], 'r', ARGV[i + 4], 'i', ARGV[i + 5], 'p', letter, 'o', id)
      local forgotten = redis.call('XTRIM', KEYS[4], 'MAXLEN', ARGV[4])
      count.forgotten = count.forgotten + forgotten
      count.dead = count.dead + 1
    end
    redis.call('XDEL', stream[letter], id)
  end
  redis.call('XACK', stream[letter], group, id)
end
for name, n in pairs(count) do
  if n > 0 then redis.pcall('HINCRBY', KEYS[5], name, n) end
end
if earliest and earliest < tonumber(ARGV[3]) then redis.call('XADD', KEYS[3], 'MAXLEN', 1, '*', 'w', 'arm') end
return count.completed + count.failed
