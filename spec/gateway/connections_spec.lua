-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")
local socket = require("socket")

local config = [[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  management = { address = "127.0.0.1:0" },
  limits = { connections_per_address = 3, requests_per_connection = 2 },
  sites = { { hosts = { "*" }, routes = { { path = "/*", reply = { status = 200, body = "ok" } } } } },
}
]]

describe("connections of one address", function()
  local gw

  setup(function()
    gw = moongate.gateway({ files = { ["gateway.lua"] = config } })
  end)

  teardown(function()
    gw:close()
  end)

  it("are closed at once past their limit, counted, and welcome again later", function()
    local open = {}
    for i = 1, 4 do
      open[i] = assert(socket.connect("127.0.0.1", gw:port()))
      gw.core:turn(5)
    end
    gw.core:turn(5)
    assert.equal(3, gw:connections())
    local metrics = gw:get("/metrics", { listener = "management" }).body
    assert.matches('moongate_connections_refused_total{reason="address"} 1\n', metrics)
    open[1]:close()
    gw.core:turn(5)
    gw.core:turn(5)
    assert.equal(200, gw:get("/").status)
    for i = 2, 4 do
      open[i]:close()
    end
  end)

  it("end after as many requests as a connection may have", function()
    local request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    local answer, is_closed = gw:raw(request:rep(3))
    local _, count = answer:gsub("HTTP/1%.1 200", "")
    assert.equal(2, count)
    assert.is_true(is_closed)
  end)
end)

describe("connections of a worker", function()
  local gw

  setup(function()
    gw = moongate.gateway({ files = { ["gateway.lua"] = config
      :gsub("connections_per_address = 3, requests_per_connection = 2", "connections = 3")
      :gsub("127.0.0.1:0\" }", "127.0.0.1:0\", http2 = true }", 1) } })
  end)

  teardown(function()
    gw:close()
  end)

  local function connect()
    local client = assert(socket.connect("127.0.0.1", gw:port()))
    client:settimeout(0)
    gw.core:turn(5)
    return client
  end

  local function is_open(client)
    gw.core:turn(5)
    local _, err = client:receive(1)
    return err == "timeout"
  end

  it("are refused past their number while all are in use, and the log says why", function()
    local open = { connect(), connect(), connect() } -- their first request is still awaited
    local late = connect()
    assert.is_false(is_open(late))
    assert.is_true(is_open(open[1]))
    local metrics = gw:get("/metrics", { listener = "management" }).body
    assert.matches('moongate_connections_refused_total{reason="connections"} 1\n', metrics)
    for _, client in ipairs(open) do
      client:close()
    end
    gw.core:turn(5)
  end)

  it("that are idle make room for new ones", function()
    local kept = {}
    for i = 1, 3 do
      kept[i] = connect()
      kept[i]:send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
      gw.core:turn(5)
      assert.matches("200 OK", (kept[i]:receive("*l")))
    end
    local new = connect()
    assert.is_true(is_open(new))
    new:send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    gw.core:turn(5)
    assert.matches("200 OK", (new:receive("*l")))
    assert.equal(3, gw:connections())
    for _, client in ipairs { kept[1], kept[2], kept[3], new } do
      client:close()
    end
    gw.core:turn(5)
  end)

  it("that are idle in HTTP/2 do so, too, with GOAWAY", function()
    local h2 = require("spec.support.h2")
    local kept = {}
    for i = 1, 3 do
      kept[i] = connect()
      kept[i]:send(h2.START .. h2.get(1, "/"))
      gw.core:turn(5)
      gw.core:turn(5)
    end
    local new = connect()
    assert.is_true(is_open(new))
    assert.equal(3, gw:connections())
    local bytes = kept[1]:receive("*a")
    local goaway = h2.only(h2.read(bytes), "GOAWAY")[1]
    assert.equal("NO_ERROR", goaway and goaway.code)
    for _, client in ipairs { kept[1], kept[2], kept[3], new } do
      client:close()
    end
    gw.core:turn(5)
  end)
end)

