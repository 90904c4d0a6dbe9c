-- SPDX-License-Identifier: Apache-2.0
local host = require("spec.plugins.host")
local json = host("json")
local jwt = host("jwt")
local crypto = host("crypto")

local server = { asked = {} }
package.loaded["moongate.http"] = {
  request = function(options)
    server.asked[#server.asked + 1] = options
    if server.during then
      server.during()
    end
    if not server.answer then
      return nil, "connection refused"
    end
    local body = server.answer.body
    return { status = server.answer.status or 200, headers = {},
      body = type(body) == "table" and json.encode(body) or body }
  end,
}
package.loaded["moongate.log"] = { error = function() end }
package.loaded["moongate.clock"] = { now = jwt.now }

local function run(policy, self, parts)
  local ctx = host.ctx(parts)
  local r = policy.inbound(self, ctx)
  return r and r.refuse.reason, ctx, r
end

before_each(function()
  host.set(1000)
  server.asked, server.answer, server.during = {}, nil, nil
end)
after_each(function()
  host.set(nil)
end)

describe("authentication_basic", function()
  it("signs in at the backend", function()
    local policy, self = host.policy("authentication_basic", { username = "Aladdin",
      password = "open sesame" })
    local _, ctx = run(policy, self, { headers = { Authorization = "Bearer of the caller" } })
    assert.equal("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", ctx.request.headers.Authorization)
    assert.has_error(function() host.policy("authentication_basic", { username = "a:b",
      password = "" }) end,
      "username: a name has no colon")
  end)
end)

describe("validate_hmac", function()
  local SECRET = "It's a Secret to Everybody"
  local function request(headers, body)
    return { method = "POST", path = "/hook", query_string = "a=1", headers = headers,
      body = function() return body end }
  end

  it("knows GitHub's signature, by GitHub's own example", function()
    local policy, self = host.policy("validate_hmac", { preset = "github",
      keys = { { secret = SECRET } } })
    local good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert.is_nil((run(policy, self, request({ ["X-Hub-Signature-256"] = good }, "Hello, World!"))))
    assert.equal("SignatureInvalid", (run(policy, self, request({ ["X-Hub-Signature-256"] = good },
      "Hello"))))
    assert.equal("SignatureInvalid", (run(policy, self,
      request({ ["X-Hub-Signature-256"] = "sha256=zz" }, ""))))
    assert.equal("SignatureNotPresent", (run(policy, self,
      request({ ["X-Hub-Signature-256"] = good:sub(8) }, ""))))
    assert.equal("SignatureNotPresent", (run(policy, self, request({}, ""))))
    assert.same({ request_body = true }, policy.needs({ preset = "github" }))
  end)

  it("knows Slack's, by Slack's own example", function()
    local policy, self = host.policy("validate_hmac", { preset = "slack",
      keys = { { secret = "8f742231b10e8888abcd99yyyzzz85a5" } } })
    local body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J"
      .. "&team_domain=testteamnow&channel_id=G8PSS9T3V"
      .. "&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
      .. "&command=%2Fwebhook-collect&text="
      .. "&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554"
      .. "%2F96rGlfmibIGlgcZRskXaIFfN"
      .. "&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    local headers = { ["X-Slack-Request-Timestamp"] = "1531420618",
      ["X-Slack-Signature"] = "v0="
        .. "a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503" }
    host.set(1531420618)
    assert.is_nil((run(policy, self, request(headers, body))))
    host.set(1531420618 + 301)
    assert.equal("SignatureExpired", (run(policy, self, request(headers, body))))
  end)

  it("knows Stripe's list of signatures", function()
    local policy, self = host.policy("validate_hmac", { preset = "stripe",
      keys = { { secret = SECRET } } })
    local mac = crypto.hex(crypto.hmac("sha256", SECRET, "1000.{}"))
    assert.is_nil((run(policy, self, request({ ["Stripe-Signature"] = "t=1000,v1=00ff,v1=" .. mac
      .. ",v0=x" }, "{}"))))
    assert.equal("SignatureInvalid", (run(policy, self,
      request({ ["Stripe-Signature"] = "t=1001,v1=" .. mac }, "{}"))))
    assert.equal("SignatureExpired", (run(policy, self, request({ ["Stripe-Signature"] = "v1="
      .. mac }, "{}"))))
  end)

  it("signs the parts that it is told to, with the key that is named", function()
    local policy, self = host.policy("validate_hmac", {
      keys = { { id = "a", secret = SECRET }, { id = "b", secret = ("b"):rep(16) } },
      key_id_header = "X-Key", header = "X-Sig", encoding = "base64", algorithm = "sha512",
      parts = { "method", "path", "query", "header:X-Tenant", "timestamp", "=v2", "body" },
        timestamp_header = "X-Time",
    })
    local text = "POST\n/hook\na=1\nblue\n990\nv2\nthe body"
    local function headers(id, key)
      return { ["X-Key"] = id, ["X-Tenant"] = "blue", ["X-Time"] = "990",
        ["X-Sig"] = crypto.base64(crypto.hmac("sha512", key, text)) }
    end
    assert.is_nil((run(policy, self, request(headers("a", SECRET), "the body"))))
    assert.is_nil((run(policy, self, request(headers("b", ("b"):rep(16)), "the body"))))
    assert.equal("SignatureInvalid", (run(policy, self, request(headers("b", SECRET), "the body"))))
    assert.equal("SignatureInvalid", (run(policy, self, request(headers(nil, SECRET), "the body"))))
    assert.has_error(function()
      host.policy("validate_hmac", { keys = { { secret = SECRET } }, parts = { "body", "path" } })
    end, "parts: body must be the last one, as it may hold the separator")
  end)
end)

