-- SPDX-License-Identifier: Apache-2.0
--- Policies that are done without Lua do the same as their Lua functions. Each is listed on three routes: at
--- the front of its section, where the runtime calls what it does in C; behind a function of the user's own,
--- which has ctx.vars in its hands, where the chain does; and with a condition, where its Lua function runs.
local json = require("moongate.json")
local jwt = require("moongate.jwt")
local moongate = require("moongate.test")

local SECRET = ("k"):rep(32)

local head = [[
local p = require("moongate.policies")
local token = { algorithms = { "HS256" }, keys = { { kty = "oct", value = "]] .. SECRET .. [[" } } }
local function with_of(p)
  return function(more)
    local conf = {}
    for _, t in ipairs { token, more or {} } do
      for name, value in pairs(t) do conf[name] = value end
    end
    return p.validate_jwt(conf)
  end
end
local conditional = setmetatable({}, { __index = function(_, name)
  return function(conf)
    conf.when = function() return true end
    return p[name](conf)
  end
end })
local function none(ctx) ctx.vars.mine = 1 end
local function made(p, list)
  local with = with_of(p)
  for _, one in ipairs { POLICIES } do list[#list + 1] = one end
  return { SECTION = list }
end
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { echo = { targets = { "http://127.0.0.1:1" } } },
  products = { gold = { apis = { "orders" }, policies = { inbound = { p.set_header {
    name = "X-Product", value = "${ctx.product.name}" } } } }, tin = { apis = { "orders" } } },
  subscriptions = {
    { id = "s-gold", product = "gold", keys = { "key-of-the-gold-caller-1" } },
    { id = "s-tin", product = "tin", keys = { "key-of-the-tin-caller-01" } },
  },
  sites = { { hosts = { "*" }, routes = {
    { path = "/orders/*", apis = true },
    { path = "/c/{id}/*", backend = "echo", policies = made(p, {}) },
    { path = "/chain/{id}/*", backend = "echo", policies = made(p, { none }) },
    { path = "/lua/{id}/*", backend = "echo", policies = made(conditional, {}) },
  } } },
}]]

local api = [[return { name = "orders", paths = { "/orders" }, backend = "echo",
  subscription = { required = true }, operations = { get = { method = "GET", path = "/" } } }]]

local gw, seen

local function serve(section, policies)
  local text = head:gsub("SECTION", section):gsub("POLICIES", function() return policies end)
  gw = moongate.gateway({ files = { ["gateway.lua"] = text, ["apis/orders.lua"] = api }, backends = {
    echo = function(request)
      seen = request
      return 200, { ["X-Both"] = "of the backend", ["X-Old"] = "old" }, ""
    end,
  } })
end

local function sign(claims)
  local set = assert(jwt.keyset({ keys = { { kty = "oct", value = SECRET } },
    algorithms = { "HS256" } }))
  return "Bearer " .. assert(set:sign(json.encode(claims), { alg = "HS256" }))
end

--- What the policies made of a request by Lua, which each other way has to make, too.
local function by_lua(path, headers, look, why)
  local out = {}
  for i, way in ipairs { "lua", "c", "chain" } do
    seen = nil
    local response = gw:get("/" .. way .. path, { headers = headers })
    local found = look(response, seen)
    if type(found) == "string" then
      found = found:gsub("/" .. way .. "/", "/way/")
    end
    out[i] = { status = response.status, seen = found }
    assert.same(out[1], out[i], way .. " " .. (why or ""))
  end
  return out[1]
end

local function header(name)
  return function(_, request)
    return request and request.headers[name] or "none"
  end
end

