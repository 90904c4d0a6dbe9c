-- SPDX-License-Identifier: Apache-2.0
--- Changes the status of the response.
local expression = require("moongate.expression")

local M = {
  name = "set_status",
  summary = "Changes the status of the response.",
  sections = { "outbound", "on_error", "backend" },
  azure = "set-status",
  differences = "Without `reason` the phrase is the standard one; HTTP/2 has none, and clients must not "
    .. "read it. Not in `inbound`, where there is no response: `return_response` makes one.",
  example = "p.set_status { code = 202 }",
}

M.schema = {
  type = "object", required = { "code" }, additionalProperties = false, order = { "code", "reason" },
  properties = {
    code = {
      oneOf = {
        { type = "integer", minimum = 200, maximum = 599 },
        { type = "function" },
      },
      description = "The status, or a function of `ctx` that gives it.",
    },
    reason = { type = { "string", "function" },
      description = "The reason phrase for clients of HTTP/1.1: a text, with `${…}`, or a function of "
        .. "`ctx`." },
  },
}

function M.prepare(conf)
  return { code = conf.code, reason = expression.required(conf.reason, "reason") }
end

local function act(self, ctx)
  local response = ctx.response
  if not response then
    error("there is no response yet: forward_request makes one", 0)
  end
  response.status = expression.get(self.code, ctx)
  if self.reason then
    response.reason = tostring(expression.get(self.reason, ctx) or "")
  end
end

M.backend, M.outbound, M.on_error = act, act, act

return M
