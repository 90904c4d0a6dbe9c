-- SPDX-License-Identifier: Apache-2.0
--- Makes links to the backend links to the gateway.
local rewriting = require("moongate.rewriting")

local M = {
  name = "rewrite_links",
  summary = "Makes links to the backend's own hosts links to the gateway.",
  description = "In the body of textual media types (HTML, JSON, XML, JavaScript, CSS, plain), in "
    .. "`Location`, `Content-Location`, `Refresh` and `Link`, and in the `Domain` of cookies. The "
    .. "gateway's side is how the client called it. Hosts are those of the route's backend, unless "
    .. "`hosts` names others. Bodies are changed while they pass. The backend is asked for one "
    .. "without `Content-Encoding`; one that has it is left as it is, and so is an answer to a range "
    .. "request (206). A changed body's `ETag` becomes weak.",
  sections = { "outbound" },
  azure = "redirect-content-urls",
  differences = "Fields and cookies too, which Azure leaves; links that only begin with a "
    .. "host's name (`http://api.test.example` for `http://api.test`) are left alone.",
  example = 'p.rewrite_links { hosts = { "orders.internal:9101" } }',
}

M.schema = {
  type = "object", additionalProperties = false, order = { "hosts", "body" },
  properties = {
    hosts = { type = "array", items = { type = "string", minLength = 1 },
      description = "Hosts, with port where it is not the scheme's. Default: the targets of the "
        .. "backend that answered." },
    body = { type = "boolean", default = true, description = "Whether bodies are rewritten too." },
  },
}

local function authorities(plan, hosts)
  if hosts then
    return nil, hosts
  end
  local out = {}
  for _, backend in ipairs(plan.backends) do
    out[backend.name] = {}
    for _, target in ipairs(backend.targets or {}) do
      local authority = tostring(target.url):match("^%a+://([^/]+)")
      if authority then
        table.insert(out[backend.name], authority)
      end
    end
  end
  return out
end

--- The starts of links to a list of hosts, as they stand in texts and, escaped, in JSON. The second of
--- each pair is filled in for a request.
local function rules_of(hosts)
  local rules = {}
  for _, host in ipairs(hosts) do
    for _, slashes in ipairs { "//", "\\/\\/" } do
      rules[#rules + 1] = { "http:" .. slashes .. host, "" }
      rules[#rules + 1] = { "https:" .. slashes .. host, "" }
    end
  end
  return #rules > 0 and rules or nil
end

function M.needs(conf)
  return { response_text = conf.body ~= false }
end

function M.prepare(conf, env)
  local by_backend, hosts = authorities(env.plan, conf.hosts)
  local rules = {}
  for name, list in pairs(by_backend or {}) do
    rules[name] = rules_of(list)
  end
  return { by_backend = by_backend, hosts = hosts, has_body = conf.body ~= false,
    own_rules = hosts and rules_of(hosts), rules = rules }
end

--- Replaces `http://host` and `https://host` where the host ends there.
local function rewrite(text, hosts, own)
  for _, host in ipairs(hosts) do
    local pattern = "(%a+)://" .. host:gsub("%p", "%%%0") .. "%f[^%w.:-]"
    text = text:gsub(pattern, function(scheme)
      local lower = scheme:lower()
      if lower == "http" or lower == "https" then
        return own
      end
    end)
    local escaped = "(%a+):\\/\\/" .. host:gsub("%p", "%%%0") .. "%f[^%w.:-]" -- JSON's \/
    text = text:gsub(escaped, function(scheme)
      local lower = scheme:lower()
      if lower == "http" or lower == "https" then
        return (own:gsub("/", "\\/"))
      end
    end)
  end
  return text
end

local FIELDS = { "Location", "Content-Location", "Refresh", "Link" }

local function rewrite_fields(response, hosts, own)
  local headers = response.headers
  for i = 1, #FIELDS do
    local value = headers[FIELDS[i]]
    if value then
      local new = rewrite(value, hosts, own)
      if new ~= value then
        headers[FIELDS[i]] = new
      end
    end
  end
end

local function rewrite_cookies(response, hosts, own_host)
  local cookies = response:header_values("Set-Cookie")
  local changed = false
  for i, cookie in ipairs(cookies) do
    cookies[i] = cookie:gsub("(;%s*[Dd][Oo][Mm][Aa][Ii][Nn]%s*=%s*)%.?([^;%s]+)", function(head, domain)
      for _, host in ipairs(hosts) do
        if host:gsub(":%d+$", ""):lower() == domain:lower() then
          changed = true
          return head .. own_host
        end
      end
    end)
  end
  if changed then
    response.headers["Set-Cookie"] = cookies
  end
end

local TEXTUAL = { "^text/", "json", "xml", "javascript" }

local function is_textual(headers)
  local media = (headers["Content-Type"] or ""):lower()
  for i = 1, #TEXTUAL do
    if media:find(TEXTUAL[i]) then
      return true
    end
  end
  return false
end

function M.outbound(self, ctx)
  local hosts = self.hosts or self.by_backend[ctx.backend or ""]
  local request, response = ctx.request, ctx.response
  local host = request.host
  if not hosts or not host or not host:find("^[%w.:%[%]_-]+$") then
    return -- nothing that could stand in a link
  end
  local own = request.scheme .. "://" .. host
  rewrite_fields(response, hosts, own)
  rewrite_cookies(response, hosts, (host:gsub(":%d+$", "")))
  local rules = self.own_rules or self.rules[ctx.backend or ""]
  if not self.has_body or not rules or not is_textual(response.headers)
    or not rewriting.is_readable(response, response.status)
  then
    return
  end
  local escaped = own:gsub("/", "\\/")
  for i = 1, #rules do -- two plain ones, two escaped ones, and so on
    rules[i][2] = (i - 1) % 4 < 2 and own or escaped
  end
  rewriting.replace(response, rules, true)
end

return M
