-- End deliveries: done, failed, to be tried again later, or dead. Each is one step, so nothing is both retried and kept.
-- KEYS due, data, wake, dead, stats, then a stream per priority
-- ARGV letters, group, horizon_us, then (verdict, letter, entry id, a, b, c) for each
--   'done': -, -, -     'retry': delay_us, timer id, value     'bury': data, reason, schedule id
-- An entry that is no longer there was settled before (a repeated call, or another worker): it changes nothing.
local stream = {}
for i = 1, #ARGV[1] do stream[string.sub(ARGV[1], i, i)] = KEYS[5 + i] end
local group, done, count = ARGV[2], {}, {completed = 0, failed = 0, dead = 0}
local earliest = nil
for i = 4, #ARGV, 6 do
  local verdict, letter, id = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if verdict == 'done' then
    done[letter] = done[letter] or {}
    table.insert(done[letter], id)
  else
    redis.call('XACK', stream[letter], group, id)
    if redis.call('XDEL', stream[letter], id) == 1 then
      count.failed = count.failed + 1
      if verdict == 'retry' then
        local t = redis.call('TIME')
        local due = t[1] * 1000000 + t[2] + ARGV[i + 3]
        redis.call('ZADD', KEYS[1], string.format('%.0f', due), ARGV[i + 4])
        redis.call('HSET', KEYS[2], ARGV[i + 4], ARGV[i + 5])
        local wait = tonumber(ARGV[i + 3])
        if not earliest or wait < earliest then earliest = wait end
      else
        redis.call('XADD', KEYS[4], '*', 'd', ARGV[i + 3], 'r', ARGV[i + 4], 'i', ARGV[i + 5], 'p', letter, 'o', id)
        count.dead = count.dead + 1
      end
    end
  end
end
for letter, ids in pairs(done) do
  redis.call('XACK', stream[letter], group, unpack(ids))
  count.completed = count.completed + redis.call('XDEL', stream[letter], unpack(ids))
end
for name, n in pairs(count) do
  if n > 0 then redis.call('HINCRBY', KEYS[5], name, n) end
end
if earliest and earliest < tonumber(ARGV[3]) then redis.call('XADD', KEYS[3], 'MAXLEN', 1, '*', 'w', 'arm') end
return count.completed + count.failed
