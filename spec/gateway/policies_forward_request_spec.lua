-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local config = [[
local p, reply = require("moongate.policies"), require("moongate.reply")
local told = { on_error = { function(ctx)
  ctx.response.headers["X-Error"] = ctx.error.reason .. " " .. ctx.error.section
end } }
local function route(path, backend, policies, of)
  return { path = path, backend = of or "a", policies = { backend = { policies }, on_error = told.on_error,
    outbound = backend } }
end
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = {
    a = { targets = { "http://127.0.0.1:1" } },
    other = { targets = { "http://127.0.0.1:1" } },
    down = { targets = { "http://127.0.0.1:1" }, retries = 0 },
    sinkpool = { sink = { status = 404 } },
  },
  policies = { backend = { p.forward_request { fail_on_error_status_code = true } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/outer", backend = "a", policies = told },
    { path = "/down", backend = "down", policies = told },
    { path = "/sink", backend = "sinkpool", policies = told },
    route("/inner", nil, p.forward_request {}),
    route("/slow", nil, p.forward_request { timeout = 2 }),
    route("/sees", nil, p.when("true", { p.forward_request {}, function(ctx)
      ctx.response.headers["X-Seen"] = tostring(ctx.response.status) .. " " .. ctx.response:body()
    end })),
    route("/instead", nil, p.when("false", { p.forward_request {} })),
    route("/retry", nil, p.retry { count = 3, interval = 0.01, on = { 503 }, p.forward_request {} }),
    route("/linear", nil, p.retry { count = 5, interval = 0.01, delta = 0.01, first_fast_retry = true,
      condition = "ctx.response.status == 503", p.forward_request {} }),
    route("/connect", nil, p.retry { count = 2, on = { "connect" },
      function(ctx) ctx.vars.n = (ctx.vars.n or 0) + 1 end, p.forward_request {} }, "down"),
    route("/fallback", nil, p.retry { count = 1, on = { "connect" },
      function(ctx)
        if ctx.vars.tried then ctx.backend = "a" end
        ctx.vars.tried = true
      end, p.forward_request {} }, "down"),
    route("/redirect/*", nil, p.forward_request { follow_redirects = true }),
    route("/both", nil, p.retry { count = 2, on = { 500 }, p.forward_request { fail_on_error_status_code = true } }),
  } } },
}
]]

local gw, answers

setup(function()
  gw = moongate.gateway({
    files = { ["gateway.lua"] = config },
    backends = {
      a = function(request)
        local f = answers[request.path] or answers.default
        return f(request)
      end,
      other = function() return 200, {}, "other" end,
    },
  })
end)

before_each(function()
  answers = { default = function(request)
    return 200, {}, request.method .. " " .. request.path .. " " .. request.body
  end }
  for i = #gw.calls.a, 1, -1 do
    gw.calls.a[i] = nil
  end
end)

teardown(function()
  gw:close()
end)

