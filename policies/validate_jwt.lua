-- SPDX-License-Identifier: Apache-2.0
--- Lets in who brings a valid JSON Web Token.
local claims = require("moongate.claims")
local jwt = require("moongate.jwt")
local reply = require("moongate.reply")

local M = {
  name = "validate_jwt",
  summary = "Lets in who brings a valid JSON Web Token.",
  description = "The token is signed (or encrypted, and signed within) by one of the keys, with "
    .. "one of the algorithms listed, and its claims say what is asked for. The claims are then in "
    .. "`ctx.jwt`. RFC 8725 is kept to the letter: `none`, unknown critical headers, weak keys, "
    .. "keys used for what they are not, repeated members and times that are no numbers are "
    .. "refused. A token that passed is remembered until it expires.",
  sections = { "inbound" },
  azure = "validate-jwt, validate-azure-ad-token",
  differences = "`algorithms` must be given. ES*, EdDSA, PS384 and PS512 too. Claims by a path "
    .. "(`realm_access.roles`). A WWW-Authenticate field says what was wrong (RFC 6750). A space "
    .. "separated `scope` or `scp` counts as a set. Keys that cannot be fetched: 503, not 401.",
  statuses = {
    ["401"] = "`TokenNotPresent`, `JwtInvalid`, `TokenSignatureInvalid`, "
      .. "`TokenSignatureKeyNotFound`, `TokenExpired`, `TokenIssuerNotAllowed`, "
      .. "`TokenAudienceNotAllowed`, `TokenClaimNotFound`, `TokenClaimValueNotAllowed`; `status` "
      .. "changes it",
    ["503"] = "`TokenSignatureKeyNotFound`: there are no keys, as the issuer does not answer",
  },
  example = [[p.validate_jwt {
  jwks_uri = "https://id.contoso.test/keys",
  algorithms = { "RS256", "ES256" },
  issuers = { "https://id.contoso.test" },
  audiences = { "api://orders" },
  required_claims = { scope = "orders.read" },
}]],
}

local function strings(description, check)
  return { type = "array", minItems = 1, description = description,
    items = { type = "string", minLength = 1, description = "A text.", check = check } }
end

local function is_url(value)
  return value:find("^https?://[^/%s]+%S*$") ~= nil, "an http or https URL"
end

local function is_algorithm(value)
  return jwt.is_algorithm(value), 'an algorithm such as "RS256", "ES256", "EdDSA" or "HS256"'
end

local function secret(description)
  return { type = "string", secret = true, description = description }
end

local function part(description)
  return { type = "string", minLength = 1, description = description }
end

local key = {
  type = { "string", "object" },
  description = "A key as a table: a JWK (RFC 7517) with whatever members it has, or one of `pem`, "
    .. "`file` and `value`.",
  order = { "kid", "alg", "kty", "file", "pem", "value", "k", "crv", "x", "y", "n", "e", "d" },
  properties = {
    kid = part("Which key it is, where tokens name one."),
    alg = part("The one algorithm that it is for."),
    kty = part("`oct`, `RSA`, `EC` or `OKP`."),
    file = part("PEM file with a key or a certificate."),
    pem = secret("The same as a text."),
    value = secret("With `kty = \"oct\"`: the secret as it is, not encoded."),
    k = secret("The secret in base64url."),
    crv = part("Curve: `P-256`, `P-384`, `P-521`, `Ed25519`, `Ed448`, `X25519`, `X448`."),
    x = part("Coordinate of a public key, in base64url."),
    y = part("The other coordinate."),
    n = part("RSA modulus, in base64url."), e = part("RSA exponent, in base64url."),
    d = secret("The private part, in base64url: of `decryption_keys`."),
  },
}

local seconds = { type = "number", minimum = 0 }

local function duration(description, default)
  return { type = seconds.type, minimum = 0, default = default, description = description }
end

