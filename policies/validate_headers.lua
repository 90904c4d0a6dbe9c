-- SPDX-License-Identifier: Apache-2.0
--- Checks the response's header fields against the API's definition.
local parameters = require("moongate.openapi.parameters")
local validation = require("moongate.validation")

local M = {
  name = "validate_headers",
  summary = "Checks the response's header fields against the API's definition.",
  sections = { "outbound", "on_error" },
  azure = "validate-headers",
  differences = "Fields that every answer may have (`Date`, `Server`, `Content-*`, `Cache-Control` and "
    .. "the like) are never unspecified.",
  statuses = { ["502"] = "`HeadersInvalid`" },
  example = 'p.validate_headers { action = "detect" }',
}

M.schema = {
  type = "object", additionalProperties = false, order = { "action",
    "unspecified_action", "overrides", "formats", "errors_variable" },
  properties = {
    action = { enum = validation.ACTIONS, default = "prevent",
      description = "What follows from a field that does not fit: the answer is refused, it is told, "
        .. "or nothing." },
    unspecified_action = { enum = validation.ACTIONS, default = "ignore",
      description = "The same, for fields that the definition does not have for the status." },
    overrides = { type = "object", description = "Other actions for some fields, by name.",
      additionalProperties = { enum = validation.ACTIONS,
        description = "Action for this field." } },
    formats = validation.FORMATS,
    errors_variable = { type = "string", minLength = 1, default = "validate_headers.errors",
      description = "Name in `ctx.vars` that gets the mistakes." },
  },
}

-- What belongs to the message and the way it took, not to the operation.
local COMMON = {}
for name in
  ([[accept-ranges age alt-svc allow cache-control cache-status connection content-disposition
  content-encoding content-language content-length content-location content-range content-type date etag
  expires keep-alive last-modified link location pragma retry-after server server-timing set-cookie
  strict-transport-security trailer transfer-encoding vary via warning www-authenticate]])
    :gmatch("%S+")
do
  COMMON[name] = true
end

function M.prepare(conf, env)
  local overrides = {}
  for name, value in pairs(conf.overrides or {}) do
    overrides[name:lower()] = value
  end
  return {
    unspecified = conf.unspecified_action or "ignore", overrides = overrides,
    options = { status = 502, reason = "HeadersInvalid", policy = "validate_headers",
      message = "the answer of the backend is not valid",
      variable = conf.errors_variable or "validate_headers.errors" },
    operations = validation.by_operation(env, function(definition, operation)
      local out = {}
      for status, response in pairs(operation.responses) do
        local list = { known = response.headers }
        for lower, one in pairs(response.headers) do
          local action = overrides[lower] or conf.action or "prevent"
          if action ~= "ignore" and lower ~= "content-type" then
            list[#list + 1] = { name = one.name, place = "header", parameter = one, action = action,
              required = one.required,
              validator = validation.validator(definition, one.schema, "response", conf.formats) }
          end
        end
        out[status] = list
      end
      return out
    end),
  }
end

--- Fields that the definition does not have.
local function add_unspecified(self, ctx, known, mistakes)
  for _, name in ipairs(ctx.response:header_names()) do
    local lower = name:lower()
    local action = self.overrides[lower] or self.unspecified
    if action ~= "ignore" and not known[lower] and not COMMON[lower] then
      mistakes[#mistakes + 1] = { name = name, type = "header", rule = "unspecified",
        details = "is not in the definition", action = action }
    end
  end
end

local function answer(self, ctx)
  local responses = validation.find(self.operations, ctx)
  local status = ctx.response.status
  local list = responses and (responses[tostring(status)]
    or responses[math.floor(status / 100) .. "XX"] or responses.default)
  if not list then
    return
  end
  local mistakes = {}
  for _, one in ipairs(list) do
    local text = ctx.response.headers[one.name]
    if not text then
      if one.required then
        mistakes[#mistakes + 1] = { name = one.name, type = "header", rule = "required",
          details = "is missing", action = one.action }
      end
    elseif one.validator then
      local value, rule = parameters.from_text(one.parameter, text)
      local ok, errors = false, { { path = "", keyword = rule, message = validation.NOT_SO } }
      if value then
        ok, errors = one.validator:validate(value)
      end
      if not ok then
        validation.add(mistakes, one.name, "header", errors, one.action)
      end
    end
  end
  if self.unspecified ~= "ignore" then
    add_unspecified(self, ctx, list.known, mistakes)
  end
  if #mistakes > 0 then
    return validation.conclude(ctx, self.options, mistakes)
  end
end

M.outbound, M.on_error = answer, answer

return M
