-- SPDX-License-Identifier: Apache-2.0
--- `{{name}}` in strings. Values that come from the environment or a file are secret: `show` gives
--- the text as it was written instead, and nothing else may be printed.

local near = require("moongate.near")

local M = {}
M.__index = M

---@class moongate.NamedValues
---@field values table<string, string>

--- Reads what a reference names.
---@param source moongate.Source
---@param reference table { env = "NAME" } or { file = "path" }
---@return string? secret
---@return string? err
function M.read(source, reference)
  if reference.env then
    local value = source.env and source.env(reference.env)
    if not value or value == "" then
      return nil, ("environment variable %s is not set"):format(reference.env)
    end
    return value
  end
  local text, err = source.read(reference.file)
  if not text then
    return nil, ("file %s cannot be read: %s"):format(reference.file, err or "not found")
  end
  text = text:gsub("[\r\n]+$", "")
  if text == "" then
    return nil, ("file %s is empty"):format(reference.file)
  end
  return text
end

---@param source moongate.Source
---@return moongate.NamedValues
function M.new(source)
  return setmetatable({
    source = source,
    values = {},
    is_secret = {},
    originals = {}, -- expanded text with a secret in it -> the text as written
  }, M)
end

--- The resolver that schemas use for fields marked `secret`.
function M:resolver()
  return function(reference)
    local value, err = M.read(self.source, reference)
    if value then
      self.originals[value] = reference.env and ("(env %s)"):format(reference.env)
        or ("(file %s)"):format(reference.file)
    end
    return value, err
  end
end

--- How an error shows a value, where it must not show it as it is.
function M:shower()
  local show = require("moongate.schema").show
  return function(value)
    local original = type(value) == "string" and self.originals[value]
    if original then
      return original:find("^%(") and original or show(original)
    end
    return show(value)
  end
end

-- A short secret is hidden only where it stands by itself: gaps in the words around it would tell it.
local SHORT_BYTES = 4

local function stands_alone(text, first, last)
  return not text:sub(first - 1, first - 1):find("[%w_]")
    and not text:sub(last + 1, last + 1):find("[%w_]")
end

-- Where a secret is next.
local function find_secret(text, secret, from)
  local first, last = text:find(secret, from, true)
  while first and #secret < SHORT_BYTES and not stands_alone(text, first, last) do
    first, last = text:find(secret, first + 1, true)
  end
  return first
end

--- Removes secrets from a text that goes to people: the message of an error, say. Where one begins
--- with another, the longer one goes.
---@param text string
---@return string
function M:redact(text)
  local parts, at = {}, 1
  while true do
    local first, found
    for secret in pairs(self.originals) do
      local here = secret ~= "" and find_secret(text, secret, at)
      if here and (not first or here < first or here == first and #secret > #found) then
        first, found = here, secret
      end
    end
    if not first then
      break
    end
    parts[#parts + 1] = text:sub(at, first - 1)
    parts[#parts + 1] = self.originals[found]
    at = first + #found
  end
  return #parts == 0 and text or table.concat(parts) .. text:sub(at)
end

--- Takes the `named_values` of the configuration.
---@param given table<string, string|table>
---@param report fun(name: string, message: string)
function M:define(given, report)
  local schema = require("moongate.schema")
  for name, value in pairs(given) do
    if type(name) ~= "string" or not name:find("^[%w_][%w_.-]*$") then
      report(name, ("expected a name of letters, digits, '_', '.', '-', got %s"):format(
        schema.show(name)))
    elseif schema.is_reference(value) then
      local text, err = M.read(self.source, value)
      if text then
        self.values[name], self.is_secret[name] = text, true
        self.originals[text] = ("{{%s}}"):format(name)
      else
        self.values[name] = ""
        report(name, err)
      end
    elseif type(value) == "string" then
      self.values[name] = value
      local inner = value:match("{{%s*([%w_][%w_.-]*)%s*}}")
      if inner and given[inner] ~= nil then
        report(name, ("expected a text without other named values, got one with {{%s}}"):format(inner))
      end
    else
      self.values[name] = ""
      report(name, ("expected a text, { env = \"NAME\" } or { file = \"path\" }, got %s"):format(
        schema.show(value)))
    end
  end
end

--- Replaces `{{name}}` in a text.
---@param text string
---@return string
---@return string[]? errs one for each name that nobody defined
function M:expand(text)
  if not text:find("{{", 1, true) then
    return text
  end
  local errs, has_secret
  local out = text:gsub("{{%s*([%w_][%w_.-]*)%s*}}", function(name)
    local value = self.values[name]
    if value == nil then
      local hint = near.find(name, near.keys(self.values))
      errs = errs or {}
      errs[#errs + 1] = { name = name, hint = hint }
      return nil
    end
    has_secret = has_secret or self.is_secret[name]
    return value
  end)
  if has_secret then
    self.originals[out] = text
  end
  return out, errs
end

--- Copies tables, every string in them expanded. What is no plain table stays itself; a table that
--- is found in two places, or within itself, is copied once.
---@param value any
---@param path string
---@param is_opaque fun(value: any): boolean
---@param report fun(path: string, message: string, hint: string?)
function M:expand_all(value, path, is_opaque, report)
  local join, copies = require("moongate.schema").join, {}
  local function walk(item, at, depth)
    if type(item) == "string" then
      local text, errs = self:expand(item)
      for _, err in ipairs(errs or {}) do
        report(at, ("unknown named value %q"):format(err.name), err.hint)
      end
      return text
    elseif type(item) ~= "table" or is_opaque(item) or depth > 64 then
      return item
    elseif copies[item] then
      return copies[item]
    end
    local out = {}
    copies[item] = out
    for key, inner in next, item do
      out[key] = walk(inner, join(at, key), depth + 1)
    end
    return out
  end
  return walk(value, path, 1)
end

return M
