-- SPDX-License-Identifier: Apache-2.0
--- What configuration requires as `p`: `p.rate_limit { … }` records a policy and the line of the
--- call; `p.base` marks where the outer scopes' policies run. What is recorded is checked later,
--- with everything else, so that all errors are told at once.

local schema = require("moongate.schema")

local M = {}

---@class moongate.PolicyRecord
---@field name string
---@field conf any
---@field file? string
---@field line? integer

local records = setmetatable({}, { __mode = "k" })
local constructors = {} -- what `p.<name>` gives -> name
local base = setmetatable({}, {
  __tostring = function()
    return "base"
  end,
  __newindex = function()
    error("base cannot be changed", 2)
  end,
  __call = function()
    error("base takes no options: it stands in the list by itself", 2)
  end,
  __metatable = false,
})

--- The record behind a value of a policy list, or nil.
---@param value any
---@return moongate.PolicyRecord?
local function record_of(value)
  return records[value]
end

local function is_policy(value)
  return value == base or type(value) == "table" and records[value] ~= nil
end
schema.set_policy_test(is_policy)

local sealed = {
  __newindex = function()
    error("a policy cannot be changed once it is made", 2)
  end,
  __metatable = false,
}

local function constructor(name)
  return function(conf)
    local info = debug.getinfo(2, "Sl")
    local source = info and info.source or ""
    local handle = setmetatable({}, sealed)
    records[handle] = {
      name = name,
      conf = conf == nil and {} or conf,
      file = source:sub(1, 1) == "@" and source:sub(2) or nil,
      line = info and info.currentline or nil,
    }
    return handle
  end
end

--- A record made by one of the forms below, with methods of its own.
local function recorded(name, conf, methods)
  local info = debug.getinfo(3, "Sl")
  local source = info and info.source or ""
  local handle = setmetatable({}, {
    __index = methods, __newindex = sealed.__newindex, __metatable = false,
  })
  records[handle] = {
    name = name,
    conf = conf,
    file = source:sub(1, 1) == "@" and source:sub(2) or nil,
    line = info and info.currentline or nil,
  }
  return handle
end

local function lay_over(conf, options)
  for key, value in pairs(type(options) == "table" and options or {}) do
    conf[key] = value
  end
  return conf
end

local when_methods = {}

--- `p.when(condition, { … }):elsewhen(condition, { … })`; a third list is for none of them.
function when_methods.elsewhen(handle, condition, list, otherwise)
  local record = records[handle]
  if not record or record.name ~= "when" then
    error("elsewhen: call it with a colon on what p.when gave", 2)
  end
  local branches = record.conf.branches
  branches[#branches + 1] = { condition = condition, policies = list }
  if otherwise ~= nil then
    if record.conf.otherwise ~= nil then
      error("elsewhen: the policies for no condition are given already", 2)
    end
    record.conf.otherwise = otherwise
  end
  return handle
end

local made = {
  when = function(condition, list, otherwise, options)
    return recorded("when", lay_over({
      branches = { { condition = condition, policies = list } }, otherwise = otherwise,
    }, options), when_methods)
  end,
  include = function(name, parameters, options)
    if type(name) == "table" then
      return recorded("include", name)
    end
    return recorded("include", lay_over({ name = name, with = parameters }, options))
  end,
}

setmetatable(M, {
  __index = function(_, name)
    if type(name) ~= "string" then
      return nil
    elseif name == "base" then
      return base
    end
    local make = made[name]
    if not make then
      make = constructor(name)
      made[name] = make
    end
    constructors[make] = name
    return make
  end,
  __newindex = function(_, name)
    error(("policies.%s: the policy library cannot be changed"):format(tostring(name)), 2)
  end,
  __metatable = false,
})

-- The other side, for the configuration alone: not reachable through `p`.
package.loaded["moongate.policy_records"] = {
  record_of = record_of,
  is_policy = is_policy,
  --- The policy whose `p.<name>` a value is: it stands in a list without having been called.
  uncalled = function(value)
    return constructors[value]
  end,
}

return M
