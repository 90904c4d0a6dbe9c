-- SPDX-License-Identifier: Apache-2.0
--- `ctx.cache`: values that policies keep in the memory shared by this node's workers, and with
--- `cache.store = "redis"` in Redis for all nodes. Strings are kept as they are, everything else as
--- JSON. Keeping a value never fails a request.

local M = {}

local WAIT_SECONDS = 5
local DEFAULT_TTL = 28800

local function encode(value)
  if type(value) == "string" then
    return value, false
  end
  local text, err = require("moongate.json").encode(value)
  if not text then
    error("ctx.cache: the value cannot be written as JSON: " .. tostring(err), 3)
  end
  return text, true
end

local function decode(text, is_json)
  if not is_json then
    return text
  end
  return (require("moongate.json").decode(text))
end

local function check_key(key, name)
  if type(key) ~= "string" or key == "" then
    error(("ctx.cache:%s: the key must be a text, got %s"):format(name, tostring(key)), 3)
  end
end

---@param core table moongate.cache
---@param clock table moongate.clock
---@return table functions
function M.new(core, clock)
  local F = {}

  --- What this node has, once the second tier has been asked where it has to be.
  local function look(key)
    local text, is_json, is_due, is_unasked = core.get(key)
    if text == nil or is_unasked then
      core.ask(key)
      text, is_json, is_due = core.get(key)
    end
    return text, is_json, is_due
  end

  --- The value, or nil.
  function F.get(_, key)
    check_key(key, "get")
    local text, is_json = look(key)
    if text == nil then
      return nil
    end
    return decode(text, is_json)
  end

  --- Keeps a value for `ttl` seconds. @return whether there was room
  function F.set(_, key, value, ttl)
    check_key(key, "set")
    if value == nil then
      core.delete(key)
      return true
    end
    local text, is_json = encode(value)
    return core.set(key, text, ttl or DEFAULT_TTL, nil, is_json) or false
  end

  function F.delete(_, key)
    check_key(key, "delete")
    core.delete(key)
  end

  --- Cached responses of a URL (all variants), under a tag, or of a listing's `key`; or everything,
  --- values too: `{ url = … }`, `{ tag = … }`, `{ key = … }`, `{ all = true }`.
  function F.purge(_, what)
    if type(what) == "table" and type(what.tag) == "string" then
      core.purge_tag(what.tag)
    elseif type(what) == "table" and type(what.key) == "string" then
      core.purge_key(what.key)
    elseif type(what) == "table" and type(what.url) == "string" then
      if not core.purge_url(what.url) then
        error("ctx.cache:purge: no absolute URL: " .. what.url, 2)
      end
    elseif type(what) == "table" and what.all == true then
      core.purge_all()
    else
      error("ctx.cache:purge: { url = … }, { tag = … }, { key = … } or { all = true } expected", 2)
    end
  end

  local function compute(key, options)
    local ok, value = pcall(options.compute)
    if ok and value ~= nil then
      local text, is_json = encode(value)
      local ttl = options.ttl or DEFAULT_TTL
      core.set(key, text, ttl, options.refresh_after or ttl, is_json)
    end
    core.finish(key)
    if not ok then
      error(value, 0)
    end
    return value
  end

  --- The value, computed where there is none: by one request, the others wait for it. Past
  --- `refresh_after` one request computes it anew while the others are given the old one; when that
  --- fails, the old one serves until its `ttl` ends.
  function F.fetch(_, key, options)
    check_key(key, "fetch")
    if type(options) ~= "table" or type(options.compute) ~= "function" then
      error("ctx.cache:fetch: { ttl =, refresh_after =, compute = function } expected", 2)
    end
    local gives_up_at = clock.monotonic() + (options.wait or WAIT_SECONDS)
    while true do
      local text, is_json, is_due = look(key)
      if text ~= nil and not is_due then
        return decode(text, is_json)
      end
      local flight = core.begin(key)
      if flight == "ours" then
        -- It may have been made between the look and the start.
        local again, again_json, again_due = core.get(key)
        if again ~= nil and not again_due then
          core.finish(key)
          return decode(again, again_json)
        end
        if text == nil then
          return compute(key, options)
        end
        local ok, value = pcall(compute, key, options)
        if ok and value ~= nil then
          return value
        end
        return decode(text, is_json)
      end
      if text ~= nil then
        return decode(text, is_json)
      end
      if flight == "full" or clock.monotonic() >= gives_up_at then
        return compute(key, options)
      end
      core.wait()
    end
  end

  return F
end

return M
