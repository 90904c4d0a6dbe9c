-- SPDX-License-Identifier: Apache-2.0
--- A reload fails no request and cuts no connection, good or bad, and loses nothing that was
--- counted.
local process = require("spec.support.process")
local socket = require("socket")

-- Sanitizers make each take several times as long, and look at what is done, not at how often.
local RELOADS, CONNECTIONS = process.has_asan() and 60 or 200, 64

local ORIGIN = [[
return {
  name = "origin", access_log = false,
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  management = { address = "127.0.0.1:0" },
  limits = { requests_per_connection = 0 },
  sites = { { hosts = { "*" }, routes = {
    { path = "/*", reply = { status = 200, body = "origin" } } } } },
}
]]

local GATEWAY = [[
local p = require("moongate.policies")
return {
  name = "reloaded", access_log = false,
  listeners = { { name = "http", address = "127.0.0.1:0" }%s },
  management = { address = "127.0.0.1:0" },
  limits = { requests_per_connection = 0 },
  backends = { origin = { targets = { "http://127.0.0.1:%d" } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/number", reply = { status = 200, body = "%d" } },
    { path = "/limited", backend = "origin", policies = { inbound = {
      p.rate_limit { calls = 3, period = 86400, key = function() return "all" end } } } },
    { path = "/*", backend = "origin", policies = { inbound = { p.stamp { value = "%d" } } } },
  } } },
  %s
}
]]

local STAMP = [[
local M = { name = "stamp", summary = "Sets a header." }
M.schema = { type = "object", properties = {
  value = { type = "string", description = "Its value." } } }
function M.prepare(conf)
  %s
  return conf
end
function M.outbound(self, ctx)
  ctx.response.headers["X-Stamp"] = self.value
end
return M
]]

local function get_metric(port, name)
  local _, text = process.get(port, "/metrics")
  return tonumber(text:match("\n" .. name:gsub("%p", "%%%0") .. " (%d+)")) or 0
end

--- Kilobytes that the workers hold, what they share counted in parts.
local function memory_of(gw)
  local sum = 0
  for _, pid in pairs(gw:workers()) do
    local text = process.read(("/proc/%d/smaps_rollup"):format(pid))
    sum = sum + tonumber(text:match("\nPss:%s+(%d+)"))
  end
  return sum
end

