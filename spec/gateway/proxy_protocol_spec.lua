-- SPDX-License-Identifier: Apache-2.0
--- The PROXY protocol on listeners: who the client is, told by a balancer in front.
local h2 = require("spec.support.h2")
local moongate = require("moongate.test")

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