describe("TLS handshakes of one address", function()
  local gw, dir

  setup(function()
    dir = os.tmpname()
    os.remove(dir)
    assert(os.execute(("mkdir %s && openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 2 "
      .. "-subj /CN=a -keyout %s/a.key -out %s/a.pem >/dev/null 2>&1"):format(dir, dir, dir)) == 0)
    gw = moongate.gateway({ files = { ["gateway.lua"] = ([[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" },
    { name = "https", address = "127.0.0.1:0", tls = { warn_before = 7, certificates = {
      { certificate = "DIR/a.pem", key = "DIR/a.key" } } } } },
  management = { address = "127.0.0.1:0" },
  limits = { handshakes_per_address = 3, tls_timeout = 0.5, head_timeout = 5 },
  sites = { { hosts = { "*" }, routes = { { path = "/*", reply = { status = 200, body = "ok" } } } } },
}
]]):gsub("DIR", dir) } })
  end)

  teardown(function()
    gw:close()
    os.execute("rm -rf " .. dir)
  end)

  local request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

  local function over_tls()
    return (gw:raw(request, { listener = "https", tls = true }))
  end

  it("are refused past their limit, while clear connections are served, and welcome again later", function()
    for _ = 1, 3 do
      assert.matches("200 OK", over_tls())
    end
    assert.equal("", over_tls())
    assert.matches("200 OK", (gw:raw(request, { listener = "http" })))
    local metrics = gw:get("/metrics", { listener = "management" }).body
    assert.matches('moongate_connections_refused_total{reason="handshakes"} 1\n', metrics)
    gw:advance(11)
    assert.matches("200 OK", over_tls())
  end)

  it("end in tls_timeout, not in head_timeout", function()
    gw:advance(11)
    local client = assert(socket.connect("127.0.0.1", gw:port("https")))
    client:settimeout(0)
    client:send("\22\3\1")
    gw.core:turn(5)
    assert.equal(1, gw:connections())
    gw:advance(0.6)
    assert.equal(0, gw:connections())
    client:close()
  end)

  it("come with Strict-Transport-Security, and clear answers without", function()
    gw:advance(11)
    assert.matches("\r\nStrict%-Transport%-Security: max%-age=31536000\r\n", over_tls())
    local clear = gw:raw(request, { listener = "http" })
    assert.not_matches("Strict", clear)
    assert.matches("\r\nX%-Content%-Type%-Options: nosniff\r\n", clear)
  end)

  it("show a certificate whose end is told by a metric", function()
    gw:advance(1.1)
    local metrics = gw:get("/metrics", { listener = "management" }).body
    local left = tonumber(metrics:match('moongate_certificate_expires_seconds{listener="https"} (%d+)\n'))
    assert.is_true(left > 86400 and left <= 2 * 86400)
  end)
end)

