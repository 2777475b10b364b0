-- Commit writes in one transaction. Message: {writes, values, versions};
-- a write: {hash, name, expected or -1, events, states, snapshots, rated, replayed, group or -1};
-- an event: {key or "", digest, place or "", body}; a state: {model, data};
-- a snapshot: {model, count, data};
-- rated: {model, {{place among the events, row, amount}}}; replayed: the same with seq as place;
-- versions: {name, version} of values; the reply is "moved" when one of these values has changed.
-- Reply: for each write {"written", version, events} | {"duplicate", version, events or {}} |
-- {"conflict", which} | {"erased", which} | {"stale", version}; an event as `event` returns it.
for _, expected in ipairs(message[3]) do
  local value = call("HGET", P .. "values", expected[1])
  if (value and redis.sha1hex(value) or "") ~= expected[2] then return "moved" end
end

-- Return the outcome of a write that the ids of its events refuse, if they do.
local function refuse(events, version)
  local erased, conflicts, originals, any = {}, {}, {}, false
  for i, new in ipairs(events) do
    originals[i] = {}
    local stored = new[1] ~= "" and call("HGET", P .. "keys", new[1])
    if stored == "" then
      erased[#erased + 1] = i
    elseif stored then
      any = true
      local parts = split(stored)
      if parts[2] ~= new[2] then conflicts[#conflicts + 1] = i else originals[i] = event(parts[1]) end
    end
  end
  if #erased > 0 then return {"erased", erased} end
  if #conflicts > 0 then return {"conflict", conflicts} end
  if any then return {"duplicate", version, originals} end
end

-- Insert an event at its place, and drop the snapshots that lack it.
local function insert(uid, new, last)
  local seq = string.format("%.0f", call("INCR", P .. "seqs"))
  local place = new[3]
  if place == "" then place = last ~= "" and string.sub(last, 1, 16) or "0000000000000000" end
  local member = place .. string.format("%016.0f", tonumber(seq))
  call("HSET", P .. "bodies", seq, new[4])
  call("HSET", P .. "owners", seq, uid .. "|" .. member .. "|" .. new[1])
  call("ZADD", log_key(uid), 0, member)
  if new[1] ~= "" then call("HSET", P .. "keys", new[1], seq .. "|" .. new[2]) end
  if member < last then
    drop_snapshots(uid, "[" .. member .. ";")
    drop_rated(uid, "[" .. member)
  end
  return seq, member
end

-- Drop a snapshot whose neighbours are no further apart than the newer one is from the end.
local function thin(uid, model, count)
  local key = snapshots_key(uid, model)
  local members = call("ZRANGE", key, 0, -1)
  local function at(i) return tonumber(string.sub(members[i], 34)) end
  local kept = at(#members)
  for i = #members - 1, 2, -1 do
    if kept - at(i - 1) > count - kept then
      kept = at(i)
    else
      call("ZREM", key, members[i])
      call("HDEL", snapshot_data_key(uid, model), members[i])
    end
  end
end

local function put_snapshot(uid, snapshot, count)
  local model, at = snapshot[1], snapshot[2]
  if at < 1 or at > count then return end
  local member = call("ZRANGE", log_key(uid), at - 1, at - 1)[1] .. ":" .. string.format("%.0f", at)
  call("SADD", P .. "bundles:" .. uid, model)
  call("ZADD", snapshots_key(uid, model), 0, member)
  call("HSET", snapshot_data_key(uid, model), member, snapshot[3])
  thin(uid, model, count)
end

-- Return the outcome of a write that is refused, if any, and the version of its user.
-- `ahead` counts the events of its group so far, by user.
local function check(write, ahead)
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
  local refused, version = check(write, {})
  if refused then return refused end
  local uid = user_of(hash, name)
  local last = call("HGET", user_key(uid), "last")
  local count, stored = number(uid, "count") + #events, {}
  for i, new in ipairs(events) do
    local seq, member = insert(uid, new, last)
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
    for _, rating in ipairs(rated[2]) do
      rate(uid, rated[1], string.format("%.0f", stored[rating[1]][1]), rating[2], rating[3])
    end
  end
  for _, replayed in ipairs(write[8]) do
    call("SADD", P .. "bundles:" .. uid, replayed[1])
    for _, rating in ipairs(replayed[2]) do rate(uid, replayed[1], rating[1], rating[2], rating[3]) end
  end
  for _, snapshot in ipairs(write[6]) do put_snapshot(uid, snapshot, count) end
  return {"written", version, stored}
end

-- Return the outcomes of a group, the writes `first` to `last`, if any is refused; else false.
local function refuse_group(first, last)
  local outcomes, ahead, any = {}, {}, false
  for i = first, last do
    local refused, version = check(message[1][i], ahead)
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
