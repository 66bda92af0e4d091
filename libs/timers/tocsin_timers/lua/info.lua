-- What the server that holds this shard says about itself: settings that lose data are among it.   KEYS due
return redis.call('INFO', 'memory') .. redis.call('INFO', 'persistence')
