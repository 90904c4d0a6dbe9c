-- SPDX-License-Identifier: Apache-2.0
--- What members of Azure's `context`, and of the types that expressions use, are in Lua. A node is a
--- Lua expression with what is known of it: `text`, `kind`, `power` (how strongly it binds), `maybe`
--- (it may be nil).

local M = {}

M.CALL, M.LITERAL, M.UNARY, M.TIMES, M.PLUS, M.JOIN, M.COMPARE, M.AND, M.OR =
  9, 8, 7, 6, 5, 4, 3, 2, 1

local function quote(text)
  return (("%q"):format(text):gsub("\\\n", "\\n"):gsub("\\r", "\\r"):gsub("%z", "\\0"))
end
M.quote = quote

local function give_up(what)
  error({ csharp = what }, 0)
end
M.give_up = give_up

function M.node(text, kind, maybe, power)
  return { text = text, kind = kind, maybe = maybe or false, power = power or M.CALL }
end
local node = M.node

--- The node's text where something that binds as strongly as `power` takes it.
function M.within(one, power)
  return one.power >= power and one.text or "(" .. one.text .. ")"
end

--- The node's text in front of a member.
local function head(one)
  return M.within(one, M.CALL)
end
M.head = head

--- The node as a text that is there.
local function sure(one)
  if one.kind == "text" and not one.maybe then
    return one.text
  elseif one.literal_number then
    return quote(one.literal_number)
  end
  return "cs.text(" .. one.text .. ")"
end
M.sure = sure

--- Where `one` is a text already, joined to others it stays as it is.
function M.joined(one)
  local text = sure(one)
  return text == one.text and M.within(one, M.JOIN) or text
end

-- ---- kinds -------------------------------------------------------------------------------------

-- C#'s names of types, as kinds.
M.KINDS = { string = "text", String = "text", int = "int", Int32 = "int", long = "int", Int64 = "int",
  double = "double", decimal = "double", float = "double", bool = "bool", Boolean = "bool",
  JObject = "json", JToken = "json", JArray = "json", JValue = "json", object = "any", var = "any",
  dynamic = "any", IResponse = "answer", Jwt = "jwt", DateTime = "time", DateTimeOffset = "time",
  TimeSpan = "span", ["byte[]"] = "bytes", ["string[]"] = "list", Guid = "text",
  BasicAuthCredentials = "basic", Uri = "text" }

