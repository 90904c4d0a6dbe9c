-- SPDX-License-Identifier: Apache-2.0
--- Deadlines and ceilings of HTTP/2 connections: each has a name in the configuration.
local h2 = require("spec.support.h2")
local moongate = require("moongate.test")

local config = [[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0", http2 = true } },
  limits = { head_timeout = 0.2, body_timeout = 0.2, idle_timeout = 0.2, send_timeout = 0.2,
    requests_per_connection = 3, body_bytes = 1000 },
  backends = { origin = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/small", reply = { status = 200, body = "hello" } },
    { path = "/*", backend = "origin" } } } },
}
]]

describe("HTTP/2 limits", function()
  local gw

  before_each(function()
    gw = moongate.gateway { files = { ["gateway.lua"] = config },
      backends = { origin = function() return 200, {}, ("x"):rep(200000) end } }
  end)

  after_each(function()
    gw:close()
  end)

  local function exchange(bytes)
    local answer, is_closed = gw:raw(h2.START .. bytes, { wait = 0.6 })
    return h2.read(answer), is_closed
  end

  local function goaway(frames)
    local found = h2.only(frames, "GOAWAY")
    return found[#found] and found[#found].code
  end

  it("idle connections are closed after idle_timeout, with GOAWAY", function()
    local frames, is_closed = exchange(h2.get(1, "/small"))
    assert.equal(200, h2.answer(frames, 1).status)
    assert.equal("NO_ERROR", goaway(frames))
    assert.is_true(is_closed)
  end)

  it("a first request that does not come ends in head_timeout", function()
    local _, is_closed = exchange("")
    assert.is_true(is_closed)
  end)

  it("a head that stays open ends the connection after head_timeout", function()
    local frames, is_closed = exchange(h2.frame("HEADERS", 1, 1,
      h2.block(h2.request("/small")):sub(1, 10)))
    assert.is_truthy(goaway(frames))
    assert.is_true(is_closed)
  end)

  it("a frame that stays open ends the connection after head_timeout", function()
    local _, is_closed = exchange(h2.get(1, "/small"):sub(1, 12))
    assert.is_true(is_closed)
  end)

  it("a body that does not come is 408 after body_timeout", function()
    local frames = exchange(h2.headers(1, h2.request("/x", { { "content-length", "100" } }, "POST"),
      h2.END_HEADERS) .. h2.data(1, "abc"))
    assert.equal(408, h2.answer(frames, 1).status)
  end)

  it("a client that opens no window is cut off after send_timeout", function()
    local frames = exchange(h2.settings { { 4, 10 } } .. h2.get(1, "/x"))
    local answer = h2.answer(frames, 1)
    assert.equal(10, #answer.body)
    assert.equal("CANCEL", answer.reset)
  end)

  it("a body past body_bytes is 413", function()
    local frames = exchange(h2.headers(1, h2.request("/x", nil, "POST"), h2.END_HEADERS)
      .. h2.data(1, ("b"):rep(1001), true))
    assert.equal(413, h2.answer(frames, 1).status)
  end)

  it("the connection ends after requests_per_connection, with GOAWAY", function()
    local frames, is_closed = exchange(h2.get(1, "/small") .. h2.get(3, "/small")
      .. h2.get(5, "/small"))
    assert.equal(200, h2.answer(frames, 5).status)
    assert.equal("NO_ERROR", goaway(frames))
    assert.is_true(is_closed)
  end)
end)
