-- SPDX-License-Identifier: Apache-2.0
--- Connections with backends, by an origin that knows only sockets: long heads, interim answers, requests
--- that are taken slowly, connections that ended while nobody used them.
local h2 = require("spec.support.h2")
local moongate = require("moongate.test")
local socket = require("socket")
local wire = require("spec.support.wire")

local CONFIG = [[
local function backend(protocol)
  return { targets = { "http://127.0.0.1:PORT" }, retries = 0, protocol = protocol,
    limits = { head_bytes = 200000 }, timeout = { send = 1, first_byte = 5, total = 100 } }
end
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0", http2 = true } },
  limits = { body_timeout = 20, policy_body_bytes = 16777216, policy_memory_bytes = 134217728 },
  backends = { h1 = backend("http1"), h2 = backend("h2") },
  sites = { { hosts = { "*" }, routes = {
    { path = "/kept", backend = "h1", policies = { inbound = { function(ctx)
      ctx.request:body()
    end } } },
    { path = "/h2/*", backend = "h2" },
    { path = "/*", backend = "h1" } } } },
}
]]

local gw, origin

setup(function()
  gw, origin = wire.serve(moongate, CONFIG)
end)

teardown(function()
  wire.close(gw, origin)
end)

local function get(path)
  return ("GET %s HTTP/1.1\r\nHost: a\r\n\r\n"):format(path)
end

--- Fields that fill a head, each within what HPACK's implementations let one have.
local function long_fields(bytes)
  local fields = {}
  for i = 1, 10 do
    fields[i] = { "x-long-" .. i, ("x"):rep(bytes / 10) }
  end
  return fields
end

--- A head over as many frames as it needs.
local function long_headers(bytes)
  local fields, frames = long_fields(bytes), {}
  table.insert(fields, 1, { ":status", "200" })
  local block = h2.block(fields)
  for at = 1, #block, 16384 do
    local is_last = at + 16384 > #block
    frames[#frames + 1] = h2.frame(at == 1 and "HEADERS" or "CONTINUATION", is_last and h2.END_HEADERS or 0, 1,
      block:sub(at, at + 16383))
  end
  return table.concat(frames)
end

--- An HTTP/2 origin that answers stream 1 with these frames.
local function h2_origin(frames)
  return { answer = h2.settings() .. frames, is_asked = function(bytes)
    return bytes:find("\1[\4\5]%z%z%z\1", 10)
  end }
end

