-- SPDX-License-Identifier: Apache-2.0
--- Bad days: four backends and two gateways under constant load while backends are killed, stopped,
--- slowed, made to reset and to lie about length, workers are killed, and the configuration is
--- reloaded every second. What the clients see of it has to be what the rules allow, and to be
--- explained in the log.
---
--- CHAOS_SECONDS (8) says how long, CHAOS_SEED (20) which order of events: others are for who looks for trouble.
local json = require("cjson")
local process = require("spec.support.process")
local socket = require("socket")

local SECONDS = tonumber(os.getenv("CHAOS_SECONDS") or 8)
local SEED = tonumber(os.getenv("CHAOS_SEED") or 20)
local CONNECTIONS, BACKENDS, ILL_AT_ONCE = 32, 4, 2
-- How long a backend that is well again may still be out: max_eject, and until two probes have passed.
local OUT_AFTER_S = 2.5

local CONFIG = [[
return {
  name = "chaos", workers = 2, access_log = { path = %q },
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  management = { address = "127.0.0.1:0" },
  limits = { requests_per_connection = 0, overload_lag = 0 }, -- this machine may be slow
  backends = { pool = {
    targets = { %s },
    balance = "least_requests", retries = 3,
    retry = { on = { "connect", "reset", "timeout" }, budget = 100, backoff = 0.01 },
    timeout = { connect = 1, send = 2, first_byte = 1, idle = 1, total = 8 },
    keepalive = { idle_timeout = 1 },
    outlier = { failures = 3, eject = 1, max_eject = 2 },
    health = { path = "/health", interval = 0.5, timeout = 0.5 },
  } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/number", reply = { status = 200, body = "%d" } },
    { path = "/*", backend = "pool" },
  } } },
}
]]

-- What the log may give as the reason of an answer that the gateway made. A GET is tried on other
-- targets, up to `retries`, unless an answer has begun to come; a POST that was sent is not.
local ALLOWED = {
  POST = { upstream_reset = 502, upstream_closed = 502, first_byte_timeout = 504,
    upstream_truncated = 502, upstream_idle_timeout = 504 },
  GET = { upstream_truncated = 502, upstream_idle_timeout = 504 },
}
-- And why an answer may end early once its head was sent.
local ALLOWED_CUTS = { upstream_truncated = true, upstream_reset = true,
  upstream_idle_timeout = true }

