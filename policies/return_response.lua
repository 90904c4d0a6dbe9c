-- SPDX-License-Identifier: Apache-2.0
--- Ends the pipeline with an answer of its own.
local expression = require("moongate.expression")
local reply = require("moongate.reply")

local get, type = expression.get, type

local M = {
  name = "return_response",
  summary = "Ends the pipeline now, with an answer of its own.",
  sections = { "inbound", "backend", "outbound", "on_error" },
  azure = "return-response",
  differences = "A body, a status and header fields are options of the policy itself; texts may hold "
    .. "`${…}`.",
  statuses = { ["200"] = "unless `status` says otherwise" },
  example = 'p.return_response { status = 503, headers = { ["Retry-After"] = "120" } }',
}

M.schema = {
  type = "object", additionalProperties = false, order = { "status", "headers", "body", "json" },
  properties = {
    status = {
      oneOf = { { type = "integer", minimum = 200, maximum = 599 }, { type = "function" } },
      default = 200, description = "The status, or a function of `ctx` that gives it.",
    },
    headers = {
      type = "object", description = "Header fields.",
      additionalProperties = {
        type = { "string", "number", "function" },
        description = "A text, with `${…}`, or a function of `ctx`.",
      },
    },
    body = {
      type = { "string", "function" },
      description = "The body: a text, with `${…}`, or a function of `ctx`.",
    },
    json = {
      type = { "object", "array", "function" },
      description = "A table to send as JSON, or a function of `ctx` that gives it.",
    },
  },
}

function M.prepare(conf)
  if conf.body ~= nil and conf.json ~= nil then
    error("either body or json, not both", 0)
  end
  local self = { status = conf.status or 200, headers = {}, has_json = conf.json ~= nil }
  for name, value in pairs(conf.headers or {}) do
    self.headers[#self.headers + 1] = {
      name = name,
      value = expression.required(type(value) == "number" and tostring(value) or value, name),
    }
  end
  if type(conf.json) == "table" then
    self.body = reply.json(200, conf.json).body
  elseif conf.json then
    self.make_json = conf.json
  else
    self.body = expression.required(conf.body, "body")
  end
  return self
end

local function act(self, ctx)
  local headers = {}
  for i = 1, #self.headers do
    local item = self.headers[i]
    headers[item.name] = get(item.value, ctx)
  end
  local status = get(self.status, ctx)
  if self.make_json then
    return reply.json(status, self.make_json(ctx), headers)
  elseif self.has_json then
    headers["Content-Type"] = headers["Content-Type"] or "application/json"
  end
  return reply.text(status, get(self.body, ctx), headers)
end

M.inbound, M.backend, M.outbound, M.on_error = act, act, act, act

return M