describe("a reload", function()
  local origin, gw, load_pid

  setup(function()
    origin = process.start { files = { ["gateway.lua"] = ORIGIN }, workers = 1 }
  end)

  teardown(function()
    if load_pid then
      process.run("kill " .. load_pid)
    end
    if gw then
      gw:stop()
    end
    if origin then
      origin:stop()
    end
  end)

  local function config(number, options)
    options = options or {}
    return GATEWAY:format(options.listener or "", origin:port("http"), number, number,
      options.more or "")
  end

  local function stamp(line)
    return STAMP:format(line or "")
  end

  -- What is broken, and what the outcome has to name.
  local broken = {
    { name = "a syntax error", place = "gateway%.lua:%d+:", write = function(n)
      gw:write_file("gateway.lua", (config(n):gsub("name = \"reloaded\"", "name = = \"reloaded\"")))
    end },
    { name = "a wrong field", place = "gateway%.lua:%d+:.*unknown field \"lisseners\"",
      write = function(n)
        gw:write_file("gateway.lua", config(n, { more = "lisseners = {}," }))
      end },
    { name = "a policy that raises in prepare", place = "%.lua:%d+:.*stamp.*no good",
      write = function()
        gw:write_file("policies/stamp.lua", stamp("error('no good')"))
      end },
    { name = "a missing certificate", place = "gateway%.lua:%d+:.*nowhere%.pem", write = function(n)
      gw:write_file("gateway.lua", config(n, { listener = [[,
        { name = "https", address = "127.0.0.1:0",
          tls = { certificates = { { certificate = "nowhere.pem", key = "nowhere.key" } } } }]] }))
    end },
  }

  it(("fails no request and cuts no connection, %d times, half of them broken"):format(RELOADS), function()
    gw = process.start { files = { ["gateway.lua"] = config(0), ["policies/stamp.lua"] = stamp() },
      workers = 2, arguments = "--no-watch" }
    local port = gw:port("http")
    for _ = 1, 2 do
      assert.equal(200, (process.get(port, "/limited")))
    end
    local stop, report = gw.root .. "/stop", gw.root .. "/report.lua"
    local command = "luajit spec/support/load.lua %d %d '%s' '%s' >'%s/load.log' 2>&1 & echo $!"
    load_pid = process.run(command:format(port, CONNECTIONS, stop, report, gw.root)):match("%d+")

    local pids, early = gw:workers(), nil
    local good = 0
    for n = 1, RELOADS do
      if n % 2 == 0 then
        local case = broken[n / 2 % #broken + 1]
        case.write(n)
        local said, status = gw:command("reload")
        assert.equal(1, status, case.name .. ": " .. said)
        assert.truthy(said:match(case.place), case.name .. " is reported so: " .. said)
        gw:write_file("policies/stamp.lua", stamp())
      else
        good = good + 1
        gw:write_file("gateway.lua", config(n))
        local said, status = gw:command("reload")
        assert.equal(0, status, said)
        assert.equal(tostring(n), (select(2, process.get(port, "/number"))))
      end
      if n == 20 then
        early = memory_of(gw)
      end
    end
    local late = memory_of(gw)

    process.write(stop, "")
    assert.truthy(process.eventually(function()
      return process.read(report) ~= ""
    end), process.read(gw.root .. "/load.log"))
    load_pid = nil
    local seen = dofile(report)
    io.write(("      %d requests on %d connections in %.0f s, slowest %.0f ms; memory %d KiB, "
      .. "then %d KiB\n"):format(seen.requests, seen.connections, seen.seconds,
        seen.slowest * 1000, early, late))
    assert.same({ failed = 0, cut = 0, errors = {} },
      { failed = seen.failed, cut = seen.cut, errors = seen.errors })
    assert.equal(CONNECTIONS, seen.connections)
    assert.is_true(seen.requests > 10 * RELOADS, "only " .. seen.requests .. " requests")

    assert.is_true(late <= early * 1.1, ("memory grew from %d to %d KiB"):format(early, late))
    assert.same(pids, gw:workers(), "workers were replaced")
    local status = gw:status()
    assert.equal(good, status.reloads)
    assert.equal(RELOADS - good, status.reloads_failed)
    local management = gw:port("management")
    assert.equal(good, get_metric(management, 'moongate_reloads_total{result="ok"}'))
    assert.equal(RELOADS - good, get_metric(management, 'moongate_reloads_total{result="failed"}'))
    -- Counters: two of three calls were made before the first reload.
    assert.equal(200, (process.get(port, "/limited")))
    assert.equal(429, (process.get(port, "/limited")))
    -- Pools: a connection of a pool for each that was busy, not one for each reload.
    assert.is_true(get_metric(origin:port("management"), "moongate_connections_total")
      < CONNECTIONS * 3, "the pools did not survive")
  end)

  it("follows a change of files, and says in the log what is wrong with one", function()
    local own = process.start { files = { ["gateway.lua"] = config(1),
      ["policies/stamp.lua"] = stamp() }, workers = 1 }
    finally(function()
      own:stop()
    end)
    own:write_file("gateway.lua", config(2))
    assert.truthy(process.eventually(function()
      return select(2, process.get(own:port("http"), "/number")) == "2"
    end), own:log())
    own:write_file("policies/stamp.lua", stamp("error('no good')"))
    assert.truthy(process.eventually(function()
      return own:log():find("gateway.lua:%d+:.*stamp.*no good")
    end), own:log())
    assert.equal("2", (select(2, process.get(own:port("http"), "/number"))))
  end)

  it("is one for one change, though a command asks for it and the change is seen", function()
    local own = process.start { files = { ["gateway.lua"] = config(1),
      ["policies/stamp.lua"] = stamp() }, workers = 1 }
    finally(function()
      own:stop()
    end)
    for number = 2, 4 do
      own:write_file("gateway.lua", config(number))
      own:signal("HUP")
      assert.truthy(process.eventually(function()
        return select(2, process.get(own:port("http"), "/number")) == tostring(number)
      end), own:log())
    end
    own:write_file("gateway.lua", config(5)) -- seen by itself
    assert.truthy(process.eventually(function()
      return select(2, process.get(own:port("http"), "/number")) == "5"
    end), own:log())
    assert.equal(1, select(2, own:log():gsub("asked for by a change of files", "")), own:log())
  end)

  it("follows a directory that is replaced by another", function()
    local own = process.start { files = { ["gateway.lua"] = config(1),
      ["policies/stamp.lua"] = stamp() }, workers = 1 }
    finally(function()
      own:stop()
      process.run(("rm -rf %s.old %s.new"):format(own.dir, own.dir))
    end)
    process.run(("cp -r %s %s.new && mv %s %s.old"):format(own.dir, own.dir, own.dir, own.dir))
    assert.truthy(process.eventually(function()
      return own:log():find("is gone: the configuration stays")
    end), own:log())
    process.write(own.dir .. ".new/gateway.lua", config(2))
    process.run(("mv %s.new %s"):format(own.dir, own.dir))
    assert.truthy(process.eventually(function()
      return select(2, process.get(own:port("http"), "/number")) == "2"
    end), own:log())
    own:write_file("gateway.lua", config(3)) -- and that one is watched as well
    assert.truthy(process.eventually(function()
      return select(2, process.get(own:port("http"), "/number")) == "3"
    end), own:log())
  end)

  it("follows a symbolic link that is made to point to another release", function()
    local root = process.run("mktemp -d"):match("%S+")
    local function release(n)
      process.run(("mkdir -p %s/%d/policies"):format(root, n))
      process.write(("%s/%d/gateway.lua"):format(root, n), config(n))
      process.write(("%s/%d/policies/stamp.lua"):format(root, n), stamp())
      process.run(("ln -s %d %s/next && mv -T %s/next %s/current"):format(n, root, root, root))
    end
    release(1)
    local own = process.start { dir = root .. "/current", workers = 1 }
    finally(function()
      own:stop()
      process.run("rm -r " .. root)
    end)
    local function serves(n)
      assert.truthy(process.eventually(function()
        return select(2, process.get(own:port("http"), "/number")) == tostring(n)
      end), own:log())
    end
    serves(1)
    release(2)
    serves(2)
    release(3)
    serves(3)
    own:write_file("gateway.lua", config(4)) -- and what lies there is watched
    serves(4)
    local output, status = own:command("reload") -- by the path that it was started with
    assert.equal(0, status, output)
  end)

  it("starts and ends workers where their number changes, and fails no request by it", function()
    local echo = assert(socket.bind("127.0.0.1", 0))
    local echo_port = tonumber((select(2, echo:getsockname())))
    echo:close()
    local echo_pid = process.run(("luajit spec/support/chaos_origin.lua echo %d >/dev/null 2>&1 & echo $!")
      :format(echo_port)):match("%d+")
    local function with(workers)
      return (config(workers):gsub("name = \"reloaded\"", "%0, workers = " .. workers)
        :gsub("http://127.0.0.1:%d+", "http://127.0.0.1:" .. echo_port))
    end
    local own = process.start { files = { ["gateway.lua"] = with(1),
      ["policies/stamp.lua"] = stamp() }, arguments = "--no-watch" }
    finally(function()
      own:stop()
      process.run("kill " .. echo_pid)
    end)
    local port, pid = own:port("http"), own.pid
    local stop, report = own.root .. "/stop", own.root .. "/report.lua"
    process.run(("luajit spec/support/chaos_load.lua load 16 '%s' '%s' 1 %d >'%s/load.log' 2>&1 & echo")
      :format(stop, report, port, own.root))
    local first = own:workers()[0]
    for _, wanted in ipairs({ 4, 2, 3, 1, 2 }) do
      own:write_file("gateway.lua", with(wanted))
      local said, status = own:command("reload")
      assert.equal(0, status, said)
      assert.equal(tostring(wanted), (select(2, process.get(port, "/number"))))
      assert.truthy(process.eventually(function()
        local workers = own:status().workers
        for _, worker in ipairs(workers) do
          if worker.generation ~= own:status().generation then
            return false
          end
        end
        return #workers == wanted
      end), own:log())
      assert.equal(wanted, own:facts().workers)
      -- There is no socket on which nobody accepts.
      for _ = 1, 40 do
        assert.equal(200, (process.get(port, "/number")))
      end
    end
    process.write(stop, "")
    assert.truthy(process.eventually(function()
      return process.read(report) ~= ""
    end), process.read(own.root .. "/load.log"))
    local seen = dofile(report)
    assert.same({}, seen.failures)
    assert.is_true(seen.requests > 500, seen.requests .. " requests")
    assert.equal(first, own:workers()[0])
    assert.equal(pid, own.pid)
    assert.is_nil(own:log():find("died by", 1, true))
  end)

  it("has a worker that goes finish what it has, close what is idle, and accept nothing", function()
    local wait = [[
local M = { name = "wait", summary = "Takes its time." }
M.schema = { type = "object", properties = {} }
function M.inbound(self, ctx)
  ctx:sleep(5)
end
return M
]]
    local function with(workers)
      return (config(workers):gsub("name = \"reloaded\"", "%0, workers = " .. workers)
        :gsub("sites = { { hosts = { \"%*\" }, routes = {", [[%0
    { path = "/slow", reply = { status = 200, body = "slow" },
      policies = { inbound = { p.wait {} } } },]]))
    end
    local own = process.start { files = { ["gateway.lua"] = with(2),
      ["policies/stamp.lua"] = stamp(), ["policies/wait.lua"] = wait }, arguments = "--no-watch" }
    finally(function()
      own:stop()
    end)
    local port = own:port("http")
    local function connect(path)
      local client = assert(socket.connect("127.0.0.1", port))
      client:settimeout(20)
      client:send(("GET %s HTTP/1.1\r\nHost: any\r\n\r\n"):format(path))
      return client
    end
    --- Status, whether it is the last answer, body; nothing where the connection was closed.
    local function answer(client)
      local line = client:receive("*l")
      if not line then
        return nil
      end
      local length, is_last = 0, false
      for field in function() return client:receive("*l") end do
        length = tonumber(field:lower():match("^content%-length: (%d+)")) or length
        is_last = is_last or field:lower():match("^connection: close") ~= nil
        if field == "" then
          break
        end
      end
      return tonumber(line:match(" (%d+) ")), is_last, client:receive(length)
    end
    -- As many connections as make sure that both workers have some.
    local idle, slow = {}, {}
    for i = 1, 24 do
      idle[i], slow[i] = connect("/number"), connect("/slow")
      assert.same({ 200, false, "2" }, { answer(idle[i]) })
    end
    assert.truthy(process.eventually(function()
      local status, under_way = own:status(), 0
      for _, worker in ipairs(status.workers) do
        under_way = under_way + worker.exchanges
      end
      return under_way == #slow
    end))
    local leaving = own:workers()[1]
    own:write_file("gateway.lua", with(1))
    assert.equal(0, (select(2, own:command("reload"))))
    -- From now on it accepts nothing: whoever comes meets the new generation.
    for _ = 1, 24 do
      local client = connect("/number")
      assert.same({ 200, false, "1" }, { answer(client) })
      client:close()
    end
    assert.equal(leaving, own:status().workers[2].pid, "it was to have requests under way still")
    local finished, closed = 0, 0
    for i = 1, #slow do
      local status, is_last, body = answer(slow[i])
      assert.same({ 200, "slow" }, { status, body })
      if is_last then
        finished = finished + 1
        assert.is_nil((slow[i]:receive(1)), "it went on after `Connection: close`")
      end
      idle[i]:send("GET /number HTTP/1.1\r\nHost: any\r\n\r\n")
      status, is_last, body = answer(idle[i])
      if status then
        assert.same({ 200, false, "1" }, { status, is_last, body })
      else
        closed = closed + 1
      end
    end
    assert.is_true(finished > 0 and finished < #slow, finished .. " were finished by it")
    assert.is_true(closed > 0 and closed < #idle, closed .. " were idle with it")
    assert.truthy(process.eventually(function()
      return #own:status().workers == 1
    end), own:log())
  end)

  it("leaves the loop to the requests, however long it takes to load", function()
    local own = process.start { files = { ["gateway.lua"] = config(1),
      ["policies/stamp.lua"] = stamp() }, workers = 1, arguments = "--no-watch" }
    finally(function()
      own:stop()
    end)
    -- CPU time: in one piece, a turn of the loop would take as long.
    own:write_file("gateway.lua", config(2))
    own:write_file("policies/stamp.lua",
      stamp("local e = os.clock() + 1.5 while os.clock() < e do end"))
    local outcome = own.root .. "/outcome"
    process.run(("(%s '%s' reload '%s'; echo \"status=$?\") >'%s' 2>&1 & echo"):format(
      own.environment, own.binary, own.dir, outcome))
    local port, answers = own:port("http"), 0
    while not process.read(outcome):find("status=", 1, true) do
      assert.equal(200, (process.get(port, "/number")))
      answers = answers + 1
    end
    assert.matches("status=0", process.read(outcome))
    assert.equal("2", (select(2, process.get(port, "/number"))))
    assert.is_true(answers > 10, answers .. " requests were answered meanwhile")
    assert.truthy(process.eventually(function() -- told once a second
      return own:status().workers[1].loop_longest_us > 0
    end))
    local longest_us = own:status().workers[1].loop_longest_us
    assert.is_true(longest_us < 1200000, "the loop was held for " .. longest_us .. " us")
    -- And it ends in time while it loads.
    own:write_file("gateway.lua", config(3))
    local pid = own:workers()[0]
    local function cpu_ns()
      return tonumber(process.read(("/proc/%d/schedstat"):format(pid)):match("^%d+"))
    end
    local before = cpu_ns()
    own:signal("HUP")
    assert.truthy(process.eventually(function()
      return cpu_ns() - before > 200e6
    end, 20), own:log())
    assert.is_true(own:stop(), own:log())
  end)

  it("goes on when a worker dies while it loads", function()
    local own = process.start { files = { ["gateway.lua"] = config(1),
      ["policies/stamp.lua"] = stamp() }, workers = 2, arguments = "--no-watch" }
    finally(function()
      own:stop()
    end)
    local function cpu_ns(pid)
      return tonumber(process.read(("/proc/%d/schedstat"):format(pid)):match("^%d+"))
    end
    -- It takes a while to load, so that a worker can be met while it does.
    own:write_file("gateway.lua", config(2))
    own:write_file("policies/stamp.lua",
      stamp("local e = os.clock() + 0.5 while os.clock() < e do end"))
    local outcome = own.root .. "/outcome"
    local pid = own:workers()[1]
    local before = cpu_ns(pid)
    process.run(("(%s '%s' reload '%s'; echo \"status=$?\") >'%s' 2>&1 & echo"):format(
      own.environment, own.binary, own.dir, outcome))
    assert.truthy(process.eventually(function()
      return cpu_ns(pid) - before > 100e6
    end, 15), own:log())
    own:signal("KILL", pid)
    assert.truthy(process.eventually(function()
      return process.read(outcome):find("status=", 1, true)
    end, 20), own:log())
    assert.matches("status=0", process.read(outcome))
    assert.matches("worker 1 died while it loaded; the reload goes on", own:log())
    for _ = 1, 10 do
      assert.equal("2", (select(2, process.get(own:port("http"), "/number"))))
    end
  end)

  it("is asked for by SIGHUP and by the management API, too", function()
    local own = process.start { files = { ["gateway.lua"] = config(1),
      ["policies/stamp.lua"] = stamp() }, workers = 2, arguments = "--no-watch" }
    finally(function()
      own:stop()
    end)
    local function comes_to_be(number)
      return process.eventually(function()
        return select(2, process.get(own:port("http"), "/number")) == tostring(number)
      end)
    end
    own:write_file("gateway.lua", config(2))
    own:signal("HUP")
    assert.truthy(comes_to_be(2), own:log())
    own:write_file("gateway.lua", config(3))
    process.run(("curl -sS -X POST http://127.0.0.1:%d/reload"):format(own:port("management")))
    assert.truthy(comes_to_be(3), own:log())
  end)

  it("binds listeners that are new, and closes those that are gone", function()
    local own = process.start { files = { ["gateway.lua"] = config(1),
      ["policies/stamp.lua"] = stamp() }, workers = 2, arguments = "--no-watch" }
    finally(function()
      own:stop()
    end)
    local port = own:port("http")
    own:write_file("gateway.lua", config(2, {
      listener = [[, { name = "second", address = "127.0.0.1:0" }]] }))
    assert.equal(0, (select(2, own:command("reload"))))
    local second = own:port("second")
    assert.equal("2", (select(2, process.get(second, "/number"))))
    assert.equal(port, own:port("http"))
    own:write_file("gateway.lua", config(3))
    assert.equal(0, (select(2, own:command("reload"))))
    assert.is_nil((process.get(second, "/number")))
    assert.equal("3", (select(2, process.get(port, "/number"))))
  end)
end)
