-- One step of a target's circuit, as routing/breaker.py has it, for all replicas at once; a change is published.
-- ARGV: prefix, 'report', target, effect, probe, Retry-After in ms (-1: none), reason, failures that open, pause in ms,
--       pause in ms when the key is refused, longest pause in ms
--    or prefix, 'claim', target, milliseconds that a probe has
-- Answer: the circuit as JSON: t(arget), p(hase), f(ailures), l(eft, ms), n(umber of the probe), r(eason), v(ersion),
--         and c(laimed): the number of the probe that the asker may be, 0 if none
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local circuits, target = ARGV[1] .. 'circuits', ARGV[3]
local kept = redis.call('HGET', circuits, target)
local state = kept and cjson.decode(kept) or {p = 'closed', f = 0, u = 0, n = 0, r = '', v = 0}
local claimed = 0

local function answer()
  return cjson.encode({
    t = target, p = state.p, f = state.f, l = state.u - now, n = state.n, r = state.r, v = state.v, c = claimed
  })
end

local function change()
  state.v = state.v + 1
  redis.call('HSET', circuits, target, cjson.encode(state))
  local own = claimed
  claimed = 0
  redis.call('PUBLISH', ARGV[1] .. 'circuits', answer())
  claimed = own
  return answer()
end

if ARGV[2] == 'claim' then
  if state.p == 'closed' or now < state.u then
    return answer()
  end
  state.p, state.u, state.n = 'half_open', now + tonumber(ARGV[4]), state.n + 1
  claimed = state.n
  return change()
end

local effect, probe, reason = ARGV[4], tonumber(ARGV[5]), ARGV[7]
if state.p ~= 'closed' and not (probe > 0 and (probe == state.n or effect == 'success')) then
  return answer()
end
if effect == 'none' then
  if state.p ~= 'half_open' then
    return answer()
  end
  state.p, state.u = 'open', now
  return change()
end
if effect == 'success' then
  if state.p == 'closed' and state.f == 0 then
    return answer()
  end
  state.p, state.f, state.u, state.r = 'closed', 0, 0, ''
  return change()
end
local asked = tonumber(ARGV[6])
local wanted = now + math.min(math.max(asked, 0), tonumber(ARGV[11]))
state.f, state.r = state.f + 1, reason
if state.p == 'closed' then
  wanted = math.max(wanted, state.u)
  if effect == 'failure' and state.f < tonumber(ARGV[8]) then
    state.u = wanted
    return change()
  end
end
local pause = tonumber(effect == 'hard_down' and ARGV[10] or ARGV[9])
state.p, state.u = 'open', math.max(wanted, now + pause)
return change()
