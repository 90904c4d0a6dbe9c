-- SPDX-License-Identifier: Apache-2.0
--- Changes the method of the request to the backend.
local expression = require("moongate.expression")

local M = {
  name = "set_method",
  summary = "Changes the method of the request to the backend.",
  sections = { "inbound", "backend" },
  azure = "set-method",
  example = 'p.set_method { value = "POST" }',
}

M.schema = {
  type = "object", required = { "value" }, additionalProperties = false,
  properties = {
    value = {
      oneOf = {
        { type = "string", pattern = "^[A-Z][A-Z-]*$", expected = "a method in capitals" },
        { type = "function" },
      },
      check = function(value)
        return value ~= "CONNECT", "a method that asks for no tunnel"
      end,
      description = "The method, in capitals, or a function of `ctx` that gives it.",
    },
  },
}

function M.prepare(conf)
  return { value = conf.value }
end

local function act(self, ctx)
  ctx.request.method = expression.get(self.value, ctx)
end

M.inbound, M.backend = act, act

return M
