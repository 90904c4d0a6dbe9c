-- SPDX-License-Identifier: Apache-2.0
--- Refuses requests without a header field, or with a value that is not listed.
local reply = require("moongate.reply")

local M = {
  name = "check_header",
  summary = "Refuses requests without a header field, or with a value that is not listed.",
  sections = { "inbound" },
  azure = "check-header",
  differences = "Shorter names, and defaults: 401 and a text that does not tell the values.",
  statuses = { ["401"] = "`HeaderNotFound`, `HeaderValueNotAllowed`; `status` changes it" },
  example = 'p.check_header { name = "X-Tenant", values = { "blue", "green" } }',
}

M.schema = {
  type = "object", required = { "name" }, additionalProperties = false,
  order = { "name", "values", "ignore_case", "status", "message" },
  properties = {
    name = { type = "string", minLength = 1, description = "Name of the field." },
    values = {
      type = "array", items = { type = "string", description = "A value." },
      description = "Values that are let in; without them the field only has to be there.",
    },
    ignore_case = { type = "boolean", default = false, description = "Whether case is ignored." },
    status = { type = "integer", minimum = 400, maximum = 599, default = 401,
      description = "Status of a refusal." },
    message = { type = "string", description = "What the client is told." },
  },
}

function M.prepare(conf)
  local self = { name = conf.name, status = conf.status or 401, message = conf.message,
    ignores_case = conf.ignore_case or false }
  if conf.values and #conf.values > 0 then
    self.allowed = {}
    for _, value in ipairs(conf.values) do
      self.allowed[self.ignores_case and value:lower() or value] = true
    end
  end
  return self
end

function M.inbound(self, ctx)
  local value = ctx.request.headers[self.name]
  if value == nil then
    return reply.refuse(self.status, "HeaderNotFound", self.message
      or ("header field %s is missing"):format(self.name))
  end
  if self.allowed and not self.allowed[self.ignores_case and value:lower() or value] then
    return reply.refuse(self.status, "HeaderValueNotAllowed", self.message
      or ("header field %s has a value that is not allowed"):format(self.name))
  end
end

return M
