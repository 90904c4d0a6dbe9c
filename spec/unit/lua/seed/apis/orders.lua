-- SPDX-License-Identifier: Apache-2.0
local p, base = require("moongate.policies"), require("moongate.policies").base
return {
  name = "orders", paths = { "/external/orders", "/internal/orders" }, backend = "orders",
  subscription = { required = true },
  operations = {
    list = { method = "GET", path = "/" },
    get  = { method = "GET", path = "/{id}" },
  },
  policies = {
    inbound = {
      base,
      p.set_header { name = "X-Audience", value = "{{audience}}" },
      p.rewrite_uri { template = "/v2/orders/{id}", when = "ctx.request.params.id" },
      function(ctx) ctx.request.headers["X-Region"] = ctx.geo and ctx.geo.country end,
    },
    outbound = { base, p.set_header { name = "Server", exists_action = "delete" } },
  },
}
