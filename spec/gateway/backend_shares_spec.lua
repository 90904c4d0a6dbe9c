-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local gw

after_each(function()
  if gw then
    gw:close()
    gw = nil
  end
end)

local function files(backends)
  return { ["gateway.lua"] = ([[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { %s },
  sites = {
    { hosts = { "127.0.0.1" }, routes = { { path = "/*", backend = "tokens" } } },
    { hosts = { "*" }, routes = { { path = "/*", backend = "main" } } },
  },
}]]):format(backends) }
end

local function start(backends, answers)
  gw = moongate.gateway({ files = files(backends), backends = answers })
  return gw
end

--- The gateway's own port gives the tokens: known only when it listens.
local function start_with_tokens(oauth2, answers)
  start('tokens = { targets = { "http://127.0.0.1:1" } }, '
    .. 'main = { targets = { "http://127.0.0.1:1" } }', answers)
  assert(gw:reload(files(([[tokens = { targets = { "http://127.0.0.1:1" } },
    main = { targets = { "http://127.0.0.1:1" }, auth = { oauth2 = { %s } } } ]])
    :format(oauth2:format(gw:port("http"))))))
end

local TOKENS = 'tokens = { targets = { "http://127.0.0.1:1" } }, '

local function says(text)
  return function()
    return 200, {}, text
  end
end

local function turn(n)
  for _ = 1, n do
    gw.core:turn(2)
  end
end

describe("a split", function()
  it("shares requests between backends by weight", function()
    start(TOKENS .. [[
      old = { targets = { "http://127.0.0.1:1" } }, new = { targets = { "http://127.0.0.1:1" } },
      main = { split = { { backend = "old", weight = 3 }, { backend = "new", weight = 1 } } } ]],
      { old = says("old"), new = says("new") })
    local count = { old = 0, new = 0 }
    for _ = 1, 200 do
      local body = gw:get("/", { host = "a" }).body
      count[body] = count[body] + 1
    end
    assert.is_true(count.new > 20 and count.new < 90, "new: " .. count.new)
    assert.is_string(gw:last_log().backend)
  end)

  it("keeps a client on its share when it hashes", function()
    start(TOKENS .. [[
      old = { targets = { "http://127.0.0.1:1" } }, new = { targets = { "http://127.0.0.1:1" } },
      main = { balance = "hash", hash = { on = "query", name = "user" },
        split = { { backend = "old", weight = 1 }, { backend = "new", weight = 1 } } } ]],
      { old = says("old"), new = says("new") })
    local seen = {}
    for i = 1, 20 do
      local body = gw:get("/?user=" .. i, { host = "a" }).body
      assert.equal(body, gw:get("/?user=" .. i, { host = "a" }).body)
      seen[body] = true
    end
    assert.same({ old = true, new = true }, seen)
  end)

  it("must name backends that are there", function()
    local text = moongate.errors({ files = { ["gateway.lua"] = [[
return { name = "x", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { old = { targets = { "http://127.0.0.1:1" } }, main = { split = { { backend = "odl" } } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "main" } } } } }]] } })
    assert.matches('unknown backend "odl"', text)
  end)
end)

