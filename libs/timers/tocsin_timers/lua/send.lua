-- Append messages to the streams.   KEYS a stream per priority   ARGV letters, most waiting (0: any), then (letter, data) for each
-- Returns one character per message: '1' sent, '0' refused because that stream is full.
local stream, room, most = {}, {}, tonumber(ARGV[2])
for i = 1, #KEYS do
  local letter = string.sub(ARGV[1], i, i)
  stream[letter] = KEYS[i]
  room[letter] = most > 0 and most - redis.call('XLEN', KEYS[i]) or math.huge
end
local answer = {}
for i = 3, #ARGV, 2 do
  local letter = ARGV[i]
  if room[letter] > 0 then
    redis.call('XADD', stream[letter], '*', 'd', ARGV[i + 1])
    room[letter] = room[letter] - 1
    answer[#answer + 1] = '1'
  else
    answer[#answer + 1] = '0'
  end
end
return table.concat(answer)
