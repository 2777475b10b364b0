-- Drop states, snapshots and the shared value of a model, for a range of users.
-- Message: {model, first uid, last uid}. Reply: states dropped.
local dropped = 0
for n = message[2], message[3] do
  local uid = string.format("%.0f", n)
  dropped = dropped + call("HDEL", P .. "states:" .. uid, message[1])
  call("DEL", snapshots_key(uid, message[1]), snapshot_data_key(uid, message[1]))
  for _, seq in ipairs(call("HKEYS", rated_key(uid, message[1]))) do unrate(uid, message[1], seq) end
  call("SREM", P .. "bundles:" .. uid, message[1])
end
return dropped
