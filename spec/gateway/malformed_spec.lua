-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local config = [[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  limits = { head_bytes = 4096, uri_bytes = 1024, header_count = 20, body_bytes = 1000 },
  backends = { origin = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
}
]]

local gw

setup(function()
  gw = moongate.gateway({
    files = { ["gateway.lua"] = config },
    backends = { origin = function(request)
      return 200, {}, request.method .. " " .. request.path .. " " .. request.body
    end },
  })
end)

teardown(function()
  gw:close()
end)

local function status_of(bytes)
  local answer, is_closed = gw:raw(bytes)
  return tonumber(answer:match("^HTTP/1%.1 (%d%d%d)")), is_closed, answer
end

describe("a malformed request", function()
  local cases = {
    { "no Host", "GET / HTTP/1.1\r\n\r\n", 400 },
    { "two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400 },
    { "a bare LF", "GET / HTTP/1.1\nHost: a\n\n", 400 },
    { "a folded field", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400 },
    { "a space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400 },
    { "a NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400 },
    { "two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400 },
    { "length and chunked", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
      .. "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400 },
    { "an unknown coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501 },
    { "a last coding that is not chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400 },
    { "a negative length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400 },
    { "a bad chunk size", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400 },
    { "an unknown version", "GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505 },
    { "a long target", "GET /" .. ("a"):rep(1100) .. " HTTP/1.1\r\nHost: a\r\n\r\n", 414 },
    { "a large head", "GET / HTTP/1.1\r\nHost: a\r\nX: " .. ("a"):rep(5000) .. "\r\n\r\n", 431 },
    { "many fields", "GET / HTTP/1.1\r\nHost: a\r\n" .. ("X: a\r\n"):rep(30) .. "\r\n", 431 },
    { "an encoded slash", "GET /a%2Fb HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
    { "dot segments past the root", "GET /../a HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
    { "a long body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", 413 },
    { "a long chunked body", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n"
      .. ("x"):rep(1001) .. "\r\n0\r\n\r\n", 413 },
    { "TLS bytes", "\22\3\1\2\0\1\0\1\252\3\3", 400 },
  }
  for _, case in ipairs(cases) do
    it(("with %s is answered %d and logged"):format(case[1], case[3]), function()
      local before = #gw.calls.origin
      local status, is_closed = status_of(case[2])
      assert.equal(case[3], status)
      -- A body that is only too long can be passed over where its end is known; after anything else
      -- nothing can be trusted.
      assert.equal(case[1] ~= "a long body", is_closed)
      assert.equal(case[3], gw:last_log().status)
      assert.is_string(gw:last_log().error)
      if case[1] ~= "a bad chunk size" then
        assert.equal(before, #gw.calls.origin)
      end
    end)
  end

  it("does not disturb the next connection", function()
    assert.equal(200, gw:get("/fine", { host = "a" }).status)
  end)
end)

describe("a connection", function()
  it("serves pipelined requests in order", function()
    local answer = gw:raw("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
      .. "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
      .. "GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    local bodies = {}
    for body in answer:gmatch("\r\n\r\n(%u+ /%d %l*)") do
      bodies[#bodies + 1] = body
    end
    assert.same({ "GET /1 ", "POST /2 abc", "GET /3 " }, bodies)
  end)

  it("is kept for HTTP/1.1, closed for HTTP/1.0 unless asked otherwise", function()
    local _, is_closed = gw:raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert.is_false(is_closed)
    _, is_closed = gw:raw("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    assert.is_true(is_closed)
    local answer
    answer, is_closed = gw:raw("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
    assert.is_false(is_closed)
    assert.matches("Connection: keep%-alive", answer)
  end)

  it("gets 100 Continue before its body is read, and the answer after it", function()
    local answer = gw:raw("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert.equal("HTTP/1.1 100 Continue\r\n\r\n", answer)
    answer = gw:raw("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi")
    assert.matches("200", answer)
    assert.matches("POST / hi", answer)
  end)

  it("that sends half a head is answered 408 when the time is up", function()
    local status, is_closed
    local before = gw:connections()
    gw.core:raw("GET / HTTP/1.1\r\nHost: a\r\n", { wait = 0.05 })
    gw:advance(11)
    assert.is_true(gw:connections() <= before)
    status, is_closed = status_of("GET /after HTTP/1.1\r\nHost: a\r\n\r\n")
    assert.equal(200, status)
    assert.is_false(is_closed)
  end)

  it("with chunked trailers is forwarded whole", function()
    local answer = gw:raw("POST /t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
      .. "3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nX-Sum: 7\r\n\r\n")
    assert.matches("POST /t abcdefg", answer)
  end)
end)

describe("a body that a policy reads", function()
  local reading

  setup(function()
    reading = moongate.gateway({ files = { ["gateway.lua"] = [[
local function read(ctx) ctx.request:body() end
local function try(ctx) pcall(ctx.request.body, ctx.request) end
local function route(path, policy)
  return { path = path, reply = { status = 200, body = "fine" }, policies = { inbound = { policy } } }
end
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  limits = { policy_body_bytes = 1000 },
  sites = { { hosts = { "*" }, routes = { route("/read", read), route("/try", try) } } },
}]] } })
  end)

  teardown(function()
    reading:close()
  end)

  for _, path in ipairs { "/read", "/try" } do
    for _, case in ipairs {
      { "is refused as what it is where its coding breaks", 400, "Transfer-Encoding: chunked", "5\r\nhello\r\nzz\r\n" },
      { "is refused as what it is where it is too long", 413, "Content-Length: 1001", ("x"):rep(1001) },
      { "is refused as what it is where its chunks are too long", 413, "Transfer-Encoding: chunked",
        "3e9\r\n" .. ("x"):rep(1001) .. "\r\n0\r\n\r\n" },
    } do
      it(case[1] .. ", whatever the policy catches (" .. path .. ")", function()
        local head = ("POST %s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n"):format(path, case[3])
        local answer = reading:raw(head .. case[4]) -- all of it at once
        assert.equal(case[2], tonumber(answer:match("^HTTP/1%.1 (%d%d%d)")))
        assert.is_string(reading:last_log().error)
      end)
    end
  end
end)
