-- End a request's claim. Told twice it is booked once.
-- ARGV: prefix, request, key, amount set aside, charged, tokens more than the prompt's (may be negative),
--       1 if tokens are limited, 1 if concurrency is, 1 if the claim was this process's own, then each purse's name
local prefix, request, key, amount, charged = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if ARGV[9] == '1' and not redis.call('SET', prefix .. 'settled:' .. request, 1, 'NX', 'EX', 600) then
  return 0
end
for i = 10, #ARGV do
  local purse = prefix .. 'purse:' .. ARGV[i]
  local held = redis.call('ZREM', purse .. ':holds', request .. '|' .. amount)
  if redis.call('EXISTS', purse) == 1 then
    if held == 1 then
      redis.call('HINCRBY', purse, 'reserved', '-' .. amount)
    end
    if held == 1 or ARGV[9] == '1' then
      redis.call('HINCRBY', purse, 'spent', charged)
    end
  end
end
if ARGV[7] == '1' then
  local time = redis.call('TIME')
  local minute = prefix .. 'tokens:' .. key .. ':' .. math.floor(time[1] / 60)
  if redis.call('INCRBY', minute, ARGV[6]) < 0 then
    redis.call('SET', minute, 0)
  end
  redis.call('PEXPIRE', minute, 61000)
end
if ARGV[8] == '1' then
  redis.call('ZREM', prefix .. 'running:' .. key, request)
end
return 1
