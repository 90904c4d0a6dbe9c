-- SPDX-License-Identifier: Apache-2.0
--- Statements of policy expressions as lines of Lua: declarations, assignments, if, foreach, for, while,
--- return, throw.

local members = require("moongate.import.csharp.members")

local M = {}

local give_up, within = members.give_up, members.within
local KINDS = members.KINDS

local function indent(lines)
  local out = {}
  for i, line in ipairs(lines) do
    out[i] = "  " .. line
  end
  return out
end

local function append(out, lines)
  for _, line in ipairs(lines) do
    out[#out + 1] = line
  end
end

--- Whether a declaration begins here: `var x`, `string x`, `JObject x`, `string[] x`.
local function declaration(parser)
  if parser.kind ~= "name" or not (KINDS[parser.value] or parser.value == "IEnumerable"
    or parser.value == "List" or parser.value == "IList") then
    return nil
  end
  local at, depth = parser.i + 1, 0
  local tokens, name = parser.tokens, parser.value
  while tokens[at].kind == "?" or tokens[at].kind == "[" or tokens[at].kind == "]"
    or tokens[at].kind == "<" or depth > 0 do
    depth = depth + (tokens[at].kind == "<" and 1 or tokens[at].kind == ">" and -1 or 0)
    name = (tokens[at].kind == "[" or tokens[at].kind == "]") and name .. tokens[at].kind or name
    at = at + 1
    if at >= #tokens then
      return nil
    end
  end
  if tokens[at].kind ~= "name" or not (tokens[at + 1].kind == "=" or tokens[at + 1].kind == ";"
    or tokens[at + 1].kind == "name" and tokens[at + 1].value == "in") then
    return nil
  end
  parser.i = at - 1
  parser:next()
  return KINDS[name] or "list", tokens[at].value
end

local statement

--- Statements up to the closing brace, which stays.
local function statements(parser)
  local out, is_over = {}, false
  while parser.kind ~= "}" do
    if parser.kind == "end" then
      give_up("a block without its end")
    end
    local lines, ends = statement(parser)
    if not is_over then -- what follows a return is never reached
      append(out, lines)
    end
    is_over = is_over or ends
  end
  return out, is_over
end

--- The body of an if or a loop, in a scope of its own.
local function body_of(parser)
  local outer = parser.scope
  parser.scope = setmetatable({}, { __index = outer })
  local lines, ends
  if parser:take("{") then
    lines, ends = statements(parser)
    parser:expect("}")
  else
    lines, ends = statement(parser)
  end
  parser.scope = outer
  return indent(lines), ends
end

local function declare(parser, kind, name)
  parser:next()
  local value
  if parser:take("=") then
    value = parser:expression()
  end
  parser:expect(";")
  local known = { kind = kind, maybe = true }
  if kind == "any" and value and value.kind ~= "null" then
    known = value
  elseif value then
    known.maybe, known.item = value.maybe, value.item
  end
  local own = parser:declare(name, known)
  return { value and ("local %s = %s"):format(own, value.text) or "local " .. own }
end

local function if_statement(parser)
  parser:next()
  parser:expect("(")
  local out = { ("if %s then"):format(parser:expression().text) }
  parser:expect(")")
  local lines, ends = body_of(parser)
  append(out, lines)
  local has_else = false
  while parser.kind == "name" and parser.value == "else" do
    parser:next()
    local ends_too
    if parser.kind == "name" and parser.value == "if" then
      parser:next()
      parser:expect("(")
      out[#out + 1] = ("elseif %s then"):format(parser:expression().text)
      parser:expect(")")
      lines, ends_too = body_of(parser)
    else
      out[#out + 1] = "else"
      lines, ends_too = body_of(parser)
      has_else = true
    end
    append(out, lines)
    ends = ends and ends_too
    if has_else then
      break
    end
  end
  out[#out + 1] = "end"
  return out, ends and has_else
end

local function foreach_statement(parser)
  parser:next()
  parser:expect("(")
  local kind, name = declaration(parser)
  if not kind then
    give_up("foreach")
  end
  parser:next()
  parser:next() -- in
  local list = parser:expression()
  parser:expect(")")
  if list.kind ~= "list" and list.kind ~= "json" and list.kind ~= "any" then
    give_up("foreach over " .. list.kind)
  end
  local outer = parser.scope
  parser.scope = setmetatable({}, { __index = outer })
  local item = kind ~= "any" and kind or list.item or (list.kind == "json" and "json") or "any"
  local own = parser:declare(name, members.node("", item))
  local out = { ("for _, %s in ipairs(%s) do"):format(own, list.text) }
  append(out, (body_of(parser)))
  parser.scope = outer
  out[#out + 1] = "end"
  return out
end

local function while_statement(parser)
  parser:next()
  parser:expect("(")
  local out = { ("while %s do"):format(parser:expression().text) }
  parser:expect(")")
  append(out, (body_of(parser)))
  out[#out + 1] = "end"
  return out
end

local function changed(one, operator, value)
  local by = operator:sub(1, 1)
  if by == "+" then
    if one.kind == "text" or value.kind == "text" then
      return members.joined(one) .. " .. " .. members.joined(value)
    elseif one.kind == "any" then
      return ("cs.add(%s, %s)"):format(one.text, value.text)
    end
  elseif by == "/" then
    give_up("/=")
  end
  return ("%s %s %s"):format(one.text, by, within(value, members.TIMES + 1))
end

--- An assignment, `x++`, or a call for its effect.
local function expression_statement(parser)
  local from = parser.i
  local one = parser:unary()
  local operator = parser.kind
  if operator == "=" or operator == "+=" or operator == "-=" or operator == "*=" then
    local first = parser.tokens[from]
    local known = first.kind == "name" and rawget(parser.scope, first.value) or parser.scope[first.value]
    if not known or not (one.text:find("^[%a_][%w_]*$") or one.kind == "json" or one.kind == "any") then
      give_up("an assignment to something else than a variable or a document")
    end
    parser:next()
    local value = parser:expression()
    parser:expect(";")
    local text = operator == "=" and value.text or changed(one, operator, value)
    if one.text ~= known.text then -- a member of a document
      local owner, key = one.text:match("^(.*)%[(.-)%]$")
      if not owner then
        give_up("an assignment to a place that is known at run time only")
      elseif value.maybe or value.kind == "null" or value.kind == "any" then
        text = "cs.default(" .. text .. ", cs.null)"
      end
      return { ("%s[%s] = %s"):format(owner, key, text) }
    end
    known.maybe = value.maybe
    return { ("%s = %s"):format(one.text, text) }
  elseif operator == "++" or operator == "--" then
    parser:next()
    parser:expect(";")
    return { ("%s = %s %s 1"):format(one.text, one.text, operator:sub(1, 1)) }
  end
  parser:expect(";")
  if one.kind ~= "void" then
    give_up("a statement that does nothing")
  end
  local list, value = one.text:match("^(.-)%[#.- %+ 1%] = (.*)$")
  return { list and ("%s[#%s + 1] = %s"):format(list, list, value) or one.text }
end

local LOOPS = { foreach = foreach_statement, ["while"] = while_statement }

--- @return string[] lines
--- @return boolean? ends whether nothing after it is reached
function statement(parser)
  local word = parser.kind == "name" and parser.value
  if parser:take(";") then
    return {}
  elseif parser.kind == "{" then
    local lines, ends = body_of(parser)
    local out = { "do" }
    append(out, lines)
    out[#out + 1] = "end"
    return out, ends
  elseif word == "return" then
    parser:next()
    local value = parser:expression()
    parser:expect(";")
    return { "return " .. value.text }, true
  elseif word == "throw" then
    parser:next()
    local value = parser:expression()
    parser:expect(";")
    return { ("error(%s, 0)"):format(value.text) }, true
  elseif word == "if" then
    return if_statement(parser)
  elseif LOOPS[word] then
    return LOOPS[word](parser)
  elseif word == "for" or word == "switch" or word == "try" or word == "do" or word == "using" then
    give_up("the statement " .. word)
  end
  local kind, name = declaration(parser)
  if kind then
    return declare(parser, kind, name)
  end
  return expression_statement(parser)
end

--- The lines of a block in braces.
---@return string[]
function M.block(parser)
  parser:expect("{")
  local lines = statements(parser)
  parser:expect("}")
  return lines
end

return M
