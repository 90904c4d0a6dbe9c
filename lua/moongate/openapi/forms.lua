-- SPDX-License-Identifier: Apache-2.0
--- From a form, `application/x-www-form-urlencoded` or `multipart/form-data` (RFC 7578), to the JSON
--- object that its schema judges.

local json = require("moongate.json")
local parameters = require("moongate.openapi.parameters")

local M = {}

local MAX_PARTS, MAX_HEAD = 1000, 8192
local FILE = '"file"' -- stands for the content of one

local function mistake(name, rule, details)
  return nil, { name = name, rule = rule, details = details }
end

--- Whether `media` is in a list such as "image/png, image/*".
local function is_listed(list, media)
  for one in list:lower():gmatch("[^,%s]+") do
    if one == media or one == "*/*" or one == (media:match("^[^/]*/") or "") .. "*" then
      return true
    end
  end
  return false
end

local function quoted_or_token(params, name)
  return params:match(";%s*" .. name .. '="([^"]*)"') or params:match(";%s*" .. name .. "=([^;%s\"]+)")
end

--- The head of a part. @return { name, is_file, media }? nil where it is none
local function read_head(text)
  local part, disposition = {}, nil
  for line in (text .. "\r\n"):gmatch("(.-)\r\n") do
    local name, value = line:match("^([%w-]+):%s*(.-)%s*$")
    if not name then
      return nil
    end
    name = name:lower()
    if name == "content-disposition" then
      if disposition then
        return nil
      end
      disposition = value
    elseif name == "content-type" then
      part.media = value:match("^[^;%s]*"):lower()
    elseif name == "content-transfer-encoding" and not is_listed("7bit,8bit,binary", value:lower()) then
      return nil -- RFC 7578, 4.7: nobody decodes it
    end
  end
  if not disposition or not disposition:lower():find("^form%-data%s*;") then
    return nil
  end
  local lower = disposition:lower()
  part.name = quoted_or_token(disposition, "[nN][aA][mM][eE]")
  part.is_file = lower:find(";%s*filename%*?=") ~= nil
  if select(2, lower:gsub(";%s*name=", "")) ~= 1 then
    return nil
  end
  return part.name and part or nil
end

--- The parts of a multipart body: { name, text, is_file, media }.
---@return table[]?
---@return table? mistake
function M.multipart(field, text)
  local boundary = quoted_or_token(field, "[bB][oO][uU][nN][dD][aA][rR][yY]")
  if not boundary or #boundary > 70 then
    return mistake("", "multipart", "has no boundary")
  end
  local delimiter = "\r\n--" .. boundary
  if text:sub(1, #delimiter - 2) ~= delimiter:sub(3) then
    return mistake("", "multipart", "does not begin with its boundary")
  end
  local parts, at = {}, #delimiter - 1
  while text:sub(at, at + 1) ~= "--" do
    local from = text:match("^[ \t]*\r\n()", at)
    local head_end = from and text:find("\r\n\r\n", from, true)
    local stop = head_end and text:find(delimiter, head_end + 2, true)
    if not stop or head_end - from > MAX_HEAD then
      return mistake("", "multipart", "is cut, or no multipart body")
    elseif #parts >= MAX_PARTS then
      return mistake("", "count", ("has more than %d parts"):format(MAX_PARTS))
    end
    local part = read_head(text:sub(from, head_end - 1))
    if not part then
      return mistake("", "multipart", "has a part that is no form field")
    end
    part.text = text:sub(head_end + 4, stop - 1)
    parts[#parts + 1] = part
    at = stop + #delimiter
  end
  return parts
end

--- One part as JSON.
local function part_json(shape, part)
  local listed = shape and shape.content_type
  if listed and part.media and not is_listed(listed, part.media) then
    return mistake(part.name, "content_type", ("%s is not in the definition"):format(part.media))
  end
  if part.is_file or shape and shape.is_file
    or part.media and not part.media:find("^text/") and not part.media:find("json", 1, true)
  then
    return FILE
  elseif part.media and part.media:find("json", 1, true) or shape and shape.media then
    return part.text
  end
  local kinds = shape and (shape.kinds.array and shape.item_kinds or shape.kinds) or {}
  return parameters.scalar(part.text, kinds)
end

local function checked(name, text)
  local value, err = json.decode(text)
  if value == nil then -- what is spliced into an object has to stand for itself
    return mistake(name, "json", tostring(err))
  end
  return text
end

--- The members of a multipart body as JSON, lists of those that came several times.
local function multipart_members(shapes, field, text)
  local parts, err = M.multipart(field, text)
  if not parts then
    return nil, err
  end
  local lists, names = {}, {}
  for _, part in ipairs(parts) do
    local value
    value, err = part_json(shapes[part.name], part)
    value, err = value and checked(part.name, value), err
    if not value then
      return mistake(part.name, err and err.rule or "json", err and err.details or "is no JSON")
    end
    if not lists[part.name] then
      lists[part.name] = {}
      names[#names + 1] = part.name
    end
    table.insert(lists[part.name], value)
  end
  local members = {}
  for _, name in ipairs(names) do
    local shape, list = shapes[name], lists[name]
    local is_list = #list > 1
      or shape and shape.kinds.array and not list[1]:find("^%s*%[")
    members[name] = is_list and "[" .. table.concat(list, ",") .. "]" or list[1]
  end
  return members, nil, names
end

local function urlencoded_members(shapes, text)
  local values, names, is_cut = parameters.query(text)
  if is_cut then
    return mistake("", "count", "has too many fields")
  end
  local members, order, used = {}, {}, {}
  for _, shape in pairs(shapes) do
    local value, more = parameters.from_query(shape, values, names, used, shapes)
    if value then
      if type(more) == "table" then
        table.insert(more, 1, value)
        value = "[" .. table.concat(more, ",") .. "]" -- fits where there is no one type
      end
      local good, err = checked(shape.name, value)
      if not good then
        return nil, err
      end
      members[shape.name] = value
      order[#order + 1] = shape.name
    elseif more then
      return mistake(shape.name, more, "is not written as the definition says")
    end
  end
  for _, name in ipairs(names) do
    if not used[name] and not members[name] then
      local list = {}
      for i, one in ipairs(values[name]) do
        list[i] = parameters.text(one)
      end
      members[name] = #list > 1 and "[" .. table.concat(list, ",") .. "]" or list[1]
      order[#order + 1] = name
    end
  end
  return members, nil, order
end

--- The members of a form as JSON, by name.
---@param shapes table<string, table> what the definition says of the fields (Definition:form)
---@param field string the Content-Type
---@param text string the body
---@return table<string, string>? members
---@return table? mistake { name, rule, details }
---@return string[] names
function M.members(shapes, field, text)
  if field:lower():find("^%s*multipart/") then
    return multipart_members(shapes, field, text)
  end
  return urlencoded_members(shapes, text)
end

--- Members as one JSON object.
---@param members table<string, string>
---@param names string[]
---@return string json
function M.object(members, names)
  local out = {}
  for i, name in ipairs(names) do
    out[i] = parameters.text(name) .. ":" .. members[name]
  end
  return "{" .. table.concat(out, ",") .. "}"
end

return M