describe("a policy that needs no Lua", function()
  after_each(function()
    gw:close()
  end)

  -- All in one gateway: X-1, X-2 …
  local VALUES = { "plain", "", "  around  ", "${ctx.request.method}", "${ctx.request.host}",
    "${ctx.request.path} and ${ctx.request.scheme}", "${ctx.request.client_ip}", "${#ctx.id}",
    "${ctx.site}|${ctx.route}", "${ctx.request.headers['X-Given']}", '<${ctx.request.headers["x-none"]}>',
    "${ctx.request.headers.Accept}", "${ctx.request.params.id}", "${ctx.request.params.other}",
    "${ctx.request.query.q}", "<${ctx.request.query.empty}>", "${ctx.request.query.none}",
    "${ctx.request.headers.accept:upper()}", "${1 + 1}", "${ ctx . request . method }" }

  it("gives the texts that Lua gives", function()
    local list = {}
    for i, value in ipairs(VALUES) do
      list[i] = ("p.set_header { name = 'X-%d', value = %q }"):format(i, value)
    end
    serve("inbound", table.concat(list, ", "))
    for i, value in ipairs(VALUES) do
      by_lua("/4%202/a?q=a%20b&empty", { ["X-Given"] = "given", Accept = "text/plain" }, header("x-" .. i),
        value)
    end
  end)

  it("raises as Lua does where what is asked for is not there", function()
    for _, place in ipairs { "api.name", "operation.id", "product.name", "subscription.id", "jwt.sub" } do
      serve("inbound", "p.set_header { name = 'X-Made', value = '${ctx." .. place .. "}' }")
      assert.equal(500, by_lua("/1/", {}, header("x-made"), place).status)
      gw:close()
    end
    serve("inbound", "")
  end)

  it("sets, leaves, adds to and takes away fields of requests and responses as Lua does", function()
    for _, section in ipairs { "inbound", "outbound" } do
      for _, action in ipairs { "override", "skip", "append", "delete" } do
        local conf = "p.set_header { name = %q, value = 'set', exists_action = %q }"
        serve(section, conf:format("X-Both", action) .. ", " .. conf:format("X-New", action))
        by_lua("/1/", { ["X-Both"] = "of the client" }, function(response, request)
          local from = section == "inbound" and request or response
          return { from.headers["x-both"] or false, from.headers["x-new"] or false }
        end, section .. " " .. action)
        gw:close()
      end
    end
    serve("inbound", "")
  end)

  it("refuses a value that no field may have as Lua does", function()
    serve("inbound", "p.set_header { name = 'X-Made', value = '${ctx.request.params.id}' }")
    assert.equal(500, by_lua("/a%0Ab/", {}, header("x-made")).status)
  end)

  it("rewrites the path as Lua does", function()
    for _, conf in ipairs { "template = '/v2/{id}/x'", "template = '/v2/{none}/x'",
      "template = '/v2/{id}', copy_unmatched_params = false", "template = '/v2?id={id}'" } do
      serve("inbound", "p.rewrite_uri { " .. conf .. " }")
      by_lua("/4%202/?a=b", {}, function(_, request) return request.target end, conf)
      gw:close()
    end
    serve("inbound", "")
  end)

  it("knows a token's claims from the second time on, and Lua gets them as a table", function()
    serve("inbound", [[with(), p.set_header { name = "X-User", value = "${ctx.jwt.sub}" },
      p.set_header { name = "X-Level", value = "${ctx.jwt.level}" },
      p.set_header { name = "X-None", value = "<${ctx.jwt.none}>" },
      function(ctx)
        ctx.request.headers["X-Roles"] = table.concat(ctx.jwt.roles, " ")
        ctx.jwt.roles[1], ctx.jwt.sub = "changed", "changed"
      end,
      p.set_header { name = "X-Later", value = "${ctx.jwt.sub}" } ]])
    local token = sign({ sub = "ada", level = 3, roles = { "a", "b" }, exp = jwt.now() + 60 })
    for _ = 1, 3 do
      assert.same({ "ada", "3", "<>", "a b", "changed" }, by_lua("/1/", { Authorization = token },
        function(_, request)
          local h = request.headers
          return { h["x-user"], h["x-level"], h["x-none"], h["x-roles"], h["x-later"] }
        end).seen)
    end
    gw:advance(61)
    assert.equal(401, by_lua("/1/", { Authorization = token }, header("x-user")).status)
    assert.equal(401, by_lua("/1/", {}, header("x-user")).status)
  end)

  it("keeps the token from the backend where that is wanted, and the second token's claims", function()
    serve("inbound", [[with { header_name = "X-First", strip_token = true },
      p.set_header { name = "X-One", value = "${ctx.jwt.sub}" },
      with { header_name = "X-Second" }, p.set_header { name = "X-Two", value = "${ctx.jwt.sub}" } ]])
    local headers = { ["X-First"] = sign({ sub = "one", exp = jwt.now() + 60 }):sub(8),
      ["X-Second"] = sign({ sub = "two", exp = jwt.now() + 60 }):sub(8) }
    for _ = 1, 3 do
      assert.same({ "one", "two", true, true }, by_lua("/1/", headers, function(_, request)
        local h = request.headers
        return { h["x-one"], h["x-two"], h["x-first"] == nil, h["x-second"] ~= nil }
      end).seen)
    end
  end)

  it("counts calls, refuses them and tells what is left as Lua does", function()
    for _, key in ipairs { "'client_ip'", "'${ctx.request.headers[\"X-Who\"]}'", "nil" } do
      serve("inbound", "p.rate_limit { calls = 2, period = 60, algorithm = 'fixed_window', key = "
        .. key .. " }")
      for i = 1, 3 do
        assert.equal(i < 3 and 200 or 429, by_lua("/1/", { ["X-Who"] = "me" }, function(response)
          local h = response.headers
          return { h["ratelimit-policy"] or "", h["ratelimit"] or "", h["retry-after"] ~= nil }
        end, key).status)
      end
      local other = by_lua("/1/", { ["X-Who"] = "you" }, header("x-none")).status
      assert.equal(key:find("Who", 1, true) and 200 or 429, other)
      gw:close()
    end
    serve("inbound", "")
  end)

  it("leaves in ctx.vars what the limit has left", function()
    serve("inbound", [[p.rate_limit { calls = 5, period = 60 }, function(ctx)
      ctx.request.headers["X-Left"] = ctx.vars["rate_limit.remaining"] .. ctx.vars["rate_limit.source"]
    end]])
    assert.equal("4local", by_lua("/1/", {}, header("x-left")).seen)
  end)

  it("that declines has the others go on behind it", function()
    serve("inbound", [[p.set_header { name = "X-1", value = "one" },
      p.set_header { name = "X-2", value = "${ctx.request.path:upper()}" },
      p.set_header { name = "X-3", value = "<${ctx.request.query.q}>" },
      p.set_header { name = "X-4", value = "${ctx.request.headers['X-1']}${ctx.request.headers['X-3']}" } ]])
    for _, query in ipairs { "", "?q", "?q=a" } do
      by_lua("/1/" .. query, {}, function(_, request)
        local h = request.headers
        return table.concat({ h["x-1"], h["x-3"], h["x-4"] }, " ")
      end, query)
    end
  end)

  it("names the policy that refuses, by either way", function()
    serve("inbound", [[p.set_header { name = "X-1", value = "one" },
      p.rate_limit { id = "mine", calls = 1, period = 60 }]])
    for _, way in ipairs { "c", "chain", "lua" } do
      gw:get("/" .. way .. "/1/")
      assert.equal(429, gw:get("/" .. way .. "/1/").status)
      local line = gw:last_log()
      assert.same({ "RateLimitExceeded", "rate_limit" }, { line.reason, line.source or line.policy })
      gw:advance(61)
    end
  end)

  it("of a product runs for those who have a key of it", function()
    serve("inbound", "")
    local function product(key)
      assert.equal(200, gw:get("/orders/", { headers = { ["Ocp-Apim-Subscription-Key"] = key } }).status)
      return seen.headers["x-product"]
    end
    assert.equal("gold", product("key-of-the-gold-caller-1"))
    assert.is_nil(product("key-of-the-tin-caller-01"))
  end)
end)
