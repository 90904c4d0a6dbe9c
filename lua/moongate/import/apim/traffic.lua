-- SPDX-License-Identifier: Apache-2.0
--- Azure's policies of traffic and access, as ours: T[name](node, document) gives lines.

local emit = require("moongate.import.apim.emit")

local T = {}

local boolean, call, children, give_up, number, only, plain, quote, text, texts, value = emit.boolean,
  emit.call, emit.children, emit.give_up, emit.number, emit.only, emit.plain, emit.quote, emit.text,
  emit.texts, emit.value

T["check-header"] = function(node)
  only(node, "name", "failed-check-httpcode", "failed-check-error-message", "ignore-case")
  return call("check_header", { { "name", value(node.attributes.name) },
    { "values", texts(node, nil, "value") }, { "status", number(node, "failed-check-httpcode") },
    { "message", text(node, "failed-check-error-message") },
    { "ignore_case", boolean(node, "ignore-case") } })
end

local LIMIT_FIELDS = { "retry-after-header-name", "retry-after-variable-name",
  "remaining-calls-header-name", "remaining-calls-variable-name", "total-calls-header-name" }
local OURS = { ["retry-after-header-name"] = "retry_after_header",
  ["retry-after-variable-name"] = "retry_after_variable",
  ["remaining-calls-header-name"] = "remaining_header",
  ["remaining-calls-variable-name"] = "remaining_variable",
  ["total-calls-header-name"] = "total_header" }

