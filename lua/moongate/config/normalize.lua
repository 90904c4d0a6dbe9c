-- SPDX-License-Identifier: Apache-2.0
--- From what people write to what the runtime takes: addresses and URLs taken apart, seconds to
--- milliseconds, names to what they name.

local M = {}

local SECONDS = {
  head_timeout = true, body_timeout = true, idle_timeout = true, send_timeout = true,
  tls_timeout = true, overload_lag = true, drain_timeout = true, policy_cpu = true, timeout = true,
  connect_timeout = true, interval = true, eject = true, max_eject = true, window = true,
  open = true, backoff = true, max_backoff = true, try_timeout = true, lifetime = true,
  pending_timeout = true, min_ttl = true, max_ttl = true, slow_start = true, ttl = true,
  connect = true, send = true, first_byte = true, idle = true, total = true,
}

--- Copies a record; fields in seconds become `<name>_ms`.
---@param record table?
---@param except? table<string, boolean> names that are no durations here
function M.milliseconds(record, except)
  if not record then
    return nil
  end
  local out = {}
  for name, value in pairs(record) do
    if SECONDS[name] and type(value) == "number" and not (except and except[name]) then
      out[name .. "_ms"] = math.floor(value * 1000 + 0.5)
    else
      out[name] = value
    end
  end
  return out
end

--- Takes an address apart.
---@param text string `host:port`, `[v6]:port`, `:port`, `unix:/path`
---@return table? { host, port } or { unix }
---@return string? expected
function M.address(text)
  local unix = text:match("^unix:(/.+)$")
  if unix then
    if #unix > 107 then
      return nil, "a socket path of at most 107 bytes"
    end
    return { unix = unix }
  end
  local host, port = text:match("^%[([%x:.]+)%]:(%d+)$")
  if not host then
    host, port = text:match("^([%w.*-]*):(%d+)$")
  end
  port = tonumber(port)
  if not host or not port or port > 65535 or not M.is_listenable(host) then
    return nil, "IP:port, [IPv6]:port, :port (all addresses) or unix:/path"
  end
  return { host = host == "" and "*" or host, port = port }
end

--- Where the self-signed certificate for development is kept: outside the configuration, so that it
--- never ends up in a repository.
---@param env? fun(name: string): string?
---@return table { certificate, key, development = true }
function M.development_certificate(env)
  local home = env and env("HOME")
  local state = env and env("XDG_STATE_HOME")
  if not state or state == "" then
    state = home and home ~= "" and home .. "/.local/state" or "/var/lib"
  end
  local stem = state .. "/moongate/development"
  return { certificate = stem .. ".pem", key = stem .. ".key", development = true }
end

local default_ports = { http = 80, https = 443 }

--- Takes a target's URL apart.
---@param url string
---@return table? { url, scheme, host, port, path } or { url, scheme, unix, path }
---@return string? expected
function M.target(url)
  local wanted = "http://host:port, https://host:port or unix:/path"
  local unix = url:match("^unix:(/.+)$")
  if unix then
    return { url = url, scheme = "http", unix = unix, host = "localhost", port = 0, path = "" }
  end
  local scheme, authority, path = url:match("^(https?)://([^/?#]+)([^?#]*)$")
  if not scheme then
    return nil, wanted
  end
  local host, port = authority:match("^%[([%x:.]+)%]:?(%d*)$")
  if not host then
    host, port = authority:match("^([%w_.-]+):?(%d*)$")
  end
  if not host then
    return nil, wanted
  end
  port = port == "" and default_ports[scheme] or tonumber(port)
  if not port or port < 1 or port > 65535 then
    return nil, wanted .. " with a port from 1 to 65535"
  end
  return { url = url, scheme = scheme, host = host, port = port, path = (path:gsub("/+$", "")) }
end

local function is_ipv4(text)
  local a, b, c, d = text:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
  for _, part in ipairs({ a or "x", b, c, d }) do
    local n = tonumber(part)
    if not n or n > 255 or #part > 3 or part ~= "0" and part:sub(1, 1) == "0" then
      return false
    end
  end
  return true
end

