-- Put a value if that which is there is of a version. Message: {name, version, value}. Reply: 1 if it was.
local value = call("HGET", P .. "values", message[1])
if (value and redis.sha1hex(value) or "") ~= message[2] then return 0 end
call("HSET", P .. "values", message[1], message[3])
return 1
