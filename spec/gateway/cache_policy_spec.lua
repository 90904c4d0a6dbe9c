-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local config = [[
local p = require("moongate.policies")
local reply = require("moongate.reply")
local computed = 0
local function fan(ctx)
  local query = ctx.request.query
  local asks = {}
  for i = 1, tonumber(query.n) do
    asks[i] = function(c)
      local answer = c.http:request { url = "http://127.0.0.1:" .. query.port .. query.to }
      return answer.status .. " " .. answer.body
    end
  end
  local results, out = ctx:parallel(asks), {}
  for i = 1, #asks do out[i] = tostring(results[i].value) end
  return reply.json(200, out)
end
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  management = { address = "127.0.0.1:0" },
  cache = { bytes = 8388608 },
  backends = { origin = { targets = { "http://127.0.0.1:1" }, retries = 0 } },
  subscriptions = {
    { id = "s-1", keys = { "key-number-one" } }, { id = "s-2", keys = { "key-number-two" } },
  },
  sites = { { hosts = { "*" }, routes = {
    { path = "/ttl", backend = "origin", policies = { inbound = { p.cache { ttl = 30, tags = { "orders" } } } } },
    { path = "/query", backend = "origin",
      policies = { inbound = { p.cache { ttl = 30, vary_query = { "page", "size" } } } } },
    { path = "/header", backend = "origin",
      policies = { inbound = { p.cache { ttl = 30, vary_headers = { "X-Tenant" } } } } },
    { path = "/subscription", backend = "origin",
      policies = { inbound = { p.cache { ttl = 30, vary_by = "subscription" } } } },
    { path = "/crowded", backend = "origin", policies = { inbound = {
      p.cache { ttl = 30, vary_by = "subscription", vary_query = { "page", "size" } } } } },
    { path = "/key/*", backend = "origin", policies = { inbound = {
      p.cache { ttl = 30, key = function(ctx) return ctx.request.headers["X-Key"] end } } } },
    { path = "/statuses", backend = "origin",
      policies = { inbound = { p.cache { ttl = 30, statuses = { 200, 404 } } } } },
    { path = "/stale", backend = "origin", policies = { inbound = {
      p.cache { ttl = 10, stale_while_revalidate = 60, stale_if_error = 600 } } } },
    { path = "/outbound", backend = "origin", policies = {
      inbound = { p.cache { ttl = 30 }, function(ctx) ctx.vars.went_on = true end },
      outbound = { function(ctx)
        ctx.response.headers["X-Out"] = tostring(ctx.vars.went_on)
        ctx.response:set_body(ctx.response:body() .. "!")
      end } } },
    { path = "/rewritten", backend = "origin", policies = {
      inbound = { p.cache { ttl = 10, stale_while_revalidate = 60 }, p.rewrite_uri { template = "/v2/x" } } } },
    { path = "/custom", backend = "origin", policies = { inbound = { p.teapot {} } } },
    { path = "/slow", backend = "origin", policies = {
      inbound = { p.cache {}, function(ctx) ctx:sleep(0.05) end } } },
    { path = "/fan", backend = "origin", policies = { inbound = { fan } } },
    { path = "/value", backend = "origin", policies = { inbound = { function(ctx)
      local q = ctx.request.query
      if q.set then return reply.text(200, tostring(ctx.cache:set("k", q.set, tonumber(q.ttl)))) end
      if q.table then ctx.cache:set("k", { a = { 1, 2 } }, 10) return reply.text(200, "") end
      if q.delete then ctx.cache:delete("k") return reply.text(200, "") end
      if q.purge then ctx.cache:purge { tag = q.purge } return reply.text(200, "") end
      if q.url then ctx.cache:purge { url = q.url } return reply.text(200, "") end
      local value = ctx.cache:get("k")
      return reply.text(200, type(value) == "table" and "table " .. value.a[2] or tostring(value))
    end } } },
    { path = "/large", backend = "origin", policies = { inbound = { function(ctx)
      local q = ctx.request.query
      if q.delete then ctx.cache:delete("h") return reply.text(200, "") end
      if q.get then return reply.text(200, #ctx.cache:get("h")) end
      while not ctx.cache:set("h", ("x"):rep(900000), 10) do end
      return reply.text(200, "")
    end } } },
    { path = "/fetch", backend = "origin", policies = { inbound = { function(ctx)
      local q = ctx.request.query
      local value = ctx.cache:fetch("f" .. (q.k or ""), { ttl = 100, refresh_after = 10, compute = function()
        computed = computed + 1
        ctx:sleep(0.02)
        if q.fail then error("no luck", 0) end
        return "value " .. computed
      end })
      return reply.text(200, value)
    end } } },
  } } },
}
]]

