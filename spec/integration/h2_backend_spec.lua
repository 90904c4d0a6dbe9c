-- SPDX-License-Identifier: Apache-2.0
--- HTTP/2 to backends, against Node's own implementation.

local gateway = require("spec.support.gateway")
local nodes = require("spec.support.node")


local CONFIG = [[
return {
  name = "spec", workers = 0,
  listeners = { { name = "http", address = "127.0.0.1:8080" } },
  backends = {
    origin = { targets = { "http://127.0.0.1:8081" }, protocol = "h2", keepalive = { idle_timeout = 30 } },
  },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
}
]]

describe("HTTP/2 to a backend", function()
  local gw, port, origin, dir

  if not (nodes.has({}) and gateway.is_there()) then
    pending("needs node and a built gateway")
    return
  end

  setup(function()
    dir = gateway.run("mktemp -d /tmp/moongate-spec.XXXXXX"):match("%S+")
    local text
    origin, text = nodes.start("h2_origin", "%d\n")
    local origin_port = text:match("%d+")
    local from = dir .. "/config"
    gateway.run("mkdir -p '" .. from .. "'")
    local file = assert(io.open(from .. "/gateway.lua", "wb"))
    file:write(CONFIG)
    file:close()
    port = gateway.free_ports(1)
    gw = gateway.start({ from = from, port = port,
      replace = { ["8080"] = tostring(port), ["8081"] = origin_port } })
  end)

  teardown(function()
    if gw then
      gw:stop()
    end
    gateway.run(("kill %d; rm -rf '%s'"):format(origin or 0, dir))
  end)

  local function curl(arguments)
    return gateway.run(("curl -s -m 10 %s"):format((arguments:gsub("@", "http://127.0.0.1:" .. port))))
  end

  it("carries a request and its answer", function()
    assert.equal("hello", (curl("@/hello")))
    assert.equal("some data", (curl("-d 'some data' @/echo")))
  end)

  it("carries trailers, and says that it takes them", function()
    local text = curl("--raw -i -H 'content-type: application/grpc' @/trailers")
    assert.matches("grpc%-status: 0\r\nx%-te: trailers", text)
  end)

  it("carries bodies larger than every window, whole", function()
    local sum = curl("@/big | md5sum")
    assert.equal(sum, (gateway.run("head -c 4194304 /dev/zero | tr '\\0' a | md5sum")))
    gateway.run(("head -c 3000000 /dev/urandom >'%s/random'"):format(dir))
    assert.equal((gateway.run(("md5sum <'%s/random'"):format(dir))),
      (curl(("-X POST -T '%s/random' @/echo | md5sum"):format(dir))))
  end)

  it("sends again what the backend refused unseen", function()
    assert.equal("hello", (curl("@/refuse")))
  end)

  it("goes on elsewhere after GOAWAY", function()
    assert.equal("last", (curl("@/goaway")))
    for _ = 1, 3 do
      assert.equal("hello", (curl("@/hello")))
    end
  end)

  it("does not let a cut answer look whole", function()
    local _, status = curl("@/reset")
    assert.is_true(status ~= 0)
  end)

  it("shares connections between calls, within the backend's limit of streams", function()
    local before = tonumber((curl("@/sessions")))
    local requests = {}
    for i = 1, 50 do
      requests[i] = "-o /dev/null @/slow"
    end
    curl("-Z --parallel-immediate --parallel-max 50 " .. table.concat(requests, " "))
    local made = tonumber((curl("@/sessions"))) - before
    assert.is_true(made <= 4, "connections: " .. made) -- 20 streams each
  end)
end)
