-- What a consumer holds, with new leases. To be told of it again counts as no delivery: XREADGROUP would count it, and a task during
-- which the connection was cut a few times would be taken for one that kills its workers.
-- KEYS stream   ARGV group, consumer   Returns entries
-- A full server refuses a script whose first write takes memory: begin with one that takes none.
redis.call('XACK', KEYS[1], ARGV[1], '0-1')
local held = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1000, ARGV[2])
local entries = {}
for i = 1, #held do
  local got = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, held[i][1], 'RETRYCOUNT', held[i][4])
  if got[1] then entries[#entries + 1] = got[1] end
end
return entries
