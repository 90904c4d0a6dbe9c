-- SPDX-License-Identifier: Apache-2.0
--- What expressions of imported Azure policies mean where Lua means something else: `moongate import
--- apim` writes calls of these functions where the plain Lua would not do. Null is nil, or `json.null`
--- inside a document; lists begin at 1 here and at 0 there.

local clock = require("moongate.clock")
local crypto = require("moongate.crypto")
local json = require("moongate.json")
local regex = require("moongate.regex")
local reply = require("moongate.reply")

local floor, type, tostring = math.floor, type, tostring

local M = { null = json.null }

local function is_null(value)
  return value == nil or value == json.null
end
M.is_null = is_null

--- `value.ToString()`, and how a value is joined to a text.
function M.text(value)
  if is_null(value) then
    return ""
  elseif type(value) == "string" then
    return value
  elseif type(value) == "boolean" then
    return value and "True" or "False"
  elseif type(value) == "number" then
    return value == floor(value) and ("%.0f"):format(value) or ("%.15g"):format(value)
  elseif type(value) == "table" then
    if value.Token and value.Claims then
      return value.Token
    end
    return assert(json.encode(value))
  end
  return tostring(value)
end
local text = M.text

--- `(string)value`.
function M.string(value)
  if is_null(value) then
    return nil
  end
  return text(value)
end

--- `a + b` of values whose kind is known at run time only.
function M.add(a, b)
  if type(a) == "number" and type(b) == "number" then
    return a + b
  end
  return text(a) .. text(b)
end

--- `a ?? b`.
function M.default(a, b)
  if is_null(a) then
    return b
  end
  return a
end

--- `int.Parse(value)`, `(int)value`: what is no whole number raises.
function M.int(value)
  if type(value) == "number" then
    return value < 0 and math.ceil(value) or floor(value)
  end
  local digits = type(value) == "string" and value:match("^%s*([+-]?%d+)%s*$")
  return digits and tonumber(digits) or error(("no whole number: %s"):format(text(value)), 2)
end

--- `double.Parse(value)`, `(double)value`.
function M.double(value)
  return tonumber(value) or error(("no number: %s"):format(text(value)), 2)
end

--- `bool.Parse(value)`, `(bool)value`.
function M.bool(value)
  if type(value) == "boolean" then
    return value
  end
  local word = type(value) == "string" and value:match("^%s*(%a+)%s*$")
  word = word and word:lower()
  if word ~= "true" and word ~= "false" then
    error(("neither true nor false: %s"):format(text(value)), 2)
  end
  return word == "true"
end

--- `a / b` of whole numbers.
function M.quotient(a, b)
  if b == 0 then
    error("division by zero", 2)
  end
  return M.int(a / b)
end

--- `value[key]`, whose kinds are known at run time only.
function M.at(value, key)
  if type(key) == "number" then
    return value[key + 1]
  end
  return value[key]
end

--- `value[key] = other` of a document.
function M.put(value, key, other)
  if type(key) == "number" then
    key = key + 1
  end
  value[key] = other == nil and json.null or other
end

--- `value.Remove(key)` of a document.
function M.remove(value, key)
  value[key] = nil
end

--- `JObject.Parse(value)`.
function M.parse(value)
  return assert(json.decode(value))
end

--- `new JObject(new JProperty("a", b), …)`: names and values in turn; `n` is how many.
function M.object(n, ...)
  local out, parts = {}, { ... }
  for i = 1, n, 2 do
    M.put(out, parts[i], parts[i + 1])
  end
  return out
end

--- `new JArray(a, b, …)`.
function M.array(n, ...)
  local out, parts = json.array({}), { ... }
  for i = 1, n do
    out[i] = parts[i] == nil and json.null or parts[i]
  end
  return out
end

-- ---- texts -------------------------------------------------------------------------------------

function M.is_blank(value)
  return is_null(value) or not value:find("%S")
end

--- `value.Substring(from, length)`.
function M.substring(value, from, length)
  if from < 0 or from > #value or (length and (length < 0 or from + length > #value)) then
    error("Substring: out of range", 2)
  end
  return value:sub(from + 1, length and from + length)
end

--- `value.IndexOf(other)`.
function M.index_of(value, other, from)
  return (value:find(other, (from or 0) + 1, true) or 0) - 1
end

--- `value.LastIndexOf(other)`.
function M.last_index_of(value, other)
  local at, last = 0, 0
  while true do
    at = value:find(other, at + 1, true)
    if not at then
      return last - 1
    end
    last = at
  end
end

