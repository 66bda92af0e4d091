-- Put a message among the dead letters.   KEYS dead, stats   ARGV most dead, data, reason, letter
-- A full server refuses a script whose first write takes memory: begin with one that takes none.
redis.call('XDEL', KEYS[1], '0-1')
redis.call('XADD', KEYS[1], '*', 'd', ARGV[2], 'r', ARGV[3], 'i', '', 'p', ARGV[4], 'o', '')
local forgotten = redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[1])
redis.pcall('HINCRBY', KEYS[2], 'forgotten', forgotten)
redis.pcall('HINCRBY', KEYS[2], 'dead', 1)
return 1
