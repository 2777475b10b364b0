-- A page of all events. Message: {after, limit}. Reply: events.
local found, seq, last = {}, message[1], tonumber(call("GET", P .. "seqs") or "0")
while #found < message[2] and seq < last do
  local step = math.min(last - seq, 1000, message[2] - #found)
  local wanted = {}
  for i = 1, step do wanted[i] = string.format("%.0f", seq + i) end
  for i, body in ipairs(call("HMGET", P .. "bodies", unpack(wanted))) do
    if body then found[#found + 1] = event(wanted[i]) end
  end
  seq = seq + step
end
return found
