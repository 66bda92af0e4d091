-- Move what is due into the streams, in due order. Claim and send are one step: there is no gap to die in.
-- KEYS due, data, paused, then a stream per priority   ARGV limit, the priorities' first letters in the same order
-- Returns {now_us, due of the next one or '', promoted, ids whose data is missing, paused 0/1}
-- A value that begins with the upper case of a priority's letter is shared: one message is sent for all that are equal.
-- What a stream refuses (another program wrote to its key) stays, and is the answer once all others are moved. A script that ended
-- there would leave those before it in both places, and promote them again and again.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'WITHSCORES', 'LIMIT', 0, ARGV[1])
local promoted, orphans, moved, refused = 0, {}, {}, nil
if #due > 0 then
  -- A full server refuses a script whose first write takes memory, and stays full if nothing fires: begin with one that takes none.
  redis.call('ZREM', KEYS[1], '')
  local stream, shared = {}, {}
  for i = 1, #ARGV[2] do
    local letter = string.sub(ARGV[2], i, i)
    local upper = string.upper(letter)
    stream[upper], stream[letter] = KEYS[3 + i], KEYS[3 + i]
    if upper ~= letter then shared[upper] = {} end
  end
  local ids = {}
  for i = 1, #due, 2 do ids[#ids + 1] = due[i] end
  local values = redis.call('HMGET', KEYS[2], unpack(ids))
  for i = 1, #ids do
    local value = values[i]
    if value then
      local letter = string.sub(value, 1, 1)
      local equal = shared[letter]
      local sent = equal and equal[value]
      if not sent then
        -- A letter no priority has any more (they were renamed): the lowest one rather than none.
        local key = stream[letter] or KEYS[#KEYS]
        sent = redis.pcall('XADD', key, '*', 'd', string.sub(value, 2), 'u', due[2 * i], 'i', ids[i])
        if equal then equal[value] = sent end
      end
      if type(sent) == 'table' and sent.err then
        refused = sent
      else
        promoted = promoted + 1
        moved[promoted] = ids[i]
      end
    else
      orphans[#orphans + 1] = ids[i]
    end
  end
  if refused then
    if promoted > 0 then
      redis.call('ZREM', KEYS[1], unpack(moved))
      redis.call('HDEL', KEYS[2], unpack(moved))
    end
    return refused
  end
  redis.call('ZREM', KEYS[1], unpack(ids))
  redis.call('HDEL', KEYS[2], unpack(ids))
end
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
return {string.format('%.0f', now), head or '', promoted, orphans, redis.call('EXISTS', KEYS[3])}