describe("a mirror", function()
  it("gets a copy, body and all, whose answer nobody sees", function()
    start(TOKENS .. [[
      shadow = { targets = { "http://127.0.0.1:1" } },
      main = { targets = { "http://127.0.0.1:1" }, mirror = { backend = "shadow" } } ]],
      { main = says("real"), shadow = function()
        return 500, {}, "shadow"
      end })
    local answer = gw:post("/a?b=c", { host = "a", body = "data", headers = { ["X-One"] = "1" } })
    assert.equal("real", answer.body)
    turn(10)
    local copy = gw.calls.shadow[1]
    assert.equal("POST", copy.method)
    assert.equal("/a", copy.path)
    assert.equal("b=c", copy.query)
    assert.equal("data", copy.body)
    assert.equal("1", copy.headers["x-one"])
    assert.equal(1, #gw.calls.shadow)
  end)

  it("gets its share only, and no long bodies", function()
    start(TOKENS .. [[
      shadow = { targets = { "http://127.0.0.1:1" } },
      main = { targets = { "http://127.0.0.1:1" },
        mirror = { backend = "shadow", percent = 25, body_bytes = 3 } } ]],
      { main = says("real"), shadow = says("x") })
    for _ = 1, 80 do
      gw:get("/", { host = "a" })
    end
    turn(10)
    assert.is_true(#gw.calls.shadow > 5 and #gw.calls.shadow < 40)
    local before = #gw.calls.shadow
    for _ = 1, 20 do
      gw:post("/", { host = "a", body = "long" })
    end
    turn(10)
    assert.equal(before, #gw.calls.shadow)
  end)

  it("that never answers holds nobody up", function()
    start(TOKENS .. [[
      shadow = { targets = { "http://127.0.0.1:1" } },
      main = { targets = { "http://127.0.0.1:1" }, mirror = { backend = "shadow" } } ]],
      { main = says("real"), shadow = function()
        return { raw = "", keep = true }
      end })
    for _ = 1, 5 do
      assert.equal("real", gw:get("/", { host = "a" }).body)
    end
  end)
end)

describe("authentication at a backend", function()
  it("is by fields and query parameters of the configuration, whatever the client sent", function()
    start(TOKENS .. [[
      main = { targets = { "http://127.0.0.1:1" }, auth = { basic = { username = "u", password = "p:1" },
        headers = { ["X-Key"] = "k" }, query = { key = "a b", code = "1" } } } ]], { main = says("ok") })
    assert.equal("ok", gw:get("/x?y=1", { host = "a",
      headers = { Authorization = "Bearer client", ["X-Key"] = "mine" } }).body)
    local call = gw.calls.main[1]
    assert.equal("Basic dTpwOjE=", call.headers.authorization)
    assert.equal("k", call.headers["x-key"])
    assert.equal("y=1&code=1&key=a%20b", call.query)
  end)

  it("is by OAuth2 client credentials, cached and renewed", function()
    local count = 0
    start_with_tokens([[token_url = "http://127.0.0.1:%d/token?x=1", client_id = "id",
      client_secret = "s&t", scope = "a b"]], { main = function(request)
          return request.headers.authorization == "Bearer t3" and 401 or 200, {},
            request.headers.authorization
        end, tokens = function(request)
          count = count + 1
          assert(request.method == "POST" and request.path == "/token" and request.query == "x=1")
          assert(request.headers.authorization == "Basic aWQ6cyUyNnQ=")
          assert(request.body == "grant_type=client_credentials&client_id=id&scope=a%20b")
          return 200, { ["Content-Type"] = "application/json" },
            ('{"access_token":"t%d","expires_in":100,"token_type":"Bearer"}'):format(count)
        end })
    assert.equal("Bearer t1", gw:get("/", { host = "a" }).body)
    assert.equal("Bearer t1", gw:get("/", { host = "a" }).body)
    assert.equal(1, count)
    gw:advance(85)
    assert.equal("Bearer t1", gw:get("/", { host = "a" }).body) -- is renewed behind it
    turn(10)
    assert.equal("Bearer t2", gw:get("/", { host = "a" }).body)
    gw:advance(200)
    assert.equal(401, gw:get("/", { host = "a" }).status) -- t3 is refused, and forgotten
    assert.equal("Bearer t4", gw:get("/", { host = "a" }).body)
  end)

  it("that cannot be had gives 502 with its reason", function()
    start_with_tokens([[token_url = "http://127.0.0.1:%d/token", client_id = "id",
      client_secret = "s"]], { main = says("ok"), tokens = function()
        return 400, {}, '{"error":"invalid_client"}'
      end })
    assert.equal(502, gw:get("/", { host = "a" }).status)
    assert.equal("upstream_auth", gw:last_log().error)
    assert.equal(0, #gw.calls.main)
  end)
end)
