-- SPDX-License-Identifier: Apache-2.0
--- The cache in the real binary, with workers: one store, one call for concurrent misses.
local gateway = require("spec.support.gateway")

local config = [[
local p = require("moongate.policies")
local reply = require("moongate.reply")
return {
  name = "spec", workers = 2, access_log = false,
  listeners = {
    { name = "in", address = "127.0.0.1:IN" }, { name = "origin", address = "127.0.0.1:ORIGIN" },
  },
  management = { address = "127.0.0.1:MANAGEMENT" },
  cache = { bytes = 16777216 },
  backends = { origin = { targets = { "http://127.0.0.1:ORIGIN" }, retries = 0, host = "origin.test" } },
  sites = {
    { hosts = { "*" }, routes = {
      { path = "/*", backend = "origin", policies = { inbound = { p.cache {} } } },
    } },
    { hosts = { "origin.test" }, routes = {
      { path = "/*", reply = { status = 200 }, policies = { inbound = { function(ctx)
        ctx:sleep(tonumber(ctx.request.query.sleep) or 0)
        return reply.text(200, ctx.id .. "\n", {
          ["Cache-Control"] = ctx.request.query.cc or "max-age=60" })
      end } } },
    } },
  },
}
]]

local gw, port, management

setup(function()
  local origin
  port, origin, management = gateway.free_ports(3)
  local dir = gateway.run("mktemp -d /tmp/moongate-cache.XXXXXX"):match("%S+")
  local file = assert(io.open(dir .. "/gateway.lua", "w"))
  file:write((config:gsub("ORIGIN", origin):gsub("MANAGEMENT", management):gsub("IN", port)))
  file:close()
  gw = gateway.start({ from = dir, port = port })
  gateway.run("rm -rf " .. dir)
end)

teardown(function()
  if gw then
    gw:stop()
  end
end)

--- The distinct answers of `n` requests made at once, and how many of each.
local function at_once(n, path)
  local out = gateway.run(("seq %d | xargs -P %d -I{} curl -s -m 20 'http://127.0.0.1:%d%s'")
    :format(n, n, port, path))
  local answers, kinds, total = {}, 0, 0
  for line in out:gmatch("%x+") do
    kinds = kinds + (answers[line] and 0 or 1)
    answers[line] = (answers[line] or 0) + 1
    total = total + 1
  end
  return kinds, total
end

describe("the cache of several workers", function()
  it("asks the backend once for many concurrent misses", function()
    local kinds, total = at_once(30, "/once?sleep=0.7")
    assert.equal(30, total)
    assert.equal(1, kinds)
    kinds = at_once(30, "/once?sleep=0.7")
    assert.equal(1, kinds)
  end)

  it("lets all through where the answer is not kept", function()
    local kinds, total = at_once(20, "/all?sleep=0.2&cc=no-store")
    assert.equal(20, total)
    assert.equal(20, kinds)
  end)

  it("is purged for all of them at once", function()
    local path = "/purged"
    local before = at_once(1, path) and gateway.run(("curl -s http://127.0.0.1:%d%s"):format(port, path))
    gateway.run(("curl -s -X POST 'http://127.0.0.1:%d/cache/purge?all'"):format(management))
    for _ = 1, 10 do
      local after = gateway.run(("curl -s http://127.0.0.1:%d%s"):format(port, path))
      assert.is_true(after ~= before)
    end
  end)

  it("goes on when the worker that fills it is killed", function()
    gateway.run(("(sleep 0.4; curl -s http://127.0.0.1:%d/status | grep -o '\"pid\":[0-9]*' | head -1 | "
      .. "grep -o '[0-9]*' | xargs kill -KILL) >/dev/null 2>&1 & :"):format(management))
    local kinds, total = at_once(20, "/killed?sleep=1")
    assert.is_true(total >= 1 and kinds <= total)
    gateway.run("sleep 1")
    assert.equal(1, (at_once(20, "/killed?sleep=0.1")))
  end)
end)
