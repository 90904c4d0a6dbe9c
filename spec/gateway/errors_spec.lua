-- SPDX-License-Identifier: Apache-2.0
--- What `on_error` is told: API Management's LastError, where no other spec looks at it.
local moongate = require("moongate.test")

local CONFIG = [==[
local p, reply = require("moongate.policies"), require("moongate.reply")
local seen = {}
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0", http2 = true } },
  policies = {
    on_error = { function(ctx)
      local e = ctx.error
      seen[#seen + 1] = table.concat({ e.source, e.reason, e.section, tostring(e.scope), tostring(e.policy),
        tostring(e.path), e.status }, "|")
      if ctx.request.query["then"] == "reply" then
        return reply.text(200, "not for anybody")
      elseif ctx.request.query["then"] == "wait" then
        ctx:sleep(60)
        seen[#seen + 1] = "waited"
      elseif ctx.request.query["then"] == "read" then
        seen[#seen + 1] = tostring(pcall(ctx.request.body, ctx.request))
      end
    end },
  },
  backends = { b = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/seen", reply = { status = 200 }, policies = { inbound = { function()
      local list = seen
      seen = {}
      return reply.text(200, table.concat(list, "\n"))
    end } } },
    { path = "/read", backend = "b", policies = { inbound = { function(ctx) ctx.request:body() end } } },
    { path = "/caught", backend = "b", policies = { inbound = { function(ctx)
      pcall(ctx.request.body, ctx.request)
    end } } },
    { path = "/backend", backend = "b", policies = { backend = { function(ctx) ctx.request:body() end } } },
    { path = "/streamed", backend = "b" },
    { path = "/waiting", backend = "b", policies = { inbound = { function(ctx) ctx:sleep(60) end } } },
    { path = "/nested", backend = "b", policies = { inbound = {
      p.trace { message = "x" },
      p.when("true", { p.when("false", {}, { p.check_header { name = "X", id = "mine" } }) }),
    } } },
  } } },
}]==]

describe("on_error", function()
  local gw

  before_each(function()
    gw = moongate.gateway({ files = { ["gateway.lua"] = CONFIG }, backends = { b = function()
      return 200, {}, "ok"
    end } })
  end)

  after_each(function()
    gw:close()
  end)

  local function leave(path)
    local got = gw:raw(("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"):format(path),
      { half_close = true })
    assert.equal("", got)
    local line = gw:last_log()
    assert.same({ 0, "client_closed", "ClientConnectionFailure" }, { line.status, line.error, line.reason })
    return gw:get("/seen").body
  end

  for path, section in pairs({ ["/read"] = "inbound", ["/caught"] = "inbound", ["/backend"] = "backend",
    ["/streamed"] = "backend" }) do
    it("is told of a client that leaves in mid-body (" .. path .. ")", function()
      assert.equal(("gateway|ClientConnectionFailure|%s|nil|nil|nil|499"):format(section), leave(path))
    end)
  end

  it("may read, wait or answer though the client is gone, and nothing comes of it", function()
    local told = "gateway|ClientConnectionFailure|inbound|nil|nil|nil|499"
    assert.equal(told, leave("/read?then=reply"))
    assert.equal(told, leave("/read?then=wait"))
    assert.equal(told .. "\nfalse", leave("/read?then=read"))
    gw:advance(61)
    assert.equal("", gw:get("/seen").body)
    assert.equal(200, gw:post("/read", { body = "whole" }).status)
  end)

  it("is told where in its scope the policy stands, whatever its id", function()
    assert.equal(401, gw:get("/nested").status)
    assert.equal("check_header|HeaderNotFound|inbound|route|mine|inbound[2].policies[1].otherwise[1]|401",
      gw:get("/seen").body)
  end)
end)