M.schema = {
  type = "object", additionalProperties = false,
  order = { "header_name", "query_parameter_name", "cookie", "token_value", "require_scheme",
    "preset", "tenant", "client_ids", "algorithms", "keys", "jwks_uri", "openid_config",
    "decryption_keys", "issuers", "audiences", "required_claims",
    "require_expiration_time", "require_signed_tokens",
    "clock_skew", "max_age", "typ", "status", "message", "output_variable", "strip_token",
    "keys_ttl", "keys_refetch", "keys_timeout", "cache_entries" },
  properties = {
    header_name = { type = "string", minLength = 1,
      description = "Header field that holds the token; `Authorization` where no place is given." },
    query_parameter_name = { type = "string", minLength = 1,
      description = "Query parameter that holds the token." },
    cookie = { type = "string", minLength = 1, description = "Cookie that holds the token." },
    token_value = { type = "function",
      description = "A function of `ctx` that returns the token." },
    require_scheme = { type = "string",
      description = "Word before the token in the field; `Bearer` for `Authorization`." },
    preset = { enum = { "entra" },
      description = "`entra`: keys, issuers and RS256 of Microsoft Entra ID, by `tenant`." },
    tenant = { type = "string", pattern = "^[%w.-]+$",
      description = "The tenant's id or domain, for the preset." },
    client_ids = strings("Applications (`azp` or `appid`) that may call, for the preset."),
    algorithms = strings("Algorithms that are accepted.", is_algorithm),
    keys = { type = "array", minItems = 1,
      description = "Keys: a JWK, a JWK Set, a PEM text, `{ file = \"key.pem\" }`, or "
        .. "`{ kty = \"oct\", value = \"the secret itself\" }`, with `kid` where tokens name one.",
      items = key },
    jwks_uri = { type = "string", check = is_url, description = "URL of a JWK Set." },
    openid_config = { type = "string", check = is_url,
      description = "URL of an OpenID discovery document; its issuer counts where `issuers` is "
        .. "left out." },
    decryption_keys = { type = "array", minItems = 1,
      description = "Our own keys, for encrypted tokens, in the forms of `keys`.",
      items = key },
    issuers = strings("Values of `iss`, any of them."),
    audiences = strings("Values of `aud`, any of them."),
    required_claims = { type = "object",
      description = "Claims by name or path. A value, a list (all of them), or `{ values = {…}, "
        .. "match = \"any\", separator = \" \" }`; an empty list: it must be there.",
      additionalProperties = { type = { "string", "number", "boolean", "array", "object" },
        description = "What the claim must hold." } },
    require_expiration_time = { type = "boolean", default = true,
      description = "Whether a token must expire." },
    require_signed_tokens = { type = "boolean", default = true,
      description = "Whether an encrypted token must hold a signed one." },
    clock_skew = duration("Seconds that clocks may differ.", 0),
    max_age = duration("Seconds since `iat` after which a token is too old."),
    typ = { type = "string", minLength = 1,
      description = "What the header's `typ` must be, such as `at+jwt`." },
    status = { type = "integer", minimum = 400, maximum = 599, default = 401,
      description = "Status of a refusal." },
    message = { type = "string", description = "What the client is told instead of the reason." },
    output_variable = { type = "string", minLength = 1,
      description = "Name in `ctx.vars` that gets the claims, too." },
    strip_token = { type = "boolean", default = false,
      description = "Whether the token is taken out of the request for the backend." },
    keys_ttl = duration("Seconds that fetched keys are kept.", 3600),
    keys_refetch = duration("Seconds at least between fetches for unknown keys.", 300),
    keys_timeout = { type = "number", exclusiveMinimum = 0, default = 5,
      description = "Seconds for one fetch." },
    cache_entries = { type = "integer", minimum = 0, maximum = 100000, default = 1024,
      description = "Tokens remembered by each worker; 0: none." },
  },
}

local ENTRA = "https://login.microsoftonline.com/"

--- The preset's options under those that were given.
local function with_preset(conf)
  if conf.preset ~= "entra" then
    return conf
  end
  if not conf.tenant then
    error("preset \"entra\" needs tenant", 0)
  end
  local full = {}
  for name, value in pairs(conf) do
    full[name] = value
  end
  full.algorithms = conf.algorithms or { "RS256" }
  full.openid_config = conf.openid_config
    or ENTRA .. conf.tenant .. "/v2.0/.well-known/openid-configuration"
  full.issuers = conf.issuers
    or { ENTRA .. conf.tenant .. "/v2.0", "https://sts.windows.net/" .. conf.tenant .. "/" }
  return full
end

local PLACES = { "header_name", "query_parameter_name", "cookie", "token_value" }

local function place_of(conf)
  local place
  for _, name in ipairs(PLACES) do
    if conf[name] ~= nil then
      if place then
        error(("%s and %s: a token has one place"):format(place, name), 0)
      end
      place = name
    end
  end
  return place or "header_name"
end

local function keyset_of(keys, conf, name)
  local set, err = jwt.keyset({
    keys = keys, algorithms = conf.algorithms, require_signed = conf.require_signed_tokens,
  })
  if not set then
    error(name == "keys" and err or name .. ": " .. err, 0)
  end
  return set
end