-- Properties: the Lua text, its kind, and whether it may be nil.
M.PROPERTIES = {
  context = {
    Request = { "%s.request", "request" }, Response = { "%s.response", "response" },
    Variables = { "%s.vars", "variables" }, User = { "%s.user", "user", true },
    Subscription = { "%s.subscription", "subscription", true },
    Product = { "%s.product", "product", true }, Api = { "%s.api", "api", true },
    Operation = { "%s.operation", "operation", true },
    Deployment = { "%s.deployment", "deployment" }, LastError = { "%s.error", "error", true },
    RequestId = { "%s.id", "text" }, Elapsed = { "%s.elapsed", "span" },
    Timestamp = { "(cs.now() - %s.elapsed)", "time" },
  },
  request = {
    Method = { "%s.method", "text" }, IpAddress = { "%s.client_ip", "text" },
    Url = { "%s", "url" }, OriginalUrl = { "%s", "original_url" },
    Headers = { "%s.headers", "headers" }, MatchedParameters = { "%s.params", "map" },
    Body = { "%s", "body" }, Certificate = { "(%s.tls and %s.tls.client)", "certificate", true },
  },
  url = {
    Path = { "%s.path", "text" }, Host = { "%s.host", "text" }, Scheme = { "%s.scheme", "text" },
    Query = { "%s.query", "map" },
    QueryString = { '(%s.query_string ~= "" and "?" .. %s.query_string or "")', "text" },
  },
  response = {
    StatusCode = { "%s.status", "int" }, StatusReason = { "%s.reason", "text", true },
    Headers = { "%s.headers", "headers" }, Body = { "%s", "body" },
  },
  answer = {
    StatusCode = { "%s.status", "int" }, Headers = { "%s.headers", "answer_headers" },
    Body = { "%s", "answer_body" },
  },
  user = {
    Id = { "%s.id", "text", true }, Email = { "%s.email", "text", true },
    FirstName = { "%s.first_name", "text", true }, LastName = { "%s.last_name", "text", true },
    Note = { "%s.note", "text", true },
  },
  subscription = { Id = { "%s.id", "text", true }, Name = { "%s.name", "text", true } },
  product = { Id = { "%s.name", "text", true }, Name = { "%s.name", "text", true } },
  api = { Id = { "%s.name", "text", true }, Name = { "%s.name", "text", true } },
  operation = { Id = { "%s.name", "text", true }, Name = { "%s.name", "text", true },
    Method = { "%s.method", "text", true }, UrlTemplate = { "%s.path", "text", true } },
  match = { Success = { "%s.Success", "bool" }, Value = { "%s.Value", "text" },
    Groups = { "%s.Groups", "groups" } },
  group = { Value = { '(%s or "")', "text" }, Success = { "not not %s", "bool" } },
  deployment = { Region = { "%s.region", "text", true }, ServiceName = { "%s.name", "text" },
    GatewayId = { "%s.name", "text" } },
  error = {
    Message = { "%s.message", "text", true }, Reason = { "%s.reason", "text", true },
    Source = { "%s.source", "text", true }, Section = { "%s.section", "text", true },
    Scope = { "%s.scope", "text", true }, PolicyId = { "%s.policy", "text", true },
    Path = { "%s.path", "text", true },
  },
  certificate = { Subject = { "%s.subject", "text" }, SubjectName = { "%s.subject", "text" },
    Issuer = { "%s.issuer", "text" }, SerialNumber = { "%s.serial", "text" } },
  jwt = {
    Claims = { "%s.Claims", "claims" }, Subject = { "%s.Subject", "text", true },
    Issuer = { "%s.Issuer", "text", true }, Id = { "%s.Id", "text", true },
    Audiences = { "%s.Audiences", "list" },
  },
  basic = { UserId = { "%s.UserId", "text" }, Username = { "%s.UserId", "text" },
    Password = { "%s.Password", "text" } },
  text = { Length = { "#%s", "int" } },
  list = { Length = { "#%s", "int" }, Count = { "#%s", "int" } },
  json = { Count = { "#%s", "int" } },
  span = { TotalSeconds = { "%s", "double" }, TotalMilliseconds = { "(%s * 1000)", "double" } },
}
M.PROPERTIES.original_url = setmetatable({ Path = { "%s.raw_path", "text" } },
  { __index = M.PROPERTIES.url })

-- What `X.member` is nil for where X is, instead of an error.
M.FORGIVING = { user = true, subscription = true, product = true, api = true, operation = true,
  error = true, certificate = true }

-- ---- methods -----------------------------------------------------------------------------------

