-- SPDX-License-Identifier: Apache-2.0
--- Backends that break HTTP/2 (RFC 9113 §5.4.1): who waits for one is told at once, not when the time for
--- an answer is over.
local h2 = require("spec.support.h2")
local moongate = require("moongate.test")
local wire = require("spec.support.wire")

local config = [[
return {
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { origin = { targets = { "http://127.0.0.1:PORT" }, protocol = "h2", retries = 0 } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
}
]]

local OK = { { ":status", "200" } }
local NO_PUSH = 2

--- What is said to the first request, behind the settings unless they are the mistake.
local broken = {
  { "speaks HTTP/1.1", "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", is_bare = true },
  { "speaks no HTTP at all", "220 mail.test ESMTP ready\r\n", is_bare = true },
  { "sends data before a head", h2.data(1, "fine", true) },
  { "answers on a stream that nobody opened", h2.headers(3, OK) },
  { "opens a stream", h2.headers(2, OK) },
  { "pushes, and knows that it may not", h2.frame("SETTINGS", h2.ACK, 0)
    .. h2.frame("PUSH_PROMISE", h2.END_HEADERS, 1, h2.u32(2) .. h2.block(h2.request())) },
  { "allows itself to push", h2.settings({ { NO_PUSH, 2 } }) },
  { "has a frame size below the least", h2.settings({ { 5, 10 } }) },
  { "opens the window by nothing", h2.frame("WINDOW_UPDATE", 0, 0, h2.u32(0)) },
  { "sends fields that cannot be decompressed", h2.frame("HEADERS", h2.END_HEADERS, 1, "\255\255\255\255\15") },
  { "sends a frame that is too large", h2.frame("DATA", 0, 1, ("x"):rep(20000)) },
}

describe("a backend of HTTP/2 that", function()
  local gw, origin

  setup(function()
    gw, origin = wire.serve(moongate, config)
  end)

  teardown(function()
    wire.close(gw, origin)
  end)

  local function has_request(bytes)
    return bytes:find("\1[\4\5]%z%z%z\1", 25) ~= nil
  end

  local function ask(answer)
    return wire.exchange(gw, origin, "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
      { origin = { answer = answer, is_asked = has_request } })
  end

  it("answers is heard", function()
    local got = ask(h2.settings() .. h2.headers(1, OK, h2.END_HEADERS) .. h2.data(1, "fine", true))
    assert.equal(200, got.answers[1].status)
  end)

  for _, case in ipairs(broken) do
    it(case[1] .. " is a 502 at once", function()
      local got = ask((case.is_bare and "" or h2.settings()) .. case[2])
      assert.equal(1, #got.answers, "waits: " .. got.bytes)
      assert.equal(502, got.answers[1].status)
      assert.equal("upstream_protocol", gw:last_log().error)
    end)
  end

  it("breaks it within an answer cuts that", function()
    local got = wire.exchange(gw, origin, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", { closed = true, answers = 0,
      origin = { is_asked = has_request, answer = { h2.settings() .. h2.headers(1, OK, h2.END_HEADERS)
        .. h2.data(1, "some"), h2.frame("WINDOW_UPDATE", 0, 0, h2.u32(0)) } } })
    assert.is_true(got.is_closed, "waits: " .. got.bytes)
    assert.equal(0, #got.answers)
    assert.matches("^HTTP/1.1 200 ", got.bytes)
  end)
end)
