-- SPDX-License-Identifier: Apache-2.0
--- What a connection may hold of a worker's memory, at its worst (docs/operations.md): hundreds of each
--- kind, and the growth of the process.

local gateway = require("spec.support.gateway")
local h2 = require("spec.support.h2")
local process = require("spec.support.process")
local socket = require("socket")

local CONFIG = [[
return {
  name = "spec", workers = 1, access_log = false, limits = { drain_timeout = 1 },
  listeners = { { name = "http", address = "127.0.0.1:8080", http2 = true },
    { name = "https", address = "127.0.0.1:8443", tls = { certificates = { { development = true } } } } },
  backends = { origin = { targets = { "http://127.0.0.1:9001" }, retries = 0 } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/reply", reply = { status = 200, body = "ok" } }, { path = "/*", backend = "origin" } } } },
}
]]

local KIB = 1024

describe("memory of a worker", function()
  local is_asan = select(2, gateway.run(("grep -q __asan_init '%s/moongate'"):format(gateway.build))) == 0
  if not gateway.is_there() or is_asan then
    pending("needs a built gateway without ASan, whose own memory is larger")
    return
  end

  local gw, port, tls_port, origin, dir
  local open = {}

  before_each(function()
    origin = assert(socket.bind("127.0.0.1", 0, 1024))
    origin:settimeout(0)
    dir = gateway.run("mktemp -d /tmp/moongate-spec.XXXXXX"):match("%S+")
    local file = assert(io.open(dir .. "/gateway.lua", "wb"))
    file:write(CONFIG)
    file:close()
    port, tls_port = gateway.free_ports(2)
    gw = gateway.start({ from = dir, port = port, replace = { ["8080"] = tostring(port),
      ["8443"] = tostring(tls_port), ["9001"] = tostring((select(2, origin:getsockname()))) } })
  end)

  after_each(function()
    for _, one in ipairs(open) do
      one:close()
    end
    open = {}
    origin:close()
    gw:stop()
    gateway.run(("rm -rf '%s'"):format(dir))
  end)

  -- Resident bytes of the supervisor's children.
  local function resident()
    local text = gateway.run(("for p in $(cat /proc/%d/task/*/children); do grep -h VmRSS /proc/$p/status; done")
      :format(gw.pid))
    local total = 0
    for kib in text:gmatch("VmRSS:%s+(%d+)") do
      total = total + kib * KIB
    end
    assert(total > 0, text)
    return total
  end

  it("gives back the pages of files that only its start needed, as the supervisor does", function()
    local function of_files(pid)
      local text = gateway.run(("cat /proc/%s/smaps_rollup"):format(pid))
      return assert(tonumber(text:match("Pss_File:%s+(%d+)")), text)
    end
    local worker = gateway.run(("cat /proc/%d/task/*/children"):format(gw.pid)):match("%d+")
    local kib = of_files(gw.pid) + of_files(worker)
    assert.is_true(kib < 4096, kib .. " KiB") -- 7,800 before it did
  end)

  local function connect(bytes)
    local client = assert(socket.connect("127.0.0.1", port))
    client:settimeout(0)
    open[#open + 1] = client
    if bytes then
      client:send(bytes)
    end
    return client
  end

  -- Until the figure stands still.
  local function settled()
    local last, same = 0, 0
    for _ = 1, 60 do
      socket.sleep(0.05)
      local now = resident()
      same = math.abs(now - last) < 64 * KIB and same + 1 or 0
      last = now
      if same == 4 then
        break
      end
    end
    return last
  end

  -- @return bytes for each of `count`
  local function grows_by(count, begin)
    for _ = 1, 10 do -- what is made at first use
      begin(true)
    end
    local before = settled()
    for _ = 1, count do
      begin()
    end
    return (settled() - before) / count
  end

  it("is at most 2 KiB for an idle connection", function()
    local each = grows_by(500, function()
      local client = connect("GET /reply HTTP/1.1\r\nHost: a\r\n\r\n")
      client:settimeout(5)
      assert.matches("200", (client:receive("*l")))
    end)
    assert.is_true(each <= 2 * KIB, ("%.1f KiB a connection"):format(each / KIB))
  end)

  for _, version in ipairs { "TLSv1.3", "TLSv1.2" } do
    it("is at most 20 KiB for an idle connection of " .. version, function()
      local function begin(count)
        local path = dir .. "/" .. count -- a pipe from here would be read by nobody
        local client = assert(io.popen(("python3 spec/support/idle_tls.py %d %d %s >'%s' 2>&1"):format(tls_port, count,
          version, path), "w"))
        assert.truthy(process.eventually(function()
          return process.read(path):find("idle", 1, true)
        end, 30), process.read(path))
        return client
      end
      begin(20):close() -- what is made at first use
      local before = settled()
      local client = begin(300)
      local each = (settled() - before) / 300
      client:close()
      assert.is_true(each <= 20 * KIB, ("%.1f KiB a connection"):format(each / KIB))
    end)
  end

  it("is at most 24 KiB for an idle HTTP/2 connection", function()
    local each = grows_by(300, function()
      local client = connect(h2.START .. h2.get(1, "/reply"))
      local bytes = ""
      client:settimeout(5)
      repeat
        bytes = bytes .. assert(client:receive(1))
      until bytes:sub(-2) == "ok"
      client:send(h2.frame("SETTINGS", h2.ACK, 0))
    end)
    assert.is_true(each <= 24 * KIB, ("%.1f KiB a connection"):format(each / KIB))
  end)

  it("is at most 256 KiB for one that sends ahead of a silent backend", function()
    local request = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"
    local each = grows_by(40, function()
      local client = connect(request)
      local piece, quiet = ("x"):rep(65536), 0
      while quiet < 3 do -- until the kernel's buffers are full as well
        local n, _, part = client:send(piece)
        quiet = (n or part) > 0 and 0 or quiet + 1
        socket.sleep(quiet > 0 and 0.001 or 0)
      end
    end)
    assert.is_true(each <= 256 * KIB, ("%.1f KiB a connection"):format(each / KIB))
  end)

  it("is at most 256 KiB for one that does not read", function()
    local talking = {}
    local piece = ("y"):rep(65536)
    local function turn()
      local is_busy = false
      local new = origin:accept()
      if new then
        new:settimeout(0)
        open[#open + 1] = new
        talking[#talking + 1] = new
        new:send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        is_busy = true
      end
      for _, one in ipairs(talking) do
        local n, _, part = one:send(piece)
        is_busy = is_busy or (n or part) > 0
      end
      return is_busy
    end
    local each = grows_by(40, function()
      connect("GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
      local quiet = 0
      while quiet < 5 do
        quiet = turn() and 0 or quiet + 1
        socket.sleep(quiet > 0 and 0.001 or 0)
      end
    end)
    assert.is_true(#talking >= 40, "the backend was not asked")
    assert.is_true(each <= 256 * KIB, ("%.1f KiB a connection"):format(each / KIB))
  end)
end)
