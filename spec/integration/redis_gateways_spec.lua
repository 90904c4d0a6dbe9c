-- SPDX-License-Identifier: Apache-2.0
--- Three real gateways over one Redis: what the policies promise of all nodes together.
jit.off(true, true)
local socket = require("socket")
local gateways = require("spec.support.gateway")
local process = require("spec.support.process")
local servers = require("spec.support.redis")

if not servers.is_there() then
  describe("gateways that share a store", function()
    pending("needs redis-server")
  end)
  return
end

local config = [==[
local p, reply = require("moongate.policies"), require("moongate.reply")
local function route(path, ...)
  return { path = path, reply = { status = 200, body = "ok" }, policies = { inbound = { ... },
    on_error = { function(ctx) ctx.response.headers["X-Reason"] = ctx.error.reason end } } }
end
local function eat(ctx) ctx.request:body() end
local function rest(ctx) ctx:sleep(tonumber(ctx.request.query.s or 0)) end
return {
  name = "spec", workers = 1,
  listeners = { { name = "http", address = "127.0.0.1:PORT" } },
  management = { address = "127.0.0.1:ADMIN" },
  redis = { REDIS },
  sites = { { hosts = { "*" }, routes = {
    route("/exact", p.rate_limit { calls = 20, period = 3600, key = "k", mode = "exact" }),
    route("/shared", p.rate_limit { calls = 20, period = 3600, key = "k" }),
    route("/second", p.rate_limit { calls = 40, period = 1, key = "k" }),
    route("/quota", p.quota { calls = 20, period = 86400, key = "k" }),
    route("/short", p.quota { calls = 20, period = 7, anchor = "2026-01-01T00:00:03Z", key = "k" }),
    route("/total", p.quota { calls = 5, period = 0, key = "k" }),
    route("/several", p.rate_limit { calls = 6, period = 3600, key = "several" },
      p.rate_limit { calls = 6, period = 3600, key = "several", mode = "exact" },
      p.quota { calls = 6, period = 86400, key = "several" },
      p.rate_limit { calls = 2, period = 3600, key = "${ctx.request.query.k}", mode = "exact" }),
    route("/bytes", eat, p.quota { bytes = 10240, period = 86400, key = "k" }),
    route("/again", p.rate_limit { calls = 1000, period = 3600, key = "again", mode = "exact" }),
    route("/places", p.limit_concurrency { max = 4, key = "k", rest }),
    route("/queue", p.limit_concurrency { max = 1, key = "q", queue = 5, queue_timeout = 5, rest }),
    route("/event", p.log_event { redis_stream = { name = "events" }, value = "saw ${ctx.request.query.n}" }),
  } } },
}]==]

local server, nodes, folders

