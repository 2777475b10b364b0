-- Return whether an event of a user was erased. Message: {hash of the user, seq or "", key or ""}.
-- Of an erased user nothing is known, so any event that was erased counts. Reply: 1 if so.
local uid = call("HGET", P .. "names", message[1])
if not uid then return 0 end
if uid ~= "" then
  return call("SISMEMBER", P .. "erased:" .. uid, message[2] .. message[3])
end
if message[3] ~= "" then return call("HGET", P .. "keys", message[3]) == "" and 1 or 0 end
local last = tonumber(call("GET", P .. "seqs") or "0")
local seq = tonumber(message[2])
return seq > 0 and seq <= last and call("HEXISTS", P .. "owners", message[2]) == 0 and 1 or 0
