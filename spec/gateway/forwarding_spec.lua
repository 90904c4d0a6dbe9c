-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local config = [[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  networks = { internal = { "10.0.0.0/8" } },
  trusted_proxies = { "192.0.2.0/24" },
  backends = {
    origin = { targets = { "http://127.0.0.1:1/base" }, host = "target" },
    preserved = { targets = { "http://127.0.0.1:1" }, host = "client" },
    down = { targets = { "http://127.0.0.1:1" }, timeout = { connect = 1 } },
    sinkpool = { sink = { status = 404 } },
  },
  sites = {
    { hosts = { "api.test" }, routes = {
      { path = "/plain/*", backend = "origin" },
      { path = "/preserved/*", backend = "preserved" },
      { path = "/down/*", backend = "down" },
      { path = "/internal/*", backend = "origin", networks = { "internal" } },
      { path = "/old/*", redirect = { to = "https://new.test", status = 308 } },
      { path = "/reply", reply = { status = 418, headers = { ["X-Tea"] = "pot" }, body = "short and stout" } },
      { path = "/limited", backend = "origin", limits = { body_bytes = 10 } },
      { path = "/*", backend = "sinkpool" },
    } },
    { hosts = { "*.wild.test" }, routes = { { path = "/*", reply = { status = 200, body = "wild" } } } },
  },
}
]]

local gw

local function echo(request)
  return 200, { ["X-Origin"] = "yes", Connection = "X-Hop", ["X-Hop"] = "1" },
    request.method .. " " .. request.path .. (request.query and "?" .. request.query or "") .. " " .. request.body
end

