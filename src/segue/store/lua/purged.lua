-- Count the erasures (of `erased` in all) that the server's files have followed.
-- Message: {count}. Reply: the greatest count so far.
local before = tonumber(call("GET", P .. "purged") or "0")
if message[1] > before then call("SET", P .. "purged", string.format("%.0f", message[1])) end
return math.max(before, message[1])
