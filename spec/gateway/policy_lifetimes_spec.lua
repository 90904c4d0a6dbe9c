-- SPDX-License-Identifier: Apache-2.0
--- Policies that keep, drop or leave behind what belongs to a request: each finds an error or an answer,
--- and nobody else anything.
local moongate = require("moongate.test")
local socket = require("socket")

local config = [==[
local counters = require("moongate.counters")
local json = require("moongate.json")
local reply = require("moongate.reply")
local kept, kept_parts = {}, {}

local function shown(...)
  local list = { ... }
  for i = 1, select("#", ...) do
    list[i] = tostring(list[i])
  end
  return reply.text(200, table.concat(list, " "))
end

local function small(r)
  return r.ok and #r.value or r.error
end

return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  limits = { policy_memory_bytes = 2097152 },
  backends = { a = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/bodies", backend = "a", policies = { inbound = { function(ctx)
      local r = ctx:parallel {
        function(c) return c.request:body() end,
        function() return "at once" end,
        function(c) return c.request:body() end,
      }
      return shown(small(r[1]), small(r[2]), small(r[3]))
    end } } },
    { path = "/any", backend = "a", policies = { inbound = { function(ctx)
      local r = ctx:parallel { any = {
        function(c) return c.request:body() end,
        function() return "at once" end,
      } }
      ctx.request.headers["X-First"] = r[2].value
    end } } },
    { path = "/any/answer", backend = "a", policies = { outbound = { function(ctx)
      ctx:parallel { any = { function(c) return c.response:body() end, function() return 1 end } }
    end } } },
    { path = "/any/sleep", backend = "a", policies = { inbound = { function(ctx)
      ctx:parallel { any = { function(c) return c.request:body() end, function() return 1 end } }
      ctx:sleep(0.2)
      return shown("slept", #ctx.request:body())
    end } } },
    { path = "/dropped", backend = "a", policies = { backend = { function(ctx)
      ctx:forward()
      local r = ctx.response
      ctx:drop_response()
      local told = {}
      for _, name in ipairs { "header_names", "header_values", "add_header", "body", "set_body", "replace" } do
        local ok, err = pcall(r[name], r, name == "replace" and { { "a", "b" } } or "x", "y")
        told[#told + 1] = tostring(ok) .. ": " .. tostring(err)
      end
      return reply.text(200, table.concat(told, "\n"))
    end } } },
    { path = "/strict", backend = "a", policies = { inbound = { function(ctx)
      return setmetatable({ status = 202 }, { __index = function(_, name) error("no field " .. name) end })
    end } } },
    { path = "/deep", backend = "a", policies = { inbound = { function(ctx)
      local port, n = ctx.request.query.port, tonumber(ctx.request.query.n)
      kept[#kept + 1], kept_parts[#kept_parts + 1] = ctx, ctx.request.headers
      if n > 0 then
        return shown(ctx.http:request({ url = ("http://127.0.0.1:%s/deep?port=%s&n=%d"):format(port, port, n - 1) })
          .body)
      end
      return shown("deepest")
    end } } },
    { path = "/kept", backend = "a", policies = { inbound = { function(ctx)
      local n = 0
      for i = 1, #kept do
        local ok = pcall(function() return kept[i].id end) or pcall(function() return kept_parts[i].host end)
        n = n + ((ok and kept[i] ~= ctx) and 1 or 0)
      end
      return shown(#kept, n)
    end } } },
    { path = "/secret", backend = "a", policies = { inbound = { function(ctx)
      kept.secret = ctx
      ctx.vars.secret, ctx.user, ctx.jwt = "vars", { name = "user" }, { sub = "jwt" }
      local thief = "/thief?once=" .. ctx.request.query.when
      local stolen = ctx.http:request { url = ("http://127.0.0.1:%s%s"):format(ctx.request.query.port, thief) }.body
      return shown(stolen, ctx.vars.secret, ctx.user.name, ctx.jwt.sub, ctx.request.query.when)
    end } } },
    { path = "/thief", backend = "a", policies = { inbound = { function(ctx)
      ctx.vars.secret = "own"
      if ctx.request.query.once == "waited" then
        ctx:sleep(0.001)
      end
      local told = {}
      for _, name in ipairs { "vars", "user", "jwt", "request" } do
        local ok, value = pcall(function() return kept.secret[name] end)
        told[#told + 1] = ok and "stole" or "not"
        told[#told + 1] = pcall(function() kept.secret[name] = { name = "set" } end) and "set" or nil
      end
      return shown(table.concat(told, ","), ctx.vars.secret)
    end } } },
    { path = "/hoard", backend = "a", policies = { inbound = { function(ctx)
      return shown(#json.decode("[" .. ("[1],"):rep(200000) .. "[1]]"))
    end } } },
    { path = "/wishes", backend = "a", policies = { inbound = { function(ctx)
      local told = {}
      for _, wish in ipairs {
        { timeout = 0 / 0 }, { timeout = -1 }, { timeout = math.huge }, { max_bytes = -1 }, { max_bytes = 1e300 },
        { path = "/a b" }, { path = "/a\r\nX: 1" }, { path = "a" }, { method = "GET\r\n" },
        setmetatable({}, { __index = function(_, name) error("no " .. name, 0) end }),
      } do
        rawset(wish, "backend", "a")
        local ok, answer, err = pcall(ctx.http.request, ctx.http, wish)
        told[#told + 1] = tostring(ok) .. ": " .. tostring(err or answer)
      end
      return reply.text(200, table.concat(told, "\n"))
    end } } },
    { path = "/send", backend = "a", policies = { inbound = { function(ctx)
      return shown(ctx.http:send { url = ctx.request.query.url })
    end } } },
    { path = "/told", backend = "a", policies = { inbound = { function(ctx)
      ctx.vars.limiter = counters.limiter { id = "told", calls = 10, period = 60, gives_back = true }
      ctx.vars.limiter:admit(ctx, "k", 1)
    end }, outbound = { function(ctx)
      ctx.vars.limiter:tell(ctx, ("%q;q=%d"):format(("n"):rep(40), 10), ("%q;r="):format(("n"):rep(40)))
      for i = 1, 20000 do ctx.vars.waste = ("w"):rep(40) .. i end
      ctx:sleep(0.01)
    end } } },
    { path = "/fine", backend = "a" },
  } } },
}
]==]

describe("a policy", function()
  local gw

  setup(function()
    gw = moongate.gateway({
      files = { ["gateway.lua"] = config },
      backends = {
        a = function(request)
          return 200, { ["X-First"] = request.headers["x-first"] }, request.body == "" and ("a"):rep(300000)
            or tostring(#request.body)
        end,
      },
    })
  end)

  teardown(function()
    gw:close()
  end)

  after_each(function()
    assert.equal(200, gw:get("/fine").status)
  end)

  local long = ("b"):rep(300000)

  it("may read a body in several functions of ctx:parallel", function()
    assert.equal("300000 7 300000", gw:post("/bodies", { body = long }).body)
  end)

  it("that does not wait for a body it began to read loses nothing of it", function()
    local answer = gw:post("/any", { body = long })
    assert.equal("300000", answer.body)
    assert.equal("at once", answer.headers["x-first"])
    assert.equal(300000, #gw:get("/any/answer").body)
    assert.equal("slept 300000", gw:post("/any/sleep", { body = long }).body)
  end)

  it("is told that a response it kept has been dropped", function()
    local lines = 0
    for line in gw:get("/dropped").body:gmatch("[^\n]+") do
      lines = lines + 1
      assert.matches("^false: .*there is no response yet$", line)
    end
    assert.equal(6, lines)
  end)

  it("may answer with a table that raises for what it does not have", function()
    assert.equal(202, gw:get("/strict").status)
  end)

  it("that kept the ctx of requests which are over is told so", function()
    local n = 300 -- more than a worker keeps for the next ones
    assert.equal("deepest", gw:get(("/deep?port=%d&n=%d"):format(gw:port(), n)).body)
    assert.equal("301 0", gw:get("/kept").body)
  end)

  for _, when in ipairs { "quickly", "waited" } do
    it("that kept the ctx of a request which waits reads nothing there, " .. when, function()
      assert.equal(("not,not,not,not own vars user jwt %s"):format(when),
        gw:get(("/secret?port=%d&when=%s"):format(gw:port(), when)).body)
    end)
  end

  it("that uses up its memory inside a C function costs its own request a 503, and the next one nothing", function()
    assert.equal(503, gw:get("/hoard").status)
    assert.equal("policy_budget", gw:last_log().error)
    assert.equal(200, gw:get("/wishes").status)
  end)

  it("is told what a request of its own cannot be", function()
    assert.equal(table.concat({
      "false: http: timeout must be 0 to 86400, got nan",
      "false: http: timeout must be 0 to 86400, got -1",
      "false: http: timeout must be 0 to 86400, got inf",
      "false: http: max_bytes must be 0 to 1073741824, got -1",
      "false: http: max_bytes must be 0 to 1073741824, got 1e+300",
      "true: request target is not valid or ambiguous",
      "true: request target is not valid or ambiguous",
      "true: request target is not valid or ambiguous",
      "true: method is not implemented",
      "false: no tls",
    }, "\n"), gw:get("/wishes").body)
  end)

  it("that sends something and is replaced by a reload leaves nothing behind", function()
    local silent = assert(socket.bind("127.0.0.1", 0))
    local _, port = silent:getsockname()
    assert.equal("true", gw:get(("/send?url=http://127.0.0.1:%d/"):format(port)).body)
    assert.is_true(gw:reload({ ["gateway.lua"] = config }))
    assert.equal(200, gw:get("/fine").status)
    gw:advance(61) -- its deadline
    silent:close()
  end)

  it("may name a limit by texts that it has just made", function()
    local answer = gw:get("/told")
    assert.equal(('"%s";q=10'):format(("n"):rep(40)), answer.headers["ratelimit-policy"])
    assert.equal(('"%s";r=9;t=6'):format(("n"):rep(40)), answer.headers["ratelimit"])
  end)
end)
