-- SPDX-License-Identifier: Apache-2.0
--- Runs the policies of a fragment as if they stood here.

local blocks = require("moongate.blocks")

local M = {
  name = "include",
  summary = "Runs the policies of a fragment as if they stood here.",
  description = "`p.include(\"NAME\", { … })` reads `fragments/NAME.lua`, which returns a list of "
    .. "policies, or a function that makes one of the parameters. Fragments may include others; a "
    .. "circle is a load error that names its way. A third argument holds `id`, `when` and "
    .. "`on_error`.",
  sections = { "inbound", "backend", "outbound", "on_error" },
  azure = "include-fragment",
  differences = "Fragments take parameters and may include one another.",
  example = 'p.include("limits", { calls = 100 })',
}

M.schema = {
  type = "object", required = { "name" }, additionalProperties = false, order = { "name", "with" },
  properties = {
    name = { type = "string", pattern = "^[%w_-]+$", maxLength = 100,
      description = "Name of the file below `fragments/`, without `.lua`." },
    with = { type = "object", description = "Parameters for a fragment that is a function." },
  },
}

function M.split(conf)
  return conf, {}
end

--- Whose fragment is read.
function M.fragment(conf)
  return conf.name
end

function M.prepare(_, env)
  return env.blocks[1]
end

local function acting(section)
  return function(self, ctx)
    local f = self[section]
    if f then
      return f(ctx)
    end
  end
end

blocks.act(M, acting)

function M.follow(self, ctx, section)
  return self[section](ctx)
end

return M
