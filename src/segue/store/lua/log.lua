-- Return a page of all events. Message: {after, limit}. Reply: events.
local page, seq, last = {}, message[1], tonumber(call("GET", P .. "seqs") or "0")
while #page < message[2] and seq < last do
  local step = math.min(last - seq, 1000, message[2] - #page)
  local seqs = {}
  for i = 1, step do seqs[i] = string.format("%.0f", seq + i) end
  for i, body in ipairs(call("HMGET", P .. "bodies", unpack(seqs))) do
    if body then page[#page + 1] = event(seqs[i]) end
  end
  seq = seq + step
end
return page
