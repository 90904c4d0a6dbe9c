-- SPDX-License-Identifier: Apache-2.0
--- Leaves a value for the policies that follow.
local expression = require("moongate.expression")

local M = {
  name = "set_variable",
  summary = "Leaves a value for the policies that follow, in `ctx.vars`.",
  sections = { "inbound", "backend", "outbound", "on_error" },
  azure = "set-variable",
  differences = "In a function, `ctx.vars.name = value` does the same.",
  example = 'p.set_variable { name = "tenant", value = "${ctx.request.headers[\'X-Tenant\']}" }',
}

M.schema = {
  type = "object", required = { "name", "value" }, additionalProperties = false,
  order = { "name", "value" },
  properties = {
    name = { type = "string", minLength = 1, description = "Name in `ctx.vars`." },
    value = {
      type = { "string", "number", "boolean", "function" },
      description = "The value; a text that is one `${…}` alone keeps the type of its result.",
    },
  },
}

function M.prepare(conf)
  return { name = conf.name, value = expression.required(conf.value, "value") }
end

local function act(self, ctx)
  ctx.vars[self.name] = expression.get(self.value, ctx)
end

M.inbound, M.backend, M.outbound, M.on_error = act, act, act, act

return M
