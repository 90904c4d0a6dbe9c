-- SPDX-License-Identifier: Apache-2.0
--- Azure's policy expressions (C#) as Lua: the part of them that is a plain look at the request.

local M = {}

local function quote(text)
  return (("%q"):format(text):gsub("\\\n", "\\n"))
end
M.quote = quote

local WORDS = { ["true"] = "true", ["false"] = "false", ["null"] = "nil" }
local OPERATORS = { ["=="] = "==", ["!="] = "~=", ["&&"] = "and", ["||"] = "or", ["<"] = "<",
  [">"] = ">", ["<="] = "<=", [">="] = ">=", ["??"] = "or", ["+"] = "+", ["-"] = "-", ["*"] = "*",
  ["/"] = "/", ["%"] = "%" }
local ESCAPES = { n = "\n", t = "\t", r = "\r", ["0"] = "\0" }

-- Paths without arguments.
local PLAIN = {
  ["context.Request.Method"] = "ctx.request.method",
  ["context.Request.IpAddress"] = "ctx.request.client_ip",
  ["context.Request.Url.Path"] = "ctx.request.path",
  ["context.Request.Url.Host"] = "ctx.request.host",
  ["context.Request.Url.Scheme"] = "ctx.request.scheme",
  ["context.Request.Url.QueryString"] = "ctx.request.query_string",
  ["context.Request.OriginalUrl.Host"] = "ctx.request.host",
  ["context.Request.OriginalUrl.Scheme"] = "ctx.request.scheme",
  ["context.Response.StatusCode"] = "ctx.response.status",
  ["context.RequestId"] = "ctx.id",
  ["context.Subscription.Id"] = "(ctx.subscription and ctx.subscription.id)",
  ["context.Subscription.Name"] = "(ctx.subscription and ctx.subscription.name)",
  ["context.Product.Name"] = "(ctx.product and ctx.product.name)",
  ["context.Product.Id"] = "(ctx.product and ctx.product.name)",
  ["context.Api.Name"] = "(ctx.api and ctx.api.name)",
  ["context.Api.Id"] = "(ctx.api and ctx.api.name)",
  ["context.Operation.Name"] = "(ctx.operation and ctx.operation.name)",
  ["context.Operation.Id"] = "(ctx.operation and ctx.operation.name)",
  ["context.Deployment.Region"] = "ctx.deployment.region",
  ["context.Deployment.ServiceName"] = "ctx.deployment.name",
  ["context.LastError.Message"] = "ctx.error.message",
  ["context.LastError.Reason"] = "ctx.error.reason",
  ["context.LastError.Source"] = "ctx.error.source",
  ["context.LastError.Section"] = "ctx.error.section",
}

-- Collections: what `[name]` and `.GetValueOrDefault(name, other)` look into.
local COLLECTIONS = {
  ["context.Request.Headers"] = "ctx.request.headers",
  ["context.Response.Headers"] = "ctx.response.headers",
  ["context.Request.Url.Query"] = "ctx.request.query",
  ["context.Request.OriginalUrl.Query"] = "ctx.request.query",
  ["context.Request.MatchedParameters"] = "ctx.request.params",
  ["context.Request.OriginalUrl.MatchedParameters"] = "ctx.request.params",
  ["context.Variables"] = "ctx.vars",
}

-- Methods of texts.
local METHODS = {
  ToLower = "(%s):lower()", ToLowerInvariant = "(%s):lower()", ToUpper = "(%s):upper()",
  ToUpperInvariant = "(%s):upper()", ToString = "tostring(%s)", Trim = '(%s):match("^%%s*(.-)%%s*$")',
  Contains = "((%s):find(%s, 1, true) ~= nil)",
  StartsWith = "((%s):sub(1, #%s) == %s)", EndsWith = "((%s):sub(-#%s) == %s)",
}

local Parser = {}
Parser.__index = Parser

local function give_up(what)
  error({ csharp = what }, 0)
end

