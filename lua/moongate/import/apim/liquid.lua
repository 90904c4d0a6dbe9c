-- SPDX-License-Identifier: Apache-2.0
--- Liquid templates of `set-body` as ours. What stands in `body` is looked up by a function in
--- `ctx.vars.liquid`, for which a missing member is empty and no mistake, as in Liquid.

local csharp = require("moongate.import.csharp")
local emit = require("moongate.import.apim.emit")

local M = {}

local give_up, quote = emit.give_up, emit.quote

local FILTERS = { upcase = "upper", downcase = "lower", strip = "trim", size = "length", escape = "html",
  url_encode = "url", uri_escape = "url" }
local WORDS = { ["true"] = "true", ["false"] = "false", ["nil"] = "nil", null = "nil", empty = '""',
  blank = '""' }
local OPERATORS = { ["=="] = "==", ["!="] = "~=", ["<>"] = "~=", ["<"] = "<", [">"] = ">",
  ["<="] = "<=", [">="] = ">=", ["and"] = "and", ["or"] = "or" }

--- A literal or a path.
local function operand(text, loops)
  local quoted = text:match('^"([^"]*)"$') or text:match("^'([^']*)'$")
  if quoted then
    return quote(quoted)
  elseif tonumber(text) or WORDS[text] then
    return WORDS[text] or text
  end
  local head, rest = text:match("^([%a_][%w_]*)(.*)$")
  if head == "context" then
    local name = text:match("^context%.Variables%.([%w_]+)$")
    local out = not name and csharp.read("@(" .. text .. ")")
    local lua = name and ("ctx.vars[%s]"):format(quote(name)) or out and out.expression
    if lua and not lua:find("%f[%w]cs%.") then
      return lua
    end
    give_up(("%s in the template"):format(text))
  end
  rest = (rest or ""):gsub('%[(%d+)%]', ".%1"):gsub('%["([%w_ -]+)"%]', ".%1")
  if head and (head == "body" or loops[head]) and rest:find("^[%w_.: -]*$") then
    local root = loops[head] and ", " .. head or ""
    return rest == "" and loops[head] and head
      or ("ctx.vars.liquid(%s%s)"):format(quote((rest:gsub("^%.", ""))), root)
  end
  give_up(("%q in the template"):format(text))
end

local function output(code, loops)
  local parts = {}
  for part in (code .. "|"):gmatch("%s*(.-)%s*|") do
    parts[#parts + 1] = part
  end
  local out = operand(parts[1], loops)
  for i = 2, #parts do
    out = out .. " | " .. (FILTERS[parts[i]:lower()]
      or give_up(("the filter %q of the template"):format(parts[i])))
  end
  return "{{ " .. out .. " }}"
end

local function condition(code, loops)
  local out, at = {}, 1
  while true do
    at = code:find("%S", at)
    if not at then
      return table.concat(out, " ")
    end
    local word = code:match("^\"[^\"]*\"", at) or code:match("^'[^']*'", at)
      or code:match("^[=!<>]+", at) or code:match("^[^%s=!<>]+", at)
    out[#out + 1] = OPERATORS[word] or operand(word, loops)
    at = at + #word
  end
end

local function tag(code, state)
  local word, rest = code:match("^%s*(%a+)%s*(.-)%s*$")
  if word == "if" or word == "elsif" then
    return ("{%% %s %s %%}"):format(word, condition(rest, state.loops))
  elseif word == "else" then
    return "{% else %}"
  elseif word == "endif" or word == "endfor" then
    return "{% end %}"
  elseif word == "for" then
    local name, list = rest:match("^([%a_][%w_]*)%s+in%s+(%S+)$")
    if not name or name == "ctx" then
      give_up("a for of the template")
    end
    local text = ("{%% for %s in %s %%}"):format(name, operand(list, state.loops))
    state.loops[name] = true
    return text
  elseif word == "comment" or word == "endcomment" then
    state.is_comment = word == "comment"
    return ""
  end
  give_up(("the tag %q of the template"):format(tostring(word)))
end

--- The template in our form. Gives up where it cannot be told.
---@param text string
---@return string
function M.translate(text)
  local out, at, state = {}, 1, { loops = {}, is_comment = false }
  if text:find("{#", 1, true) then -- begins a comment of ours
    give_up('"{#" in the template')
  end
  local function put(piece)
    if not state.is_comment then
      out[#out + 1] = piece
    end
  end
  while true do
    local from, _, kind = text:find("{([{%%])", at)
    put(text:sub(at, (from or #text + 1) - 1))
    if not from then
      return table.concat(out)
    end
    local _, to, inner = text:find(kind == "{" and "^{{%-?(.-)%-?}}" or "^{%%%-?(.-)%-?%%}", from)
    if not to then
      give_up("a template without its end")
    elseif kind == "{" then
      put(state.is_comment and "" or output(inner, state.loops))
    else
      put(tag(inner, state))
    end
    at = to + 1
  end
end

return M
