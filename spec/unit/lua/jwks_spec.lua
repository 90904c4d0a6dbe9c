-- SPDX-License-Identifier: Apache-2.0
local host = require("spec.plugins.host")
local json = host("json")
local jwt = host("jwt")
host("crypto")

-- The issuer: what it answers by URL, and what it was asked.
local issuer = { answers = {}, asked = {} }
package.loaded["moongate.http"] = {
  request = function(options)
    issuer.asked[#issuer.asked + 1] = options.url
    if issuer.during then
      issuer.during()
    end
    local answer = issuer.answers[options.url]
    if answer == nil then
      return nil, "connection refused"
    end
    return { status = answer.status or 200, body = answer.body, headers = {} }
  end,
}
local logged = {}
package.loaded["moongate.log"] = { error = function(text) logged[#logged + 1] = text end }
local jwks = require("moongate.jwks")

local KEY1 = { kty = "EC", crv = "P-256", kid = "one", alg = "ES256",
  x = "04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY",
    y = "UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw" }
local PRIVATE = {}
for name, value in pairs(KEY1) do
  PRIVATE[name] = value
end
PRIVATE.d = "yy49oPcINGK2ps0LmtxpB6UTEOiITghHBif6wDqmJ3c"

local URI = "https://id.test/keys"
local number = 0

local function publish(...)
  issuer.answers[URI] = { body = json.encode({ keys = { ... } }) }
end

local function renamed(kid)
  local key = {}
  for name, value in pairs(KEY1) do
    key[name] = value
  end
  key.kid = kid
  return key
end

local function token(kid)
  PRIVATE.kid = kid
  local set = assert(jwt.keyset({ keys = { PRIVATE }, algorithms = { "ES256" } }))
  return assert(set:sign(json.encode({ exp = 1e10, iss = "https://id.test" }), { alg = "ES256",
    kid = kid }))
end

--- A source that no other spec has asked: it differs in its time-out.
local function source(more)
  number = number + 1
  local options = { uri = URI, algorithms = { "ES256" }, timeout = 5 + number / 1000 }
  for name, value in pairs(more or {}) do
    options[name] = value
  end
  return jwks.source(options)
end

describe("jwks", function()
  before_each(function()
    host.set(1000)
    issuer.answers, issuer.asked, issuer.during, logged = {}, {}, nil, {}
    publish(KEY1)
  end)
  after_each(function()
    host.set(nil)
  end)

  it("fetches keys when they are first needed, and again after an hour", function()
    local s = source()
    assert.equal(0, #issuer.asked)
    local set = assert(s:keys(host.ctx()))
    assert.truthy(set:verify(token("one")))
    assert.equal(set, s:keys(host.ctx()))
    assert.equal(1, #issuer.asked)
    host.set(1000 + 3600)
    assert.equal(set, s:keys(host.ctx())) -- the same keys: what was verified stays remembered
    assert.equal(2, #issuer.asked)
  end)

  it("keeps old keys when the issuer fails, and says so", function()
    local s = source({ ttl = 60 })
    local set = s:keys(host.ctx())
    for i, answer in ipairs({ false, { status = 500, body = "" }, { body = "no json" },
      { body = "{}" },
      { body = '{"keys":[]}' } }) do
      issuer.answers[URI] = answer or nil
      host.set(1000 + i * 100)
      assert.equal(set, s:keys(host.ctx()))
      assert.equal(i, #logged)
    end
    issuer.answers[URI] = nil
    host.set(2000)
    s:keys(host.ctx())
    local asked = #issuer.asked
    host.set(2010)
    s:keys(host.ctx())
    assert.equal(asked, #issuer.asked) -- not with every request
  end)

  it("has none when the issuer never answered, and asks again after a second", function()
    issuer.answers[URI] = nil
    local s = source()
    local set, err = s:keys(host.ctx())
    assert.is_nil(set)
    assert.matches("connection refused", err)
    s:keys(host.ctx())
    assert.equal(1, #issuer.asked)
    publish(KEY1)
    host.set(1001)
    assert.truthy(s:keys(host.ctx()))
  end)

  it("asks again for an unknown key, but not more often than it may", function()
    local s = source()
    local set = s:keys(host.ctx())
    publish(KEY1, renamed("two"))
    assert.is_false(s:refetch(host.ctx()))
    host.set(1300)
    assert.is_true(s:refetch(host.ctx()))
    assert.are_not.equal(set, s.set)
    assert.truthy(s.set:verify(token("two")))
    assert.equal(2, #issuer.asked)
    for _ = 1, 10 do
      s:refetch(host.ctx())
    end
    assert.equal(2, #issuer.asked)
  end)

  it("lets one request fetch while the others wait, or use the old keys", function()
    local s = source({ ttl = 60 })
    local waited, inner = 0, nil
    local other = host.ctx()
    function other.sleep()
      waited = waited + 1
      coroutine.yield()
    end
    issuer.during = function()
      inner = coroutine.wrap(function() return s:keys(other) end)
      inner() -- a second request, while the first one's fetch is under way
    end
    local set = s:keys(host.ctx())
    assert.equal(1, waited)
    assert.equal(set, inner())
    assert.equal(1, #issuer.asked)
    host.set(1100)
    issuer.during = function()
      assert.equal(set, s:keys(other))
    end
    s:keys(host.ctx())
    assert.equal(1, waited)
    assert.equal(2, #issuer.asked)
  end)

  it("does not wait for ever for a fetch whose client has gone", function()
    local s = source()
    issuer.during = function() coroutine.yield() end
    coroutine.wrap(function() s:keys(host.ctx()) end)() -- never resumed
    issuer.during = nil
    host.set(1020)
    assert.truthy(s:keys(host.ctx()))
  end)

  it("finds the keys by discovery, and takes its issuer", function()
    local config = "https://id.test/.well-known/openid-configuration"
    issuer.answers[config] = { body = json.encode({ issuer = "https://id.test", jwks_uri = URI }) }
    local s = source({ uri = false, openid_config = config })
    assert.truthy(s:keys(host.ctx()))
    assert.equal("https://id.test", s.issuer)
    issuer.answers[config] = { body = json.encode({ issuer = "https://id.test",
      jwks_uri = "http://id.test/keys" }) }
    s = source({ uri = false, openid_config = config })
    local _, err = s:keys(host.ctx())
    assert.matches("leads from https to http:", err)
  end)

  it("takes no secret that is published", function()
    publish({ kty = "oct", k = ("A"):rep(64) })
    local s = source({ algorithms = { "HS256", "ES256" } })
    local set, err = s:keys(host.ctx())
    assert.is_nil(set)
    assert.matches("no key can be used", err)
  end)

  it("serves validate_jwt through a rotation", function()
    number = number + 1
    local policy, self = host.policy("validate_jwt", { jwks_uri = URI, algorithms = { "ES256" },
      keys_timeout = 5 + number / 1000 })
    local function ask(kid)
      return policy.inbound(self, host.ctx({ headers = { Authorization = "Bearer "
        .. token(kid) } }))
    end
    assert.is_nil(ask("one"))
    assert.equal("TokenSignatureKeyNotFound", ask("two").refuse.reason)
    publish(KEY1, renamed("two"))
    host.set(1301)
    assert.is_nil(ask("two"))
    assert.is_nil(ask("one"))
    publish(renamed("two"))
    host.set(1301 + 3600)
    assert.is_nil(ask("two"))
    assert.equal("TokenSignatureKeyNotFound", ask("one").refuse.reason)
    issuer.answers[URI] = nil
    number = number + 1
    policy, self = host.policy("validate_jwt", { jwks_uri = URI, algorithms = { "ES256" },
      keys_timeout = 5 + number / 1000 })
    assert.equal(503, ask("two").status)
  end)
end)
