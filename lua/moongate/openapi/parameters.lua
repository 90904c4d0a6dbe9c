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

--- A text as JSON.
function M.text(text)
  return (json.encode(text)) or '"\\ufffd"' -- not UTF-8
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
  return M.text(text)
end

--- @return string[]? items nil: more than are read
local function split(text, separator)
  local out, from = {}, 1
  if text == "" then
    return out
  end
  while #out < MAX_ITEMS do
    local at = text:find(separator, from, true)
    out[#out + 1] = text:sub(from, at and at - 1)
    if not at then
      return out
    end
    from = at + #separator
  end
  return nil
end

local function array_of(items, kinds)
  local out = {}
  for i = 1, #items do
    out[i] = M.scalar(items[i], kinds)
  end
  return "[" .. table.concat(out, ",") .. "]"
end

local NO_KINDS = {}

--- An object as JSON. A member that came several times is a list: what is no array does not fit then.
local function object_of(shape, names, lists)
  local out = {}
  for i = 1, #names do
    local name, list = names[i], lists[i]
    local items = shape.member_items[name]
    local text
    if items then
      text = array_of(list, items)
    elseif #list > 1 then
      text = array_of(list, NO_KINDS)
    else
      text = M.scalar(list[1] or "", shape.member_kinds[name] or shape.rest_kinds or NO_KINDS)
    end
    out[i] = M.text(name) .. ":" .. text
  end
  return "{" .. table.concat(out, ",") .. "}"
end

local SEPARATORS = { spaceDelimited = " ", pipeDelimited = "|" }

local function as_it_is(text)
  return text
end

--- What a URL's path says.
local function decode(text)
  return (text:gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end
M.decode = decode

--- What a query or a form says.
local function decode_form(text)
  return decode((text:gsub("+", " ")))
end

--- "a,1,b,2" or "a=1,b=2" as an object.
local function listed_object(shape, text, separator, read)
  local names, lists, places = {}, {}, {}
  local parts = split(text, separator)
  if not parts then
    return nil, "count"
  end
  local step = shape.explode and 1 or 2
  for i = 1, #parts, step do
    local name, value = parts[i], parts[i + 1] or ""
    if step == 1 then
      name, value = parts[i]:match("^([^=]*)=?(.*)$")
    end
    name, value = read(name), read(value)
    local at = places[name]
    if not at then
      at = #names + 1
      places[name], names[at], lists[at] = at, name, {}
    end
    table.insert(lists[at], value)
  end
  return object_of(shape, names, lists)
end

--- What stands before and between the values of a parameter in the path (RFC 6570).
--- @return string? text without what stands before it; nil: it is not written so
--- @return string separator
local function unwrap(shape, text, read)
  if shape.style == "label" then
    return text:match("^%.(.*)$"), shape.explode and "." or ","
  elseif shape.style ~= "matrix" then
    return text, SEPARATORS[shape.style] or ","
  elseif not shape.explode or not (shape.kinds.array or shape.kinds.object) then
    local name, rest = text:match("^;([^=]*)=?(.*)$")
    return name and read(name) == shape.name and rest or nil, ","
  elseif shape.kinds.object then
    return text:match("^;(.*)$"), ";"
  end
  local prefix = text:match("^;[^=]*=")
  if not prefix or read(prefix:sub(2, -2)) ~= shape.name then
    return nil, ","
  end
  return text:sub(#prefix + 1), prefix
end

--- A parameter that is one text: in the path, a header, a cookie. A delimiter stands as it is, and what
--- is encoded is of a value (RFC 6570): a text is taken apart first, and each part decoded. Spaces and
--- bars, which no URL holds, are delimiters that come encoded (OpenAPI 3.1, style examples).
---@param shape table
---@param text string
---@param read? fun(text: string): string decodes; nil: the text has no encoding, as that of a header
---@return string? json nil: it is not written as it shall be
---@return string? rule that it breaks
function M.from_text(shape, text, read)
  read = read or as_it_is
  if shape.media or SEPARATORS[shape.style] then
    text, read = read(text), as_it_is
  end
  if shape.media then
    return shape.media:find("json", 1, true) and text or M.text(text)
  end
  local inner, separator = unwrap(shape, text, read)
  local kinds = shape.kinds
  if not inner then
    return nil, "style"
  elseif kinds.array then
    local items = split(inner, separator)
    if not items then
      return nil, "count"
    end
    for i, item in ipairs(items) do
      items[i] = shape.place == "header" and item:match("^%s*(.-)%s*$") or read(item)
    end
    return array_of(items, shape.item_kinds)
  elseif kinds.object then
    return listed_object(shape, inner, separator, read)
  end
  return M.scalar(read(inner), kinds)
end

--- Query parameters, or those of a form, by name: { values…, raw = { as they came… } }, in the order
--- that they came.
---@param query string
---@return table<string, table> values
---@return string[] names in order
---@return boolean is_cut there are more than are read
function M.query(query)
  local values, names, count = {}, {}, 0
  for pair in (query or ""):gmatch("[^&]+") do
    count = count + 1
    if count > MAX_ITEMS then
      return values, names, true
    end
    local name, value = pair:match("^([^=]*)=?(.*)$")
    name = decode_form(name)
    local list = values[name]
    if not list then
      list = { raw = {} }
      values[name], names[#names + 1] = list, name
    end
    local at = #list + 1
    list[at], list.raw[at] = decode_form(value), value
  end
  return values, names, false
end

--- The members of an object that stand in the query by themselves: what `pick` takes of a name.
local function spread_object(shape, values, names, used, pick)
  local inner, lists = {}, {}
  for _, name in ipairs(names) do
    local key = pick(name)
    if key then
      used[name] = true
      inner[#inner + 1], lists[#lists + 1] = key, values[name]
    end
  end
  return #inner > 0 and object_of(shape, inner, lists) or nil
end

local function query_object(shape, values, names, used, known)
  if shape.style == "deepObject" then
    return spread_object(shape, values, names, used, function(name)
      local outer, key = name:match("^([^%[]*)%[([^%]]*)%]$")
      return outer == shape.name and key or nil
    end)
  end
  return spread_object(shape, values, names, used, function(name)
    return (shape.member_kinds[name] or shape.rest_kinds and not known[name]) and name or nil
  end)
end

--- A query parameter as JSON, or nil where it is absent. What it used is marked in `used`.
---@param shape table
---@param values table<string, table> as `query` gives them
---@param names string[]
---@param used table<string, boolean>
---@param known table<string, boolean> names of parameters of the operation
---@return string|false|nil json false: it is there, and there is nothing to judge
---@return string|string[]|nil more the rule that it breaks; or the other values where there are several
function M.from_query(shape, values, names, used, known)
  local kinds = shape.kinds
  if kinds.object and not shape.media
    and (shape.style == "deepObject" or shape.explode and not values[shape.name])
  then
    return query_object(shape, values, names, used, known)
  end
  local name = values[shape.name] and shape.name or shape.name .. "[]"
  local list = values[name]
  if not list then
    return nil
  end
  used[name] = true
  if shape.allow_empty and #list == 1 and list[1] == "" then
    return false
  elseif kinds.array and not shape.media and (shape.explode or #list > 1) then
    return array_of(list, shape.item_kinds)
  end
  local first, rule = M.from_text(shape, list.raw[1], decode_form)
  if not first or #list == 1 then
    return first, rule
  end
  -- Who reads it may take any of them.
  local others = {}
  for i = 2, #list do
    others[i - 1] = M.from_text(shape, list.raw[i], decode_form)
    if not others[i - 1] then
      return nil, "style"
    end
  end
  return first, others
end

return M
