-- Return a page of users by activity.
-- Message: {"(" and a seq, or "+inf"; limit}. Reply: name and seq in turn.
local page = {}
local rows = call("ZREVRANGEBYSCORE", P .. "active", message[1], "-inf", "WITHSCORES", "LIMIT", 0, message[2])
for i = 1, #rows, 2 do
  page[i] = call("HGET", user_key(rows[i]), "name")
  page[i + 1] = tonumber(rows[i + 1])
end
return page
