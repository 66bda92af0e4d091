-- Stop or start the queue for every worker.   KEYS paused, wake   ARGV 1 or 0
-- A full server refuses a script whose first write takes memory: begin with one that takes none.
redis.call('DEL', KEYS[1])
if ARGV[1] == '1' then redis.call('SET', KEYS[1], 1) end
redis.call('XADD', KEYS[2], 'MAXLEN', 1, '*', 'w', 'pause')
return 1
