-- Erase an event. Message: {hash of the user, seq}. Reply: 1 if the user had the event.
local uid = call("HGET", P .. "names", message[1])
local owner = call("HGET", P .. "owners", message[2])
if not uid or not owner then return 0 end
owner = split(owner)
if owner[1] ~= uid then return 0 end
drop_rated(uid, "[" .. owner[2])
erase(uid, owner[2])
call("SADD", P .. "erased:" .. uid, message[2])
if owner[3] ~= "" then call("SADD", P .. "erased:" .. uid, owner[3]) end
drop_snapshots(uid, "[" .. owner[2])
call("DEL", P .. "states:" .. uid)
call("HINCRBY", user_key(uid), "version", 1)
recount(uid)
call("INCR", P .. "erased")
call("INCR", P .. "past")
return 1
