-- Write a batch. Message: {writes, values};
-- a write: {hash, name, expected or -1, events, states, shots, rated, replayed, group or -1};
-- an event: {key or "", digest, place or "", body}; a state: {model, memory}; a shot: {model, count, memory};
-- rated: {model, {{place among the events, row, amount}}}, replayed: the same with seq for the place.
-- Reply: for each write {"written", version, events} | {"duplicate", version, events or {}} |
-- {"conflict", which} | {"erased", which} | {"stale", version}, and an event as `event` tells it.
-- A third part of the message, {name, version} of values that must be there still, may make the reply "moved".
for _, one in ipairs(message[3]) do
  local value = call("HGET", P .. "values", one[1])
  if (value and redis.sha1hex(value) or "") ~= one[2] then return "moved" end
end

local function refuse(events, version)
  local gone, other, there, any = {}, {}, {}, false
  for i, one in ipairs(events) do
    there[i] = {}
    local found = one[1] ~= "" and call("HGET", P .. "keys", one[1])
    if found == "" then
      gone[#gone + 1] = i
    elseif found then
      any = true
      local parts = split(found)
      if parts[2] ~= one[2] then other[#other + 1] = i else there[i] = event(parts[1]) end
    end
  end
  if #gone > 0 then return {"erased", gone} end
  if #other > 0 then return {"conflict", other} end
  if any then return {"duplicate", version, there} end
end

local function insert(uid, one, last)
  local seq = string.format("%.0f", call("INCR", P .. "seqs"))
  local place = one[3]
  if place == "" then place = last ~= "" and string.sub(last, 1, 16) or "0000000000000000" end
  local member = place .. string.format("%016.0f", tonumber(seq))
  call("HSET", P .. "bodies", seq, one[4])
  call("HSET", P .. "owners", seq, uid .. "|" .. member .. "|" .. one[1])
  call("ZADD", log_key(uid), 0, member)
  if one[1] ~= "" then call("HSET", P .. "keys", one[1], seq .. "|" .. one[2]) end
  if member < last then
    drop_shots(uid, "[" .. member .. ";")
    drop_rated(uid, "[" .. member)
  end
  return seq, member
end

-- Drop a snapshot whose neighbours are no further apart than the newer one is from the end.
local function thin(uid, model, count)
  local key = shots_key(uid, model)
  local members = call("ZRANGE", key, 0, -1)
  local function at(i) return tonumber(string.sub(members[i], 34)) end
  local kept = at(#members)
  for i = #members - 1, 2, -1 do
    if kept - at(i - 1) > count - kept then
      kept = at(i)
    else
      call("ZREM", key, members[i])
      call("HDEL", shot_data_key(uid, model), members[i])
    end
  end
end

local function put_shot(uid, shot, count)
  if shot[2] < 1 or shot[2] > count then return end
  local member = call("ZRANGE", log_key(uid), shot[2] - 1, shot[2] - 1)[1]
  member = member .. ":" .. string.format("%.0f", shot[2])
  call("SADD", P .. "bundles:" .. uid, shot[1])
  call("ZADD", shots_key(uid, shot[1]), 0, member)
  call("HSET", shot_data_key(uid, shot[1]), member, shot[3])
  thin(uid, shot[1], count)
end

-- What there is against a write, if anything, and the version of its user; `ahead` counts events of its group before it.
local function look(write, ahead)
  local uid = call("HGET", P .. "names", write[1])
  if uid == "" then return {"erased", {}}, 0 end
  local version, owner = uid and number(uid, "version") or 0, uid or write[1]
  local refused, expected = refuse(write[4], version), write[3] - (ahead[owner] or 0)
  if not refused and write[3] >= 0 and expected ~= version then refused = {"stale", version} end
  ahead[owner] = (ahead[owner] or 0) + #write[4]
  return refused, version
end

local function apply(write)
  local hash, name, events = write[1], write[2], write[4]
  local refused, version = look(write, {})
  if refused then return refused end
  local uid = user_of(hash, name)
  local last = call("HGET", user_key(uid), "last")
  local count, stored = number(uid, "count") + #events, {}
  for i, one in ipairs(events) do
    local seq, member = insert(uid, one, last)
    if member > last then last = member end
    stored[i] = event(seq)
    call("ZADD", P .. "active", seq, uid)
  end
  version = version + #events
  call("HSET", user_key(uid), "version", version, "count", count, "last", last)
  for _, state in ipairs(write[5]) do
    call("SADD", P .. "bundles:" .. uid, state[1])
    call("HSET", P .. "states:" .. uid, state[1], string.format("%.0f", version) .. ":" .. state[2])
  end
  for _, rated in ipairs(write[7]) do
    call("SADD", P .. "bundles:" .. uid, rated[1])
    for _, one in ipairs(rated[2]) do
      rate(uid, rated[1], string.format("%.0f", stored[one[1]][1]), {one[2], one[3]})
    end
  end
  for _, replayed in ipairs(write[8]) do
    call("SADD", P .. "bundles:" .. uid, replayed[1])
    for _, one in ipairs(replayed[2]) do rate(uid, replayed[1], one[1], {one[2], one[3]}) end
  end
  for _, shot in ipairs(write[6]) do put_shot(uid, shot, count) end
  return {"written", version, stored}
end

-- What there is against the writes from one place to another, which are done together; nil where all can be done.
local function refuse_group(first, last)
  local outcomes, ahead, any = {}, {}, false
  for i = first, last do
    local refused, version = look(message[1][i], ahead)
    any = any or refused
    outcomes[i] = refused or {"stale", version}
  end
  return any and outcomes
end

local outcomes, writes, i = {}, message[1], 1
while i <= #writes do
  local last = i
  while writes[i][9] >= 0 and writes[last + 1] and writes[last + 1][9] == writes[i][9] do last = last + 1 end
  local refused = last > i and refuse_group(i, last)
  for n = i, last do outcomes[n] = refused and refused[n] or apply(writes[n]) end
  i = last + 1
end
for _, value in ipairs(message[2]) do call("HSET", P .. "values", value[1], value[2]) end
return outcomes
