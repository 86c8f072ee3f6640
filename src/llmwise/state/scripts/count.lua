-- Count one request in every window, or in none.
-- ARGV: prefix, then for each window: name, limit, milliseconds
-- Answer: number of the window that refused (0: none), its use (of none: the first's), milliseconds to its end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local windows = {}
for i = 2, #ARGV, 3 do
  local ms = tonumber(ARGV[i + 2])
  local key = ARGV[1] .. ARGV[i] .. ':' .. math.floor(now / ms)
  local used = tonumber(redis.call('GET', key) or 0)
  if used >= tonumber(ARGV[i + 1]) then
    return {(i + 1) / 3, used, ms - now % ms}
  end
  windows[#windows + 1] = {key, ms}
end
local first
for _, window in ipairs(windows) do
  local used = redis.call('INCR', window[1])
  if used == 1 then
    redis.call('PEXPIRE', window[1], window[2] + 1000)
  end
  first = first or {0, used, window[2] - now % window[2]}
end
return first
