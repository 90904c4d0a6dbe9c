-- SPDX-License-Identifier: Apache-2.0
--- Collects what is wrong with a configuration, each with its place, and writes it for people.

local lines = require("moongate.config.lines")

local M = {}
M.__index = M

---@class moongate.ConfigError
---@field file string
---@field line? integer
---@field path? string field path within the file's table
---@field message string
---@field expected? string
---@field got? string
---@field hint? string the near miss

function M.new()
  return setmetatable({ list = {}, maps = {}, redact = nil }, M)
end

--- Tells the source of a file, so that fields have lines.
function M:add_source(file, text)
  self.maps[file] = lines.map(text)
end

--- The line of a field in a file, and whether the field itself was found.
function M:line_of(file, path)
  local map = self.maps[file]
  if not map then
    return nil, false
  end
  return lines.find(map, path), map[path] ~= nil
end

--- Adds an error; the line is looked up where the caller does not know it.
---@param err moongate.ConfigError
function M:add(err)
  if not err.line and err.path then
    err.line = self:line_of(err.file, err.path)
  end
  if self.redact then
    err.message = self.redact(err.message)
    err.got = err.got and self.redact(err.got)
  end
  self.list[#self.list + 1] = err
end

--- Whether a field of a file has been complained of.
function M:has(file, path)
  for _, err in ipairs(self.list) do
    if err.file == file and err.path == path then
      return true
    end
  end
  return false
end

--- Whether a field of a file, or one within it, has been complained of.
function M:has_within(file, path)
  for _, err in ipairs(self.list) do
    local at = err.file == file and err.path
    if at and at:sub(1, #path) == path and at:find("^[.%[]", #path + 1) or at == path then
      return true
    end
  end
  return false
end

--- Whether a file has been complained of.
function M:has_file(file)
  for _, err in ipairs(self.list) do
    if err.file == file then
      return true
    end
  end
  return false
end

--- Adds what a schema found.
function M:add_all(file, errs)
  for _, err in ipairs(errs or {}) do
    err.file = file
    self:add(err)
  end
end

local RAISED_BYTES = 2000

--- What was raised, as a text: values of the user's may be anything, and do anything when asked.
---@param raised any
---@return string
function M.text_of(raised)
  if type(raised) ~= "string" then
    return ("an error that is no text, but %s"):format(raised == nil and "nil" or "a " .. type(raised))
  end
  return #raised > RAISED_BYTES and raised:sub(1, RAISED_BYTES) .. "..." or raised
end

--- Adds an error that Lua raised: "gateway.lua:3: unexpected symbol near '}'".
function M:add_raised(file, raised)
  local message = M.text_of(raised)
  local named, line, rest = message:match("^([^:\n]+):(%d+): (.*)$")
  if named and self.maps[named] then
    self:add({ file = named, line = tonumber(line), message = rest })
  else
    self:add({ file = file, message = message })
  end
end

local MOST = 100 -- more are counted only: the first ones are read

function M:sort()
  table.sort(self.list, function(a, b)
    if a.file ~= b.file then
      return a.file < b.file
    elseif (a.line or 0) ~= (b.line or 0) then
      return (a.line or 0) < (b.line or 0)
    elseif (a.path or "") ~= (b.path or "") then
      return (a.path or "") < (b.path or "")
    end
    return a.message < b.message
  end)
  local more = #self.list - MOST
  for i = #self.list, MOST + 1, -1 do
    self.list[i] = nil
  end
  if more > 0 then
    self.list[MOST + 1] = { file = self.list[MOST].file, message = ("%d more"):format(more) }
  end
  return self.list
end

--- One error as a line: `apis/orders.lua:14: policies.inbound[2].calls: expected …, got …`.
---@param err moongate.ConfigError
---@return string
function M.format(err)
  local out = err.file or "configuration"
  if err.line then
    out = out .. ":" .. err.line
  end
  if err.path and err.path ~= "" then
    out = out .. ": " .. err.path
  end
  out = out .. ": " .. err.message
  if err.hint then
    out = ('%s; did you mean "%s"?'):format(out, err.hint)
  end
  return out
end

---@param list moongate.ConfigError[]
---@return string
function M.format_all(list)
  local out = {}
  for i, err in ipairs(list) do
    out[i] = M.format(err)
  end
  return table.concat(out, "\n")
end

return M
