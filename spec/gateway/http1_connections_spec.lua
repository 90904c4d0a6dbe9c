-- SPDX-License-Identifier: Apache-2.0
--- HTTP/1.1 connections, byte by byte: order, pipelining, bodies that nobody reads, answers that come
--- early, ends that come early (RFC 9112 §9), Expect (RFC 9110 §10.1.1), Upgrade (§7.8).
local moongate = require("moongate.test")
local wire = require("spec.support.wire")

local config = [[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { origin = { targets = { "http://127.0.0.1:PORT" }, retries = 0 },
    keyed = { targets = { "http://127.0.0.1:PORT" }, retries = 0, auth = { headers = { ["X-Key"] = "k" } } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/keyed", backend = "keyed" },
    { path = "/reply", reply = { status = 200, body = "reply" } },
    { path = "/small", backend = "origin", limits = { body_bytes = 100 } },
    { path = "/*", backend = "origin" } } } },
}
]]

local gw, origin

setup(function()
  gw, origin = wire.serve(moongate, config)
end)

teardown(function()
  wire.close(gw, origin)
end)

local function echo(request)
  local text = request.line .. "|" .. request.body
  return ("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"):format(#text, text)
end

local function exchange(bytes, options)
  options = options or {}
  options.origin = options.origin or { answer = echo }
  return wire.exchange(gw, origin, bytes, options)
end

local function get(path, fields)
  return ("GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n"):format(path, fields and fields .. "\r\n" or "")
end

local function post(path, body, fields)
  return ("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%s\r\n%s"):format(path, #body,
    fields and fields .. "\r\n" or "", body)
end

describe("HTTP/1.1 pipelining", function()
  it("answers in order, one request at a time", function()
    local requests, wanted = {}, {}
    for i = 1, 40 do
      requests[i] = i % 3 == 0 and post("/" .. i, "body " .. i)
        or i % 3 == 1 and get("/" .. i)
        or ("PUT /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"):format(i)
      wanted[i] = (i % 3 == 0 and "POST" or i % 3 == 1 and "GET" or "PUT") .. " /" .. i .. " HTTP/1.1"
    end
    local got = exchange(table.concat(requests), { answers = 40 })
    assert.equal(40, #got.answers)
    for i, answer in ipairs(got.answers) do
      assert.equal(wanted[i], answer.body:match("^[^|]*"))
    end
    assert.equal(1, #origin.conns, "the origin's connection was not used again")
    assert.is_false(got.is_closed)
  end)

  it("mixes what the gateway and what the backend answers", function()
    local got = exchange(get("/reply") .. get("/1") .. get("/reply") .. get("/2"), { answers = 4 })
    assert.same({ "reply", "GET /1 HTTP/1.1|", "reply", "GET /2 HTTP/1.1|" },
      { got.answers[1].body, got.answers[2].body, got.answers[3].body, got.answers[4].body })
  end)

  it("takes an empty line between requests", function()
    local got = exchange(post("/1", "abc") .. "\r\n" .. get("/2"), { answers = 2 })
    assert.equal("GET /2 HTTP/1.1|", got.answers[2].body)
  end)

  it("ends with the request that closes", function()
    local got = exchange(get("/1", "Connection: close") .. get("/2"), { closed = true })
    assert.equal(1, #got.answers)
    assert.equal("close", wire.field(got.answers[1].head, "Connection"))
    assert.equal(1, #got.requests)
  end)

  it("ends with the request that is malformed, behind the answers to those before it", function()
    local got = exchange(get("/1") .. get("/2") .. "BAD\r\n\r\n" .. get("/3"), { answers = 3, closed = true })
    assert.same({ 200, 200, 400 }, { got.answers[1].status, got.answers[2].status, got.answers[3].status })
    assert.equal(2, #got.requests)
  end)

  it("reads no more than its buffer while a backend is silent", function()
    local got = exchange(get("/1") .. get("/" .. ("x"):rep(4000)):rep(2000),
      { answers = 1, origin = { answer = function(_, n) return n == 1 and "" or echo(_) end }, patience_s = 0.1 })
    assert.equal(1, #got.requests)
    assert.is_true(got.sent_bytes < 8e6, "all of it was read")
    origin:reset()
    for _ = 1, 1000 do -- the requests that it had read ahead end first
      if gw:connections() == 0 then
        break
      end
      gw.core:turn(1)
      origin:turn()
    end
    assert.equal(0, gw:connections())
  end)
end)

describe("an HTTP/1.1 request in pieces", function()
  local whole = "POST /a?b HTTP/1.1\r\nHost: a\r\nX: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    .. "4;x=y\r\nabcd\r\n0\r\nX-Sum: 1\r\n\r\n"

  it("is the same wherever it is split", function()
    for at = 1, #whole - 1 do
      local got = exchange({ whole:sub(1, at), whole:sub(at + 1) })
      assert.equal(200, got.answers[1] and got.answers[1].status, "split at " .. at)
      assert.equal("abcd", wire.join(got.requests[1].body))
    end
  end)

  it("is the same byte by byte", function()
    local bytes = {}
    for i = 1, #whole do
      bytes[i] = whole:sub(i, i)
    end
    local got = exchange(bytes)
    assert.equal(200, got.answers[1].status)
    assert.equal("abcd", wire.join(got.requests[1].body))
  end)
end)

describe("an HTTP/1.1 body that nobody reads", function()
  it("is passed over where it is short, and the connection kept", function()
    local got = exchange(post("/reply", ("x"):rep(1000)) .. get("/2"), { answers = 2 })
    assert.equal("reply", got.answers[1].body)
    assert.equal("GET /2 HTTP/1.1|", got.answers[2].body)
  end)

  it("is passed over where it comes after the answer", function()
    local got = exchange({ "POST /reply HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "hello" .. get("/2") },
      { answers = 2 })
    assert.equal("GET /2 HTTP/1.1|", got.answers[2].body)
  end)

  it("ends the connection where it is long, but not before the client has its answer", function()
    local got = exchange({ "POST /reply HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n", ("x"):rep(100000) },
      { closed = true })
    assert.equal("reply", got.answers[1].body)
    assert.equal("close", wire.field(got.answers[1].head, "Connection"))
    assert.is_false(got.was_reset)
  end)

  it("ends the connection where its end is not known", function()
    local got = exchange({ "POST /reply HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n" },
      { closed = true })
    assert.equal("reply", got.answers[1].body)
    assert.equal("close", wire.field(got.answers[1].head, "Connection"))
  end)

  it("is not asked for, where the client waits for 100", function()
    local got = exchange("POST /reply HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
      { closed = true })
    assert.equal("reply", got.answers[1].body)
    assert.same({}, got.interim)
    assert.equal("close", wire.field(got.answers[1].head, "Connection"))
  end)
end)

describe("HTTP/1.1 Expect: 100-continue", function()
  local head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n"

  it("is answered by the gateway, and does not reach the origin", function()
    local got = exchange({ head, "hello" .. get("/2") }, { answers = 2 })
    assert.equal(100, got.interim[1].status)
    assert.equal(1, #got.interim)
    assert.equal("POST / HTTP/1.1|hello", got.answers[1].body)
    assert.is_nil(wire.field(got.requests[1].head, "Expect"))
    assert.equal("GET /2 HTTP/1.1|", got.answers[2].body)
  end)

  it("is not waited for", function()
    local got = exchange(head .. "hello" .. get("/2"), { answers = 2 })
    assert.equal("POST / HTTP/1.1|hello", got.answers[1].body)
    assert.equal("GET /2 HTTP/1.1|", got.answers[2].body)
  end)

  it("goes with chunks", function()
    local got = exchange({ "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
      "5\r\nhello\r\n0\r\n\r\n" })
    assert.equal(100, got.interim[1].status)
    assert.equal("hello", wire.join(got.requests[1].body))
  end)
end)

describe("an HTTP/1.1 answer that comes early", function()
  local head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n"

  it("reaches the client, and ends both connections", function()
    local got = exchange({ head .. ("x"):rep(1000), ("y"):rep(1000) },
      { closed = true, origin = { is_early = true,
        answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig" } })
    assert.equal(413, got.answers[1].status)
    assert.equal("big", got.answers[1].body)
    assert.equal("close", wire.field(got.answers[1].head, "Connection"))
    assert.is_false(got.was_reset)
  end)

  it("reaches the client where the origin closes behind it", function()
    local got = exchange({ head .. ("x"):rep(1000), ("y"):rep(100000) },
      { closed = true, origin = { is_early = true, closes = true,
        answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno" } })
    assert.equal(403, got.answers[1].status)
    assert.equal("no", got.answers[1].body)
  end)

  it("to a chunked body does so, too", function()
    local got = exchange({ "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
      "5\r\nworld\r\n" }, { closed = true, origin = { is_early = true,
      answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n" } })
    assert.equal(401, got.answers[1].status)
  end)

  for what, rest in pairs { ["is malformed"] = "zz\r\n", ["is too long"] = "70\r\n" .. ("x"):rep(112) .. "\r\n" } do
    it("and has begun is cut, never followed by another one, where the rest of the body " .. what, function()
      local first = "POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
      local got = exchange({ first, rest }, { closed = true, origin = { is_early = true,
          answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n" } })
      assert.matches("^HTTP/1.1 200 .*\r\n\r\n5\r\nbegun\r\n$", got.bytes)
      assert.equal(1, select(2, got.bytes:gsub("HTTP/1%.1 ", "")), got.bytes)
      assert.is_true(got.was_reset)
      assert.equal(what == "is malformed" and "bad_chunk" or "body_too_large", gw:last_log().error)
    end)
  end
end)

describe("an HTTP/1.1 client", function()
  it("that has said all it will is answered, and then closed to", function()
    local got = exchange(get("/1") .. get("/2"), { answers = 2, closed = true, shutdown = true })
    assert.equal(2, #got.answers)
    assert.is_true(got.is_closed)
  end)

  for what, bytes in pairs({ length = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
    chunks = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n" }) do
    it("that ends before its body (" .. what .. ") has no whole request at the origin", function()
      local got = exchange(bytes, { answers = 1, closed = true, shutdown = true })
      assert.equal(0, #got.answers)
      assert.equal(0, #got.requests)
      assert.is_true(got.is_closed)
      assert.equal("client_closed", gw:last_log().error)
    end)
  end

  it("that ends within a head is not answered by a backend", function()
    local got = exchange("GET / HTTP/1.1\r\nHost: a\r\n", { answers = 1, closed = true, shutdown = true })
    assert.equal(0, #got.requests)
    assert.is_true(got.is_closed)
  end)
end)

describe("trailers of an HTTP/1.1 request", function()
  for what, path in pairs { ["a backend"] = "/", ["a backend that is given credentials"] = "/keyed" } do
    it("reach " .. what, function()
      local got = exchange({ ("POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"):format(path)
        .. "5\r\nhello\r\n", "0\r\nX-Sum: 42\r\n\r\n" })
      assert.equal(path == "/keyed" and "k" or nil, wire.field(got.requests[1].head, "X-Key"))
      assert.matches("\r\n0\r\nX%-Sum: 42\r\n\r\n$", got.requests[1].body)
    end)
  end
end)

describe("an HTTP/1.1 head as long as head_bytes lets it be", function()
  it("is read, past what is read ahead of bodies; one that is longer is 431", function()
    local long = moongate.gateway { files = { ["gateway.lua"] = (config:gsub("PORT", origin.port)
      :gsub("backends =", "limits = { head_bytes = 200000 }, %0", 1)) } }
    local function ask(bytes)
      return wire.exchange(long, origin, get("/reply", "X-Long: " .. ("x"):rep(bytes))).answers[1]
    end
    assert.equal(200, ask(199000).status)
    assert.equal(431, ask(201000).status)
    long:close()
  end)
end)

describe("an HTTP/1.1 upgrade", function()
  local request = get("/ws", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    .. "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
  local switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"

  it("passes what follows the switch, both ways, without reading it", function()
    local got = exchange({ request, get("/inside") }, { answers = 1, methods = {}, wants_bytes = "world",
      origin = { answer = function(r) return r.line:find("/ws") and switch .. "hello" or "world" end } })
    assert.matches("^HTTP/1.1 101 ", got.bytes)
    assert.matches("\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", got.bytes)
    assert.matches("\r\n\r\nhelloworld$", got.bytes)
    assert.equal("GET /inside HTTP/1.1\r\nHost: a\r\n\r\n", got.requests[2].head)
  end)

  it("that the origin declines leaves the connection to HTTP", function()
    local got = exchange({ request .. get("/2") }, { answers = 2 })
    assert.equal(200, got.answers[1].status)
    assert.equal("GET /2 HTTP/1.1|", got.answers[2].body)
  end)

  for what, fields in pairs { ["to another protocol"] = "Upgrade: h2c\r\nConnection: Upgrade\r\n",
    ["to nothing"] = "", ["to two protocols"] = "Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n",
    ["with a body"] = "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: x\r\n" } do
    it("that switches " .. what .. " is a 502, and what follows is HTTP", function()
      local got = exchange({ request .. get("/2") }, { answers = 2, origin = { answer = function(r)
        return r.line:find("/ws") and "HTTP/1.1 101 Switching Protocols\r\n" .. fields .. "\r\nhello" or echo(r)
      end } })
      assert.equal(502, got.answers[1] and got.answers[1].status, got.bytes)
      assert.equal("GET /2 HTTP/1.1|", got.answers[2].body)
      assert.not_matches("hello", got.bytes)
    end)
  end

  it("is not smuggled past: what comes with it waits for the switch", function()
    local got = exchange({ request .. get("/inside") }, { answers = 2,
      origin = { answer = function() return "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n" end } })
    assert.equal(426, got.answers[1].status)
    assert.matches("\r\nVia: ", got.requests[2].head) -- it was a request of its own
  end)
end)

describe("a slow HTTP/1.1 client", function()
  local socket = require("socket")
  local slow

  setup(function()
    slow = moongate.gateway { files = { ["gateway.lua"] = [[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  limits = { head_timeout = 4, body_timeout = 3, idle_timeout = 6 },
  backends = { origin = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
}
]] }, backends = { origin = function()
        return 200, {}, "ok"
      end } }
  end)

  teardown(function()
    slow:close()
  end)

  local function connect(bytes)
    local client = assert(socket.connect("127.0.0.1", slow:port()))
    client:settimeout(0)
    client:send(bytes or "")
    for _ = 1, 5 do
      slow.core:turn(1)
    end
    return client
  end

  local function said(client)
    for _ = 1, 10 do
      slow.core:turn(1)
    end
    local bytes, err, part = client:receive("*a")
    return bytes or part, err ~= "timeout"
  end

  it("that drips its head, a byte a second, is answered 408 in head_timeout all the same", function()
    local client = connect("GET / HTTP/1.1\r\nX: ")
    for _ = 1, 3 do
      slow:advance(1)
      client:send("x")
      slow.core:turn(5)
      assert.equal("", (said(client)))
    end
    slow:advance(1.1)
    local bytes, is_closed = said(client)
    assert.matches("^HTTP/1.1 408 ", bytes)
    assert.matches("\r\nConnection: close\r\n", bytes)
    assert.is_true(is_closed)
    assert.equal("head_timeout", slow:last_log().error)
    client:close()
  end)

  it("that never says anything is closed without an answer", function()
    local client = connect()
    slow:advance(4.1)
    assert.same({ "", true }, { said(client) })
    client:close()
  end)

  it("whose body stalls is answered 408 in body_timeout, and its backend is let go", function()
    local before = #slow.calls.origin
    local client = connect("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab")
    slow:advance(2)
    client:send("c")
    slow.core:turn(5)
    slow:advance(2)
    assert.equal("", (said(client)))
    slow:advance(1.1)
    local bytes, is_closed = said(client)
    assert.matches("^HTTP/1.1 408 ", bytes)
    assert.is_true(is_closed)
    assert.equal("body_timeout", slow:last_log().error)
    assert.equal(before, #slow.calls.origin)
    client:close()
  end)

  it("that is silent between requests is closed in idle_timeout", function()
    local client = connect("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert.matches("^HTTP/1.1 200 ", (said(client)))
    slow:advance(5)
    assert.is_false((select(2, said(client))))
    slow:advance(1.1)
    assert.is_true((select(2, said(client))))
    client:close()
  end)
end)
