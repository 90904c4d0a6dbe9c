-- SPDX-License-Identifier: Apache-2.0
-- next and pairs are the runtime's own (runtime/script/script_libraries.c), as LuaJIT's are compiled wrongly.
local moongate = require("moongate.test")

local config = [[
local reply = require("moongate.reply")
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/*", reply = { status = 404 }, policies = { inbound = { function(ctx)
      local t, sum = {}, 0
      for i = 1, 50 do
        t["k" .. i] = { i, "x" }
      end
      for _ = 1, 200 do
        for _, value in pairs(t) do
          sum = sum + value[1]
        end
      end
      return reply.text(200, tostring(sum))
    end } } },
  } } },
}
]]

describe("next and pairs", function()
  it("are not LuaJIT's, which it compiles into traces that go on with half a pointer", function()
    assert.is_nil(tostring(next):find("builtin", 1, true))
    assert.is_nil(tostring(pairs):find("builtin", 1, true))
    assert.equal(next, (pairs({})))
  end)

  it("go through arrays and fields, once each, also where fields are removed on the way", function()
    local t, seen, sum = { 1, 2, 3, a = 4, b = 5 }, {}, 0
    for key, value in pairs(t) do
      assert.is_nil(seen[key])
      seen[key], sum = true, sum + value
      t[key] = nil
    end
    assert.equal(15, sum)
    assert.is_nil((next(t)))
    assert.same({ 1, "a" }, { next({ "a" }) })
    assert.is_nil((next({ "a" }, 1)))
  end)

  it("say what they cannot go through", function()
    assert.error_matches(function() return pairs(nil) end, "table expected, got nil")
    assert.error_matches(function() return next(1) end, "table expected, got number")
    assert.error_matches(function() return next({}, "none") end, "invalid key to 'next'")
  end)

  it("are those of policies, too, in loops that are compiled", function()
    local gw = moongate.gateway({ files = { ["gateway.lua"] = config } })
    assert.equal("255000", gw:get("/").body)
    gw:close()
  end)
end)