describe("a backend's answer", function()
  local function head_of(bytes)
    local got = wire.exchange(gw, origin, get("/"), { origin = {
      answer = ("HTTP/1.1 200 OK\r\nX-Long: %s\r\nContent-Length: 2\r\n\r\nok"):format(("x"):rep(bytes)) } })
    return got.answers[1].status, #got.answers[1].head
  end

  it("may have a head as long as head_bytes, and no longer", function()
    local status, len = head_of(199000)
    assert.equal(200, status)
    assert.is_true(len > 199000)
    assert.equal(502, (head_of(201000)))
  end)

  it("may have one over HTTP/2 as well", function()
    local function answer(bytes)
      return wire.exchange(gw, origin, get("/h2/"), { origin = h2_origin(long_headers(bytes)
        .. h2.data(1, "ok", true)) }).answers[1]
    end
    local long = answer(199000)
    assert.equal(200, long.status)
    assert.is_true(#long.head > 199000)
    assert.equal(502, answer(201000).status)
  end)

  it("has its long head passed on over HTTP/2", function()
    local lines = {}
    for i, field in ipairs(long_fields(100000)) do
      lines[i] = field[1] .. ": " .. field[2] .. "\r\n"
    end
    origin:reset { answer = ("HTTP/1.1 200 OK\r\n%sContent-Length: 2\r\n\r\nok"):format(table.concat(lines)) }
    local client = assert(socket.connect("127.0.0.1", gw:port()))
    client:settimeout(0)
    client:send(h2.START .. h2.get(1, "/"))
    local bytes, answer = "", nil
    for _ = 1, 1000 do
      gw.core:turn(1)
      origin:turn()
      local more, _, part = client:receive(65536)
      bytes = bytes .. (more or part)
      if bytes:sub(-2) == "ok" then
        answer = h2.answer(h2.read(bytes), 1)
        break
      end
    end
    client:close()
    assert.equal(200, answer and answer.status)
    assert.equal("ok", answer.body)
  end)

  for _, case in ipairs {
    { "HTTP/1.1", "/", function(interim)
      local parts = {}
      for i, status in ipairs(interim) do
        parts[i] = ("HTTP/1.1 %d X\r\nLink: </a%d>\r\n\r\n"):format(status, i)
      end
      return { answer = table.concat(parts) .. "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" }
    end },
    { "HTTP/2", "/h2/", function(interim)
      local parts = {}
      for i, status in ipairs(interim) do
        parts[i] = h2.headers(1, { { ":status", tostring(status) }, { "link", ("</a%d>"):format(i) } }, h2.END_HEADERS)
      end
      return h2_origin(table.concat(parts) .. h2.headers(1, { { ":status", "200" } }, h2.END_HEADERS)
        .. h2.data(1, "ok", true))
    end },
  } do
    it("over " .. case[1] .. " brings its interim answers, in order", function()
      local got = wire.exchange(gw, origin, get(case[2]), { origin = case[3] { 100, 103, 102, 103 } })
      assert.equal(200, got.answers[1].status)
      assert.equal("ok", got.answers[1].body == "ok" and "ok" or wire.join(got.answers[1].body))
      local seen = {}
      for i, interim in ipairs(got.interim) do
        seen[i] = interim.status .. (wire.field(interim.head, "Link") or "")
      end
      assert.same({ "103</a2>", "102", "103</a4>" }, seen)
    end)

    it("over " .. case[1] .. " is 502 behind too many of them", function()
      local many = {}
      for i = 1, 20 do
        many[i] = 103
      end
      assert.equal(502, wire.exchange(gw, origin, get(case[2]), { origin = case[3](many) }).answers[1].status)
    end)
  end
end)

describe("a WebSocket of a client in HTTP/2", function()
  -- Its client knows nothing of the handshake in HTTP/1.1; one that is good is in spec/integration/clients.
  for what, field in pairs { ["a wrong"] = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", ["no"] = "" } do
    it("is not opened on " .. what .. " proof that the backend has understood", function()
      origin:reset { answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        .. field .. "\r\n" }
      local client = assert(socket.connect("127.0.0.1", gw:port()))
      client:settimeout(0)
      client:send(h2.START .. h2.headers(1, { { ":method", "CONNECT" }, { ":protocol", "websocket" },
        { ":scheme", "http" }, { ":path", "/ws" }, { ":authority", "a" }, { "sec-websocket-version", "13" } },
        h2.END_HEADERS))
      local bytes, answer = "", {}
      for _ = 1, 200 do
        gw.core:turn(1)
        origin:turn()
        local more, _, part = client:receive(65536)
        bytes = bytes .. (more or part)
        answer = h2.answer(h2.read(bytes), 1)
        if answer.status then
          break
        end
      end
      client:close()
      gw.core:turn(1)
      assert.equal(502, answer.status)
      assert.equal("upstream_protocol", gw:last_log().error)
    end)
  end
end)

describe("a request that its backend takes slowly", function()
  local BYTES = 12 * 1024 * 1024
  local listener, client, from

  before_each(function()
    origin:reset()
    listener = origin.listener
    listener:setoption("recv-buffer-size", 4096)
    client = assert(socket.connect("127.0.0.1", gw:port()))
    client:settimeout(0)
  end)

  after_each(function()
    client:close()
    if from then
      from:close()
    end
    from = nil
    gw.core:turn(1)
  end)

  local function turn(n)
    for _ = 1, n do
      gw.core:turn(0)
      from = from or listener:accept()
    end
  end

  local function connected()
    for _ = 1, 2000 do
      gw.core:turn(1)
      from = from or listener:accept()
      if from then
        from:settimeout(0)
        return turn(20)
      end
    end
  end

  local function send(bytes)
    local at = 1
    for _ = 1, 20000 do
      local last, _, part = client:send(bytes, at)
      at = (last or part) + 1
      turn(1)
      if at > #bytes then
        break
      end
    end
    assert.is_true(at > #bytes, "the gateway took " .. at)
  end

  local function take(most)
    local got = 0
    for _ = 1, 3000 do
      local bytes, _, part = from:receive(65536)
      got = got + #(bytes or part)
      if got >= most then
        break
      end
      gw.core:turn(#(bytes or part) == 0 and 1 or 0)
    end
    return got
  end

  local function answer()
    turn(20)
    local bytes, _, part = client:receive(1000)
    return tonumber((bytes or part):match("^HTTP/1.1 (%d+)"))
  end

  it("goes on for as long as some is taken within timeout.send, whole as it is", function()
    send(("POST /kept HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"):format(BYTES) .. ("x"):rep(BYTES))
    connected()
    for _ = 1, 4 do
      take(BYTES / 8)
      gw:advance(0.8)
      turn(2)
    end
    assert.is_true(take(BYTES / 2) >= BYTES / 2 - 1000)
    from:send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert.equal(200, answer())
  end)

  it("ends with 504 when nothing is", function()
    send(("POST /kept HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"):format(BYTES) .. ("x"):rep(BYTES))
    connected()
    gw:advance(1.1)
    gw:advance(1.1)
    assert.equal(504, answer())
    assert.equal("upstream_send_timeout", gw:last_log().error)
  end)

  it("is not the backend's fault where it is the client that pauses", function()
    send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
    connected()
    gw:advance(3)
    turn(20)
    send("world")
    turn(20)
    from:send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert.equal(200, answer())
  end)
end)

describe("a kept connection that its backend has closed", function()
  local POST = "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"

  --- Both the end and the next request are there when the loop looks.
  local function ask_behind(path, options, last_words)
    origin:reset(options)
    local client = assert(socket.connect("127.0.0.1", gw:port()))
    client:settimeout(0)
    local function answer(bytes)
      client:send(bytes)
      local got, deadline = "", socket.gettime() + 5
      repeat
        gw.core:turn(1)
        origin:turn()
        local more, _, part = client:receive(65536)
        got = got .. (more or part)
      until got:find("\r\n\r\n.*ok") or got:find("^HTTP/1.1 5") or socket.gettime() > deadline
      return tonumber(got:match("^HTTP/1.1 (%d+)"))
    end
    assert.equal(200, answer(get(path)))
    local first = origin.conns[#origin.conns]
    first.socket:send(last_words)
    first.socket:close()
    first.is_over = true
    local status = answer(POST:format(path))
    client:close()
    gw.core:turn(1)
    return status, #origin.conns
  end

  it("is not given a request that could not be sent again", function()
    local status, conns = ask_behind("/", {}, "")
    assert.equal(200, status)
    assert.equal(2, conns)
  end)

  it("is not used when something came on it that nobody asked for", function()
    assert.equal(200, (ask_behind("/", {}, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")))
  end)

  it("is not given one over HTTP/2 either", function()
    local options = h2_origin(h2.headers(1, { { ":status", "200" } }, h2.END_HEADERS) .. h2.data(1, "ok", true))
    assert.equal(200, (ask_behind("/h2/", options, "")))
    assert.equal(200, (ask_behind("/h2/", options, h2.frame("GOAWAY", 0, 0, h2.u32(1) .. h2.u32(0)))))
  end)
end)
