-- SPDX-License-Identifier: Apache-2.0
--- Ten thousand routes cost a request no more than ten, within a fifth: CPU time of the worker as the
--- kernel counts it, both on one core, in rounds that alternate; the best round of each counts. Ten
--- routes are asked for, of the ten thousand those that lie a thousand apart.
local process = require("spec.support.process")

local ROUNDS, REQUESTS = 8, 2000

-- Literals, parameters and a rest; hosts, too, from the same number.
local CONFIG = [[
local routes = {}
for i = 1, %d do
  local path = i %% 3 == 0 and "/v1/literal%%d/items" or i %% 3 == 1 and "/v1/params%%d/{id}/x" or "/v1/rest%%d/*"
  routes[i] = { path = path:format(i), reply = { status = 200, body = tostring(i) } }
end
return {
  name = "routes", access_log = false, limits = { requests_per_connection = 0 },
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  sites = { { hosts = { "t.test" }, routes = routes } },
}
]]

-- One request after the other over one connection; says how many were right.
local CLIENT = [[
local socket = require("socket")
local port, count, step = tonumber(arg[1]), tonumber(arg[2]), tonumber(arg[3])
local client = assert(socket.connect("127.0.0.1", port))
local good = 0
for n = 1, count do
  local i = n % 10 * step + 1
  local path = i % 3 == 0 and "/v1/literal%d/items" or i % 3 == 1 and "/v1/params%d/7/x" or "/v1/rest%d/a/b"
  client:send(("GET " .. path .. " HTTP/1.1\r\nHost: t.test\r\n\r\n"):format(i))
  local length
  repeat
    local line = client:receive("*l")
    length = line:match("^[Cc]ontent%-[Ll]ength: (%d+)") or length
  until line == ""
  good = good + (client:receive(tonumber(length)) == tostring(i) and 1 or 0)
end
print(good)
]]

if process.binary:find("build/dev", 1, true) then
  return -- a sanitizer's time says nothing
end

describe("ten thousand routes", function()
  local few, many

  local core = process.read("/proc/self/status"):match("\nCpus_allowed_list:%s+(%d+)")

  local function start(routes)
    local gw = process.start { files = { ["gateway.lua"] = CONFIG:format(routes) }, workers = 1,
      arguments = "--no-watch", patience_s = 60, environment = "taskset -c " .. core }
    process.write(gw.root .. "/client.lua", CLIENT)
    return { gw = gw, routes = routes, pid = gw:workers()[0], best = math.huge }
  end

  setup(function()
    few, many = start(10), start(10000)
  end)

  teardown(function()
    few.gw:stop()
    if many then
      many.gw:stop()
    end
  end)

  local function cpu_ns(one)
    return tonumber(process.read(("/proc/%d/schedstat"):format(one.pid)):match("^%d+"))
  end

  local function ask(one, requests)
    local said = process.run(("luajit '%s/client.lua' %d %d %d"):format(one.gw.root,
      one.gw:port("http"), requests, one.routes / 10))
    assert.equal(requests .. "\n", said)
  end

  local function round(one, requests)
    local before = cpu_ns(one)
    ask(one, requests)
    one.best = math.min(one.best, (cpu_ns(one) - before) / requests)
  end

  it("are reloaded without a request that fails", function()
    local stop, report = many.gw.root .. "/stop", many.gw.root .. "/report.lua"
    process.run(("luajit spec/support/load.lua %d 8 '%s' '%s' /v1/literal9999/items >'%s/load.log' 2>&1 "
      .. "& echo"):format(many.gw:port("http"), stop, report, many.gw.root))
    for _ = 1, 2 do
      assert.equal(0, (select(2, many.gw:command("reload"))))
    end
    process.write(stop, "")
    assert.truthy(process.eventually(function()
      return process.read(report) ~= ""
    end, 15), process.read(many.gw.root .. "/load.log"))
    local seen = dofile(report)
    assert.same({ failed = 0, cut = 0, errors = {} },
      { failed = seen.failed, cut = seen.cut, errors = seen.errors })
    assert.is_true(seen.requests > 100, seen.requests .. " requests")
  end)

  it("cost a request no more than ten do, within a fifth", function()
    ask(few, 10) -- metrics of a route are made at its first request
    ask(many, 10)
    for _ = 1, ROUNDS do
      round(few, REQUESTS)
      round(many, REQUESTS)
    end
    local ratio = many.best / few.best
    io.write(("      %.1f us a request with 10 routes, %.1f us with 10,000: %.2f\n"):format(
      few.best / 1000, many.best / 1000, ratio))
    assert.is_true(ratio < 1.2, ("%.2f times as much"):format(ratio))
  end)
end)
