-- Say which version of a value is there. Message: {name}. Reply: SHA-1 of the value as hex, "" where there is none.
local value = call("HGET", P .. "values", message[1])
return value and redis.sha1hex(value) or ""
