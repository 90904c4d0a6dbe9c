-- SPDX-License-Identifier: Apache-2.0
--- Tokens and bots through the whole gateway, which publishes the issuer's keys, too.
local json = require("moongate.json")
local jwt = require("moongate.jwt")
local moongate = require("moongate.test")

local function generate()
  local pipe = assert(io.popen("openssl genpkey -algorithm ED25519 2>/dev/null"))
  local pem = pipe:read("*a")
  pipe:close()
  return pem
end

-- The key of RFC 8037, appendix A.
local PUBLIC = { kty = "OKP", crv = "Ed25519", kid = "one", alg = "EdDSA",
  x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }
local PRIVATE = { kty = "OKP", crv = "Ed25519", kid = "one",
  d = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A", x = PUBLIC.x }

local config = [==[
local p = require("moongate.policies")
local reply = require("moongate.reply")
local function who(ctx) return reply.text(200, ctx.jwt.sub) end
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  named_values = { key = "KEY" },
  sites = { { hosts = { "*" },
    policies = { inbound = { p.bot_check { rules = { { action = "deny",
      agents = { "sqlmap" } } } } } },
    routes = {
      { path = "/secret", reply = { status = 200 }, policies = { inbound = {
        p.validate_jwt { algorithms = { "HS256" }, keys = { { kty = "oct", value = "{{key}}" } },
          required_claims = { scope = "orders.read" } }, who } } },
      { path = "/written", reply = { status = 200 }, policies = { inbound = {
        p.validate_jwt { algorithms = { "HS256" }, keys = { { kty = "oct", value = "{{key}}" } } },
          function(ctx)
            local seen = ("%s %s %s %s"):format(ctx.jwt.sub, ctx.jwt.roles[1], #ctx.jwt.roles,
              tostring(ctx.jwt.is_admin))
            ctx.jwt.sub, ctx.jwt.is_admin = "mallory", true
            ctx.jwt.roles[1], ctx.jwt.roles[2] = "admin", "root"
            ctx.jwt.exp = nil
            return reply.text(200, seen)
          end } } },
      { path = "/published", reply = { status = 200 }, policies = { inbound = {
        p.validate_jwt { algorithms = { "EdDSA" }, jwks_uri = "http://127.0.0.1:PORT/keys" },
          who } } },
      { path = "/keys", reply = { status = 200, body = [=[KEYS]=] } },
      { path = "/down", reply = { status = 200 }, policies = { inbound = {
        p.validate_jwt { algorithms = { "EdDSA" }, jwks_uri = "http://127.0.0.1:1/keys" } } } },
      { path = "/signed", reply = { status = 200 }, policies = { inbound = {
        p.validate_hmac { preset = "github",
          keys = { { secret = "It's a Secret to Everybody" } } } } } },
      { path = "/certificate", reply = { status = 200 }, policies = { inbound = {
        p.validate_client_certificate {} } } },
    } } },
}]==]

local SECRET = ("k"):rep(32)

local function sign(keys, alg, claims)
  claims.exp = claims.exp or jwt.now() + 60
  local set = assert(jwt.keyset({ keys = keys, algorithms = { alg } }))
  return { Authorization = "Bearer " .. assert(set:sign(json.encode(claims),
    { alg = alg, kid = keys[1].kid })) }
end

