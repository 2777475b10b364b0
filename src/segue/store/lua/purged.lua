-- Note how many of the erasures (`erased`) the files of the server have followed. Message: {how many}. Reply: how many now.
local before = tonumber(call("GET", P .. "purged") or "0")
if message[1] > before then call("SET", P .. "purged", string.format("%.0f", message[1])) end
return math.max(before, message[1])
