-- SPDX-License-Identifier: Apache-2.0
--- Changes the status of the response.
local expression = require("moongate.expression")

local M = {
  name = "set_status",
  summary = "Changes the status of the response.",
  sections = { "outbound", "on_error" },
  azure = "set-status",
  differences = "The reason phrase is always the standard one: HTTP/2 has none, and clients must "
    .. "not read it. To answer without a backend, use `return_response`.",
  example = "p.set_status { code = 202 }",
}

M.schema = {
  type = "object", required = { "code" }, additionalProperties = false,
  properties = {
    code = {
      oneOf = {
        { type = "integer", minimum = 200, maximum = 599 },
        { type = "function" },
      },
      description = "The status, or a function of `ctx` that gives it.",
    },
  },
}

function M.prepare(conf)
  return { code = conf.code }
end

local function act(self, ctx)
  ctx.response.status = expression.get(self.code, ctx)
end

M.outbound, M.on_error = act, act

return M
