-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local gw

after_each(function()
  if gw then
    gw:close()
    gw = nil
  end
end)

--- A gateway with one pool of `count` targets; `backend` are further fields of it, as Lua text.
local function start(count, backend, answers, more)
  local targets = {}
  for i = 1, count do
    targets[i] = type(more) == "table" and more[i] or ('"http://127.0.0.1:%d"'):format(i)
  end
  gw = moongate.gateway({
    files = { ["gateway.lua"] = ([[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  management = { address = "127.0.0.1:0" },
  backends = {
    pool = { targets = { %s }, timeout = { connect = 1, send = 1, first_byte = 2, idle = 3, total = 20 },
      %s },
  },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "pool" } } } },
}]]):format(table.concat(targets, ", "), backend or "") },
    backends = { pool = answers },
  })
  return gw
end

local function says(text)
  return function()
    return 200, {}, text
  end
end

local function get(path, headers)
  return gw:get(path or "/", { host = "a", headers = headers })
end

local function bodies(n, headers)
  local count = {}
  for _ = 1, n do
    local body = get("/", headers).body
    count[body] = (count[body] or 0) + 1
  end
  return count
end

local function targets()
  local json = require("moongate.json")
  local answer = gw:get("/status", { host = "a", listener = "management" })
  local by_name = {}
  for _, target in ipairs(json.decode(answer.body).targets) do
    by_name[#by_name + 1] = target
  end
  return by_name
end

describe("balancing", function()
  it("takes turns by weight", function()
    start(2, "", { says("1"), says("2") },
      { '{ url = "http://127.0.0.1:1", weight = 3 }', '"http://127.0.0.1:2"' })
    assert.same({ ["1"] = 30, ["2"] = 10 }, bodies(40))
  end)

  it("gives nothing to a target of weight 0", function()
    start(2, "", { says("1"), says("2") },
      { '{ url = "http://127.0.0.1:1", weight = 0 }', '"http://127.0.0.1:2"' })
    assert.same({ ["2"] = 10 }, bodies(10))
  end)

  it("hashes a header to the same target every time, and spreads keys", function()
    start(4, 'balance = "hash", hash = { on = "header", name = "X-User" }',
      { says("1"), says("2"), says("3"), says("4") })
    local seen = {}
    for i = 1, 60 do
      local first = get("/", { ["X-User"] = "user-" .. i }).body
      assert.equal(first, get("/", { ["X-User"] = "user-" .. i }).body)
      seen[first] = (seen[first] or 0) + 1
    end
    for i = 1, 4 do
      assert.is_true((seen[tostring(i)] or 0) >= 4)
    end
  end)

  it("uses a higher priority only when the lower one is gone", function()
    local is_down = false
    start(2, "retries = 1, outlier = { failures = 2, eject = 30, max_share = 100 }", { function()
      if not is_down then
        return 200, {}, "first"
      end
    end, says("second") },
      { '"http://127.0.0.1:1"', '{ url = "http://127.0.0.1:2", priority = 1 }' })
    assert.same({ first = 10 }, bodies(10))
    is_down = true
    assert.same({ second = 10 }, bodies(10))
    is_down = false
    gw:advance(31)
    assert.same({ first = 5 }, bodies(5))
  end)

  it("keeps a client on its target by a cookie", function()
    start(3, "affinity = { cookie = \"stick\", ttl = 60 }", { says("1"), says("2"), says("3") })
    local first = get()
    local cookie = first.headers["set-cookie"]
    assert.matches("^stick=%x+; Path=/; HttpOnly; SameSite=Lax; Max%-Age=60$", cookie)
    local pair = cookie:match("^[^;]+")
    for _ = 1, 6 do
      local answer = get("/", { Cookie = pair })
      assert.equal(first.body, answer.body)
      assert.is_nil(answer.headers["set-cookie"])
    end
    assert.is_string(get("/", { Cookie = "stick=0123456789abcdef" }).headers["set-cookie"])
  end)

  it("takes out a target that cuts its answers short, good as their heads are", function()
    start(2, "outlier = { failures = 2, eject = 30, max_share = 50 }, retries = 0", { function()
      return { raw = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf" }
    end, says("whole") })
    for _ = 1, 4 do
      get()
    end
    assert.same({ whole = 6 }, bodies(6))
  end)

  it("tries an ejected target again rather than fail a request", function()
    local down = "first"
    local function answers(name)
      return function()
        if down ~= name then
          return 200, {}, name
        end
      end
    end
    start(2, "retries = 1, outlier = { failures = 1, eject = 1000, max_share = 50 }",
      { answers("first"), answers("second") })
    assert.same({ second = 6 }, bodies(6))
    down = "second"
    assert.same({ first = 6 }, bodies(6))
  end)

  it("starts a returning target slowly", function()
    local is_down = true
    start(2, "slow_start = 100, outlier = { failures = 1, eject = 1, max_share = 50 }, retries = 1",
      { function()
        if not is_down then
          return 200, {}, "new"
        end
      end, says("old") })
    gw:advance(200)
    bodies(4)
    is_down = false
    gw:advance(2)
    bodies(20) -- the first answer brings it back
    local count = bodies(60)
    assert.is_true((count.new or 0) <= 15, "new: " .. tostring(count.new))
    gw:advance(200)
    assert.same({ new = 10, old = 10 }, bodies(20))
  end)
end)

describe("passive marking", function()
  it("ejects a failing target, for longer each time, and tells why", function()
    local is_down = true
    start(2, "outlier = { failures = 2, eject = 10, max_share = 50 }, retries = 1", { function()
      if not is_down then
        return 200, {}, "a"
      end
    end, says("b") })
    assert.same({ b = 12 }, bodies(12))
    local calls = #gw.calls.pool
    assert.same({ b = 6 }, bodies(6))
    assert.equal(calls + 6, #gw.calls.pool)
    local found
    for _, target in ipairs(targets()) do
      found = found or target.state == "down" and target.reason
    end
    assert.matches("closed before a complete response", found)
    gw:advance(11)
    bodies(4)
    gw:advance(11) -- twice as long now
    calls = #gw.calls.pool
    bodies(4)
    assert.equal(calls + 4, #gw.calls.pool)
    is_down = false
    gw:advance(10)
    assert.same({ a = 5, b = 5 }, bodies(10))
  end)

  it("keeps a floor of members however many fail", function()
    start(4, "outlier = { failures = 1, eject = 100, max_share = 50 }, retries = 0, panic = 0",
      { function() end, function() end, function() end, function() end })
    for _ = 1, 20 do
      get()
    end
    local down = 0
    for _, target in ipairs(targets()) do
      down = down + (target.state == "down" and 1 or 0)
    end
    assert.equal(2, down)
  end)

  it("ignores health when too few are left", function()
    local down = {}
    local function target(i)
      return function()
        if not down[i] then
          return 200, {}, tostring(i)
        end
      end
    end
    start(4, "outlier = { failures = 1, eject = 1000, max_share = 100 }, retries = 1, panic = 50",
      { target(1), target(2), target(3), target(4) })
    down = { true, true, true }
    for _ = 1, 12 do
      get()
    end
    down = {}
    local count = bodies(12)
    assert.is_true(count["1"] ~= nil or count["2"] ~= nil or count["3"] ~= nil)
  end)
end)

describe("active probes", function()
  it("take a target out and bring it back, by status, and say why", function()
    local status, asked = 200, 0
    start(2, [[health = { path = "/up", interval = 1, healthy = 2, unhealthy = 2, host = "probe.test",
      statuses = { 204, { 200, 201 } } } ]], { function(request)
      if request.path == "/up" then
        asked = asked + 1
        assert(request.headers.host == "probe.test")
        return status, {}, ""
      end
      return 200, {}, "a"
    end, function(request)
      return request.path == "/up" and 204 or 200, {}, request.path == "/up" and "" or "b"
    end })
    local function wait(n)
      for _ = 1, n do
        gw:advance(1.2)
        for _ = 1, 20 do
          gw.core:turn(2)
        end
      end
    end
    wait(2)
    assert.is_true(asked >= 1)
    assert.same({ a = 5, b = 5 }, bodies(10))
    status = 503
    wait(4)
    assert.same({ b = 10 }, bodies(10))
    local reasons = {}
    for _, target in ipairs(targets()) do
      reasons[target.state] = target.reason
    end
    assert.equal("probe: status 503", reasons.down)
    local metrics = gw:get("/metrics", { host = "a", listener = "management" }).body
    assert.matches('moongate_target_up{backend="pool",target="[^"]+"} 0', metrics)
    assert.matches('moongate_target_up{backend="pool",target="[^"]+"} 1', metrics)
    status = 201
    wait(4)
    assert.same({ a = 5, b = 5 }, bodies(10))
  end)

  it("look for a text in the body", function()
    local body = "all is well"
    start(2, [[health = { path = "/up", interval = 1, healthy = 1, unhealthy = 1, body = "is well" } ]],
      { function(request)
        return 200, {}, request.path == "/up" and body or "a"
      end, function(request)
        return 200, {}, request.path == "/up" and "is well" or "b"
      end })
    body = "is bad"
    for _ = 1, 3 do
      gw:advance(1.2)
      for _ = 1, 20 do
        gw.core:turn(2)
      end
    end
    assert.same({ b = 6 }, bodies(6))
  end)
end)

describe("further tries", function()
  it("go to another target on the causes that are listed", function()
    start(2, 'retries = 1, retry = { on = { 503 }, backoff = 0.001 }, outlier = { failures = 100 }',
      { function()
        return 503, {}, "busy"
      end, says("ok") })
    assert.same({ ok = 8 }, bodies(8))
  end)

  it("give up when they are used up, and show the last answer", function()
    start(2, 'retries = 1, retry = { on = { 503 }, backoff = 0.001 }, outlier = { failures = 100 }',
      { function()
        return 503, {}, "busy"
      end, function()
        return 503, {}, "busy too"
      end })
    assert.equal(503, get().status)
    assert.equal(2, #gw.calls.pool)
  end)

  it("are not made of a POST that was sent, unless it carries Idempotency-Key", function()
    local config = 'retries = 1, retry = { on = { "reset" }, backoff = 0.001, idempotency_key = true },'
      .. ' outlier = { failures = 100 }'
    start(2, config, { function() end, says("ok") })
    local statuses = {}
    for _ = 1, 4 do
      local status = gw:post("/", { host = "a", body = "x" }).status
      statuses[status] = (statuses[status] or 0) + 1
    end
    assert.same({ [200] = 2, [502] = 2 }, statuses)
    for _ = 1, 4 do
      local answer = gw:post("/", { host = "a", body = "x",
        headers = { ["Idempotency-Key"] = "k1" } })
      assert.equal(200, answer.status)
      assert.equal("x", gw.calls.pool[#gw.calls.pool].body)
    end
  end)

  it("are bounded by the budget", function()
    start(2, 'retries = 1, retry = { on = { "reset" }, budget = 0 }, outlier = { failures = 100 }',
      { function() end, says("ok") })
    local statuses = {}
    for _ = 1, 4 do
      local status = get().status
      statuses[status] = (statuses[status] or 0) + 1
    end
    assert.same({ [200] = 2, [502] = 2 }, statuses)
  end)

  it("begin when a try's own time is over", function()
    start(2, 'retries = 1, retry = { on = { "timeout" }, try_timeout = 0.05, backoff = 0.001 }, '
      .. 'outlier = { failures = 100 }', { function()
        return { raw = "", keep = true }
      end, says("ok") })
    assert.same({ ok = 4 }, bodies(4))
  end)
end)

describe("the breaker", function()
  it("opens, refuses with Retry-After, and closes after a probe", function()
    local is_bad = true
    start(1, [[breaker = { failures = 3, ratio = 0.5, window = 10, open = 5 }, retries = 0,
      outlier = { failures = 100 } ]], { function()
      return is_bad and 500 or 200, {}, "x"
    end })
    for _ = 1, 3 do
      assert.equal(500, get().status)
    end
    local answer = get()
    assert.equal(503, answer.status)
    assert.equal("breaker_open", gw:last_log().error)
    assert.is_true(tonumber(answer.headers["retry-after"]) <= 5)
    assert.equal(3, #gw.calls.pool)
    local status = gw:get("/status", { host = "a", listener = "management" }).body
    assert.matches('"breakers":%[{"backend":"pool","state":"open"', status)
    gw:advance(5.1)
    assert.equal(500, get().status) -- the probe
    assert.equal(503, get().status)
    is_bad = false
    gw:advance(5.1)
    assert.equal(200, get().status)
    assert.equal(200, get().status)
  end)

  it("stays open as long as the backend asks for", function()
    start(1, [[breaker = { failures = 1, ratio = 0, window = 10, open = 1 }, retries = 0 ]],
      { function()
        return 503, { ["Retry-After"] = "60" }, "x"
      end })
    assert.equal(503, get().status)
    gw:advance(30)
    local answer = get()
    assert.equal("breaker_open", gw:last_log().error)
    assert.is_true(tonumber(answer.headers["retry-after"]) > 25)
  end)
end)

describe("connections", function()
  it("are closed after so many requests", function()
    start(1, "keepalive = { requests = 2 }", { says("x") })
    bodies(6)
    local found -- the spec's own client has targets, too
    for _, target in ipairs(targets()) do
      found = found or target.requests == 6 and target
    end
    assert.is_true(found.connections <= 1)
  end)

  it("refuse what would wait beyond the queue", function()
    start(1, "limits = { connections = 1, pending = 0 }", { says("x") })
    assert.equal("x", get().body)
    assert.equal("x", get().body) -- the kept one
  end)
end)

describe("a target that a reload removes", function()
  local wire = require("spec.support.wire")
  local socket = require("socket")
  local old, new

  local function files(port)
    return { ["gateway.lua"] = ([[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { origin = { targets = { "http://127.0.0.1:%d" }, drain = 5, retries = 0 } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
}
]]):format(port) }
  end

  before_each(function()
    old, new = wire.origin(), wire.origin()
    gw = moongate.gateway { files = files(old.port) }
  end)

  after_each(function()
    gw:close()
    old:close()
    new:close()
  end)

  -- A download whose second half is still to come.
  local function begin()
    old:reset({ answer = "HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\nfirst" })
    local client = assert(socket.connect("127.0.0.1", gw:port()))
    client:settimeout(0)
    client:send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
    for _ = 1, 20 do
      gw.core:turn(1)
      old:turn()
    end
    assert.equal(1, #old.requests)
    assert.is_true(gw:reload(files(new.port)))
    return client
  end

  it("finishes what it has, and gets nothing new", function()
    local client = begin()
    local got = wire.exchange(gw, new, "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert.equal(200, got.answers[1].status)
    assert.equal(1, #new.requests)
    assert.equal(1, #old.requests)
    old.conns[1].socket:send(("x"):rep(19990) .. "later")
    for _ = 1, 20 do
      gw.core:turn(1)
    end
    local _, _, bytes = client:receive("*a")
    assert.matches("\r\n\r\nfirstx+later$", bytes)
    client:close()
  end)

  it("has until `drain` is over: then the answer is cut, and the log says why", function()
    local client = begin()
    gw:advance(4.5)
    gw.core:turn(5)
    assert.equal(1, gw:connections())
    gw:advance(1)
    for _ = 1, 10 do
      gw.core:turn(1)
    end
    assert.equal(0, gw:connections())
    assert.equal("total_timeout", gw:last_log().error)
    client:close()
  end)
end)