describe("tokens", function()
  local gw

  setup(function()
    local text = config:gsub('"KEY"', '"' .. SECRET .. '"')
      :gsub("KEYS", json.encode({ keys = { PUBLIC } }))
    local function files(port)
      return { ["gateway.lua"] = (text:gsub("PORT", tostring(port))) }
    end
    gw = moongate.gateway({ files = files(1) })
    assert(gw:reload(files(gw:port()))) -- the listener stays, and now its port is known
  end)

  teardown(function()
    gw:close()
  end)

  it("lets in who brings a good one, and tells the others what is wanted", function()
    local keys = { { kty = "oct", value = SECRET } }
    local good = sign(keys, "HS256", { sub = "alice", scope = "x orders.read" })
    for _ = 1, 3 do
      local answer = gw:get("/secret", { headers = good })
      assert.same({ 200, "alice" }, { answer.status, answer.body })
    end
    local none = gw:get("/secret")
    assert.same({ 401, "Bearer" }, { none.status, none.headers["www-authenticate"] })
    assert.equal("TokenNotPresent", gw:last_log().reason)
    assert.equal(401, gw:get("/secret", {
      headers = sign(keys, "HS256", { sub = "bob", scope = "orders" }) }).status)
    assert.equal("TokenClaimValueNotAllowed", gw:last_log().reason)
    gw:advance(61)
    assert.equal(401, gw:get("/secret", { headers = good }).status)
    assert.equal("TokenExpired", gw:last_log().reason)
  end)

  it("gives each request claims of its own, whatever a policy writes into them", function()
    local headers = sign({ { kty = "oct", value = SECRET } }, "HS256",
      { sub = "alice", roles = { "reader" } })
    for i = 1, 4 do -- the first is verified, the others are remembered
      assert.equal("alice reader 1 nil", gw:get("/written", { headers = headers }).body, i)
    end
  end)

  it("fetches the issuer's keys", function()
    local headers = sign({ PRIVATE }, "EdDSA", { sub = "carol" })
    for _ = 1, 3 do
      local answer = gw:get("/published", { headers = headers })
      assert.same({ 200, "carol" }, { answer.status, answer.body })
    end
    local other = sign({ { pem = generate(), kid = "one" } }, "EdDSA", { sub = "mallory" })
    assert.equal(401, gw:get("/published", { headers = other }).status)
    assert.equal("TokenSignatureInvalid", gw:last_log().reason)
    assert.equal(503, gw:get("/down", { headers = headers }).status)
  end)

  it("forgets what keys have vouched for that the issuer publishes no longer", function()
    local published = { PUBLIC }
    local function files(port)
      return { ["gateway.lua"] = ([[
local p = require("moongate.policies")
return {
  name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { issuer = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/keys", backend = "issuer" },
    { path = "/", reply = { status = 200 }, policies = { inbound = { p.validate_jwt {
      algorithms = { "EdDSA" }, jwks_uri = "http://127.0.0.1:%d/keys", keys_ttl = 100 } } } },
  } } },
}]]):format(port) }
    end
    local own = moongate.gateway({ files = files(1), backends = { issuer = function()
      return 200, { ["Content-Type"] = "application/json" }, json.encode({ keys = published })
    end } })
    assert(own:reload(files(own:port())))
    local headers = sign({ PRIVATE }, "EdDSA", { sub = "carol", exp = jwt.now() + 1000 })
    local function statuses()
      local out = {}
      for i = 1, 3 do
        out[i] = own:get("/", { headers = headers }).status
      end
      return out
    end
    assert.same({ 200, 200, 200 }, statuses())
    own:advance(101)
    assert.same({ 200, 200, 200 }, statuses()) -- the same keys again
    published = { { kty = "OKP", crv = "Ed25519", kid = "two", alg = "EdDSA", x = PUBLIC.x } }
    assert.same({ 200, 200, 200 }, statuses())
    own:advance(101)
    assert.same({ 401, 401, 401 }, statuses())
    published = { PUBLIC }
    own:advance(101)
    assert.same({ 200, 200, 200 }, statuses())
    own:close()
  end)

  it("reads the body for its signature, and certificates where there are any", function()
    local function post(body)
      return gw:post("/signed", { body = body, headers = { ["X-Hub-Signature-256"] =
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17" } }).status
    end
    assert.equal(200, post("Hello, World!"))
    assert.equal(401, post("Hello, world!"))
    assert.equal(403, gw:get("/certificate").status)
    assert.equal("ClientCertificateNotPresent", gw:last_log().reason)
  end)

  it("keeps bots out", function()
    assert.equal(403, gw:get("/secret", { headers = { ["User-Agent"] = "SQLMap/1.7" } }).status)
    assert.equal("BotBlocked", gw:last_log().reason)
  end)
end)
