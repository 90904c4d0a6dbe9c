-- SPDX-License-Identifier: Apache-2.0
--- A new binary takes over under load: no connection is refused, no request fails.
local process = require("spec.support.process")
local socket = require("socket")

local CONFIG = [[
return {
  name = "upgraded", access_log = false,
  listeners = { { name = "http", address = "127.0.0.1:0" },
    { name = "local", address = "unix:%s" } },
  management = { address = "127.0.0.1:0" },
  sites = { { hosts = { "*" }, routes = {
    { path = "/slow", reply = { status = 200, body = "slow" },
      policies = { inbound = { function(ctx) ctx:sleep(1) end } } },
    { path = "/*", reply = { status = 200, body = "ok" } },
  } } },
}
]]

describe("moongate upgrade", function()
  local gw, binary, path

  before_each(function()
    path = process.run("mktemp -u /tmp/moongate-upgrade.XXXXXX"):match("%S+")
    binary = path .. ".binary"
    process.run(("cp '%s' '%s'"):format(process.binary, binary))
    gw = process.start { files = { ["gateway.lua"] = CONFIG:format(path .. ".sock") }, workers = 2,
      binary = binary }
  end)

  after_each(function()
    gw:stop()
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
    slow:settimeout(5)
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
