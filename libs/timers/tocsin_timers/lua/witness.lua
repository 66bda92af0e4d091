-- Is this the server that was here last time, with what it held?   KEYS witness
-- The run id changes with every start and with every failover, the key is gone after a flush: either way '0', once.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
if redis.call('GET', KEYS[1]) == run then return 1 end
redis.call('SET', KEYS[1], run)
return 0
