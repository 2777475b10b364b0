-- Return the version of a value. Message: {name}. Reply: SHA-1 of the value as hex; "" without one.
local value = call("HGET", P .. "values", message[1])
return value and redis.sha1hex(value) or ""
