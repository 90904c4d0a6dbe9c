-- SPDX-License-Identifier: Apache-2.0
--- Sets, appends or removes a query parameter of the request to the backend.
local expression = require("moongate.expression")

local get, type, tostring = expression.get, type, tostring

local M = {
  name = "set_query_parameter",
  summary = "Sets, appends or removes a query parameter of the request to the backend.",
  sections = { "inbound", "backend" },
  azure = "set-query-parameter",
  differences = "Values are percent-encoded as they need.",
  example = 'p.set_query_parameter { name = "api-version", value = "2" }',
}

local value = {
  type = { "string", "number", "boolean", "function" },
  description = "A text, with `${…}` where it depends on the request, or a function of `ctx`.",
}

M.schema = {
  type = "object", required = { "name" }, additionalProperties = false,
  order = { "name", "value", "exists_action" },
  properties = {
    name = { type = "string", minLength = 1, description = "Name of the parameter, decoded." },
    value = {
      oneOf = { value, { type = "array", items = value, minItems = 1 } },
      description = "A text, with `${…}` where it depends on the request, a function of `ctx`, or "
        .. "a list of these. Left out with `delete` only.",
    },
    exists_action = {
      enum = { "override", "skip", "append", "delete" }, default = "override",
      description = "`override` replaces, `skip` leaves a parameter that is there, `append` adds "
        .. "one, `delete` removes it.",
    },
  },
}

function M.prepare(conf)
  local action = conf.exists_action or "override"
  if action ~= "delete" and conf.value == nil then
    error('value is missing; only exists_action = "delete" goes without', 0)
  end
  local values = type(conf.value) == "table" and conf.value or { conf.value }
  local self = { name = conf.name, action = action, values = {} }
  for i, item in ipairs(values) do
    self.values[i] = expression.required(item, "value")
  end
  return self
end

local function act(self, ctx)
  local request, name, action = ctx.request, self.name, self.action
  if action == "delete" then
    request.query[name] = nil
    return
  elseif action == "skip" and request.query[name] ~= nil then
    return
  elseif action ~= "append" then
    request.query[name] = nil
  end
  for i = 1, #self.values do
    local v = get(self.values[i], ctx)
    if v ~= nil then
      request:add_query(name, type(v) == "string" and v or tostring(v))
    end
  end
end

M.inbound, M.backend = act, act

return M
