-- SPDX-License-Identifier: Apache-2.0
--- Lets in who brings a token that its issuer, asked, calls active.
local claims = require("moongate.claims")
local crypto = require("moongate.crypto")
local http = require("moongate.http")
local json = require("moongate.json")
local jwt = require("moongate.jwt")
local log = require("moongate.log")
local reply = require("moongate.reply")

local M = {
  name = "introspect_token",
  summary = "Lets in who brings a token that its issuer, asked, calls active (RFC 7662).",
  description = "For tokens that say nothing by themselves. An answer is remembered for `ttl` "
    .. "seconds, never past the token's own end, and a refusal for `negative_ttl`. What the issuer "
    .. "says of the token is then in `ctx.jwt`.",
  sections = { "inbound" },
  azure = "none: there it is a send-request with a condition",
  differences = "A policy of its own.",
  statuses = {
    ["401"] = "`TokenNotPresent`, `TokenNotActive`, `TokenExpired`, `TokenIssuerNotAllowed`, "
      .. "`TokenAudienceNotAllowed`, `TokenClaimNotFound`, `TokenClaimValueNotAllowed`; `status` "
      .. "changes it",
    ["503"] = "`TokenNotChecked`: the issuer does not answer",
  },
  example = [[p.introspect_token {
  url = "https://id.contoso.test/introspect",
  client_id = "gateway", client_secret = { env = "GATEWAY_SECRET" },
  required_claims = { scope = "orders.read" },
}]],
}

local function is_url(value)
  return value:find("^https?://[^/%s]+%S*$") ~= nil, "an http or https URL"
end

local function strings(description)
  return { type = "array", minItems = 1, description = description,
    items = { type = "string", minLength = 1, description = "A text." } }
end

M.schema = {
  type = "object", required = { "url", "client_id", "client_secret" }, additionalProperties = false,
  order = { "url", "client_id", "client_secret", "header", "issuers", "audiences",
    "required_claims", "clock_skew", "ttl", "negative_ttl", "timeout", "cache_entries", "status" },
  properties = {
    url = { type = "string", check = is_url, description = "The introspection endpoint." },
    client_id = { type = "string", minLength = 1, secret = true, description = "Our name there." },
    client_secret = { type = "string", minLength = 1, secret = true, description = "Our secret." },
    header = { type = "string", minLength = 1, default = "Authorization",
      description = "Header field that holds the token (after `Bearer` in `Authorization`)." },
    issuers = strings("Values of `iss`, any of them."),
    audiences = strings("Values of `aud`, any of them."),
    required_claims = { type = "object",
      description = "What the answer must hold, as in `validate_jwt`.",
      additionalProperties = { type = { "string", "number", "boolean", "array", "object" },
        description = "A value, a list, or a table with `values`, `match` and `separator`." } },
    clock_skew = { type = "number", minimum = 0, default = 0,
      description = "Seconds that clocks may differ." },
    ttl = { type = "number", minimum = 0, default = 60,
      description = "Seconds that an answer is remembered; 0: never." },
    negative_ttl = { type = "number", minimum = 0, default = 5,
      description = "Seconds that a refusal is remembered." },
    timeout = { type = "number", exclusiveMinimum = 0, default = 5,
      description = "Seconds for one question." },
    cache_entries = { type = "integer", minimum = 0, maximum = 100000, default = 1024,
      description = "Tokens remembered by each worker." },
    status = { type = "integer", minimum = 400, maximum = 599, default = 401,
      description = "Status of a refusal." },
  },
}

local function encode(text)
  return (text:gsub("[^%w%-._~]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

function M.prepare(conf)
  local header = conf.header or "Authorization"
  local rules = {}
  for name, value in pairs(conf) do
    rules[name] = value
  end
  rules.require_expiration_time = false
  return {
    url = conf.url, header = header, has_scheme = header:lower() == "authorization",
    timeout = conf.timeout or 5, ttl = conf.ttl or 60, negative_ttl = conf.negative_ttl or 5,
    status = conf.status or 401, rules = claims.rules(rules),
    refused = claims.rules({ cache_entries = conf.cache_entries }),
    headers = {
      ["Content-Type"] = "application/x-www-form-urlencoded", Accept = "application/json",
      Authorization = "Basic "
        .. crypto.base64(encode(conf.client_id) .. ":" .. encode(conf.client_secret)),
    },
  }
end

local function refuse(self, reason, message)
  local challenge = "Bearer"
  if reason ~= "TokenNotPresent" then
    challenge = ('Bearer error="invalid_token", error_description="%s"'):format(message)
  end
  return reply.refuse(self.status, reason, message,
    self.status == 401 and { ["WWW-Authenticate"] = challenge } or nil)
end

--- Asks the issuer. Returns its answer, or nil and what went wrong.
local function ask(self, token)
  local response, err = http.request({
    method = "POST", url = self.url, headers = self.headers, timeout = self.timeout,
    body = "token=" .. encode(token) .. "&token_type_hint=access_token",
  })
  if not response then
    return nil, tostring(err)
  elseif response.status ~= 200 then
    return nil, ("status %d"):format(response.status)
  end
  local answer, why = json.decode(response.body or "", { depth = 32, duplicates = "refuse" })
  if type(answer) ~= "table" or type(answer.active) ~= "boolean" then
    return nil, why or "the answer does not say whether the token is active"
  end
  return answer
end

--- Judges an answer. Returns reason and message of a refusal, or nil and how long it may be kept.
local function judge(self, answer)
  if not answer.active then
    return "TokenNotActive", "the token is not active"
  end
  local reason, message, _, till = self.rules:check(answer, {}, jwt.now())
  if reason then
    return reason, message
  end
  return nil, nil, math.min(till, jwt.now() + self.ttl)
end

local function token_of(self, raw)
  if not self.has_scheme then
    return raw
  end
  return raw:sub(1, 7):lower() == "bearer " and raw:match("^ *([%w%-._~+/=]+)$", 8) or nil
end

function M.inbound(self, ctx)
  local raw = ctx.request.headers[self.header]
  local token = raw and raw ~= "" and #raw <= 8192 and token_of(self, raw)
  if not token then
    return refuse(self, "TokenNotPresent", "a token is required")
  end
  local found = self.rules:recall(raw, self)
  if found then
    ctx.jwt = found
    return
  end
  if self.refused:recall(raw, self) then
    return refuse(self, "TokenNotActive", "the token is not active")
  end
  local answer, err = ask(self, token)
  if not answer then
    log.error(("introspect_token: %s: %s"):format(self.url, err))
    return reply.refuse(503, "TokenNotChecked", "the token cannot be checked now",
      { ["Retry-After"] = "5" })
  end
  local reason, message, till = judge(self, answer)
  if reason then
    self.refused:remember(raw, self, {}, -math.huge, jwt.now() + self.negative_ttl)
    return refuse(self, reason, message)
  end
  self.rules:remember(raw, self, answer, -math.huge, till)
  ctx.jwt = answer
end

return M