describe("a client that does not read", function()
  local gw

  setup(function()
    gw = moongate.gateway({ files = { ["gateway.lua"] = [[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  limits = { send_timeout = 40 },
  backends = { origin = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/short/*", backend = "origin", limits = { send_timeout = 20, idle_timeout = 30 } },
    { path = "/*", backend = "origin" } } } },
}
]] }, backends = { origin = function()
        return 200, {}, ("x"):rep(20 * 1024 * 1024)
      end } })
  end)

  teardown(function()
    gw:close()
  end)

  -- Turns the loop until the answer has begun, and on until the sockets between are full: a turn moves
  -- 64 KiB and more.
  local function stall(path)
    local client = assert(socket.connect("127.0.0.1", gw:port()))
    client:settimeout(0)
    client:send("GET " .. path .. " HTTP/1.1\r\nHost: a\r\n\r\n")
    local till = socket.gettime() + 10
    while #socket.select({ client }, nil, 0) == 0 and socket.gettime() < till do
      gw.core:turn(2)
    end
    for _ = 1, 300 do
      gw.core:turn(1)
    end
    return client
  end

  it("is cut off after its route's send_timeout, and the log says why", function()
    local client = stall("/short/x")
    gw:advance(10)
    assert.equal(1, gw:connections())
    gw:advance(11)
    assert.equal(0, gw:connections())
    assert.equal("send_timeout", gw:last_log().error)
    client:close()
  end)

  it("has the gateway's send_timeout where the route says nothing", function()
    local client = stall("/x")
    gw:advance(30)
    assert.equal(1, gw:connections())
    gw:advance(11)
    assert.equal(0, gw:connections())
    client:close()
  end)

  it("and reads on is served for as long as it takes", function()
    local client = stall("/short/y")
    local got = 0
    while got < 20 * 1024 * 1024 do
      for _ = 1, 40 do
        local bytes, _, part = client:receive(65536)
        got = got + #(bytes or part)
        gw.core:turn(0)
      end
      gw:advance(0.5)
    end
    assert.equal(200, gw:last_log().status)
    gw:advance(20)
    assert.equal(1, gw:connections())
    gw:advance(11) -- idle_timeout of the route
    assert.equal(0, gw:connections())
    client:close()
  end)
end)

describe("a worker that is overrun", function()
  local gw

  setup(function()
    gw = moongate.gateway({ files = { ["gateway.lua"] = [[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  management = { address = "127.0.0.1:0" },
  limits = { overload_lag = 0.01, policy_cpu = 5 },
  sites = { { hosts = { "*" }, routes = {
    { path = "/spin", reply = { status = 200 }, policies = { inbound = { function(ctx)
      local till = os.clock() + 0.3
      while os.clock() < till do end
    end } } },
    { path = "/*", reply = { status = 200, body = "ok" } } } } },
}
]] } })
  end)

  teardown(function()
    gw:close()
  end)

  it("answers 503 with Retry-After, keeps management alive, and recovers", function()
    assert.equal(200, gw:get("/").status)
    local shed
    for _ = 1, 10 do
      gw:get("/spin")
      local answer = gw:get("/")
      if answer.status == 503 then
        shed = answer
        break
      end
    end
    assert.is_truthy(shed, "nothing is shed")
    assert.equal("1", shed.headers["retry-after"])
    assert.equal("overload", gw:last_log().error)
    assert.equal(200, gw:get("/health", { listener = "management" }).status)
    local metrics = gw:get("/metrics", { listener = "management" }).body
    assert.is_true(tonumber(metrics:match("moongate_requests_shed_total (%d+)\n")) >= 1)
    local status
    local deadline = os.time() + 20
    repeat -- the average forgets in real time
      require("socket").sleep(0.2)
      gw.core:turn(0)
      status = gw:get("/").status
    until status == 200 or os.time() > deadline
    assert.equal(200, status)
  end)
end)

describe("a worker that is larger than it may be", function()
  local function files(bytes)
    return { ["gateway.lua"] = ([[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  management = { address = "127.0.0.1:0" },
  limits = { overload_memory_bytes = %d },
  sites = { { hosts = { "*" }, routes = { { path = "/*", reply = { status = 200, body = "ok" } } } } },
}
]]):format(bytes) }
  end

  it("answers 503 with Retry-After until it is not, and keeps management alive", function()
    local gw = moongate.gateway({ files = files(1024) })
    gw:advance(1.1)
    local answer = gw:get("/")
    assert.equal(503, answer.status)
    assert.equal("1", answer.headers["retry-after"])
    assert.equal("overload", gw:last_log().error)
    assert.equal(200, gw:get("/health", { listener = "management" }).status)
    assert.is_true(gw:reload(files(1024 * 1024 * 1024 * 1024)))
    gw:advance(1.1)
    assert.equal(200, gw:get("/").status)
    gw:close()
  end)
end)