--- Answers with each status in turn, the last one for ever.
local function in_turn(...)
  local statuses, n = { ... }, 0
  return function(request)
    n = n + 1
    return statuses[math.min(n, #statuses)], {}, request.body
  end
end

describe("forward_request", function()
  it("sends failing statuses to on_error where it is told to", function()
    answers.default = function() return 503, {}, "secret" end
    local answer = gw:get("/outer")
    assert.equal("503 BackendErrorStatus backend", answer.status .. " " .. answer.headers["x-error"])
    assert.is_nil(answer.body:find("secret", 1, true))
  end)

  it("of the innermost scope replaces those of outer ones", function()
    answers.default = function() return 503, {}, "as it is" end
    assert.equal("as it is", gw:get("/inner").body)
    assert.equal(1, #gw.calls.a)
  end)

  it("gives API Management's reasons where the call fails", function()
    local answer = gw:get("/down")
    assert.equal("502 BackendConnectionFailure backend", answer.status .. " " .. answer.headers["x-error"])
    answer = gw:get("/sink")
    assert.equal("404 Sinkpool backend", answer.status .. " " .. answer.headers["x-error"])
  end)

  it("lets policies behind it see the answer", function()
    assert.equal("200 GET /sees", gw:get("/sees").headers["x-seen"])
    assert.equal("POST /sees body", gw:post("/sees", { body = "body" }).body)
  end)

  it("leaves the call to the gateway where it does not run", function()
    assert.equal("GET /instead ", gw:get("/instead").body)
    assert.equal(1, #gw.calls.a)
  end)

  it("streams bodies of any size", function()
    local body = ("0123456789"):rep(100000)
    assert.equal("POST /inner " .. body, gw:post("/inner", { body = body }).body)
  end)

  it("follows redirects to the backend's own targets, and passes others on", function()
    answers["/redirect/a"] = function() return 302, { Location = "/redirect/b?x=1" }, "" end
    answers["/redirect/b"] = function(request)
      return 303, { Location = "c" }, request.query
    end
    answers["/redirect/away"] = function() return 302, { Location = "http://elsewhere.test/x" }, "" end
    answers["/redirect/loop"] = function() return 307, { Location = "/redirect/loop" }, "" end
    assert.equal("GET /redirect/c ", gw:post("/redirect/a", { body = "x" }).body)
    assert.equal("302 http://elsewhere.test/x",
      gw:get("/redirect/away").status .. " " .. gw:get("/redirect/away").headers.location)
    for i = #gw.calls.a, 1, -1 do
      gw.calls.a[i] = nil
    end
    assert.equal(307, gw:post("/redirect/loop", { body = "again" }).status)
    assert.equal(11, #gw.calls.a)
    assert.equal("again", gw.calls.a[11].body)
  end)
end)

describe("retry", function()
  it("calls again while the status is in its list, with the same body", function()
    answers.default = in_turn(503, 503, 200)
    assert.equal("200 kept", gw:put("/retry", { body = "kept" }).status .. " " .. gw.calls.a[3].body)
    answers.default = in_turn(503, 503, 503, 503, 200)
    assert.equal(503, gw:get("/retry").status)
    assert.equal(7, #gw.calls.a)
    answers.default = in_turn(503, 503, 503, 503, 200)
    assert.equal(200, gw:get("/linear").status)
  end)

  it("does not repeat what is not idempotent", function()
    answers.default = in_turn(503, 200)
    assert.equal(503, gw:post("/retry", { body = "x" }).status)
    assert.equal(1, #gw.calls.a)
  end)

  it("repeats failed calls, and may take another backend then", function()
    assert.equal("502 BackendConnectionFailure backend",
      gw:get("/connect").status .. " " .. gw:get("/connect").headers["x-error"])
    assert.equal("GET /fallback ", gw:get("/fallback").body)
  end)

  it("sees statuses that fail", function()
    answers.default = in_turn(500, 500, 201)
    assert.equal(201, gw:put("/both", { body = "kept" }).status)
    assert.equal("kept", gw.calls.a[3].body)
    answers.default = in_turn(500)
    assert.equal("500 BackendErrorStatus backend", gw:get("/both").status .. " " .. gw:get("/both").headers["x-error"])
  end)

  it("pauses as API Management does", function()
    package.loaded["moongate.expression"] = package.loaded["moongate.expression"] or {}
    local pause = require("policies.retry").pause
    assert.equal(5, pause({ interval = 5 }, 3))
    assert.equal(9, pause({ interval = 5, delta = 2 }, 3))
    assert.equal(0, pause({ interval = 5, is_first_fast = true }, 1))
    for n = 1, 5 do
      local s = pause({ interval = 1, delta = 2, max_interval = 1000 }, n)
      assert.is_true(s >= 1 + (2 ^ n - 1) * 1.6 and s <= 1 + (2 ^ n - 1) * 2.4)
    end
    assert.equal(10, pause({ interval = 1, delta = 2, max_interval = 10 }, 8))
  end)

  it("needs a condition, and a delta for growing pauses", function()
    local function wrong(text)
      return moongate.errors({ files = { ["gateway.lua"] = [[
local p = require("moongate.policies")
return { name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { a = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "a", policies = { backend = { p.retry {]]
        .. text .. [[ p.forward_request {} } } } } } } } }]] } })
    end
    assert.truthy(wrong("count = 1,"):find("condition or on is needed", 1, true))
    assert.truthy(wrong("count = 1, on = { 503 }, max_interval = 3,"):find("max_interval needs delta", 1, true))
    assert.truthy(wrong("on = { 503 },"):find("count: required field is missing", 1, true))
  end)
end)