--- The inline keys, or the source of fetched ones.
local function prepare_keys(self, conf)
  local given = 0
  for _, name in ipairs({ "keys", "jwks_uri", "openid_config" }) do
    given = given + (conf[name] and 1 or 0)
  end
  if given ~= 1 then
    error("one of keys, jwks_uri and openid_config is needed", 0)
  end
  if conf.keys then
    local all = {}
    for i, given_key in ipairs(conf.keys) do
      all[i] = given_key
    end
    for _, own_key in ipairs(conf.decryption_keys or {}) do
      all[#all + 1] = own_key
    end
    self.keyset = keyset_of(all, conf, "keys")
    return
  end
  self.source = require("moongate.jwks").source({
    uri = conf.jwks_uri, openid_config = conf.openid_config, algorithms = conf.algorithms,
    ttl = conf.keys_ttl, refetch = conf.keys_refetch, timeout = conf.keys_timeout,
    require_signed = conf.require_signed_tokens, decryption_keys = conf.decryption_keys,
  })
  self.takes_issuer = conf.openid_config and not conf.issuers
end

function M.prepare(conf)
  conf = with_preset(conf)
  if not conf.algorithms then
    error("algorithms is required: the list of those that are accepted", 0)
  end
  local place = place_of(conf)
  local header = place == "header_name" and (conf.header_name or "Authorization") or nil
  local scheme = conf.require_scheme
  if not scheme and header and header:lower() == "authorization" then
    scheme = "Bearer"
  end
  local self = {
    header = header, query = conf.query_parameter_name, cookie = conf.cookie,
    token_value = conf.token_value,
    scheme = scheme and scheme ~= "" and scheme:lower() .. " " or nil,
    status = conf.status or 401, message = conf.message, output = conf.output_variable,
    strips = conf.strip_token, challenge = scheme and scheme ~= "" and scheme or "Bearer",
    rules = claims.rules(conf), client_ids = nil,
  }
  if conf.client_ids then
    self.client_ids = {}
    for _, id in ipairs(conf.client_ids) do
      self.client_ids[id] = true
    end
  end
  prepare_keys(self, conf)
  if header and not (self.client_ids or self.takes_issuer or self.output) then
    self.act = self.rules:act(header, self.strips)
    self.native = { inbound = self.act }
    if self.source then
      self.source:watch(self.rules)
    else
      self.rules:trust(self.keyset, math.huge)
    end
  end
  return self
end

--- The field, parameter or cookie that holds the token, whole.
local function find(self, ctx)
  if self.header then
    return ctx.request.headers[self.header]
  elseif self.query then
    return ctx.request.query[self.query]
  elseif self.cookie then
    return ctx.request.cookies[self.cookie]
  end
  return self.token_value(ctx)
end

--- The token in what was found: without its scheme. Nil where the scheme is another.
local function token_in(self, raw)
  if not self.scheme then
    return raw
  end
  local size = #self.scheme
  if raw:sub(1, size):lower() ~= self.scheme then
    return nil
  end
  local from = raw:find("[^ ]", size + 1)
  return from and raw:sub(from, -1) or nil
end

local function refuse(self, reason, message)
  local challenge = self.challenge
  if self.status == 401 and reason ~= "TokenNotPresent" then
    challenge = ('%s error="invalid_token", error_description="%s"'):format(challenge, message)
  end
  return reply.refuse(self.status, reason, self.message or message,
    self.status == 401 and { ["WWW-Authenticate"] = challenge } or nil)
end

local function is_token(raw)
  return type(raw) == "string" and raw ~= ""
end

local function not_present(self)
  return refuse(self, "TokenNotPresent", "a token is required")
end

local function no_keys()
  return reply.refuse(503, "TokenSignatureKeyNotFound", "the keys for tokens cannot be had now",
    { ["Retry-After"] = "5" })
end

--- What the rules cannot know: the issuer that was discovered, the preset's applications.
local function check_more(self, found)
  if self.takes_issuer and found.iss ~= self.source.issuer then
    return "TokenIssuerNotAllowed", "the token's issuer is not allowed"
  end
  if self.client_ids and not (self.client_ids[found.azp] or self.client_ids[found.appid]) then
    return "TokenClaimValueNotAllowed", "the token's application is not allowed"
  end
end

--- Verifies with the keys of now; where the token's key is not among them, with newer ones.
local function verify(self, ctx, keyset, raw)
  local token = token_in(self, raw)
  if not token or token == "" then
    return nil, "TokenNotPresent", "a token is required"
  end
  local found, reason, message = self.rules:verify(keyset, token, raw)
  if reason == "TokenSignatureKeyNotFound" and self.source and self.source:refetch(ctx) then
    found, reason, message = self.rules:verify(self.source.set, token, raw)
  end
  return found, reason, message
end

--- The claims of a token that the memory does not have under its field. Else nil and a reply.
local function judge(self, ctx, keyset, raw)
  if not is_token(raw) then
    return nil, not_present(self)
  end
  local found = not self.header and self.rules:recall(raw, keyset)
  if found then
    return found
  end
  local reason, message
  found, reason, message = verify(self, ctx, keyset, raw)
  return found, not found and refuse(self, reason, message) or nil
end

function M.inbound(self, ctx)
  if self.act and self.act:pass(ctx) then
    return
  end
  local keyset, raw = self.keyset, nil
  if not keyset then
    raw = find(self, ctx)
    if not is_token(raw) then
      return not_present(self) -- and no keys are asked for
    end
    keyset = self.source:keys(ctx) -- logs what goes wrong
    if not keyset then
      return no_keys()
    end
  end
  local found = self.header and self.rules:recall_field(ctx, self.header, keyset)
  if not found then
    local refusal
    found, refusal = judge(self, ctx, keyset, raw or find(self, ctx))
    if not found then
      return refusal
    end
  end
  if self.takes_issuer or self.client_ids then
    local reason, message = check_more(self, found)
    if reason then
      return refuse(self, reason, message)
    end
  end
  ctx.jwt = found
  if self.output then
    ctx.vars[self.output] = found
  end
  if self.strips then
    if self.header then
      ctx.request.headers[self.header] = nil
    elseif self.query then
      ctx.request.query[self.query] = nil
    end
  end
end

return M
