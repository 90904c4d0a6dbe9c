-- SPDX-License-Identifier: Apache-2.0
--- Azure's policy expressions (C#) as Lua. What is understood of them is what policies do: looks at the
--- request, texts, conditions, JSON, tokens, a few statements. What is not is named, never guessed.
--- Where Lua means something else than C#, calls of `moongate.csharp` (`cs`) stand.

local lexer = require("moongate.import.csharp.lexer")
local members = require("moongate.import.csharp.members")

local M = {}

local node, within, head = members.node, members.within, members.head
local give_up, quote = members.give_up, members.quote
local KINDS = members.KINDS
M.quote = quote

local RESERVED = {}
for word in ([[and break do else elseif end false for function if in local nil not or repeat return
  then true until while ctx cs p base math assert error ipairs]]):gmatch("%S+") do
  RESERVED[word] = true
end

local Parser = {}
Parser.__index = Parser
M.Parser = Parser

-- ---- tokens ------------------------------------------------------------------------------------

function Parser:next()
  self.i = self.i + 1
  self.token = self.tokens[self.i]
  self.kind, self.value = self.token.kind, self.token.value
end

function Parser:peek(n)
  local token = self.tokens[self.i + (n or 1)]
  return token and token.kind or "end", token and token.value
end

function Parser:take(kind)
  if self.kind == kind then
    self:next()
    return true
  end
  return false
end

function Parser:expect(kind)
  if self.kind ~= kind then
    give_up(("expected %s before %s"):format(kind, tostring(self.value)))
  end
  local value = self.value
  self:next()
  return value
end

