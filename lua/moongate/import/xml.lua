-- SPDX-License-Identifier: Apache-2.0
--- Reads Azure's policy documents: XML whose attributes and texts may hold expressions with bare
--- quotes and angle brackets, `@( … )` and `@{ … }`. No entities but the five, no DTD.

local M = {}

local MAX_DEPTH = 60
local ENTITIES = { lt = "<", gt = ">", amp = "&", quot = '"', apos = "'" }
local CLOSERS = { ["("] = ")", ["{"] = "}" }

local function line_at(text, at)
  local _, count = text:sub(1, at - 1):gsub("\n", "")
  return count + 1
end

local function fail(text, at, message)
  error({ xml = ("line %d: %s"):format(line_at(text, at), message) }, 0)
end

local function unescape(text)
  return (text:gsub("&(#?)(x?)(%w+);", function(hash, hex, name)
    if hash == "#" then
      local code = tonumber(name, hex == "x" and 16 or 10)
      return code and code < 128 and string.char(code) or nil
    end
    return ENTITIES[hex .. name]
  end))
end

--- End of the expression that begins at `at` with "@(" or "@{"; strings are stepped over.
local function expression_end(text, at)
  local open, close = text:sub(at + 1, at + 1), CLOSERS[text:sub(at + 1, at + 1)]
  local depth, i = 0, at + 1
  while i <= #text do
    local c = text:sub(i, i)
    local quote = c == '"' and '"' or text:sub(i, i + 5) == "&quot;" and "&quot;"
    if quote then
      i = i + #quote
      while i <= #text and text:sub(i, i + #quote - 1) ~= quote do
        i = i + (text:sub(i, i) == "\\" and 2 or 1)
      end
      i = i + #quote - 1
    elseif c == open then
      depth = depth + 1
    elseif c == close then
      depth = depth - 1
      if depth == 0 then
        return i
      end
    end
    i = i + 1
  end
  fail(text, at, "an expression without its end")
end

local function read_attributes(text, at)
  local attributes = {}
  while true do
    at = text:find("%S", at) or fail(text, at, "a tag without its end")
    local c = text:sub(at, at)
    if c == ">" then
      return attributes, at + 1, false
    elseif text:sub(at, at + 1) == "/>" then
      return attributes, at + 2, true
    end
    local _, stop, name, quote = text:find("^([%w_.:-]+)%s*=%s*([\"'])", at)
    if not name then
      fail(text, at, "expected an attribute")
    end
    local from = stop + 1
    local finish = from
    if text:find("^%s*@[({]", from) then
      finish = expression_end(text, text:find("@", from, true)) + 1
    end
    finish = text:find(quote, finish, true) or fail(text, at, "an attribute without its end")
    if attributes[name] then
      fail(text, from, ("the attribute %s twice"):format(name))
    end
    attributes[name] = unescape(text:sub(from, finish - 1))
    at = finish + 1
  end
end

local function add_text(node, text)
  if text:find("%S") then
    node.text = (node.text or "") .. text
  end
end

local read_children

local function read_element(text, at, depth)
  local _, stop, name = text:find("^<([%w_.:-]+)", at)
  if not name then
    fail(text, at, "expected an element")
  elseif depth > MAX_DEPTH then
    fail(text, at, "nested too deeply")
  end
  local node = { name = name, line = line_at(text, at), from = at }
  local is_empty
  node.attributes, at, is_empty = read_attributes(text, stop + 1)
  if not is_empty then
    at = read_children(text, at, node, depth)
  end
  node.source = text:sub(node.from, at - 1)
  return node, at
end

function read_children(text, at, node, depth)
  while true do
    if not node.text and text:find("^%s*@[({]", at) then
      local stop = expression_end(text, text:find("@", at, true))
      node.text = unescape(text:sub(at, stop))
      at = stop + 1
    end
    local open = text:find("<", at, true) or fail(text, at, "an element without its end")
    add_text(node, unescape(text:sub(at, open - 1)))
    if text:sub(open, open + 3) == "<!--" then
      local _, stop = text:find("-->", open, true)
      at = (stop or fail(text, open, "a comment without its end")) + 1
    elseif text:sub(open, open + 8) == "<![CDATA[" then
      local stop = text:find("]]>", open, true) or fail(text, open, "CDATA without its end")
      add_text(node, text:sub(open + 9, stop - 1))
      at = stop + 3
    elseif text:sub(open, open + 1) == "</" then
      local _, stop, name = text:find("^</([%w_.:-]+)%s*>", open)
      if name ~= node.name then
        fail(text, open, ("expected </%s>"):format(node.name))
      end
      return stop + 1
    else
      local one
      one, at = read_element(text, open, depth + 1)
      node[#node + 1] = one
    end
  end
end

--- @param text string
--- @return table? root { name, attributes, line, text?, children… }
--- @return string? err
function M.read(text)
  local ok, root = pcall(function()
    local at = 1
    while true do
      at = text:find("<", at, true) or fail(text, at, "there is no element")
      if text:sub(at, at + 3) == "<!--" then
        at = select(2, text:find("-->", at, true)) or fail(text, at, "a comment without its end")
      elseif text:sub(at, at + 1) == "<?" then
        at = select(2, text:find("?>", at, true)) or fail(text, at, "a declaration without its end")
      elseif text:sub(at, at + 1) == "<!" then
        fail(text, at, "a DTD, which is not read")
      else
        return (read_element(text, at, 1))
      end
    end
  end)
  if ok then
    return root
  end
  return nil, type(root) == "table" and root.xml or tostring(root)
end

return M
