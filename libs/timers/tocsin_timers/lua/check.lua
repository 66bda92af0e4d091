-- Does this server store something, and is what it holds for us ours?
-- KEYS one to write, then the others of the queue   ARGV the type of each of these
redis.call('SET', KEYS[1], '1', 'PX', 1000)
for i = 2, #KEYS do
  local holds = redis.call('TYPE', KEYS[i]).ok
  if holds ~= 'none' and holds ~= ARGV[i - 1] then
    return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is a ' .. holds .. ' and no ' .. ARGV[i - 1] .. ': another program wrote it; delete it')
  end
end
return 1
