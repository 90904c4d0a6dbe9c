-- SPDX-License-Identifier: Apache-2.0
--- Clients that ask and read late, or not at all: what they hold of the gateway's memory is bounded, and
--- whoever reads on gets all of it. Over plain sockets, whose buffers take a few megabytes.
local h2 = require("spec.support.h2")
local moongate = require("moongate.test")
local socket = require("socket")

local MB = 1024 * 1024
local LARGE = 15 * MB

local CONFIG = [[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0", http2 = true } },
  limits = { send_timeout = 30, idle_timeout = 5 },
  sites = { { hosts = { "*" }, routes = {
    { path = "/some", reply = { status = 200, body = ("x"):rep(1024 * 1024) } },
    { path = "/quick", limits = { send_rate = 100000 },
      reply = { status = 200, body = ("x"):rep(15 * 1024 * 1024) } },
    { path = "/any", limits = { send_rate = 0 }, reply = { status = 200, body = ("x"):rep(15 * 1024 * 1024) } },
    { path = "/large", reply = { status = 200, body = ("x"):rep(15 * 1024 * 1024) } },
    { path = "/*", reply = { status = 200, body = "ok" } } } } },
}
]]

describe("a client that reads late", function()
  local gw, client

  setup(function()
    gw = moongate.gateway { files = { ["gateway.lua"] = CONFIG } }
  end)

  teardown(function()
    gw:close()
  end)

  local function turn(n)
    for _ = 1, n do
      gw.core:turn(0)
    end
  end

  -- Asks, and reads nothing until the sockets between are full.
  local function ask(bytes)
    client = assert(socket.connect("127.0.0.1", gw:port()))
    client:settimeout(0)
    assert(client:send(bytes))
    gw.core:turn(5)
    turn(50)
  end

  -- @return how much has come before nothing more did, and its end
  local function read(most)
    local got, tail, idle = 0, "", 0
    while got < most and idle < 50 do
      local bytes, err, part = client:receive(64 * 1024)
      bytes = bytes or part
      got, tail = got + #bytes, #bytes > 0 and bytes:sub(-4) or tail
      idle = #bytes > 0 and 0 or idle + 1
      if err == "closed" then
        break
      end
      gw.core:turn(#bytes > 0 and 0 or 1)
    end
    return got, tail
  end

  local function gone()
    client:close()
    gw.core:turn(5)
    turn(5)
    gw:advance(60)
    turn(5)
    assert.equal(0, gw:connections())
  end

  it("is not answered further before it has read, however many requests it has sent ahead", function()
    local before = #gw:access_log()
    ask(("GET /some HTTP/1.1\r\nHost: a\r\n\r\n"):rep(60))
    assert.is_true(#gw:access_log() - before < 30, "that many answers wait in memory: " .. #gw:access_log() - before)
    read(60 * MB)
    read(MB)
    assert.equal(60, #gw:access_log() - before)
    gone()
  end)

  it("is not read from for ever meanwhile", function()
    ask(("GET /some HTTP/1.1\r\nHost: a\r\n\r\n"):rep(20))
    local request, sent = ("GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"):format(("p"):rep(1000)):rep(64), 0
    for _ = 1, 400 do
      local all, _, some = client:send(request)
      sent = sent + (all or some)
      turn(1)
    end
    assert.is_true(sent < 20 * MB, "all was taken: " .. sent)
    gone()
  end)

  it("gets the whole of an answer that ends the connection", function()
    ask("GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    gw:advance(20)
    assert.equal(1, gw:connections())
    assert.is_true(read(2 * LARGE) > LARGE)
    gone()
  end)

  it("gets the whole of it when it has said that it sends no more", function()
    ask("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    client:shutdown("send")
    gw.core:turn(5)
    gw:advance(20)
    assert.is_true(read(2 * LARGE) > LARGE)
    gone()
  end)

  it("keeps its connection past idle_timeout, and is asked nothing before all is read", function()
    ask("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    gw:advance(20)
    assert.is_true(read(LARGE + 200) > LARGE)
    assert(client:send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
    local _, tail = read(MB)
    assert.equal("\r\nok", tail)
    gone()
  end)

  it("may take longer than send_timeout as long as it reads on", function()
    ask("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    local got = 0
    for _ = 1, 3 do
      gw:advance(20)
      got = got + read(4 * MB)
    end
    assert.is_true(got + read(2 * LARGE) > LARGE)
    gone()
  end)

  -- A quarter of a megabyte every ten seconds.
  local function read_slowly(path)
    ask(("GET %s HTTP/1.1\r\nHost: a\r\n\r\n"):format(path))
    local n = 0
    while n < 12 and gw:connections() == 1 do
      n = n + 1
      read(256 * 1024)
      gw:advance(10)
      turn(2)
    end
    client:close()
    turn(5)
    gw:advance(60)
    turn(5)
    return n
  end

  it("is cut off when it reads less than send_rate", function()
    assert.is_true(read_slowly("/quick") <= 7)
    assert.equal(12, read_slowly("/large"))
    assert.equal(12, read_slowly("/any"))
  end)

  -- Opens a window of so many bytes every twenty seconds.
  local function open_slowly(path, bytes)
    ask(h2.PREFACE .. h2.settings { { 4, 10 } } .. h2.get(1, path))
    local got, n = "", 0
    while n < 6 and not got:find("\0\0\4\3\0", 1, true) do -- RST_STREAM
      n = n + 1
      assert(client:send(h2.frame("WINDOW_UPDATE", 0, 1, h2.u32(bytes))
        .. h2.frame("WINDOW_UPDATE", 0, 0, h2.u32(bytes))))
      gw.core:turn(5)
      turn(5)
      gw:advance(20)
      turn(5)
      local more, _, part = client:receive(1024 * 1024)
      got = got .. (more or part)
    end
    client:close()
    turn(5)
    return n
  end

  it("is cut off when it opens windows for less than send_rate", function()
    assert.is_true(open_slowly("/large", 100) <= 4)
    assert.equal(6, open_slowly("/large", 5000))
    assert.is_true(open_slowly("/quick", 5000) <= 4)
    assert.equal(6, open_slowly("/any", 1))
  end)

  it("is cut off after send_timeout when it does not", function()
    ask("GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    gw:advance(29)
    assert.equal(1, gw:connections())
    gw:advance(2)
    assert.equal(0, gw:connections())
    client:close()
  end)
end)
