-- SPDX-License-Identifier: Apache-2.0
--- What the translations of Azure's policies share: values, attributes, calls of our policies. Lines may
--- hold line breaks until `lines` splits them.

local csharp = require("moongate.import.csharp")

local M = {}

local quote = csharp.quote
M.quote = quote

--- Ends the translation of a policy; the message is told with its line.
function M.give_up(message)
  error({ apim = message }, 0)
end
local give_up = M.give_up

local function shown(text)
  return (text:gsub("%s+", " "))
end

local function translated(text)
  local out, err = csharp.read(text)
  if not out then
    give_up(("the expression %s (%s)"):format(shown(text), err))
  end
  return out
end

local function function_of(out)
  if out.expression then
    return ("function(ctx) return %s end"):format(out.expression)
  end
  return "function(ctx)\n  " .. table.concat(out.body, "\n  ") .. "\nend"
end

--- A text or an expression as a Lua value.
function M.value(text)
  text = text or ""
  if csharp.is_expression(text) then
    return function_of(translated(text))
  elseif text:find("@[({]") then
    give_up(("the text with an expression in it: %s"):format(shown(text)))
  elseif text:find("${", 1, true) then -- means nothing there
    return ("function() return %s end"):format(quote(text))
  end
  return quote(text)
end

--- The same inside a function of `ctx`.
function M.inline(text)
  text = text or ""
  if not csharp.is_expression(text) then
    if text:find("@[({]") then
      give_up(("the text with an expression in it: %s"):format(shown(text)))
    end
    local out = csharp.read("@(" .. quote(text) .. ")")
    return out and out.expression or quote(text)
  end
  local out = translated(text)
  return out.expression or ("(%s)(ctx)"):format(function_of(out))
end

--- A condition: an expression as text, or a function.
function M.condition(text)
  if not text then
    give_up("a <when> without condition")
  end
  local out = translated(csharp.is_expression(text) and text or "@(" .. text .. ")")
  if out.expression and not out.expression:find("%f[%w]cs%.") then
    return quote(out.expression)
  end
  return function_of(out)
end

function M.trimmed(text)
  return (text or ""):match("^%s*(.-)%s*$")
end

--- An attribute that is no expression.
function M.plain(node, name, default)
  local text = node.attributes[name]
  if text == nil then
    return default
  elseif csharp.is_expression(text) then
    give_up(("the expression in %s, which must be plain"):format(name))
  end
  return text
end
local plain = M.plain

--- An attribute as a text of Lua; nil where it is not there.
function M.text(node, name)
  return node.attributes[name] and quote(plain(node, name))
end

function M.number(node, name)
  local text = plain(node, name)
  local n = text and (tonumber(text) or text:match("^{{.*}}$") and text)
  if text and not n then
    give_up(("%s=%q, no number"):format(name, text))
  end
  return n and (type(n) == "string" and quote(n) or ("%.14g"):format(n))
end

--- A number, or an expression that gives one.
function M.number_value(node, name)
  local text = node.attributes[name]
  if text and csharp.is_expression(text) then
    return M.value(text)
  end
  return M.number(node, name)
end

function M.boolean(node, name)
  local text = plain(node, name)
  if text ~= nil and text ~= "true" and text ~= "false" then
    give_up(("%s=%q, neither true nor false"):format(name, text))
  end
  return text
end

function M.children(node, name)
  local out = {}
  for _, one in ipairs(node) do
    if one.name == name then
      out[#out + 1] = one
    end
  end
  return out
end
local children = M.children

--- A list of Lua from the texts of the elements `item` within `<name>`, or within the node itself.
function M.texts(node, name, item)
  local owner = name and children(node, name)[1] or node
  local out = {}
  for _, one in ipairs(owner and (name == nil or owner ~= node) and children(owner, item) or {}) do
    out[#out + 1] = M.value(M.trimmed(one.text))
  end
  return #out > 0 and "{ " .. table.concat(out, ", ") .. " }" or nil
end

--- The texts themselves, plain.
function M.plain_texts(node, item)
  local out = {}
  for _, one in ipairs(children(node, item)) do
    local text = M.trimmed(one.text)
    if csharp.is_expression(text) then
      give_up(("the expression in <%s>, which must be plain"):format(item))
    end
    out[#out + 1] = text
  end
  return out
end

function M.list(items)
  return #items > 0 and "{ " .. table.concat(items, ", ") .. " }" or nil
end

--- Attributes that a translation knows; another one is told, not dropped.
function M.only(node, ...)
  local known = { id = true }
  for i = 1, select("#", ...) do
    known[select(i, ...)] = true
  end
  for name in pairs(node.attributes) do
    if not known[name] then
      give_up(("the attribute %s"):format(name))
    end
  end
end

--- The same of elements.
function M.only_children(node, ...)
  local known = {}
  for i = 1, select("#", ...) do
    known[select(i, ...)] = true
  end
  for _, one in ipairs(node) do
    if not known[one.name] then
      give_up(("<%s>"):format(one.name))
    end
  end
end

--- Splits what was written into lines.
function M.lines(list)
  local out = {}
  for _, item in ipairs(list) do
    for line in (item .. "\n"):gmatch("(.-)\n") do
      out[#out + 1] = line
    end
  end
  return out
end

function M.indented(list)
  local out = {}
  for i, line in ipairs(M.lines(list)) do
    out[i] = line == "" and "" or "  " .. line
  end
  return out
end

function M.append(out, list)
  for _, line in ipairs(list) do
    out[#out + 1] = line
  end
end

--- `p.name { … }` from fields in order; a field without value is left out.
function M.call(name, fields)
  local parts, length, is_long = {}, 0, false
  for _, field in ipairs(fields) do
    if field[2] ~= nil then
      parts[#parts + 1] = ("%s = %s"):format(field[1], field[2])
      length = length + #parts[#parts] + 2
      is_long = is_long or field[2]:find("\n", 1, true) ~= nil
    end
  end
  if #parts == 0 then
    return { ("p.%s {}"):format(name) }
  elseif not is_long and length < 88 then
    return { ("p.%s { %s }"):format(name, table.concat(parts, ", ")) }
  end
  local out = { ("p.%s {"):format(name) }
  for _, part in ipairs(parts) do
    M.append(out, M.indented({ part .. "," }))
  end
  out[#out + 1] = "}"
  return out
end

--- Attributes that are texts of a fixed meaning, by our names.
function M.texts_of(node, ...)
  local fields = {}
  for i = 1, select("#", ...) do
    local name = select(i, ...)
    fields[i] = { (name:gsub("-", "_")), M.text(node, name) }
  end
  return fields
end

--- Tells what the reader should know, though the policy is translated.
function M.note(document, node, text)
  document.notes[#document.notes + 1] = { line = node.line,
    text = ("<%s>: %s"):format(node.name, text) }
end

--- The status of `<set-status>`. Its reason is told where it is lost: ours are the standard ones.
function M.status(node, document)
  M.only(node, "code", "reason")
  if node.attributes.reason then
    M.note(document, node, ("the reason %q is not kept: the standard one is sent"):format(
      node.attributes.reason))
  end
  return M.number_value(node, "code")
end

return M
