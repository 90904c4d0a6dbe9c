-- SPDX-License-Identifier: Apache-2.0
--- Policies that the runtime does without Lua do the same as their Lua functions. Each is listed on two
--- routes: on one behind a function of the user's own, after which Lua goes on.
local json = require("moongate.json")
local jwt = require("moongate.jwt")
local moongate = require("moongate.test")

local SECRET = ("k"):rep(32)

local head = [[
local p = require("moongate.policies")
local token = { algorithms = { "HS256" }, keys = { { kty = "oct", value = "]] .. SECRET .. [[" } } }
local function with(more)
  local conf = {}
  for _, t in ipairs { token, more or {} } do
    for name, value in pairs(t) do conf[name] = value end
  end
  return p.validate_jwt(conf)
end
local function none() end
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
]]

local api = [[return { name = "orders", paths = { "/orders" }, backend = "echo",
  subscription = { required = true }, operations = { get = { method = "GET", path = "/" } } }]]

local gw, seen

local function serve(rest)
  local files = { ["gateway.lua"] = head .. rest .. "\n}", ["apis/orders.lua"] = api }
  gw = moongate.gateway({ files = files, backends = {
    echo = function(request)
      seen = request
      return 200, { ["X-Both"] = "of the backend", ["X-Old"] = "old" }, ""
    end,
  } })
end

local function routes(section, policies)
  local text = [[sites = { { hosts = { "*" }, routes = {
    { path = "/c/{id}/*", backend = "echo", policies = { SECTION = { POLICIES } } },
    { path = "/orders/*", apis = true },
    { path = "/lua/{id}/*", backend = "echo", policies = { SECTION = { none, POLICIES } } },
  } } }]]
  text = text:gsub("SECTION", section)
  return (text:gsub("POLICIES", function() return policies end))
end

local function sign(claims)
  local set = assert(jwt.keyset({ keys = { { kty = "oct", value = SECRET } },
    algorithms = { "HS256" } }))
  return "Bearer " .. assert(set:sign(json.encode(claims), { alg = "HS256" }))
end

--- What the policies made of a request, by either way.
local function both(path, headers, look)
  local out = {}
  for i, way in ipairs { "/c", "/lua" } do
    seen = nil
    local response = gw:get(way .. path, { headers = headers })
    out[i] = { status = response.status, seen = look(response, seen) }
  end
  return out[1], out[2]
end