local teapot = [[
local M = { name = "teapot", schema = { type = "object", additionalProperties = false } }
function M.prepare() return { native = { inbound = io or print } } end
function M.inbound() return { status = 418 } end
return M
]]

local gw, answer, count, seen
local json = require("moongate.json")

before_each(function()
  count, seen = 0, nil
  answer = function(_, n)
    return 200, {}, "body " .. n
  end
  gw = moongate.gateway({
    files = { ["gateway.lua"] = config, ["policies/teapot.lua"] = teapot },
    backends = {
      origin = function(request)
        count, seen = count + 1, request
        return answer(request, count)
      end,
    },
  })
end)

after_each(function()
  gw:close()
end)

local function get(path, headers)
  return gw:get(path, { headers = headers })
end

local function fan(n, to)
  return json.decode(get("/fan?n=" .. n .. "&port=" .. gw:port() .. "&to=" .. to).body)
end

describe("p.cache", function()
  it("with ttl keeps what the origin says nothing about, and only 200", function()
    assert.equal("body 1", get("/ttl").body)
    assert.equal("body 1", get("/ttl").body)
    gw:advance(31)
    assert.equal("body 2", get("/ttl").body)
    assert.equal("body 2", get("/ttl", { ["Cache-Control"] = "no-cache" }).body)
  end)

  it("with ttl keeps neither cookies nor what is private, nor errors", function()
    for _, case in ipairs({ { 200, { ["Set-Cookie"] = "a=b" } }, { 404, {} },
      { 200, { ["Cache-Control"] = "private" } }, { 200, { ["Cache-Control"] = "no-store" } } }) do
      answer = function(_, n)
        return case[1], case[2], "x" .. n
      end
      count = 0
      get("/ttl?" .. math.random(1, 2 ^ 40))
      get("/ttl")
      get("/ttl")
      assert.equal(3, count)
    end
  end)

  it("keeps the statuses it names", function()
    answer = function(_, n)
      return 404, {}, "none " .. n
    end
    assert.equal("none 1", get("/statuses").body)
    assert.equal("none 1", get("/statuses").body)
  end)

  it("tells apart by the parameters and fields it names", function()
    get("/query?page=1&x=1")
    get("/query?x=2&page=1")
    get("/query?page=1&x=3&size")
    assert.equal(2, count)
    get("/query?page=2")
    assert.equal(3, count)
    get("/header", { ["X-Tenant"] = "a" })
    get("/header", { ["X-Tenant"] = "a" })
    get("/header", { ["X-Tenant"] = "b" })
    get("/header")
    assert.equal(6, count)
  end)

  it("keeps subscriptions apart", function()
    local one, two = { ["Ocp-Apim-Subscription-Key"] = "key-number-one" },
      { ["Ocp-Apim-Subscription-Key"] = "key-number-two" }
    assert.equal("body 1", get("/subscription", one).body)
    assert.equal("body 2", get("/subscription", two).body)
    assert.equal("body 1", get("/subscription", one).body)
    assert.equal("body 3", get("/subscription").body)
    one.Authorization = "Bearer x"
    assert.equal("body 1", get("/subscription", one).body)
    assert.equal("body 4", get("/subscription", { Authorization = "Bearer x" }).body)
    assert.equal("body 5", get("/subscription", { Authorization = "Bearer x" }).body)
  end)

  it("keeps them apart whatever the query is made of", function()
    local one, two = { ["Ocp-Apim-Subscription-Key"] = "key-number-one" },
      { ["Ocp-Apim-Subscription-Key"] = "key-number-two" }
    for n, times in ipairs({ 1, 10, 15, 16, 17, 100 }) do
      local path = "/crowded?n=" .. n .. ("&page=1"):rep(times)
      assert.is_true(get(path, one).body ~= get(path, two).body, path)
    end
    count = 0
    for _, query in ipairs({ "page=1&size=2", "page=1%26size%3D2", "size=2&page=", "page=1&page=2", "page=1%2C2",
      "page=12", "page=1&size=2&size=", "size=12", "page=1;size=2" }) do
      get("/query?" .. query)
      get("/query?" .. query)
    end
    assert.equal(9, count)
  end)

  it("takes a key of its own, and passes by without one", function()
    get("/key/a", { ["X-Key"] = "1" })
    get("/key/b", { ["X-Key"] = "1" })
    assert.equal(1, count)
    get("/key/a")
    get("/key/a")
    assert.equal(3, count)
  end)

  it("runs outbound policies on hits, and skips the rest of inbound", function()
    local first, second = get("/outbound"), get("/outbound")
    assert.equal("body 1!", first.body)
    assert.equal("body 1!", second.body)
    assert.equal("true", first.headers["x-out"])
    assert.equal("nil", second.headers["x-out"])
    assert.equal(1, count)
  end)

  it("needs no Lua where nothing is asked of the request", function()
    local function lua_us(path)
      local sum = 0
      for _ = 1, 20 do
        assert.equal(200, get(path).status)
        sum = sum + (gw:last_log().lua_us or 0)
      end
      return sum
    end
    get("/ttl")
    assert.equal(0, lua_us("/ttl"))
    get("/subscription")
    assert.is_true(lua_us("/subscription") > 0)
  end)

  it("lets no other policy say that C does its work", function()
    assert.equal(418, get("/custom").status)
  end)

  it("renews in the background through the same policies", function()
    get("/rewritten")
    gw:advance(20)
    assert.equal("body 1", get("/rewritten").body)
    for _ = 1, 4 do
      gw.core:turn(10)
    end
    assert.equal(2, count)
    assert.equal("/v2/x", seen.path)
    assert.equal("body 2", get("/rewritten").body)
    assert.equal(3, #gw:access_log())
  end)

  it("stands in for a backend that is down", function()
    get("/stale")
    gw:advance(100)
    answer = function()
      return 503, {}, ""
    end
    assert.equal("body 1", get("/stale").body)
    gw:advance(600)
    assert.equal(503, get("/stale").status)
  end)
end)

describe("concurrent misses", function()
  it("ask the backend once", function()
    answer = function(_, n)
      return 200, { ["Cache-Control"] = "max-age=60" }, "body " .. n
    end
    assert.same({ "200 body 1", "200 body 1", "200 body 1", "200 body 1" }, fan(4, "/slow"))
    assert.equal(1, count)
  end)

  it("do not queue where the answer is not kept, then or later", function()
    answer = function(_, n)
      return 200, { ["Cache-Control"] = "no-store" }, "body " .. n
    end
    fan(4, "/slow?x")
    assert.equal(4, count)
    fan(4, "/slow?x")
    assert.equal(8, count)
  end)

  it("wait for the variant they ask for, and not twice for others", function()
    answer = function(_, n)
      return 200, { ["Cache-Control"] = "max-age=60", Vary = "Accept, X-Forwarded-Host" }, "body " .. n
    end
    fan(3, "/slow?v")
    assert.equal(1, count)
  end)

  it("are not given what varies on a field that the gateway itself sets", function()
    answer = function(_, n)
      return 200, { ["Cache-Control"] = "max-age=60", Vary = "X-Forwarded-For" }, "body " .. n
    end
    get("/slow?f")
    get("/slow?f")
    assert.equal(2, count)
  end)
end)

describe("metrics", function()
  it("count what came of look-ups", function()
    get("/ttl")
    get("/ttl")
    get("/ttl")
    local text = gw:get("/metrics", { listener = "management" }).body
    assert.truthy(text:find('moongate_cache_requests_total{result="hit"} 2', 1, true))
    assert.truthy(text:find('moongate_cache_requests_total{result="miss"} 1', 1, true))
  end)
end)

describe("ctx.cache", function()
  it("holds nothing for a policy whose memory is spent while it is given a value", function()
    local function used()
      return json.decode(gw:get("/status", { listener = "management" }).body).cache.used_bytes
    end
    assert.equal(0, used())
    assert.equal(200, get("/large").status)
    assert(gw:reload({ ["gateway.lua"] = config:gsub("cache = {", "limits = { policy_memory_bytes = 262144 }, %0"),
      ["policies/teapot.lua"] = teapot }))
    assert.equal(503, get("/large?get").status)
    assert.is_true(used() > 900000)
    assert.equal(200, get("/large?delete").status)
    assert.equal(0, used())
  end)
end)

describe("purging", function()
  it("by tag, URL and everything, on the management listener", function()
    local function post(path)
      return gw:post(path, { listener = "management" })
    end
    get("/ttl")
    assert.equal(200, post("/cache/purge?tag=orders").status)
    get("/ttl")
    assert.equal(2, count)
    post("/cache/purge?tag=others")
    get("/ttl")
    assert.equal(2, count)
    post("/cache/purge?url=" .. "http://API.test/ttl")
    gw:get("/ttl", { host = "api.test" })
    assert.equal(3, count)
    post("/cache/purge?url=" .. "http://API.test:80/./ttl")
    gw:get("/ttl", { host = "api.test" })
    assert.equal(4, count)
    post("/cache/purge?all")
    get("/ttl")
    assert.equal(5, count)
    get("/key/a", { ["X-Key"] = "1" })
    post("/cache/purge?key=1")
    get("/key/a", { ["X-Key"] = "1" })
    assert.equal(7, count)
    assert.equal(400, post("/cache/purge").status)
    for name, value in pairs({ Origin = "http://page.test", ["Sec-Fetch-Site"] = "cross-site" }) do
      assert.equal(403, gw:post("/cache/purge?all", { listener = "management", headers = { [name] = value } }).status)
    end
    local wrong = gw:get("/cache/purge?all", { listener = "management" })
    assert.equal(405, wrong.status)
    assert.equal("POST", wrong.headers.allow)
    assert.equal("GET, HEAD", post("/health").headers.allow)
    assert.equal(400, post("/cache/purge?url=nonsense").status)
    assert.equal(400, post("/cache/purge?what=1").status)
    local status = json.decode(gw:get("/status", { listener = "management" }).body)
    assert.is_true(status.cache.objects > 0)
  end)

  it("by policies", function()
    get("/ttl")
    get("/value?purge=orders")
    get("/ttl")
    assert.equal(2, count)
    gw:get("/ttl", { host = "a.test" })
    get("/value?url=http://a.test/ttl")
    gw:get("/ttl", { host = "a.test" })
    assert.equal(4, count)
  end)
end)

describe("ctx.cache", function()
  local function value()
    return get("/value").body
  end

  it("keeps texts and tables for their time", function()
    assert.equal("nil", value())
    assert.equal("true", get("/value?set=hello&ttl=10").body)
    assert.equal("hello", value())
    gw:advance(11)
    assert.equal("nil", value())
    get("/value?table=1")
    assert.equal("table 2", value())
    get("/value?delete=1")
    assert.equal("nil", value())
  end)

  it("computes a value once for all who ask", function()
    assert.same({ "200 value 1", "200 value 1", "200 value 1" }, fan(3, "/fetch"))
    gw:advance(11)
    local values = fan(3, "/fetch")
    table.sort(values)
    assert.same({ "200 value 1", "200 value 1", "200 value 2" }, values)
    assert.equal("value 2", get("/fetch").body)
  end)

  it("gives the old value when it cannot be computed anew, and fails without one", function()
    assert.equal("value 1", get("/fetch").body)
    gw:advance(11)
    assert.equal("value 1", get("/fetch?fail=1").body)
    assert.equal(500, get("/fetch?fail=1&k=2").status)
    assert.equal("value 4", get("/fetch?k=2").body)
  end)
end)
