-- Give entries back: the next consumer may take them at once, and this delivery does not count. KEYS stream, wake ARGV
-- group, consumer, 'ids' and ids, or 'all': everything this consumer holds, and forget the consumer They wait under the
-- consumer '-', whose idle time is made so long that every reclaim takes them.
local ids = {}
if ARGV[3] == 'ids' then
  for i = 4, #ARGV do ids[#ids + 1] = ARGV[i] end
else
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1000, ARGV[2])
  for i = 1, #held do ids[i] = held[i][1] end
end
local released = 0
for i = 1, #ids do
  local mine = redis.call('XPENDING', KEYS[1], ARGV[1], ids[i], ids[i], 1, ARGV[2])[1]
  if mine then
    local before = math.max(0, mine[4] - 1)
    redis.call('XCLAIM', KEYS[1], ARGV[1], '-', 0, ids[i], 'IDLE', 1000000000, 'RETRYCOUNT', before, 'JUSTID')
    released = released + 1
  end
end
if released > 0 then redis.call('XADD', KEYS[2], 'MAXLEN', 1, '*', 'w', 'give') end
if ARGV[3] == 'all' and #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
end
return released
