-- Make each stream and its consumer group. From 0: what was sent before any worker came is read too.
-- KEYS a stream per priority   ARGV group
-- A full server refuses a script whose first write takes memory: begin with one that takes none.
for i = 1, #KEYS do
  redis.call('XACK', KEYS[i], ARGV[1], '0-1')
  local made = redis.pcall('XGROUP', 'CREATE', KEYS[i], ARGV[1], '0', 'MKSTREAM')
  if made.err and not string.find(made.err, 'BUSYGROUP') then return made end
end
return #KEYS
