-- SPDX-License-Identifier: Apache-2.0
--- The PROXY protocol on listeners: who the client is, told by a balancer in front.
local h2 = require("spec.support.h2")
local moongate = require("moongate.test")
local wire = require("spec.support.wire")

local function config(trusted)
  return ([[
return {
  name = "spec",
  trusted_proxies = { %s },
  listeners = { { name = "http", address = "127.0.0.1:0", http2 = true, proxy_protocol = true } },
  limits = { head_timeout = 0.2 },
  backends = { origin = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
}
]]):format(trusted)
end

local GET = "GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
local V2 = "\r\n\r\n\0\r\nQUIT\n"

describe("PROXY protocol", function()
  local gw

  local function start(trusted)
    gw = moongate.gateway { files = { ["gateway.lua"] = config(trusted) },
      backends = { origin = function() return 200, {}, "ok" end } }
  end

  after_each(function()
    gw:close()
  end)

  local function client_seen(bytes)
    assert.matches("^HTTP/1.1 200", (gw:raw(bytes .. GET)))
    local headers = gw.calls.origin[#gw.calls.origin].headers
    return headers["x-forwarded-for"], headers["x-forwarded-port"]
  end

  it("version 1 names the client", function()
    start('"127.0.0.0/8"')
    local client, port = client_seen("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n")
    assert.equal("192.0.2.7", client)
    assert.equal("443", port)
  end)

  it("version 2 names the client, in IPv6 too", function()
    start('"127.0.0.0/8"')
    assert.equal("192.0.2.9", (client_seen(V2 .. "\33\17\0\12\192\0\2\9\198\51\100\1\18\103\1\187")))
    assert.equal("2001:db8::7", (client_seen(V2 .. "\33\33\0\36"
      .. "\32\1\13\184" .. ("\0"):rep(11) .. "\7" .. "\32\1\13\184" .. ("\0"):rep(11) .. "\1"
      .. "\18\103\1\187")))
  end)

  it("keeps the connection's own address for LOCAL", function()
    start('"127.0.0.0/8"')
    assert.equal("127.0.0.1", (client_seen(V2 .. "\32\0\0\0")))
  end)

  it("is followed by HTTP/2 as well", function()
    start('"127.0.0.0/8"')
    local bytes = gw:raw("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n" .. h2.START
      .. h2.get(1, "/x"))
    assert.equal(200, h2.answer(h2.read(bytes), 1).status)
    assert.equal("192.0.2.7", gw.calls.origin[1].headers["x-forwarded-for"])
  end)

  it("closes when no header comes, or a malformed one", function()
    start('"127.0.0.0/8"')
    local bytes, is_closed = gw:raw(GET)
    assert.equal("", bytes)
    assert.is_true(is_closed)
    bytes, is_closed = gw:raw("PROXY TCP4 192.0.2.7 nonsense 1 2\r\n" .. GET)
    assert.equal("", bytes)
    assert.is_true(is_closed)
    bytes, is_closed = gw:raw("PROXY TC", { wait = 0.5 })
    assert.equal("", bytes)
    assert.is_true(is_closed)
  end)

  it("is not believed from others: there it is a malformed request", function()
    start('"192.0.2.0/24"')
    assert.matches("^HTTP/1.1 400", (gw:raw("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n" .. GET)))
    assert.matches("^HTTP/1.1 200", (gw:raw(GET)))
  end)
end)

describe("PROXY protocol to a backend", function()
  local origin, gw

  local function start(version, more)
    origin = wire.origin()
    gw = moongate.gateway { files = { ["gateway.lua"] = ([[
return {
  name = "spec",
  trusted_proxies = { "127.0.0.0/8" },
  listeners = { { name = "http", address = "127.0.0.1:0" },
    { name = "proxied", address = "127.0.0.1:0", proxy_protocol = true } },
  backends = { origin = { targets = { "http://127.0.0.1:%d" }, proxy_protocol = %q, %s } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
}
]]):format(origin.port, version, more or "") } }
  end

  after_each(function()
    gw:close()
    origin:close()
  end)

  local function ask(bytes, count)
    -- A header in front of the first request of each connection: the recorder starts behind it.
    return wire.exchange(gw, origin, bytes, { answers = count or 1, listener = "proxied",
      origin = { skip = function(b)
        return b:match("^PROXY[^\n]*\n()") or b:sub(1, 12) == V2 and 17 + b:byte(15) * 256 + b:byte(16) or nil
      end } })
  end

  local KEEP = "GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n"

  it("version 1 names the client and where it connected to", function()
    start("v1")
    local got = ask("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n" .. KEEP)
    assert.equal(200, got.answers[1].status)
    assert.matches("^PROXY TCP4 192%.0%.2%.7 198%.51%.100%.1 4711 443\r\nGET /x HTTP/1%.1\r\n", got.origin_bytes)
  end)

  it("version 2 does so in bytes, in IPv6 too", function()
    start("v2")
    local got = ask("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n" .. KEEP)
    assert.equal(V2 .. "\33\17\0\12\192\0\2\7\198\51\100\1\18\103\1\187GET", got.origin_bytes:sub(1, 31))
    got = ask("PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n" .. KEEP)
    assert.equal(V2 .. "\33\33\0\36\32\1\13\184", got.origin_bytes:sub(1, 20))
  end)

  it("is sent once a connection, which is kept for its client alone", function()
    start("v1")
    local got = ask("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n" .. KEEP .. KEEP, 2)
    assert.equal(1, #origin.conns)
    assert.equal(2, #got.requests)
    local first = origin.conns
    origin.conns = {} -- stays open, as a kept connection does
    got = ask("PROXY TCP4 192.0.2.8 198.51.100.1 4711 443\r\n" .. KEEP)
    assert.equal(1, #origin.conns, "another client came on a connection that names the first")
    assert.matches("^PROXY TCP4 192%.0%.2%.8 ", got.origin_bytes)
    first[1].socket:close()
  end)

  it("lets another client's idle connection go where no more may be open", function()
    start("v1", "limits = { connections = 1 }")
    ask("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n" .. KEEP)
    origin.conns = {}
    local got = ask("PROXY TCP4 192.0.2.8 198.51.100.1 4711 443\r\n" .. KEEP)
    assert.equal(200, got.answers[1].status)
  end)

  it("says of the gateway's own calls that they are its own", function()
    start("v1", [[health = { path = "/alive", interval = 1 }]])
    origin:reset({ skip = function(b)
      return b:match("^PROXY[^\n]*\n()")
    end })
    gw:advance(1.1)
    for _ = 1, 50 do
      gw.core:turn(1)
      origin:turn()
    end
    assert.matches("^PROXY UNKNOWN\r\nGET /alive HTTP/1%.1\r\n", origin.bytes)
  end)

  it("does not go with HTTP/2, whose connections clients share", function()
    start("v1")
    local errors = moongate.errors { files = { ["gateway.lua"] = [[
return {
  listeners = { { address = "127.0.0.1:0" } },
  backends = { origin = { targets = { "http://127.0.0.1:1" }, proxy_protocol = "v2", protocol = "h2" } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
}
]] } }
    assert.matches("gateway.lua:3: backends.origin.proxy_protocol", errors)
  end)
end)
