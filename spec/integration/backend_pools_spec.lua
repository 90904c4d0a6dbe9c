-- SPDX-License-Identifier: Apache-2.0
--- Backend pools as they run: a gateway of two workers before ten origins in Node. What needs hours or a
--- clock that stands still is in spec/gateway/backend_{pools,shares,failures}_spec.lua.
local json = require("cjson")
local nodes = require("spec.support.node")
local process = require("spec.support.process")
local socket = require("socket")

if not nodes.has({}) then
  describe("a pool of backends", function()
    pending("needs node")
  end)
  return
end

local CONFIG = [==[
local a, b = "http://127.0.0.1:PORT1", "http://127.0.0.1:PORT2"
local c, d = "http://127.0.0.1:PORT3", "http://127.0.0.1:PORT4"
local e, f, g = "http://127.0.0.1:PORT5", "http://127.0.0.1:PORT6", "http://127.0.0.1:PORT7" -- those that get ejected
local h, i, j = "http://127.0.0.1:PORT8", "http://127.0.0.1:PORT9", "http://127.0.0.1:PORT10" -- are in one pool each
local nobody = "http://127.0.0.1:9"
local calm = { failures = 1000 }
local backends = {
  turns = { targets = { a, b, c } },
  weights = { targets = { { url = a, weight = 3 }, b } },
  least = { balance = "least_requests", targets = { a, b } },
  by_header = { balance = "hash", hash = { on = "header", name = "X-User" }, targets = { a, b, c } },
  by_cookie = { balance = "hash", hash = { on = "cookie", name = "user" }, targets = { a, b, c } },
  by_address = { balance = "hash", hash = { on = "client_ip" }, targets = { a, b, c } },
  groups = { targets = { nobody, { url = b, priority = 1 } }, retries = 1 },
  sticky = { affinity = { cookie = "stick", ttl = 60 }, targets = { a, b, c } },
  slow_start = { slow_start = 4, outlier = { failures = 1, eject = 1, max_share = 50 }, retries = 1,
    targets = { e, f } },
  ejecting = { outlier = { failures = 2, eject = 60, max_share = 50 }, retries = 0, panic = 0, targets = { g, h } },
  panicking = { outlier = { failures = 1, eject = 60, max_share = 100 }, panic = 60, retries = 0, targets = { i, j } },
  breaking = { breaker = { failures = 3, ratio = 0.5, window = 10, open = 1 }, retries = 0, outlier = calm,
    targets = { a } },
  asking = { breaker = { failures = 1, ratio = 0, window = 10, open = 1 }, retries = 0, outlier = calm,
    targets = { b } },
  trying = { retries = 1, retry = { on = { 503, "reset" }, backoff = 0.001, idempotency_key = true, budget = 100 },
    outlier = calm, targets = { a, b } },
  thrifty = { retries = 1, retry = { on = { 503 }, backoff = 0.3, budget = 20 }, outlier = calm, targets = { a, b } },
  timely = { retries = 1, retry = { on = { "timeout" }, try_timeout = 0.5, backoff = 0.001 }, outlier = calm,
    targets = { a, b } },
  total = { retries = 0, timeout = { total = 0.3 }, outlier = calm, targets = { a } },
  old = { targets = { a } }, new = { targets = { b } },
  canary = { split = { { backend = "old", weight = 4 }, { backend = "new", weight = 1 } } },
  shadow = { targets = { d }, timeout = { total = 5 } },
  mirrored = { targets = { a }, mirror = { backend = "shadow" } },
  basic = { targets = { a }, auth = { basic = { username = "u", password = "p:1" }, headers = { ["X-Key"] = "k" } } },
  oauth2 = { targets = { a },
    auth = { oauth2 = { token_url = d .. "/token", client_id = "id", client_secret = "s" } } },
  leaving = { targets = { LEAVING } },
}
local routes = {}
for name in pairs(backends) do
  routes[#routes + 1] = { path = "/" .. name, backend = name }
end
table.sort(routes, function(x, y) return x.path < y.path end)
return {
  name = "spec", workers = 2,
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  management = { address = "127.0.0.1:0" },
  backends = backends,
  sites = { { hosts = { "*" }, routes = routes } },
}]==]

describe("a pool of backends", function()
  local gw, started_at, origins, pid

  local function config(leaving)
    return (CONFIG:gsub("PORT(%d+)", function(i)
      return origins[tonumber(i)]
    end):gsub("LEAVING", leaving))
  end

  setup(function()
    local line
    pid, line = nodes.start("pool_origin", "^[%d ]+\n", "10")
    origins = {}
    for port in line:gmatch("%d+") do
      origins[#origins + 1] = tonumber(port)
    end
    gw = process.start { files = { ["gateway.lua"] = config("c") } }
    started_at = socket.gettime()
  end)

  teardown(function()
    if gw then
      gw:stop()
    end
    process.run("kill " .. pid)
  end)

  --- Tells an origin how to answer from now on.
  local function set(number, how)
    assert.equal(200, (process.get(origins[number], "/~set?" .. (how or ""))))
  end

  local function seen(number)
    local _, body = process.get(origins[number], "/~seen")
    return json.decode(body)
  end

  before_each(function()
    for i = 1, 10 do
      set(i)
    end
  end)

  --- Each on a connection of its own, so that both workers are asked.
  local function get(path, fields)
    local status, body, head = process.get(gw:port("http"), path, fields)
    return body, status, head
  end

  local function counts(n, path, fields)
    local count = {}
    for _ = 1, n do
      local body, status = get(path, fields)
      local key = status == 200 and tonumber(body) or status
      count[key] = (count[key] or 0) + 1
    end
    return count
  end

  --- Many at once, or a pause after the other.
  local function at_once(n, path, fields, pause_s)
    local clients, statuses = {}, {}
    for i = 1, n do
      clients[i] = assert(socket.connect("127.0.0.1", gw:port("http")))
      clients[i]:settimeout(10)
      clients[i]:send(("GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s\r\n"):format(path, fields or ""))
      socket.sleep(pause_s or 0)
    end
    for i = 1, n do
      local status = tonumber(((clients[i]:receive("*l")) or ""):match("^HTTP/1.1 (%d+)")) or 0
      statuses[status] = (statuses[status] or 0) + 1
      clients[i]:close()
    end
    return statuses
  end

  local function is_about(wanted, got, tolerance, what)
    assert.is_true(math.abs(wanted - (got or 0)) <= tolerance, ("%s: %s"):format(what or "", tostring(got)))
  end

  local function post(path, body, fields)
    local client = assert(socket.connect("127.0.0.1", gw:port("http")))
    client:settimeout(10)
    client:send(("POST %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n%s")
      :format(path, #body, fields or "", body))
    local text = client:receive("*a") or ""
    client:close()
    return tonumber(text:match("^HTTP/1.1 (%d+)"))
  end

  describe("chooses", function()
    it("in turns, each worker for itself", function()
      local count = counts(30, "/turns")
      for i = 1, 3 do
        is_about(10, count[i], 1)
      end
    end)

    it("by weight", function()
      local count = counts(40, "/weights")
      is_about(30, count[1], 2)
      is_about(10, count[2], 2)
    end)

    it("the one with fewer requests", function()
      set(1, "delay_ms=2000")
      local slow = {}
      for _ = 1, 12 do -- the fast one's answer is there before the next is asked
        local client = assert(socket.connect("127.0.0.1", gw:port("http")))
        client:send("GET /least HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        local before = #slow
        assert.truthy(process.eventually(function()
          if #seen(1) > before then
            slow[before + 1] = client
          end
          return #slow > before or socket.select({ client }, nil, 0)[1]
        end))
      end
      assert.is_true(#slow <= 2, #slow .. " of 12 went to the slow one; each worker gives it one")
      for _, client in ipairs(slow) do
        client:settimeout(10)
        assert.matches("^HTTP/1.1 200 ", (client:receive("*l")))
      end
    end)

    for what, case in pairs {
      ["a header"] = { "/by_header", function(i) return ("X-User: user-%d\r\n"):format(i) end },
      ["a cookie"] = { "/by_cookie", function(i) return ("Cookie: a=b; user=%d\r\n"):format(i) end },
    } do
      it("by the hash of " .. what .. ", alike in all workers", function()
        local used = {}
        for i = 1, 45 do -- by the ports, which are chance, fifteen would miss one of three in 150 runs
          local first = get(case[1], case[2](i))
          used[first] = true
          for _ = 1, i <= 15 and 3 or 0 do
            assert.equal(first, (get(case[1], case[2](i))))
          end
        end
        assert.same({ ["1"] = true, ["2"] = true, ["3"] = true }, used)
      end)
    end

    it("by the hash of the client's address", function()
      local only = next(counts(10, "/by_address"))
      assert.same({ [only] = 10 }, counts(10, "/by_address"))
    end)

    it("a higher priority where the lower one is gone", function()
      assert.same({ [2] = 10 }, counts(10, "/groups"))
    end)

    it("the one that a client's cookie names", function()
      local first, _, head = get("/sticky")
      local pair = assert(head:match("\r\nSet%-Cookie: (stick=%x+);"), head)
      assert.same({ [tonumber(first)] = 10 }, counts(10, "/sticky", "Cookie: " .. pair .. "\r\n"))
    end)

    it("shares by weight (canaries)", function()
      local count = counts(60, "/canary")
      assert.equal(60, (count[1] or 0) + (count[2] or 0))
      assert.is_true((count[2] or 0) >= 2 and count[2] <= 28, tostring(count[2]))
    end)
  end)

  describe("judges health", function()
    it("by what comes: a failing target is left out by all workers, and /status tells why", function()
      set(7, "drop=1")
      counts(8, "/ejecting") -- two failures, whichever worker
      assert.same({ [8] = 12 }, counts(12, "/ejecting"))
      local _, status = process.get(gw:port("management"), "/status")
      local found
      for _, target in ipairs(json.decode(status).targets) do
        found = found or target.state == "down" and target.reason
      end
      assert.matches("closed before a complete response", found)
    end)

    it("not at all where too few are left (panic)", function()
      set(9, "drop=1")
      set(10, "drop=1")
      counts(8, "/panicking")
      set(9)
      set(10)
      local count = counts(10, "/panicking")
      assert.equal(10, (count[9] or 0) + (count[10] or 0)) -- both are asked, ejected as they are
      assert.is_truthy(count[9] and count[10])
    end)

    it("and brings back slowly what has returned", function()
      socket.sleep(math.max(0, started_at + 4.1 - socket.gettime())) -- at first all are new
      set(5, "drop=1")
      counts(6, "/slow_start")
      set(5)
      socket.sleep(1.1)
      local back_at = socket.gettime()
      counts(6, "/slow_start") -- the first answer brings it back
      local count = counts(40, "/slow_start")
      local grown = math.min(1, (socket.gettime() - back_at) / 4) -- its weight by now, of 1
      local most = 40 * grown / (1 + grown) + 8
      assert.is_true((count[5] or 0) <= most, ("the new one had %s, of %.1f"):format(tostring(count[5]), most))
      assert.equal(40, (count[5] or 0) + count[6])
    end)
  end)

  describe("bounds", function()
    it("what goes to a failing backend: the breaker opens, says when, and closes behind a good probe", function()
      set(1, "status=500")
      counts(6, "/breaking")
      local asked, head
      assert.truthy(process.eventually(function() -- it is tried once a second
        asked = #seen(1)
        local _, status, fields = get("/breaking")
        head = fields
        return status == 503
      end))
      assert.matches("\r\nRetry%-After: %d+\r\n", head)
      assert.equal(asked, #seen(1))
      set(1)
      assert.truthy(process.eventually(function()
        return select(2, get("/breaking")) == 200
      end))
      assert.same({ [1] = 6 }, counts(6, "/breaking"))
    end)

    it("calls for as long as the backend asks by Retry-After", function()
      set(2, "status=503&retry_after=60")
      get("/asking")
      local _, status, head = get("/asking")
      assert.equal(503, status)
      assert.is_true(tonumber(head:match("\r\nRetry%-After: (%d+)")) > 50)
    end)

    it("further tries by the budget: a fifth of what is under way, or three", function()
      set(1, "status=503")
      set(2, "status=503")
      local began = socket.gettime()
      at_once(20, "/thrifty")
      local tries = #seen(1) + #seen(2) - 20
      -- Each worker has its own budget; what has been tried makes room for others, 0.3 s later at the earliest.
      local rounds = math.max(1, math.floor((socket.gettime() - began) / 0.3))
      assert.is_true(tries >= 1 and tries <= 2 * 4 * rounds, tries .. " further tries")
    end)

    it("each try, and all of them together, in time", function()
      set(1, "delay_ms=30000")
      assert.same({ [2] = 4 }, counts(4, "/timely"))
      local began = socket.gettime()
      assert.equal(504, select(2, get("/total")))
      assert.is_true(socket.gettime() - began < 10)
    end)
  end)

  describe("tries again", function()
    it("elsewhere what may be tried again, and shows the client nothing of it", function()
      set(1, "status=503")
      assert.same({ [2] = 8 }, counts(8, "/trying"))
      set(1, "drop=1")
      assert.same({ [2] = 8 }, counts(8, "/trying"))
    end)

    it("no POST that was sent, but one with an Idempotency-Key", function()
      set(1, "drop=1")
      local count = {}
      for _ = 1, 8 do
        local status = post("/trying", "x")
        count[status] = (count[status] or 0) + 1
      end
      assert.is_true(count[502] >= 3, "one of the two drops its connections")
      for _ = 1, 4 do
        assert.equal(200, post("/trying", "x", "Idempotency-Key: k\r\n"))
      end
      local calls = seen(2)
      assert.equal("x", calls[#calls].body)
    end)
  end)

  it("copies to a mirror what it is asked, and waits for nobody there", function()
    set(4, "delay_ms=4000")
    local began = socket.gettime()
    assert.equal(200, post("/mirrored", "data", "X-One: 1\r\n"))
    assert.is_true(socket.gettime() - began < 3.5)
    local copy = assert(process.eventually(function()
      return seen(4)[1]
    end))
    assert.same({ "POST", "/mirrored", "data", "1" }, { copy.method, copy.url, copy.body, copy.headers["x-one"] })
  end)

  it("shows backends what the configuration says, whatever the client sent", function()
    get("/basic", "Authorization: Bearer mine\r\nX-Key: mine\r\n")
    local call = seen(1)[1]
    assert.same({ "Basic dTpwOjE=", "k" }, { call.headers.authorization, call.headers["x-key"] })
  end)

  it("gets a token by OAuth2 client credentials, once a worker", function()
    counts(12, "/oauth2")
    local calls, tokens = seen(1), seen(4)
    assert.equal(12, #calls)
    assert.is_true(#tokens >= 1 and #tokens <= 2)
    for _, call in ipairs(calls) do
      assert.matches("^Bearer t%d$", call.headers.authorization)
    end
    assert.matches("grant_type=client_credentials", tokens[1].body)
  end)

  it("lets a target that a reload removes finish what it has", function()
    set(3, "delay_ms=700")
    local client = assert(socket.connect("127.0.0.1", gw:port("http")))
    client:settimeout(10)
    client:send("GET /leaving HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert.truthy(process.eventually(function()
      return #seen(3) == 1
    end))
    gw:write_file("gateway.lua", config("d"))
    assert.equal(0, (select(2, gw:command("reload"))))
    assert.same({ [4] = 4 }, counts(4, "/leaving"))
    assert.matches("\r\n\r\n3$", (client:receive("*a")))
    client:close()
    assert.equal(1, #seen(3))
  end)
end)
