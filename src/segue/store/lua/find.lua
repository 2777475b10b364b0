-- Return the event under the hash of an id. Message: {hash}. Reply: {} | {event}.
local stored = call("HGET", P .. "keys", message[1])
if not stored or stored == "" then return {} end
return {event(split(stored)[1])}
