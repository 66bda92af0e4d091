-- Keep leases alive.   KEYS stream   ARGV group, consumer, ids
-- Returns one character per id: '1' still ours (and renewed), '0' somebody else took it or it was settled.
local answer = {}
for i = 3, #ARGV do
  local mine = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  if #mine > 0 then redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID') end
  answer[#answer + 1] = #mine > 0 and '1' or '0'
end
return table.concat(answer)