--- `value.Replace(from, to)`.
function M.replace(value, from, to)
  if from == "" then
    error("Replace: nothing to look for", 2)
  end
  local out, at = {}, 1
  while true do
    local first, last = value:find(from, at, true)
    if not first then
      out[#out + 1] = value:sub(at)
      return table.concat(out)
    end
    out[#out + 1] = value:sub(at, first - 1)
    out[#out + 1] = to or ""
    at = last + 1
  end
end

--- `value.Split(separator)`.
function M.split(value, separator)
  local out, at = {}, 1
  while true do
    local first, last = value:find(separator, at, true)
    out[#out + 1] = value:sub(at, first and first - 1)
    if not first then
      return out
    end
    at = last + 1
  end
end

--- `string.Join(separator, list)`.
function M.join(separator, list)
  local out = {}
  for i = 1, #list do
    out[i] = text(list[i])
  end
  return table.concat(out, separator)
end

--- `string.Format(pattern, …)` of plain places.
function M.format(pattern, ...)
  local values = { ... }
  return (pattern:gsub("{(%d+)}", function(n)
    return text(values[tonumber(n) + 1])
  end):gsub("{{", "{"):gsub("}}", "}"))
end

--- `value.Trim(characters)`, at the start, the end or both.
function M.trim(value, where, characters)
  local set = "%s"
  if characters then
    set = characters:gsub("%W", "%%%0")
  end
  if where ~= "end" then
    value = value:gsub("^[" .. set .. "]+", "")
  end
  if where ~= "start" then
    local last = #value
    while last > 0 and value:find("^[" .. set .. "]", last) do
      last = last - 1
    end
    value = value:sub(1, last)
  end
  return value
end

--- `value.PadLeft(width, character)`; a negative width pads on the right.
function M.pad(value, width, character)
  local missing = (character or " "):rep(math.abs(width) - #value)
  return width < 0 and value .. missing or missing .. value
end

--- `a.Equals(b, StringComparison.OrdinalIgnoreCase)`.
function M.same(a, b)
  if is_null(a) or is_null(b) then
    return is_null(a) and is_null(b)
  end
  return a:lower() == b:lower()
end

--- `value.Contains(other)`: of a text, a list or a document's list.
function M.contains(value, other)
  if type(value) == "string" then
    return value:find(other, 1, true) ~= nil
  end
  for i = 1, #value do
    if value[i] == other then
      return true
    end
  end
  return false
end

--- `Uri.EscapeDataString(value)`.
function M.escape(value)
  return (value:gsub("[^%w_.~-]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

--- `Uri.UnescapeDataString(value)`; `+` is a space where `is_form`.
function M.unescape(value, is_form)
  value = is_form and value:gsub("%+", " ") or value
  return (value:gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

--- `Regex.IsMatch(value, pattern)`, `Regex.Replace(value, pattern, other)`: methods of what comes back.
M.regex = regex.new

--- `Regex.Match(value, pattern)`.
function M.match(value, pattern, flags)
  local groups = regex.new(pattern, flags):exec(value)
  return { Success = groups ~= nil, Value = groups and groups[0] or "", Groups = groups or {} }
end

--- `Guid.NewGuid().ToString()`.
function M.guid()
  local hex = crypto.hex(crypto.random(16))
  return ("%s-%s-4%s-%x%s-%s"):format(hex:sub(1, 8), hex:sub(9, 12), hex:sub(14, 16),
    8 + tonumber(hex:sub(17, 17), 16) % 4, hex:sub(18, 20), hex:sub(21))
end

M.base64 = crypto.base64

function M.from_base64(value)
  return assert(crypto.from_base64(value))
end

--- `hash.ComputeHash(bytes)`, `new HMACSHA256(key).ComputeHash(bytes)`.
function M.hash(name, data)
  return crypto[name](data)
end

function M.hmac(name, key, data)
  return crypto.hmac(name, key, data)
end

--- What `body` of a Liquid template is: looked up by path, where a missing member is nil.
---@param message moongate.Request|moongate.Response
function M.liquid(message)
  local body
  return function(path, root)
    local value = root
    if value == nil then
      body = body or message:json() or {}
      value = body
    end
    for part in path:gmatch("[^.]+") do
      local key = tonumber(part)
      if type(value) ~= "table" then
        return nil
      end
      value = value[key and key + 1 or part]
    end
    if value == json.null then
      return nil
    end
    return value
  end
end

-- ---- lists -------------------------------------------------------------------------------------

--- `list.First(test)`, `list.FirstOrDefault(test)`.
function M.first(list, is_wanted, is_optional)
  for i = 1, #list do
    if not is_wanted or is_wanted(list[i]) then
      return list[i]
    end
  end
  return not is_optional and error("First: the list has none", 2) or nil
end

--- `list.Any(test)`.
function M.any(list, is_wanted)
  for i = 1, #list do
    if not is_wanted or is_wanted(list[i]) then
      return true
    end
  end
  return false
end

--- `list.All(test)`.
function M.all(list, is_wanted)
  for i = 1, #list do
    if not is_wanted(list[i]) then
      return false
    end
  end
  return true
end

--- `list.Where(test)`.
function M.where(list, is_wanted)
  local out = json.array({})
  for i = 1, #list do
    if is_wanted(list[i]) then
      out[#out + 1] = list[i]
    end
  end
  return out
end

--- `list.Select(map)`.
function M.select(list, map)
  local out = json.array({})
  for i = 1, #list do
    local value = map(list[i])
    out[i] = value == nil and json.null or value
  end
  return out
end

-- ---- tokens ------------------------------------------------------------------------------------

--- A token's claims as Azure's `Jwt` has them.
function M.jwt(claims, token)
  if is_null(claims) then
    return nil
  end
  local audiences = claims.aud
  return { Claims = claims, Token = token or "", Subject = claims.sub, Issuer = claims.iss,
    Id = claims.jti, Audiences = type(audiences) == "table" and audiences or { audiences } }
end

--- `text.AsJwt()`: what the token says, unverified; nil where it is none.
function M.as_jwt(value)
  if is_null(value) then
    return nil
  end
  local token = value:gsub("^[Bb]earer%s+", "")
  local payload = token:match("^[%w_-]+%.([%w_-]+)%.[%w_-]*$")
  local plain = payload and crypto.from_base64url(payload)
  local claims = plain and json.decode(plain)
  return type(claims) == "table" and M.jwt(claims, token) or nil
end

--- `text.AsBasic()`: { UserId, Password }, nil where it is none.
function M.as_basic(value)
  local encoded = not is_null(value) and value:match("^[Bb]asic%s+(%S+)%s*$")
  local user, password = ((encoded and crypto.from_base64(encoded)) or ""):match("^([^:]*):(.*)$")
  return user and { UserId = user, Password = password } or nil
end

--- `jwt.Claims.GetValueOrDefault(name, other)`: several values are joined by commas.
function M.claim(claims, name, other)
  local value = claims[name]
  if is_null(value) then
    return other
  end
  return type(value) == "table" and #value > 0 and M.join(",", value) or text(value)
end

--- `jwt.Claims[name]`: the values as texts.
function M.claim_list(claims, name)
  local value, out = claims[name], {}
  if type(value) ~= "table" or #value == 0 then
    value = { value }
  end
  for i = 1, #value do
    out[i] = text(value[i])
  end
  return out
end

-- ---- requests of one's own ----------------------------------------------------------------------

local HOP_BY_HOP = { connection = true, ["keep-alive"] = true, ["transfer-encoding"] = true,
  upgrade = true, te = true, trailer = true, ["proxy-authorization"] = true, host = true,
  ["content-length"] = true, ["expect"] = true }

--- The fields of the caller's request, for `send-request mode="copy"`.
function M.fields(request)
  local out = {}
  for _, name in ipairs(request:header_names()) do
    if not HOP_BY_HOP[name:lower()] then
      out[name] = request.headers[name]
    end
  end
  return out
end

--- `set-backend-service base-url`: its path goes before the request's.
function M.base_url(ctx, url)
  local origin, path = url:match("^(%a+://[^/?#]+)([^?#]*)$")
  if not origin then
    error(("set-backend-service: no base URL: %s"):format(url), 2)
  end
  ctx.backend_url = origin
  path = path:gsub("/+$", "")
  if path ~= "" then
    ctx.request.path = path .. ctx.request.path
  end
end

--- The answer of a sub-request as the answer to the client.
function M.reply(answer)
  local headers = {}
  for name, value in pairs(answer.headers) do
    if not HOP_BY_HOP[name] then
      headers[name] = value
    end
  end
  return reply.text(answer.status, answer.body, headers)
end

-- ---- time --------------------------------------------------------------------------------------

local PARTS = { yyyy = "%Y", yy = "%y", MMMM = "%B", MMM = "%b", MM = "%m", dddd = "%A", ddd = "%a",
  dd = "%d", HH = "%H", hh = "%I", mm = "%M", ss = "%S", tt = "%p", zzz = "+00:00" }
local NAMED = { o = "%Y-%m-%dT%H:%M:%S.0000000Z", s = "%Y-%m-%dT%H:%M:%S",
  u = "%Y-%m-%d %H:%M:%SZ", r = "%a, %d %b %Y %H:%M:%S GMT" }

--- Seconds since 1970: `DateTime.UtcNow`.
M.now = clock.now

--- `time.ToString(format)`, of a time in UTC.
function M.date(seconds, format)
  format = format or "MM/dd/yyyy HH:mm:ss"
  if NAMED[format:lower()] then
    return os.date("!" .. NAMED[format:lower()], floor(seconds))
  end
  local out, at = {}, 1
  while at <= #format do
    local c, stop = format:sub(at, at), at
    while format:sub(stop + 1, stop + 1) == c do
      stop = stop + 1
    end
    local run = format:sub(at, stop)
    local quoted = format:match("^'([^']*)'", at)
    if quoted then
      run, stop = quoted, at + #quoted + 1
    elseif c == "f" then
      run = ("%.7f"):format(seconds % 1):sub(3, 2 + #run)
    elseif PARTS[run] then
      run = os.date("!" .. PARTS[run], floor(seconds))
    end
    out[#out + 1] = run
    at = stop + 1
  end
  return table.concat(out)
end

return M
