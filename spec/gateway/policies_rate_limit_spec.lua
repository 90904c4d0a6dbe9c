-- SPDX-License-Identifier: Apache-2.0
--- What rate_limit tells and counts; limits shared by nodes are in spec/integration.
local moongate = require("moongate.test")

local gw, answer

setup(function()
  gw = moongate.gateway { files = { ["gateway.lua"] = [[
local p, reply = require("moongate.policies"), require("moongate.reply")
local function route(path, ...)
  return { path = path, backend = "a", policies = { inbound = { ... }, on_error = { function(ctx)
    ctx.response.headers["X-Reason"] = ctx.error.reason
  end } } }
end
-- Windows begin at whole multiples of their period: a spec meets the end of an hour less often than a minute's.
local function limit(options)
  options.key, options.algorithm = options.key or "k", options.algorithm or "fixed_window"
  return p.rate_limit(options)
end
return {
  name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  management = { address = "127.0.0.1:0" },
  backends = { a = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = {
    route("/draft", limit { calls = 2, period = 60, name = "calls" }),
    route("/both", limit { calls = 5, period = 1 }, limit { calls = 3, period = 3600, name = "hour" }),
    route("/loose", limit { calls = 4, period = 3600, name = "loose" },
      p.rate_limit { calls = 4, period = 3600, key = "k", name = "bucket", mode = "local",
        amount = function() return 2 end, burst = 4 },
      p.quota { calls = 4, period = 3600, key = "loose" },
      limit { calls = 1, period = 3600, name = "tight", key = "${ctx.request.query.k}" }),
    route("/within", limit { calls = 2, period = 3600, name = "outer" },
      p.limit_concurrency { max = 1, key = "w", function(ctx) ctx:sleep(0.05) end }),
    route("/together", function(ctx)
      local functions, out = {}, {}
      local url = "http://127.0.0.1:" .. ctx.request.query.port .. "/within"
      for i = 1, 5 do
        functions[i] = function(c) return c.http:request({ url = url }).status end
      end
      for i, result in ipairs(ctx:parallel(functions)) do
        out[i] = result.value
      end
      table.sort(out)
      return reply.text(200, table.concat(out, " "))
    end),
    route("/counted", limit { calls = 1, period = 3600, name = "by answer",
      count_if = function(ctx) return ctx.response.status == 429 end },
      limit { calls = 1, period = 3600, name = "strict" }),
    route("/x", limit { calls = 1, period = 3600, headers = "x", retry_after_header = "X-Wait",
      status = 503, message = "slower" }),
    route("/none", limit { calls = 1, period = 3600, headers = "none", remaining_header = "X-Left",
      total_header = "X-All" }),
    route("/amount", limit { calls = 10, period = 3600,
      amount = function(ctx) return ctx.request.query.n end }),
    route("/when", limit { calls = 2, period = 3600,
      count_if = function(ctx) return ctx.response.status == 401 end }),
    route("/sized", limit { calls = 100, period = 3600, count_if = function() return true end,
      amount = function(ctx) return ctx.response.headers["X-Cost"] end }),
    route("/key", limit { calls = 1, period = 60, key = "${ctx.request.headers['X-User']}" }),
    route("/bucket", p.rate_limit { calls = 60, period = 60, burst = 2, key = "k" }),
  } } },
}]] }, backends = { a = function(request)
    return answer(request)
  end } }
end)

teardown(function()
  gw:close()
end)

before_each(function()
  answer = function() return 200 end
end)

local function statuses(n, path, options)
  local out = {}
  for i = 1, n do
    out[i] = gw:get(path, options).status
  end
  return table.concat(out, " ")
end