--- `<string>` of a generic call: where it goes on, and the type's name; nil where it is none.
function Parser:generic_ahead()
  if self.kind ~= "<" then
    return nil
  end
  local at, depth, parts = self.i, 0, {}
  while true do
    local token = self.tokens[at]
    if token.kind == "<" then
      depth = depth + 1
    elseif token.kind == ">" then
      depth = depth - 1
    elseif token.kind ~= "name" and token.kind ~= "." and token.kind ~= "," and token.kind ~= "["
      and token.kind ~= "]" then
      return nil
    end
    at = at + 1
    if depth == 0 then
      break
    end
    parts[#parts + 1] = token.value
  end
  if self.tokens[at].kind ~= "(" then
    return nil
  end
  return at, table.concat(parts, "", 2):match("[^.]*$")
end

--- The same, taken.
function Parser:generic()
  local at, name = self:generic_ahead()
  if at then
    self.i = at - 1
    self:next()
  end
  return name
end

-- ---- arguments and lambdas ---------------------------------------------------------------------

--- `x => expression`, as a function of Lua.
function Parser:lambda(item)
  local name
  if self:take("(") then
    name = self:expect("name")
    self:expect(")")
  else
    name = self:expect("name")
  end
  self:expect("=>")
  local outer = self.scope
  self.scope = setmetatable({}, { __index = outer })
  local parameter = self:declare(name, node("", item or "any"))
  local result = self:expression()
  self.scope = outer
  return { text = ("function(%s) return %s end"):format(parameter, result.text), kind = "function",
    power = members.CALL, result = result.kind }
end

function Parser:is_lambda()
  return self.kind == "name" and self:peek() == "=>"
    or self.kind == "(" and self:peek() == "name" and self:peek(2) == ")" and self:peek(3) == "=>"
end

function Parser:arguments(item)
  local list = {}
  self:expect("(")
  while self.kind ~= ")" do
    if self.kind == "name" and self:peek() == ":" then -- named
      self:next()
      self:next()
    end
    list[#list + 1] = self:is_lambda() and self:lambda(item) or self:expression()
    if self.kind ~= ")" then
      self:expect(",")
    end
  end
  self:next()
  return list
end

-- ---- members -----------------------------------------------------------------------------------

--- An expression that may be written twice.
local function is_simple(text)
  return text:find("^[%a_][%w_.]*$") ~= nil or text:find('^[%a_][%w_.]*%["[%w_ .:-]*"%]$') ~= nil
end

local function cast(one, kind, name)
  if kind == one.kind or kind == "any" then
    return one
  elseif one.kind == "json" or one.kind == "any" then
    local by = ({ text = "string", int = "int", double = "double", bool = "bool" })[kind]
    if by and not (one.kind == "any" and kind == "text") then
      return node(("cs.%s(%s)"):format(by, one.text), kind, kind == "text")
    elseif kind == "jwt" and one.kind == "any" then
      return node(("cs.jwt(%s)"):format(one.text), kind, one.maybe)
    end
  elseif kind == "int" and one.kind == "double" then
    return node(("cs.int(%s)"):format(one.text), kind)
  elseif not (kind == "double" and one.kind == "int") and one.kind ~= "null" then
    give_up(("a cast to %s"):format(name))
  end
  return { text = one.text, kind = kind, maybe = one.maybe, power = one.power }
end

function Parser:index(one, key)
  local kind = one.kind
  if kind == "headers" or kind == "map" then
    local out = node(("%s[%s]"):format(head(one), key.text), "text", true)
    out.is_field = true -- of which C# makes a list
    return out
  elseif kind == "answer_headers" then
    return members.METHODS.answer_headers.GetValueOrDefault(one, { key })
  elseif kind == "variables" then
    return node(("%s[%s]"):format(head(one), key.text), "any", true)
  elseif kind == "claims" then
    return node(("cs.claim_list(%s, %s)"):format(one.text, key.text), "list")
  elseif kind == "groups" then
    return node(("%s[%s]"):format(head(one), key.text), "group", true)
  elseif one.is_field and key.kind == "int" then
    return one
  elseif kind == "text" then
    return node(("cs.substring(%s, %s, 1)"):format(one.text, key.text), "text")
  elseif kind == "json" or kind == "list" or kind == "any" then
    local item = kind == "list" and (one.item or "text") or kind
    if key.kind == "text" then
      return node(("%s[%s]"):format(head(one), key.text), item, true)
    elseif key.kind == "int" then
      local place = key.whole and ("%d"):format(key.whole + 1)
        or within(key, members.PLUS) .. " + 1"
      return node(("%s[%s]"):format(head(one), place), item, true)
    end
    return node(("cs.at(%s, %s)"):format(one.text, key.text), item, true)
  end
  give_up(("[…] of %s"):format(kind))
end

function Parser:property(one, name)
  local known = (members.PROPERTIES[one.kind] or {})[name]
  if one.is_field and name == "Length" then
    return node(("(%s and 1 or 0)"):format(one.text), "int")
  elseif not known then
    give_up(("%s.%s"):format(one.spelled or one.kind, name))
  end
  local text = head(one)
  local out = node(known[1]:gsub("%%s", (text:gsub("%%", "%%%%"))), known[2], known[3])
  if out.text:sub(1, 1) == "#" then
    out.power = members.UNARY
  end
  if one.maybe and members.FORGIVING[one.kind] then
    out.text = ("(%s and %s)"):format(text, out.text)
  end
  out.spelled = (one.spelled or one.kind) .. "." .. name
  return out
end

function Parser:method(one, name)
  local generic = self:generic()
  local methods = members.METHODS[one.kind]
  if one.is_field and (name == "First" or name == "FirstOrDefault") then
    self:arguments()
    return one
  elseif one.kind == "any" and not methods then
    methods = name == "ToString" and members.METHODS.json
      or (members.METHODS.list[name] and not members.METHODS.text[name]) and members.METHODS.list
      or members.METHODS.text
  elseif name == "ToString" and not (methods and methods.ToString) then
    methods = members.METHODS.text
  end
  local method = methods and methods[name]
    or give_up(("%s.%s()"):format(one.spelled or one.kind, name))
  local out = method(one, self:arguments(one.item or (one.kind == "json" and "json")), generic)
  if out.index_of then -- Value<T>(key), ToObject<T>()
    local value = out.key and self:index(out.index_of, out.key) or out.index_of
    return out.cast and cast(value, KINDS[out.cast] or "any", out.cast) or value
  end
  return out
end

--- What follows an expression: members, calls, indexes.
function Parser:postfix(one)
  while true do
    if self.kind == "." then
      self:next()
      local name = self:expect("name")
      if self.kind == "(" or self:generic_ahead() then
        one = self:method(one, name)
      else
        one = self:property(one, name)
      end
    elseif self.kind == "[" then
      self:next()
      local key = self:expression()
      self:expect("]")
      one = self:index(one, key)
    elseif self.kind == "?." or self.kind == "?[" then
      return self:conditional_access(one)
    elseif self.kind == "!" and self:peek() == "." then
      self:next() -- "is never null"
    else
      return one
    end
  end
end

--- `a?.b.c`: null where `a` is, with all that follows.
function Parser:conditional_access(one)
  self.token.kind, self.kind = self.kind:sub(2), self.kind:sub(2)
  if not one.maybe and one.kind ~= "any" and one.kind ~= "json" then
    return self:postfix(one)
  elseif members.FORGIVING[one.kind] then
    local out = self:postfix(one)
    out.maybe = true
    return out
  end
  local is_short = is_simple(one.text)
  local inner = { text = is_short and one.text or "v", kind = one.kind, maybe = false,
    power = members.CALL, item = one.item }
  local rest = self:postfix(inner)
  local test = inner.text
  if one.kind == "json" or one.kind == "any" then
    test = ("not cs.is_null(%s)"):format(inner.text)
  end
  local text = ("(%s and %s or nil)"):format(test, within(rest, members.AND))
  if rest.kind == "bool" then
    text = ("(function() if %s then return %s end end)()"):format(test, rest.text)
  elseif test == inner.text then
    text = ("(%s and %s)"):format(test, within(rest, members.AND))
  end
  if not is_short then
    text = ("(function(v) return %s end)(%s)"):format(text, one.text)
  end
  local out = node(text, rest.kind, true)
  out.item = rest.item
  return out
end

-- ---- primaries ---------------------------------------------------------------------------------

local function literal(text)
  local out = node(quote(text), "text", false, members.LITERAL)
  out.literal = text
  return out
end

--- Named values in a text of an expression: they are read from a variable, which is set before.
function Parser:text_literal(text)
  if not text:find("{{[%w_. -]+}}") then
    return literal(text)
  end
  local parts, at = {}, 1
  for from, name, stop in text:gmatch("(){{%s*([%w_.-]+)%s*}}()") do
    if from > at then
      parts[#parts + 1] = quote(text:sub(at, from - 1))
    end
    self.named[name] = true
    parts[#parts + 1] = ('ctx.vars["named.%s"]'):format(name)
    at = stop
  end
  if at <= #text then
    parts[#parts + 1] = quote(text:sub(at))
  end
  return node(table.concat(parts, " .. "), "text", false,
    #parts > 1 and members.JOIN or members.CALL)
end

function Parser:interpolated(parts)
  local out = {}
  for _, part in ipairs(parts) do
    if type(part) == "table" then
      local inner = setmetatable({ tokens = lexer.scan(part.hole), i = 0, scope = self.scope,
        named = self.named }, Parser)
      inner:next()
      local one = inner:expression()
      if inner.kind ~= "end" then
        give_up("a format within an interpolation")
      end
      out[#out + 1] = members.joined(one)
    elseif part ~= "" then
      local one = self:text_literal(part)
      out[#out + 1] = one.text
    end
  end
  if #out == 0 then
    return literal("")
  end
  return node(table.concat(out, " .. "), "text", false, #out > 1 and members.JOIN or members.CALL)
end

--- `new …`.
function Parser:creation()
  if self.kind == "[" then -- new[] { … }
    self:next()
    self:expect("]")
    return self:list_of_items("any")
  end
  local name = self:dotted()
  if self:take("[") then
    self:expect("]")
    return self:list_of_items(KINDS[name] or "any")
  end
  local digest = members.DIGESTS[name]
  if name == "JObject" or name == "JArray" then
    return self:document(name)
  elseif name == "Random" then
    self:arguments()
    return node("", "random")
  elseif digest then
    local key = self:arguments()[1] or give_up("new " .. name .. "()")
    local out = node(digest, "digest")
    out.key = key.text
    return out
  elseif name:find("Exception$") then
    local message = self:arguments()[1]
    return node(message and message.text or '"exception"', "exception")
  end
  give_up("new " .. name)
end

function Parser:list_of_items(kind)
  local items = {}
  self:expect("{")
  while self.kind ~= "}" do
    items[#items + 1] = self:expression().text
    if self.kind ~= "}" then
      self:expect(",")
    end
  end
  self:next()
  local out = node("{ " .. table.concat(items, ", ") .. " }", "list", false, members.LITERAL)
  out.item = kind
  return out
end

--- `new JObject(new JProperty(…), …)`, `new JObject { ["a"] = b, { "c", d } }`, `new JArray(…)`.
function Parser:document(name)
  local list, count = {}, 0
  local function add(one)
    count = count + 1
    list[count] = one.text
  end
  if self:take("(") then
    while self.kind ~= ")" do
      if self.kind == "name" and self.value == "new" and self:peek() == "name"
        and select(2, self:peek()) == "JProperty" then
        self:next()
        self:next()
        local pair = self:arguments()
        if #pair ~= 2 then
          give_up("new JProperty")
        end
        add(pair[1])
        add(pair[2])
      elseif name == "JObject" then
        give_up("new JObject of something else than properties")
      else
        add(self:expression())
      end
      if self.kind ~= ")" then
        self:expect(",")
      end
    end
    self:next()
  end
  if self:take("{") then
    while self.kind ~= "}" do
      local is_indexed = self:take("[")
      local is_pair = not is_indexed and name == "JObject" and self:expect("{")
      add(self:expression())
      if is_indexed then
        self:expect("]")
        self:expect("=")
        add(self:expression())
      elseif is_pair then
        self:expect(",")
        add(self:expression())
        self:expect("}")
      end
      if self.kind ~= "}" then
        self:expect(",")
      end
    end
    self:next()
  end
  local what = name == "JObject" and "object" or "array"
  table.insert(list, 1, tostring(count))
  return node(("cs.%s(%s)"):format(what, table.concat(list, ", ")), "json")
end

--- A name with its dots: "System.Math.Min" is "Math.Min".
function Parser:dotted()
  local name = self:expect("name")
  while self.kind == "." and self:peek() == "name" do
    self:next()
    name = name .. "." .. self:expect("name")
  end
  for _, space in ipairs(members.SPACES) do
    name = name:gsub("^" .. space, "")
  end
  return name
end

--- A static member: the longest known name counts, the rest are members of it.
function Parser:static()
  local from = self.i
  local spelled = self:dotted()
  local name, taken = spelled, self.i
  while true do
    local short = name:gsub("^String%.", "string."):gsub("^Int32%.", "int."):gsub("^Boolean%.", "bool.")
      :gsub("^Double%.", "double.")
    local value, call = members.STATIC_VALUES[short], members.STATIC_CALLS[short]
    if value or call then
      self.i = taken - 1
      self:next()
      if value then
        return value()
      end
      self:generic()
      return call(self:arguments())
    end
    if not name:find("%.") then
      self.i = from - 1
      self:next()
      give_up(spelled)
    end
    name, taken = name:gsub("%.[^.]*$", ""), taken - 2
  end
end

--- `(string)x`: the kind and the name, or nil where the bracket holds an expression.
function Parser:cast_ahead()
  local parts, at = {}, self.i + 1
  while true do
    local token = self.tokens[at]
    if token.kind == ")" then
      break
    elseif token.kind ~= "name" and token.kind ~= "." and token.kind ~= "<" and token.kind ~= ">"
      and token.kind ~= "[" and token.kind ~= "]" and token.kind ~= "?" then
      return nil
    end
    parts[#parts + 1] = token.value
    at = at + 1
  end
  local name = table.concat(parts):gsub("%?$", ""):gsub("^.*%.", "")
  local follows = self.tokens[at + 1].kind
  if KINDS[name] and (follows == "name" or follows == "(" or follows == "string"
    or follows == "number" or follows == "interpolated" or follows == "!") then
    self.i = at
    self:next()
    return KINDS[name], name
  end
  return nil
end

local WORDS = { ["true"] = { "true", "bool" }, ["false"] = { "false", "bool" },
  ["null"] = { "nil", "null", true } }

function Parser:primary()
  local kind, value, token = self.kind, self.value, self.token
  if kind == "string" then
    self:next()
    return self:text_literal(value)
  elseif kind == "interpolated" then
    self:next()
    return self:interpolated(token.parts)
  elseif kind == "number" then
    self:next()
    local out = node(value, token.is_whole and "int" or "double", false, members.LITERAL)
    out.literal_number = value
    out.whole = token.is_whole and tonumber(value) or nil
    return out
  elseif kind == "(" then
    local to, name = self:cast_ahead()
    if to then
      return cast(self:unary(), to, name)
    end
    self:next()
    local inner = self:expression()
    self:expect(")")
    return inner
  elseif kind == "name" and WORDS[value] then
    self:next()
    local word = WORDS[value]
    return node(word[1], word[2], word[3], members.LITERAL)
  elseif kind == "name" and value == "new" then
    self:next()
    return self:creation()
  elseif kind == "name" and value == "context" then
    self:next()
    local out = node("ctx", "context")
    out.spelled = "context"
    return out
  elseif kind == "name" and self.scope[value] then
    self:next()
    local known = self.scope[value]
    local out = node(known.text, known.kind, known.maybe)
    out.item = known.item
    return out
  elseif kind == "name" then
    return self:static()
  end
  give_up(("%s"):format(tostring(value)))
end

function Parser:unary()
  if self.kind == "!" then
    self:next()
    return node("not " .. within(self:unary(), members.UNARY), "bool", false, members.UNARY)
  elseif self.kind == "-" then
    self:next()
    local one = self:unary()
    return node("-" .. within(one, members.LITERAL), one.kind, false, members.UNARY)
  end
  local one = self:postfix(self:primary())
  if self.kind == "name" and self.value == "as" then
    self:next()
    local name = self:dotted()
    return self:postfix(cast(one, KINDS[name] or give_up("as " .. name), name))
  end
  return one
end

-- ---- operators ---------------------------------------------------------------------------------

local POWER = { ["||"] = 1, ["&&"] = 2, ["=="] = 3, ["!="] = 3, ["<"] = 4, [">"] = 4, ["<="] = 4,
  [">="] = 4, ["+"] = 5, ["-"] = 5, ["*"] = 6, ["/"] = 6, ["%"] = 6 }
local NUMERIC = { int = true, double = true, span = true, time = true }

local function equality(operator, left, right)
  local lua = operator == "==" and "==" or "~="
  local other = left.kind == "null" and right or right.kind == "null" and left
  if other and (other.kind == "json" or other.kind == "any") then
    local text = ("cs.is_null(%s)"):format(other.text)
    return operator == "==" and node(text, "bool") or node("not " .. text, "bool", false, members.UNARY)
  end
  return node(("%s %s %s"):format(within(left, members.PLUS), lua, within(right, members.PLUS)),
    "bool", false, members.COMPARE)
end

local function plus(left, right)
  if left.kind == "text" or right.kind == "text" then
    return node(members.joined(left) .. " .. " .. members.joined(right), "text", false, members.JOIN)
  elseif NUMERIC[left.kind] and NUMERIC[right.kind] then
    return node(("%s + %s"):format(within(left, members.PLUS), within(right, members.TIMES)),
      left.kind == "int" and right.kind or left.kind, false, members.PLUS)
  end
  return node(("cs.add(%s, %s)"):format(left.text, right.text), "any")
end

local function binary(operator, left, right)
  if operator == "||" then
    return node(("%s or %s"):format(within(left, members.OR), within(right, members.OR + 1)), "bool",
      false, members.OR)
  elseif operator == "&&" then
    return node(("%s and %s"):format(within(left, members.AND), within(right, members.AND + 1)),
      "bool", false, members.AND)
  elseif operator == "==" or operator == "!=" then
    return equality(operator, left, right)
  elseif POWER[operator] == 4 then
    return node(("%s %s %s"):format(within(left, members.PLUS), operator, within(right, members.PLUS)),
      "bool", false, members.COMPARE)
  elseif operator == "+" then
    return plus(left, right)
  elseif operator == "/" and left.kind == "int" and right.kind == "int" then
    return node(("cs.quotient(%s, %s)"):format(left.text, right.text), "int")
  elseif operator == "%" and left.kind ~= "double" and right.kind ~= "double" then
    return node(("math.fmod(%s, %s)"):format(left.text, right.text), "int")
  end
  local power = operator == "-" and members.PLUS or members.TIMES
  local kind = left.kind == "time" and right.kind == "time" and "span" or left.kind
  if kind == "int" then
    kind = right.kind
  end
  return node(("%s %s %s"):format(within(left, power), operator, within(right, power + 1)), kind,
    false, power)
end

function Parser:binary(least)
  local left = self:unary()
  while POWER[self.kind] and POWER[self.kind] >= least do
    local operator = self.kind
    self:next()
    left = binary(operator, left, self:binary(POWER[operator] + 1))
  end
  return left
end

function Parser:coalesced()
  local left = self:binary(1)
  if not self:take("??") then
    return left
  end
  local right = self:coalesced()
  local kind = left.kind == "any" and right.kind ~= "null" and right.kind or left.kind
  local out
  if left.kind == "any" or left.kind == "json" or left.kind == "bool" then
    out = node(("cs.default(%s, %s)"):format(left.text, right.text), kind, right.maybe)
  else
    out = node(("%s or %s"):format(within(left, members.OR), within(right, members.OR + 1)), kind,
      right.maybe, members.OR)
  end
  out.item = left.item
  return out
end

local ALWAYS_TRUE = { text = true, int = true, double = true, list = true, time = true, span = true }

--- With its choice by `?` and `:`.
function Parser:expression()
  local test = self:coalesced()
  if not self:take("?") then
    return test
  end
  local yes = self:expression()
  self:expect(":")
  local no = self:expression()
  local kind = yes.kind == "null" and no.kind or yes.kind
  if no.kind ~= kind and no.kind ~= "null" then
    kind = NUMERIC[kind] and NUMERIC[no.kind] and "double" or "any"
  end
  local maybe = yes.maybe or no.maybe
  if ALWAYS_TRUE[yes.kind] and not yes.maybe then
    return node(("%s and %s or %s"):format(within(test, members.AND), within(yes, members.AND + 1),
      within(no, members.OR + 1)), kind, maybe, members.OR)
  end
  return node(("(function() if %s then return %s end return %s end)()"):format(test.text, yes.text,
    no.text), kind, maybe)
end

-- ---- translations ------------------------------------------------------------------------------

--- A name of Lua's for a name of theirs, known from here on.
function Parser:declare(name, one)
  local own = RESERVED[name] and name .. "_" or name
  self.scope[name] = { text = own, kind = one.kind, maybe = one.maybe, item = one.item }
  return own
end

local function new_parser(text)
  local parser = setmetatable({ tokens = lexer.scan(text), i = 0, scope = {}, named = {} }, Parser)
  parser:next()
  return parser
end

local function reason(err)
  return type(err) == "table" and err.csharp or tostring(err)
end

---@class moongate.CsharpTranslation
---@field expression? string as one expression of Lua, or
---@field body? string[] as the lines of a function of `ctx`
---@field named string[] named values that must be in `ctx.vars["named.NAME"]`

--- An expression or a block of statements as Lua.
---@param text string `@(context.Request.Method == "GET")`, `@{ … return x; }`
---@return moongate.CsharpTranslation?
---@return string? err what cannot be translated
function M.read(text)
  local inner = text:match("^%s*@%((.*)%)%s*$")
  local block = not inner and text:match("^%s*@(%b{})%s*$")
  if not inner and not block then
    return nil, "no expression"
  end
  local ok, result = pcall(function()
    local parser = new_parser(inner or block)
    local out = { named = {} }
    if inner then
      out.expression = parser:expression().text
    else
      out.body = require("moongate.import.csharp.statements").block(parser)
      out.expression = #out.body == 1 and out.body[1]:match("^return (.*)$") or nil
    end
    if parser.kind ~= "end" then
      give_up(("%s"):format(tostring(parser.value)))
    end
    for name in pairs(parser.named) do
      out.named[#out.named + 1] = name
    end
    table.sort(out.named)
    return out
  end)
  if ok then
    return result
  end
  return nil, reason(result)
end

function M.is_expression(text)
  return text:find("^%s*@[({]") ~= nil
end

return M
