-- SPDX-License-Identifier: Apache-2.0
--- Runs the policies of the first condition that holds.
local blocks = require("moongate.blocks")
local expression = require("moongate.expression")

local M = {
  name = "when",
  summary = "Runs the policies of the first condition that holds.",
  description = "`p.when(condition, { … }, { … })`: the second list runs where the condition "
    .. "does not hold. `:elsewhen(condition, { … })` adds a further condition; each is asked "
    .. "only when those before it did not hold. A condition is a function of `ctx` or a Lua "
    .. "expression in a text. What the chosen policies do in later sections (the fields of a "
    .. "`rate_limit`, say) happens too, and what the others would do does not. A fourth "
    .. "argument holds `id` and `on_error`.",
  sections = { "inbound", "backend", "outbound", "on_error" },
  azure = "choose",
  differences = "The conditions are asked once: later sections keep to the choice.",
  example = [[p.when("ctx.product ~= nil",
  { p.rate_limit { calls = 1000, period = 60 } },
  { p.rate_limit { calls = 60, period = 60 } })]],
}

local CONDITION = { type = { "string", "function" },
  description = "A function of `ctx`, or a Lua expression." }

M.schema = {
  type = "object", required = { "branches" }, additionalProperties = false,
  order = { "branches" },
  properties = {
    branches = {
      type = "array", minItems = 1, maxItems = 64,
      description = "The conditions, made by `p.when` and `:elsewhen`.",
      items = { type = "object", required = { "condition" }, additionalProperties = false,
        properties = { condition = CONDITION } },
    },
  },
}

--- Takes the lists off: they are read by the configuration.
function M.split(conf)
  local own, lists = { branches = {} }, {}
  for i, branch in ipairs(conf.branches) do
    own.branches[i] = { condition = branch.condition }
    lists[i] = { at = i == 1 and ".policies" or (".elsewhen[%d]"):format(i - 1),
      list = branch.policies }
  end
  if conf.otherwise ~= nil then
    lists[#lists + 1] = { at = ".otherwise", list = conf.otherwise }
  end
  return own, lists
end

function M.prepare(conf, env)
  local conditions = {}
  for i, branch in ipairs(conf.branches) do
    local f, err = branch.condition
    if type(f) == "string" then
      f, err = expression.compile(f, "when")
    end
    if not f then
      error("the condition " .. err, 0)
    end
    conditions[i] = f
  end
  return { conditions = conditions, blocks = env.blocks, chosen = "when." .. env.id }
end

local function choose(self, ctx)
  for i = 1, #self.conditions do
    if self.conditions[i](ctx) then
      return i
    end
  end
  return #self.conditions + 1
end

local function acting(section)
  return function(self, ctx)
    local i = choose(self, ctx)
    ctx.vars[self.chosen] = i
    local block = self.blocks[i]
    local f = block and block[section]
    if f then
      return f(ctx)
    end
  end
end

blocks.act(M, acting)

--- A later section: the policies that were chosen go on.
function M.follow(self, ctx, section)
  local block = self.blocks[ctx.vars[self.chosen]]
  local f = block and block[section]
  if f then
    return f(ctx)
  end
end

return M
