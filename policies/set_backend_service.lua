-- SPDX-License-Identifier: Apache-2.0
--- Chooses the backend of the request.
local expression = require("moongate.expression")
local near = require("moongate.near")

local M = {
  name = "set_backend_service",
  summary = "Chooses the backend of the request; the last choice counts.",
  sections = { "inbound", "backend" },
  azure = "set-backend-service",
  differences = "Backends are named, so that pools, health and breakers are theirs; a bare URL is "
    .. "none. A later choice always replaces an earlier one.",
  example = 'p.set_backend_service { backend = "orders-canary", when = "ctx.user ~= nil" }',
}

M.schema = {
  type = "object", required = { "backend" }, additionalProperties = false,
  properties = {
    backend = {
      type = { "string", "function" },
      description = "Name from `backends`, a text with `${…}`, or a function of `ctx`.",
    },
  },
}

function M.prepare(conf, env)
  local backend = expression.required(conf.backend, "backend")
  if type(backend) == "string" and env and env.backends and env.backends[backend] == nil then
    local hint = near.find(backend, near.keys(env.backends))
    error(("unknown backend %q%s"):format(backend, hint and ("; did you mean %q?"):format(hint) or ""),
      0)
  end
  return { backend = backend }
end

local function act(self, ctx)
  ctx.backend = expression.get(self.backend, ctx)
end

M.inbound, M.backend = act, act

return M