local function is_ipv6(text)
  if text:find("[^%x:.]") or not text:find(":", 1, true) or text:find(":::", 1, true) then
    return false
  end
  local tail = text:match("([%d.]+)$")
  if tail and tail:find(".", 1, true) then
    if not is_ipv4(tail) then
      return false
    end
    text = text:sub(1, -#tail - 1) .. "0:0"
  end
  local _, doubles = text:gsub("::", "")
  local groups = 0
  for group in text:gmatch("[^:]+") do
    groups = groups + 1
    if #group > 4 then
      return false
    end
  end
  if doubles > 1 or text:find("^:[^:]") or text:find("[^:]:$") then
    return false
  end
  return doubles == 1 and groups < 8 or doubles == 0 and groups == 8
end

M.NETWORK = "a network like 10.0.0.0/8 or ::1/128, without bits behind the prefix"

-- An address as numbers of 16 bits; IPv4 gives two, IPv6 eight.
local function words_of(address)
  local words = {}
  local a, b, c, d = address:match("(%d+)%.(%d+)%.(%d+)%.(%d+)$")
  if a then
    local v4 = { a * 256 + b, c * 256 + d }
    if not address:find(":", 1, true) then
      return v4
    end
    address = ("%s%x:%x"):format(address:match("^(.*:)"), v4[1], v4[2])
  end
  local head, tail = address:match("^(.-)::(.*)$")
  for word in (head or address):gmatch("%x+") do
    words[#words + 1] = tonumber(word, 16)
  end
  local rest = {}
  for word in (tail or ""):gmatch("%x+") do
    rest[#rest + 1] = tonumber(word, 16)
  end
  while #words + #rest < 8 do
    words[#words + 1] = 0
  end
  for _, word in ipairs(rest) do
    words[#words + 1] = word
  end
  return words
end

-- Whether an address has bits set behind its prefix.
local function has_host_bits(address, bits)
  for i, word in ipairs(words_of(address)) do
    local own = math.min(math.max(bits - (i - 1) * 16, 0), 16) -- of this word, in the prefix
    if word % 2 ^ (16 - own) ~= 0 then
      return true
    end
  end
  return false
end

--- Whether a text is an address or a network in CIDR form.
---@param text string
---@return boolean
function M.is_network(text)
  local address, bits = text:match("^([^/]+)/?(%d*)$")
  if not address or text:find("/$") then
    return false
  end
  local width = is_ipv4(address) and 32 or is_ipv6(address) and 128
  if not width then
    return false
  end
  return bits == "" or tonumber(bits) <= width and not has_host_bits(address, tonumber(bits))
end

--- Whether a listener can be bound to a host: an address, or a word that stands for one.
function M.is_listenable(host)
  return host == "" or host == "*" or host == "localhost" or is_ipv4(host) or is_ipv6(host)
end

--- A host as routes know it, or nil.
---@param host string
---@return string?
function M.host(host)
  host = host:lower():gsub("([^.])%.$", "%1") -- requests come without the final dot
  if host == "_" or #host > 253 then -- nginx's name for any host; longer than names can be
    return nil
  elseif host == "*" or host:find("^%*%.[%w_-][%w_.-]*$") or host:find("^[%w_-][%w_.-]*$")
    or host:find("^%[[%x:.]+%]$")
  then
    return host
  end
  return nil
end

local function statuses(list)
  local out = {}
  for i, item in ipairs(list or {}) do
    out[i] = type(item) == "table" and item or { item, item }
  end
  return out
end

local function retry(given)
  given = M.milliseconds(given or { on = { "connect", "reset" }, budget = 20, backoff = 0.025,
    max_backoff = 0.25, try_timeout = 0, idempotency_key = false })
  local causes, numbers = {}, {}
  for _, item in ipairs(given.on) do
    if type(item) == "number" then
      numbers[#numbers + 1] = item
    else
      causes[item] = true
    end
  end
  given.on, given.statuses = causes, statuses(numbers)
  return given
end

local function breaker(given)
  given = M.milliseconds(given)
  if given then
    given.ratio_permille = math.floor(given.ratio * 1000 + 0.5)
    given.statuses = statuses(given.statuses)
  end
  return given
end

local BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text)
  local out = {}
  for i = 1, #text, 3 do
    local a, b, c = text:byte(i, i + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    for k = 3, 0, -1 do
      local at = math.floor(n / 64 ^ k) % 64 + 1
      out[#out + 1] = BASE64:sub(at, at)
    end
    if not c then
      out[#out] = "="
      out[#out - 1] = b and out[#out - 1] or "="
    end
  end
  return table.concat(out)
end

local function percent_encoded(text)
  return (text:gsub("[^%w._~-]", function(char)
    return ("%%%02X"):format(char:byte())
  end))
end

local function sorted_names(map)
  local names = {}
  for name in pairs(map or {}) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

-- A token request (RFC 6749 §4.4.2), ready to be sent; the client authenticates by Basic (§2.3.1).
local function client_credentials(given)
  local id, secret = percent_encoded(given.client_id), percent_encoded(given.client_secret)
  local body = { "grant_type=client_credentials", "client_id=" .. id }
  for _, name in ipairs({ "scope", "audience" }) do
    if given[name] then
      body[#body + 1] = name .. "=" .. percent_encoded(given[name])
    end
  end
  return { token_url = given.token_url, basic = "Basic " .. base64(id .. ":" .. secret),
    body = table.concat(body, "&") }
end

-- What the runtime adds to each request: fields, and a query ready to be appended.
local function auth(given, fail)
  if not given then
    return nil
  end
  local out = { fields = {} }
  if given.basic and given.basic.username and given.basic.password then
    out.fields[1] = { name = "Authorization",
      value = "Basic " .. base64(given.basic.username .. ":" .. given.basic.password) }
  end
  for _, name in ipairs(sorted_names(given.headers)) do
    if given.headers[name]:find("[%z\1-\8\10-\31\127]") then
      fail("auth.headers." .. name, "a value without control characters", nil)
    end
    out.fields[#out.fields + 1] = { name = name, value = given.headers[name] }
  end
  local query = {}
  for i, name in ipairs(sorted_names(given.query)) do
    query[i] = percent_encoded(name) .. "=" .. percent_encoded(given.query[name])
  end
  out.query = #query > 0 and table.concat(query, "&") or nil
  if given.oauth2 then
    out.oauth2 = client_credentials(given.oauth2)
    if not given.oauth2.token_url:find("^https?://") then
      fail("auth.oauth2.token_url", "an http or https URL", given.oauth2.token_url)
    end
  end
  return out
end

--- A backend for the plan. `fail(path, expected, got)` tells of what is wrong.
---@param name string
---@param given table
---@param fail fun(path: string, expected: string, got: any)
function M.backend(name, given, fail)
  if given.proxy_protocol ~= "off" and given.protocol ~= "http1" then
    fail("proxy_protocol", '"off", as `protocol` shares connections between clients',
      given.proxy_protocol)
  end
  local out = {
    name = name,
    sink = given.sink,
    balance = given.balance,
    hash = given.balance == "hash" and (given.hash or { on = "client_ip" }) or given.hash,
    affinity = M.milliseconds(given.affinity),
    slow_start_ms = math.floor((given.slow_start or 0) * 1000 + 0.5),
    protocol = given.protocol,
    retries = given.retries,
    retry = retry(given.retry),
    timeout = M.milliseconds(given.timeout),
    keepalive = M.milliseconds(given.keepalive, { idle = true }),
    limits = M.milliseconds(given.limits),
    health = M.milliseconds(given.health),
    outlier = M.milliseconds(given.outlier),
    breaker = breaker(given.breaker),
    panic = given.panic,
    drain_ms = math.floor((given.drain or 0) * 1000 + 0.5),
    split = given.split,
    mirror = given.mirror,
    tls = given.tls,
    auth = auth(given.auth, fail),
    dns = M.milliseconds(given.dns),
    host = given.host,
    proxy_protocol = given.proxy_protocol,
    targets = {},
  }
  if out.health then
    out.health.statuses = statuses(out.health.statuses)
  end
  if (given.hash and (given.hash.on == "header" or given.hash.on == "cookie"
    or given.hash.on == "query")) and not given.hash.name
  then
    fail("hash.name", "the name of the " .. given.hash.on, nil)
  end
  local has_tls = false
  for i, item in ipairs(given.targets or {}) do
    local url = type(item) == "table" and item.url or item
    local target, expected = M.target(url)
    if target then
      has_tls = has_tls or target.scheme == "https"
      target.weight = type(item) == "table" and item.weight or 1
      target.priority = type(item) == "table" and item.priority or 0
      target.name = type(item) == "table" and item.name or nil
      target.srv = type(item) == "table" and item.srv or nil
      out.targets[#out.targets + 1] = target
    else
      local inner = type(item) == "table" and ".url" or ""
      fail(("targets[%d]%s"):format(i, inner), expected, url)
    end
  end
  if has_tls and not out.tls then
    out.tls = { verify = true, min_version = "1.2" }
  end
  if given.sink and given.targets then
    fail("sink", "either targets or a sink, not both", given.sink)
  elseif given.split and (given.targets or given.sink) then
    fail("split", "either targets, a sink or a split", given.split)
  elseif not given.sink and not given.split and #(given.targets or {}) == 0 then
    fail("targets", "at least one target, a sink or a split", given.targets)
  end
  return out
end

return M
