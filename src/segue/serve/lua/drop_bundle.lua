-- Drop states and snapshots of a bundle. Message: {bundle, first uid, last uid}. Reply: states dropped.
local dropped = 0
for n = message[2], message[3] do
  local uid = string.format("%.0f", n)
  dropped = dropped + call("HDEL", P .. "states:" .. uid, message[1])
  call("DEL", shots_key(uid, message[1]), shot_data_key(uid, message[1]))
  call("SREM", P .. "bundles:" .. uid, message[1])
end
return dropped
