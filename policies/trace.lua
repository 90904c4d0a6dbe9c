-- SPDX-License-Identifier: Apache-2.0
--- Writes a line about the request to the log.
local expression = require("moongate.expression")

local M = {
  name = "trace",
  summary = "Writes a line about the request to the error log.",
  description = "The line carries the request's id. `ctx:trace(message, fields, severity)` does "
    .. "the same from a function.",
  sections = { "inbound", "backend", "outbound", "on_error" },
  azure = "trace",
  differences = "Severities are those of the log's levels: `verbose` is `debug`.",
  example = [[p.trace { source = "orders", severity = "information", message = "order "
    .. "${ctx.request.params.id}",
  metadata = { user = "${ctx.user and ctx.user.id}" } }]],
}

M.schema = {
  type = "object", required = { "message" }, additionalProperties = false,
  order = { "message", "source", "severity", "metadata" },
  properties = {
    message = { type = { "string", "function" },
      description = "A text, with `${…}`, or a function of `ctx`." },
    source = { type = "string", maxLength = 100, description = "Where it comes from." },
    severity = { enum = { "verbose", "information", "error" }, default = "verbose",
      description = "How much it matters." },
    metadata = { type = "object",
      additionalProperties = { type = { "string", "function" },
        description = "A text, with `${…}`, or a function of `ctx`." },
      description = "Further fields." },
  },
}

function M.prepare(conf)
  local names, values = {}, {}
  for name in pairs(conf.metadata or {}) do
    names[#names + 1] = name
  end
  table.sort(names)
  for i, name in ipairs(names) do
    values[i] = expression.required(conf.metadata[name], "metadata." .. name)
  end
  return { message = expression.required(conf.message, "message"), source = conf.source,
    severity = conf.severity or "verbose", names = names, values = values }
end

local function act(self, ctx)
  local fields = { source = self.source }
  for i = 1, #self.names do
    local value = expression.get(self.values[i], ctx)
    fields[self.names[i]] = value == nil and "" or tostring(value)
  end
  ctx:trace(tostring(expression.get(self.message, ctx)), fields, self.severity)
end

M.inbound, M.backend, M.outbound, M.on_error = act, act, act, act

return M
