-- Arm what another schedule source held, each schedule once however often it is offered.
-- KEYS due, data, wake, adopted   ARGV horizon_us, memory in seconds, then (due, id, value, digest) for each
-- due: as in arm.lua. digest: 16 characters that tell this schedule from others of the same id.
-- `adopted` keeps the digests that were taken of each id. Without it, an offer repeated after the timer fired (a second
-- process, or one that was killed before it removed the schedule from its source) would fire the timer again.
-- Returns one character per schedule: '1' armed, '0' it was adopted before, 'k' a timer armed here by that id was kept.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local answer, first = {}, nil
for i = 3, #ARGV, 4 do
  local due, id, digest = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 3]
  if string.byte(ARGV[i]) == 43 then due = due + now end
  local seen = redis.call('HGET', KEYS[4], id)
  if seen and string.find(seen, digest, 1, true) then
    answer[#answer + 1] = '0'
  else
    if not seen and redis.call('ZSCORE', KEYS[1], id) then
      answer[#answer + 1] = 'k'
    else
      redis.call('ZADD', KEYS[1], string.format('%.0f', due), id)
      redis.call('HSET', KEYS[2], id, ARGV[i + 2])
      if not first or due < first then first = due end
      answer[#answer + 1] = '1'
    end
    redis.call('HSET', KEYS[4], id, (seen or '') .. digest .. ',')  -- last: arming may be refused, and is offered again then
  end
end
redis.call('EXPIRE', KEYS[4], ARGV[2])
if first and first < now + ARGV[1] and (not head or first < tonumber(head)) then
  redis.call('XADD', KEYS[3], 'MAXLEN', 1, '*', 'w', 'arm')
end
return table.concat(answer)
