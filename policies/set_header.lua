-- SPDX-License-Identifier: Apache-2.0
--- Sets, appends or removes a header field of the request or the response.
local expression = require("moongate.expression")
local header_fields = require("moongate.header_fields")

local has_setters, setters = pcall(require, "moongate.header")
local get, type, concat = expression.get, type, table.concat

local M = {
  name = "set_header",
  summary = "Sets, appends or removes a header field.",
  description = "In `inbound` and `backend` it acts on the request that goes to the backend, in "
    .. "`outbound` and `on_error` on the response that goes to the client. Several values become "
    .. "one field with commas, or a field line each where the standard wants that (`Set-Cookie`, "
    .. "`WWW-Authenticate`, …).",
  sections = { "inbound", "backend", "outbound", "on_error" },
  azure = "set-header",
  differences = "`Server` can be removed. Fields that belong to a connection (`Connection`, "
    .. "`Content-Length`, `Transfer-Encoding`, …) are refused when the configuration is loaded.",
  example = 'p.set_header { name = "X-Client", value = "${ctx.request.client_ip}" }',
}

local own_line = {}
for name in
  ([[cookie date expires if-modified-since if-unmodified-since last-modified proxy-authenticate
     set-cookie user-agent warning www-authenticate]]):gmatch("%S+")
do
  own_line[name] = true
end

local value = {
  type = { "string", "number", "boolean", "function" },
  description = "A text, with `${…}` where it depends on the request, or a function of `ctx`.",
}

-- Texts that a header field can hold: they may come from a named value's file.
local function is_field_value(given)
  for _, one in ipairs(type(given) == "table" and given or { given }) do
    if type(one) == "string" and not header_fields.is_value(one) then
      return false, "texts without line ends and control characters"
    end
  end
  return true
end

M.schema = {
  type = "object", required = { "name" }, additionalProperties = false,
  order = { "name", "value", "exists_action" },
  properties = {
    name = {
      type = "string", pattern = "^[%w!#$%%&'*+.^_`|~-]+$", description = "Name of the field.",
      expected = "a header field that a policy may set",
      check = function(name)
        return not header_fields.of_connection[name:lower()],
          "a field that does not belong to the connection itself"
      end,
    },
    value = {
      oneOf = { value, { type = "array", items = value, minItems = 1 } }, check = is_field_value,
      description = "A text, with `${…}` where it depends on the request, a function of `ctx`, or "
        .. "a list of these. Left out with `delete` only; nil at run time removes the field.",
    },
    exists_action = {
      enum = { "override", "skip", "append", "delete" }, default = "override",
      description = "`override` replaces, `skip` leaves a field that is there, `append` adds to it, "
        .. "`delete` removes it.",
    },
  },
}

--- What the runtime does of it without Lua.
local function acts_of(conf, action, given)
  local program = action ~= "delete" and expression.program(given) or nil
  if not has_setters or action ~= "delete" and not program then
    return nil
  end
  local of_request = setters.setter(conf.name, action, program, false)
  local of_response = setters.setter(conf.name, action, program, true)
  return {
    inbound = of_request, backend = of_request, outbound = of_response, on_error = of_response,
  }
end

function M.prepare(conf)
  local action = conf.exists_action or "override"
  if action ~= "delete" and conf.value == nil then
    error('value is missing; only exists_action = "delete" goes without', 0)
  end
  local self = { name = conf.name, action = action }
  if type(conf.value) == "table" then
    self.values = {}
    for i, item in ipairs(conf.value) do
      self.values[i] = expression.required(item, "value")
    end
    self.has_own_lines = own_line[conf.name:lower()] or false
  else
    local one = conf.value
    if type(one) == "number" or type(one) == "boolean" then
      one = tostring(one)
    end
    self.value = expression.required(one, "value")
    self.native = acts_of(conf, action, one)
  end
  return self
end

local function text(prepared, ctx)
  local v = get(prepared, ctx)
  if v == nil or type(v) == "string" then
    return v
  end
  return tostring(v)
end

local function evaluate(self, ctx)
  if not self.values then
    return text(self.value, ctx)
  end
  local out = {}
  for i = 1, #self.values do
    out[#out + 1] = text(self.values[i], ctx)
  end
  return self.has_own_lines and out or concat(out, ", ")
end

local function apply(self, ctx, message)
  local headers, name, action = message.headers, self.name, self.action
  if action == "override" then
    headers[name] = evaluate(self, ctx)
  elseif action == "delete" then
    headers[name] = nil
  elseif action == "skip" then
    if headers[name] == nil then
      headers[name] = evaluate(self, ctx)
    end
  else
    local v = evaluate(self, ctx)
    if type(v) == "table" then
      for i = 1, #v do
        message:add_header(name, v[i])
      end
    elseif v then
      message:add_header(name, v)
    end
  end
end

function M.inbound(self, ctx)
  apply(self, ctx, ctx.request)
end

M.backend = M.inbound

function M.outbound(self, ctx)
  apply(self, ctx, ctx.response)
end

M.on_error = M.outbound

return M
