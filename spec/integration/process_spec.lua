-- SPDX-License-Identifier: Apache-2.0
--- Workers come and go; the gateway stays.
local process = require("spec.support.process")
local socket = require("socket")

local CONFIG = [[
local p = require("moongate.policies")
return {
  name = "processes", access_log = { path = %q },
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  management = { address = "127.0.0.1:0" },
  limits = { policy_cpu = 20, drain_timeout = %d, requests_per_connection = 0 },
  sites = { { hosts = { "*" }, routes = {
    { path = "/fast", reply = { status = 200, body = "fast" } },
    { path = "/slow", reply = { status = 200, body = "slow" },
      policies = { inbound = { function(ctx) ctx:sleep(2.5) end } } },
    { path = "/endless", reply = { status = 200, body = "never" },
      policies = { inbound = { function(ctx) ctx:sleep(60) end } } },
    { path = "/spin", reply = { status = 200, body = "never" },
      policies = { inbound = { function(ctx) while true do end end } } },
    { path = "/nap", reply = { status = 200, body = "never" }, policies = { inbound = {
      p.set_header { name = "X-A", value = "a" },
      p.when("true", { p.set_header { name = "X-B", value = "b" }, p.lazy { nap = 1.5 } }) } } },
    { path = "/held", reply = { status = 200, body = "held" }, policies = { inbound = {
      p.limit_concurrency { max = 1, key = "${ctx.request.query.k}", function(ctx)
        ctx:sleep(ctx.request.query.s and 60 or 0)
      end } } } },
    { path = "/branch", reply = { status = 200 }, policies = { inbound = { function(ctx)
      ctx:parallel { function(c)
        c:sleep(0.2)
        while true do end
      end }
    end } } },
    { path = "/other", reply = { status = 200, body = "other" }, policies = { inbound = {
      p.set_header { name = "X-A", value = "a" } } } },
  } } },
}
]]

local LAZY = [[
local M = { name = "lazy", summary = "Naps, and is not to be woken." }
M.schema = { type = "object", properties = {
  nap = { type = "number", description = "Seconds." } } }
function M.inbound(self, ctx)
  ctx:sleep(self.nap)
  while true do end
end
return M
]]

--- Sends a request without waiting for the answer.
local function begin(port, path)
  local client = assert(socket.connect("127.0.0.1", port))
  client:send(("GET %s HTTP/1.1\r\nHost: t.test\r\nConnection: close\r\n\r\n"):format(path))
  return client
end

local function finish(client)
  client:settimeout(15)
  local answer, _, partial = client:receive("*a")
  client:close()
  return tonumber((answer or partial or ""):match("^HTTP/1%.1 (%d%d%d)"))
end