describe("rate_limit", function()
  it("tells its policy and what is left as the IETF draft has it", function()
    local one = gw:get("/draft")
    local left = tonumber(one.headers.ratelimit:match(";t=(%d+)"))
    if left < 10 then -- the minute is nearly over
      gw:advance(left)
      one = gw:get("/draft")
    end
    assert.equal('"calls";q=2;w=60', one.headers["ratelimit-policy"])
    assert.matches('^"calls";r=1;t=%d+$', one.headers.ratelimit)
    assert.matches('^"calls";r=0;t=', gw:get("/draft").headers.ratelimit)
    local refused = gw:get("/draft")
    assert.equal("429 RateLimitExceeded", refused.status .. " " .. refused.headers["x-reason"])
    assert.equal('"calls";q=2;w=60', refused.headers["ratelimit-policy"])
    local wait = tonumber(refused.headers["retry-after"])
    assert.equal(('"calls";r=0;t=%d'):format(wait), refused.headers.ratelimit)
    gw:advance(wait)
    assert.equal("200 200 429", statuses(3, "/draft"))
  end)

  it("stands with others on a route, whose fields are one list", function()
    assert.equal('"5-per-1s";q=5;w=1, "hour";q=3;w=3600', gw:get("/both").headers["ratelimit-policy"])
    assert.equal("200 200 429", statuses(3, "/both"))
  end)

  it("gives back what a later limit refuses, and tells so", function()
    assert.equal("200 429 429 429 429 429 429", statuses(7, "/loose?k=a"))
    local refused = gw:get("/loose?k=a")
    assert.matches('"loose";r=3;t=%d+', refused.headers.ratelimit)
    assert.matches('"bucket";r=2;t=%d+', refused.headers.ratelimit)
    assert.matches('"tight";r=0;t=%d+', refused.headers.ratelimit)
    assert.equal("200 429", statuses(2, "/loose?k=b")) -- the last two of the bucket
    assert.matches('"bucket";r=0;t=%d+', gw:get("/loose?k=c").headers.ratelimit)
  end)

  it("gives back what limit_concurrency refuses", function()
    local together = gw:get("/together?port=" .. gw:port()).body
    assert.equal("200 429 429 429 429", together)
    assert.equal("200 429", statuses(2, "/within"))
    assert.equal("RateLimitExceeded", gw:get("/within").headers["x-reason"])
  end)

  it("counts by the response also where a later limit refuses", function()
    assert.equal("200 429", statuses(2, "/counted"))
    assert.matches('"by answer";r=0', gw:get("/counted").headers.ratelimit)
  end)

  it("counts no refused call, so that a busy caller recovers", function()
    assert.equal("200 429", statuses(2, "/key", { headers = { ["X-User"] = "busy" } }))
    for _ = 1, 5 do
      gw:advance(8)
      statuses(1, "/key", { headers = { ["X-User"] = "busy" } })
    end
    gw:advance(60)
    assert.equal("200", statuses(1, "/key", { headers = { ["X-User"] = "busy" } }))
    assert.equal("200", statuses(1, "/key", { headers = { ["X-User"] = "other" } }))
  end)

  it("has other fields, statuses and texts", function()
    assert.equal("0", gw:get("/x").headers["x-ratelimit-remaining"])
    local refused = gw:get("/x")
    assert.equal(503, refused.status)
    assert.equal("1", refused.headers["x-ratelimit-limit"])
    assert.is_true(tonumber(refused.headers["x-wait"]) > 0)
    assert.matches("slower", refused.body)
    local quiet = gw:get("/none")
    assert.is_nil(quiet.headers.ratelimit)
    assert.equal("0 of 1", quiet.headers["x-left"] .. " of " .. quiet.headers["x-all"])
  end)

  it("counts amounts that a function gives", function()
    assert.equal(200, gw:get("/amount?n=7").status)
    assert.equal(429, gw:get("/amount?n=4").status)
    assert.equal(200, gw:get("/amount?n=3").status)
    assert.equal(500, gw:get("/amount?n=-1").status)
  end)

  it("counts by the response: only what is wanted, and what it cost", function()
    assert.equal("200 200 200", statuses(3, "/when"))
    answer = function() return 401 end
    assert.equal("401 401 429", statuses(3, "/when"))
    answer = function() return 200, { ["X-Cost"] = "60" } end
    assert.matches("r=40;", gw:get("/sized").headers.ratelimit)
    assert.equal("200 429", statuses(2, "/sized"))
    local figures = gw:get("/metrics", { listener = "management" }).body
    assert.matches('limit="[^"]*/sized/inbound%[1%]:rate_limit",decision="allowed"} 2\n', figures)
  end)

  it("lets a burst in, and then one at a time", function()
    assert.equal("200 200 429", statuses(3, "/bucket"))
    gw:advance(1)
    assert.equal("200 429", statuses(2, "/bucket"))
  end)
end)