local function limit_fields(node, fields)
  for _, name in ipairs(LIMIT_FIELDS) do
    fields[#fields + 1] = { OURS[name], text(node, name) }
  end
  return fields
end

local function increments(node, fields)
  local condition = node.attributes["increment-condition"]
  fields[#fields + 1] = { "count_if", condition and emit.value(condition) }
  fields[#fields + 1] = { "amount", emit.number_value(node, "increment-count") }
  return fields
end

local function kilobytes(node)
  local n = tonumber(plain(node, "bandwidth", ""))
  return n and ("%.0f"):format(n * 1024)
end

--- The limits of single APIs and operations: further listings, with a condition.
local function nested(node, translate, api)
  local out = {}
  for _, one in ipairs(node) do
    local name = one.attributes.name or one.attributes.id
    if one.name ~= (api and "operation" or "api") or not name then
      give_up(("<%s> within it"):format(one.name))
    end
    local condition = ("ctx.api and ctx.api.name == %s"):format(quote(api or name))
    if api then
      condition = condition .. (" and ctx.operation and ctx.operation.name == %s"):format(quote(name))
    end
    if one.attributes.calls or one.attributes.bandwidth then
      emit.append(out, translate(one, condition))
      out[#out] = out[#out] .. ","
    end
    if not api then
      emit.append(out, nested(one, translate, name))
    end
  end
  return out
end

--- A limit with those of its APIs in front: the narrowest comes first.
local function with_nested(node, translate)
  local out = nested(node, translate)
  emit.append(out, translate(node))
  return out
end

T["rate-limit"] = function(node)
  only(node, "calls", "renewal-period", unpack(LIMIT_FIELDS))
  local inherited = node.attributes["renewal-period"]
  return with_nested(node, function(one, condition)
    one.attributes["renewal-period"] = one.attributes["renewal-period"] or inherited
    return call("rate_limit", limit_fields(one, { { "when", condition and quote(condition) },
      { "calls", number(one, "calls") }, { "period", number(one, "renewal-period") },
      { "key", quote("${ctx.subscription and ctx.subscription.id or ctx.request.client_ip}") } }))
  end)
end

T["rate-limit-by-key"] = function(node)
  only(node, "calls", "renewal-period", "counter-key", "increment-condition", "increment-count",
    unpack(LIMIT_FIELDS))
  return call("rate_limit", increments(node, limit_fields(node, { { "calls", number(node, "calls") },
    { "period", number(node, "renewal-period") },
    { "key", value(node.attributes["counter-key"]) } })))
end

T.quota = function(node)
  only(node, "calls", "bandwidth", "renewal-period")
  local inherited = node.attributes["renewal-period"]
  return with_nested(node, function(one, condition)
    one.attributes["renewal-period"] = one.attributes["renewal-period"] or inherited
    return call("quota", { { "when", condition and quote(condition) },
      { "calls", number(one, "calls") }, { "bytes", kilobytes(one) },
      { "period", number(one, "renewal-period") } })
  end)
end

T["quota-by-key"] = function(node)
  only(node, "calls", "bandwidth", "renewal-period", "counter-key", "increment-condition",
    "increment-count", "first-period-start")
  local start = plain(node, "first-period-start")
  return call("quota", increments(node, { { "calls", number(node, "calls") },
    { "bytes", kilobytes(node) }, { "period", number(node, "renewal-period") },
    { "anchor", start and not start:find("^0001") and quote(start) or nil },
    { "key", value(node.attributes["counter-key"]) } }))
end

--- The networks that make up the addresses from one to another, both included.
local function networks(from, to)
  local function number_of(address)
    local a, b, c, d = address:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
    return a and ((a * 256 + b) * 256 + c) * 256 + d or give_up("an address range beyond IPv4")
  end
  local first, last, out = number_of(from), number_of(to), {}
  while first <= last do
    local bits = 0
    while bits < 32 and first % 2 ^ (bits + 1) == 0 and first + 2 ^ (bits + 1) - 1 <= last do
      bits = bits + 1
    end
    local floor = math.floor
    out[#out + 1] = quote(("%d.%d.%d.%d/%d"):format(floor(first / 2 ^ 24), floor(first / 2 ^ 16) % 256,
      floor(first / 256) % 256, first % 256, 32 - bits))
    first = first + 2 ^ bits
  end
  return out
end

T["ip-filter"] = function(node)
  only(node, "action")
  local list = {}
  for _, one in ipairs(node) do
    if one.name == "address" then
      list[#list + 1] = value(emit.trimmed(one.text))
    elseif one.name == "address-range" then
      emit.append(list, networks(plain(one, "from", ""), plain(one, "to", "")))
    else
      give_up(("<%s>"):format(one.name))
    end
  end
  return call("ip_filter", { { plain(node, "action") == "forbid" and "deny" or "allow",
    emit.list(list) or "{}" } })
end

T.cors = function(node, document)
  only(node, "allow-credentials", "terminate-unmatched-request")
  local methods = children(node, "allowed-methods")[1]
  local terminates = boolean(node, "terminate-unmatched-request")
  if terminates == "true" then
    emit.note(document, node, "an unlisted origin gets 403 here, not an empty 200")
  end
  return call("cors", { { "origins", texts(node, "allowed-origins", "origin") },
    { "methods", texts(node, "allowed-methods", "method") },
    { "headers", texts(node, "allowed-headers", "header") },
    { "expose", texts(node, "expose-headers", "header") },
    { "credentials", boolean(node, "allow-credentials") },
    { "unmatched", terminates == "false" and '"pass"' or nil },
    { "max_age", methods and number(methods, "preflight-result-max-age") } })
end

T["authentication-basic"] = function(node)
  only(node, "username", "password")
  return call("authentication_basic", { { "username", value(node.attributes.username) },
    { "password", value(node.attributes.password) } })
end

T["authentication-certificate"] = function(node, document)
  only(node, "certificate-id", "thumbprint")
  local name = (plain(node, "certificate-id") or plain(node, "thumbprint")
    or give_up("a certificate in the document: put it into files")):gsub("[^%w_.-]", "-")
  emit.note(document, node, ("put the certificate into certs/%s.pem, its key into certs/%s.key")
    :format(name, name))
  return call("authentication_certificate", { { "certificate", quote("certs/" .. name .. ".pem") },
    { "key", quote("certs/" .. name .. ".key") } })
end

-- ---- tokens ------------------------------------------------------------------------------------

local function claims_of(node)
  local out = {}
  local required = children(node, "required-claims")[1]
  for _, one in ipairs(required or {}) do
    local parts = { ("values = %s"):format(texts(one, nil, "value") or "{}"),
      ("match = %s"):format(quote(plain(one, "match", "all"))) }
    if one.attributes.separator then
      parts[#parts + 1] = "separator = " .. text(one, "separator")
    end
    out[#out + 1] = ("[%s] = { %s }"):format(quote(plain(one, "name")), table.concat(parts, ", "))
  end
  return emit.list(out)
end

--- The HMACs that a secret in base64url is long enough for; of a named value nothing is known here.
local function algorithms_for(secret)
  local bytes = secret:find("{{", 1, true) and 32 or math.floor(#secret * 3 / 4)
  return bytes >= 64 and '"HS256", "HS384", "HS512"' or bytes >= 48 and '"HS256", "HS384"' or '"HS256"'
end

--- The keys in an element, and the algorithms of a shared secret among them.
local function keys_of(node, name, document)
  local owner, out, algorithms = children(node, name)[1], {}, nil
  for _, one in ipairs(owner or {}) do
    local kid = one.attributes.id and ("kid = %s, "):format(text(one, "id")) or ""
    local certificate = plain(one, "certificate-id")
    if certificate then
      local file = "certs/" .. certificate:gsub("[^%w_.-]", "-") .. ".pem"
      emit.note(document, node, ("put the certificate %s into %s"):format(certificate, file))
      out[#out + 1] = ("{ %sfile = %s }"):format(kid, quote(file))
    elseif one.attributes.n then
      out[#out + 1] = ('{ %skty = "RSA", n = %s, e = %s }'):format(kid, text(one, "n"), text(one, "e"))
    else
      local secret = emit.trimmed(one.text):gsub("%+", "-"):gsub("/", "_"):gsub("=+$", "")
      out[#out + 1] = ('{ %skty = "oct", k = %s }'):format(kid, quote(secret))
      algorithms = algorithms_for(secret)
      if secret:find("{{", 1, true) then
        emit.note(document, node, "the named value of the key must be in base64url here")
      end
    end
  end
  return emit.list(out), algorithms
end

--- A token's text that an expression gives.
local function token_value(node)
  local given = node.attributes["token-value"]
  if not given then
    return nil
  end
  local out = value(given)
  return out:find("^function") and out or give_up("a token-value that is no expression")
end

T["validate-jwt"] = function(node, document)
  only(node, "header-name", "query-parameter-name", "token-value", "failed-validation-httpcode",
    "failed-validation-error-message", "require-expiration-time", "require-signed-tokens",
    "require-scheme", "clock-skew", "output-token-variable-name")
  emit.only_children(node, "openid-config", "audiences", "issuers", "required-claims",
    "issuer-signing-keys", "decryption-keys")
  local config = children(node, "openid-config")
  local keys, of_secret = keys_of(node, "issuer-signing-keys", document)
  if #config > 1 or (#config == 0 and not keys) then
    give_up("keys that are not from one openid-config or issuer-signing-keys")
  end
  local algorithms = #config > 0 and '"RS256", "RS512", "PS256"' or '"RS256", "RS512"'
  if of_secret then
    algorithms = (#config > 0 and algorithms .. ", " or "") .. of_secret
  end
  return call("validate_jwt", {
    { "header_name", text(node, "header-name") },
    { "query_parameter_name", text(node, "query-parameter-name") },
    { "token_value", token_value(node) }, { "require_scheme", text(node, "require-scheme") },
    { "openid_config", config[1] and quote(plain(config[1], "url")) }, { "keys", keys },
    { "decryption_keys", (keys_of(node, "decryption-keys", document)) },
    { "algorithms", "{ " .. algorithms .. " }" },
    { "audiences", texts(node, "audiences", "audience") },
    { "issuers", texts(node, "issuers", "issuer") }, { "required_claims", claims_of(node) },
    { "require_expiration_time", boolean(node, "require-expiration-time") },
    { "require_signed_tokens", boolean(node, "require-signed-tokens") },
    { "clock_skew", number(node, "clock-skew") },
    { "status", number(node, "failed-validation-httpcode") },
    { "message", text(node, "failed-validation-error-message") },
    { "output_variable", text(node, "output-token-variable-name") } })
end

T["validate-azure-ad-token"] = function(node)
  only(node, "tenant-id", "header-name", "query-parameter-name", "token-value",
    "failed-validation-httpcode", "failed-validation-error-message", "output-token-variable-name",
    "clock-skew")
  emit.only_children(node, "client-application-ids", "audiences", "required-claims")
  return call("validate_jwt", { { "preset", '"entra"' }, { "tenant", text(node, "tenant-id") },
    { "client_ids", texts(node, "client-application-ids", "application-id") },
    { "header_name", text(node, "header-name") },
    { "query_parameter_name", text(node, "query-parameter-name") },
    { "token_value", token_value(node) },
    { "audiences", texts(node, "audiences", "audience") }, { "required_claims", claims_of(node) },
    { "clock_skew", number(node, "clock-skew") },
    { "status", number(node, "failed-validation-httpcode") },
    { "message", text(node, "failed-validation-error-message") },
    { "output_variable", text(node, "output-token-variable-name") } })
end

local IDENTITY = { ["serial-number"] = "serial_number", ["common-name"] = "common_name",
  subject = "subject", ["dns-name"] = "dns_name", ["issuer-subject"] = "issuer" }

T["validate-client-certificate"] = function(node, document)
  only(node, "validate-revocation", "validate-trust", "validate-not-before", "validate-not-after",
    "ignore-error")
  if boolean(node, "ignore-error") == "true" then
    give_up("ignore-error")
  elseif boolean(node, "validate-revocation") ~= "false" then
    emit.note(document, node, "revocation is checked by the listener: tls.client.crl")
  end
  local identities = {}
  for _, one in ipairs(children(node, "identities")[1] or {}) do
    local parts = {}
    for name in pairs(one.attributes) do
      if not IDENTITY[name] then
        give_up(name == "thumbprint" and "a thumbprint, which is of SHA-1: ours are of SHA-256"
          or ("the attribute %s"):format(name))
      end
      parts[#parts + 1] = ("%s = %s"):format(IDENTITY[name], text(one, name))
    end
    table.sort(parts)
    identities[#identities + 1] = emit.list(parts) or give_up("an identity without attributes")
  end
  return call("validate_client_certificate", {
    { "validate_trust", boolean(node, "validate-trust") },
    { "validate_not_before", boolean(node, "validate-not-before") },
    { "validate_not_after", boolean(node, "validate-not-after") },
    { "identities", emit.list(identities) } })
end

T["get-authorization-context"] = function()
  give_up("the grant, which a credential store keeps: write p.oauth_token { … }; the policy")
end

T["authentication-managed-identity"] = function()
  give_up("the platform's identity: write p.oauth_token { … }; the policy")
end

return T
