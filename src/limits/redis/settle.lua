-- Gives back what a reservation did not use, or adds what was used beyond it.
--
-- KEYS: of each share, the hash of what it used.
-- ARGV: the time (0 for the server's own); then of each share eight numbers:
--       1 when its hash was made: one that was lost and made anew is owed nothing; 0 for whichever
--       2 tokens, 3 pixels: what goes back, as time of a bucket, negative to take more
--       4 tokens of the counts that go back, negative to add more
--       5 the day and 6 the month that they belong to, 0 for no such count; the counts of others stay
--       7 whether a life is counted
--       8 seconds after which an idle share is forgotten
-- Times are microseconds.
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local function whole(number)
  return string.format('%.0f', number)
end

for i = 1, #KEYS do
  local a = {}
  for k = 1, 8 do
    a[k] = tonumber(ARGV[1 + (i - 1) * 8 + k])
  end
  local v = redis.call('HMGET', KEYS[i], 'born', 'tokens', 'pixels',
    'day', 'day_tokens', 'month', 'month_tokens', 'total_tokens')
  local born = tonumber(v[1])
  local changed = {}

  local function set(field, value)
    changed[#changed + 1] = field
    changed[#changed + 1] = whole(value)
  end

  local function bucket(field, moment, back)
    moment = tonumber(moment) or 0
    if back > 0 then
      set(field, math.max(moment - back, 0))
    elseif back < 0 then
      set(field, math.max(moment, now) - back)
    end
  end

  local function count(of, period, had, field, tokens)
    tokens, had = tonumber(tokens) or 0, tonumber(had)
    if had == period then
      set(field, math.max(tokens - a[4], 0))
    elseif a[4] < 0 and (had or 0) < period then
      set(of, period)
      set(field, -a[4])
    end
  end

  if not born and a[1] == 0 and a[4] < 0 then
    born = now
    set('born', born)
  end
  if born and (a[1] == 0 or a[1] == born) then
    bucket('tokens', v[2], a[2])
    bucket('pixels', v[3], a[3])
    if a[4] ~= 0 then
      if a[5] ~= 0 then count('day', a[5], v[4], 'day_tokens', v[5]) end
      if a[6] ~= 0 then count('month', a[6], v[6], 'month_tokens', v[7]) end
      if a[7] ~= 0 then set('total_tokens', math.max((tonumber(v[8]) or 0) - a[4], 0)) end
    end
  end
  if #changed > 0 then
    redis.call('HSET', KEYS[i], unpack(changed))
    redis.call('EXPIRE', KEYS[i], whole(a[8]))
  end
end
return 0
