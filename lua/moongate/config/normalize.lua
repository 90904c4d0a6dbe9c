-- SPDX-License-Identifier: Apache-2.0
--- From what people write to what the runtime takes: addresses and URLs taken apart, seconds to
--- milliseconds, names to what they name.

local M = {}

local SECONDS = {
  head_timeout = true, body_timeout = true, idle_timeout = true, send_timeout = true,
  tls_timeout = true, drain_timeout = true, policy_cpu = true, timeout = true,
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
    host, port = text:match("^([%w_.-]*):(%d+)$")
  end
  port = tonumber(port)
  if not host or not port or port > 65535 then
    return nil, "host:port, [v6]:port, :port or unix:/path"
  end
  return { host = host == "" and "::" or host, port = port }
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
  return bits == "" or tonumber(bits) <= width
end

--- A host as routes know it, or nil.
---@param host string
---@return string?
function M.host(host)
  host = host:lower()
  if host == "*" or host:find("^%*%.[%w_-][%w_.-]*$") or host:find("^[%w_-][%w_.-]*$")
    or host:find("^%[[%x:.]+%]$")
  then
    return host
  end
  return nil
end

local function retry(given)
  given = M.milliseconds(given or { on = { "connect", "reset" }, budget = 20, backoff = 0.025,
    max_backoff = 0.25, try_timeout = 0, idempotency_key = false })
  local causes, statuses = {}, {}
  for _, item in ipairs(given.on) do
    if type(item) == "number" then
      statuses[#statuses + 1] = item
    else
      causes[#causes + 1] = item
    end
  end
  given.on, given.statuses = causes, statuses
  return given
end

local function statuses(list)
  local out = {}
  for i, item in ipairs(list) do
    out[i] = type(item) == "table" and item or { item, item }
  end
  return out
end

--- A backend for the plan. `fail(path, expected, got)` tells of what is wrong.
---@param name string
---@param given table
---@param fail fun(path: string, expected: string, got: any)
function M.backend(name, given, fail)
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
    breaker = M.milliseconds(given.breaker),
    tls = given.tls,
    auth = given.auth,
    dns = M.milliseconds(given.dns),
    host = given.host,
    proxy_protocol = given.proxy_protocol,
    targets = {},
  }
  if out.health then
    out.health.statuses = statuses(out.health.statuses)
  end
  if (given.hash and (given.hash.on == "header" or given.hash.on == "cookie")) and not given.hash.name
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
  elseif not given.sink and #(given.targets or {}) == 0 then
    fail("targets", "at least one target, or a sink", given.targets)
  end
  return out
end

return M
