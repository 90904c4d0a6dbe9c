-- SPDX-License-Identifier: Apache-2.0
local fake = require("spec.policies.fake")

--- Runs one section of a policy, and gives the reply.
local function run(name, conf, section, ctx, env)
  local module, self = fake.policy(name, conf, env)
  return module[section](self, ctx)
end

local function refused(reply)
  return reply and reply.refuse and reply.status .. " " .. reply.refuse.reason
end

describe("set_header", function()
  it("overrides, skips, appends and deletes", function()
    local ctx = fake.ctx({ request = { headers = { A = "1" } } })
    run("set_header", { name = "A", value = "2" }, "inbound", ctx)
    assert.equal("2", ctx.request.headers.a)
    run("set_header", { name = "A", value = "3", exists_action = "skip" }, "inbound", ctx)
    assert.equal("2", ctx.request.headers.a)
    run("set_header", { name = "A", value = "3", exists_action = "append" }, "inbound", ctx)
    assert.equal("2, 3", ctx.request.headers.a)
    run("set_header", { name = "A", exists_action = "delete" }, "inbound", ctx)
    assert.is_nil(ctx.request.headers.a)
  end)

  it("acts on the response outbound, with templates, functions and lists", function()
    local ctx = fake.ctx()
    run("set_header", { name = "X", value = "${ctx.request.method}-${1 + 1}" }, "outbound", ctx)
    assert.equal("GET-2", ctx.response.headers.x)
    run("set_header", { name = "X", value = function() return 5 end }, "outbound", ctx)
    assert.equal("5", ctx.response.headers.x)
    run("set_header", { name = "X", value = { "a", "b" } }, "outbound", ctx)
    assert.equal("a, b", ctx.response.lines.x)
    run("set_header", { name = "Set-Cookie", value = { "a", "b" } }, "outbound", ctx)
    assert.same({ "a", "b" }, ctx.response.lines["set-cookie"])
  end)

  it("refuses fields of the connection, and a missing value", function()
    for _, name in ipairs({ "Connection", "content-length", "Transfer-Encoding", "a b" }) do
      assert.is_false(pcall(fake.policy, "set_header", { name = name, value = "x" }), name)
    end
    assert.is_false(pcall(fake.policy, "set_header", { name = "A" }))
  end)
end)

describe("set_query_parameter", function()
  it("overrides, skips, appends and deletes", function()
    local ctx = fake.ctx({ request = { query = { a = "1" } } })
    run("set_query_parameter", { name = "a", value = 2 }, "inbound", ctx)
    assert.equal("2", ctx.request.query.a)
    run("set_query_parameter", { name = "a", value = "3", exists_action = "skip" }, "inbound", ctx)
    assert.equal("2", ctx.request.query.a)
    run("set_query_parameter", { name = "a", value = { "3", "4" }, exists_action = "append" },
      "inbound", ctx)
    assert.equal("2,3,4", ctx.request.query.a)
    run("set_query_parameter", { name = "a", exists_action = "delete" }, "inbound", ctx)
    assert.is_nil(ctx.request.query.a)
  end)
end)

describe("set_method, set_status, set_variable and set_body", function()
  it("set what they say", function()
    local ctx = fake.ctx({ response = { headers = { ["Content-Encoding"] = "gzip" } } })
    run("set_method", { value = "POST" }, "inbound", ctx)
    run("set_status", { code = 202 }, "outbound", ctx)
    run("set_variable", { name = "n", value = "${40 + 2}" }, "inbound", ctx)
    run("set_body", { json = { a = 1 } }, "outbound", ctx)
    assert.equal("POST", ctx.request.method)
    assert.equal(202, ctx.response.status)
    assert.equal(42, ctx.vars.n)
    assert.equal('{"a":1}', ctx.response.sent)
    assert.equal("application/json", ctx.response.headers["Content-Type"])
    assert.is_nil(ctx.response.headers["Content-Encoding"])
    assert.is_false(pcall(fake.policy, "set_method", { value = "get" }))
    assert.is_false(pcall(fake.policy, "set_body", {}))
  end)
end)

describe("rewrite_uri", function()
  it("fills in path parameters, encoded, and drops the segments of absent ones", function()
    local ctx = fake.ctx({ request = { params = { id = "a b/c" }, path = "/external/orders/x" } })
    run("rewrite_uri", { template = "/v2/orders/{id}?view=full&i={id}" }, "inbound", ctx)
    assert.equal("/v2/orders/a%20b%2Fc", ctx.request.path)
    assert.same({ view = "full", i = "a b/c" }, ctx.request.query)
    ctx = fake.ctx()
    run("rewrite_uri", { template = "/v2/orders/{id}" }, "inbound", ctx)
    assert.equal("/v2/orders", ctx.request.path)
  end)

  it("exchanges a prefix at a segment's end", function()
    local function rewritten(path)
      local ctx = fake.ctx({ request = { path = path } })
      run("rewrite_uri", { replace_prefix = { from = "/external", to = "/" } }, "inbound", ctx)
      return ctx.request.path
    end
    assert.equal("/a", rewritten("/external/a"))
    assert.equal("/", rewritten("/external"))
    assert.equal("/externals", rewritten("/externals"))
  end)
end)

describe("set_backend_service", function()
  it("sets the backend, and refuses unknown names when loaded", function()
    local ctx = fake.ctx()
    run("set_backend_service", { backend = "b" }, "inbound", ctx, { backends = { b = 1 } })
    assert.equal("b", ctx.backend)
    local ok, err = pcall(fake.policy, "set_backend_service", { backend = "orderz" },
      { backends = { orders = 1 } })
    assert.is_false(ok)
    assert.truthy(err:find('did you mean "orders"', 1, true))
  end)
end)

