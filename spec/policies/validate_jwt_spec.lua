-- SPDX-License-Identifier: Apache-2.0
local host = require("spec.plugins.host")
local json = host("json")
local jwt = host("jwt")
local crypto = host("crypto")

local SECRET = ("0123456789abcdef"):rep(4)
local NOW = 1800000000

local function sign(claims, header, secret)
  local set = assert(jwt.keyset({
    keys = { { kty = "oct", value = secret or SECRET, kid = header and header.kid } },
    algorithms = { "HS256", "HS384", "HS512" },
  }))
  local all = { alg = "HS256" }
  for name, value in pairs(header or {}) do
    all[name] = value
  end
  return assert(set:sign(type(claims) == "string" and claims or json.encode(claims), all))
end

local function conf(more)
  local c = { algorithms = { "HS256" }, keys = { { kty = "oct", value = SECRET } } }
  for name, value in pairs(more or {}) do
    c[name] = value
  end
  return c
end

local function ask(options, token, parts)
  local policy, self = host.policy("validate_jwt", conf(options))
  local ctx = host.ctx(parts or { headers = { Authorization = token and "Bearer " .. token } })
  return policy.inbound(self, ctx), ctx, policy, self
end

local function reason(...)
  local r = ask(...)
  return r and r.refuse.reason, r
end

local good = { sub = "alice", exp = NOW + 60, iss = "https://id", aud = { "a", "b" },
  scope = "orders.read x",
  realm = { roles = { "admin", "dev" } }, level = 3, ok = true }