describe("a policy that needs no Lua", function()
  after_each(function()
    gw:close()
  end)

  local VALUES = { "plain", "", "  around  ", "${ctx.request.method}", "${ctx.request.host}",
    "${ctx.request.path} and ${ctx.request.scheme}", "${ctx.request.client_ip}", "${ctx.id}",
    "${ctx.site}|${ctx.route}", "${ctx.request.headers['X-Given']}", '<${ctx.request.headers["x-none"]}>',
    "${ctx.request.headers.Accept}", "${ctx.request.params.id}", "${ctx.request.params.other}",
    "${ctx.request.query.q}", "<${ctx.request.query.empty}>", "${ctx.request.query.none}",
    "${ctx.api.name}", "${ctx.operation.id}", "${ctx.product.name}", "${ctx.subscription.id}",
    "${ctx.jwt.sub}", "${ctx.request.headers.accept:upper()}", "${1 + 1}", "${ ctx . request . method }" }

  it("gives the texts that Lua gives, or its errors", function()
    for _, value in ipairs(VALUES) do
      serve(routes("inbound", ("p.set_header { name = 'X-Made', value = %q }"):format(value)))
      local c, lua = both("/4%202/a?q=a%20b&empty", { ["X-Given"] = "given", Accept = "text/plain" },
        function(_, request) return request and request.headers["x-made"] or "none" end)
      if value == "${ctx.id}" then
        c.seen, lua.seen = #c.seen, #lua.seen
      elseif value:find("path", 1, true) or value:find("route", 1, true) then
        c.seen = c.seen:gsub("/c/", "/lua/")
      end
      assert.same(lua, c, value)
      gw:close()
    end
    serve(routes("inbound", ""))
  end)

  it("sets, leaves, adds to and takes away fields of requests and responses as Lua does", function()
    for _, section in ipairs { "inbound", "outbound" } do
      for _, action in ipairs { "override", "skip", "append", "delete" } do
        for _, name in ipairs { "X-Both", "X-New" } do
          serve(routes(section, ("p.set_header { name = %q, value = 'set', exists_action = %q }")
            :format(name, action)))
          local c, lua = both("/1/", { ["X-Both"] = "of the client" }, function(response, request)
            local from = section == "inbound" and request or response
            return { from.headers["x-both"] or false, from.headers["x-new"] or false }
          end)
          assert.same(lua, c, section .. " " .. action .. " " .. name)
          gw:close()
        end
      end
    end
    serve(routes("inbound", ""))
  end)

  it("refuses a value that no field may have as Lua does", function()
    serve(routes("inbound", "p.set_header { name = 'X-Made', value = '${ctx.request.params.id}' }"))
    local c, lua = both("/a%0Ab/", {}, function(_, request) return request ~= nil end)
    assert.equal(500, lua.status)
    assert.same(lua, c)
  end)

  it("rewrites the path as Lua does", function()
    for _, conf in ipairs { "template = '/v2/{id}/x'", "template = '/v2/{none}/x'",
      "template = '/v2/{id}', copy_unmatched_params = false", "template = '/v2?id={id}'" } do
      serve(routes("inbound", "p.rewrite_uri { " .. conf .. " }"))
      local c, lua = both("/4%202/?a=b", {}, function(_, request) return request.target end)
      assert.same(lua, c, conf)
      gw:close()
    end
    serve(routes("inbound", ""))
  end)

  it("knows a token's claims from the second time on, and Lua gets them as a table", function()
    serve(routes("inbound", [[with(), p.set_header { name = "X-User", value = "${ctx.jwt.sub}" },
      p.set_header { name = "X-Level", value = "${ctx.jwt.level}" },
      p.set_header { name = "X-None", value = "<${ctx.jwt.none}>" },
      function(ctx)
        ctx.request.headers["X-Roles"] = table.concat(ctx.jwt.roles, " ")
        ctx.jwt.roles[1], ctx.jwt.sub = "changed", "changed"
      end,
      p.set_header { name = "X-Later", value = "${ctx.jwt.sub}" } ]]))
    local now = jwt.now()
    local token = sign({ sub = "ada", level = 3, roles = { "a", "b" }, exp = now + 60 })
    for _ = 1, 3 do
      local c, lua = both("/1/", { Authorization = token }, function(_, request)
        local h = request.headers
        return { h["x-user"], h["x-level"], h["x-none"], h["x-roles"], h["x-later"] }
      end)
      assert.same({ "ada", "3", "<>", "a b", "changed" }, c.seen)
      assert.same(lua, c)
    end
    gw:advance(61)
    assert.equal(401, gw:get("/c/1/", { headers = { Authorization = token } }).status)
    assert.equal(401, gw:get("/c/1/", { headers = {} }).status)
  end)

  it("keeps the token from the backend where that is wanted, and the second token's claims", function()
    serve(routes("inbound", [[with { header_name = "X-First", strip_token = true },
      p.set_header { name = "X-One", value = "${ctx.jwt.sub}" },
      with { header_name = "X-Second" }, p.set_header { name = "X-Two", value = "${ctx.jwt.sub}" } ]]))
    local headers = { ["X-First"] = sign({ sub = "one", exp = jwt.now() + 60 }):sub(8),
      ["X-Second"] = sign({ sub = "two", exp = jwt.now() + 60 }):sub(8) }
    for _ = 1, 2 do
      local c, lua = both("/1/", headers, function(_, request)
        local h = request.headers
        return { h["x-one"], h["x-two"], h["x-first"] == nil, h["x-second"] ~= nil }
      end)
      assert.same({ "one", "two", true, true }, c.seen)
      assert.same(lua, c)
    end
  end)

  it("counts calls, refuses them and tells what is left as Lua does", function()
    for _, key in ipairs { "'client_ip'", "'${ctx.request.headers[\"X-Who\"]}'", "nil" } do
      serve(routes("inbound", "p.rate_limit { calls = 2, period = 60, algorithm = 'fixed_window', key = "
        .. key .. " }"))
      for i = 1, 3 do
        local c, lua = both("/1/", { ["X-Who"] = "me" }, function(response)
          local h = response.headers
          return { h["ratelimit-policy"] or "", h["ratelimit"] or "", h["retry-after"] ~= nil }
        end)
        assert.equal(i < 3 and 200 or 429, c.status)
        assert.same(lua, c, key)
      end
      local other = gw:get("/c/1/", { headers = { ["X-Who"] = "you" } }).status
      assert.equal(key:find("Who", 1, true) and 200 or 429, other)
      gw:close()
    end
    serve(routes("inbound", ""))
  end)

  it("leaves in ctx.vars what the limit has left", function()
    serve(routes("inbound", [[p.rate_limit { calls = 5, period = 60 }, function(ctx)
      ctx.request.headers["X-Left"] = ctx.vars["rate_limit.remaining"] .. ctx.vars["rate_limit.source"]
    end]]))
    local c, lua = both("/1/", {}, function(_, request) return request.headers["x-left"] end)
    assert.equal("4local", c.seen)
    assert.same(lua, c)
  end)

  it("of a product runs for those who have a key of it", function()
    serve(routes("inbound", ""))
    local function product(key)
      assert.equal(200, gw:get("/orders/", { headers = { ["Ocp-Apim-Subscription-Key"] = key } }).status)
      return seen.headers["x-product"]
    end
    assert.equal("gold", product("key-of-the-gold-caller-1"))
    assert.is_nil(product("key-of-the-tin-caller-01"))
  end)
end)
