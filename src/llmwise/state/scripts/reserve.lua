-- Set aside all that a request claims, or nothing.
-- ARGV: prefix, request, key, amount, tokens, tokens a minute (-1: any), concurrency (-1: any), lease in ms,
--       then for each purse: name, hard limit (-1: none), what the ledger says was spent (-1: not asked yet),
--       end of its period in Unix ms (-1: never)
-- Answer: status, number of the purse, milliseconds to wait, tokens used, then each purse's spent and reserved
-- Status: 0 granted, 1 a purse is not open (each that is not has -1 for spent), 2 concurrency, 3 tokens, 4 budget
local prefix, request, key, amount = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local tokens, per_minute, at_once, lease = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {0, 0, 0, 0}
local refused = 0
for i = 9, #ARGV, 4 do
  local purse = prefix .. 'purse:' .. ARGV[i]
  local number = (i - 5) / 4
  if redis.call('EXISTS', purse) == 0 then
    if ARGV[i + 2] == '-1' then
      answer[1] = 1
    else
      redis.call('HSET', purse, 'spent', ARGV[i + 2], 'reserved', 0)
      if ARGV[i + 3] ~= '-1' then
        redis.call('PEXPIREAT', purse, tonumber(ARGV[i + 3]) + lease)
      end
    end
  end
  -- What was set aside by a replica that died.
  for _, hold in ipairs(redis.call('ZRANGEBYSCORE', purse .. ':holds', '-inf', now)) do
    redis.call('ZREM', purse .. ':holds', hold)
    if redis.call('EXISTS', purse) == 1 then
      redis.call('HINCRBY', purse, 'reserved', '-' .. string.match(hold, '|(%d+)$'))
    end
  end
  local stands = redis.call('HMGET', purse, 'spent', 'reserved')
  local spent, reserved = tonumber(stands[1] or -1), tonumber(stands[2] or 0)
  answer[#answer + 1], answer[#answer + 2] = spent, reserved
  local hard = tonumber(ARGV[i + 1])
  if refused == 0 and hard >= 0 and spent + reserved >= hard then
    refused = number
  end
end
if answer[1] ~= 0 then
  return answer
end
local running = prefix .. 'running:' .. key
if at_once >= 0 then
  redis.call('ZREMRANGEBYSCORE', running, '-inf', now)
  if redis.call('ZCARD', running) >= at_once then
    answer[1], answer[3] = 2, 1000
    return answer
  end
end
local minute = prefix .. 'tokens:' .. key .. ':' .. math.floor(now / 60000)
if per_minute >= 0 then
  local used = tonumber(redis.call('GET', minute) or 0)
  answer[4] = used
  if used >= per_minute then
    answer[1], answer[3] = 3, 60000 - now % 60000
    return answer
  end
end
if refused > 0 then
  answer[1], answer[2] = 4, refused
  return answer
end
if amount ~= '0' then
  for i = 9, #ARGV, 4 do
    local purse = prefix .. 'purse:' .. ARGV[i]
    redis.call('HINCRBY', purse, 'reserved', amount)
    redis.call('ZADD', purse .. ':holds', now + lease, request .. '|' .. amount)
    redis.call('PEXPIRE', purse .. ':holds', 2 * lease)
  end
end
if per_minute >= 0 then
  answer[4] = redis.call('INCRBY', minute, tokens)
  redis.call('PEXPIRE', minute, 61000)
end
if at_once >= 0 then
  redis.call('ZADD', running, now + lease, request)
  redis.call('PEXPIRE', running, lease)
end
return answer