function Parser:next()
  local text = self.text
  local at = text:find("%S", self.at) or #text + 1
  local rest = text:sub(at, at + 1)
  local stop
  if at > #text then
    self.kind, self.value, stop = "end", "", at - 1
  elseif text:find("^[%a_]", at) then
    stop, self.value = select(2, text:find("^([%w_]+)", at))
    self.kind = "name"
  elseif text:find("^%d", at) then
    stop, self.value = select(2, text:find("^([%d.]+)", at))
    self.kind = "number"
  elseif text:sub(at, at) == '"' then
    local out, i = {}, at + 1
    while text:sub(i, i) ~= '"' do
      if i > #text then
        give_up("a string without its end")
      end
      local c = text:sub(i, i)
      if c == "\\" then
        i = i + 1
        c = text:sub(i, i)
        c = ESCAPES[c] or c
      end
      out[#out + 1] = c
      i = i + 1
    end
    self.kind, self.value, stop = "string", table.concat(out), i
  elseif OPERATORS[rest] then
    self.kind, self.value, stop = "operator", rest, at + 1
  else
    self.value, stop = text:sub(at, at), at
    self.kind = OPERATORS[self.value] and "operator" or self.value
  end
  self.at = stop + 1
end

function Parser:expect(kind)
  if self.kind ~= kind then
    give_up(("expected %s before %q"):format(kind, self.value))
  end
  self:next()
end

function Parser:arguments()
  local list = {}
  self:expect("(")
  while self.kind ~= ")" do
    list[#list + 1] = self:expression(1)
    if self.kind == "," then
      self:next()
    end
  end
  self:next()
  return list
end

--- `<string>` of a generic call.
function Parser:skip_generic()
  if self.kind == "operator" and self.value == "<" then
    local stop = self.text:match("^%s*[%w_.]+%s*>()", self.at)
    if not stop then
      give_up("a generic type")
    end
    self.at = stop
    self:next()
  end
end

function Parser:method(subject, name)
  self:skip_generic()
  local arguments = self:arguments()
  local known = METHODS[name]
  local _, wanted = (known or ""):gsub("%%s", "")
  if not known or (wanted > 1 and not arguments[1]) then
    give_up("." .. name .. "()")
  end
  local one = arguments[1] and "(" .. arguments[1] .. ")"
  if wanted == 1 then
    return { text = known:format(subject.text), is_text = true }
  elseif wanted == 2 then
    return { text = known:format(subject.text, one) }
  end
  return { text = known:format(subject.text, one, one) }
end

--- A path from `context` on.
function Parser:path()
  local path = self.value
  self:next()
  while true do
    if self.kind == "?" then
      self:next()
    end
    if COLLECTIONS[path] and self.kind == "[" then
      self:next()
      local key = self:expression(1)
      self:expect("]")
      return { text = ("%s[%s]"):format(COLLECTIONS[path], key) }
    end
    if self.kind ~= "." then
      break
    end
    self:next()
    local name = self.value
    self:expect("name")
    if COLLECTIONS[path] and name == "GetValueOrDefault" then
      self:skip_generic()
      local arguments = self:arguments()
      local text = ("%s[%s]"):format(COLLECTIONS[path], arguments[1] or give_up(name))
      return { text = arguments[2] and ("(%s or %s)"):format(text, arguments[2]) or text }
    elseif COLLECTIONS[path] and name == "ContainsKey" then
      return { text = ("(%s[%s] ~= nil)"):format(COLLECTIONS[path], self:arguments()[1]) }
    elseif PLAIN[path] and self.kind == "(" then
      return self:method({ text = PLAIN[path] }, name)
    end
    path = path .. "." .. name
  end
  if path == "string.Empty" or path == "String.Empty" then
    return { text = '""', is_text = true }
  end
  return { text = PLAIN[path] or give_up(path) }
end

function Parser:primary()
  local kind, value = self.kind, self.value
  if kind == "string" then
    self:next()
    return { text = quote(value), is_text = true }
  elseif kind == "number" then
    self:next()
    return { text = value }
  elseif kind == "!" then
    self:next()
    return { text = "not " .. self:postfix().text }
  elseif kind == "(" then
    self:next()
    local cast = self.kind == "name" and self.text:match("^%s*%)()", self.at)
    if cast and (self.value == "string" or self.value == "int" or self.value == "bool"
      or self.value == "String") then
      self.at = cast
      self:next()
      return self:postfix()
    end
    local inner = self:expression(1)
    self:expect(")")
    return { text = "(" .. inner .. ")" }
  elseif kind == "name" and WORDS[value] then
    self:next()
    return { text = WORDS[value] }
  elseif kind == "name" then
    return self:path()
  end
  give_up(("%q"):format(value))
end

function Parser:postfix()
  local one = self:primary()
  while self.kind == "." do
    self:next()
    local name = self.value
    self:expect("name")
    if name == "Length" and self.kind ~= "(" then
      one = { text = ("#(%s)"):format(one.text) }
    else
      one = self:method(one, name)
    end
  end
  return one
end

local POWER = { ["||"] = 1, ["??"] = 1, ["&&"] = 2, ["=="] = 3, ["!="] = 3, ["<"] = 3, [">"] = 3,
  ["<="] = 3, [">="] = 3, ["+"] = 4, ["-"] = 4, ["*"] = 5, ["/"] = 5, ["%"] = 5 }

function Parser:binary(least)
  local left = self:postfix()
  while self.kind == "operator" and POWER[self.value] >= least do
    local operator = self.value
    self:next()
    local right = self:binary(POWER[operator] + 1)
    local lua = OPERATORS[operator]
    local is_text = false
    if operator == "+" and (left.is_text or right.is_text) then
      lua, is_text = "..", true
      left.text, right.text = "tostring(" .. left.text .. ")", "tostring(" .. right.text .. ")"
    end
    left = { text = ("%s %s %s"):format(left.text, lua, right.text), is_text = is_text }
  end
  return left
end

function Parser:expression(least)
  return self:binary(least).text
end

--- An expression as Lua.
---@param text string "@(context.Request.Method == \"GET\")", or what stands between
---@return string? lua
---@return string? err what cannot be translated
function M.translate(text)
  local inner = text:match("^%s*@%((.*)%)%s*$")
  if not inner then
    inner = text:match("^%s*@{%s*return%s+(.-);%s*}%s*$")
    if not inner then
      return nil, "statements"
    end
  end
  local parser = setmetatable({ text = inner, at = 1 }, Parser)
  local ok, result = pcall(function()
    parser:next()
    local lua = parser:expression(1)
    if parser.kind ~= "end" then
      give_up(("%q"):format(parser.value))
    end
    return lua
  end)
  if ok then
    return result
  end
  return nil, type(result) == "table" and result.csharp or tostring(result)
end

function M.is_expression(text)
  return text:find("^%s*@[({]") ~= nil
end

return M
