-- Return the last snapshot at or before a member of the log.
-- Message: {hash of the user, model, member}. Reply: {} | {member of the snapshot, data}.
local uid = call("HGET", P .. "names", message[1])
if not uid or uid == "" then return {} end
local key = snapshots_key(uid, message[2])
local member = call("ZREVRANGEBYLEX", key, "(" .. message[3] .. ";", "-", "LIMIT", 0, 1)[1]
if not member then return {} end
return {member, call("HGET", snapshot_data_key(uid, message[2]), member)}