describe("return_response and mock_response", function()
  it("answer by themselves", function()
    local reply = run("return_response", { status = 503, headers = { ["Retry-After"] = 120 },
      body = "later, ${ctx.request.method}" }, "inbound", fake.ctx())
    assert.equal(503, reply.status)
    assert.equal("120", reply.headers["Retry-After"])
    assert.equal("later, GET", reply.body)
    reply = run("return_response", { json = { ok = true } }, "inbound", fake.ctx())
    assert.equal("application/json", reply.headers["Content-Type"])
    assert.equal('{"ok":true}', reply.body)
  end)

  it("take the operation's example", function()
    local env = { examples = { orders = { get = { ["200"] = { ["application/json"] = { id = 1 } } } } } }
    local ctx = fake.ctx({ api = { name = "orders" }, operation = { name = "get" } })
    local reply = run("mock_response", {}, "inbound", ctx, env)
    assert.equal('{"id":1}', reply.body)
    ctx.operation = { name = "list" }
    reply = run("mock_response", {}, "inbound", ctx, env)
    assert.equal(200, reply.status)
    assert.is_nil(reply.body)
  end)
end)

describe("check_header", function()
  it("asks for the field, and for one of its values", function()
    local conf = { name = "X-T", values = { "Blue" } }
    assert.equal("401 HeaderNotFound", refused(run("check_header", conf, "inbound", fake.ctx())))
    local ctx = fake.ctx({ request = { headers = { ["X-T"] = "blue" } } })
    assert.equal("401 HeaderValueNotAllowed", refused(run("check_header", conf, "inbound", ctx)))
    conf.ignore_case, conf.status = true, 403
    assert.is_nil(run("check_header", conf, "inbound", ctx))
    assert.equal("403 HeaderNotFound", refused(run("check_header", conf, "inbound", fake.ctx())))
  end)
end)

describe("ip_filter", function()
  local had
  setup(function()
    had = package.loaded["moongate.net"]
    package.loaded["moongate.net"] = {
      cidrset = function(list)
        return { contains = function(_, ip)
          for _, cidr in ipairs(list) do
            if cidr == ip then return true end
          end
          return false
        end }
      end,
    }
    package.loaded["policies.ip_filter"] = nil
  end)
  teardown(function()
    package.loaded["moongate.net"], package.loaded["policies.ip_filter"] = had, nil
  end)

  it("denies first, then allows, by names of networks too", function()
    local env = { networks = { inside = { "192.0.2.1" } } }
    assert.is_nil(run("ip_filter", { allow = { "inside" } }, "inbound", fake.ctx(), env))
    assert.equal("403 CallerIpNotAllowed",
      refused(run("ip_filter", { allow = { "inside" }, source = "peer" }, "inbound", fake.ctx(), env)))
    assert.equal("403 CallerIpBlocked", refused(run("ip_filter",
      { allow = { "inside" }, deny = { "192.0.2.1" } }, "inbound", fake.ctx(), env)))
    assert.is_false(pcall(fake.policy, "ip_filter", { allow = { "insid" } }, env))
  end)
end)

describe("cors", function()
  local conf = { origins = { "https://a.test", "https://*.b.test" }, methods = { "GET", "PUT" },
    headers = { "X-A" }, credentials = true, max_age = 60 }

  local function preflight(origin, method, headers)
    return fake.ctx({ request = { method = "OPTIONS", headers = { Origin = origin,
      ["Access-Control-Request-Method"] = method, ["Access-Control-Request-Headers"] = headers } } })
  end

  it("answers preflights", function()
    local reply = run("cors", conf, "inbound", preflight("https://x.b.test", "PUT", "x-a"))
    assert.equal(204, reply.status)
    assert.equal("https://x.b.test", reply.headers["Access-Control-Allow-Origin"])
    assert.equal("true", reply.headers["Access-Control-Allow-Credentials"])
    assert.equal("60", reply.headers["Access-Control-Max-Age"])
    assert.equal("403 OriginNotAllowed",
      refused(run("cors", conf, "inbound", preflight("https://evil.test", "GET"))))
    assert.equal("403 OriginNotAllowed",
      refused(run("cors", conf, "inbound", preflight("https://xb.test", "GET"))))
    assert.equal("403 CorsMethodNotAllowed",
      refused(run("cors", conf, "inbound", preflight("https://a.test", "DELETE"))))
    assert.equal("403 CorsHeaderNotAllowed",
      refused(run("cors", conf, "inbound", preflight("https://a.test", "GET", "x-a, x-z"))))
  end)

  it("adds the fields to answers, and Vary in any case", function()
    local module, self = fake.policy("cors", conf)
    local ctx = fake.ctx({ request = { headers = { Origin = "https://a.test:443" } } })
    assert.is_nil(module.inbound(self, ctx))
    module.outbound(self, ctx)
    assert.equal("https://a.test:443", ctx.response.headers["Access-Control-Allow-Origin"])
    assert.equal("Origin", ctx.response.headers.Vary)
    ctx = fake.ctx()
    assert.is_nil(module.inbound(self, ctx))
    module.on_error(self, ctx)
    assert.is_nil(ctx.response.headers["Access-Control-Allow-Origin"])
    assert.equal("Origin", ctx.response.headers.Vary)
  end)

  it("refuses other origins, not its own, and `*` with credentials", function()
    local ctx = fake.ctx({ request = { headers = { Origin = "https://evil.test" } } })
    assert.equal("403 OriginNotAllowed", refused(run("cors", conf, "inbound", ctx)))
    ctx = fake.ctx({ request = { headers = { Origin = "https://api.test" } } })
    assert.is_nil(run("cors", conf, "inbound", ctx))
    assert.is_false(pcall(fake.policy, "cors", { origins = { "*" }, credentials = true }))
  end)
end)
