-- SPDX-License-Identifier: Apache-2.0
--- `ctx` objects are pooled: what one request leaves in them, the next one never finds.
local moongate = require("moongate.test")

local CONFIG = [==[
local reply = require("moongate.reply")
local kept
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/leave", reply = { status = 200 }, policies = { inbound = { function(ctx)
      ctx.vars.secret, ctx.jwt, ctx.user = "s", { sub = "alice" }, { name = "alice" }
      kept = { ctx = ctx, request = ctx.request, headers = ctx.request.headers, vars = ctx.vars }
      return reply.text(200, ctx.vars.secret .. ctx.jwt.sub .. ctx.user.name)
    end } } },
    { path = "/look", reply = { status = 200 }, policies = { inbound = { function(ctx)
      local is_same_table = kept ~= nil and kept.vars == ctx.vars
      return reply.text(200, ("%s %s %s %s"):format(tostring(ctx.vars.secret), tostring(ctx.jwt),
        tostring(ctx.user), tostring(is_same_table)))
    end } } },
    { path = "/unset", reply = { status = 200 }, policies = { inbound = { function(ctx)
      ctx.jwt = { sub = "bob" }
      local before = ctx.jwt.sub
      ctx.jwt = nil
      return reply.text(200, before .. " " .. tostring(ctx.jwt))
    end } } },
    { path = "/overwrite", reply = { status = 200 }, policies = { inbound = { function(ctx)
      local tries = {
        function() ctx.request = nil end,
        function() ctx.vars = nil end,
        function() ctx.sleep = nil end,
        function() ctx.request.headers = {} end,
        function() ctx.request.body = nil end,
        function() getmetatable(ctx).__index = nil end,
        function() rawset(ctx, "request", nil) end,
      }
      local refused = 0
      for i = 1, #tries do
        refused = refused + (pcall(tries[i]) and 0 or 1)
      end
      return reply.text(200, refused .. " of " .. #tries .. " " .. ctx.request.path)
    end } } },
    { path = "/query", reply = { status = 200 }, policies = { inbound = { function(ctx)
      local query = ctx.request.query
      local before = ("%s %s %s"):format(tostring(query.a), tostring(query["b c"]), tostring(query.gone))
      query.a, query["b c"], query.gone, query[""], query["x&y"] = nil, nil, nil, nil, nil
      return reply.text(200, before .. " " .. tostring(ctx.request.query_string))
    end } } },
    { path = "/query-turns", reply = { status = 200 }, policies = { inbound = { function(ctx)
      local query, seen = ctx.request.query, {}
      query.a = nil
      seen[1] = query.b
      query.b = "two"
      seen[2] = query.b
      query.c = { "x", "y" }
      query.b = nil
      seen[3] = tostring(query.b)
      ctx.request.query_string = "b=last&a=again"
      seen[4] = query.b .. query.a
      return reply.text(200, table.concat(seen, " ") .. " " .. ctx.request.query_string)
    end } } },
    { path = "/unknown", reply = { status = 200 }, policies = { inbound = { function(ctx)
      return reply.text(200, ("%s %s %s %s"):format(tostring(ctx.response), tostring(ctx.api),
        tostring(ctx.request.tls), type(ctx.sleep)))
    end } } },
  } } },
}]==]

describe("ctx", function()
  local gw

  before_each(function()
    gw = moongate.gateway({ files = { ["gateway.lua"] = CONFIG } })
  end)

  after_each(function()
    gw:close()
  end)

  it("forgets a request's values when it ends", function()
    for _ = 1, 3 do
      assert.equal("salicealice", gw:get("/leave").body)
      assert.equal("nil nil nil false", gw:get("/look").body)
    end
  end)

  it("takes back what was set", function()
    assert.equal("bob nil", gw:get("/unset").body)
  end)

  it("keeps its parts and methods, whatever a policy tries", function()
    for _ = 1, 2 do
      assert.equal("7 of 7 /overwrite", gw:get("/overwrite").body)
    end
  end)

  it("reads the query as it is after each change", function()
    assert.equal("1 two nil lastagain b=last&a=again", gw:get("/query-turns?a=0&b=1&k=2").body)
  end)

  it("takes parameters out of the query, however they are written, and leaves the others", function()
    for query, wanted in pairs({
      ["a=1&ab=2&xa=3"] = "1 nil nil ab=2&xa=3",
      ["ab=2&a=1&a=&a"] = "1 nil nil ab=2",
      ["%61=1&keep=%61"] = "1 nil nil keep=%61",
      ["b+c=1&b%20c=2&keep=b+c"] = "nil 1 nil keep=b+c",
      ["keep=&b=1&c"] = "nil nil nil keep=&b=1&c",
      ["x&y=1&z"] = "nil nil nil x&y=1&z",
      ["a"] = " nil nil ",
      ["a=1"] = "1 nil nil ",
      ["=1&k=2"] = "nil nil nil k=2",
    }) do
      assert.equal(wanted, gw:get("/query?" .. query).body, query)
    end
  end)

  it("has nil for what is not there", function()
    assert.equal("nil nil nil function", gw:get("/unknown").body)
  end)
end)
