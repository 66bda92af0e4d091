-- Is this the server that was filled last time, with what it held? If not, one caller at a time may fill it.
-- KEYS filled, claim   ARGV step, token, lease_ms
-- The run id changes with every start and every failover, and a flush takes both keys away. So a claim that is still
-- there, of the same run, proves that nothing armed since it was made has been forgotten.
-- look: 1 known, 2 claimed for this caller, 0 somebody else fills it   keep, done, drop: 1, or 0 when the claim is lost
local step, claim = ARGV[1], ARGV[2]
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local value = claim .. ':' .. run
if step == 'look' then
  if redis.call('GET', KEYS[1]) == run then return 1 end
  return redis.call('SET', KEYS[2], value, 'NX', 'PX', ARGV[3]) and 2 or 0
end
if redis.call('GET', KEYS[2]) ~= value then return 0 end
if step == 'keep' then
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
else
  if step == 'done' then redis.call('SET', KEYS[1], run) end
  redis.call('DEL', KEYS[2])
end
return 1