describe("chaos", function()
  local root, backends, gateways, load_pid = nil, {}, {}, nil

  local function start_backend(backend)
    local text = process.run(("luajit spec/support/chaos_origin.lua b%d %d >'%s/b%d.log' 2>&1 & echo $!")
      :format(backend.number, backend.port, root, backend.number))
    backend.pid = tonumber(text:match("%d+"))
    return assert(process.eventually(function()
      return select(1, process.get(backend.port, "/health")) == 200
    end), "a backend does not start")
  end

  setup(function()
    root = process.run("mktemp -d /tmp/moongate-chaos.XXXXXX"):match("%S+")
    local held = {}
    for i = 1, BACKENDS do
      held[i] = assert(socket.bind("127.0.0.1", 0))
      backends[i] = { number = i, port = tonumber((select(2, held[i]:getsockname()))) }
    end
    for i = 1, BACKENDS do
      held[i]:close() -- all, before a process inherits one
    end
    for i = 1, BACKENDS do
      start_backend(backends[i])
    end
  end)

  teardown(function()
    if load_pid then
      process.run("kill " .. load_pid)
    end
    for _, gw in ipairs(gateways) do
      gw:stop()
    end
    for _, backend in ipairs(backends) do
      if backend.pid then
        process.run("kill -KILL " .. backend.pid)
      end
    end
    process.run(("rm -rf '%s'"):format(root))
  end)

  local function config(number, log)
    local targets = {}
    for i, backend in ipairs(backends) do
      targets[i] = ('"http://127.0.0.1:%d"'):format(backend.port)
    end
    return CONFIG:format(log, table.concat(targets, ", "), number)
  end

  local function set_mode(backend, mode)
    process.get(backend.port, "/~mode/" .. mode)
  end

  -- What can befall a backend, and how it gets well.
  local ills = {
    killed = { begin = function(b)
      process.run("kill -KILL " .. b.pid)
    end, heal = start_backend },
    stopped = { begin = function(b)
      process.run("kill -STOP " .. b.pid)
    end, heal = function(b)
      process.run("kill -CONT " .. b.pid)
    end },
  }
  for _, mode in ipairs({ "slow", "reset", "short", "long" }) do
    ills[mode] = { begin = function(b)
      set_mode(b, mode)
    end, heal = function(b)
      set_mode(b, "ok")
    end }
  end
  local ill_names = { "killed", "stopped", "slow", "reset", "short", "long" }

  local started, events, spells = nil, {}, {}

  local function note(...)
    local text = ("%5.1f s  "):format(socket.gettime() - started) .. (...):format(select(2, ...))
    events[#events + 1] = text
  end

  local function begin_ill()
    local well, count = {}, 0
    for _, backend in ipairs(backends) do
      well[#well + 1] = not backend.ill and backend or nil
      count = count + (backend.ill and 1 or 0)
    end
    local backend, name = well[math.random(#well)], ill_names[math.random(#ill_names)]
    local lasts = 0.5 + math.random() * 1.5
    if count < ILL_AT_ONCE then
      note("backend %d: %s for %.1f s", backend.number, name, lasts)
      backend.ill, backend.well_at = name, socket.gettime() + lasts
      spells[#spells + 1] = { from = socket.gettime(), to = math.huge, backend = backend }
      backend.spell = spells[#spells]
      ills[name].begin(backend)
    end
  end

  local function heal(at)
    for _, backend in ipairs(backends) do
      if backend.ill and backend.well_at <= at then
        ills[backend.ill].heal(backend)
        note("backend %d is well again", backend.number)
        backend.ill, backend.spell.to = nil, socket.gettime() + OUT_AFTER_S
      end
    end
  end

  --- Whether more backends may have been out than `max_share` lets be: one that fails then serves on.
  local function was_crowded(from, to)
    local out, count = {}, 0
    for _, spell in ipairs(spells) do
      if spell.from <= to and spell.to >= from and not out[spell.backend] then
        out[spell.backend], count = true, count + 1
      end
    end
    return count > BACKENDS / 2
  end

  -- Worker 0 of the second gateway is let live: its memory is looked at.
  local function kill_worker()
    local g = math.random(2)
    local number = g == 2 and 1 or math.random(2) - 1
    local pid = gateways[g]:workers()[number]
    if pid and pid ~= 0 then
      gateways[g]:signal("KILL", pid)
      note("gateway %d: worker %d (%d) is killed", g, number, pid)
    end
  end

  local reloads = { ok = 0, failed = 0 }

  local function reload(number)
    for g, gw in ipairs(gateways) do
      gw:write_file("gateway.lua", config(number, gw.log_file))
      local said, status = gw:command("reload")
      if status == 0 then
        reloads.ok = reloads.ok + 1
        assert.equal(tostring(number), (select(2, process.get(gw:port("http"), "/number"))))
      else
        -- Only deaths of workers that load it may be in the way.
        assert.truthy(said:find("died while it loaded", 1, true), said)
        reloads.failed = reloads.failed + 1
        note("gateway %d: %s", g, said)
      end
    end
  end

  local function descriptors(pid)
    return tonumber((process.run(("ls /proc/%d/fd | wc -l"):format(pid)):match("%d+")))
  end

  local function memory_of(pid)
    return tonumber(process.read(("/proc/%d/smaps_rollup"):format(pid)):match("\nAnonymous:%s+(%d+)"))
  end

  --- Descriptors of supervisors and of all workers when nothing is under way. (Connections of probes
  --- are with one of a gateway's workers, whichever has the lease.)
  local function footprint()
    local found = {}
    for g, gw in ipairs(gateways) do
      local sum = 0
      for _, pid in pairs(gw:workers()) do
        sum = sum + descriptors(pid)
      end
      found[g] = { supervisor = descriptors(gw.pid), workers = sum }
    end
    return found
  end

  --- Keeps the gateways busy until `stop` of the returned object is called; that gives its report.
  local function begin_load(name)
    local stop, report = root .. "/" .. name .. ".stop", root .. "/" .. name .. ".lua"
    load_pid = process.run(("luajit spec/support/chaos_load.lua %s %d '%s' '%s' %d %d %d >'%s/%s.log' 2>&1 & echo $!")
      :format(name, CONNECTIONS, stop, report, SEED, gateways[1]:port("http"), gateways[2]:port("http"),
        root, name)):match("%d+")
    return function()
      process.write(stop, "")
      assert.truthy(process.eventually(function()
        return process.read(report) ~= ""
      end, 25), process.read(root .. "/" .. name .. ".log"))
      load_pid = nil
      return dofile(report)
    end
  end

  local function settle()
    for _, gw in ipairs(gateways) do
      assert.truthy(process.eventually(function()
        for _, worker in ipairs(gw:status().workers) do
          if worker.exchanges ~= 0 or worker.connections ~= 0 then
            return false
          end
        end
        return true
      end), "something is under way for ever")
    end
    socket.sleep(1.3) -- idle connections to backends are closed
  end

  --- Lines of a gateway's access log by the token of the request, and when its workers died.
  local function read_logs(gw)
    local lines, deaths = {}, {}
    for line in process.read(gw.log_file):gmatch("[^\n]+") do
      local entry = json.decode(line)
      local token = entry.path:match("^/echo/([%w-]+)$")
      if token then
        lines[token] = entry
      end
    end
    for line in gw:log():gmatch("[^\n]+") do
      local ok, entry = pcall(json.decode, line)
      if ok and entry.message:find("died by signal", 1, true) then
        local h, m, s = entry.time:match("T(%d+):(%d+):([%d.]+)")
        deaths[#deaths + 1] = h * 3600 + m * 60 + s
      end
    end
    return { lines = lines, deaths = deaths }
  end

  local function has_died_between(deaths, from, to)
    for _, at in ipairs(deaths) do
      if at >= from % 86400 - 0.1 and at <= to % 86400 + 1 then
        return true
      end
    end
    return false
  end

  --- @return what allows it; nil where nothing does
  local function excuse(failure, log)
    local line = log.lines[failure.token]
    if not line and (failure.kind == "closed" or failure.kind == "cut")
      and has_died_between(log.deaths, failure.from, failure.to) then
      return "its worker was killed"
    elseif line and failure.kind == "status" and line.status == failure.status
      and ALLOWED[failure.method][line.error] == failure.status and line.target then
      return failure.method .. " " .. line.error
    elseif line and failure.kind == "cut" and ALLOWED_CUTS[line.error] and line.target then
      return "cut " .. line.error
    end
    return nil
  end

  --- @return why failures were allowed, those that were not, and how many came while few were out
  local function judge(report)
    local logs = { read_logs(gateways[1]), read_logs(gateways[2]) }
    local excused, bad, uncrowded = {}, {}, 0
    for _, failure in ipairs(report.failures) do
      local log = logs[failure.gateway]
      local why = excuse(failure, log)
      uncrowded = uncrowded + (was_crowded(failure.from, failure.to) and 0 or 1)
      if why then
        excused[why] = (excused[why] or 0) + 1
      elseif #bad < 10 then
        local line = log.lines[failure.token]
        bad[#bad + 1] = ("%5.1f to %5.1f s, gateway %d, %s: %s %d %q\n    log: %s"):format(
          failure.from - started, failure.to - started, failure.gateway, failure.method,
          failure.kind, failure.status, failure.text, line and json.encode(line) or "no line")
      end
    end
    return excused, bad, uncrowded
  end

  it(("fails no request that the rules do not allow to, and leaks nothing (seed %d)"):format(SEED),
    function()
      math.randomseed(SEED)
      for g = 1, 2 do
        local log = ("%s/access-%d.log"):format(root, g)
        gateways[g] = process.start { files = { ["gateway.lua"] = config(0, log) },
          arguments = "--no-watch" }
        gateways[g].log_file = log
      end
      started = socket.gettime()
      local stop = begin_load("warm")
      socket.sleep(1)
      assert.same({}, stop().failures)
      settle()
      local before = footprint()
      local survivor = gateways[2]:workers()[0]

      started = socket.gettime()
      stop = begin_load("chaos")
      local next_event, next_reload, number, early = started + 0.3, started + 1, 0, nil
      while socket.gettime() < started + SECONDS do
        local now = socket.gettime()
        heal(now)
        if now >= next_event then
          next_event = now + 0.15 + math.random() * 0.45
          if math.random(4) == 1 then
            kill_worker()
          else
            begin_ill()
          end
        end
        if now >= next_reload then
          next_reload, number = now + 1, number + 1
          reload(number)
        end
        if not early and now > started + SECONDS / 3 then
          early = memory_of(survivor)
        end
        socket.sleep(0.02)
      end
      heal(math.huge)
      local report = stop()
      local late = memory_of(survivor)
      settle()
      local excused, bad, uncrowded = judge(report)
      local told = {}
      for why, count in pairs(excused) do
        told[#told + 1] = ("%d %s"):format(count, why)
      end
      table.sort(told)
      io.write(("      seed %d: %d requests (%d POST), %d reloads, %d not; allowed failures: %s (%d while few "
        .. "backends were out); memory %d KiB, then %d KiB\n"):format(SEED, report.requests, report.posts,
        reloads.ok, reloads.failed, table.concat(told, ", "), uncrowded, early, late))
      assert.equal("", table.concat(bad, "\n"), table.concat(events, "\n"))
      assert.is_true(report.requests > 50 * SECONDS, "only " .. report.requests .. " requests")
      assert.is_true(uncrowded < report.requests / 50, uncrowded .. " failures")
      assert.is_true(reloads.ok > SECONDS / 2 and reloads.failed <= reloads.ok / 4)

      -- Nothing has leaked, and all is well again.
      assert.equal(survivor, gateways[2]:workers()[0])
      assert.is_true(process.has_asan() or late <= early * 1.25 + 2048,
        ("memory grew from %d to %d KiB"):format(early, late))
      assert.same(before, footprint())
      stop = begin_load("after")
      socket.sleep(1)
      assert.same({}, stop().failures)
    end)
end)
