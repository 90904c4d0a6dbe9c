-- SPDX-License-Identifier: Apache-2.0
--- Counts something for `/metrics`.
local expression = require("moongate.expression")
local metrics = require("moongate.metrics")

local M = {
  name = "emit_metric",
  summary = "Adds to a counter of `/metrics`.",
  description = "Labels are bounded: past `max_series` combinations of their values the further "
    .. "ones are counted with `other` in each label. What fails here never fails the request.",
  sections = { "inbound", "backend", "outbound", "on_error" },
  azure = "emit-metric",
  differences = "A Prometheus counter of this gateway instead of telemetry elsewhere.",
  example = [[p.emit_metric { name = "orders_total", labels = { region = "${ctx.geo and "
    .. "ctx.geo.country}" } }]],
}

M.schema = {
  type = "object", required = { "name" }, additionalProperties = false,
  order = { "name", "value", "labels", "max_series" },
  properties = {
    name = { type = "string", pattern = "^[%a_:][%w_:]*$", maxLength = 95,
      description = "Name of the metric; `moongate_…` are the gateway's own." },
    value = { oneOf = { { type = "number", minimum = 0 }, { type = "function" } }, default = 1,
      description = "What is added: a number, or a function of `ctx`." },
    labels = { type = "object", propertyNames = "^[%a_][%w_]*$",
      additionalProperties = { type = { "string", "function" },
        description = "The value: a text, with `${…}`, or a function of `ctx`." },
      description = "At most ten labels." },
    max_series = { type = "integer", minimum = 1, maximum = 1000, default = 100,
      description = "Combinations of label values, on each worker." },
  },
}

function M.prepare(conf)
  local names, values = {}, {}
  if conf.name:find("^moongate_") then
    error("name: those that begin with moongate_ are the gateway's own", 0)
  end
  for name in pairs(conf.labels or {}) do
    names[#names + 1] = name
  end
  if #names > 10 then
    error("labels: at most 10", 0)
  end
  table.sort(names)
  for i, name in ipairs(names) do
    values[i] = expression.required(conf.labels[name], "labels." .. name)
  end
  return { name = conf.name, value = conf.value or 1, names = names, values = values, seen = {},
    left = conf.max_series or 100 }
end

local function add(self, ctx)
  local labels, key = {}, ""
  for i = 1, #self.names do
    local value = expression.get(self.values[i], ctx)
    value = (value == nil and "" or tostring(value)):sub(1, 128)
    labels[self.names[i]] = value
    key = key .. "\0" .. value
  end
  if not self.seen[key] then
    if self.left > 0 then
      self.left = self.left - 1
      self.seen[key] = true
    else
      for i = 1, #self.names do
        labels[self.names[i]] = "other"
      end
    end
  end
  local value = tonumber(expression.get(self.value, ctx)) or 0
  if value > 0 then
    metrics.add(self.name, math.floor(value + 0.5), labels)
  end
end

local function act(self, ctx)
  local ok, err = pcall(add, self, ctx)
  if not ok then
    ctx.log:warning("emit_metric: " .. tostring(err))
  end
end

M.inbound, M.backend, M.outbound, M.on_error = act, act, act, act

return M