describe("validate_client_certificate", function()
  local function ask(conf, client)
    local policy, self = host.policy("validate_client_certificate", conf)
    return (run(policy, self, { tls = client ~= false and { client = client } or nil }))
  end
  local function certificate(more)
    local c = { verified = true, not_before = "1970-01-01T00:00:00Z",
      not_after = "1970-01-02T00:00:00.000Z",
      fingerprint = "ab12", serial = "0A", common_name = "orders", subject = "CN=orders",
        issuer = "CN=ca",
      dns_names = "a.test,B.test" }
    for name, value in pairs(more or {}) do
      c[name] = value
    end
    return c
  end

  it("requires one that is trusted and valid now", function()
    assert.equal("ClientCertificateNotPresent", ask({}, false))
    assert.equal("ClientCertificateNotPresent", ask({}, nil))
    assert.is_nil(ask({}, certificate()))
    assert.equal("ClientCertificateNotTrusted", ask({}, certificate({ verified = false })))
    assert.is_nil(ask({ validate_trust = false }, certificate({ verified = false })))
    assert.equal("ClientCertificateExpired", ask({},
      certificate({ not_after = "1970-01-01T00:16:39Z" })))
    assert.equal("ClientCertificateExpired", ask({},
      certificate({ not_before = "1970-01-01T00:16:41Z" })))
    assert.equal("ClientCertificateExpired", ask({}, certificate({ not_after = "" })))
    assert.is_nil(ask({ validate_not_after = false }, certificate({ not_after = "" })))
  end)

  it("requires one identity to fit, whole", function()
    local function with(...)
      return ask({ identities = { ... } }, certificate())
    end
    assert.is_nil(with({ thumbprint = "AB:12" }))
    assert.is_nil(with({ common_name = "x" }, { serial_number = "a", issuer = "CN=ca" }))
    assert.is_nil(with({ dns_name = "b.TEST" }))
    assert.equal("ClientCertificateIdentityNotAllowed", with({ common_name = "orders",
      issuer = "CN=other" }))
    assert.equal("ClientCertificateIdentityNotAllowed", with({ dns_name = "test" }))
    assert.has_error(function() with({}) end, "identities[1]: at least one field is needed")
  end)
end)

