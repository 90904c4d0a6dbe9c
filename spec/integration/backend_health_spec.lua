-- SPDX-License-Identifier: Apache-2.0
--- Health with several workers: one of them probes for all, all see the same, with the reason in /status,
--- and a reload forgets nothing.
local process = require("spec.support.process")
local socket = require("socket")

local CONFIG = [[
return {
  name = "healthy", access_log = false,
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  management = { address = "127.0.0.1:0" },
  backends = { origin = { targets = { "http://127.0.0.1:%d" }, retries = 0, panic = 0,
    health = { path = "/alive", interval = 0.5, timeout = 0.5, healthy = 1, unhealthy = 2 } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
}
]]

-- Counts the probes that it has answered, and tells; /sick has them fail from then on, /well succeed.
local ORIGIN = [[
local socket = require("socket")
local server = assert(socket.bind("127.0.0.1", tonumber(arg[1])))
local probes, status = 0, 200
while true do
  local client = server:accept()
  client:settimeout(2)
  local path = (client:receive("*l") or ""):match("^%u+ (%S+)")
  repeat
    local line = client:receive("*l")
  until not line or line == ""
  if path == "/alive" then
    probes = probes + 1
  elseif path == "/sick" then
    status = 503
  elseif path == "/well" then
    status = 200
  end
  local body = tostring(probes)
  client:send(("HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s")
    :format(path == "/alive" and status or 200, #body, body))
  client:close()
end
]]

describe("health that workers share", function()
  local gw, origin_port, origin_pid, script

  setup(function()
    local held = assert(socket.bind("127.0.0.1", 0))
    origin_port = tonumber((select(2, held:getsockname())))
    held:close()
    script = process.run("mktemp /tmp/moongate-origin.XXXXXX"):match("%S+")
    local file = assert(io.open(script, "w"))
    file:write(ORIGIN)
    file:close()
    origin_pid = process.run(("luajit '%s' %d >/dev/null 2>&1 & echo $!"):format(script, origin_port)):match("%d+")
    assert.truthy(process.eventually(function()
      local client = socket.connect("127.0.0.1", origin_port)
      return client and client:close()
    end))
    gw = process.start { files = { ["gateway.lua"] = CONFIG:format(origin_port) }, workers = 3 }
  end)

  teardown(function()
    if gw then
      gw:stop()
    end
    if origin_pid then
      process.run("kill " .. origin_pid)
    end
    os.remove(script)
  end)

  local function origin(path)
    return (select(2, process.get(origin_port, path)))
  end

  local function target()
    local _, body = process.get(gw:port("management"), "/status")
    return body:match('"targets":%[{.-"state":"(%a+)"'), body:match('"targets":%[{[^}]-"reason":"([^"]*)"')
  end

  -- Fresh connections, so that all workers are asked.
  local function statuses()
    local seen = {}
    for _ = 1, 12 do
      seen[process.get(gw:port("http"), "/x") or 0] = true
    end
    return seen
  end

  it("is probed by one worker for all", function()
    assert.truthy(process.eventually(function()
      return target() == "up"
    end))
    local before, began = tonumber(origin("/count")), socket.gettime()
    socket.sleep(2)
    local rate = (tonumber(origin("/count")) - before) / (socket.gettime() - began)
    assert.is_true(rate > 0.4 and rate < 3.1, rate .. " probes a second; one worker sends two, three send six")
  end)

  it("is the same for all workers, and tells why", function()
    assert.same({ [200] = true }, statuses())
    origin("/sick")
    assert.truthy(process.eventually(function()
      return target() == "down"
    end))
    assert.same({ [503] = true }, statuses())
    assert.matches("probe: status 503", (select(2, target())))
  end)

  it("survives a reload", function()
    gw:signal("HUP")
    assert.truthy(process.eventually(function()
      local _, body = process.get(gw:port("management"), "/status")
      return body:find('"generation":2', 1, true)
    end))
    assert.equal("down", (target()))
    assert.same({ [503] = true }, statuses())
  end)

  it("comes back for all workers", function()
    origin("/well")
    assert.truthy(process.eventually(function()
      return target() == "up"
    end))
    assert.same({ [200] = true }, statuses())
  end)
end)
