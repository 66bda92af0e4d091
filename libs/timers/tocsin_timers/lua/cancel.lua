-- Take timers away.   KEYS due, data   ARGV ids
-- Returns one character per id: '1' it was still waiting, '0' it was not there (fired, cancelled or never armed).
local scores = redis.call('ZMSCORE', KEYS[1], unpack(ARGV))
local answer = {}
for i = 1, #ARGV do answer[i] = scores[i] and '1' or '0' end
redis.call('ZREM', KEYS[1], unpack(ARGV))
redis.call('HDEL', KEYS[2], unpack(ARGV))
return table.concat(answer)