describe("the supervisor", function()
  local gw

  local function start(options)
    options = options or {}
    gw = process.start { files = { ["gateway.lua"] = CONFIG:format(options.log or "-",
      options.drain or 30), ["policies/lazy.lua"] = LAZY }, workers = options.workers or 2,
      arguments = options.arguments, environment = options.environment }
    return gw:port("http")
  end

  after_each(function()
    if gw then
      gw:stop()
      gw = nil
    end
  end)

  it("replaces a killed worker at once, with the others serving on", function()
    local port = start()
    local before = gw:workers()
    -- The backoff is for workers that die young.
    socket.sleep(2.1)
    local slow = begin(port, "/slow")
    local victim = gw:await_exchanges(1)[0] == 1 and 1 or 0
    gw:signal("KILL", before[victim])
    assert.truthy(process.eventually(function()
      local now = gw:status().workers[victim + 1]
      return now.pid ~= before[victim] and now.generation == 1 and now.restarts == 1
    end), gw:log())
    assert.equal(200, finish(slow))
    for _ = 1, 20 do
      assert.equal(200, (process.get(port, "/fast")))
    end
    local after = gw:workers()
    assert.equal(before[1 - victim], after[1 - victim])
    local _, metrics = process.get(gw:port("management"), "/metrics")
    assert.truthy(metrics:find("\nmoongate_worker_restarts_total 1\n", 1, true), metrics)
    assert.truthy(gw:log():find("died by signal 9", 1, true))
  end)

  it("gives what a killed worker held to the others, although nobody takes its place", function()
    local port = start()
    local held = {}
    repeat -- by the kernel's choice it comes to one or the other
      held[#held + 1] = begin(port, "/held?s=1&k=" .. #held)
    until gw:await_exchanges(#held)[1] == 1
    local path = "/held?k=" .. #held - 1
    local victim = gw:workers()[1]
    gw:write_file("gateway.lua", "--\n" .. process.read(gw.dir .. "/gateway.lua"):gsub("name = \"processes\"",
      "workers = 1, %0"))
    local said, status = gw:command("reload")
    assert.equal(0, status, said)
    assert.equal(429, (process.get(port, path)))
    gw:signal("KILL", victim)
    assert.truthy(process.eventually(function()
      return gw:log():find("died by signal 9", 1, true)
    end))
    assert.equal(200, (process.get(port, path)))
    for _, client in ipairs(held) do
      client:close()
    end
  end)

  it("keeps connections that come while a worker is replaced", function()
    local port = start({ workers = 1 })
    gw:signal("KILL", gw:workers()[0])
    for _ = 1, 5 do
      assert.equal(200, (process.get(port, "/fast")))
    end
  end)

  it("names what a worker is stuck in after 100 ms, and replaces it after 2 s", function()
    local port = start()
    local before = gw:workers()
    local spin = begin(port, "/spin")
    local started = socket.gettime()
    assert.truthy(process.eventually(function()
      return gw:log():find("has not turned its loop for %d+ ms in /spin inbound, "
        .. "policy function %(gateway.lua:%d+%)")
    end), gw:log())
    assert.truthy(process.eventually(function()
      return gw:log():find("is stuck for")
    end), gw:log())
    local took = socket.gettime() - started
    assert.is_true(took > 1.5 and took < 10, "replaced after " .. took) -- two seconds, and what a loaded machine adds
    spin:close()
    assert.truthy(gw:log():find("a worker is stuck here", 1, true))
    for _ = 1, 10 do
      assert.equal(200, (process.get(port, "/fast")))
    end
    local same = 0
    for number, pid in pairs(gw:workers()) do
      same = same + (before[number] == pid and 1 or 0)
    end
    assert.equal(1, same)
  end)

  it("replaces a worker whose policy is stuck while it loads a configuration, too", function()
    local port = start({ workers = 1 })
    local pid = gw:workers()[0]
    local function cpu_ns()
      return tonumber(process.read(("/proc/%d/schedstat"):format(pid)):match("^%d+"))
    end
    gw:write_file("policies/lazy.lua", (LAZY:gsub("function M.inbound", [[
function M.prepare(conf)
  local e = os.clock() + 0.5 while os.clock() < e do end
  return conf
end
%0]])))
    local before = cpu_ns()
    gw:signal("HUP")
    assert.truthy(process.eventually(function()
      return cpu_ns() - before > 100e6
    end, 20), gw:log())
    local spin = begin(port, "/spin")
    assert.truthy(process.eventually(function()
      return gw:log():find("is stuck for %d+ ms in /spin inbound")
    end), gw:log())
    spin:close()
    assert.truthy(process.eventually(function() -- by the one in its place
      return gw:status().generation == 2
    end, 20), gw:log())
    assert.equal(200, (process.get(port, "/fast")))
  end)

  it("names a policy that is stuck after it waited, whatever else ran meanwhile", function()
    local port = start({ workers = 1 })
    local nap = begin(port, "/nap")
    gw:await_exchanges(1)
    assert.equal(200, (process.get(port, "/other")))
    assert.truthy(process.eventually(function()
      return gw:log():find("ms in /nap inbound, policy lazy (gateway.lua:", 1, true)
    end), gw:log())
    nap:close()
  end)

  it("names a policy that is stuck in a function of ctx:parallel, after that waited", function()
    local port = start({ workers = 1 })
    local branch = begin(port, "/branch")
    gw:await_exchanges(1)
    assert.equal(200, (process.get(port, "/other")))
    assert.truthy(process.eventually(function()
      return gw:log():find("ms in /branch inbound, policy function (gateway.lua:", 1, true)
    end), gw:log())
    branch:close()
  end)

  it("shows in `status` and `top` how busy workers are", function()
    local port = start({ workers = 1 })
    local stop, report = gw.root .. "/stop", gw.root .. "/report.lua"
    process.run(("luajit spec/support/load.lua %d 4 '%s' '%s' /fast >/dev/null 2>&1 & echo"):format(port,
      stop, report))
    local top = gw.root .. "/top"
    local top_pid = process.run(("%s '%s' top --interval=0.2 '%s' >'%s' 2>&1 & echo $!"):format(
      gw.environment, gw.binary, gw.dir, top)):match("%d+")
    assert.truthy(process.eventually(function()
      local worker = gw:status().workers[1]
      return worker.requests_per_s > 100 and worker.busy_percent > 0 and worker.requests > 100
    end), gw:command("status"))
    assert.truthy(process.eventually(function()
      return process.read(top):find("\n +0 +%d+ +1 +%d%d%d+ +%d+%% +4 ") -- four connections
    end), process.read(top))
    process.write(stop, "")
    assert.truthy(process.eventually(function()
      return process.read(report) ~= "" and gw:status().workers[1].requests_per_s == 0
    end), gw:command("status"))
    gw:stop()
    gw = nil
    assert.truthy(process.eventually(function()
      return not process.is_alive(tonumber(top_pid)) -- with the gateway
    end))
  end)

  it("lets a request come to its end on SIGTERM, and accepts no new ones", function()
    local port = start()
    local slow = begin(port, "/slow")
    gw:await_exchanges(1)
    gw:signal("TERM")
    assert.truthy(process.eventually(function()
      return process.get(port, "/fast") == nil
    end))
    assert.is_true(gw:is_running())
    assert.equal(200, finish(slow))
    assert.truthy(process.eventually(function()
      return not gw:is_running()
    end, 20), gw:log())
  end)

  it("ends what takes longer than drain_timeout", function()
    local port = start({ drain = 1 })
    local endless = begin(port, "/endless")
    gw:await_exchanges(1)
    local started = socket.gettime()
    gw:signal("TERM")
    assert.truthy(process.eventually(function()
      return not gw:is_running()
    end, 20), gw:log())
    assert.is_true(socket.gettime() - started > 0.8)
    endless:close()
  end)

  it("ends at once on a second signal", function()
    local port = start()
    local endless = begin(port, "/endless")
    gw:await_exchanges(1)
    gw:signal("TERM")
    socket.sleep(0.2)
    assert.is_true(gw:is_running())
    gw:signal("TERM")
    assert.truthy(process.eventually(function()
      return not gw:is_running()
    end, 15), gw:log()) -- drain_timeout is 30 s
    endless:close()
  end)

  it("leaves no worker behind when it is killed itself", function()
    start()
    local pids = gw:workers()
    gw:signal("KILL")
    for _, pid in pairs(pids) do
      assert.truthy(process.eventually(function()
        return not process.is_alive(pid)
      end))
    end
  end)

  it("writes every line of the access log, and opens it again on SIGUSR1", function()
    local path = process.run("mktemp -u /tmp/moongate-log.XXXXXX"):match("%S+")
    finally(function()
      process.run(("rm -f '%s' '%s.1'"):format(path, path))
    end)
    local port = start({ log = path })
    for _ = 1, 50 do
      process.get(port, "/fast")
    end
    local function lines(file)
      return select(2, process.read(file):gsub("\n", ""))
    end
    assert.truthy(process.eventually(function()
      return lines(path) == 50
    end), lines(path) .. " lines")
    os.rename(path, path .. ".1")
    gw:signal("USR1")
    assert.truthy(process.eventually(function()
      return io.open(path) ~= nil
    end))
    process.get(port, "/fast")
    assert.truthy(process.eventually(function()
      return lines(path) == 1
    end))
    gw:stop()
    gw = nil
    assert.equal(50, lines(path .. ".1"))
  end)

  it("refuses a FIFO that nobody reads as a log, and does not wait for who might", function()
    local root = process.run("mktemp -d /tmp/moongate-fifo.XXXXXX"):match("%S+")
    finally(function()
      process.run(("rm -r '%s'"):format(root))
    end)
    process.write(root .. "/gateway.lua", CONFIG:format(root .. "/fifo", 30))
    process.run(("mkfifo '%s/fifo' && mkdir '%s/policies'"):format(root, root))
    process.write(root .. "/policies/lazy.lua", LAZY)
    local said, status = process.run(("timeout 60 '%s' run '%s' 2>&1"):format(process.binary, root))
    assert.equal(1, status, said)
    assert.truthy(said:find('access_log.path: expected a file that can be written, got "' .. root
      .. '/fifo": No such device or address', 1, true), said)
  end)

  it("says once that the disk takes no lines, counts them, and goes on when it does again", function()
    local path = process.run("mktemp -u /tmp/moongate-full.XXXXXX"):match("%S+")
    finally(function()
      process.run(("rm -f '%s' '%s.real'"):format(path, path))
    end)
    process.run(("ln -s /dev/full '%s'"):format(path))
    local port = start({ log = path })
    local function lost()
      local text = process.run(("curl -s http://127.0.0.1:%d/metrics"):format(gw:port("management")))
      return tonumber(text:match("\nmoongate_access_log_lost_total (%d+)"))
    end
    for _ = 1, 5 do
      assert.equal(200, (process.get(port, "/fast")))
    end
    assert.truthy(process.eventually(function()
      return lost() == 5
    end), tostring(lost()))
    process.run(("ln -sf '%s.real' '%s'"):format(path, path))
    gw:signal("USR1")
    assert.truthy(process.eventually(function()
      process.get(port, "/fast")
      return process.read(path .. ".real"):find('"path":"/fast"', 1, true)
    end))
    local _, told = gw:log():gsub("No space left on device: lines are lost", "")
    assert.equal(1, told)
    assert.truthy(gw:log():find("is written again, %d+ lines were lost"))
  end)

  it("listens on all addresses of both families by `:port`", function()
    local has_v6 = process.read("/proc/net/if_inet6") ~= ""
    gw = process.start { files = { ["gateway.lua"] = CONFIG:format("-", 30):gsub("127.0.0.1:0", ":0", 1),
      ["policies/lazy.lua"] = LAZY }, workers = 2 }
    local port = gw:port("http")
    for _ = 1, 4 do -- both workers' sockets
      assert.equal(200, (process.get(port, "/fast")))
      if has_v6 then
        assert.equal("fast", (process.run(("curl -sg 'http://[::1]:%d/fast'"):format(port))))
      end
    end
  end)

  it("widens a listener's address by a reload, and keeps others out meanwhile", function()
    local port = require("spec.support.gateway").free_ports(1)
    local function config(host)
      return (CONFIG:format("-", 30):gsub("127.0.0.1:0", ("%s:%d"):format(host, port), 1))
    end
    gw = process.start { files = { ["gateway.lua"] = config("127.0.0.1"), ["policies/lazy.lua"] = LAZY },
      workers = 2 }
    assert.equal(200, (process.get(port, "/fast")))
    process.write(gw.dir .. "/gateway.lua", config("0.0.0.0"))
    local said, status = gw:command("reload")
    assert.equal(0, status, said)
    assert.equal("fast", (process.run(("curl -s 'http://127.0.0.2:%d/fast'"):format(port))))
    assert.equal(200, (process.get(port, "/fast")))
    local other = process.run("mktemp -d /tmp/moongate-other.XXXXXX"):match("%S+")
    process.write(other .. "/gateway.lua", (config("127.0.0.1"):gsub("policies = .-} } },", "},")
      :gsub("management = .-\n", "")))
    said, status = process.run(("timeout 60 '%s' run '%s' 2>&1"):format(process.binary, other))
    process.run(("rm -r '%s'"):format(other))
    assert.equal(1, status, said)
    assert.truthy(said:find("listeners[1].address: cannot listen on", 1, true), said)
  end)

  it("closes what still waits for its PROXY header on a listener that a reload takes away", function()
    local function config(more)
      return ([[return {
  name = "spec",
  trusted_proxies = { "127.0.0.0/8" },
  listeners = { { name = "http", address = "127.0.0.1:0" }, %s },
  sites = { { hosts = { "*" }, routes = { { path = "/*", reply = { status = 200, body = "fast" } } } } },
}]]):format(more)
    end
    gw = process.start { workers = 1, files = { ["gateway.lua"] =
      config('{ name = "proxied", address = "127.0.0.1:0", proxy_protocol = true }') } }
    local port, workers = gw:port("http"), gw:workers()
    local client = assert(require("socket").connect("127.0.0.1", gw:port("proxied")))
    client:settimeout(5)
    assert(client:send("PROXY TCP4 192.0.2.7"))
    process.run("sleep 0.2") -- the worker has taken it
    process.write(gw.dir .. "/gateway.lua", config(""))
    local said, status = gw:command("reload")
    assert.equal(0, status, said)
    client:send(" 198.51.100.1 4711 443\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
    local answer, why, part = client:receive(1)
    client:close()
    assert.is_truthy(why == "closed" or why:find("reset"), why)
    assert.equal("", answer or part)
    assert.equal(200, (process.get(port, "/fast")))
    assert.same(workers, gw:workers())
  end)

  it("listens on IPv4, IPv6 and a UNIX socket at once", function()
    local path = process.run("mktemp -u /tmp/moongate-listen.XXXXXX"):match("%S+")
    local has_v6 = process.read("/proc/net/if_inet6") ~= ""
    gw = process.start { files = { ["gateway.lua"] = (CONFIG:format("-", 30):gsub("listeners = {",
      ('%%0 { name = "local", address = "unix:%s" }, %s'):format(path,
        has_v6 and '{ name = "v6", address = "[::1]:0" },' or ""))),
      ["policies/lazy.lua"] = LAZY }, workers = 2 }
    assert.equal(200, (process.get(gw:port("http"), "/fast")))
    if has_v6 then
      assert.equal("fast", (process.run(("curl -sg 'http://[::1]:%d/fast'"):format(gw:port("v6")))))
    end
    local function get_local()
      return process.run(("curl -sS --unix-socket '%s' http://t.test/fast"):format(path))
    end
    for _ = 1, 4 do
      assert.equal("fast", (get_local()))
    end
    assert.equal(0, (select(2, gw:command("reload"))))
    assert.equal("fast", (get_local()))
    gw:stop()
    gw = nil
    assert.equal(1, (select(2, process.run(("test -e '%s'"):format(path)))), "the path stays")
  end)

  it("knows no address of who comes by a UNIX socket: ip_filter says so, deny list or not", function()
    local path = process.run("mktemp -u /tmp/moongate-listen.XXXXXX"):match("%S+")
    gw = process.start { files = { ["gateway.lua"] = ([[
local p = require("moongate.policies")
local seen = { on_error = { function(ctx)
  ctx.response.headers["X-Error"] = ctx.error.source .. " " .. ctx.error.reason .. " " .. ctx.request.peer_ip
end } }
local function route(path, filter)
  return { path = path, reply = { status = 200 }, policies = { inbound = { p.ip_filter(filter) } } }
end
return {
  name = "spec",
  listeners = { { name = "local", address = "unix:%s" }, { name = "http", address = "127.0.0.1:0" } },
  policies = seen,
  sites = { { hosts = { "*" }, routes = {
    route("/allow", { allow = { "127.0.0.0/8" } }), route("/deny", { deny = { "10.0.0.0/8" } }),
    route("/peer", { deny = { "10.0.0.0/8" }, source = "peer" }),
  } } },
}]]):format(path) }, workers = 1 }
    for _, name in ipairs({ "allow", "deny", "peer" }) do
      assert.equal(200, (process.get(gw:port("http"), "/" .. name)))
      local said = process.run(("curl -sSi --unix-socket '%s' http://t.test/%s"):format(path, name))
      assert.truthy(said:find("^HTTP/1.1 403 "), said)
      assert.truthy(said:find("X-Error: ip_filter FailedToParseCallerIP unix\r\n", 1, true), said)
    end
  end)

  it("raises the limit on open files, and says when it may not suffice", function()
    start({ environment = "prlimit --nofile=256:4096 --" })
    local limits = process.read(("/proc/%d/limits"):format(gw:workers()[0]))
    assert.equal("4096", limits:match("\nMax open files%s+(%d+)"))
    assert.truthy(gw:log():find("limits.connections of 16384 may need %d+ open files, and 4096 are "
      .. "allowed"), gw:log())
  end)

  it("drops root's privileges in workers", function()
    if process.run("id -u"):match("%d+") ~= "0" then
      pending("only root can become somebody else")
      return
    end
    gw = process.start { files = { ["gateway.lua"] = CONFIG:gsub("access_log =",
      "user = \"nobody\", access_log ="):format("-", 30), ["policies/lazy.lua"] = LAZY }, workers = 1 }
    local status = process.read(("/proc/%d/status"):format(gw:workers()[0]))
    local nobody = process.run("id -u nobody"):match("%d+")
    assert.equal(nobody, status:match("\nUid:%s+(%d+)"))
    assert.equal("", (status:match("\nGroups:%s*(%d*)"):gsub("65534", "")))
    assert.equal("1", status:match("\nNoNewPrivs:%s+(%d)"))
    assert.equal(200, (process.get(gw:port("http"), "/fast")))
    assert.equal(0, (select(2, gw:command("reload"))))
    assert.equal(200, (process.get(gw:port("http"), "/fast")))
  end)

  it("checks a new configuration as the user that workers are", function()
    if process.run("id -u"):match("%d+") ~= "0" then
      pending("only root can become somebody else")
      return
    end
    local text = CONFIG:gsub("access_log =", "user = \"nobody\", access_log ="):format("-", 30)
    gw = process.start { files = { ["gateway.lua"] = text, ["policies/lazy.lua"] = LAZY }, workers = 1,
      arguments = "--no-watch" }
    -- Long enough to be seen: in portions, with rests between them.
    gw:write_file("gateway.lua", "local n = 0\nfor i = 1, 3e7 do n = n + i end\n" .. text)
    local before, seen = {}, {}
    for _, pid in ipairs(process.children(gw.pid)) do
      before[pid] = true
    end
    gw:signal("HUP")
    assert.truthy(process.eventually(function()
      for _, pid in ipairs(process.children(gw.pid)) do
        local uid = process.read(("/proc/%d/status"):format(pid)):match("\nUid:%s+(%d+)")
        if not before[pid] and uid then
          seen[#seen + 1] = uid
        end
      end
      return gw:status().generation == 2
    end))
    assert.is_true(#seen > 0, "no checker was seen")
    assert.equal(process.run("id -u nobody"):match("%d+"), seen[#seen])
  end)

  it("keeps the counts of quotas as the user that workers are", function()
    if process.run("id -u"):match("%d+") ~= "0" then
      pending("only root can become somebody else")
      return
    end
    local state = process.run("mktemp -d"):match("%S+")
    finally(function()
      process.run("rm -r " .. state)
    end)
    process.run("chown nobody " .. state)
    gw = process.start { environment = "MOONGATE_STATE_DIR=" .. state, files = { ["gateway.lua"] = [[
local p = require("moongate.policies")
return {
  user = "nobody", workers = 2, listeners = { { name = "http", address = "127.0.0.1:0" } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", reply = { status = 200 }, policies = { inbound = {
    p.quota { calls = 1, period = 0, key = "k" } } } } } } },
}
]] } }
    assert.equal(200, (process.get(gw:port("http"), "/")))
    assert.equal(403, (process.get(gw:port("http"), "/")))
    assert.equal("nobody", process.run("stat -c %U " .. state .. "/*.tally"):match("%S+"))
  end)

  it("tells systemd that it is ready, reloads and stops", function()
    local ok, unix = pcall(require, "socket.unix")
    if not ok or not unix.dgram then
      pending("luasocket has no UNIX datagrams")
      return
    end
    local path = process.run("mktemp -u /tmp/moongate-notify.XXXXXX"):match("%S+")
    local inbox = unix.dgram()
    assert(inbox:bind(path))
    inbox:settimeout(20)
    finally(function()
      inbox:close()
      os.remove(path)
    end)
    start({ environment = ("NOTIFY_SOCKET='%s'"):format(path) })
    assert.truthy(inbox:receive():match("READY=1"))
    gw:command("reload")
    assert.truthy(inbox:receive():match("RELOADING=1\nMONOTONIC_USEC=%d+"))
    assert.equal("READY=1", inbox:receive())
    gw:signal("TERM")
    assert.equal("STOPPING=1", inbox:receive())
  end)

  it("takes sockets from systemd", function()
    local code = [[
import os, socket, sys
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(16)
open(sys.argv[1], "w").write(str(s.getsockname()[1]))
os.dup2(s.fileno(), 3); os.set_inheritable(3, True)
path = sys.argv[2] + "/gateway.lua"
old = "127.0.0.1:0\" } },\n  management"
text = open(path).read().replace(old, old.replace(":0", ":%d" % s.getsockname()[1]))
open(path, "w").write(text)
os.environ["LISTEN_PID"] = str(os.getpid()); os.environ["LISTEN_FDS"] = "1"
os.execv(sys.argv[3], sys.argv[3:])
]]
    local wrapper = process.run("mktemp /tmp/moongate-listen.XXXXXX"):match("%S+")
    finally(function()
      process.run(("rm -f '%s' '%s.py' '%s.port'"):format(wrapper, wrapper, wrapper))
    end)
    process.write(wrapper .. ".py", code)
    local binary = process.binary:gsub("^([^/])", (os.getenv("PWD") or ".") .. "/%1")
    process.write(wrapper, ("#!/bin/sh\nfor dir; do :; done\n"
      .. "exec python3 '%s.py' '%s.port' \"$dir\" '%s' \"$@\"\n"):format(wrapper, wrapper, binary))
    process.run(("chmod +x '%s'"):format(wrapper))
    gw = process.start { files = { ["gateway.lua"] = CONFIG:format("-", 30),
      ["policies/lazy.lua"] = LAZY }, workers = 2,
      binary = wrapper }
    assert.equal(tonumber(process.read(wrapper .. ".port")), gw:port("http"))
    assert.equal(200, (process.get(gw:port("http"), "/fast")))
  end)
end)
