-- SPDX-License-Identifier: Apache-2.0
--- What the writer of a policy is told of a slip: where it is, what is not there, what came, and what
--- was meant.
local moongate = require("moongate.test")
local process = require("spec.support.process")

-- Each body stands in a function of its own, on a line of its own, from line 9 on.
local function config(bodies)
  local routes = {}
  for i, body in ipairs(bodies) do
    routes[i] = ('{ path = "/%d", reply = { status = 200 }, policies = { inbound = { function(ctx) %s end } } },')
      :format(i, body)
  end
  return ([[
local reply, crypto, p = require("moongate.reply"), require("moongate.crypto"), require("moongate.policies")
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  policies = { on_error = { function(ctx)
    ctx.response.headers["X-Message"] = ctx.error.message
  end } },
  sites = { { hosts = { "*" }, routes = {
%s
  } } },
}]]):format(table.concat(routes, "\n"))
end

-- What is written; what is said.
local SLIPS = {
  { "local x = ctx.requst.path", [[ctx has no field 'requst'; did you mean "request"?]] },
  { "local x = ctx.request.heders", [[ctx.request has no field 'heders'; did you mean "headers"?]] },
  { "local x = ctx.request.raw_pth", [[ctx.request has no field 'raw_pth'; did you mean "raw_path"?]] },
  { "local x = ctx[1]", "ctx has no field '1'" },
  { "local x = ctx.zzz", "ctx has no field 'zzz'" },
  { "ctx:slep(1)", [[ctx has no field 'slep'; did you mean "sleep"?]] },
  { "ctx.log:inof('x')", [[ctx.log has no field 'inof'; did you mean "info"?]] },
  { "ctx.cache:gett('x')", [[ctx.cache has no field 'gett'; did you mean "get"?]] },
  { "ctx.http:reqest {}", [[ctx.http has no field 'reqest'; did you mean "request"?]] },
  { "local x = ctx.deployment.nmae", [[ctx.deployment has no field 'nmae'; did you mean "name"?]] },
  { "ctx.usr = {}", [[ctx has no field 'usr'; did you mean "user"?; keep values for later in ctx.vars]] },
  { "ctx.plan = 'gold'", "ctx has no field 'plan'; keep values for later in ctx.vars" },
  { "ctx.id = 'x'", "ctx.id cannot be set; keep values for later in ctx.vars" },
  { "ctx.request.hots = 'x'", [[ctx.request has no field 'hots'; did you mean "host"?]] },
  { "ctx.request.host = 'x'", "ctx.request.host cannot be set" },
  { "return reply.tetx(200)", [[moongate.reply has no field 'tetx'; did you mean "text"?]] },
  { "local x = crypto.sha265('x')", [[moongate.crypto has no field 'sha265'; did you mean "sha256"?]] },
  { "ctx.nothing.more = 1", "ctx has no field 'nothing'" },
}

local REPLIES = {
  { "return { status = 200, heders = {} }", [[it has no field 'heders'; did you mean "headers"?]] },
  { "return { status = 200, json = {} }", "it has no field 'json'" },
  { "return { status = 200, 'text' }", "it has no field '1'" },
  { "return { status = 42 }", "status must be 200 to 599, got 42" },
  { "return { status = 'fine' }", [[status must be 200 to 599, got "fine"]] },
  { "return { status = 200, headers = 'X: y' }", [[headers must be a table, got "X: y"]] },
  { "return { status = 200, headers = { 'X: y' } }", "headers must be named by texts, got 1" },
  { "return { status = 200, headers = { X = true } }", "header X must be a text, got a boolean" },
  { "return { status = 200, headers = { X = { 'a', {} } } }", "header X must be a text, got a table" },
  { "return { status = 200, headers = { X = 'a\\nb' } }", "header X holds control characters" },
  { "return { status = 200, headers = { ['X y'] = 'a' } }", [["X y" is no field name]] },
  { "return { status = 200, body = {} }", "body must be a text, got a table" },
}

