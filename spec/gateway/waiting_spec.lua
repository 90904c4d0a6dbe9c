-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local config = [[
local reply = require("moongate.reply")
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = {
    a = { targets = { "http://127.0.0.1:1" } },
    b = { targets = { "http://127.0.0.1:1" } },
    down = { targets = { "http://127.0.0.1:1" }, retries = 0 },
  },
  sites = { { hosts = { "*" }, routes = {
    { path = "/sleep", reply = { status = 200, body = "awake" },
      policies = { inbound = { function(ctx) ctx:sleep(30) end } } },
    { path = "/http", backend = "a", policies = { inbound = { function(ctx)
      local answer, err = ctx.http:request { backend = "b", path = "/asked", method = "POST", body = "x",
        headers = { ["X-From"] = "policy" } }
      ctx.vars.answer = answer.status .. " " .. answer.body .. " " .. answer.headers["x-b"]
    end }, outbound = { function(ctx) ctx.response.headers["X-Answer"] = ctx.vars.answer end } } },
    { path = "/fails", backend = "a", policies = { inbound = { function(ctx)
      local answer, err = ctx.http:request { backend = "down", path = "/" }
      return reply.text(200, tostring(answer) .. " " .. tostring(err))
    end } } },
    { path = "/all", backend = "a", policies = { inbound = { function(ctx)
      local results = ctx:parallel {
        function(c) return c.http:request({ backend = "a", path = "/1" }).body end,
        function(c) return c.http:request({ backend = "b", path = "/2" }).body end,
        function(c) error("third fails", 0) end,
        function(c) return "at once" end,
      }
      return reply.json(200, { results[1].value, results[2].value, tostring(results[3].ok), results[3].error,
        results[4].value })
    end } } },
    { path = "/any", backend = "a", policies = { inbound = { function(ctx)
      local results = ctx:parallel { any = {
        function(c) c:sleep(100) return "slow" end,
        function(c) return c.http:request({ backend = "b", path = "/fast" }).body end,
      } }
      return reply.text(200, tostring(results[1]) .. " " .. results[2].value)
    end } } },
    { path = "/late", backend = "a", policies = { inbound = { function(ctx)
      local results = ctx:parallel { timeout = 1, function(c) c:sleep(100) return "slow" end }
      return reply.text(200, tostring(results[1].ok) .. " " .. results[1].error)
    end } } },
    { path = "/json", backend = "a", policies = { inbound = { function(ctx)
      local body, err = ctx.request:json()
      return reply.text(200, body and tostring(body.n) or "no JSON")
    end } } },
    { path = "/slow", backend = "a", limits = { body_timeout = 3 }, policies = {
      inbound = { function(ctx) ctx.request:body() end },
      on_error = { function(ctx) ctx.response.headers["X-Seen"] = ctx.error.reason end } } },
    { path = "/form", backend = "a", policies = { inbound = { function(ctx)
      return reply.text(200, ctx.request:form().name)
    end } } },
    { path = "/upper", backend = "a", policies = { outbound = { function(ctx)
      ctx.response:set_body(ctx.response:body():upper())
    end } } },
    { path = "/replace", backend = "a", policies = { inbound = { function(ctx)
      ctx.request:set_body("was " .. ctx.request:body())
    end } } },
  } } },
}
]]

local gw

setup(function()
  gw = moongate.gateway({
    files = { ["gateway.lua"] = config },
    backends = {
      a = function(request)
        return 200, {}, "a " .. request.path .. " " .. request.body
      end,
      b = function(request)
        return 201, { ["X-B"] = request.headers["x-from"] or "-" }, "b " .. request.path
      end,
    },
  })
end)

teardown(function()
  gw:close()
end)

describe("a policy that waits", function()
  it("wakes when the clock says so, while others are served", function()
    gw.core:raw("GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n", { wait = 0.02 })
    assert.equal("a /replace was x", gw:post("/replace", { body = "x" }).body)
  end)

  it("calls a backend and goes on with its answer", function()
    assert.equal("201 b /asked policy", gw:get("/http").headers["x-answer"])
  end)

  it("is told why a call failed, and decides itself", function()
    assert.equal("nil the connection was refused", gw:get("/fails").body)
  end)

  it("joins several answers, each with its own outcome", function()
    assert.equal('["a /1 ","b /2","false","third fails","at once"]', gw:get("/all").body)
  end)

  it("takes the first answer and cancels the others", function()
    assert.equal("nil b /fast", gw:get("/any").body)
  end)

  it("gives up on branches that are late", function()
    assert.equal("false timeout", gw:get("/late").body)
  end)

  it("reads a body as JSON, whole or in pieces", function()
    assert.equal("42", gw:post("/json", { body = '{"n":42}' }).body)
    assert.equal("no JSON", gw:post("/json", { body = '{"n":42' }).body)
  end)

  it("reads a form", function()
    assert.equal("Ada & Co", gw:post("/form", { body = "x=1&name=Ada+%26+Co" }).body)
  end)

  it("changes the body of a response", function()
    assert.equal("A /UPPER ", gw:get("/upper").body)
  end)

  it("is not waited with when the body that it reads does not come: on_error has its turn", function()
    local client = assert(require("socket").connect("127.0.0.1", gw:port()))
    client:settimeout(0)
    client:send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
    gw.core:turn(5)
    gw.core:turn(5)
    gw:advance(4)
    gw.core:turn(5)
    local answer, _, part = client:receive("*a")
    client:close()
    assert.matches("^HTTP/1.1 408 .*\r\nX%-Seen: body_timeout\r\n", answer or part)
  end)

  it("leaves nothing behind when its client goes away", function()
    for _ = 1, 50 do
      gw.core:raw("GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n", { wait = 0.001 })
    end
    assert.equal(200, gw:get("/all").status)
  end)
end)
