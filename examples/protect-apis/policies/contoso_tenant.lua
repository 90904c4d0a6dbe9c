-- SPDX-License-Identifier: Apache-2.0
--- Tells the backend whose tenant a call belongs to. Contoso's own, used like a built-in policy.
local reply = require("moongate.reply")

local M = {
  name = "contoso_tenant",
  summary = "Sets the tenant's header from the subscription; what a client sends there is dropped.",
}

M.schema = {
  type = "object", required = { "tenants" }, additionalProperties = false,
  properties = {
    tenants = {
      type = "object", description = "Tenant by subscription id.",
      additionalProperties = { type = "string", description = "A tenant." },
    },
    header = { type = "string", default = "X-Contoso-Tenant", description = "Name of the field." },
  },
}

--- Once per generation; what it returns is `self` below.
function M.prepare(conf)
  return { tenants = conf.tenants, header = conf.header or "X-Contoso-Tenant" }
end

function M.inbound(self, ctx)
  local subscription = ctx.subscription
  local tenant = subscription and self.tenants[subscription.id]
  if not tenant then
    return reply.refuse(403, "TenantUnknown", "this subscription belongs to no tenant")
  end
  ctx.request.headers[self.header] = tenant
  ctx.vars["contoso_tenant.tenant"] = tenant
end

function M.outbound(self, ctx)
  ctx.response.headers[self.header] = ctx.vars["contoso_tenant.tenant"]
end

return M