describe("validate_jwt", function()
  before_each(function()
    host.set(NOW)
  end)
  after_each(function()
    host.set(nil)
  end)

  it("lets a good token in and leaves its claims in ctx.jwt", function()
    local r, ctx = ask({ output_variable = "token" }, sign(good))
    assert.is_nil(r)
    assert.equal("alice", ctx.jwt.sub)
    assert.same({ "a", "b" }, ctx.jwt.aud)
    assert.equal("alice", ctx.vars.token.sub)
  end)

  it("says 401 and how to ask when there is no token", function()
    local why, r = reason({}, nil)
    assert.equal("TokenNotPresent", why)
    assert.equal(401, r.status)
    assert.equal("Bearer", r.headers["WWW-Authenticate"])
    assert.equal("TokenNotPresent", (reason({}, nil,
      { headers = { Authorization = "Basic eDp5" } })))
    assert.equal("TokenNotPresent", (reason({}, nil, { headers = { Authorization = "Bearer  " } })))
  end)

  it("takes the token from a header, a query parameter, a cookie or a function", function()
    local token = sign(good)
    assert.is_nil(ask({ header_name = "X-Token" }, nil, { headers = { ["X-Token"] = token } }))
    assert.is_nil(ask({ query_parameter_name = "t" }, nil, { query = { t = token } }))
    assert.is_nil(ask({ cookie = "t" }, nil, { cookies = { t = token } }))
    assert.is_nil(ask({ token_value = function() return token end }, nil))
    assert.has_error(function() ask({ cookie = "t", header_name = "x" }, token) end,
      "header_name and cookie: a token has one place")
  end)

  it("refuses what is not signed by the key", function()
    local token = sign(good)
    assert.equal("TokenSignatureInvalid", (reason({}, sign(good, nil, ("x"):rep(32)))))
    assert.equal("TokenSignatureInvalid", (reason({}, token:sub(1, -2) .. (token:sub(-1) == "A"
      and "E" or "A"))))
    assert.equal("TokenSignatureKeyNotFound",
      (reason({ keys = { { kty = "oct", value = SECRET, kid = "a" } } }, sign(good,
        { kid = "b" }))))
    assert.is_nil((reason({}, sign(good, { kid = "b" })))) -- a key without a name may be any
  end)

  it("keeps RFC 8725", function()
    local function forge(header, payload)
      return crypto.base64url(header) .. "." .. crypto.base64url(payload or json.encode(good))
    end
    local function seal(header, payload)
      local input = forge(header, payload)
      return input .. "." .. crypto.base64url(crypto.hmac("sha256", SECRET, input))
    end
    assert.is_nil((reason({}, seal('{"alg":"HS256"}'))))
    local cases = {
      none = forge('{"alg":"none"}') .. ".",
      None = forge('{"alg":"None"}') .. ".AAAA",
      ["no alg"] = seal('{}'),
      ["an algorithm that is not listed"] = sign(good, { alg = "HS512" }),
      ["an unknown critical header"] = seal('{"alg":"HS256","crit":["exp"],"exp":1}'),
      ["an empty crit"] = seal('{"alg":"HS256","crit":[]}'),
      ["b64 false"] = seal('{"alg":"HS256","b64":false,"crit":["b64"]}'),
      ["b64 without crit"] = seal('{"alg":"HS256","b64":false}'),
      ["a repeated member in the header"] = seal('{"alg":"none","alg":"HS256"}'),
      ["a repeated claim"] = seal('{"alg":"HS256"}', '{"exp":1,"exp":9999999999}'),
      ["bytes after the header"] = seal('{"alg":"HS256"} x'),
      ["bytes after the claims"] = seal('{"alg":"HS256"}', '{"exp":9999999999}{}'),
      ["claims that are a list"] = seal('{"alg":"HS256"}', "[1]"),
      ["claims that are an empty list"] = seal('{"alg":"HS256"}', "[]"),
      ["a header that is a list"] = seal('["HS256"]'),
      ["a time that is a text"] = sign({ exp = "9999999999" }),
      ["a time that is null"] = sign('{"exp":null}'),
      ["an nbf that is a text"] = sign({ exp = NOW + 9, nbf = "0" }),
      ["a kid that is no text"] = seal('{"alg":"HS256","kid":1}'),
      ["two parts"] = forge('{"alg":"HS256"}'),
      ["four parts"] = seal('{"alg":"HS256"}') .. ".x",
      ["six parts"] = "a.b.c.d.e.f",
      ["nothing but dots"] = "..",
      ["padding"] = seal('{"alg":"HS256"}') .. "=",
      ["a huge token"] = seal('{"alg":"HS256"}', '{"x":"' .. ("y"):rep(40000) .. '"}'),
      ["deep claims"] = sign(('{"a":'):rep(40) .. "1" .. ("}"):rep(40)),
    }
    for name, token in pairs(cases) do
      assert.equal("JwtInvalid", (reason({}, token)), name)
    end
  end)

  it("refuses weak and confused keys when it is prepared", function()
    local function prepare(keys, algorithms)
      local ok, err = pcall(host.policy, "validate_jwt", { algorithms = algorithms, keys = keys })
      assert.is_false(ok)
      return err
    end
    assert.matches("keys%[1%]: it is too short", prepare({ { kty = "oct", value = "short" } },
      { "HS256" }))
    assert.matches("keys%[1%]: it is too short",
      prepare({ { kty = "oct", value = ("x"):rep(32) } }, { "HS512" }))
    assert.matches("keys%[1%]: none of the algorithms", prepare({ { kty = "oct", value = SECRET,
      alg = "HS256" } },
      { "HS512" }))
    assert.matches("keys%[1%]", prepare({ { kty = "oct", value = SECRET } }, { "RS256" }))
    assert.matches("algorithm", prepare({ { kty = "oct", value = SECRET } }, { "none" }))
    assert.matches("keys%[1%]: not a PEM text", prepare({ "secret" }, { "HS256" }))
    assert.matches("algorithms", (select(2, pcall(host.policy, "validate_jwt",
      { keys = { "x" } }))))
  end)

  it("checks the times, to the second and with skew", function()
    local function at(now, claims, options)
      host.set(now)
      return (reason(options or {}, sign(claims)))
    end
    assert.is_nil(at(NOW, { exp = NOW + 1 }))
    assert.equal("TokenExpired", at(NOW, { exp = NOW }))
    assert.is_nil(at(NOW, { exp = NOW }, { clock_skew = 5 }))
    assert.equal("TokenExpired", at(NOW + 5, { exp = NOW }, { clock_skew = 5 }))
    assert.equal("JwtInvalid", at(NOW, { exp = NOW + 9, nbf = NOW + 1 }))
    assert.is_nil(at(NOW, { exp = NOW + 9, nbf = NOW + 1 }, { clock_skew = 1 }))
    assert.equal("TokenClaimNotFound", at(NOW, { sub = "a" }))
    assert.is_nil(at(NOW, { sub = "a" }, { require_expiration_time = false }))
    assert.is_nil(at(NOW, { exp = NOW + 9, iat = NOW - 10 }, { max_age = 11 }))
    assert.equal("TokenExpired", at(NOW, { exp = NOW + 9, iat = NOW - 10 }, { max_age = 10 }))
    assert.equal("TokenClaimNotFound", at(NOW, { exp = NOW + 9 }, { max_age = 10 }))
    assert.equal("JwtInvalid", at(NOW, { exp = NOW + 9, iat = NOW + 5 }, { max_age = 10 }))
  end)

  it("checks issuer, audience and type", function()
    local token = sign(good)
    assert.is_nil((reason({ issuers = { "x", "https://id" }, audiences = { "z", "b" } }, token)))
    assert.equal("TokenIssuerNotAllowed", (reason({ issuers = { "https://id/" } }, token)))
    assert.equal("TokenAudienceNotAllowed", (reason({ audiences = { "c" } }, token)))
    assert.equal("TokenAudienceNotAllowed", (reason({ audiences = { "c" } },
      sign({ exp = NOW + 1 }))))
    assert.is_nil((reason({ audiences = { "c" } }, sign({ exp = NOW + 1, aud = "c" }))))
    assert.is_nil((reason({ typ = "at+jwt" }, sign(good, { typ = "application/AT+JWT" }))))
    assert.equal("JwtInvalid", (reason({ typ = "at+jwt" }, token)))
  end)

  it("checks claims by name and by path", function()
    local token = sign(good)
    local function with(required)
      return (reason({ required_claims = required }, token))
    end
    assert.is_nil(with({ scope = "orders.read", ["realm.roles"] = "admin", level = 3, ok = true }))
    assert.is_nil(with({ scope = { "x", "orders.read" } }))
    assert.equal("TokenClaimValueNotAllowed", with({ scope = "orders" }))
    assert.equal("TokenClaimValueNotAllowed", with({ scope = { "x", "y" } }))
    assert.is_nil(with({ scope = { values = { "x", "y" }, match = "any" } }))
    assert.equal("TokenClaimNotFound", with({ tenant = "t" }))
    assert.equal("TokenClaimNotFound", with({ ["realm.groups"] = "t" }))
    assert.is_nil(with({ sub = {} }))
    assert.equal("TokenClaimValueNotAllowed", with({ level = "3" }))
    assert.equal("TokenClaimValueNotAllowed", with({ ok = false }))
    assert.is_nil(with({ aud = { values = { "b" } } }))
  end)

  it("remembers a token, but not past its time, and not for other keys", function()
    local token = sign(good)
    local _, ctx, policy, self = ask({}, token)
    ctx.jwt.sub = "mallory" -- what one request does to its claims stays there
    local function again(t)
      local c = host.ctx({ headers = { Authorization = "Bearer " .. (t or token) } })
      local r = policy.inbound(self, c)
      return r and r.refuse.reason, c.jwt
    end
    host.charged()
    local why, claims = again()
    assert.is_nil(why)
    assert.equal("alice", claims.sub)
    assert.equal("b", claims.aud[2])
    assert.equal(0, host.charged()) -- no signature was looked at
    host.set(NOW + 60)
    assert.equal("TokenExpired", (again()))
    host.set(NOW)
    self.keyset = jwt.keyset({ keys = { { kty = "oct", value = ("z"):rep(32) } },
      algorithms = { "HS256" } })
    assert.equal("TokenSignatureInvalid", (again()))
  end)

  it("asks a function for the token once, where the keys are fetched too", function()
    local calls = 0
    local policy, self = host.policy("validate_jwt", conf({ token_value = function()
      calls = calls + 1
      return sign(good)
    end }))
    local keyset = self.keyset
    self.keyset, self.source = nil, { keys = function()
      return keyset
    end }
    local ctx = host.ctx()
    assert.is_nil(policy.inbound(self, ctx))
    assert.equal("alice", ctx.jwt.sub)
    assert.equal(1, calls)
  end)

  it("remembers no more than it may", function()
    local _, _, policy, self = ask({ cache_entries = 10 }, sign(good))
    for i = 1, 100 do
      local token = sign({ exp = NOW + 60, jti = tostring(i) })
      policy.inbound(self, host.ctx({ headers = { Authorization = "Bearer " .. token } }))
    end
    local n = self.rules.memo:count()
    assert.is_true(n >= 10 and n <= 20)
  end)

  it("says in WWW-Authenticate what was wrong, and nothing of the token", function()
    local _, r = reason({}, sign({ exp = NOW - 1 }))
    assert.equal('Bearer error="invalid_token", error_description="the token has expired"',
      r.headers["WWW-Authenticate"])
    _, r = reason({ status = 403, message = "no" }, sign({ exp = NOW - 1 }))
    assert.equal(403, r.status)
    assert.is_nil(r.headers["WWW-Authenticate"])
    assert.equal("no", r.refuse.message)
  end)

  it("takes the token away from the backend when told to", function()
    local _, ctx = ask({ strip_token = true }, sign(good))
    assert.is_nil(ctx.request.headers.Authorization)
  end)
end)
