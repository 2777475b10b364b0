-- Functions of all scripts. KEYS[1] is the prefix of every key; ARGV[1] is a message (MessagePack);
-- ARGV[2] is the SHA-1 of the store's secret: in an emptied database no script does anything.
-- A member of a user's log is 16 hexadecimal digits of the place and 16 decimal digits of seq, so
-- that the order of texts is the order of events. A member of a user's snapshots has ":" and the
-- count after that. In `names` and `keys`, a hash with an empty value was erased.
local P = KEYS[1]
local message = cmsgpack.unpack(ARGV[1])
local call = redis.call
if redis.sha1hex(call("GET", P .. "secret") or "") ~= ARGV[2] then return redis.error_reply("EMPTIED") end

local function split(text)
  local parts = {}
  for part in string.gmatch(text .. "|", "(.-)|") do parts[#parts + 1] = part end
  return parts
end

local function user_key(uid) return P .. "user:" .. uid end
local function log_key(uid) return P .. "log:" .. uid end
local function snapshots_key(uid, model) return P .. "shots:" .. uid .. ":" .. model end
local function snapshot_data_key(uid, model) return P .. "shotdata:" .. uid .. ":" .. model end
local function seq_of(member) return string.format("%.0f", tonumber(string.sub(member, 17, 32))) end

local function number(uid, field) return tonumber(call("HGET", user_key(uid), field) or "0") end

-- Return the number of a user, who is created if new; nil if erased.
local function user_of(hash, name)
  local uid = call("HGET", P .. "names", hash)
  if uid == "" then return nil end
  if uid then return uid end
  uid = string.format("%.0f", call("INCR", P .. "uids"))
  call("HSET", P .. "names", hash, uid)
  call("SADD", P .. "hashes:" .. uid, hash)
  call("HSET", user_key(uid), "name", name, "version", 0, "count", 0, "last", "")
  return uid
end

-- Return seq, place, body and user of an event.
local function event(seq)
  local owner = split(call("HGET", P .. "owners", seq))
  local name = call("HGET", user_key(owner[1]), "name")
  return {tonumber(seq), string.sub(owner[2], 1, 16), call("HGET", P .. "bodies", seq), name}
end

local function drop_snapshots(uid, from)
  for _, model in ipairs(call("SMEMBERS", P .. "bundles:" .. uid)) do
    local key = snapshots_key(uid, model)
    for _, member in ipairs(call("ZRANGEBYLEX", key, from, "+")) do
      call("ZREM", key, member)
      call("HDEL", snapshot_data_key(uid, model), member)
    end
  end
end

local function rated_key(uid, model) return P .. "rated:" .. uid .. ":" .. model end

-- Add to a shared value (times 1) or subtract (-1). The fields of an item are "s" and its row for
-- the sum, "c" and its row for the count; those of all items have no row.
local function share(model, row, amount, times)
  local key = P .. "shared:" .. model
  for _, item in ipairs({row, ""}) do
    call("HINCRBY", key, "s" .. item, string.format("%.0f", times * tonumber(amount)))
    if call("HINCRBY", key, "c" .. item, times) == 0 then call("HDEL", key, "s" .. item, "c" .. item) end
  end
end

-- Subtract what an event added to the shared value of a model, if it did.
local function unrate(uid, model, seq)
  local old = call("HGET", rated_key(uid, model), seq)
  if not old then return end
  old = split(old)
  share(model, old[1], old[2], -1)
  call("HDEL", rated_key(uid, model), seq)
end

-- Keep and add what an event adds to the shared value of a model; row and amount are texts.
local function rate(uid, model, seq, row, amount)
  unrate(uid, model, seq)
  share(model, row, amount, 1)
  call("HSET", rated_key(uid, model), seq, row .. "|" .. amount)
end

-- Subtract what a user's events from a member on added.
local function drop_rated(uid, from)
  local models = {}
  for _, model in ipairs(call("SMEMBERS", P .. "bundles:" .. uid)) do
    if call("EXISTS", rated_key(uid, model)) == 1 then models[#models + 1] = model end
  end
  if #models == 0 then return end
  for _, member in ipairs(call("ZRANGEBYLEX", log_key(uid), from, "+")) do
    for _, model in ipairs(models) do unrate(uid, model, seq_of(member)) end
  end
end

-- Set count and last event of a user anew after events have come or gone.
local function recount(uid)
  local last = call("ZREVRANGE", log_key(uid), 0, 0)[1] or ""
  call("HSET", user_key(uid), "count", call("ZCARD", log_key(uid)), "last", last)
end

-- Erase an event of a user, and leave the hash of its id.
local function erase(uid, member)
  local seq = seq_of(member)
  local key = split(call("HGET", P .. "owners", seq))[3]
  if key ~= "" then call("HSET", P .. "keys", key, "") end
  call("HDEL", P .. "bodies", seq)
  call("HDEL", P .. "owners", seq)
  call("ZREM", log_key(uid), member)
end
