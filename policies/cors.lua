-- SPDX-License-Identifier: Apache-2.0
--- Cross-origin resource sharing: answers preflights, and tells browsers who may read.
local reply = require("moongate.reply")

local concat = table.concat

local M = {
  name = "cors",
  summary = "Lets browsers call from other origins: answers preflights, adds the response's fields.",
  description = "Stands first in `inbound`. A preflight (OPTIONS with `Origin` and "
    .. "`Access-Control-Request-Method`) is answered here even where no operation takes OPTIONS; on "
    .. "such a path only the cors policies run. The response's fields are also put on answers that "
    .. "the gateway makes itself, errors included.",
  sections = { "inbound" },
  azure = "cors",
  differences = "An origin that is not listed gets 403 with a reason, never an empty 200. "
    .. "`*` together with `credentials` is refused when the configuration is loaded.",
  statuses = {
    ["204"] = "a preflight that is granted",
    ["403"] = "`OriginNotAllowed`, `CorsMethodNotAllowed`, `CorsHeaderNotAllowed`",
  },
  example = 'p.cors { origins = { "https://portal.contoso.test" }, methods = { "GET" } }',
}

local function texts(description, item, default)
  return { type = "array", items = { type = "string", minLength = 1, description = item },
    description = description, default = default }
end

M.schema = {
  type = "object", required = { "origins" }, additionalProperties = false,
  order = { "origins", "methods", "headers", "expose", "credentials", "max_age", "unmatched" },
  properties = {
    origins = {
      type = "array", minItems = 1,
      items = {
        type = "string", description = "An origin.",
        expected = '"https://host[:port]", "https://*.host", "null" or "*"',
        check = function(origin)
          return origin == "*" or origin == "null"
            or origin:find("^[%a][%w+.-]*://[%w.*:%[%]-]+$") ~= nil
        end,
      },
      description = "Origins: `https://host`, `https://*.host`, `null`, or `*` for any.",
    },
    methods = texts("Methods that may be called; `*` for all.", "A method.", { "GET", "POST" }),
    headers = texts("Request header fields that may be sent; `*` for all.", "A field.", {}),
    expose = texts("Response header fields that scripts may read.", "A field.", {}),
    credentials = { type = "boolean", default = false,
      description = "Whether cookies and authorization may be sent." },
    max_age = { type = "integer", minimum = 0, maximum = 86400, default = 0,
      description = "Seconds for which a browser may keep a preflight's answer." },
    unmatched = {
      enum = { "refuse", "pass" }, default = "refuse",
      description = "A call from an origin that is not listed: `refuse` (403), or `pass` without the "
        .. "fields, so that the browser withholds the answer.",
    },
  },
}

local function default_port(origin)
  return (origin:gsub("^(https://[^/]*):443$", "%1"):gsub("^(http://[^/]*):80$", "%1"))
end

function M.prepare(conf)
  local self = { exact = {}, suffixes = {}, any = false, credentials = conf.credentials or false,
    refuses = conf.unmatched ~= "pass", methods = {}, headers = {} }
  for _, origin in ipairs(conf.origins) do
    local scheme, suffix = origin:lower():match("^([^*]*)%*(%..*)$")
    if origin == "*" then
      self.any = true
    elseif scheme then
      self.suffixes[#self.suffixes + 1] = { scheme = scheme, suffix = default_port(suffix) }
    else
      self.exact[default_port(origin:lower())] = true
    end
  end
  if self.any and self.credentials then
    error("origins = { \"*\" } with credentials would hand every site the user's session; "
      .. "name the origins", 0)
  end
  for _, method in ipairs(conf.methods or { "GET", "POST" }) do
    self.methods[method:upper()] = true
  end
  for _, name in ipairs(conf.headers or {}) do
    self.headers[name:lower()] = true
  end
  self.expose = conf.expose and #conf.expose > 0 and concat(conf.expose, ", ") or nil
  self.max_age = conf.max_age and conf.max_age > 0 and tostring(conf.max_age) or nil
  self.method_text = self.methods["*"] and nil or concat(conf.methods or { "GET", "POST" }, ", ")
  return self
end

local function is_allowed(self, origin)
  if self.any then
    return true
  end
  origin = default_port(origin:lower())
  if self.exact[origin] then
    return true
  end
  for i = 1, #self.suffixes do
    local one = self.suffixes[i]
    if #origin > #one.scheme + #one.suffix and origin:sub(1, #one.scheme) == one.scheme
      and origin:sub(-#one.suffix) == one.suffix
    then
      return true
    end
  end
  return false
end

--- A request from a page of the same host is none of another origin.
local function is_own(request, origin)
  local host = request.host
  return host ~= nil and origin == (request.scheme or "http") .. "://" .. host
end

local function preflight(self, request, origin, method)
  if not self.methods["*"] and not self.methods[method] then
    return reply.refuse(403, "CorsMethodNotAllowed", "the method may not be called from there")
  end
  local wanted = request.headers["Access-Control-Request-Headers"]
  if wanted and not self.headers["*"] then
    for name in wanted:lower():gmatch("[^%s,]+") do
      if not self.headers[name] then
        return reply.refuse(403, "CorsHeaderNotAllowed", "a header field may not be sent from there")
      end
    end
  end
  return reply.text(204, nil, {
    ["Access-Control-Allow-Origin"] = self.any and "*" or origin,
    ["Access-Control-Allow-Methods"] = self.method_text or method,
    ["Access-Control-Allow-Headers"] = wanted,
    ["Access-Control-Allow-Credentials"] = self.credentials and "true" or nil,
    ["Access-Control-Max-Age"] = self.max_age,
    ["Vary"] = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
  })
end

function M.inbound(self, ctx)
  local request = ctx.request
  local origin = request.headers["Origin"]
  if not origin then
    return
  end
  local method = request.method == "OPTIONS" and request.headers["Access-Control-Request-Method"]
  if not is_allowed(self, origin) then
    if method or self.refuses and not is_own(request, origin) then
      return reply.refuse(403, "OriginNotAllowed", "the origin is not allowed")
    end
    return
  end
  ctx.vars["cors.origin"] = self.any and "*" or origin
  if method then
    return preflight(self, request, origin, method)
  end
end

local function add_fields(self, ctx)
  local origin, response = ctx.vars["cors.origin"], ctx.response
  if not self.any then
    -- Also where nothing is granted: a cache must not give this answer to another origin.
    local vary = response.headers["Vary"]
    if not vary or not vary:lower():find("origin", 1, true) then
      response:add_header("Vary", "Origin")
    end
  end
  if not origin then
    return
  end
  local headers = response.headers
  headers["Access-Control-Allow-Origin"] = origin
  if self.credentials then
    headers["Access-Control-Allow-Credentials"] = "true"
  end
  if self.expose then
    headers["Access-Control-Expose-Headers"] = self.expose
  end
end

function M.outbound(self, ctx)
  add_fields(self, ctx)
end

function M.on_error(self, ctx)
  add_fields(self, ctx)
end

return M
