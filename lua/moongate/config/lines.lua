-- SPDX-License-Identifier: Apache-2.0
--- Finds the line on which a field of a returned table was written, by reading the source's table
--- constructors. What is computed has no line of its own; then the nearest field around it is
--- named.

local lexer = require("moongate.lexer")

local M = {}

local opens = { ["("] = ")", ["{"] = "}", ["["] = "]" }
local block_opens = { ["function"] = true, ["do"] = true, ["if"] = true, ["repeat"] = true }

local join = require("moongate.schema").join

local PATH_BYTES = 1000 -- longer ones, of constructors within constructors, are not told apart

--- Reads the constructor that opens at token `i`; gives the token after it.
local function read_table(text, t, i, path, lines)
  local kind = t.kind
  local index = 0
  i = i + 1
  while kind[i] ~= "}" and kind[i] ~= "eof" do
    local line, key = t.line[i]
    if kind[i] == "name" and kind[i + 1] == "=" then
      key = text:sub(t.first[i], t.last[i])
      i = i + 2
    elseif kind[i] == "[" and kind[i + 2] == "]" and kind[i + 3] == "=" then
      local literal = text:sub(t.first[i + 1], t.last[i + 1])
      key = tonumber(literal) or literal:match("^[\"'](.*)[\"']$")
      i = i + 4
    else
      index = index + 1
      key = index
    end
    local here = key and #path < PATH_BYTES and join(path, key) or nil
    if here and not lines[here] then
      lines[here] = line
    end
    i = M.read_value(text, t, i, here, lines)
    -- Past the separator, or past what does not belong here: a mistake that the compiler names.
    if kind[i] ~= "}" and kind[i] ~= "eof" then
      i = i + 1
    end
  end
  return kind[i] == "eof" and i or i + 1
end

--- Reads an expression up to the comma or bracket that ends it. The first constructor in it is
--- taken for its value: `{ … }`, `p.name { … }`, `f({ … })`.
function M.read_value(text, t, i, path, lines)
  local kind, depth, has_table = t.kind, 0, false
  while true do
    local k = kind[i]
    if k == "eof" then
      return i
    elseif depth == 0 and (k == "," or k == ";" or k == "}" or k == ")" or k == "]") then
      return i
    elseif k == "{" and not has_table and path then
      has_table = true
      i = read_table(text, t, i, path, lines)
    else
      if opens[k] or block_opens[k] then
        depth = depth + 1
        has_table = has_table or k == "function"
      elseif k == ")" or k == "}" or k == "]" or k == "end" or k == "until" then
        depth = depth - 1
        if depth < 0 then
          return i
        end
      end
      i = i + 1
    end
  end
end

--- Maps field paths of the table that a file returns to lines.
---@param text string
---@return table<string, integer>
function M.map(text)
  local lines = {}
  local t = lexer.scan(text)
  if not t then
    return lines
  end
  local kind, depth, last_return = t.kind, 0, nil
  for i = 1, #kind do
    local k = kind[i]
    if block_opens[k] then
      depth = depth + 1
    elseif k == "end" or k == "until" then
      depth = depth - 1
    elseif k == "return" and depth == 0 then
      last_return = i
    end
  end
  if not last_return then
    return lines
  end
  lines[""] = t.line[last_return]
  if kind[last_return + 1] == "name" and kind[last_return + 2] == "eof" then
    -- `local M = { … }` … `return M`, and `M.field = …` in between
    local name = text:sub(t.first[last_return + 1], t.last[last_return + 1])
    for i = 1, last_return - 1 do
      if kind[i] == "name" and text:sub(t.first[i], t.last[i]) == name and kind[i - 1] ~= "." then
        if kind[i + 1] == "=" then
          lines[""] = t.line[i]
          M.read_value(text, t, i + 2, "", lines)
        elseif kind[i + 1] == "." and kind[i + 3] == "=" then
          local field = text:sub(t.first[i + 2], t.last[i + 2])
          lines[field] = t.line[i + 2]
          M.read_value(text, t, i + 4, field, lines)
        end
      end
    end
  else
    M.read_value(text, t, last_return + 1, "", lines)
  end
  return lines
end

--- The line of a field, or of the nearest field around it.
---@param lines table<string, integer>
---@param path string
---@return integer?
function M.find(lines, path)
  while true do
    if lines[path] then
      return lines[path]
    elseif path == "" then
      return nil
    end
    path = path:match("^(.*)%.[^.%[]*$") or path:match("^(.*)%[[^%[]*%]$") or ""
  end
end

return M
