-- Let an erased user begin anew. Message: {hash of the user}. Reply: 1 if it was erased.
if call("HGET", P .. "names", message[1]) ~= "" then return 0 end
return call("HDEL", P .. "names", message[1])