describe("oauth_token", function()
  local function prepare(more)
    local conf = { token_url = "https://id.test/token", client_id = "me", client_secret = "s:/1",
      scope = "a b" }
    for name, value in pairs(more or {}) do
      conf[name] = value
    end
    return host.policy("oauth_token", conf)
  end

  it("fetches a token, keeps it, and fetches anew before its end", function()
    server.answer = { body = { access_token = "t1", token_type = "bearer", expires_in = 600 } }
    local policy, self = prepare({ output_variable = "token" })
    local why, ctx = run(policy, self)
    assert.is_nil(why)
    assert.equal("Bearer t1", ctx.request.headers.Authorization)
    assert.equal("t1", ctx.vars.token)
    assert.equal("grant_type=client_credentials&scope=a%20b", server.asked[1].body)
    assert.equal("Basic " .. crypto.base64("me:s%3A%2F1"), server.asked[1].headers.Authorization)
    run(policy, self)
    assert.equal(1, #server.asked)
    server.answer.body.access_token = "t2"
    host.set(1000 + 541)
    ctx = select(2, run(policy, self))
    assert.equal("Bearer t2", ctx.request.headers.Authorization)
    assert.equal(2, #server.asked)
  end)

  it("goes on with the old token while the issuer fails, then refuses", function()
    server.answer = { body = { access_token = "t1", token_type = "Bearer", expires_in = 100 } }
    local policy, self = prepare()
    run(policy, self)
    server.answer = nil
    host.set(1060)
    local _, ctx = run(policy, self)
    assert.equal("Bearer t1", ctx.request.headers.Authorization)
    run(policy, self)
    assert.equal(2, #server.asked) -- not with every request
    host.set(1101)
    local why, _, r = run(policy, self)
    assert.equal("TokenNotObtained", why)
    assert.equal(502, r.status)
  end)

  it("takes no answer that is none", function()
    for _, answer in ipairs({ { status = 400, body = {} }, { body = "x" }, { body = {} },
      { body = { access_token = "a\r\nb", token_type = "bearer" } }, { body = { access_token = "a",
        token_type = "mac" } },
      { body = { access_token = 1, token_type = "bearer" } } }) do
      server.answer = answer
      local policy, self = prepare({ auth = "body" })
      assert.equal("TokenNotObtained", (run(policy, self)))
    end
    assert.equal("grant_type=client_credentials&scope=a%20b&client_id=me&client_secret=s%3A%2F1",
      server.asked[1].body)
    assert.is_nil(server.asked[1].headers.Authorization)
  end)

  it("lets one request fetch while others wait", function()
    server.answer = { body = { access_token = "t1", token_type = "bearer", expires_in = 600 } }
    local policy, self = prepare()
    local other
    server.during = function()
      other = coroutine.wrap(function()
        local ctx = host.ctx()
        ctx.sleep = coroutine.yield
        policy.inbound(self, ctx)
        return ctx.request.headers.Authorization
      end)
      other()
    end
    run(policy, self)
    assert.equal("Bearer t1", other())
    assert.equal(1, #server.asked)
  end)
end)

describe("introspect_token", function()
  local function prepare(more)
    local conf = { url = "https://id.test/introspect", client_id = "me", client_secret = "s" }
    for name, value in pairs(more or {}) do
      conf[name] = value
    end
    return host.policy("introspect_token", conf)
  end
  local bearer = { headers = { Authorization = "Bearer abc/def" } }

  it("asks once, and remembers the answer for its time", function()
    server.answer = { body = { active = true, sub = "alice", scope = "a orders.read", exp = 1030 } }
    local policy, self = prepare({ required_claims = { scope = "orders.read" } })
    local why, ctx = run(policy, self, bearer)
    assert.is_nil(why)
    assert.equal("alice", ctx.jwt.sub)
    assert.equal("token=abc%2Fdef&token_type_hint=access_token", server.asked[1].body)
    ctx.jwt.sub = "mallory"
    ctx = select(2, run(policy, self, bearer))
    assert.equal("alice", ctx.jwt.sub)
    assert.equal(1, #server.asked)
    host.set(1030) -- the token's end is before the ttl's
    assert.equal("TokenExpired", (run(policy, self, bearer)))
    assert.equal(2, #server.asked)
  end)

  it("refuses what is not active, and remembers that shortly", function()
    server.answer = { body = { active = false } }
    local policy, self = prepare()
    assert.equal("TokenNotActive", (run(policy, self, bearer)))
    assert.equal("TokenNotActive", (run(policy, self, bearer)))
    assert.equal(1, #server.asked)
    server.answer = { body = { active = true } }
    host.set(1006)
    assert.is_nil((run(policy, self, bearer)))
    assert.equal("TokenNotPresent", (run(policy, self, { headers = {} })))
    assert.equal("TokenNotPresent", (run(policy, self,
      { headers = { Authorization = "Bearer a b" } })))
  end)

  it("says 503 when the issuer does not answer as it should", function()
    for _, answer in ipairs({ false, { status = 401, body = {} }, { body = {} },
      { body = '{"active":"true"}' },
      { body = '{"active":false,"active":true}' } }) do
      server.answer = answer or nil
      local policy, self = prepare()
      local why, _, r = run(policy, self, bearer)
      assert.equal("TokenNotChecked", why)
      assert.equal(503, r.status)
    end
  end)

  it("checks issuer, audience and claims of the answer", function()
    server.answer = { body = { active = true, iss = "i", aud = { "x" } } }
    local function ask(more)
      local policy, self = prepare(more)
      return (run(policy, self, bearer))
    end
    assert.is_nil(ask({ issuers = { "i" }, audiences = { "x" } }))
    assert.equal("TokenIssuerNotAllowed", ask({ issuers = { "j" } }))
    assert.equal("TokenAudienceNotAllowed", ask({ audiences = { "y" } }))
    assert.equal("TokenClaimNotFound", ask({ required_claims = { scope = "a" } }))
  end)
end)
