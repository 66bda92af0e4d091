-- What the queue looks like now.   KEYS due, dead, stats, paused, then a stream per priority   ARGV group
-- Returns {waiting, active, delayed, overdue, dead, completed, failed, forgotten, paused, us: oldest waiting, oldest active, oldest overdue}
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local function age(id) return now - tonumber(string.match(id, '^%d+')) * 1000 end
local waiting, active, oldest_waiting, oldest_active = 0, 0, 0, 0
for i = 5, #KEYS do
  local length = redis.call('XLEN', KEYS[i])
  local after, held = '0-0', 0
  local groups = length > 0 and redis.call('XINFO', 'GROUPS', KEYS[i]) or {}
  for _, flat in ipairs(groups) do
    local group = {}
    for j = 1, #flat, 2 do group[flat[j]] = flat[j + 1] end
    if group['name'] == ARGV[1] then
      after = group['last-delivered-id']
      local pending = redis.call('XPENDING', KEYS[i], ARGV[1])
      held = pending[1]
      for _, consumer in ipairs(pending[4] or {}) do
        -- given back: waiting again, and older than anything not yet read
        if consumer[1] == '-' then
          held = held - consumer[2]
          local given = redis.call('XPENDING', KEYS[i], ARGV[1], '-', '+', 1, '-')[1]
          if given then oldest_waiting = math.max(oldest_waiting, age(given[1])) end
        end
      end
      if held > 0 then oldest_active = math.max(oldest_active, age(pending[2])) end
    end
  end
  local first = redis.call('XRANGE', KEYS[i], '(' .. after, '+', 'COUNT', 1)[1]
  if first then oldest_waiting = math.max(oldest_waiting, age(first[1])) end
  active = active + held
  waiting = waiting + length - held
end
local overdue = redis.call('ZCOUNT', KEYS[1], '-inf', string.format('%.0f', now))
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local late = head and math.max(0, now - tonumber(head)) or 0
local stats = redis.call('HMGET', KEYS[3], 'completed', 'failed', 'forgotten')
return {waiting, active, redis.call('ZCARD', KEYS[1]), overdue, redis.call('XLEN', KEYS[2]), tonumber(stats[1] or 0), tonumber(stats[2] or 0),
  tonumber(stats[3] or 0), redis.call('EXISTS', KEYS[4]), oldest_waiting, oldest_active, late}
