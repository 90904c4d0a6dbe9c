-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local function with(policies, more)
  local files = { ["gateway.lua"] = [[
local p, reply = require("moongate.policies"), require("moongate.reply")
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { a = { targets = { "http://127.0.0.1:1" } }, b = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "a", policies = { ]] .. policies .. [[ } } } } },
}
]] }
  for name, text in pairs(more or {}) do
    files[name] = text
  end
  return { files = files, backends = {
    a = function() return 200, {}, "a" end, b = function() return 200, {}, "b" end,
  } }
end

local function serve(options, f)
  local gw = moongate.gateway(options)
  local ok, err = pcall(f, gw)
  gw:close()
  assert(ok, err)
end

describe("when", function()
  it("runs the policies of the first condition that holds, and no others", function()
    serve(with([[ inbound = {
      p.when("ctx.request.query.n == '1'", { p.set_variable { name = "n", value = "one" } })
        :elsewhen(function(ctx) return ctx.request.query.n == "2" end,
          { p.set_variable { name = "n", value = "two" }, p.set_backend_service { backend = "b" } },
          { function(ctx) ctx.vars.n = "none" end }),
    }, outbound = { p.set_header { name = "X-N", value = "${ctx.vars.n}" } } ]]), function(gw)
      assert.equal("one", gw:get("/?n=1").headers["x-n"])
      local two = gw:get("/?n=2")
      assert.equal("two b", two.headers["x-n"] .. " " .. two.body)
      assert.equal("none", gw:get("/?n=3").headers["x-n"])
    end)
  end)

  it("lets the chosen policies act in later sections too", function()
    serve(with([[ inbound = { p.when("ctx.request.path == '/limited'",
      { p.rate_limit { calls = 1, period = 60 } }) } ]]), function(gw)
      assert.truthy(gw:get("/limited").headers["ratelimit"])
      assert.is_nil(gw:get("/free").headers["ratelimit"])
      assert.equal(429, gw:get("/limited").status)
      assert.equal(200, gw:get("/free").status)
    end)
  end)

  it("names the policy inside when it refuses or fails", function()
    serve(with([[ inbound = { p.when("true", { p.when("true", {
        p.check_header { name = "X-Key", id = "needs-key" },
        function(ctx) if ctx.request.path == "/raise" then error("raised") end end,
      }) }) },
      on_error = { function(ctx)
        ctx.response.headers["X-Error"] = ctx.error.policy .. " " .. ctx.error.reason .. " " .. ctx.error.scope
      end } ]]), function(gw)
      assert.equal("needs-key HeaderNotFound route", gw:get("/").headers["x-error"])
      assert.equal("*/*/inbound[1].policies[1].policies[2] ExpressionValueEvaluationFailure route",
        gw:get("/raise", { headers = { ["X-Key"] = "1" } }).headers["x-error"])
    end)
  end)

  it("asks nothing of an answer inside it: it ends the pipeline", function()
    serve(with([[ inbound = { p.when("true", { p.return_response { status = 418 } }) } ]]), function(gw)
      assert.equal(418, gw:get("/").status)
      assert.equal(0, #gw.calls.a)
    end)
  end)

  it("has its policies checked where they stand", function()
    local err = moongate.errors(with([[ inbound = { p.when("true",
      { p.set_status { code = 200 }, p.base, 5, p.rate_limitt {}, p.rate_limit { calls = 0, period = 1 } }, {}) } ]]))
    assert.truthy(err:find("inbound[1].policies[2]: base cannot stand inside a policy", 1, true), err)
    assert.truthy(err:find("inbound[1].policies[3]: expected a policy, got 5", 1, true), err)
    assert.truthy(err:find('did you mean "rate_limit"', 1, true), err)
    assert.truthy(err:find("calls: expected integer", 1, true), err)
    err = moongate.errors(with([[ backend = { p.when("true", { p.cors { origins = { "*" } } }) } ]]))
    assert.truthy(err:find('policy "cors" cannot stand in backend', 1, true), err)
    err = moongate.errors(with([[ inbound = { p.when("1 +", {}) } ]]))
    assert.truthy(err:find("the condition is no Lua", 1, true), err)
  end)
end)

describe("names of ctx in expressions", function()
  local function errors(policy)
    return moongate.errors(with("inbound = { " .. policy .. " }"))
  end

  it("are checked when they are loaded, with file, line and what was meant", function()
    for policy, expected in pairs({
      ['p.set_header { name = "A", value = "a ${ctx.request.heders.x}" }'] =
        "inbound[1]: policy \"set_header\" refuses these options: value: ${ctx.request.heders.x} asks for "
        .. "what is not there: ctx.request has no field 'heders'; did you mean \"headers\"?",
      ['p.set_method { method = "GET", when = "ctx.requets.method" }'] =
        "inbound[1].when: the expression asks for what is not there: ctx has no field 'requets'; did you mean "
        .. '"request"?',
      ['p.when("ctx.subscription.nam", {})'] =
        "the condition asks for what is not there: ctx.subscription has no field 'nam'",
      ['p.set_body { template = "{{ ctx.operation.nme }}" }'] =
        "ctx.operation has no field 'nme'; did you mean \"name\"?",
      ['p.set_body { template = "{% for x in ctx.varz.list %}{% end %}" }'] =
        "ctx has no field 'varz'; did you mean \"vars\"?",
      ['p.set_header { name = "A", value = "${ctx.request:heder_values(1)[1]}" }'] =
        "ctx.request has no field 'heder_values'; did you mean \"header_values\"?",
    }) do
      local err = errors(policy)
      assert.truthy(err:find(expected, 1, true), err)
      assert.matches("^gateway.lua:%d+: ", err)
    end
  end)

  it("may be anything where a request, a token or a policy brings them", function()
    for _, policy in ipairs({
      'p.set_header { name = "A", value = "${ctx.request.headers.x}${ctx.vars.a.b}${ctx.jwt.sub.x}" }',
      'p.set_header { name = "A", value = "${ctx.request.query.q}${ctx.request.params.id or \'ctx.nothing\'}" }',
      'p.set_header { name = "A", value = "${ctx.request.cookies.c}${ctx.user.mail}${ctx.geo.country}" }',
      'p.set_header { name = "A", value = "${ctx.request.path:sub(2)}${ctx.request[\'method\']}" }',
      'p.set_header { name = "A", value = "${(function(ctx) return ctx.own end)({ own = 1 })}" }',
      'p.set_header { name = "A", value = "${({ ctx = { a = 1 } }).ctx.a}" }',
      'p.set_header { name = "A", value = "${ctx.request.tls and ctx.request.tls.client.subject}" }',
    }) do
      local _, err = pcall(errors, policy)
      assert.matches("this configuration loads", tostring(err))
    end
  end)
end)

describe("include", function()
  it("runs a fragment's policies, with parameters, nested", function()
    serve(with([[ inbound = { p.include("outer", { text = "hello" }), p.include("plain") } ]], {
      ["fragments/outer.lua"] = [[
local p = require("moongate.policies")
return function(given) return {
  p.set_variable { name = "a", value = given.text },
  p.include("inner", { text = given.text .. " again" }),
} end]],
      ["fragments/inner.lua"] = [[
local p = require("moongate.policies")
return function(given) return { p.set_variable { name = "b", value = given.text } } end]],
      ["fragments/plain.lua"] = [[
local p = require("moongate.policies")
return { p.return_response { status = 200, body = "${ctx.vars.a}, ${ctx.vars.b}" } }]],
    }), function(gw)
      assert.equal("hello, hello again", gw:get("/").body)
    end)
  end)

  it("refuses circles, unknown names and parameters that nobody takes", function()
    local err = moongate.errors(with([[ inbound = { p.include("a") } ]], {
      ["fragments/a.lua"] = 'return { require("moongate.policies").include("b") }',
      ["fragments/b.lua"] = 'return { require("moongate.policies").include("a") }',
    }))
    assert.truthy(err:find('fragment "a" includes itself: a -> b -> a', 1, true), err)
    err = moongate.errors(with([[ inbound = { p.include("limts") } ]],
      { ["fragments/limits.lua"] = "return {}" }))
    assert.truthy(err:find('did you mean "limits"', 1, true), err)
    err = moongate.errors(with([[ inbound = { p.include("limits", { n = 1 }) } ]],
      { ["fragments/limits.lua"] = "return {}" }))
    assert.truthy(err:find("takes no parameters", 1, true), err)
    err = moongate.errors(with([[ inbound = { p.include("limits", { n = 1 }) } ]],
      { ["fragments/limits.lua"] = "return function(g) return { g.n } end" }))
    assert.truthy(err:find("expected a policy, got 1", 1, true), err)
  end)
end)