local function call(name, kind, maybe)
  return function(self, arguments)
    local list = { self.text }
    for _, one in ipairs(arguments) do
      list[#list + 1] = one.text
    end
    return node(("cs.%s(%s)"):format(name, table.concat(list, ", ")), kind, maybe)
  end
end

local function need(arguments, n, name)
  if #arguments < n then
    give_up(("%s with %d arguments"):format(name, #arguments))
  end
end

local function lookup(key_text)
  return function(self, arguments, generic)
    need(arguments, 1, "GetValueOrDefault")
    local kind = generic and M.KINDS[generic] or self.kind == "variables" and "any" or "text"
    local value = ("%s[%s]"):format(head(self), key_text(arguments[1]))
    local other = arguments[2]
    if not other then
      return node(value, kind, true)
    elseif kind == "any" then
      kind = other.kind == "null" and "any" or other.kind
    end
    if kind == "bool" or kind == "any" then
      return node(("cs.default(%s, %s)"):format(value, other.text), kind, other.maybe)
    end
    return node(("(%s or %s)"):format(value, M.within(other, M.OR + 1)), kind, other.maybe)
  end
end

local function plain_key(one)
  return one.text
end

--- Fields of answers of sub-requests have names in lower case.
local function lower_key(one)
  if one.literal then
    return quote(one.literal:lower())
  end
  return head(one) .. ":lower()"
end

local function contains_key(key_text)
  return function(self, arguments)
    need(arguments, 1, "ContainsKey")
    return node(("%s[%s] ~= nil"):format(head(self), key_text(arguments[1])), "bool", false, M.COMPARE)
  end
end

local function body_as(text_form, json_form)
  return { As = function(self, _, generic)
    if generic == "string" or generic == "byte[]" then
      return node(text_form:format(head(self)), generic == "string" and "text" or "bytes")
    elseif M.KINDS[generic or ""] == "json" then
      return node(json_form:format(head(self)), "json")
    end
    give_up(("Body.As<%s>()"):format(generic or "?"))
  end }
end

local function ignores_case(arguments)
  local last = arguments[#arguments]
  if last and last.kind == "comparison" then
    arguments[#arguments] = nil
    return last.ignores_case
  end
  return false
end

local function prefix_test(pattern)
  return function(self, arguments)
    local folds = ignores_case(arguments)
    need(arguments, 1, "StartsWith")
    local subject, other = head(self), arguments[1]
    local wanted = M.within(other, M.CALL)
    if folds then
      subject = subject .. ":lower()"
      wanted = other.literal and quote(other.literal:lower()) or wanted .. ":lower()"
    end
    local size = other.literal and #other.literal or "#" .. wanted
    if other.literal then
      wanted = quote(folds and other.literal:lower() or other.literal)
    end
    return node(pattern:format(subject, size, wanted), "bool", false, M.COMPARE)
  end
end

local function own(pattern, kind)
  return function(self)
    return node(pattern:format(head(self)), kind)
  end
end

local text_methods = {
  ToLower = own("%s:lower()", "text"), ToLowerInvariant = own("%s:lower()", "text"),
  ToUpper = own("%s:upper()", "text"), ToUpperInvariant = own("%s:upper()", "text"),
  StartsWith = prefix_test("%s:sub(1, %s) == %s"), EndsWith = prefix_test("%s:sub(-%s) == %s"),
  Contains = function(self, arguments)
    local folds = ignores_case(arguments)
    need(arguments, 1, "Contains")
    local tail = folds and ":lower()" or ""
    local wanted = folds and head(arguments[1]) .. tail or arguments[1].text
    if folds and arguments[1].literal then
      wanted = quote(arguments[1].literal:lower())
    end
    return node(("%s%s:find(%s, 1, true) ~= nil"):format(head(self), tail, wanted), "bool", false,
      M.COMPARE)
  end,
  Equals = function(self, arguments)
    local folds = ignores_case(arguments)
    need(arguments, 1, "Equals")
    if folds then
      return node(("cs.same(%s, %s)"):format(self.text, arguments[1].text), "bool")
    end
    return node(("%s == %s"):format(M.within(self, M.COMPARE + 1),
      M.within(arguments[1], M.COMPARE + 1)), "bool", false, M.COMPARE)
  end,
  ToString = function(self)
    return node(sure(self), "text", false, sure(self) == self.text and self.power or nil)
  end,
  Trim = function(self, arguments)
    if #arguments == 0 then
      return node(head(self) .. ':match("^%s*(.-)%s*$")', "text")
    end
    return node(('cs.trim(%s, "both", %s)'):format(self.text, arguments[1].text), "text")
  end,
  TrimStart = function(self, arguments)
    return node(('cs.trim(%s, "start"%s)'):format(self.text,
      arguments[1] and ", " .. arguments[1].text or ""), "text")
  end,
  TrimEnd = function(self, arguments)
    return node(('cs.trim(%s, "end"%s)'):format(self.text,
      arguments[1] and ", " .. arguments[1].text or ""), "text")
  end,
  PadLeft = call("pad", "text"),
  Substring = call("substring", "text"), IndexOf = call("index_of", "int"),
  LastIndexOf = call("last_index_of", "int"), Replace = call("replace", "text"),
  Split = function(self, arguments)
    if #arguments ~= 1 or arguments[1].kind ~= "text" then
      give_up("Split with more than one separator")
    end
    return node(("cs.split(%s, %s)"):format(self.text, arguments[1].text), "list")
  end,
  AsJwt = call("as_jwt", "jwt", true), AsBasic = call("as_basic", "basic", true),
  GetHashCode = function(self)
    return node(self.text, "seed", false, self.power)
  end,
}

local function sequence(kind_of_item)
  local function item(self)
    return kind_of_item or self.item or "any"
  end
  local function found(is_optional)
    return function(self, arguments)
      local list = { self.text, arguments[1] and arguments[1].text or is_optional and "nil" or nil,
        is_optional and "true" or nil }
      return node(("cs.first(%s)"):format(table.concat(list, ", ")), item(self), is_optional)
    end
  end
  local function same(self)
    return self
  end
  return {
    First = found(false), FirstOrDefault = found(true), Any = call("any", "bool"),
    All = call("all", "bool"), Contains = call("contains", "bool"),
    Where = function(self, arguments)
      local out = call("where", self.kind)(self, arguments)
      out.item = item(self)
      return out
    end,
    Select = function(self, arguments)
      local out = call("select", "list")(self, arguments)
      out.item = arguments[1] and arguments[1].result or "any"
      return out
    end,
    Count = function(self, arguments)
      if #arguments > 0 then
        return node(("#cs.where(%s, %s)"):format(self.text, arguments[1].text), "int", false, M.UNARY)
      end
      return node("#" .. head(self), "int", false, M.UNARY)
    end,
    ToArray = same, ToList = same, AsEnumerable = same,
  }
end

local json_methods = sequence("json")
json_methods.ToString = function(self)
  return node("cs.text(" .. self.text .. ")", "text")
end
json_methods.Value = function(self, arguments, generic)
  need(arguments, 1, "Value")
  return { index_of = self, key = arguments[1], cast = generic }
end
json_methods.ToObject = function(self, _, generic)
  return { index_of = self, cast = generic or "object" }
end
json_methods.ContainsKey = contains_key(plain_key)
json_methods.Remove = call("remove", "void")
json_methods.Add = function(self, arguments)
  if #arguments == 1 then
    local list = head(self)
    return node(("%s[#%s + 1] = %s"):format(list, list, arguments[1].text), "void")
  end
  return call("put", "void")(self, arguments)
end

local function shifted(seconds)
  return function(self, arguments)
    need(arguments, 1, "Add…")
    local factor = seconds == 1 and "" or " * " .. seconds
    return node(("%s + %s%s"):format(M.within(self, M.PLUS), M.within(arguments[1], M.TIMES), factor),
      "time", false, M.PLUS)
  end
end

M.METHODS = {
  headers = { GetValueOrDefault = lookup(plain_key), ContainsKey = contains_key(plain_key) },
  answer_headers = { GetValueOrDefault = lookup(lower_key), ContainsKey = contains_key(lower_key) },
  map = { GetValueOrDefault = lookup(plain_key), ContainsKey = contains_key(plain_key) },
  variables = { GetValueOrDefault = lookup(plain_key), ContainsKey = contains_key(plain_key) },
  body = body_as("%s:body()", "assert(%s:json())"),
  answer_body = body_as("%s.body", "cs.parse(%s.body)"),
  url = { ToString = own("%s.url", "text") }, original_url = { ToString = own("%s.url", "text") },
  claims = {
    GetValueOrDefault = call("claim", "text", true),
    ContainsKey = contains_key(plain_key),
  },
  certificate = { Verify = own("%s.verified", "bool"),
    VerifyNoRevocation = own("%s.verified", "bool") },
  text = text_methods,
  list = sequence(), json = json_methods,
  time = {
    ToString = call("date", "text"), ToUnixTimeSeconds = own("math.floor(%s)", "int"),
    ToUniversalTime = function(self) return self end,
    AddSeconds = shifted(1), AddMinutes = shifted(60), AddHours = shifted(3600),
    AddDays = shifted(86400),
  },
  random = { Next = function(_, arguments)
    if #arguments == 1 then
      return node(("math.random(0, %s - 1)"):format(M.within(arguments[1], M.PLUS)), "int")
    end
    need(arguments, 2, "Next")
    return node(("math.random(%s, %s - 1)"):format(arguments[1].text,
      M.within(arguments[2], M.PLUS)), "int")
  end },
  bytes = {},
  digest = { ComputeHash = function(self, arguments)
    need(arguments, 1, "ComputeHash")
    if self.key then
      return node(('cs.hmac("%s", %s, %s)'):format(self.text, self.key, arguments[1].text), "bytes")
    end
    return node(('cs.hash("%s", %s)'):format(self.text, arguments[1].text), "bytes")
  end },
  encoding = {
    GetBytes = function(_, arguments)
      return node(arguments[1].text, "bytes", false, arguments[1].power)
    end,
    GetString = function(_, arguments)
      return node(arguments[1].text, "text", false, arguments[1].power)
    end,
  },
  regex = {},
}

-- ---- static members ----------------------------------------------------------------------------

local function static(name, kind)
  return function(arguments)
    local list = {}
    for i, one in ipairs(arguments) do
      list[i] = one.text
    end
    return node(("cs.%s(%s)"):format(name, table.concat(list, ", ")), kind)
  end
end

local function math_of(name, kind)
  return function(arguments)
    local list = {}
    for i, one in ipairs(arguments) do
      list[i] = one.text
      kind = kind or one.kind
    end
    return node(("math.%s(%s)"):format(name, table.concat(list, ", ")), kind)
  end
end

local function pattern_call(method, kind)
  return function(arguments)
    need(arguments, 2, "Regex")
    local flags = ""
    if arguments[#arguments].kind == "regex_options" then
      flags = ', "i"'
      arguments[#arguments] = nil
    end
    if not arguments[2].literal then
      give_up("a regular expression that is no plain text")
    end
    local rest = arguments[3] and ", " .. arguments[3].text or ""
    return node(("cs.regex(%s%s):%s(%s%s)"):format(arguments[2].text, flags, method,
      arguments[1].text, rest), kind)
  end
end

local function first_argument(kind)
  return function(arguments)
    need(arguments, 1, "this")
    return node(arguments[1].text, kind, false, arguments[1].power)
  end
end

local function is_empty(arguments)
  local one = M.within(arguments[1] or give_up("IsNullOrEmpty()"), M.COMPARE + 1)
  return node(("(%s or \"\") == \"\""):format(one), "bool", false, M.COMPARE)
end

local function int_of(arguments)
  return static("int", "int")(arguments)
end

local function concat(arguments)
  local list = {}
  for i, one in ipairs(arguments) do
    list[i] = M.joined(one)
  end
  return node(table.concat(list, " .. "), "text", false, M.JOIN)
end

M.STATIC_CALLS = {
  ["string.IsNullOrEmpty"] = is_empty,
  ["string.IsNullOrWhiteSpace"] = static("is_blank", "bool"),
  ["string.Join"] = static("join", "text"), ["string.Format"] = static("format", "text"),
  ["string.Concat"] = concat,
  ["string.Equals"] = function(arguments)
    local first = table.remove(arguments, 1)
    return text_methods.Equals(first, arguments)
  end,
  ["int.Parse"] = int_of, ["long.Parse"] = int_of, ["Convert.ToInt32"] = int_of,
  ["Convert.ToInt64"] = int_of, ["double.Parse"] = static("double", "double"),
  ["Convert.ToDouble"] = static("double", "double"), ["bool.Parse"] = static("bool", "bool"),
  ["Convert.ToBoolean"] = static("bool", "bool"), ["Convert.ToString"] = static("text", "text"),
  ["Convert.ToBase64String"] = static("base64", "text"),
  ["Convert.FromBase64String"] = static("from_base64", "bytes"),
  ["Guid.NewGuid"] = static("guid", "text"),
  ["Math.Min"] = math_of("min"), ["Math.Max"] = math_of("max"), ["Math.Abs"] = math_of("abs"),
  ["Math.Floor"] = math_of("floor", "double"), ["Math.Ceiling"] = math_of("ceil", "double"),
  ["Uri.EscapeDataString"] = static("escape", "text"),
  ["Uri.UnescapeDataString"] = static("unescape", "text"),
  ["WebUtility.UrlEncode"] = static("escape", "text"),
  ["WebUtility.UrlDecode"] = function(arguments)
    return node(("cs.unescape(%s, true)"):format(arguments[1].text), "text")
  end,
  ["JObject.Parse"] = static("parse", "json"), ["JArray.Parse"] = static("parse", "json"),
  ["JToken.Parse"] = static("parse", "json"),
  ["JsonConvert.DeserializeObject"] = static("parse", "json"),
  ["JsonConvert.SerializeObject"] = static("text", "text"),
  ["JObject.FromObject"] = first_argument("json"), ["JToken.FromObject"] = first_argument("json"),
  ["Regex.IsMatch"] = pattern_call("test", "bool"),
  ["Regex.Replace"] = function(arguments)
    local out = pattern_call("gsub", "text")(arguments)
    return node("(" .. out.text .. ")", "text") -- without the count
  end,
  ["Regex.Match"] = function(arguments)
    need(arguments, 2, "Regex.Match")
    local flags = arguments[3] and arguments[3].kind == "regex_options" and ', "i"' or ""
    return node(("cs.match(%s, %s%s)"):format(arguments[1].text, arguments[2].text, flags), "match")
  end,
}

M.STATIC_VALUES = {
  ["string.Empty"] = function()
    local one = node('""', "text", false, M.LITERAL)
    one.literal = ""
    return one
  end,
  ["DateTime.UtcNow"] = function() return node("cs.now()", "time") end,
  ["DateTime.Now"] = function() return node("cs.now()", "time") end,
  ["DateTimeOffset.UtcNow"] = function() return node("cs.now()", "time") end,
  ["int.MaxValue"] = function() return node("2147483647", "int", false, M.LITERAL) end,
  ["Encoding.UTF8"] = function() return node("", "encoding") end,
  ["Encoding.ASCII"] = function() return node("", "encoding") end,
  ["RegexOptions.IgnoreCase"] = function() return node("", "regex_options") end,
}
for name, folds in pairs({ Ordinal = false, OrdinalIgnoreCase = true, InvariantCulture = false,
  InvariantCultureIgnoreCase = true, CurrentCulture = false, CurrentCultureIgnoreCase = true }) do
  M.STATIC_VALUES["StringComparison." .. name] = function()
    local one = node("", "comparison")
    one.ignores_case = folds
    return one
  end
end

-- Names of spaces that may stand before a type.
M.SPACES = { "System%.Text%.RegularExpressions%.", "System%.Text%.", "System%.Net%.",
  "System%.Security%.Cryptography%.", "Newtonsoft%.Json%.Linq%.", "Newtonsoft%.Json%.", "System%." }

M.DIGESTS = { HMACSHA256 = "sha256", HMACSHA384 = "sha384", HMACSHA512 = "sha512",
  HMACSHA1 = "sha1" }

return M
