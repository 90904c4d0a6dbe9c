-- SPDX-License-Identifier: Apache-2.0
--- Values that depend on the request: a function of `ctx`, or a text with `${…}` in it, where `…`
--- is a Lua expression. Compiled once, in the sandbox; plain texts stay plain.

local ctx_names = require("moongate.ctx_names")
local sandbox = require("moongate.sandbox")

local concat, tostring, type = table.concat, tostring, type

local M = {}

--- Compiles a Lua expression into a function of `ctx`. Names that `ctx` does not have are refused.
---@param text string "ctx.request.method == 'GET'"
---@param where? string what an error names
---@return (fun(ctx: moongate.Ctx): any)? f
---@return string? err "is no Lua: …", to stand behind what it is about
function M.compile(text, where)
  local name = "=" .. (where or "expression")
  -- The expression must stand by itself, or it could close the function around it.
  local alone, err = sandbox.load("return " .. text, name)
  if not alone then
    return nil, "is no Lua: " .. err
  end
  local unknown = ctx_names.check(text)
  if unknown then
    return nil, "asks for what is not there: " .. unknown
  end
  local chunk
  chunk, err = sandbox.load("local ctx = ... return function(ctx) return " .. text .. "\nend", name)
  if not chunk then
    return nil, err
  end
  return chunk(nil)
end

--- Position of the brace that closes the one before `at`; strings are stepped over.
local function closing(text, at)
  local depth, quote = 1, nil
  while at <= #text do
    local c = text:sub(at, at)
    if quote then
      if c == "\\" then
        at = at + 1
      elseif c == quote then
        quote = nil
      end
    elseif c == '"' or c == "'" then
      quote = c
    elseif c == "{" then
      depth = depth + 1
    elseif c == "}" then
      depth = depth - 1
      if depth == 0 then
        return at
      end
    end
    at = at + 1
  end
  return nil
end

--- Splits "a ${b} c" into literal texts and what `made` gives of expressions.
local function split(text, where, made)
  local parts, at = {}, 1
  while true do
    local from = text:find("${", at, true)
    if not from then
      parts[#parts + 1] = at <= #text and text:sub(at) or nil
      return parts
    end
    local to = closing(text, from + 2)
    if not to then
      return nil, ("%s: ${ without }"):format(where)
    end
    if from > at then
      parts[#parts + 1] = text:sub(at, from - 1)
    end
    local part, err = made(text:sub(from + 2, to - 1), where)
    if not part then
      return nil, ("%s: %s %s"):format(where, text:sub(from, to), err)
    end
    parts[#parts + 1] = part
    at = to + 1
  end
end

local PLAIN = { number = true, boolean = true, cdata = true }

--- A value as part of a text. Nothing, and JSON's null, are no text; what would show an address raises.
---@param value any
---@return string
function M.show(value)
  local kind = type(value)
  if kind == "string" then
    return value
  elseif PLAIN[kind] then
    return tostring(value)
  elseif value == nil or kind == "userdata" and value == require("moongate.json").null then
    return ""
  end
  return error(("a %s cannot stand in a text; json.encode, or a template's filter json, writes one")
    :format(kind), 0)
end

local show = M.show

--- Makes a value ready for `M.get`: a function of `ctx`, or the value itself.
---@param value any a text, with or without ${…}; a function; or anything else, which stays
---@param where? string what an error names
---@return any prepared
---@return string? err
function M.prepare(value, where)
  if type(value) ~= "string" or not value:find("${", 1, true) then
    return value
  end
  local parts, err = split(value, where or "template", M.compile)
  if not parts then
    return nil, err
  end
  if #parts == 1 and type(parts[1]) == "function" then
    return parts[1]
  end
  local n = #parts
  return function(ctx)
    local out = {}
    for i = 1, n do
      local part = parts[i]
      out[i] = type(part) == "string" and part or show(part(ctx))
    end
    return concat(out)
  end
end

-- What follows `ctx`, taken apart: `.name`, or `["name"]`.
local function next_name(text)
  local name, rest = text:match("^%s*%.%s*([%a_][%w_]*)(.*)$")
  if name then
    return name, rest
  end
  local _, inner, after = text:match("^%s*%[%s*([\"'])([^\"'\\]*)%1%s*%](.*)$")
  return inner, after
end

--- The place that `ctx.a.b.c` names, as moongate.text has it; nil for any other expression.
local function place_of(code)
  local rest = code:match("^%s*ctx(.*)$")
  local names = {}
  while rest and rest:find("%S") do
    local name
    name, rest = next_name(rest)
    names[#names + 1] = name
  end
  if not rest or #names == 0 then
    return nil, "is no place"
  elseif #names == 1 then
    return { of = names[1] }
  end
  return { of = concat(names, ".", 1, #names - 1), name = names[#names] }
end

local has_texts, texts = pcall(require, "moongate.text")

--- A text that the runtime makes without Lua: it gives what `get` gives of a text with `${ctx.…}`.
--- Nil where that cannot be: with other expressions, without the runtime.
---@param value any
---@return userdata? program for policies' acts
function M.program(value)
  if type(value) ~= "string" or not has_texts then
    return nil
  end
  local parts = split(value, "", place_of)
  return parts and texts.program(#parts > 0 and parts or { "" }) or nil
end

--- Like `prepare`, but raises: for use in a policy's own `prepare`.
function M.required(value, where)
  local prepared, err = M.prepare(value, where)
  if err then
    error(err, 0)
  end
  return prepared
end

--- The value for a request.
---@param prepared any what `prepare` gave
---@param ctx moongate.Ctx
function M.get(prepared, ctx)
  if type(prepared) == "function" then
    return prepared(ctx)
  end
  return prepared
end

return M
