-- SPDX-License-Identifier: Apache-2.0
--- Policies that try to outlive their budget, in the real runtime: each costs its own request a 503
--- soon after its budget (100 ms, 64 MiB), and nobody else anything.
local hostile = require("spec.unit.lua.hostile")
local moongate = require("moongate.test")

local GRACE_S = 0.05

local names, routes = {}, {}
for name in pairs(hostile) do
  names[#names + 1] = name
end
table.sort(names)
for i, name in ipairs(names) do
  routes[i] = ("    { path = \"/%d\", backend = \"origin\", policies = { inbound = { function(ctx)\n%s\nend } } },")
    :format(i, hostile[name])
end

local config = ([[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { origin = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = {
%s
    { path = "/fine", backend = "origin", policies = { inbound = { function(ctx) ctx.vars.x = 1 end } } },
  } } },
}
]]):format(table.concat(routes, "\n"))

describe("a hostile policy", function()
  local gw

  setup(function()
    gw = moongate.gateway({
      files = { ["gateway.lua"] = config },
      backends = { origin = function()
        return 200, {}, "ok"
      end },
    })
  end)

  teardown(function()
    gw:close()
  end)

  for i, name in ipairs(names) do
    it(("(%s) costs its own request a 503, and the next one nothing"):format(name), function()
      local took = math.huge
      for _ = 1, 4 do -- a virtual machine that stands still counts as CPU time: the best counts
        local before = os.clock() -- of this process: others on the machine do not count
        assert.equal(503, gw:get("/" .. i).status)
        took = math.min(took, os.clock() - before)
        assert.equal("policy_budget", gw:last_log().error)
        assert.equal("gateway.lua", gw:last_log().where:match("^[^:]+"))
        if took <= 0.1 + GRACE_S then
          break
        end
      end
      assert.is_true(took <= 0.1 + GRACE_S, ("took %.0f ms"):format(took * 1000))
      assert.equal(200, gw:get("/fine").status)
    end)
  end
end)
