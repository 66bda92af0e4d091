-- A token bucket shared by all workers.   KEYS rate   ARGV tokens per second, size, wanted, urgent 0/1
-- An urgent taker always gets what it wants and leaves a debt, at most one bucket deep, for the others to wait out.
-- Returns {granted, us until the next token when none was granted}
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local rate, size, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
-- A full server refuses a script whose first write takes memory: begin with one that takes none.
redis.call('HDEL', KEYS[1], '')
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
-- After this server's clock was set back, what was kept lies in the future: as of now.
local tokens = kept[1] and math.min(size, kept[1] + math.max(0, now - kept[2]) * rate / 1000000) or size
local granted, wait = wanted, 0
if ARGV[4] == '1' then
  tokens = math.max(-size, tokens - wanted)
else
  granted = math.max(0, math.min(wanted, math.floor(tokens)))
  tokens = tokens - granted
  if granted == 0 then wait = math.ceil((1 - tokens) / rate * 1000000) end
end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], 60000)
return {granted, wait}
