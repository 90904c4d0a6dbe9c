-- SPDX-License-Identifier: Apache-2.0
--- Checks path, query, header and cookie parameters against the API's definition.
local parameters = require("moongate.openapi.parameters")
local validation = require("moongate.validation")

local M = {
  name = "validate_parameters",
  summary = "Checks path, query, header and cookie parameters against the API's definition.",
  description = "Values are read as the definition's `style` and `explode` say, and judged by their "
    .. "schemas: a comma divides a list, `%2C` is part of a value. What is wrong stands in "
    .. "the log and in a variable; the client is told only that it is.",
  sections = { "inbound" },
  azure = "validate-parameters",
  differences = "Cookies too. Header fields that the definition does not have are let pass unless "
    .. "`unspecified_header_action` says otherwise: every client sends some.",
  statuses = { ["400"] = "`ParametersInvalid`" },
  example = 'p.validate_parameters { unspecified_action = "detect" }',
}

local function action(description, default)
  return { enum = validation.ACTIONS, default = default, description = description }
end

M.schema = {
  type = "object", additionalProperties = false,
  order = { "specified_action", "specified_path_action", "specified_query_action",
    "specified_header_action", "unspecified_action", "unspecified_header_action", "overrides",
    "formats", "errors_variable" },
  properties = {
    specified_action = action("What follows from a parameter that does not fit: the request is "
      .. "refused, it is told, or nothing.", "prevent"),
    specified_path_action = action("The same, for parameters of the path alone."),
    specified_query_action = action("The same, for query parameters alone."),
    specified_header_action = action("The same, for header fields alone."),
    unspecified_action = action("The same, for query parameters that the definition does not have.",
      "ignore"),
    unspecified_header_action = action("The same, for header fields that it does not have, and "
      .. "that are not HTTP's own (`Host`, `User-Agent`, `Accept-*`, `Content-*`, `Cookie` and the "
      .. "like).",
      "ignore"),
    overrides = { type = "object", description = "Other actions for some parameters, by name.",
      additionalProperties = action("Action for this parameter.") },
    formats = validation.FORMATS,
    errors_variable = { type = "string", minLength = 1, default = "validate_parameters.errors",
      description = "Name in `ctx.vars` that gets the mistakes." },
  },
}

-- Header fields that the definition must not describe (OpenAPI 3, Parameter Object).
local NOT_PARAMETERS = { accept = true, ["content-type"] = true, authorization = true }

-- What a request may have whatever it asks for.
local COMMON = {}
for name in
  ([[a-im authorization cache-control connection cookie date dnt expect forwarded from host
  idempotency-key if-match if-modified-since if-none-match if-range if-unmodified-since keep-alive
  max-forwards ocp-apim-subscription-key origin pragma prefer priority proxy-authorization range
  referer te trailer transfer-encoding traceparent tracestate upgrade upgrade-insecure-requests
  user-agent via]])
    :gmatch("%S+")
do
  COMMON[name] = true
end
local COMMON_STARTS = { "accept", "content-", "sec-", "access-control-", "x-forwarded-" }

local function is_common(lower)
  if COMMON[lower] then
    return true
  end
  for _, start in ipairs(COMMON_STARTS) do
    if lower:sub(1, #start) == start then
      return true
    end
  end
  return false
end

function M.prepare(conf, env)
  local overrides = conf.overrides or {}
  local specified = conf.specified_action or "prevent"
  local by_place = { path = conf.specified_path_action, query = conf.specified_query_action,
    header = conf.specified_header_action }
  local by_header = {}
  for name, own in pairs(overrides) do
    by_header[name:lower()] = own
  end
  return {
    by_header = by_header, specified = by_place.query or specified,
    unspecified = conf.unspecified_action or "ignore",
    unspecified_header = conf.unspecified_header_action or "ignore",
    overrides = overrides,
    options = { status = 400, reason = "ParametersInvalid", policy = "validate_parameters",
      message = "a parameter of the request is not valid",
      variable = conf.errors_variable or "validate_parameters.errors" },
    operations = validation.by_operation(env, function(definition, operation)
      local list, known = {}, { query = {}, header = {} }
      for _, one in ipairs(operation.parameters) do
        if one.place == "query" or one.place == "header" then
          known[one.place][one.place == "header" and one.name:lower() or one.name] = true
        end
        local skip = one.place == "body" or one.place == "formData"
          or one.place == "header" and NOT_PARAMETERS[one.name:lower()]
        if not skip then
          list[#list + 1] = { parameter = one, name = one.name, place = one.place,
            param = one.name:gsub("[^%w_-]", "_"), required = one.required,
            action = overrides[one.name] or by_place[one.place] or specified,
            validator = validation.validator(definition, one.schema, "request", conf.formats) }
        end
      end
      return { list = list, known = known }
    end),
  }
end

local function value_of(one, ctx, values, names, used, known)
  local parameter, request = one.parameter, ctx.request
  if one.place == "query" then
    return parameters.from_query(parameter, values, names, used, known)
  end
  local text
  if one.place == "path" then
    text = request:raw_param(one.param)
    return text and parameters.from_text(parameter, text, parameters.decode)
  elseif one.place == "header" then
    text = request.headers[one.name]
  else
    text = request.cookies[one.name]
  end
  if text then
    return parameters.from_text(parameter, text)
  end
  return nil
end

local function add(mistakes, one, rule, details)
  mistakes[#mistakes + 1] = { name = one.name, type = one.place, rule = rule, details = details,
    action = one.action }
end

local function judge(mistakes, one, value)
  local ok, errors = one.validator:validate(value)
  if not ok then
    validation.add(mistakes, one.name, one.place, errors, one.action)
  end
end

--- Header fields that the definition does not have.
local function add_unspecified(self, ctx, known, mistakes)
  for _, name in ipairs(ctx.request:header_names()) do
    local lower = name:lower()
    local own = self.by_header[lower] or self.unspecified_header
    if own ~= "ignore" and not known[lower] and not is_common(lower) then
      add(mistakes, { name = name, place = "header", action = own }, "unspecified",
        "is not in the definition")
    end
  end
end

function M.inbound(self, ctx)
  local operation = validation.find(self.operations, ctx)
  if not operation then
    return
  end
  local mistakes, used = {}, {}
  local values, names, is_cut = parameters.query(ctx.request.query_string)
  for _, one in ipairs(operation.list) do
    if one.action ~= "ignore" then
      local value, more = value_of(one, ctx, values, names, used, operation.known.query)
      if value == nil then
        if more then
          add(mistakes, one, more, validation.NOT_SO)
        elseif one.required then
          add(mistakes, one, "required", "is missing")
        end
      elseif value and one.validator then
        judge(mistakes, one, value)
        for i = 1, more and #more or 0 do
          judge(mistakes, one, more[i])
        end
      end
    end
  end
  if is_cut and self.specified ~= "ignore" then
    local query = { name = "query", place = "query", action = self.specified }
    add(mistakes, query, "count", "has too many parameters")
  end
  if self.unspecified ~= "ignore" then
    for _, name in ipairs(names) do
      local own = self.overrides[name] or self.unspecified
      if not used[name] and not operation.known.query[name] and own ~= "ignore" then
        add(mistakes, { name = name, place = "query", action = own }, "unspecified",
          "is not in the definition")
      end
    end
  end
  if self.unspecified_header ~= "ignore" then
    add_unspecified(self, ctx, operation.known.header, mistakes)
  end
  if #mistakes > 0 then
    return validation.conclude(ctx, self.options, mistakes)
  end
end

return M
