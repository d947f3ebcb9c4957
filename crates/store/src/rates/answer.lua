-- One pool answers one ask, by the rule of `ledger::RatePool`.
-- KEYS: the pool. ARGV: per minute, burst, least, need, want, returned, taken. Units are requests
-- or tokens; the time is the server's, in microseconds.
local pace = tonumber(ARGV[1]) / 60000000
local burst, least, need = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local want, returned, taken = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local known = redis.call('HMGET', KEYS[1], 'debt', 'at')
local debt, at = tonumber(known[1]) or 0, tonumber(known[2]) or now
-- Its clock was set back, or this is another server: from here on it drains by that.
if now < at then at = now end
debt = math.max(0, debt - (now - at) * pace)
debt = math.max(0, debt - returned) + taken
local room = math.max(0, burst - math.ceil(debt))
local granted = 0
if room >= want then
    granted = want
elseif room >= least then
    granted = math.min(need, room)
end
debt = debt + granted
redis.call('HSET', KEYS[1], 'debt', string.format('%.6f', debt), 'at', string.format('%.0f', now))
-- Once drained it is as good as none; after thirty days whatever is left is forgotten.
local drained = 2592000000
if pace > 0 then drained = math.min(drained, math.ceil(debt / pace / 1000) + 1000) end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', drained))
return { granted, math.ceil(debt) }
