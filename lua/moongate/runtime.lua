-- SPDX-License-Identifier: Apache-2.0
--- The parts of `ctx` that are the same for every request: installed once per state.

local near = require("moongate.near")

local M = {}

--- A table that policies can read and not change.
local function frozen(name, functions)
  return setmetatable({}, {
    __index = setmetatable(functions, { __index = function(_, key)
      error(near.unknown("ctx." .. name, key, functions), 2)
    end }),
    __newindex = function(_, key)
      error(("ctx.%s.%s cannot be set"):format(name, tostring(key)), 2)
    end,
    __metatable = false,
  })
end

local function http_part()
  local http = require("moongate.http")
  return frozen("http", {
    request = function(_, request)
      return http.request(request)
    end,
    send = function(_, request)
      return http.send(request)
    end,
  })
end

local function log_part()
  local log = require("moongate.log")
  local functions = {}
  for _, level in ipairs({ "debug", "info", "warning", "error" }) do
    local write = log[level]
    functions[level] = function(_, message)
      write(tostring(message))
    end
  end
  return frozen("log", functions)
end

local function cache_part()
  return frozen("cache",
    require("moongate.values").new(require("moongate.cache"), require("moongate.clock")))
end

local LEVEL = { verbose = "debug", information = "info", error = "error" }

--- ctx:trace(message, fields, severity)
local function trace_part()
  local log = require("moongate.log")
  return function(_, message, fields, severity)
    local write = log[LEVEL[severity or "verbose"] or severity]
    if not write then
      error(("ctx:trace: severity must be verbose, information or error, got %q")
        :format(tostring(severity)), 2)
    end
    local names, parts = {}, { tostring(message) }
    for name in pairs(fields or {}) do
      names[#names + 1] = tostring(name)
    end
    table.sort(names)
    for _, name in ipairs(names) do
      parts[#parts + 1] = ("%s=%q"):format(name, tostring(fields[name]))
    end
    write((table.concat(parts, " "):gsub("%c", " ")))
  end
end

local function path_of(file, source)
  return file:sub(1, 1) == "/" and file or source.dir .. "/" .. file
end

local function open(geo, file, source, what)
  if not file then
    return nil
  end
  local db, err = geo.open(path_of(file, source))
  if not db then
    require("moongate.log").error(("geoip.%s: %s"):format(what, tostring(err)))
  end
  return db
end

--- From an address to `{ country=, continent=, asn=, org= }`, or nil where neither base knows it.
---@return fun(ip: string): table?
local function geo_lookup(geoip, source)
  local geo = require("moongate.geo")
  local countries = open(geo, geoip.country, source, "country")
  local networks = open(geo, geoip.asn, source, "asn")
  return function(ip)
    local found = countries and countries:lookup(ip)
    local network = networks and networks:lookup(ip)
    if not found then
      return network
    end
    if network then
      found.asn, found.org = network.asn, network.org
    end
    return found
  end
end

--- Called by the runtime after a configuration was loaded.
---@param keys table what `ctx` answers with as it is, by name
---@param plan table
---@param source moongate.Source
---@return (fun(ip: string): table?)? lookup
function M.install(keys, plan, source)
  keys.http, keys.log, keys.cache = http_part(), log_part(), cache_part()
  keys.trace = trace_part()
  return plan.geoip and geo_lookup(plan.geoip, source) or nil
end

return M
