-- Keeps the places of requests that are still inside.
--
-- KEYS: a sorted set of the requests inside.
-- ARGV: the time (0 for the server's own), how long a place is kept, the requests' names.
-- Times are microseconds.
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local lease = tonumber(ARGV[2])
for i = 3, #ARGV do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + lease), ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', lease / 1000 + 1000))
return 0
