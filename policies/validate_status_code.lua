-- SPDX-License-Identifier: Apache-2.0
--- Refuses answers whose status the API's definition does not have.
local validation = require("moongate.validation")

local M = {
  name = "validate_status_code",
  summary = "Refuses answers whose status the API's definition does not have.",
  sections = { "outbound", "on_error" },
  azure = "validate-status-code",
  statuses = { ["502"] = "`StatusCodeInvalid`" },
  example = 'p.validate_status_code { action = "detect", overrides = { ["404"] = "ignore" } }',
}

M.schema = {
  type = "object", additionalProperties = false, order = { "action", "overrides",
    "errors_variable" },
  properties = {
    action = { enum = validation.ACTIONS, default = "prevent",
      description = "What follows from another status: the answer is refused, it is told, or "
        .. "nothing." },
    overrides = { type = "object", propertyNames = "^%d%d%d$", nameExpected = 'a status: "404"',
      description = "Other actions for some, by status as text.",
      additionalProperties = { enum = validation.ACTIONS,
        description = "Action for this status." } },
    errors_variable = { type = "string", minLength = 1, default = "validate_status_code.errors",
      description = "Name in `ctx.vars` that gets the mistakes." },
  },
}

function M.prepare(conf, env)
  return {
    action = conf.action or "prevent", overrides = conf.overrides or {},
    options = { status = 502, reason = "StatusCodeInvalid", policy = "validate_status_code",
      message = "the answer of the backend is not valid",
      variable = conf.errors_variable or "validate_status_code.errors" },
    operations = validation.by_operation(env, function(_, operation)
      return operation.responses
    end),
  }
end

local function answer(self, ctx)
  local responses = validation.find(self.operations, ctx)
  local status = ctx.response.status
  local text = tostring(status)
  if not responses or responses[text] or responses[math.floor(status / 100) .. "XX"]
    or responses.default
  then
    return
  end
  local action = self.overrides[text] or self.action
  if action ~= "ignore" then
    return validation.conclude(ctx, self.options, { { name = text, type = "status", rule = "status",
      details = "is not in the definition", action = action } })
  end
end

M.outbound, M.on_error = answer, answer

return M
