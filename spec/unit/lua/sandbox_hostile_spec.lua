-- SPDX-License-Identifier: Apache-2.0
--- Every hostile script costs at most its budget and 50 ms more.

local fuel = require("moongate.fuel")
local hostile = require("spec.unit.lua.hostile")
local sandbox = require("moongate.sandbox")

local BUDGET_S, GRACE_S, MEMORY = 0.1, 0.05, 64 * 1024 * 1024

local names = {}
for name in pairs(hostile) do
  names[#names + 1] = name
end
table.sort(names)

describe("the policy budget stops", function()
  local restore
  before_each(function()
    restore = sandbox.install()
    collectgarbage()
  end)
  after_each(function()
    restore()
    fuel.finish()
    collectgarbage()
  end)

  for _, name in ipairs(names) do
    it(name, function()
      local took = math.huge
      for _ = 1, 4 do -- a virtual machine that stands still counts as CPU time: the best counts
        local chunk = assert(sandbox.load(hostile[name], "=hostile"))
        collectgarbage()
        fuel.begin(BUDGET_S, MEMORY)
        local started = os.clock()
        local ok = pcall(chunk)
        took = math.min(took, os.clock() - started)
        local is_spent = fuel.is_spent()
        fuel.finish()
        assert.is_false(ok)
        assert.is_true(is_spent, "ended by an error of its own, not by the budget")
        if took <= BUDGET_S + GRACE_S then
          break
        end
      end
      assert.is_true(took <= BUDGET_S + GRACE_S, ("took %.0f ms"):format(took * 1000))
    end)
  end
end)

describe("a spent budget", function()
  it("stays spent, whatever the code catches", function()
    fuel.begin(0.01)
    local chunk = assert(sandbox.load("while true do end", "=spin"))
    assert.is_false(pcall(chunk))
    local after = assert(sandbox.load("local ok = pcall(function() end) return ok", "=after"))
    fuel.cell.left = 0
    assert.is_false(pcall(after))
    assert.is_true(fuel.is_spent())
    fuel.finish()
    assert.is_true(after())
  end)
end)
