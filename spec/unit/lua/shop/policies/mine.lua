-- SPDX-License-Identifier: Apache-2.0
local M = { name = "mine", summary = "x." }
M.schema = { type = "object", required = { "tag" }, additionalProperties = false,
  properties = { tag = { type = "string", description = "Tag." } } }
function M.prepare(conf)
  if conf.tag == "" then return nil, "tag is empty" end
  return { tag = conf.tag }
end
function M.inbound(self, ctx) ctx.vars.tag = self.tag end
return M
