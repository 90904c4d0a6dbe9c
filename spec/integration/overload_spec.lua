-- SPDX-License-Identifier: Apache-2.0
--- A worker with more to do than it can, or with no descriptor left: others are served on, management
--- above all, and nobody is left hanging when it is over.

local gateway = require("spec.support.gateway")
local socket = require("socket")

local CONFIG = [[
return {
  name = "spec", workers = 1,
  listeners = { { name = "http", address = "127.0.0.1:8080" } },
  management = { address = "127.0.0.1:3443" },
  limits = { policy_cpu = 5, connections_per_address = 200 },
  sites = { { hosts = { "*" }, routes = {
    { path = "/spin", reply = { status = 200 }, policies = { inbound = { function(ctx)
      local till = os.clock() + 0.08
      while os.clock() < till do end
    end } } },
    { path = "/*", reply = { status = 200, body = "ok" } } } } },
}
]]

describe("a worker with more to do than it can", function()
  if not gateway.is_there() then
    pending("needs a built gateway")
    return
  end

  local gw, port, management, dir, clients

  local function start(environment)
    dir = gateway.run("mktemp -d /tmp/moongate-spec.XXXXXX"):match("%S+")
    local file = assert(io.open(dir .. "/gateway.lua", "wb"))
    file:write(CONFIG)
    file:close()
    port, management = gateway.free_ports(2)
    gw = gateway.start({ from = dir, port = port, environment = environment,
      replace = { ["8080"] = tostring(port), ["3443"] = tostring(management) } })
  end

  after_each(function()
    for _, client in ipairs(clients) do
      client:close()
    end
    if gw then
      gw:stop()
      gw = nil
    end
    gateway.run(("rm -rf '%s'"):format(dir))
  end)

  local function connect(to)
    local client = assert(socket.connect("127.0.0.1", to))
    client:settimeout(20)
    return client
  end

  local function ask(client, path)
    client:send("GET " .. path .. " HTTP/1.1\r\nHost: a\r\n\r\n")
  end

  local function answer_of(client)
    local line, err = client:receive("*l")
    local headers = {}
    while line do
      local header = client:receive("*l")
      if not header or header == "" then
        break
      end
      local name, value = header:match("^([^:]+):%s*(.*)$")
      headers[name:lower()] = value
    end
    local length = tonumber(headers["content-length"] or 0)
    if line and length > 0 then
      client:receive(length)
    end
    return line and tonumber(line:match(" (%d%d%d) ")) or err, headers
  end

  it("refuses some, keeps the others and management, and is not taken for stuck", function()
    start()
    clients = {}
    for i = 1, 80 do -- 6.4 s of work, all of it ready at once
      clients[i] = connect(port)
      ask(clients[i], "/")
      assert.equal(200, (answer_of(clients[i])))
    end
    for _, client in ipairs(clients) do
      ask(client, "/spin")
    end
    local health = connect(management)
    local asked = socket.gettime()
    ask(health, "/health")
    assert.equal(200, (answer_of(health)))
    assert.is_true(socket.gettime() - asked < 10)
    local counts = {}
    for _, client in ipairs(clients) do
      local status, headers = answer_of(client)
      counts[status] = (counts[status] or 0) + 1
      if status == 503 then
        assert.equal("1", headers["retry-after"])
      end
    end
    assert.is_true((counts[200] or 0) > 0 and (counts[503] or 0) > 0,
      ("200: %s, 503: %s"):format(tostring(counts[200]), tostring(counts[503])))
    assert.equal(80, counts[200] + counts[503])
    local log = gw:log()
    assert.matches('"error":"overload"', log)
    assert.is_nil(log:find("replaced", 1, true), "the worker was taken for stuck")
    local deadline = socket.gettime() + 30
    local status
    repeat
      ask(clients[1], "/")
      status = answer_of(clients[1])
      socket.sleep(0.05)
    until status == 200 or socket.gettime() > deadline
    assert.equal(200, status)
  end)

  it("turns away who has too many connections, and says so once a second", function()
    start()
    clients = {}
    local began = socket.gettime()
    for i = 1, 230 do
      clients[i] = connect(port)
    end
    local total, lines
    local deadline = socket.gettime() + 20
    repeat
      socket.sleep(0.1)
      total, lines = 0, 0
      for count in gw:log():gmatch("connections refused=(%d+) reason=address") do
        total, lines = total + tonumber(count), lines + 1
      end
    until total >= 30 or socket.gettime() > deadline
    assert.equal(30, total)
    assert.is_true(lines <= socket.gettime() - began + 2, lines .. " lines")
    assert.equal("closed", (select(2, clients[230]:receive(1))))
    ask(clients[1], "/")
    assert.equal(200, (answer_of(clients[1])))
  end)

  it("without descriptors waits with accepting, says so, and goes on when some are free", function()
    start("prlimit --nofile=128:128")
    local served = 0
    clients = {}
    for i = 1, 150 do
      clients[i] = connect(port) -- the kernel takes them, the gateway does not
    end
    for i = 1, 30 do
      ask(clients[i], "/")
      served = served + (answer_of(clients[i]) == 200 and 1 or 0)
    end
    assert.equal(30, served)
    local deadline = socket.gettime() + 20
    while not gw:log():find("accepting pauses", 1, true) and socket.gettime() < deadline do
      socket.sleep(0.05)
    end
    assert.matches("accepting pauses", gw:log())
    for i = 1, 120 do
      clients[i]:close()
    end
    for i = 121, 150 do
      ask(clients[i], "/")
      assert.equal(200, (answer_of(clients[i])), "connection " .. i .. " is left waiting")
    end
  end)
end)
