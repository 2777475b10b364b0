-- Erase a user. Message: {hash of the user}. Reply: 1 if the user was known.
local uid = call("HGET", P .. "names", message[1])
if not uid or uid == "" then
  call("HSET", P .. "names", message[1], "")
  return 0
end
drop_rated(uid, "-")
for _, member in ipairs(call("ZRANGE", log_key(uid), 0, -1)) do erase(uid, member) end
for _, model in ipairs(call("SMEMBERS", P .. "bundles:" .. uid)) do
  call("DEL", snapshots_key(uid, model), snapshot_data_key(uid, model))
end
for _, hash in ipairs(call("SMEMBERS", P .. "hashes:" .. uid)) do call("HSET", P .. "names", hash, "") end
call("DEL", user_key(uid), log_key(uid), P .. "states:" .. uid, P .. "bundles:" .. uid, P .. "hashes:" .. uid, P .. "erased:" .. uid)
call("ZREM", P .. "active", uid)
call("INCR", P .. "erased")
call("INCR", P .. "past")
return 1
