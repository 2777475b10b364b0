-- The event under a key. Message: {key}. Reply: {} | {event}.
local found = call("HGET", P .. "keys", message[1])
if not found or found == "" then return {} end
return {event(split(found)[1])}
