-- Give all events of one user to another. Message: {hash, name of the old, hash, name of the new}.
-- Reply: the new version; -1 or -2 if the old or the new was erased.
if call("HGET", P .. "names", message[1]) == "" then return -1 end
if call("HGET", P .. "names", message[3]) == "" then return -2 end
local old, new = user_of(message[1], message[2]), user_of(message[3], message[4])
if old == new then return number(new, "version") end
local members = call("ZRANGE", log_key(old), 0, -1)
if members[1] then
  drop_snapshots(new, "[" .. members[1] .. ";")
  drop_rated(new, "[" .. members[1])
end
drop_rated(old, "-")
drop_snapshots(old, "-")
for _, member in ipairs(members) do
  local seq = seq_of(member)
  local key = split(call("HGET", P .. "owners", seq))[3]
  call("HSET", P .. "owners", seq, new .. "|" .. member .. "|" .. key)
  call("ZADD", log_key(new), 0, member)
end
for _, hash in ipairs(call("SMEMBERS", P .. "hashes:" .. old)) do
  call("HSET", P .. "names", hash, new)
  call("SADD", P .. "hashes:" .. new, hash)
end
local version = number(new, "version") + number(old, "version") + 1
call("HSET", user_key(new), "version", version)
local active = math.max(tonumber(call("ZSCORE", P .. "active", old) or "0"), tonumber(call("ZSCORE", P .. "active", new) or "0"))
if active > 0 then call("ZADD", P .. "active", active, new) end
call("ZREM", P .. "active", old)
call("SUNIONSTORE", P .. "erased:" .. new, P .. "erased:" .. new, P .. "erased:" .. old)
call("DEL", user_key(old), log_key(old), P .. "hashes:" .. old, P .. "bundles:" .. old, P .. "erased:" .. old)
call("DEL", P .. "states:" .. old, P .. "states:" .. new)
recount(new)
call("INCR", P .. "past")
return version
