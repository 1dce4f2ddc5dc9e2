-- Checks and charges one request against all its shares. The arithmetic is that of bucket.rs,
-- usage.rs and local.rs; all numbers are whole and below 2^53, which doubles hold exactly.
--
-- KEYS: of each share, a hash of what it used and a sorted set of the requests inside.
-- ARGV: the time (0 for the server's own), the request's name in the sets, how long it stays there
--       without being renewed; then of each share ten numbers, 0 for none:
--       1 door: 1 to enter before anything else is looked at, 2 to enter with the rest
--       2 requests, 3 tokens, 4 pixels: what the request takes, as time of a bucket
--       5 requests that may be inside
--       6 tokens for the counts, 7 limit of a day, 8 of a month, 9 of a life
--       10 seconds after which an idle share is forgotten
-- Returns: the refusal (0 for none, 1 at the door, 2 behind it), what refuses, which share, the
--       wait (-1 for ever), the day and the month; then of each share seven numbers: when its hash
--       was made, what the three buckets owe, tokens of the day, the month and the life.
-- Times are microseconds.
local WINDOW = 60000000
local DAY = 86400000000
local PLACE_WAIT = 1000000
local FOREVER = 9007199254740991
local REQUESTS, TOKENS, PIXELS, PLACES, OF_DAY, OF_MONTH, OF_LIFE = 1, 2, 3, 4, 5, 6, 7

local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local member, lease = ARGV[2], tonumber(ARGV[3])

local day = math.floor(now / DAY)
local left = DAY - now % DAY
-- The civil calendar from days, counted in years that begin in March.
local shifted = day + 719468
local era = math.floor(shifted / 146097)
local of_era = shifted - era * 146097
local year_of_era = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
  - math.floor(of_era / 146096)) / 365)
local of_year = of_era - (365 * year_of_era + math.floor(year_of_era / 4) - math.floor(year_of_era / 100))
local month = math.floor((5 * of_year + 2) / 153)
local year = year_of_era + era * 400
if month < 10 then
  month = month + 3
else
  month, year = month - 9, year + 1
end
month = year * 12 + month

local shares = {}
local worst = {}

local function refuse(stage, what, share, wait)
  if not worst[stage] or wait > worst[stage].wait then
    worst[stage] = { what = what, share = share, wait = wait }
  end
end

local function check_bucket(stage, what, share, moment, charge)
  if charge > WINDOW then
    refuse(stage, what, share, FOREVER)
  elseif charge > 0 and moment - now + charge > WINDOW then
    refuse(stage, what, share, moment - now + charge - WINDOW)
  end
end

for i = 1, #KEYS / 2 do
  local hash, set = KEYS[2 * i - 1], KEYS[2 * i]
  local a = {}
  for k = 1, 10 do
    a[k] = tonumber(ARGV[3 + (i - 1) * 10 + k])
  end
  local v = redis.call('HMGET', hash, 'born', 'requests', 'tokens', 'pixels',
    'day', 'day_tokens', 'month', 'month_tokens', 'total_tokens')
  local share = {
    hash = hash, set = set, a = a,
    born = tonumber(v[1]) or now,
    requests = math.max(tonumber(v[2]) or 0, now),
    tokens = math.max(tonumber(v[3]) or 0, now),
    pixels = math.max(tonumber(v[4]) or 0, now),
    day_tokens = tonumber(v[5]) == day and tonumber(v[6]) or 0,
    month_tokens = tonumber(v[7]) == month and tonumber(v[8]) or 0,
    total_tokens = tonumber(v[9]) or 0,
  }
  shares[i] = share
  if a[1] > 0 then
    check_bucket(a[1], REQUESTS, i, share.requests, a[2])
    if a[5] > 0 then
      redis.call('ZREMRANGEBYSCORE', set, '-inf', string.format('%.0f', now))
      if redis.call('ZCARD', set) >= a[5] then
        refuse(a[1], PLACES, i, PLACE_WAIT)
      end
    end
  end
  check_bucket(2, TOKENS, i, share.tokens, a[3])
  check_bucket(2, PIXELS, i, share.pixels, a[4])
  if a[7] > 0 and share.day_tokens + a[6] > a[7] then
    refuse(2, OF_DAY, i, a[6] > a[7] and FOREVER or left)
  end
  if a[8] > 0 and share.month_tokens + a[6] > a[8] then
    refuse(2, OF_MONTH, i, FOREVER)
  end
  if a[9] > 0 and share.total_tokens + a[6] > a[9] then
    refuse(2, OF_LIFE, i, FOREVER)
  end
end

local refused = worst[1] and 1 or worst[2] and 2 or 0

local function whole(number)
  return string.format('%.0f', number)
end

for _, share in ipairs(shares) do
  local a = share.a
  local enters = (a[1] == 1 and refused ~= 1) or (a[1] == 2 and refused == 0)
  if enters then
    share.requests = share.requests + a[2]
    if a[5] > 0 then
      redis.call('ZADD', share.set, whole(now + lease), member)
      redis.call('PEXPIRE', share.set, whole(lease / 1000 + 1000))
    end
  end
  if refused == 0 then
    share.tokens = share.tokens + a[3]
    share.pixels = share.pixels + a[4]
    if a[7] > 0 then share.day_tokens = share.day_tokens + a[6] end
    if a[8] > 0 then share.month_tokens = share.month_tokens + a[6] end
    if a[9] > 0 then share.total_tokens = share.total_tokens + a[6] end
  end
  if enters or refused == 0 then
    redis.call('HSET', share.hash, 'born', whole(share.born), 'requests', whole(share.requests),
      'tokens', whole(share.tokens), 'pixels', whole(share.pixels))
    if a[7] > 0 then
      redis.call('HSET', share.hash, 'day', whole(day), 'day_tokens', whole(share.day_tokens))
    end
    if a[8] > 0 then
      redis.call('HSET', share.hash, 'month', whole(month), 'month_tokens', whole(share.month_tokens))
    end
    if a[9] > 0 then
      redis.call('HSET', share.hash, 'total_tokens', whole(share.total_tokens))
    end
    redis.call('EXPIRE', share.hash, whole(a[10]))
  end
end

local refusal = worst[refused]
local answer = {
  refused,
  refusal and refusal.what or 0,
  refusal and refusal.share or 0,
  refusal and (refusal.wait == FOREVER and -1 or refusal.wait) or 0,
  day,
  month,
}
for _, share in ipairs(shares) do
  answer[#answer + 1] = share.born
  answer[#answer + 1] = share.requests - now
  answer[#answer + 1] = share.tokens - now
  answer[#answer + 1] = share.pixels - now
  answer[#answer + 1] = share.day_tokens
  answer[#answer + 1] = share.month_tokens
  answer[#answer + 1] = share.total_tokens
end
return answer
