-- SPDX-License-Identifier: Apache-2.0
--- A gibibyte up and a gibibyte down pass through; the gateway holds little of them.
local process = require("spec.support.process")
local socket = require("socket")

local IS_SANITIZED = process.binary:find("build/dev", 1, true) ~= nil -- slower, and keeps what is freed
local MIB = IS_SANITIZED and 64 or 1024
local ROOM_KIB = 10 * 1024

local CONFIG = [[
return {
  name = "large", access_log = false,
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { origin = { targets = { "http://127.0.0.1:%d" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
}
]]

-- `GET /` gives MIB mebibytes; any other request's body is counted, and the count is the answer.
local ORIGIN = [[
local socket = require("socket")
local server = assert(socket.bind("127.0.0.1", tonumber(arg[1])))
local mib, block = tonumber(arg[2]), ("x"):rep(1048576)
while true do
  local client = server:accept()
  local line, length, method = client:receive("*l"), 0, nil
  method = line and line:match("^%u+")
  while line and line ~= "" do
    length = tonumber(line:match("^[Cc]ontent%-[Ll]ength: (%d+)")) or length
    line = client:receive("*l")
  end
  if method == "GET" then
    client:send(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"):format(mib * 1048576))
    for _ = 1, mib do
      if not client:send(block) then
        break
      end
    end
  else
    local got = 0
    while got < length do
      local data, _, partial = client:receive(math.min(1048576, length - got))
      data = data or partial
      got = got + #data
      if #data == 0 then
        break
      end
    end
    local text = tostring(got)
    client:send(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"):format(#text, text))
  end
  client:close()
end
]]

describe("large bodies", function()
  local gw, origin_pid

  setup(function()
    local held = assert(socket.bind("127.0.0.1", 0))
    local port = tonumber((select(2, held:getsockname())))
    held:close()
    gw = process.start { files = { ["gateway.lua"] = CONFIG:format(port) }, workers = 1 }
    process.write(gw.root .. "/origin.lua", ORIGIN)
    origin_pid = process.run(("luajit '%s/origin.lua' %d %d >/dev/null 2>&1 & echo $!"):format(gw.root,
      port, MIB)):match("%d+")
    assert.truthy(process.eventually(function()
      local client = socket.connect("127.0.0.1", port)
      return client and client:close()
    end))
  end)

  teardown(function()
    process.run("kill " .. origin_pid)
    gw:stop()
  end)

  local function memory(name)
    local text = process.read(("/proc/%d/status"):format(gw:workers()[0]))
    return tonumber(text:match("\n" .. name .. ":%s+(%d+)"))
  end

  --- The most that the worker held while `transfer` ran, above what it held before, in KiB.
  local function held_during(transfer)
    local before = memory("VmRSS")
    process.write(("/proc/%d/clear_refs"):format(gw:workers()[0]), "5") -- the peak begins anew
    transfer()
    return memory("VmHWM") - before
  end

  local function check(what, transfer)
    local held = held_during(transfer)
    io.write(("      %d MiB %s: %d KiB more than idle\n"):format(MIB, what, held))
    assert.is_true(IS_SANITIZED or held < ROOM_KIB, held .. " KiB")
  end

  it("stream down, whole and within 10 MiB of memory", function()
    check("down", function()
      local said = process.run(("curl -sS --max-time 100 -o /dev/null -w '%%{size_download}' "
        .. "http://127.0.0.1:%d/"):format(gw:port("http")))
      assert.equal(tostring(MIB * 1048576), said)
    end)
  end)

  it("stream up, whole and within 10 MiB of memory", function()
    check("up", function()
      local file = gw.root .. "/upload" -- a hole: nothing is written
      local said = process.run(("truncate -s %dM '%s' && curl -sS --max-time 100 -T '%s' "
        .. "http://127.0.0.1:%d/up"):format(MIB, file, file, gw:port("http")))
      assert.equal(tostring(MIB * 1048576), said)
    end)
  end)

  it("wait for a client that is slow, instead of piling up", function()
    check("down, read at 8 MiB/s for two seconds", function()
      local _, status = process.run(("curl -sS --max-time 2 --limit-rate 8M -o /dev/null "
        .. "http://127.0.0.1:%d/"):format(gw:port("http")))
      assert.equal(28, status) -- it gave up
    end)
  end)
end)
