-- SPDX-License-Identifier: Apache-2.0
--- From the text of a parameter to the JSON that its schema judges, by `style` and `explode`.

local json = require("moongate.json")

local M = {}

local NUMBER = "^-?%d+%.?%d*[eE]?[+-]?%d*$"
local MAX_ITEMS = 1000

local function is_number(text)
  local whole = text:match("^-?(%d+)")
  return whole and text:find(NUMBER) and (whole == "0" or whole:sub(1, 1) ~= "0")
    and not text:find("[.eE+-]$") and tonumber(text) ~= nil
end

--- One value as JSON: what its schema calls a number is one, where it looks like it.
---@param text string
---@param kinds table<string, boolean>
---@return string
function M.scalar(text, kinds)
  if (kinds.integer or kinds.number) and is_number(text) then
    return text
  elseif kinds.boolean and (text == "true" or text == "false") then
    return text
  elseif kinds.null and not kinds.string and (text == "" or text == "null") then
    return "null"
  end
  return (json.encode(text)) or '"\\ufffd"' -- not UTF-8
end

local function split(text, separator)
  local out, from = {}, 1
  if text == "" then
    return out
  end
  while #out < MAX_ITEMS do
    local at = text:find(separator, from, true)
    out[#out + 1] = text:sub(from, at and at - 1)
    if not at then
      break
    end
    from = at + #separator
  end
  return out
end

local function array_of(items, kinds)
  local out = {}
  for i = 1, #items do
    out[i] = M.scalar(items[i], kinds)
  end
  return "[" .. table.concat(out, ",") .. "]"
end

local function object_of(names, values, member_kinds)
  local out = {}
  for i = 1, #names do
    out[i] = (json.encode(names[i]) or '"\\ufffd"') .. ":"
      .. M.scalar(values[i] or "", member_kinds[names[i]] or {})
  end
  return "{" .. table.concat(out, ",") .. "}"
end

local SEPARATORS = { spaceDelimited = " ", pipeDelimited = "|" }

--- "a,1,b,2" or "a=1,b=2" as an object.
local function listed_object(parameter, text)
  local names, values = {}, {}
  local parts = split(text, SEPARATORS[parameter.style] or ",")
  if parameter.explode then
    for i, part in ipairs(parts) do
      names[i], values[i] = part:match("^([^=]*)=?(.*)$")
    end
  else
    for i = 1, #parts, 2 do
      names[#names + 1], values[#values + 1] = parts[i], parts[i + 1] or ""
    end
  end
  return object_of(names, values, parameter.member_kinds)
end

local function strip(parameter, text)
  if parameter.style == "label" then
    return (text:gsub("^%.", ""))
  elseif parameter.style == "matrix" then
    return (text:gsub("^;[^=]*=?", ""))
  end
  return text
end

--- A parameter that is one text: in the path, a header, a cookie.
---@param parameter table
---@param text string
---@return string json
function M.from_text(parameter, text)
  if parameter.media then
    return parameter.media:find("json", 1, true) and text or M.scalar(text, { string = true })
  end
  text = strip(parameter, text)
  local kinds = parameter.kinds
  if kinds.array then
    local separator = parameter.style == "label" and parameter.explode and "."
      or SEPARATORS[parameter.style] or ","
    local items = split(text, separator)
    if parameter.place == "header" then
      for i, item in ipairs(items) do
        items[i] = item:match("^%s*(.-)%s*$")
      end
    end
    return array_of(items, parameter.item_kinds)
  elseif kinds.object then
    return listed_object(parameter, text)
  end
  return M.scalar(text, kinds)
end

local function decode(text)
  return (text:gsub("+", " "):gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

--- Query parameters by name: { values… }, in the order that they came.
---@param query string
---@return table<string, string[]> values
---@return string[] names in order
function M.query(query)
  local values, names = {}, {}
  for pair in (query or ""):gmatch("[^&]+") do
    if #names >= MAX_ITEMS then
      break
    end
    local name, value = pair:match("^([^=]*)=?(.*)$")
    name = decode(name)
    if not values[name] then
      values[name] = {}
      names[#names + 1] = name
    end
    local list = values[name]
    if #list < MAX_ITEMS then
      list[#list + 1] = decode(value)
    end
  end
  return values, names
end

--- A query parameter as JSON, or nil where it is absent. What it used is marked in `used`.
---@param parameter table
---@param values table<string, string[]>
---@param names string[]
---@param used table<string, boolean>
---@return string?
function M.from_query(parameter, values, names, used)
  local kinds = parameter.kinds
  if kinds.object and not parameter.media then
    if parameter.style == "deepObject" then
      local inner, found = {}, {}
      for _, name in ipairs(names) do
        local outer, key = name:match("^([^%[]*)%[([^%]]*)%]$")
        if outer == parameter.name then
          used[name] = true
          inner[#inner + 1], found[#found + 1] = key, values[name][1]
        end
      end
      return #inner > 0 and object_of(inner, found, parameter.member_kinds) or nil
    elseif parameter.explode and not values[parameter.name] then
      local inner, found = {}, {}
      for _, name in ipairs(names) do
        if parameter.member_kinds[name] then
          used[name] = true
          inner[#inner + 1], found[#found + 1] = name, values[name][1]
        end
      end
      return #inner > 0 and object_of(inner, found, parameter.member_kinds) or nil
    end
  end
  local name = values[parameter.name] and parameter.name or parameter.name .. "[]"
  local list = values[name]
  if not list then
    return nil
  end
  used[name] = true
  if kinds.array and not parameter.media and (parameter.explode or #list > 1) then
    return array_of(list, parameter.item_kinds)
  end
  return M.from_text(parameter, list[1])
end

return M