describe("a slip in a policy", function()
  local function bodies(list)
    local out = {}
    for i, slip in ipairs(list) do
      out[i] = slip[1]
    end
    return out
  end

  it("is told with file, line, the name, and what was meant", function()
    local gw = moongate.gateway({ files = { ["gateway.lua"] = config(bodies(SLIPS)) } })
    finally(function()
      gw:close()
    end)
    for i, slip in ipairs(SLIPS) do
      local r = gw:get("/" .. i)
      assert.same({ 500, ("gateway.lua:%d: %s"):format(8 + i, slip[2]) }, { r.status, r.headers["x-message"] })
      assert.is_nil(r.body:find("no field", 1, true))
    end
  end)

  it("in a reply made by hand is told with what came", function()
    local gw = moongate.gateway({ files = { ["gateway.lua"] = config(bodies(REPLIES)) } })
    finally(function()
      gw:close()
    end)
    for i, slip in ipairs(REPLIES) do
      local r = gw:get("/" .. i)
      assert.same({ 500, "a policy returned no valid reply: " .. slip[2] }, { r.status, r.headers["x-message"] })
      assert.equal("gateway.lua:" .. 8 + i, gw:last_log().where)
    end
  end)

  it("in ctx.error and ctx.api is told as well, and what is not there is nil", function()
    local gw = moongate.gateway({ files = { ["gateway.lua"] = [[
local refuse = function() return require("moongate.reply").refuse(403, "No") end
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  policies = { inbound = { refuse }, on_error = { function(ctx)
    local ok, said = pcall(function() return ctx.error.raeson end)
    local ok2, said2 = pcall(function() return ctx.api.nmae end)
    ctx.response.headers["X-Seen"] = table.concat({ tostring(ok), said, tostring(ok2), said2,
      tostring(ctx.error.policy), tostring(ctx.error.status) }, "|")
  end } },
  backends = { b = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", apis = { "orders" } } } } },
}]], ["apis/orders.lua"] = [[
return {
  name = "orders", paths = { "/orders" }, backend = "b",
  operations = { get = { method = "GET", path = "/{id}" } },
}]] } })
    finally(function()
      gw:close()
    end)
    assert.equal([[false|gateway.lua:6: ctx.error has no field 'raeson'; did you mean "reason"?]]
      .. [[|false|gateway.lua:7: ctx.api has no field 'nmae'; did you mean "name"?|gateway/inbound[1]|403]],
      gw:get("/orders/1").headers["x-seen"])
  end)
end)

describe("a reply that is made and not returned", function()
  it("is told in the log, once for each place, and only then", function()
    local dir = process.run("mktemp -d /tmp/moongate-lost.XXXXXX"):match("%S+")
    finally(function()
      process.run(("rm -rf '%s'"):format(dir))
    end)
    process.run(("mkdir -p '%s/spec' '%s/lib'"):format(dir, dir))
    process.write(dir .. "/lib/deny.lua", [[
local reply = require("moongate.reply")
return function(reason) return reply.refuse(403, reason) end]])
    process.write(dir .. "/gateway.lua", config({
      "reply.refuse(403, 'Lost')",
      "require('lib.deny')('Lost')",
      "if ctx.request.query.bad then reply.problem(400) end",
      "return reply.refuse(403, 'Kept')",
      "local r = reply.text(403, 'kept') r.headers.X = 'y' return r",
      "return (require('lib.deny')('Kept'))",
    }))
    process.write(dir .. "/spec/lost_spec.lua", [[
it("asks", function()
  local gw = require("moongate.test").gateway { dir = ".." }
  for _ = 1, 3 do
    for i, status in ipairs({ 200, 200, 200, 403, 403, 403 }) do
      assert.equal(status, gw:get("/" .. i).status)
    end
  end
  assert.equal(200, gw:get("/3?bad=1").status)
  gw:close()
end)]])
    local said, status = process.run(("'%s' test '%s/spec' 2>&1"):format(process.binary, dir))
    assert.equal(0, status, said)
    local places = {}
    for place in said:gmatch("(gateway.lua:%d+): a reply was made and not returned") do
      places[#places + 1] = place
    end
    assert.same({ "gateway.lua:9", "gateway.lua:10", "gateway.lua:11" }, places)
  end)
end)
