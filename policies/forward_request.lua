-- SPDX-License-Identifier: Apache-2.0
--- Calls the backend, and says what counts as an answer.
local near = require("moongate.near")
local reply = require("moongate.reply")

local M = {
  name = "forward_request",
  summary = "Calls the backend, where its own settings do not fit.",
  description = "Without this policy a route's backend is called after the `backend` section. "
    .. "With it the call is made here, so that `retry`, `when` and `limit_concurrency` can hold "
    .. "it, and the policies behind it see `ctx.response`. Of several scopes that list it, the "
    .. "innermost counts. A call that fails goes to `on_error` with reason "
    .. "`BackendConnectionFailure` or `Timeout`.",
  sections = { "backend" },
  azure = "forward-request",
  differences = "A route's backend is called without this policy too. Connect and idle "
    .. "deadlines and the protocol are settings of the backend. Redirects are followed to the "
    .. "backend's own targets and to the hosts in `redirect_hosts` only, at most ten; what goes "
    .. "to another host goes without `Authorization` and `Cookie`.",
  statuses = {
    ["502"] = "`BackendConnectionFailure`",
    ["503"] = "`BackendConnectionFailure`, where no target is up",
    ["504"] = "`Timeout`",
    ["4xx, 5xx"] = "`BackendErrorStatus`, with `fail_on_error_status_code`: the backend's own "
      .. "status",
  },
  example = "p.forward_request { timeout = 20 }",
  forwards = true,
}

M.schema = {
  type = "object", additionalProperties = false,
  order = { "timeout", "fail_on_error_status_code", "follow_redirects", "redirect_hosts",
    "buffer_request_body", "buffer_response" },
  properties = {
    timeout = { type = "number", minimum = 0, maximum = 86400, unit = "s",
      description = "Seconds until the head of the answer; 0: the backend's deadlines alone." },
    fail_on_error_status_code = { type = "boolean", default = false,
      description = "Whether a status of 400 to 599 goes to `on_error`." },
    follow_redirects = { type = "boolean", default = false,
      description = "Whether a redirect is followed instead of being passed on." },
    redirect_hosts = { type = "array", items = { type = "string", minLength = 1 },
      description = "Further hosts (with port where it is not the scheme's) that a redirect may "
        .. "lead to." },
    buffer_request_body = { type = "boolean", default = false,
      description = "Whether the request's body is read whole before the call, so that it can be "
        .. "sent again." },
    buffer_response = { type = "boolean", default = false,
      description = "Whether the response's body is read whole before it goes to the client." },
  },
}

function M.needs(conf)
  return { request_body = conf.buffer_request_body or conf.follow_redirects or false,
    response_body = conf.buffer_response and "as it comes" or false }
end

local MAX_REDIRECTS = 10
local DEFAULT_PORT = { http = 80, https = 443 }
local IS_REDIRECT = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

local function origin(scheme, authority)
  scheme, authority = scheme:lower(), authority:lower()
  if not authority:find(":%d+$") then
    authority = authority .. ":" .. (DEFAULT_PORT[scheme] or 0)
  end
  return scheme .. "://" .. authority
end

--- By backend: the prefix of its targets' paths, by origin.
local function known_origins(plan)
  local out = {}
  for _, backend in ipairs(plan and plan.backends or {}) do
    local of_backend = {}
    for _, target in ipairs(backend.targets or {}) do
      local scheme, authority = tostring(target.url):match("^(%a+)://([^/]+)")
      if scheme then
        of_backend[origin(scheme, authority)] = target.path or ""
      end
    end
    out[backend.name] = of_backend
  end
  return out
end

function M.prepare(conf, env)
  local self = { timeout = conf.timeout, fails = conf.fail_on_error_status_code or false }
  if conf.follow_redirects then
    self.origins, self.hosts = known_origins(env.plan), {}
    for _, host in ipairs(conf.redirect_hosts or {}) do
      self.hosts[host:lower()] = true
    end
  elseif conf.redirect_hosts then
    error("redirect_hosts: only with follow_redirects", 0)
  end
  return self
end

--- The path of the first target: what a relative redirect is seen from.
local function own_prefix(origins)
  local names = near.keys(origins or {})
  return names[1] and origins[names[1]] or ""
end

local function strip(path, prefix)
  if prefix ~= "" and path:sub(1, #prefix) == prefix and path:find("^/", #prefix + 1) then
    return path:sub(#prefix + 1)
  end
  return path
end

--- Where a redirect leads: its URL's origin (nil: the same as before), path and query.
local function follow(self, ctx, location)
  local url, query = location:match("^([^?#]*)%??([^#]*)")
  local origins = self.origins[ctx.backend] or {}
  local scheme, authority, path = url:match("^(%a[%w+.-]*)://([^/]+)(.*)$")
  if not scheme and url:sub(1, 2) == "//" then
    scheme, authority, path = "http", url:match("^//([^/]+)(.*)$")
  end
  if not scheme then
    if url:sub(1, 1) ~= "/" then
      url = ctx.request.path:match("^(.*/)") .. url
    elseif not ctx.backend_url then
      url = strip(url, own_prefix(origins))
    end
    return nil, url, query
  end
  path = path == "" and "/" or path
  local prefix = origins[origin(scheme, authority)]
  if prefix then
    return nil, strip(path, prefix), query, true
  elseif self.hosts[authority:lower()] and DEFAULT_PORT[scheme:lower()] then
    return scheme:lower() .. "://" .. authority, path, query
  end
  return false
end

--- Makes the request that a redirect asks for. False: it is the client's to follow.
local function redirect(self, ctx)
  local response, request = ctx.response, ctx.request
  local location = response.headers["Location"]
  if not IS_REDIRECT[response.status] or not location then
    return false
  end
  local status = response.status
  local url, path, query, is_home = follow(self, ctx, location)
  if url == false then
    return false
  end
  ctx:drop_response()
  if status == 303 or status < 303 and request.method == "POST" then
    request.method = request.method == "HEAD" and "HEAD" or "GET"
    request:set_body("")
    request.headers["Content-Type"] = nil
  end
  if url then
    ctx.backend_url = url
    request.headers["Authorization"], request.headers["Cookie"] = nil, nil
  elseif is_home then
    ctx.backend_url = nil
  end
  request.path = path
  request.query_string = query
  return true
end

function M.backend(self, ctx)
  local ok, reason, message, status = ctx:forward(self.timeout)
  if self.origins then
    local n = 0
    while ok and n < MAX_REDIRECTS and redirect(self, ctx) do
      n = n + 1
      ok, reason, message, status = ctx:forward(self.timeout)
    end
  end
  if not ok then
    return reply.refuse(status, reason, message)
  end
  status = ctx.response.status
  if self.fails and status >= 400 then
    return reply.refuse(status, "BackendErrorStatus", ("the backend answered %d"):format(status))
  end
end

return M
