-- SPDX-License-Identifier: Apache-2.0
--- Backends by name: several addresses, service names that move.

local gateway = require("spec.support.gateway")
local nodes = require("spec.support.node")
local process = require("spec.support.process")
local socket = require("socket")


local CONFIG = [[
return {
  name = "spec", workers = 0,
  dns = { servers = { "127.0.0.1:5353" } },
  listeners = { { name = "http", address = "127.0.0.1:8080" } },
  backends = {
    two = { targets = { "http://two.test:8081" }, retries = 0, keepalive = { idle = 0 } },
    silent = { targets = { "http://silent.test:8081" }, retries = 0, keepalive = { idle = 0 },
      timeout = { connect = 5 } },
    service = { targets = { { url = "http://_http._tcp.api.test", srv = true } } },
    h2 = { targets = { { url = "http://_http._tcp.h2.test", srv = true } }, protocol = "h2" },
  },
  sites = { { hosts = { "*" }, routes = {
    { path = "/two", backend = "two" }, { path = "/silent", backend = "silent" },
    { path = "/h2/*", backend = "h2" },
    { path = "/*", backend = "service" } } } },
}
]]

describe("a backend by name", function()
  local gw, port, dir, node, origin

  if not (nodes.has({}) and gateway.is_there()) then
    pending("needs node and a built gateway")
    return
  end

  setup(function()
    dir = gateway.run("mktemp -d /tmp/moongate-spec.XXXXXX"):match("%S+")
    local text
    node, text = nodes.start("names", "second")
    origin = tonumber(text:match("origin=(%d+)"))
    gateway.run("mkdir -p '" .. dir .. "/config'")
    local file = assert(io.open(dir .. "/config/gateway.lua", "wb"))
    file:write(CONFIG)
    file:close()
    port = gateway.free_ports(1)
    gw = gateway.start({ from = dir .. "/config", port = port, replace = { ["8080"] = tostring(port),
      ["8081"] = text:match("origin=(%d+)"), ["5353"] = text:match("dns=(%d+)") } })
  end)

  teardown(function()
    if gw then
      gw:stop()
    end
    gateway.run(("kill %d; rm -rf '%s'"):format(node or 0, dir))
  end)

  local function get(path)
    return (gateway.run(("curl -s -m 10 http://127.0.0.1:%d%s"):format(port, path)))
  end

  it("is reached at its next address where the first refuses, within one try", function()
    for _ = 1, 6 do
      assert.equal("origin", get("/two"))
    end
  end)

  it("is reached at its next address where the first is silent, long before the deadline (RFC 8305)", function()
    -- A queue of one that is full: the kernel drops what comes to it.
    local hole = assert(socket.tcp4())
    assert(hole:bind("127.0.0.8", origin))
    assert(hole:listen(0))
    local full = {}
    for i = 1, 4 do
      full[i] = socket.tcp4()
      full[i]:settimeout(0)
      full[i]:connect("127.0.0.8", origin)
    end
    for _ = 1, 2 do -- each address has its turn to be the first
      local began = socket.gettime()
      assert.equal("origin", get("/silent"))
      assert.is_true(socket.gettime() - began < 4.5, "waited for the silent address")
    end
    for _, one in ipairs(full) do
      one:close()
    end
    hole:close()
  end)

  it("has the targets of its SRV records, and follows them", function()
    local seen = {}
    for _ = 1, 6 do
      seen[get("/")] = true
    end
    assert.same({ first = true, second = true }, seen)
    get("/move")
    assert.truthy(process.eventually(function()
      for _ = 1, 6 do
        if get("/") ~= "second" then
          return false
        end
      end
      return true
    end))
  end)

  it("over HTTP/2 ends what a target has begun that its SRV records name no more", function()
    assert.equal("h2first", get("/h2/one"))
    local file = io.popen(("curl -s -m 10 http://127.0.0.1:%d/h2/slow"):format(port))
    gateway.run("sleep 0.3")
    get("/h2/move")
    gateway.run("sleep 1.6")
    assert.equal("h2second", get("/h2/one"))
    assert.equal("slowly h2first", file:read("*a")) -- and its connection goes with it
    file:close()
    assert.equal("h2second", get("/h2/one"))
    assert.is_true(gw:is_running())
  end)
end)
