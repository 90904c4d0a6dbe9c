-- SPDX-License-Identifier: Apache-2.0
--- Checks a schema before it is compiled: those of users' policies are written by hand, and a keyword
--- that nothing heeds is a limit that nobody keeps.

local near = require("moongate.near")

local M = {}

local MAX_DEPTH = 64

--- Keywords, and the types of their values. Those that are `true` say something to people only.
local KEYWORDS = {
  type = { "string", "table" }, properties = { "table" }, order = { "table" },
  required = { "table" }, additionalProperties = { "boolean", "table" },
  propertyNames = { "string" }, nameExpected = { "string" },
  items = { "table" }, minItems = { "number" }, maxItems = { "number" }, enum = { "table" },
  minimum = { "number" }, maximum = { "number" }, exclusiveMinimum = { "number" },
  ceiling = { "number" }, -- of `integer`: as a maximum, but told only where it is passed
  minLength = { "number" }, maxLength = { "number" }, pattern = { "string" }, oneOf = { "table" },
  anyOf = { "table" }, secret = { "boolean" }, check = { "function" }, expected = { "string" },
  unit = { "string" }, is_policies = true, default = true, description = true, example = true,
  examples = true, title = true, deprecated = true, ["$comment"] = true, ["$schema"] = true,
  ["$id"] = true,
}

local function refuse(at, format, ...)
  error(("schema: %s%s"):format(at == "" and "" or at .. ": ", format:format(...)), 0)
end

local function check_keyword(at, key, value)
  local kinds = KEYWORDS[key]
  if kinds == nil then
    local hint = type(key) == "string" and near.find(key, near.keys(KEYWORDS))
    refuse(at, "unknown keyword %q%s", tostring(key), hint and ("; did you mean %q?"):format(hint) or "")
  elseif kinds == true then
    return
  end
  for i = 1, #kinds do
    if type(value) == kinds[i] then
      return
    end
  end
  refuse(at, "%s must be a %s, and is a %s", key, table.concat(kinds, " or a "), type(value))
end

local function check_pattern(at, key, pattern)
  local ok, why = pcall(string.find, "", pattern)
  if not ok then
    refuse(at, "%s is no Lua pattern: %s", key, tostring(why))
  end
end

local check

local function check_properties(def, at, depth)
  for name, property in next, def.properties or {} do
    if type(name) ~= "string" then
      refuse(at, "properties has an item without a name")
    end
    check(property, at == "" and name or at .. "." .. name, depth + 1)
  end
  for _, name in ipairs(def.required or {}) do
    if type(name) ~= "string" then
      refuse(at, "required must list names")
    elseif def.additionalProperties == false and not (def.properties or {})[name] then
      refuse(at, "required names %q, which is no property", name)
    end
  end
end

function check(def, at, depth)
  if type(def) ~= "table" then
    refuse(at, "a schema must be a table, and is a %s", type(def))
  elseif depth > MAX_DEPTH then
    refuse("", "it is more than %d tables deep, or within itself", MAX_DEPTH)
  end
  for key, value in next, def do
    check_keyword(at, key, value)
  end
  for _, key in ipairs({ "pattern", "propertyNames" }) do
    if def[key] then
      check_pattern(at, key, def[key])
    end
  end
  check_properties(def, at, depth)
  for _, key in ipairs({ "items", "additionalProperties" }) do
    if type(def[key]) == "table" then
      check(def[key], at .. (key == "items" and "[]" or ".*"), depth + 1)
    end
  end
  for _, key in ipairs({ "oneOf", "anyOf" }) do
    for _, branch in ipairs(def[key] or {}) do
      check(branch, at, depth + 1)
    end
  end
end

--- @raises "schema: tag: unknown keyword \"patern\"; did you mean \"pattern\"?"
---@param def any
function M.check(def)
  check(def, "", 1)
end

return M
