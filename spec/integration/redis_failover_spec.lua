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

-- What waits for something that is gone would wait for seconds; what a loaded machine makes late is not
-- taken for lost.
local PATIENT = { deadline_ms = 5000, redis = { deadline_ms = 5000 } }

describe("redis", function()
  local started, redis, nodes

  before_each(function()
    started, nodes = {}, {}
  end)

  after_each(function()
    for _, node in ipairs(nodes) do
      node:close()
    end
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

  local function start_nodes(url)
    for i = 1, 3 do
      nodes[i] = support.node(url, PATIENT)
    end
    assert.is_true(support.settle(nodes), "the nodes know one another")
  end

  --- Asks all nodes for decisions, a key after the other, until `is_done(sources)`, told by key which
  --- source decided last. Each decision has to come, and none may wait for what is gone.
  local function load_until(keys, is_done)
    local spec = support.limit { id = "load", calls = 1e9, period_s = 3600, mode = "exact" }
    local asked, decided, slowest, sources = 0, 0, 0, {}
    local before, stall = support.now_ms(), 0
    local ends = before + 30000
    while not is_done(sources) and before < ends do
      local key = "key" .. asked % keys
      local began = support.now_ms()
      asked = asked + 1
      nodes[asked % 3 + 1]:start(spec, key, function(d)
        decided = decided + 1
        assert(d.allowed, "a decision was refused")
        sources[key] = d.source
        slowest = math.max(slowest, support.now_ms() - began)
      end)
      support.net.turn(1)
      local now = support.now_ms()
      before, stall = now, math.max(stall, now - before)
    end
    assert.is_true(is_done(sources), "not within 30 s")
    support.spin_until(function()
      return decided == asked
    end)
    assert.equal(asked, decided)
    assert.is_true(slowest < 1000 + stall, ("%d ms, and the machine stood for %d"):format(slowest, stall))
  end

  local function all_are(keys, source)
    return function(sources)
      for i = 0, keys - 1 do
        if sources["key" .. i] ~= source then
          return false
        end
      end
      return true
    end
  end

  local function one_is(source)
    return function(sources)
      for _, one in pairs(sources) do
        if one == source then
          return true
        end
      end
      return false
    end
  end

  describe("Sentinel", function()
    it("that does not know the master is passed over for the next one", function()
      local master = start { tcp = true }
      local ports = {}
      for i, name in ipairs { "other", "main" } do
        ports[i] = start { tcp = true, arguments = "--sentinel",
          conf = ("sentinel monitor %s 127.0.0.1 %d 1\n"):format(name, master.port) }.port
      end
      redis = support.redis(("redis+sentinel://127.0.0.1:%d,127.0.0.1:%d/main"):format(ports[1], ports[2]),
        PATIENT.redis)
      assert.is_true(redis:ready(5000))
      assert.equal(1, select(2, redis:call { "INCR", "n" }))
    end)

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
      local url = ("redis+sentinel://127.0.0.1:1,127.0.0.1:%d,127.0.0.1:%d,127.0.0.1:%d/main")
        :format(sentinels[1].port, sentinels[2].port, sentinels[3].port)
      redis = support.redis(url, PATIENT.redis)
      assert.is_true(redis:ready())
      assert.equal(1, select(2, redis:call { "INCR", "n" }))
      assert.equal("1", master:cli("GET", "n"))
      servers.eventually(function()
        return replica:cli("GET", "n") == "1"
      end)

      start_nodes(url)
      load_until(8, all_are(8, "exact"))
      master:kill()
      load_until(8, one_is("store_down"))
      load_until(8, all_are(8, "exact"))
      local slowest, back = 0, false
      local began = support.now_ms()
      while not back and support.now_ms() - began < 20000 do
        local rc, value, _, ms, stall = redis:call { "INCR", "n" }
        slowest = math.max(slowest, ms and ms - stall or 0)
        back = rc == "ok" and value == 2
        support.spin(5)
      end
      assert.is_true(back, "served by the new master")
      assert.is_true(slowest < 1000, slowest .. " ms")
      assert.equal("2", replica:cli("GET", "n"))
    end)
  end)

  describe("Cluster", function()
    local members

    local function form()
      members = {}
      local list = {}
      for i = 1, 3 do
        members[i] = start { tcp = true,
          arguments = "--cluster-enabled yes --cluster-node-timeout 1000 "
            .. "--cluster-require-full-coverage no" }
        list[i] = "127.0.0.1:" .. members[i].port
      end
      local out = members[1]:cli("--cluster", "create", list[1], list[2], list[3], "--cluster-yes")
      assert(out:find("All 16384 slots covered"), out)
      for i = 1, 3 do
        servers.eventually(function()
          return members[i]:cli("CLUSTER", "INFO"):find("cluster_state:ok")
        end, 20, "the Cluster is formed")
      end
      return list
    end

    it("sends each key to its node, follows slots that move, and a replica that takes over", function()
      local list = form()
      redis = support.redis("redis+cluster://" .. list[2], PATIENT.redis)
      assert.is_true(redis:ready())
      local before
      servers.eventually(function() -- which slots are whose is known a moment later
        before = tonumber(redis:stats().redirects)
        for i = 1, 8 do
          redis:call { "GET", "key" .. i }
        end
        return before == tonumber(redis:stats().redirects)
      end, 10, "the slots are known")
      for i = 1, 300 do
        assert.equal("OK", select(2, redis:call { "SET", "key" .. i, i }))
      end
      assert.equal(before, tonumber(redis:stats().redirects))
      for i = 1, 3 do
        assert.is_true(tonumber((members[i]:cli("DBSIZE"):gsub("%D", ""))) > 50)
      end
      -- A slot is under way from one node to another: ASK, then MOVED.
      local slot = members[1]:cli("CLUSTER", "KEYSLOT", "{move}a")
      local from, to
      for i = 1, 3 do
        if not members[i]:cli("SET", "{move}a", "1"):find("MOVED") then
          from, to = members[i], members[i % 3 + 1]
        end
      end
      local from_id, to_id = from:cli("CLUSTER", "MYID"), to:cli("CLUSTER", "MYID")
      to:cli("CLUSTER", "SETSLOT", slot, "IMPORTING", from_id)
      from:cli("CLUSTER", "SETSLOT", slot, "MIGRATING", to_id)
      from:cli("MIGRATE", "127.0.0.1", to.port, "{move}a", "0", "1000")
      assert.equal(2, select(2, redis:call { "INCR", "{move}a" }))
      assert.equal(before + 1, tonumber(redis:stats().redirects))
      for i = 1, 3 do
        members[i]:cli("CLUSTER", "SETSLOT", slot, "NODE", to_id)
      end
      assert.equal(3, select(2, redis:call { "INCR", "{move}a" }))
      assert.equal(4, select(2, redis:call { "INCR", "{move}a" }))
      assert.equal(before + 2, tonumber(redis:stats().redirects))

      local replica = start { tcp = true,
        arguments = "--cluster-enabled yes --cluster-node-timeout 1000" }
      local id = members[1]:cli("CLUSTER", "MYID")
      local out = members[1]:cli("--cluster", "add-node", "127.0.0.1:" .. replica.port, list[1],
        "--cluster-slave", "--cluster-master-id", id)
      assert(out:find("New node added correctly"), out)
      servers.eventually(function()
        return replica:cli("INFO", "replication"):find("master_link_status:up")
      end, 20, "the replica follows its master")
      start_nodes("redis+cluster://" .. table.concat(list, ","))
      load_until(24, all_are(24, "exact")) -- keys of all three
      members[1]:kill()
      load_until(24, function(sources) -- only the slots of the node that died are lost
        local lost = 0
        for _, source in pairs(sources) do
          lost = lost + (source == "store_down" and 1 or 0)
        end
        assert.is_true(lost <= 16, lost .. " of 24 keys are lost")
        return lost >= 3
      end)
      load_until(24, all_are(24, "exact"))
      assert.equal("master", replica:cli("ROLE"):match("%a+"))
    end)
  end)

  it("cuts one node off, which counts for itself, and is one of them again when it is let in", function()
    local server = start { tcp = true }
    local function user(name, state)
      assert.equal("OK", server:cli("ACL", "SETUSER", name, state, ">word", "~*", "+@all"))
    end
    for i = 1, 3 do
      user("node" .. i, "on")
      nodes[i] = support.node(("redis://node%d:word@127.0.0.1:%d"):format(i, server.port))
    end
    assert.is_true(support.settle(nodes))
    local spec = support.limit { id = "part", calls = 300, period_s = 3600 }
    user("node3", "off")
    server:cli("CLIENT", "KILL", "USER", "node3")
    assert.is_true(support.spin_until(function()
      return nodes[3]:status().is_store_down and tonumber(nodes[1]:status().nodes) == 2
        and tonumber(nodes[2]:status().nodes) == 2
    end), "each side knows of the partition")
    local admitted = { 0, 0, 0 }
    for i = 1, 900 do
      local n = i % 3 + 1
      local d, ms, stall = nodes[n]:check(spec, "key")
      admitted[n] = admitted[n] + (d.allowed and 1 or 0)
      assert.is_true(ms - stall < 200, ms .. " ms")
      if i % 3 == 0 then
        support.spin(2)
      end
    end
    -- The two have the limit to themselves; the third no more than its part of three.
    local two = admitted[1] + admitted[2]
    assert.is_true(two >= 290 and two <= 320, two .. " admitted by two")
    assert.is_true(admitted[3] <= 100, admitted[3] .. " admitted by the third")
    user("node3", "on")
    assert.is_true(support.settle(nodes), "the partition heals")
    support.spin(200)
    for n = 1, 3 do
      nodes[n]:check(spec, "key")
    end
    support.spin(100)
    for n = 1, 3 do
      local d = nodes[n]:check(spec, "key")
      assert.is_false(d.allowed)
      assert.equal("shared", d.source)
    end
  end)
end)
