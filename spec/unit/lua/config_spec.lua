-- SPDX-License-Identifier: Apache-2.0
local config = require("moongate.config")
local directory = require("spec.unit.lua.directory")

local ENV = { ORDERS_KEY = "sekritvalue", S1_PRIMARY = "primary-key", S1_SECONDARY = "secondary-key" }

local SITE = [[sites = { { hosts = { "a.test" }, routes = { { path = "/*", reply = { status = 204 } } } } },
]]

--- Loads one gateway.lua whose further fields are given.
local function load_gateway(fields, more, env)
  local files = { ["gateway.lua"] = 'local p = require("moongate.policies")\nreturn {\n'
    .. 'listeners = { { address = ":8080" } },\n' .. fields .. "}\n" }
  for path, text in pairs(more or {}) do
    files[path] = text
  end
  return config.load(directory.source(files, env))
end

local function text_of(errors)
  return errors and config.format_errors(errors) or ""
end

local function assert_error(expected, fields, more, env)
  local plan, errors = load_gateway(fields, more, env)
  assert.is_nil(plan)
  assert.truthy(text_of(errors):find(expected, 1, true), text_of(errors))
end

describe("the configuration", function()
  it("of the design loads into a plan", function()
    local plan, errors = config.load(directory.tree("spec/unit/lua/seed", ENV))
    assert(plan, text_of(errors))
    assert.equal("contoso", plan.name)
    assert.equal(0, plan.workers)
    assert.same({ host = "0.0.0.0", port = 8080 }, { host = plan.listeners[1].host,
      port = plan.listeners[1].port })
    assert.equal("intermediate", plan.listeners[2].tls.preset)
    assert.is_true(plan.listeners[2].tls.session_tickets)
    local orders = plan.backends[1]
    assert.equal("orders", orders.name)
    assert.equal(2000, orders.timeout.connect_ms)
    assert.equal(5000, orders.health.interval_ms)
    assert.equal(2, orders.targets[2].weight)
    assert.equal(9102, orders.targets[2].port)
    assert.equal(25, plan.redis.timeout_ms)
    assert.equal(32768, plan.limits.head_bytes)
    assert.equal(100, plan.limits.policy_cpu_ms)
    assert.same({ "primary-key", "secondary-key" }, plan.subscriptions[1].keys)
    assert.equal(10, #plan.routes)
    local get = plan.routes[1]
    assert.equal("/external/orders/{id}", get.path)
    assert.equal("orders", get.api)
    assert.equal("get", get.operation)
    assert.equal("Ocp-Apim-Subscription-Key", get.subscription.header)
    assert.same({ file = "apis/orders.lua", line = 8, path = "operations.get" }, get.source)
    assert.is_nil(plan.routes[10].built.inbound)
    assert.same({}, plan.warnings)
  end)

  it("names the line of a mistake in the syntax, whatever stands around it", function()
    for text, expected in pairs({
      ["return { a = {\n  { end end },\n} }"] = "gateway.lua:2: unexpected symbol near 'end'",
      ["return { until }"] = "gateway.lua:1: unexpected symbol near 'until'",
      ["return { (] }"] = "gateway.lua:1: unexpected symbol near ']'",
      ["return " .. ("{"):rep(100000)] = "gateway.lua:1: chunk has too many syntax levels",
    }) do
      local plan, errors = config.load(directory.source({ ["gateway.lua"] = text }))
      assert.is_nil(plan)
      assert.equal(expected, (text_of(errors):gsub("\n.*", "")))
    end
  end)

  it("copies tables that are within themselves, or in many places, once", function()
    for _, text in ipairs({
      "local t = {} t.a, t.b, t.networks = t, t, { x = t }\nreturn t",
      "local t = {} for _ = 1, 60 do t = { a = t, b = t } end\nreturn { backends = { x = t } }",
      "local t = {} for _ = 1, 60 do t = { t, t } end\nreturn { networks = { x = t } }",
    }) do
      local plan, errors = config.load(directory.source({ ["gateway.lua"] = text }), { budget_s = 1 })
      assert.is_nil(plan)
      assert.not_matches("budget", text_of(errors))
      assert.is_true(#errors < 10, text_of(errors))
    end
  end)

  it("tells the first hundred mistakes, and counts the others", function()
    local _, errors = load_gateway(SITE .. "networks = { x = { " .. ('"y", '):rep(1000) .. "} },\n")
    assert.equal(101, #errors)
    assert.equal("gateway.lua: 900 more", (text_of(errors):match("[^\n]*$")))
  end)

  it("collects every error, with file, line, field and near miss", function()
    local plan, errors = load_gateway(SITE .. [[
limit = {},
backends = {
  x = { targets = { "ftp://h" }, balance = "least_request" },
},
]], {
      ["apis/a.lua"] = "return {\n  name = 'a',\n  paths = { '/a' },\n  oparations = {},\n}",
      ["apis/b.lua"] = "return {\n  x = = 1\n}",
    })
    assert.is_nil(plan)
    assert.equal(table.concat({
      "apis/a.lua:1: operations: required field is missing (expected table)",
      'apis/a.lua:4: oparations: unknown field "oparations"; did you mean "operations"?',
      "apis/b.lua:2: unexpected symbol near '='",
      'gateway.lua:5: limit: unknown field "limit"; did you mean "limits"?',
      'gateway.lua:7: backends.x.balance: expected "round_robin", "least_requests", "random" or '
        .. '"hash", got "least_request"; did you mean "least_requests"?',
      "gateway.lua:7: backends.x.targets[1]: expected http://host:port, https://host:port or "
        .. 'unix:/path, got "ftp://h"',
    }, "\n"), text_of(errors))
  end)

  it("refuses a policy's option on the line where it stands", function()
    assert_error('gateway.lua:7: policies.inbound[1].values: expected list, got "x"', SITE
      .. "policies = { inbound = { p.check_header {\n  name = 'A',\n  values = 'x',\n} } },\n")
    assert_error('policies.inbound[1]: unknown policy "set_headr"; did you mean "set_header"?',
      SITE .. "policies = { inbound = { p.set_headr {} } },\n")
    assert_error('policy "set_status" cannot stand in inbound; it can in outbound, on_error',
      SITE .. "policies = { inbound = { p.set_status { code = 200 } } },\n")
  end)

  it("asks for exactly one of apis, backend, redirect, reply", function()
    assert_error("a route has exactly one of apis, backend, redirect, reply; this one has none",
      'sites = { { hosts = { "a" }, routes = { { path = "/" } } } },\n')
  end)

  it("refuses two routes with one path, and names both places", function()
    assert_error("gateway.lua:6: sites[1].routes[2]: * a/x/{b} is also taken at gateway.lua:5", [[
sites = { { hosts = { "a" }, routes = {
  { path = "/x/{a}", reply = {} },
  { path = "/x/{b}", reply = {} },
} } },
]])
  end)

  it("takes Sentinels and Clusters of Redis as fields or in the URL", function()
    local function url_of(fields)
      local plan, errors = load_gateway("redis = { " .. fields .. " },\n" .. SITE)
      assert(plan, errors and text_of(errors))
      return plan.redis.url, plan.redis.sentinel_password
    end
    assert.equal("redis+cluster://u:p@a:1,b:2/", (url_of('url = "redis://u:p@a:1,b:2", cluster = true')))
    local url, password = url_of('url = "rediss://u:p@ignored:1/3", sentinel = { master = "my/main", '
      .. 'addresses = { "s1:26379", "[::1]:2" }, password = "secret" }')
    assert.equal("rediss+sentinel://u:p@s1:26379,[::1]:2/my%2Fmain/3", url)
    assert.equal("secret", password)
    assert.equal("redis+sentinel://s/m", (url_of('url = "redis+sentinel://s/m"')))
    assert_error("redis.url: expected redis://host", SITE .. 'redis = { url = "unix:/x", cluster = true },')
    assert_error("either sentinel or cluster", SITE .. 'redis = { url = "redis://a", cluster = true, '
      .. 'sentinel = { master = "m", addresses = { "s" } } },')
  end)

  it("warns of routes that never match", function()
    local plan = assert(load_gateway([[
sites = { { hosts = { "a" }, routes = {
  { path = "/", reply = {} },
  { path = "/{x}/*", reply = {} },
  { path = "/*", reply = {} },
} } },
]]))
    assert.equal(1, #plan.warnings)
    assert.truthy(plan.warnings[1].message:find("a/* never matches", 1, true))
    assert.equal(7, plan.warnings[1].line)
  end)

  it("names what is unknown: backends, networks, products, APIs", function()
    assert_error('unknown backend "orderz"; did you mean "orders"?', [[
backends = { orders = { sink = {} } },
sites = { { hosts = { "a" }, routes = { { path = "/", backend = "orderz" } } } },
]])
    assert_error('unknown network "intern"', [[
sites = { { hosts = { "a" }, routes = { { path = "/", reply = {}, networks = { "intern" } } } } },
]])
    assert_error('unknown product "golt"; did you mean "gold"?', SITE
      .. "products = { gold = { apis = {} } },\n"
      .. "subscriptions = { { id = 's', product = 'golt', keys = { 'long-enough' } } },\n")
    assert_error('unknown API "orders"', SITE .. "products = { gold = { apis = { 'orders' } } },\n")
  end)

  it("replaces named values, and never shows secrets", function()
    local plan, errors = load_gateway(SITE .. [[
named_values = { k = { env = "K" }, plain = "plain" },
policies = { inbound = {
  p.check_header { name = "A", values = { "{{k}}" }, status = "{{k}}" },
  p.set_backend_service { backend = "{{k}}" },
  p.return_response { body = "${{{k}}" },
} },
]], nil, { K = "sekritvalue" })
    assert.is_nil(plan)
    local text = text_of(errors)
    assert.is_nil(text:find("sekritvalue", 1, true), text)
    assert.truthy(text:find('got "{{k}}"', 1, true), text)
    assert_error('unknown named value "plane"; did you mean "plain"?', SITE
      .. 'named_values = { plain = "x" }, name = "{{plane}}",\n')
    assert_error("environment variable NOPE is not set", SITE
      .. 'named_values = { a = { env = "NOPE" } },\n')
    local good = assert(load_gateway(SITE .. 'named_values = { a = "x" }, name = "{{a}}-{{a}}",\n'))
    assert.equal("x-x", good.name)
  end)

  it("never shows a short secret, nor what of a longer one is not in a shorter one", function()
    local function shown(text, secrets)
      local named = require("moongate.named_values").new({ env = function(name) return secrets[name] end })
      for name in pairs(secrets) do
        named:define({ [name] = { env = name } }, error)
      end
      return named:redact(text)
    end
    assert.equal('PIN {{pin}} is "{{pin}}", 1427 and a142b are not', shown('PIN 142 is "142", 1427 and a142b are not',
      { pin = "142" }))
    assert.equal("({{x}}) a boxy fox={{x}}", shown("(x) a boxy fox=x", { x = "x" }))
    for _ = 1, 3 do
      assert.equal("<{{long}}> <{{base}}>", shown("<secret-and-more> <secret>",
        { base = "secret", long = "secret-and-more" }))
    end
    assert.equal("{{a}}{{a}}", shown("aaaaaaaa", { a = "aaaa" }))
  end)

  it("names the mistake in a file that breaks off, and comes to an end", function()
    for _, text in ipairs({ "return {", "return { {", "return { ) }", "return { a = { ] }", "return f(" }) do
      local plan, errors = config.load(directory.source({ ["gateway.lua"] = text }))
      assert.is_nil(plan)
      assert.truthy(text_of(errors):find("gateway.lua:1:", 1, true), text_of(errors))
    end
  end)

  it("stops a file that does not end", function()
    -- A policy's own spinning belongs to the sandbox's spec; here it ends by the load's budget.
    assert.truthy(require("moongate.sandbox").load("while true do end", "=x"))
  end)

  it("loads the user's policies and modules, and refuses what they may not require", function()
    local policy = [[
local shared = require("shared")
local M = { name = "tag", schema = { type = "object", properties = { value = { type = "string" } },
  additionalProperties = false } }
function M.prepare(conf) return { value = shared.prefix .. conf.value } end
function M.inbound(self, ctx) ctx.vars.tag = self.value end
function M.log(self, ctx) ctx.vars.logged = true end
return M]]
    local plan = assert(load_gateway(SITE .. "policies = { inbound = { p.tag { value = 'x' } } },\n", {
      ["policies/tag.lua"] = policy, ["lib/shared.lua"] = "return { prefix = 'p-' }",
    }))
    local ctx = { vars = {} }
    plan.routes[1].built.inbound.fn(ctx)
    plan.routes[1].built.log.fn(ctx)
    assert.same({ tag = "p-x", logged = true }, ctx.vars)
    assert_error("policies/tag.lua:1: module \"ffi\" cannot be required here",
      SITE .. "policies = { inbound = { p.tag {} } },\n", { ["policies/tag.lua"] = 'require("ffi")' })
    assert_error('policy "cors" is built in', SITE .. "policies = { inbound = { p.cors {} } },\n",
      { ["policies/cors.lua"] = "return { inbound = function() end }" })
    assert_error("policy \"tag\" refuses these options: no", SITE
      .. "policies = { inbound = { p.tag {} } },\n", { ["policies/tag.lua"] =
        "return { prepare = function() error('no') end, inbound = function() end }" })
  end)

  it("refuses a policy that keeps bodies where they must stream", function()
    assert_error('its bodies must stream, and policy "set_body"', [[
sites = { { hosts = { "a" }, routes = { { path = "/", reply = {}, streaming = true, policies = {
  inbound = { p.set_body { value = function() end, needs_body = true } } } } } } },
]])
  end)

  it("gives preflights of an API with cors a leaf of their own", function()
    local plan = assert(load_gateway([[
sites = { { hosts = { "a" }, routes = { { path = "/*", apis = true } } } },
]], { ["apis/x.lua"] = [[
local p = require("moongate.policies")
return { name = "x", paths = { "/x" }, operations = { get = { method = "GET", path = "/{id}" } },
  policies = { inbound = { p.cors { origins = { "*" } } , p.set_method { value = "PUT" } } } }]] }))
    local leaf = plan.routes[2]
    assert.equal("OPTIONS", leaf.method)
    assert.equal("/x/{id}", leaf.path)
    assert.equal(1, #leaf.entries.inbound)
    assert.equal("cors", leaf.entries.inbound[1].listing.policy)
  end)

  it("lets OPTIONS meet cors before the key, where an operation takes every method", function()
    local plan = assert(load_gateway([[
sites = { { hosts = { "a" }, routes = { { path = "/*", apis = true } } } },
backends = { b = { sink = {} } },
]], { ["apis/x.lua"] = [[
local p = require("moongate.policies")
return { name = "x", paths = { "/x" }, backend = "b",
  operations = { all = { method = "*", path = "/*" }, own = { method = "OPTIONS", path = "/own" } },
  policies = { inbound = { p.set_method { value = "PUT" }, p.cors { origins = { "*" } } } } }]] }))
    local by_key = {}
    for _, leaf in ipairs(plan.routes) do
      by_key[leaf.method .. " " .. leaf.path] = leaf
    end
    local leaf, order = by_key["OPTIONS /x/*"], {}
    for i, entry in ipairs(leaf.entries.inbound) do
      order[i] = entry.listing.policy
    end
    assert.same({ "cors", "set_method" }, order)
    assert.same({ "all", 1, "backend" }, { leaf.operation, leaf.backend, leaf.kind })
    assert.equal("set_method", by_key["* /x/*"].entries.inbound[1].listing.policy)
    assert.equal("own", by_key["OPTIONS /x/own"].operation)
  end)
end)
