-- Unblock an erased user. Message: {hash of the user}. Reply: 1 if the user was erased.
if call("HGET", P .. "names", message[1]) ~= "" then return 0 end
return call("HDEL", P .. "names", message[1])
