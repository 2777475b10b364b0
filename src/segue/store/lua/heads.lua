-- Return the heads of users. Message: {hashes, model}. Reply: for each {} | {"erased"} |
-- {name, version, count, last or ""} | the same and the state, as version, ":" and bytes.
local heads = {}
for i, hash in ipairs(message[1]) do
  local uid = call("HGET", P .. "names", hash)
  if not uid then
    heads[i] = {}
  elseif uid == "" then
    heads[i] = {"erased"}
  else
    local user = call("HMGET", user_key(uid), "name", "version", "count", "last")
    heads[i] = {user[1], tonumber(user[2]), tonumber(user[3]), user[4]}
    local state = call("HGET", P .. "states:" .. uid, message[2])
    if state then heads[i][5] = state end
  end
end
return heads
