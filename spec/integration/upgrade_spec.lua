-- SPDX-License-Identifier: Apache-2.0
--- A new binary takes over under load: no connection is refused, no request fails.
local process = require("spec.support.process")
local socket = require("socket")

local CONFIG = [[
return {
  name = "upgraded", access_log = false, limits = { drain_timeout = 4 },
  listeners = { { name = "http", address = "127.0.0.1:0" },
    { name = "local", address = "unix:%s" } },
  management = { address = "127.0.0.1:0" },
  backends = { origin = { targets = { "http://127.0.0.1:%d" } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/slow", reply = { status = 200, body = "slow" },
      policies = { inbound = { function(ctx) ctx:sleep(1) end } } },
    { path = "/echo/*", backend = "origin" },
    { path = "/*", reply = { status = 200, body = "ok" } },
  } } },
}
]]

-- Says yes to a WebSocket, and sends back what comes.
local TUNNEL = [[
local socket = require("socket")
local server = assert(socket.bind("127.0.0.1", tonumber(arg[1])))
while true do
  local client = server:accept()
  repeat
    local line = client:receive("*l")
  until not line or line == ""
  client:send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    .. "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
  repeat
    local bytes = client:receive(4)
  until not bytes or not client:send(bytes)
  client:close()
end
]]

