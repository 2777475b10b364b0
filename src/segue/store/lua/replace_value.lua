-- Put a value if the present value has a version. Message: {name, version, value}. Reply: 1 if put.
local value = call("HGET", P .. "values", message[1])
if (value and redis.sha1hex(value) or "") ~= message[2] then return 0 end
call("HSET", P .. "values", message[1], message[3])
return 1
