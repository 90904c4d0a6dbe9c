-- SPDX-License-Identifier: Apache-2.0
--- Limits shared by two gateways over a real Redis, which dies and comes back.
local clock = require("moongate.clock")
local moongate = require("moongate.test")

local dir

local config = [[
local p = require("moongate.policies")
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  management = { address = "127.0.0.1:0" },
  redis = { url = "unix:%s/redis.sock", timeout = 10 }, -- a late answer would be decided without the store
  backends = { origin = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/exact", backend = "origin", policies = { inbound = {
      p.rate_limit { calls = 10, period = 60, mode = "exact", key = "client_ip" } } } },
    { path = "/shared", backend = "origin", policies = { inbound = {
      p.rate_limit { calls = 20, period = 60, key = "client_ip" } } } },
    { path = "/deny", backend = "origin", policies = { inbound = {
      p.rate_limit { calls = 10, period = 60, mode = "exact", store_down = "deny", key = "client_ip" } } } },
    { path = "/allow", backend = "origin", policies = { inbound = {
      p.rate_limit { calls = 1, period = 60, mode = "exact", store_down = "allow", key = "client_ip" } } } },
  } } },
}
]]

local function redis(command)
  return os.execute(("cd %s && %s >/dev/null 2>&1"):format(dir, command)) == 0
end

local function start_redis()
  assert.is_true(redis("redis-server --port 0 --unixsocket redis.sock --save '' --appendonly no --daemonize yes "
    .. "--pidfile " .. dir .. "/redis.pid --dir " .. dir))
  for _ = 1, 100 do
    if redis("redis-cli -s redis.sock ping") then
      return
    end
    os.execute("sleep 0.05")
  end
  error("redis-server does not answer")
end

local function start_gateway()
  return moongate.gateway({
    files = { ["gateway.lua"] = config:format(dir) },
    backends = { origin = function()
      return 200, {}, "ok"
    end },
  })
end

--- Lets both gateways go on for a time: connecting, flushing.
local function pass(gateways, seconds)
  local till = clock.monotonic() + seconds
  while clock.monotonic() < till do
    gateways[1].core:turn(5)
  end
end

--- Lets both go on until each knows that it shares the store with the other.
local function become_two(gateways)
  for _ = 1, 200 do
    pass(gateways, 0.05)
    local are_two = true
    for _, gateway in ipairs(gateways) do
      local status = gateway:get("/status", { listener = "management" }).body
      are_two = are_two and status:find('"is_down":false,"nodes":2', 1, true)
    end
    if are_two then
      return
    end
  end
  error("the gateways never share the store")
end

--- Long enough for a flush of each, every 50 ms, and its answer: counted in turns, as the machine may stand.
local function flush(gateways)
  for _ = 1, 30 do
    gateways[1].core:turn(5)
  end
end

local function admitted(gateways, path, calls)
  local n = 0
  for i = 1, calls do
    if gateways[i % #gateways + 1]:get(path).status == 200 then
      n = n + 1
    end
  end
  return n
end

describe("rate_limit over Redis", function()
  local gateways

  setup(function()
    dir = os.tmpname()
    os.remove(dir)
    assert(os.execute("mkdir -p " .. dir) == 0)
    start_redis()
    gateways = { start_gateway(), start_gateway() }
    become_two(gateways)
  end)

  teardown(function()
    for _, gateway in ipairs(gateways or {}) do
      gateway:close()
    end
    redis("kill -9 $(cat redis.pid)")
    os.execute("rm -rf " .. dir)
  end)

  it("admits exactly the limit through two gateways in exact mode", function()
    assert.equal(10, admitted(gateways, "/exact", 30))
  end)

  it("shares the limit by default where a Redis is configured", function()
    local n = 0
    for _ = 1, 12 do
      local new = admitted(gateways, "/shared", 4)
      n = n + new
      if new > 0 then
        flush(gateways)
      end
    end
    assert.is_true(n >= 20 and n <= 24, n .. " were admitted")
  end)

  describe("that dies", function()
    setup(function()
      redis("kill -9 $(cat redis.pid)")
      redis("rm -f redis.sock")
      pass(gateways, 0.1)
    end)

    it("goes on by store_down, and no request waits for it", function()
      for _, path in ipairs({ "/exact", "/shared", "/allow", "/deny" }) do
        for i = 1, 4 do
          local started = clock.monotonic()
          local status = gateways[i % 2 + 1]:get(path).status
          assert.is_true(clock.monotonic() - started < 5, path .. " waited")
          if path == "/allow" then
            assert.equal(200, status)
          elseif path == "/deny" then
            assert.equal(503, status)
          end
        end
      end
    end)

    it("is shared again after it came back", function()
      start_redis()
      become_two(gateways)
      local one, other = gateways[1]:get("/deny").status, gateways[2]:get("/deny").status
      assert.same({ 200, 200 }, { one, other })
      assert.equal(8, admitted(gateways, "/deny", 12))
    end)
  end)
end)
