-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local config = [[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  management = { address = "127.0.0.1:0" },
  limits = { connections_per_address = 3, requests_per_connection = 2 },
  sites = { { hosts = { "*" }, routes = { { path = "/*", reply = { status = 200, body = "ok" } } } } },
}
]]

describe("connections of one address", function()
  local gw

  setup(function()
    gw = moongate.gateway({ files = { ["gateway.lua"] = config } })
  end)

  teardown(function()
    gw:close()
  end)

  it("are closed at once past their limit, counted, and welcome again later", function()
    local socket = require("socket")
    local open = {}
    for i = 1, 4 do
      open[i] = assert(socket.connect("127.0.0.1", gw:port()))
      gw.core:turn(5)
    end
    gw.core:turn(5)
    assert.equal(3, gw:connections())
    local metrics = gw:get("/metrics", { listener = "management" }).body
    assert.matches("moongate_connections_refused_total 1\n", metrics)
    open[1]:close()
    gw.core:turn(5)
    gw.core:turn(5)
    assert.equal(200, gw:get("/").status)
    for i = 2, 4 do
      open[i]:close()
    end
  end)

  it("end after as many requests as a connection may have", function()
    local request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    local answer, is_closed = gw:raw(request:rep(3))
    local _, count = answer:gsub("HTTP/1%.1 200", "")
    assert.equal(2, count)
    assert.is_true(is_closed)
  end)
end)
