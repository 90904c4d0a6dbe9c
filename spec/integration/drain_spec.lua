-- SPDX-License-Identifier: Apache-2.0
--- What a worker that ends still does, when no client is there any more: it sends what policies gave it to
--- send, and the copies for mirrors, within drain_timeout.
local process = require("spec.support.process")
local socket = require("socket")

local CONFIG = [[
local p = require("moongate.policies")
return {
  name = "spec", workers = WORKERS,
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  limits = { drain_timeout = DRAIN },
  backends = {
    events = { targets = { "http://127.0.0.1:PORT" }, limits = { connections = 1 }, keepalive = { idle_timeout = 60 } },
    mirrored = { targets = { "http://127.0.0.1:ORIGIN" }, mirror = { backend = "events" } },
  },
  sites = { { hosts = { "*" }, routes = {
    { path = "/send", reply = { status = 200 }, policies = { inbound = { function(ctx)
      ctx.http:send { backend = "events", path = "/sent", method = "POST", body = "x" }
    end } } },
    { path = "/event", reply = { status = 200 }, policies = { inbound = {
      p.log_event { value = "v", http = { backend = "events", path = "/event" } } } } },
    { path = "/mirrored", backend = "mirrored" } } } },
}
]]

describe("a worker that ends", function()
  local gw, events, origin

  local function listen()
    local listener = assert(socket.bind("127.0.0.1", 0))
    listener:settimeout(20)
    return listener, tonumber((select(2, listener:getsockname())))
  end

  local function start(workers, drain)
    local port, origin_port
    events, port = listen()
    origin, origin_port = listen()
    gw = process.start { files = { ["gateway.lua"] = CONFIG:gsub("PORT", port):gsub("ORIGIN", origin_port)
      :gsub("DRAIN", drain):gsub("WORKERS", workers) } }
  end

  after_each(function()
    gw:stop()
    events:close()
    origin:close()
  end)

  local function read_head(conn)
    local line = assert(conn:receive("*l"))
    repeat
      local field = assert(conn:receive("*l"))
      local length = tonumber(field:match("^Content%-Length: (%d+)"))
      if field == "" and line:find("^POST") then
        conn:receive(1)
      end
      assert(not length or length <= 1)
    until field == ""
    return line:match("^%S+ (%S+)")
  end

  local ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

  --- One request of each kind; the first has the only connection, the others wait for it.
  local function ask()
    assert.equal(200, (process.get(gw:port("http"), "/send")))
    local conn = events:accept()
    conn:settimeout(20)
    assert.equal("/sent", read_head(conn))
    assert.equal(200, (process.get(gw:port("http"), "/event")))
    local client = assert(socket.connect("127.0.0.1", gw:port("http")))
    client:send("GET /mirrored HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    local to_origin = origin:accept()
    to_origin:settimeout(20)
    read_head(to_origin)
    to_origin:send(ANSWER)
    assert.matches("^HTTP/1.1 200", (client:receive("*a")))
    client:close()
    to_origin:close()
    return conn
  end

  for what, workers in pairs { ["of a supervisor"] = 1, ["that is alone"] = 0 } do
    it(what .. " sends what policies and mirrors have to send, and then ends", function()
      start(workers, 15)
      local conn = ask()
      gw:signal("TERM")
      local seen = {}
      socket.sleep(0.2)
      for i = 1, 2 do
        conn:send(ANSWER)
        seen[i] = read_head(conn)
      end
      assert.same({ "/event", "/mirrored" }, seen)
      conn:send(ANSWER)
      assert.truthy(process.eventually(function()
        return not gw:is_running()
      end, 10))
      conn:close()
      assert.not_matches("after drain_timeout", gw:log())
    end)
  end

  it("does not wait for them past drain_timeout, and says so", function()
    start(1, 1)
    local conn = ask()
    gw:signal("TERM")
    assert.truthy(process.eventually(function()
      return not gw:is_running()
    end, 10))
    conn:close()
    assert.matches("3 requests and events of policies, or copies for mirrors, have no answer after drain_timeout",
      gw:log())
  end)
end)