--- Starts a gateway. `prefix` goes in front of its command.
local function start(redis, prefix)
  local port, admin = gateways.free_ports(2)
  local folder = gateways.run("mktemp -d"):match("%S+")
  folders[#folders + 1] = folder
  local file = assert(io.open(folder .. "/gateway.lua", "w"))
  file:write((config:gsub("PORT", port):gsub("ADMIN", admin):gsub("REDIS", function()
    return redis or ("url = %q, timeout = 2"):format(server.url) -- a late answer would be decided by the node itself
  end)))
  file:close()
  local node = gateways.start { from = folder, port = port, environment = prefix }
  node.port, node.admin = port, admin
  nodes[#nodes + 1] = node
  return node
end

--- Sends a request and gives the connection that the answer comes on.
local function send(node, path, body)
  local conn = assert(socket.connect("127.0.0.1", node.port))
  conn:settimeout(10)
  assert(conn:send(("%s %s HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s")
    :format(body and "POST" or "GET", path, #(body or ""), body or "")))
  return conn
end

local function status(conn)
  local line = conn:receive("*l")
  conn:close()
  return line and tonumber(line:match("^HTTP/1%.1 (%d+)"))
end

--- Asks the nodes in turn, `n` times; gives how many were let in.
local function admitted(path, n, pause_s)
  local count = 0
  for i = 1, n do
    socket.sleep(pause_s or 0)
    local got = status(send(nodes[i % #nodes + 1], path))
    count = count + (got == 200 and 1 or 0)
  end
  return count
end

local function store(node)
  local conn = send({ port = node.admin }, "/status")
  local text = conn:receive("*a") or ""
  conn:close()
  return require("cjson").decode(text:match("{.*}")).limits.store
end

local function metric(node, name)
  local conn = send({ port = node.admin }, "/metrics")
  local text = conn:receive("*a") or ""
  conn:close()
  return tonumber(text:match("\n" .. name:gsub("%p", "%%%0") .. " ([%d.]+)")) or 0
end

--- Until every node has its connection, and knows of the others and of no dead one.
local function settle()
  servers.eventually(function()
    for _, node in ipairs(nodes) do
      local told = store(node)
      if told.is_down or told.nodes ~= #nodes then
        return false
      end
    end
    return true
  end, 20, "the nodes know one another")
end

local function start_all(n, ...)
  for _ = 1, n do
    start(...)
  end
  settle()
end

local function end_nodes()
  for _, node in ipairs(nodes) do
    node:kill() -- nothing that it holds is worth a slow end
    node:stop()
  end
  nodes = {}
end

local function end_all()
  end_nodes()
  server:stop()
  for _, folder in ipairs(folders) do
    gateways.run("rm -rf '" .. folder .. "'")
  end
end

describe("three gateways over one Redis", function()
  setup(function()
    nodes, folders = {}, {}
    server = servers.start { arguments = "--appendonly yes --appendfsync always" }
    start_all(3)
  end)

  teardown(end_all)

  it("admit exactly the limit in exact mode, and no more than the bound in shared mode", function()
    assert.equal(20, admitted("/exact", 45))
    -- Slower than the nodes tell one another: docs/limits.md bounds what they let in past the limit.
    local shared = admitted("/shared", 60, 0.01)
    assert.is_true(shared >= 18 and shared <= 20 + 2 * 3 + 2, shared .. " admitted")
  end)

  it("count nothing of a call that a later limit refuses, on any node", function()
    assert.equal(2, admitted("/several?k=a", 30, 0.01))
    assert.equal(2, admitted("/several?k=b", 30, 0.01))
    assert.equal(2, admitted("/several?k=c", 30, 0.01))
    assert.equal(0, admitted("/several?k=d", 6))
  end)

  it("let in only so many at once", function()
    local conns, counts = {}, {}
    for i = 1, 12 do
      conns[i] = send(nodes[i % 3 + 1], "/places?s=1.5") -- all are there by then
    end
    for i = 1, 12 do
      local got = status(conns[i])
      counts[got] = (counts[got] or 0) + 1
    end
    assert.same({ [200] = 4, [429] = 8 }, counts)
    assert.equal("0", server:cli("ZCARD", "moongate:{places:k}"))
  end)

  it("pass a place on from node to node", function()
    local conns = {}
    for i = 1, 6 do
      conns[i] = send(nodes[i % 3 + 1], "/queue?s=0.05")
    end
    for i = 1, 6 do
      assert.equal(200, status(conns[i]))
    end
    assert.equal("0", server:cli("ZCARD", "moongate:{places:q}"))
  end)

  it("keep the counts of a quota not much longer than its period", function()
    assert.equal(200, status(send(nodes[1], "/short")))
    local left_ms = tonumber(server:cli("EVAL",
      "return redis.call('PTTL', redis.call('KEYS', 'moongate:*short*')[1])", "0"))
    assert.is_true(left_ms > 0 and left_ms <= 24 * 2 * 7000, left_ms)
  end)

  it("write events to a stream", function()
    for i = 1, 5 do
      assert.equal(200, status(send(nodes[1], "/event?n=" .. i)))
    end
    servers.eventually(function()
      return server:cli("XLEN", "events") == "5"
    end)
    assert.truthy(server:cli("XRANGE", "events", "-", "+"):find("saw 5", 1, true))
  end)

  it("keep quotas over restarts of everything, and get back the places of a dead node", function()
    settle()
    assert.equal(12, admitted("/quota", 12))
    assert.equal(3, admitted("/total", 3))
    for _ = 1, 3 do -- 12 KB of 10 KiB
      assert.equal(200, status(send(nodes[1], "/bytes", ("x"):rep(4000))))
    end
    servers.eventually(function()
      return status(send(nodes[2], "/bytes")) == 403
    end, 5, "the bytes of the last call are counted")
    local held = {}
    for i = 1, 4 do -- all places, for longer than they are held without word
      held[i] = send(nodes[1], "/places?s=30")
    end
    servers.eventually(function()
      return server:cli("ZCARD", "moongate:{places:k}") == "4"
    end)
    socket.sleep(3.2)
    assert.equal(429, status(send(nodes[2], "/places?s=0")))
    nodes[1]:kill()
    servers.eventually(function()
      return status(send(nodes[2], "/places?s=0")) == 200
    end, 8, "the places come free")
    assert.equal(4, #held) -- the clients were there all the time

    end_nodes()
    server:kill()
    server:launch()
    start_all(3)
    assert.equal(8, admitted("/quota", 20))
    assert.equal(2, admitted("/total", 6)) -- a period of 0 never renews
    assert.equal(403, status(send(nodes[3], "/bytes")))
  end)

  it("count for themselves while the store is stopped; no request waits, dropped events are counted", function()
    end_nodes()
    start_all(3, ("url = %q, timeout = 0.2"):format(server.url))
    server:pause()
    local slow = 0
    for i = 1, 30 do
      local began = socket.gettime()
      assert.equal(200, status(send(nodes[i % 3 + 1], i % 2 == 0 and "/places?s=0" or "/second")))
      slow = slow + (socket.gettime() - began < 0.5 and 0 or 1)
    end
    assert.is_true(slow <= 6, slow .. " of 30 took long") -- each node waits for five, 0.2 s each, and the machine adds
    servers.eventually(function()
      assert.equal(200, status(send(nodes[1], "/event")))
      return metric(nodes[1], 'moongate_events_dropped_total{sink="redis_stream"}') > 0
    end, 8, "dropped events are counted")
    servers.eventually(function()
      return store(nodes[1]).is_down
    end, 8, "the node knows")
    server:resume()
    servers.eventually(function()
      return status(send(nodes[1], "/again")) == 200 and not store(nodes[1]).is_down
        and server:cli("KEYS", "moongate:*again*") ~= ""
    end, 8, "the store is asked again")
  end)
end)

describe("gateways over one Redis", function()
  before_each(function()
    nodes, folders = {}, {}
  end)

  after_each(end_all)

  it("agree on windows though their clocks differ by seconds", function()
    local library = gateways.run("ls /usr/lib/*/faketime/libfaketime.so.1 2>/dev/null"):match("%S+")
    if not library then
      pending("needs faketime")
      return
    end
    local function at(offset) -- behind what sanitizers preload
      return ('LD_PRELOAD="$LD_PRELOAD %s" FAKETIME=%s'):format(library, offset)
    end
    server = servers.start()
    if select(2, gateways.run(at("+7s") .. " " .. gateways.build .. "/moongate version")) ~= 0 then
      pending("this build does not run with faketime")
      return
    end
    start(nil, at("+7s"))
    start(nil, at("-5s"))
    settle()
    assert.equal(20, admitted("/exact", 45))
    local began, total = socket.gettime(), 0
    for i = 1, 200 do
      socket.sleep(0.003)
      total = total + (status(send(nodes[i % 2 + 1], "/second")) == 200 and 1 or 0)
    end
    -- Windows of their own would let in a limit each, at different times.
    local windows = socket.gettime() - began + 1
    assert.is_true(total <= windows * 50, ("%d in %.2f s"):format(total, windows - 1))
  end)

  it("speak TLS as a user that may do no more than it must", function()
    local tls = require("spec.unit.net.tls_support")
    tls.ca("redis_ca")
    local pair = tls.certificate("redis_ca", "redis", { "127.0.0.1" })
    server = servers.start { tcp = true, tls = true,
      cli = ("--tls --cacert %s/redis_ca.pem"):format(tls.dir()),
      arguments = ("--tls-cert-file %s --tls-key-file %s --tls-ca-cert-file %s/redis_ca.pem "
        .. "--tls-auth-clients no"):format(pair.certificate, pair.key, tls.dir()) }
    assert.equal("OK", server:cli("ACL", "SETUSER", "gate", "on", ">pass:word", "~moongate:*", "~events",
      "+@read", "+@write", "+@connection", "+@scripting", "+time"))
    local redis = ("url = %q, timeout = 2, username = 'gate', password = 'pass:word', tls = { ca = '%s/redis_ca.pem' }")
      :format(server.url, tls.dir())
    start_all(2, redis)
    assert.equal(20, admitted("/exact", 30))
    assert.equal(20, admitted("/quota", 30))
    assert.equal(4, admitted("/places", 4))
    assert.equal(200, status(send(nodes[1], "/event")))
    local shared = admitted("/shared", 30, 0.01)
    assert.is_true(shared >= 18 and shared <= 20 + 3 + 1, shared .. " admitted")
    servers.eventually(function()
      return server:cli("XLEN", "events") == "1"
    end)
    assert.equal("", server:cli("ACL", "LOG"))
    tls.remove_dir()
  end)
end)

describe("a gateway whose configuration says something else of the same Redis", function()
  local gw
  local template = [==[
local p = require("moongate.policies")
local function route(path, ...)
  return { path = path, reply = { status = 200, body = "ok" }, policies = { inbound = { ... } } }
end
return {
  name = "spec", workers = 2,
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  management = { address = "127.0.0.1:0" },
  redis = { url = %q, %s },
  sites = { { hosts = { "*" }, routes = {
    route("/exact", p.rate_limit { calls = 1000, period = 3600, key = "k", mode = "exact", store_down = "deny" }),
    route("/shared", p.rate_limit { calls = 1000, period = 3600, key = "s" }),
  } } },
}]==]

  local function configure(redis)
    return template:format(server.url, redis)
  end

  local function reload(redis)
    gw:write_file("gateway.lua", configure(redis))
    local output, exit = gw:command("reload")
    assert.equal(0, exit, output)
  end

  local function exact()
    return (process.get(gw:port("http"), "/exact"))
  end

  setup(function()
    server = servers.start { tcp = true, cli = "-a two --no-auth-warning", arguments = "--requirepass one" }
    gw = process.start { files = { ["gateway.lua"] = configure("password = 'one'") } }
  end)

  teardown(function()
    gw:stop()
    server:stop()
  end)

  it("is let in again with the new password once it is reloaded", function()
    assert.truthy(servers.eventually(function()
      return exact() == 200
    end, 5, "the first password is good"))
    gateways.run(("redis-cli -p %d -a one --no-auth-warning CONFIG SET requirepass two"):format(server.port))
    server:cli("CLIENT", "KILL", "TYPE", "normal")
    servers.eventually(function()
      return exact() == 503
    end, 5, "the old password is good no more")
    reload("password = 'two'")
    servers.eventually(function()
      return exact() == 200
    end, 5, "the new password is taken over")
  end)

  it("is the user that the reload names", function()
    server:cli("ACL", "SETUSER", "gate", "on", ">three", "~*", "+@all")
    reload("username = 'gate', password = 'three'")
    servers.eventually(function()
      exact()
      return server:cli("CLIENT", "LIST"):find("user=gate", 1, true)
    end, 5, "it speaks as the new user")
  end)

  it("leaves nothing behind that goes on trying the old credentials", function()
    servers.eventually(function()
      local others = server:cli("CLIENT", "LIST"):gsub("[^\n]*cmd=client[^\n]*", "")
      return not others:find("user=default", 1, true)
    end, 5, "the connections of the old user are closed")
    server:cli("ACL", "LOG", "RESET")
    socket.sleep(1.2) -- longer than the longest pause between two attempts
    assert.equal("", server:cli("ACL", "LOG"))
  end)

  it("tells its counts under the prefix that the reload names", function()
    reload("username = 'gate', password = 'three', prefix = 'other:'")
    servers.eventually(function()
      process.get(gw:port("http"), "/shared")
      return server:cli("KEYS", "other:*:3600000:*") ~= ""
    end, 5, "counts go where the present configuration says")
  end)
end)
