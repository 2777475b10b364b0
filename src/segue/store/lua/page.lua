-- Return a page of a user's events.
-- Message: {hash of the user, from, limit, backwards}. Reply: events.
local uid, page = call("HGET", P .. "names", message[1]), {}
if uid and uid ~= "" then
  local members
  if message[4] then
    members = call("ZREVRANGEBYLEX", log_key(uid), message[2], "-", "LIMIT", 0, message[3])
  else
    members = call("ZRANGEBYLEX", log_key(uid), message[2], "+", "LIMIT", 0, message[3])
  end
  for i, member in ipairs(members) do page[i] = event(seq_of(member)) end
end
return page
