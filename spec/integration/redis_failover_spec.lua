-- SPDX-License-Identifier: Apache-2.0
jit.off(true, true)
local servers = require("spec.support.redis")

if not servers.is_there() then
  describe("redis fail-over", function()
    pending("needs redis-server")
  end)
  return
end

local support = require("spec.integration.redis_support")

describe("redis", function()
  local started, redis

  before_each(function()
    started = {}
  end)

  after_each(function()
    if redis then
      redis:close()
      redis = nil
    end
    support.close()
    for _, server in ipairs(started) do
      server:stop()
    end
  end)

  local function start(options)
    local server = servers.start(options)
    started[#started + 1] = server
    return server
  end

  describe("Sentinel", function()
    it("names the master, and the new one after it has died", function()
      local master = start { tcp = true }
      local replica = start { tcp = true,
        arguments = "--replicaof 127.0.0.1 " .. master.port .. " --repl-diskless-sync-delay 0" }
      local sentinels = {}
      for i = 1, 3 do
        sentinels[i] = start { tcp = true, arguments = "--sentinel",
          conf = ("sentinel monitor main 127.0.0.1 %d 2\n"
            .. "sentinel down-after-milliseconds main 500\n"
            .. "sentinel failover-timeout main 3000\n"):format(master.port) }
      end
      servers.eventually(function()
        return replica:cli("INFO", "replication"):find("master_link_status:up")
          and sentinels[1]:cli("SENTINEL", "CKQUORUM", "main"):find("^OK 3")
          and sentinels[1]:cli("SENTINEL", "REPLICAS", "main"):find(tostring(replica.port))
      end, 20, "the Sentinels know one another")
      redis = support.redis(("redis+sentinel://127.0.0.1:1,127.0.0.1:%d,127.0.0.1:%d,"
        .. "127.0.0.1:%d/main"):format(sentinels[1].port, sentinels[2].port, sentinels[3].port))
      assert.is_true(redis:ready(5000))
      assert.equal(1, select(2, redis:call { "INCR", "n" }))
      assert.equal("1", master:cli("GET", "n"))
      servers.eventually(function()
        return replica:cli("GET", "n") == "1"
      end)

      master:kill()
      local slowest, back = 0, false
      local began = support.now_ms()
      while not back and support.now_ms() - began < 20000 do
        local rc, value, _, ms = redis:call { "INCR", "n" }
        slowest = math.max(slowest, ms or 0)
        back = rc == "ok" and value == 2
        support.spin(5)
      end
      assert.is_true(back, "served by the new master")
      assert.is_true(slowest < 60, slowest .. " ms")
      assert.equal("2", replica:cli("GET", "n"))
    end)
  end)

  describe("Cluster", function()
    local nodes

    local function form()
      nodes = {}
      local list = {}
      for i = 1, 3 do
        nodes[i] = start { tcp = true,
          arguments = "--cluster-enabled yes --cluster-node-timeout 1000 "
            .. "--cluster-require-full-coverage no" }
        list[i] = "127.0.0.1:" .. nodes[i].port
      end
      local out = nodes[1]:cli("--cluster", "create", list[1], list[2], list[3], "--cluster-yes")
      assert(out:find("All 16384 slots covered"), out)
      for i = 1, 3 do
        servers.eventually(function()
          return nodes[i]:cli("CLUSTER", "INFO"):find("cluster_state:ok")
        end, 20, "the Cluster is formed")
      end
      return list
    end

    it("sends each key to its node, and follows slots that move", function()
      local list = form()
      redis = support.redis("redis+cluster://" .. list[2])
      assert.is_true(redis:ready(5000))
      support.spin(300)
      local before = tonumber(redis:stats().redirects)
      for i = 1, 300 do
        assert.equal("OK", select(2, redis:call { "SET", "key" .. i, i }))
      end
      assert.equal(before, tonumber(redis:stats().redirects))
      for i = 1, 3 do
        assert.is_true(tonumber((nodes[i]:cli("DBSIZE"):gsub("%D", ""))) > 50)
      end
      -- A slot is under way from one node to another: ASK, then MOVED.
      local slot = nodes[1]:cli("CLUSTER", "KEYSLOT", "{move}a")
      local from, to
      for i = 1, 3 do
        if not nodes[i]:cli("SET", "{move}a", "1"):find("MOVED") then
          from, to = nodes[i], nodes[i % 3 + 1]
        end
      end
      local from_id, to_id = from:cli("CLUSTER", "MYID"), to:cli("CLUSTER", "MYID")
      to:cli("CLUSTER", "SETSLOT", slot, "IMPORTING", from_id)
      from:cli("CLUSTER", "SETSLOT", slot, "MIGRATING", to_id)
      from:cli("MIGRATE", "127.0.0.1", to.port, "{move}a", "0", "1000")
      assert.equal(2, select(2, redis:call { "INCR", "{move}a" }))
      assert.equal(before + 1, tonumber(redis:stats().redirects))
      for i = 1, 3 do
        nodes[i]:cli("CLUSTER", "SETSLOT", slot, "NODE", to_id)
      end
      assert.equal(3, select(2, redis:call { "INCR", "{move}a" }))
      assert.equal(4, select(2, redis:call { "INCR", "{move}a" }))
      assert.equal(before + 2, tonumber(redis:stats().redirects))
    end)

    it("loses only the slots of a node that dies", function()
      local list = form()
      redis = support.redis("redis+cluster://" .. table.concat(list, ","))
      assert.is_true(redis:ready(5000))
      support.spin(300)
      nodes[1]:kill()
      support.spin(100)
      local served, slowest = 0, 0
      for i = 1, 200 do
        local rc, _, is_error, ms = redis:call { "SET", "key" .. i, i }
        served = served + (rc == "ok" and not is_error and 1 or 0)
        slowest = math.max(slowest, ms or 0)
      end
      assert.is_true(served > 100 and served < 180, served .. " served")
      assert.is_true(slowest < 60, slowest .. " ms")
    end)
  end)
end)
