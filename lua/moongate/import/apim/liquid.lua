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

--- A literal or a path. `names` has the expressions of a loop's names and of assigned ones.
local function operand(text, names)
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
  local root = head and names[head]
  if (root or head == "body") and rest:find("^[%w_.: -]*$") then
    return rest == "" and root
      or ("ctx.vars.liquid(%s%s)"):format(quote((rest:gsub("^%.", ""))), root and ", " .. root or "")
  end
  give_up(("%q in the template"):format(text))
end

local function output(code, state)
  local parts = {}
  for part in (code .. "|"):gmatch("%s*(.-)%s*|") do
    parts[#parts + 1] = part
  end
  local out = operand(parts[1], state.names)
  for i = 2, #parts do
    out = out .. " | " .. (FILTERS[parts[i]:lower()]
      or give_up(("the filter %q of the template"):format(parts[i])))
  end
  return "{{ " .. out .. " }}"
end

local function condition(code, names)
  local out, at = {}, 1
  while true do
    at = code:find("%S", at)
    if not at then
      return table.concat(out, " ")
    end
    local word = code:match("^\"[^\"]*\"", at) or code:match("^'[^']*'", at)
      or code:match("^[=!<>]+", at) or code:match("^[^%s=!<>]+", at)
    out[#out + 1] = OPERATORS[word] or operand(word, names)
    at = at + #word
  end
end

--- `assign NAME = VALUE`: the value stands where the name would. One in a branch or a loop would have to
--- wait for its turn.
local function assign(rest, state)
  local name, text = rest:match("^([%a_][%w_]*)%s*=%s*(.-)$")
  if not name or name == "ctx" or name == "body" or state.names[name] or #state.open > 0
    or text:find("|", 1, true) then
    give_up(("assign %s of the template"):format(rest))
  end
  state.names[name] = operand(text, state.names)
  return ""
end

--- `when A, B` and `when A or B` of a case.
local function when(rest, state)
  local case = state.open[#state.open]
  if not case or not case.of then
    give_up("a when of the template without its case")
  end
  local values = {}
  for one in (rest:gsub("%s+or%s+", ",") .. ","):gmatch("%s*(.-)%s*,") do
    values[#values + 1] = ("%s == %s"):format(case.of, operand(one, state.names))
  end
  local word = case.has_when and "elsif" or "if"
  case.has_when, state.is_dropped = true, false
  return ("{%% %s %s %%}"):format(word, table.concat(values, " or "))
end

local ENDS = { endif = "if", endfor = "for", endunless = "unless", endcase = "case" }

local function close(word, state)
  local last = table.remove(state.open)
  if not last or last.word ~= ENDS[word] or last.of and not last.has_when then
    give_up(("the tag %q of the template, which closes nothing"):format(word))
  end
  return "{% end %}"
end

local TAGS = { assign = assign, when = when }

function TAGS.elsif(rest, state)
  return ("{%% elsif %s %%}"):format(condition(rest, state.names))
end

TAGS["else"] = function(_, state)
  if state.is_dropped then
    give_up("a case of the template without when")
  end
  return "{% else %}"
end

TAGS["if"] = function(rest, state)
  state.open[#state.open + 1] = { word = "if" }
  return ("{%% if %s %%}"):format(condition(rest, state.names))
end

function TAGS.unless(rest, state)
  state.open[#state.open + 1] = { word = "unless" }
  return ("{%% if not (%s) %%}"):format(condition(rest, state.names))
end

function TAGS.case(rest, state)
  state.open[#state.open + 1] = { word = "case", of = operand(rest, state.names) }
  state.is_dropped = true -- what stands before the first when
  return ""
end

TAGS["for"] = function(rest, state)
  local name, list = rest:match("^([%a_][%w_]*)%s+in%s+(%S+)$")
  if not name or name == "ctx" then
    give_up("a for of the template")
  end
  local text = ("{%% for %s in %s %%}"):format(name, operand(list, state.names))
  state.open[#state.open + 1] = { word = "for" }
  state.names[name] = name
  return text
end

local function tag(code, state)
  local word, rest = code:match("^%s*(%a+)%s*(.-)%s*$")
  if word == "comment" or word == "endcomment" then
    state.is_comment = word == "comment"
    return ""
  elseif state.is_comment then
    return ""
  elseif ENDS[word] then
    return close(word, state)
  elseif TAGS[word] then
    return TAGS[word](rest, state)
  end
  give_up(("the tag %q of the template"):format(tostring(word)))
end

--- The template in our form. Gives up where it cannot be told.
---@param text string
---@return string
function M.translate(text)
  local out, at = {}, 1
  local state = { names = {}, open = {}, is_comment = false, is_dropped = false }
  if text:find("{#", 1, true) then -- begins a comment of ours
    give_up('"{#" in the template')
  end
  local function put(piece)
    if not state.is_comment and not state.is_dropped then
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
      put(state.is_comment and "" or output(inner, state))
    else
      put(tag(inner, state))
    end
    at = to + 1
  end
end

return M
