-- SPDX-License-Identifier: Apache-2.0
--- The cache of three nodes that share a Redis: what one has stored the others give, and a purge reaches
--- all, also those that could not reach Redis meanwhile.
local gateway = require("spec.support.gateway")
local json = require("cjson")
local servers = require("spec.support.redis")
local socket = require("socket")

if not servers.is_there() then
  describe("the cache shared by nodes", function()
    pending("needs redis-server")
  end)
  return
end

local origin_config = [[
local reply = require("moongate.reply")
return {
  name = "origin", workers = 1, access_log = false,
  listeners = { { name = "in", address = "127.0.0.1:PORT" } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/*", reply = { status = 200 }, policies = { inbound = { function(ctx)
      local q = ctx.request.query
      if q.status then return reply.text(tonumber(q.status), "", {}) end
      ctx:sleep(tonumber(q.sleep) or 0)
      return reply.text(200, ctx.id .. (" x"):rep(tonumber(q.size) or 0), {
        ["Cache-Control"] = q.cc or "max-age=60", Vary = q.vary, ["X-Tag"] = "1" })
    end } } },
  } } },
}
]]

local node_config = [[
local p = require("moongate.policies")
local reply = require("moongate.reply")
return {
  name = "node", workers = 1, access_log = false,
  listeners = { { name = "in", address = "127.0.0.1:PORT" } },
  management = { address = "127.0.0.1:MANAGEMENT" },
  redis = { url = "URL", timeout = TIMEOUT USER },
  cache = { bytes = 16777216, store = "redis", object_bytes = 65536, when_cut_off = "DOUBT" },
  backends = { origin = { targets = { "http://127.0.0.1:ORIGIN" }, retries = 0 } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/values/{name}", reply = { status = 200 }, policies = { inbound = { function(ctx)
      local q, name = ctx.request.query, ctx.request.params.name
      if q.set then
        ctx.cache:set(name, { value = q.set }, tonumber(q.ttl))
      elseif q.delete then
        ctx.cache:delete(name)
      elseif q.fetch then
        return reply.text(200, ctx.cache:fetch(name, { ttl = 60, compute = function() return ctx.id end }))
      end
      local value = ctx.cache:get(name)
      return reply.text(200, value and value.value or "nothing")
    end } } },
    { path = "/local/*", backend = "origin", policies = { inbound = { p.cache { store = "local" } } } },
    { path = "/*", backend = "origin", policies = { inbound = { p.cache { tags = { "all" } } } } },
  } } },
}
]]

local function start(text, replace, environment)
  local dir = gateway.run("mktemp -d /tmp/moongate-cache.XXXXXX"):match("%S+")
  local file = assert(io.open(dir .. "/gateway.lua", "w"))
  file:write((text:gsub("%u%u%u+", replace)))
  file:close()
  local gw = gateway.start({ from = dir, port = replace.PORT, environment = environment })
  gateway.run("rm -rf " .. dir)
  return gw
end

local server, origin, origin_port, nodes
local timeout_s = 10 -- a late answer would be a miss

local function start_node(url, when_cut_off, user, environment)
  local port, management = gateway.free_ports(2)
  return { port = port, management = management, gw = start(node_config, { PORT = port,
    MANAGEMENT = management, ORIGIN = origin_port, URL = url, DOUBT = when_cut_off or "serve", USER = user or "",
    TIMEOUT = timeout_s }, environment) }
end

local function get(node, path, more)
  local out = gateway.run(("curl -s -i -m 10 -H 'Host: api.test' %s 'http://127.0.0.1:%d%s'"):format(more or "",
    nodes[node].port, path))
  return out:match("\r\n\r\n(.*)$"), out:match("[Cc]ache%-[Ss]tatus: ([^\r]*)") or out
end

local function objects()
  return select(2, server:cli("--raw", "KEYS", "moongate:cache:o:*"):gsub("[^\n]+", ""))
end

--- Has a node ask for what none has yet, and waits until the store has it: the node does not.
local function store(node, path)
  local before = objects()
  local body, how = get(node, path)
  servers.eventually(function()
    return objects() > before
  end, 10, path .. " is stored")
  return body, how
end

local function purge(node, what)
  return gateway.run(("curl -s -X POST 'http://127.0.0.1:%d/cache/purge?%s'"):format(
    nodes[node].management, what))
end

--- The figures of a node's second tier.
local function tier(node)
  local out = gateway.run(("curl -s 'http://127.0.0.1:%d/status'"):format(nodes[node].management))
  return json.decode(out:match("{.*}")).cache.tier
end

local settled = 0

--- Waits until the nodes share what they store. Each time by a path that none of them has: they would
--- not ask.
local function settle()
  servers.eventually(function()
    settled = settled + 1
    local path = "/settled/" .. settled
    local body = get(1, path)
    return body == get(2, path) and body == get(3, path)
  end, 10, "the nodes share what they store")
end

setup(function()
  server = servers.start()
  nodes = {}
  origin_port = gateway.free_ports(1)
  origin = start(origin_config, { PORT = origin_port })
  for i = 1, 3 do
    nodes[i] = start_node(server.url)
  end
  settle()
end)

teardown(function()
  for _, node in ipairs(nodes or {}) do
    node.gw:stop()
  end
  if origin then
    origin:stop()
  end
  if server then
    server:stop()
  end
end)

describe("a response that one node has stored", function()
  it("is given by the others, with its age", function()
    local first, status = store(1, "/a")
    assert.equal("moongate; fwd=uri-miss; fwd-status=200; stored", status)
    gateway.run("sleep 1.1")
    for node = 2, 3 do
      local body, how = get(node, "/a")
      assert.equal(first, body)
      assert.is_truthy(how:find("^moongate; hit; ttl=5%d; detail=shared$"), how)
      assert.is_truthy(select(2, get(node, "/a")):find("hit; ttl=5%d$"))
    end
  end)

  it("is given to whom its Vary allows", function()
    local one = get(1, "/v?vary=Foo", "-H 'Foo: 1, 2'")
    local two = get(1, "/v?vary=Foo", "-H 'Foo: 2'")
    gateway.run("sleep 0.2") -- until the store has both
    assert.is_true(one ~= two)
    assert.equal(two, (get(2, "/v?vary=Foo", "-H 'Foo: 2'")))
    assert.equal(one, (get(2, "/v?vary=Foo", "-H 'Foo: 1,2'")))
    local three, how = get(2, "/v?vary=Foo")
    assert.is_true(three ~= one and three ~= two)
    assert.is_truthy(how:find("fwd=vary-miss", 1, true), how)
  end)

  it("gives ranges too", function()
    local whole = store(1, "/range?size=2000")
    assert.equal(whole:sub(11, 20), (get(2, "/range?size=2000", "-H 'Range: bytes=10-19'")))
  end)

  it("stays where it is when it is too large, or the listing says so", function()
    for _, path in ipairs({ "/large?size=40000", "/local/x" }) do
      local first = get(1, path)
      assert.equal(first, (get(1, path)))
      assert.is_true(first ~= get(2, path))
    end
  end)

  it("that another has renewed is not asked for once more", function()
    local path = "/renew?cc=max-age=2,stale-while-revalidate=0"
    local first = store(1, path)
    assert.equal(first, (get(2, path)))
    gateway.run("sleep 2.2")
    local second = get(1, path)
    assert.is_true(first ~= second)
    gateway.run("sleep 0.2")
    assert.equal(second, (get(2, path)))
  end)

  it("is believed only as far as it can be read", function()
    local first = store(1, "/bad")
    for key in server:cli("--raw", "KEYS", "moongate:cache:o:*"):gmatch("%S+") do
      local length = tonumber((server:cli("STRLEN", key):match("%d+")))
      server:cli("SETRANGE", key, tostring(math.floor(length / 2)), ("\255"):rep(20))
    end
    local second, how = get(3, "/bad")
    assert.is_true(first ~= second)
    assert.is_truthy(how:find("fwd=uri-miss", 1, true), how)
  end)
end)

describe("a purge", function()
  local function everywhere(path)
    local body = store(1, path)
    for node = 1, 3 do
      assert.equal(body, (get(node, path)))
    end
    return body
  end

  local function gone_from(node, path, body)
    servers.eventually(function()
      return get(node, path) ~= body
    end, 2, path .. " is gone from node " .. node)
  end

  for _, what in ipairs({ "tag=all", "all", "url" }) do
    it("by " .. what .. " reaches all nodes", function()
      local path = "/purged/" .. what:gsub("=", "-")
      local body = everywhere(path)
      purge(1, what == "url" and "url=http://api.test" .. path or what)
      for node = 1, 3 do
        gone_from(node, path, body)
      end
    end)
  end

  it("is what an unsafe request makes too", function()
    local body = everywhere("/unsafe")
    gateway.run(("curl -s -X DELETE -H 'Host: api.test' http://127.0.0.1:%d/unsafe"):format(nodes[1].port))
    for node = 1, 3 do
      gone_from(node, "/unsafe", body)
    end
  end)

  it("counts for what is on its way from the backend", function()
    local path = "/slow?sleep=2"
    gateway.run(("curl -s -o /dev/null -H 'Host: api.test' http://127.0.0.1:%d'%s' & sleep 0.7; "
      .. "curl -s -X POST 'http://127.0.0.1:%d/cache/purge?tag=all'; wait"):format(nodes[1].port, path,
      nodes[2].management))
    local _, how = get(1, path)
    assert.is_truthy(how:find("fwd=uri-miss", 1, true), how)
  end)
end)

describe("values of policies", function()
  it("are shared, replaced and deleted for all nodes", function()
    assert.equal("nothing", (get(1, "/values/a")))
    assert.equal("one", (get(1, "/values/a?set=one")))
    assert.equal("one", (get(2, "/values/a")))
    get(3, "/values/a?set=two")
    servers.eventually(function()
      return get(2, "/values/a") == "two" and get(1, "/values/a") == "two"
    end, 3, "the new value arrives")
    get(2, "/values/a?delete=1")
    for node = 1, 3 do
      servers.eventually(function()
        return get(node, "/values/a") == "nothing"
      end, 3, "the value is gone")
    end
  end)

  it("are computed once", function()
    local first = get(1, "/values/f?fetch=1")
    for node = 1, 3 do
      assert.equal(first, (get(node, "/values/f?fetch=1")))
    end
  end)
end)

describe("a Redis that does not answer", function()
  local patient

  setup(function()
    patient, nodes, timeout_s = nodes, {}, 0.5
    for i = 1, 3 do
      nodes[i] = start_node(server.url)
    end
    settle()
  end)

  teardown(function()
    for _, node in ipairs(nodes) do
      node.gw:stop()
    end
    nodes, timeout_s = patient, 10
  end)

  after_each(function()
    server:resume()
    settle()
  end)

  it("costs a look-up its deadline, and nothing while the breaker is open", function()
    local body = store(1, "/kept")
    server:pause()
    local began = socket.gettime()
    for i = 1, 20 do
      local _, how = get(2, "/down/" .. i)
      assert.is_truthy(how:find("fwd=uri-miss; fwd-status=200; stored", 1, true), how)
    end
    assert.is_true(socket.gettime() - began < 8) -- five times 0.5 s, of twenty
    assert.equal(body, (get(1, "/kept")))
  end)

  it("is told of purges once it does, and nobody gives what was purged meanwhile", function()
    local body = store(1, "/meanwhile")
    assert.equal(body, (get(2, "/meanwhile")))
    server:pause()
    purge(1, "tag=all")
    assert.is_true(body ~= get(1, "/meanwhile"))
    gateway.run("sleep 1.2")
    server:resume()
    servers.eventually(function()
      return tier(2).is_current and tier(1).purges_pending == 0
    end, 5, "the log is read")
    servers.eventually(function()
      return get(2, "/meanwhile") ~= body and get(3, "/meanwhile") ~= body
    end, 2, "the purge is known")
  end)

  it("for one node alone keeps purges from it until it is back, and no longer", function()
    local link = server.socket .. ".link"
    local before = nodes
    nodes = { before[1] }
    gateway.run(("ln -s '%s' '%s'"):format(server.socket, link))
    for i, when_cut_off in ipairs({ "serve", "ask" }) do
      nodes[i + 1] = start_node("unix:" .. link, when_cut_off)
    end
    settle()
    local body = store(1, "/alone")
    assert.is_true(body == get(2, "/alone") and body == get(3, "/alone"))
    gateway.run(("rm '%s'"):format(link))
    server:cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    servers.eventually(function()
      purge(1, "tag=all") -- node 1 has to connect anew
      return tier(1).purges_pending == 0 and tier(1).is_current and not tier(2).is_current
        and not tier(3).is_current
    end, 5, "nodes 2 and 3 are cut off")
    assert.is_true(body ~= get(1, "/alone"))
    assert.equal(body, (get(2, "/alone")))
    assert.is_true(body ~= get(3, "/alone"))
    gateway.run(("ln -s '%s' '%s'"):format(server.socket, link))
    servers.eventually(function()
      return tier(2).is_current and tier(3).is_current
    end, 10, "they are back")
    assert.is_true(body ~= get(2, "/alone"))
    assert.is_true(body ~= get(3, "/alone"))
    nodes[2].gw:stop()
    nodes[3].gw:stop()
    nodes = before
  end)

  it("and lost its log costs everything that is stored", function()
    local body = get(1, "/flushed")
    purge(2, "tag=other")
    servers.eventually(function()
      return tier(1).purges_read_ms > 0 and get(1, "/flushed") == body
    end, 2, "node 1 knows of the purge")
    server:cli("FLUSHALL")
    servers.eventually(function()
      return get(1, "/flushed") ~= body
    end, 2, "everything is dropped")
  end)
end)

--- Runs `check` with three nodes at a store of its own, and ends both.
local function with_store(start_servers, check)
  local started, before = {}, nodes
  local function start_server(options)
    started[#started + 1] = servers.start(options)
    return started[#started]
  end
  nodes = {}
  local ok, err = pcall(function()
    local url, break_it = start_servers(start_server)
    for i = 1, 3 do
      nodes[i] = start_node(url)
    end
    settle()
    check(break_it)
  end)
  for _, node in ipairs(nodes) do
    node.gw:stop()
  end
  for _, one in ipairs(started) do
    one:stop()
  end
  nodes = before
  assert(ok, err)
end

local function share_and_purge(path)
  local body = get(1, path)
  gateway.run("sleep 0.2") -- until the store has it
  for node = 2, 3 do
    assert.equal(body, (get(node, path)))
  end
  purge(2, "tag=all")
  for node = 1, 3 do
    servers.eventually(function()
      return get(node, path) ~= body
    end, 2, path .. " is gone from node " .. node)
  end
end

-- What differs here lies in upstream/redis*.c, which other specs look at with sanitizers.
if gateway.build:find("dev", 1, true) then
  return
end

describe("over a Cluster", function()
  it("responses and purges are shared", function()
    with_store(function(start_server)
      local masters, list = {}, {}
      for i = 1, 3 do
        masters[i] = start_server({ tcp = true, arguments = "--cluster-enabled yes --cluster-node-timeout 1000" })
        list[i] = "127.0.0.1:" .. masters[i].port
      end
      masters[1]:cli("--cluster", "create", list[1], list[2], list[3], "--cluster-yes")
      for i = 1, 3 do
        servers.eventually(function()
          return masters[i]:cli("CLUSTER", "INFO"):find("cluster_state:ok")
        end, 20, "the Cluster is up")
      end
      return "redis+cluster://" .. list[1]
    end, function()
      for i = 1, 5 do
        share_and_purge("/cluster/" .. i)
      end
    end)
  end)
end)

describe("over Sentinels", function()
  it("responses and purges are shared, and again once the master has died", function()
    with_store(function(start_server)
      local master = start_server({ tcp = true })
      local replica = start_server({ tcp = true,
        arguments = "--replicaof 127.0.0.1 " .. master.port .. " --repl-diskless-sync-delay 0" })
      local sentinels, list = {}, {}
      for i = 1, 3 do
        sentinels[i] = start_server({ tcp = true, arguments = "--sentinel",
          conf = ("sentinel monitor main 127.0.0.1 %d 2\nsentinel down-after-milliseconds main 500\n"
            .. "sentinel failover-timeout main 3000\n"):format(master.port) })
        list[i] = "127.0.0.1:" .. sentinels[i].port
      end
      servers.eventually(function()
        return replica:cli("INFO", "replication"):find("master_link_status:up")
          and sentinels[1]:cli("SENTINEL", "CKQUORUM", "main"):find("^OK 3")
          and sentinels[1]:cli("SENTINEL", "REPLICAS", "main"):find(tostring(replica.port))
      end, 20, "the Sentinels know one another")
      return "redis+sentinel://" .. table.concat(list, ",") .. "/main", function()
        master:kill()
      end
    end, function(kill_master)
      share_and_purge("/before")
      local kept = get(1, "/kept")
      gateway.run("sleep 0.2")
      kill_master()
      assert.equal(kept, (get(1, "/kept")))
      purge(1, "tag=all")
      assert.is_true(get(1, "/kept") ~= kept)
      servers.eventually(function()
        return tier(1).purges_pending == 0
      end, 20, "the new master takes the purge")
      settle()
      share_and_purge("/after")
    end)
  end)
end)

describe("nodes whose clocks differ by seconds, over TLS and as a user who may do no more than it must", function()
  local tls = require("spec.unit.net.tls_support")
  local faketime = gateway.run("ls /usr/lib/*/faketime/libfaketime.so.1 2>/dev/null"):match("%S+")
  local own, outer

  local function at(offset) -- behind what sanitizers preload
    return ('LD_PRELOAD="$LD_PRELOAD %s" FAKETIME=%s'):format(faketime, offset)
  end

  teardown(function()
    for i = 1, 2 do
      if nodes[i] ~= outer[i] then
        nodes[i].gw:stop()
        nodes[i] = outer[i]
      end
    end
    if own then
      own:stop()
    end
    tls.remove_dir()
  end)

  it("give what another has stored, with its true age, and hear of purges", function()
    outer = { nodes[1], nodes[2] }
    if not faketime or select(2, gateway.run(at("+7s") .. " " .. gateway.build .. "/moongate version")) ~= 0 then
      return pending("needs faketime, and a build that runs with it")
    end
    tls.ca("redis_ca")
    local pair = tls.certificate("redis_ca", "redis", { "127.0.0.1" })
    own = servers.start { tcp = true, tls = true, cli = ("--tls --cacert %s/redis_ca.pem"):format(tls.dir()),
      arguments = ("--tls-cert-file %s --tls-key-file %s --tls-ca-cert-file %s/redis_ca.pem "
        .. "--tls-auth-clients no"):format(pair.certificate, pair.key, tls.dir()) }
    assert.equal("OK", own:cli("ACL", "SETUSER", "cache", "on", ">pass:word", "~moongate:*", "+@connection", "+time",
      "+get", "+set", "+del", "+pttl", "+xadd", "+xrange", "+zadd", "+zcount", "+zcard", "+zremrangebyscore",
      "+pexpire", "+@scripting"))
    local user = (", username = 'cache', password = 'pass:word', tls = { ca = '%s/redis_ca.pem' }"):format(tls.dir())
    nodes[1] = start_node(own.url, nil, user, at("+7s"))
    nodes[2] = start_node(own.url, nil, user, at("-5s"))
    local tries = 0
    servers.eventually(function()
      tries = tries + 1
      return get(1, "/settle/" .. tries) == get(2, "/settle/" .. tries)
    end, 10, "the nodes share what they store")

    -- The slow clock stores: to the fast one the origin's Date is seven seconds old (RFC 9111 §4.2.3).
    local body = get(2, "/skew?cc=max-age=20")
    gateway.run("sleep 2.1")
    local other, how = get(1, "/skew?cc=max-age=20")
    assert.equal(body, other)
    -- Twelve seconds lie between the clocks: taken for age they would leave 6 s.
    local left = tonumber(how:match("^moongate; hit; ttl=(%d+); detail=shared$"))
    assert.is_true(left ~= nil and left >= 14 and left <= 18, how)

    assert.truthy(purge(1, "url=http://api.test/skew?cc=max-age=20"))
    servers.eventually(function()
      return get(2, "/skew?cc=max-age=20") ~= body
    end, 5, "the purge reaches the other node")
    gateway.run(("curl -s 'http://127.0.0.1:%d/values/v?set=one&ttl=60'"):format(nodes[1].port))
    servers.eventually(function()
      return get(2, "/values/v") == "one"
    end, 5, "the value reaches the other node")
    assert.equal("", own:cli("ACL", "LOG"))
  end)
end)
