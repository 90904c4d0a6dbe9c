-- SPDX-License-Identifier: Apache-2.0
--- Limits on connections, and those that wait for one: the gateway is its own slow origin.

local gateway = require("spec.support.gateway")

local CONFIG = [[
return {
  name = "spec", workers = 0,
  listeners = { { name = "http", address = "127.0.0.1:8080" } },
  backends = {
    queued = { targets = { "http://127.0.0.1:8080" }, host = "origin.test",
      limits = { connections = 2, pending = 100, pending_timeout = 5 } },
    short = { targets = { "http://127.0.0.1:8080/a" }, host = "origin.test", tls = { sni = "short" },
      limits = { connections = 2, pending = 2, pending_timeout = 5 } },
    hasty = { targets = { "http://127.0.0.1:8080/b" }, host = "origin.test", tls = { sni = "hasty" },
      limits = { connections = 2, pending = 100, pending_timeout = 0.9 } },
    few = { targets = { "http://127.0.0.1:8080/c" }, host = "origin.test", tls = { sni = "few" },
      limits = { requests = 3 } },
  },
  sites = {
    { hosts = { "origin.test" },
      -- Where it is counted who comes meanwhile, it takes long enough for all to come.
      policies = { inbound = { function(ctx) ctx:sleep(ctx.request.path == "/queued" and 0.1 or 0.6) end } },
      routes = { { path = "/*", reply = { status = 200, body = "slow" } } } },
    { hosts = { "*" }, routes = {
      { path = "/queued", backend = "queued" }, { path = "/short", backend = "short" },
      { path = "/hasty", backend = "hasty" }, { path = "/few", backend = "few" } } },
  },
}
]]

describe("a backend with few connections", function()
  local gw, port, dir

  if not gateway.is_there() then
    pending("needs a built gateway")
    return
  end

  setup(function()
    dir = gateway.run("mktemp -d /tmp/moongate-spec.XXXXXX"):match("%S+")
    local file = assert(io.open(dir .. "/gateway.lua", "wb"))
    file:write(CONFIG)
    file:close()
    port = gateway.free_ports(1)
    gw = gateway.start({ from = dir, port = port, replace = { ["8080"] = tostring(port) } })
  end)

  teardown(function()
    gw:stop()
    gateway.run("rm -rf '" .. dir .. "'")
  end)

  --- Statuses of `n` requests at once, and how long all took.
  local function at_once(path, n)
    local socket = require("socket")
    local urls = {}
    for i = 1, n do
      urls[i] = ("-o /dev/null http://127.0.0.1:%d%s"):format(port, path)
    end
    local started = socket.gettime()
    local text = gateway.run("curl -s -Z --parallel-immediate --parallel-max 50 -w '%{stdout}status:%{http_code}\\n' "
      .. table.concat(urls, " "))
    local count = {}
    for status in text:gmatch("status:(%d+)") do
      count[tonumber(status)] = (count[tonumber(status)] or 0) + 1
    end
    return count, socket.gettime() - started
  end

  it("has the others wait, and serves all", function()
    local count, seconds = at_once("/queued", 10)
    assert.same({ [200] = 10 }, count)
    assert.is_true(seconds > 0.45, "took " .. seconds) -- two at a time
  end)

  it("refuses those that the queue does not hold", function()
    local count = at_once("/short", 10)
    assert.same({ [200] = 4, [503] = 6 }, count)
    assert.matches('"error":"queue_full"', gw:log())
  end)

  it("refuses those that have waited long enough", function()
    local count = at_once("/hasty", 10)
    assert.same({ [200] = 4, [503] = 6 }, count)
    assert.matches('"error":"queue_timeout"', gw:log())
  end)

  it("bounds the requests in flight", function()
    local count = at_once("/few", 10)
    assert.same({ [200] = 3, [503] = 7 }, count)
    assert.matches('"error":"overload"', gw:log())
  end)
end)