describe("moongate upgrade", function()
  local gw, binary, path, origin_port, origin_pid

  before_each(function()
    path = process.run("mktemp -u /tmp/moongate-upgrade.XXXXXX"):match("%S+")
    binary = path .. ".binary"
    process.run(("cp '%s' '%s'"):format(process.binary, binary))
    local held = assert(socket.bind("127.0.0.1", 0))
    origin_port = tonumber((select(2, held:getsockname())))
    held:close()
    gw = process.start { files = { ["gateway.lua"] = CONFIG:format(path .. ".sock", origin_port) },
      workers = 2, binary = binary }
  end)

  --- The origin of /echo/*: `command` is luajit's arguments.
  local function start_origin(command)
    origin_pid = process.run(("luajit %s >/dev/null 2>&1 & echo $!"):format(command)):match("%d+")
    assert.truthy(process.eventually(function()
      local client = socket.connect("127.0.0.1", origin_port)
      return client and client:close()
    end))
  end

  after_each(function()
    gw:stop()
    if origin_pid then
      process.run("kill " .. origin_pid)
      origin_pid = nil
    end
    process.run(("rm -f '%s' '%s.sock' '%s.bad'"):format(binary, path, path))
  end)

  local function get_local()
    return (process.run(("curl -s --unix-socket '%s.sock' http://t.test/"):format(path)))
  end

  local function replace_binary()
    process.run(("cp '%s' '%s.new' && mv '%s.new' '%s'"):format(process.binary, binary, binary,
      binary))
  end

  it("refuses no connection and fails no request", function()
    local port, first = gw:port("http"), gw:facts().pid
    local stop, failures = gw.root .. "/stop", gw.root .. "/failures"
    -- A connection for each request: what a refused connection would show first.
    process.write(gw.root .. "/knock.lua", ([[
      local socket = require("socket")
      local made, failed = 0, {}
      while not io.open(%q) do
        local client, err = socket.connect("127.0.0.1", %d)
        local answer
        if client then
          client:settimeout(5)
          client:send("GET / HTTP/1.1\r\nHost: t.test\r\nConnection: close\r\n\r\n")
          answer, err = client:receive("*a")
          client:close()
        end
        made = made + 1
        if not (answer or ""):find("^HTTP/1.1 200") then
          failed[#failed + 1] = tostring(err) .. " " .. tostring(answer)
        end
      end
      local file = io.open(%q, "w")
      file:write(made, " ", #failed, "\n", table.concat(failed, "\n"), "\n")
      file:close()
    ]]):format(stop, port, failures))
    process.run(("luajit '%s/knock.lua' >/dev/null 2>&1 & echo"):format(gw.root))
    socket.sleep(0.3)
    local slow = socket.connect("127.0.0.1", port)
    slow:send("GET /slow HTTP/1.1\r\nHost: t.test\r\nConnection: close\r\n\r\n")
    socket.sleep(0.1)
    for _ = 1, 3 do
      replace_binary()
      local said, status = gw:command("upgrade")
      assert.equal(0, status, said)
      socket.sleep(0.3)
    end
    slow:settimeout(20)
    assert.truthy((slow:receive("*a") or ""):find("^HTTP/1.1 200"))
    process.write(stop, "")
    assert.truthy(process.eventually(function()
      return process.read(failures):find("\n")
    end))
    local made, failed = process.read(failures):match("^(%d+) (%d+)")
    assert.equal("0", failed, process.read(failures))
    assert.is_true(tonumber(made) > 100)
    assert.not_equal(first, gw:facts().pid)
    assert.equal(port, gw:port("http"))
    assert.truthy(process.eventually(function()
      return not process.is_alive(first)
    end), gw:log())
    assert.equal("ok", get_local())
    assert.equal(0, (select(2, gw:command("reload"))))
  end)

  it("fails no request of clients that keep their connections", function()
    start_origin(("spec/support/chaos_origin.lua origin %d"):format(origin_port))
    local stop, report = gw.root .. "/stop", gw.root .. "/report.lua"
    process.run(("luajit spec/support/chaos_load.lua load 16 '%s' '%s' 1 %d >'%s/load.log' 2>&1 & echo")
      :format(stop, report, gw:port("http"), gw.root))
    for _ = 1, 3 do
      socket.sleep(0.5)
      replace_binary()
      local said, status = gw:command("upgrade")
      assert.equal(0, status, said)
    end
    socket.sleep(0.5)
    process.write(stop, "")
    assert.truthy(process.eventually(function()
      return process.read(report) ~= ""
    end, 20), process.read(gw.root .. "/load.log"))
    local seen = dofile(report)
    assert.same({}, seen.failures)
    assert.is_true(seen.requests > 200 and seen.posts > 20, seen.requests .. " requests")
  end)

  it("lets a WebSocket live until drain_timeout, and no longer", function()
    process.write(gw.root .. "/tunnel.lua", TUNNEL)
    start_origin(("'%s/tunnel.lua' %d"):format(gw.root, origin_port))
    local client = assert(socket.connect("127.0.0.1", gw:port("http")))
    client:settimeout(20)
    client:send("GET /echo/socket HTTP/1.1\r\nHost: t.test\r\nConnection: Upgrade\r\n"
      .. "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
      .. "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    assert.matches("^HTTP/1.1 101 ", (client:receive("*l")))
    repeat
      local line = client:receive("*l")
    until not line or line == ""
    local function echoes(bytes)
      client:send(bytes)
      return client:receive(#bytes) == bytes
    end
    assert.is_true(echoes("ping"))
    local first = gw:facts().pid
    assert.equal(0, (select(2, gw:command("upgrade"))))
    local began = socket.gettime()
    assert.not_equal(first, gw:facts().pid)
    assert.is_true(echoes("pong"))
    socket.sleep(1)
    assert.is_true(echoes("late"))
    assert.is_true(process.is_alive(first))
    assert.is_nil((client:receive(1)))
    local lived = socket.gettime() - began
    assert.is_true(lived > 1.5 and lived < 15, "it lived for " .. lived .. " s")
    assert.truthy(process.eventually(function()
      return not process.is_alive(first)
    end), gw:log())
    assert.matches("connections are still open after drain_timeout", gw:log())
  end)

  it("is started by SIGUSR2, too", function()
    local first = gw:facts().pid
    gw:signal("USR2", first)
    assert.truthy(process.eventually(function()
      return gw:facts().pid ~= first and not process.is_alive(first)
    end), gw:log())
    assert.equal(200, (process.get(gw:port("http"), "/")))
  end)

  it("leaves the old binary serving where the new one does not", function()
    local first = gw:facts().pid
    gw:write_file("gateway.lua", "return {")
    local said, status = gw:command("upgrade")
    assert.equal(1, status, said)
    assert.truthy(said:find("ended with status 1", 1, true), said)
    assert.equal(200, (process.get(gw:port("http"), "/")))
    assert.equal(first, gw:facts().pid)
    assert.equal("ok", get_local())
  end)
end)
