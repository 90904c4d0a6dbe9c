-- SPDX-License-Identifier: Apache-2.0
--- Gets a token for the backend by the client credentials grant, and sends it along.
local crypto = require("moongate.crypto")
local flight = require("moongate.flight")
local http = require("moongate.http")
local json = require("moongate.json")
local jwt = require("moongate.jwt")
local log = require("moongate.log")
local reply = require("moongate.reply")

local M = {
  name = "oauth_token",
  summary = "Gets a token for the backend (OAuth 2.0 client credentials), and sends it along.",
  description = "The token is fetched when first needed, kept in memory by each worker, and "
    .. "fetched anew before it expires: while one request does so, the others go on with the old.",
  sections = { "inbound", "backend" },
  azure = "get-authorization-context, authentication-managed-identity",
  differences = "The grant is here, not in a credential store.",
  statuses = { ["502"] = "`TokenNotObtained`: there is no token and none could be fetched; "
    .. "`status` changes it" },
  example = [[p.oauth_token {
  token_url = "https://id.contoso.test/token",
  client_id = "gateway", client_secret = { env = "GATEWAY_SECRET" },
  scope = "orders.read",
}]],
}

local function is_url(value)
  return value:find("^https?://[^/%s]+%S*$") ~= nil, "an http or https URL"
end

M.schema = {
  type = "object", required = { "token_url", "client_id", "client_secret" },
  additionalProperties = false,
  order = { "token_url", "client_id", "client_secret", "auth", "scope", "audience", "resource",
    "refresh_before", "lifetime", "timeout", "header", "output_variable", "status" },
  properties = {
    token_url = { type = "string", check = is_url, description = "The token endpoint." },
    client_id = { type = "string", minLength = 1, secret = true, description = "Our name there." },
    client_secret = { type = "string", minLength = 1, secret = true, description = "Our secret." },
    auth = { enum = { "basic", "body" }, default = "basic",
      description = "Where name and secret go: the `Authorization` field, or the form." },
    scope = { type = "string", minLength = 1, description = "Scopes, separated by spaces." },
    audience = { type = "string", minLength = 1, description = "Audience, where it is asked for." },
    resource = { type = "string", minLength = 1, description = "Resource (RFC 8707)." },
    refresh_before = { type = "number", minimum = 0, default = 60,
      description = "Seconds before its end at which a new token is fetched." },
    lifetime = { type = "number", exclusiveMinimum = 0, default = 300,
      description = "Seconds that a token is kept whose `expires_in` is not told." },
    timeout = { type = "number", exclusiveMinimum = 0, default = 5,
      description = "Seconds for one fetch." },
    header = { type = "string", default = "Authorization",
      description = "Request header field that gets `Bearer` and the token; empty: none." },
    output_variable = { type = "string", minLength = 1,
      description = "Name in `ctx.vars` that gets the token." },
    status = { type = "integer", minimum = 400, maximum = 599, default = 502,
      description = "Status when there is no token." },
  },
}

local RETRY = 1 -- seconds after a failure without a token; with one, ten times that

local function encode(text)
  return (text:gsub("[^%w%-._~]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

local function form(fields)
  local parts = {}
  for _, field in ipairs(fields) do
    if field[2] then
      parts[#parts + 1] = field[1] .. "=" .. encode(field[2])
    end
  end
  return table.concat(parts, "&")
end

function M.prepare(conf)
  local in_body = conf.auth == "body"
  local headers = {
    ["Content-Type"] = "application/x-www-form-urlencoded", Accept = "application/json",
  }
  if not in_body then -- RFC 6749, 2.3.1: both are form-encoded first
    headers.Authorization = "Basic "
      .. crypto.base64(encode(conf.client_id) .. ":" .. encode(conf.client_secret))
  end
  local timeout = conf.timeout or 5
  return {
    request = { method = "POST", url = conf.token_url, headers = headers, timeout = timeout,
      body = form({ { "grant_type", "client_credentials" }, { "scope", conf.scope },
        { "audience", conf.audience }, { "resource", conf.resource },
        { "client_id", in_body and conf.client_id or nil },
        { "client_secret", in_body and conf.client_secret or nil } }) },
    header = conf.header ~= "" and (conf.header or "Authorization") or nil,
    output = conf.output_variable, refresh_before = conf.refresh_before or 60,
    lifetime = conf.lifetime or 300, status = conf.status or 502,
    flight = flight.new(timeout + 1), next_at = 0, ends_at = 0,
  }
end

--- Fetches a token. Returns what went wrong, or nil.
local function fetch(self)
  local response, err = http.request(self.request)
  if not response then
    return tostring(err)
  elseif response.status ~= 200 then
    return ("status %d"):format(response.status)
  end
  local answer = json.decode(response.body or "", { depth = 8 })
  local token = type(answer) == "table" and answer.access_token
  if type(token) ~= "string" or token == "" or token:find("[^%w%-._~+/=]") then
    return "no access_token in the answer"
  end
  local kind = answer.token_type
  if type(kind) ~= "string" or kind:lower() ~= "bearer" then
    return "the token is not of type Bearer"
  end
  local lifetime = type(answer.expires_in) == "number" and answer.expires_in or self.lifetime
  local now = jwt.now()
  self.token, self.value = token, "Bearer " .. token
  self.ends_at = now + lifetime
  self.next_at = now + math.max(lifetime - self.refresh_before, lifetime / 2)
  return nil
end

local function refresh(self)
  local ok, err = self.flight:run(fetch, self)
  if not ok or err then
    local now = jwt.now()
    self.next_at = now + (now < self.ends_at and 10 * RETRY or RETRY)
    log.error(("oauth_token: %s: %s"):format(self.request.url, tostring(err)))
  end
end

function M.inbound(self, ctx)
  local now = jwt.now()
  local has_token = now < self.ends_at
  if now >= self.next_at and not self.flight:is_busy() then
    refresh(self)
  elseif not has_token then
    self.flight:wait(ctx)
  end
  if jwt.now() >= self.ends_at then
    return reply.refuse(self.status, "TokenNotObtained", "the backend's token cannot be had now")
  end
  if self.header then
    ctx.request.headers[self.header] = self.value
  end
  if self.output then
    ctx.vars[self.output] = self.token
  end
end

M.backend = M.inbound

return M
