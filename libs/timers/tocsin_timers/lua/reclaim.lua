-- Take over the messages of a silent worker; move those that were delivered too often to the dead letters
-- (such a message kills each worker that runs it). KEYS stream, dead, stats ARGV group, consumer,
-- lease_ms, limit, most deliveries, letter, most dead Returns {claimed entries, number buried} A full
-- server refuses a script whose first write takes memory: begin with one that takes none.
redis.call('XACK', KEYS[1], ARGV[1], '0-1')
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', ARGV[4])
local claimed, buried = {}, 0
for i = 1, #pending do
  local id, deliveries = pending[i][1], pending[i][4]
  if deliveries >= tonumber(ARGV[5]) then
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    if entry then
      local field = {}
      for j = 1, #entry[2], 2 do field[entry[2][j]] = entry[2][j + 1] end
      local reason = 'delivered ' .. deliveries .. ' times and never finished'
      redis.call('XADD', KEYS[2], '*', 'd', field['d'] or '', 'r', reason, 'i', field['i'] or '', 'p', ARGV[6], 'o', id)
      local forgotten = redis.call('XTRIM', KEYS[2], 'MAXLEN', ARGV[7])
      redis.pcall('HINCRBY', KEYS[3], 'forgotten', forgotten)
      redis.pcall('HINCRBY', KEYS[3], 'dead', 1)
      buried = buried + 1
    end
    redis.call('XACK', KEYS[1], ARGV[1], id)
    redis.call('XDEL', KEYS[1], id)
  else
    local got = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], id)
    if got[1] then claimed[#claimed + 1] = got[1] end
  end
end
return {claimed, buried}