local function last(name)
  return gw.calls[name][#gw.calls[name]]
end

local function get(path, options)
  options = options or {}
  options.host = options.host or "api.test"
  return gw:get(path, options)
end

setup(function()
  gw = moongate.gateway({
    files = { ["gateway.lua"] = config },
    backends = { origin = echo, preserved = echo },
  })
end)

teardown(function()
  gw:close()
end)

describe("forwarding", function()
  it("sends method, path, query and body on, below the target's own path", function()
    local answer = gw:post("/plain/a/b?x=1&y=%20z", { host = "api.test", body = "hello" })
    assert.equal(200, answer.status)
    assert.equal("POST /base/plain/a/b?x=1&y=%20z hello", answer.body)
  end)

  it("forwards one normal form of the path", function()
    get("/plain/./a/../%62//c%2d")
    assert.equal("/base/plain/b/c-", last("origin").path)
  end)

  it("tells the backend who asked, for what, and by whom", function()
    get("/plain/a")
    local headers = last("origin").headers
    assert.equal("127.0.0.1", headers["x-forwarded-for"])
    assert.equal("http", headers["x-forwarded-proto"])
    assert.equal("api.test", headers["x-forwarded-host"])
    assert.equal('for=127.0.0.1;proto=http;host="api.test"', headers.forwarded)
    assert.equal("1.1 spec", headers.via)
  end)

  it("names itself in Via by a token, whatever its name", function()
    local named = moongate.gateway { files = { ["gateway.lua"] = [[
return {
  name = "my gateway: 1",
  listeners = { { address = "127.0.0.1:0" } },
  backends = { origin = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
}
]] }, backends = { origin = { status = 200 } } }
    local answer = named:get("/")
    assert.equal("1.1 my-gateway--1", answer.headers.via)
    assert.equal("1.1 my-gateway--1", named.calls.origin[1].headers.via)
    named:close()
  end)

  it("does not believe what an untrusted client says about itself", function()
    get("/plain/a", { headers = { ["X-Forwarded-For"] = "10.1.2.3", Forwarded = "for=10.1.2.3" } })
    assert.equal("127.0.0.1", last("origin").headers["x-forwarded-for"])
    assert.not_matches("10.1.2.3", last("origin").headers.forwarded)
    assert.equal(404, get("/internal/a", { headers = { ["X-Forwarded-For"] = "10.1.2.3" } }).status)
  end)

  it("asks for the target's name, or the client's where the backend says so", function()
    get("/plain/a")
    assert.matches("^127%.0%.0%.1:%d+$", last("origin").headers.host)
    get("/preserved/a")
    assert.equal("api.test", last("preserved").headers.host)
  end)

  it("keeps hop-by-hop fields to the connection they came on", function()
    local answer = gw:raw("GET /plain/a HTTP/1.1\r\nHost: api.test\r\nConnection: X-Mine\r\nX-Mine: 1\r\nTE: gzip\r\n"
      .. "Keep-Alive: timeout=5\r\nX-Kept: 2\r\n\r\n")
    local headers = last("origin").headers
    assert.is_nil(headers["x-mine"])
    assert.is_nil(headers.te)
    assert.is_nil(headers["keep-alive"])
    assert.equal("2", headers["x-kept"])
    assert.not_matches("X%-Hop", answer)
    assert.matches("X%-Origin: yes", answer)
  end)

  it("reuses connections to the backend", function()
    for _ = 1, 20 do
      assert.equal(200, get("/plain/a").status)
    end
  end)

  it("answers HEAD without a body and with the length", function()
    local answer = gw:head("/plain/a", { host = "api.test" })
    assert.equal(200, answer.status)
    assert.equal("", answer.body)
  end)
end)

describe("routes", function()
  it("end in the sinkpool where no other takes them, and the log says so", function()
    local answer = get("/nothing/here")
    assert.equal(404, answer.status)
    assert.equal("sink", gw:last_log().error)
    assert.equal("Sinkpool", gw:last_log().reason)
  end)

  it("do not exist for clients outside their networks", function()
    assert.equal(404, get("/internal/x").status)
    assert.equal("sink", gw:last_log().error)
  end)

  it("redirect with path and query", function()
    local answer = get("/old/a?b=c")
    assert.equal(308, answer.status)
    assert.equal("https://new.test/old/a?b=c", answer.headers.location)
  end)

  it("answer by themselves", function()
    local answer = get("/reply")
    assert.equal(418, answer.status)
    assert.equal("pot", answer.headers["x-tea"])
    assert.equal("short and stout", answer.body)
  end)

  it("are found by wildcard hosts, whatever their case and port", function()
    assert.equal("wild", get("/x", { host = "A.b.WILD.test:8080" }).body)
    assert.equal(404, get("/x", { host = "wild.test" }).status)
  end)

  it("do not answer for hosts that no site has", function()
    local answer = get("/plain/a", { host = "other.test" })
    assert.equal(404, answer.status)
    assert.equal("unknown_host", gw:last_log().error)
  end)

  it("refuse a body over their limit before the backend sees any of it", function()
    local before = #gw.calls.origin
    assert.equal(413, gw:post("/limited", { host = "api.test", body = ("x"):rep(11) }).status)
    assert.equal(200, gw:post("/limited", { host = "api.test", body = ("x"):rep(10) }).status)
    assert.equal(before + 1, #gw.calls.origin)
  end)
end)

describe("a backend", function()
  it("that refuses connections gives 502 and a reason", function()
    assert.equal(502, get("/down/a").status)
    local line = gw:last_log()
    assert.equal("refused", line.error)
    assert.equal("BackendConnectionFailure", line.reason)
  end)
end)

describe("the access log", function()
  it("has phases that add up to the duration", function()
    get("/plain/a")
    local line, sum = gw:last_log(), 0
    for _, us in pairs(line.phases_us) do
      sum = sum + us
    end
    assert.equal(line.duration_us, sum)
  end)

  it("does not show subscription keys", function()
    get("/plain/a?a=1&subscription-key=secret&b=2")
    assert.equal("a=1&subscription-key=***&b=2", gw:last_log().query)
  end)
end)
