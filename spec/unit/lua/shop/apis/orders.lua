-- SPDX-License-Identifier: Apache-2.0
local p, base = require("moongate.policies"), require("moongate.policies").base
return {
  name = "orders", paths = { "/external/orders", "/internal/orders" }, backend = "orders",
  subscription = { required = true },
  operations = {
    list = { method = "GET", path = "/" },
    get = { method = "GET", path = "/{id}" },
  },
  policies = {
    inbound = {
      base,
      p.set_header { name = "X-For", value = "{{audience}}" },
      p.cors { origins = { "https://app.test" } },
      p.rewrite_uri { template = "/v2/orders/{id}" },
      function(ctx) ctx.request.headers["X-A"] = "1" end,
    },
    outbound = { base, p.set_header { name = "Server", exists_action = "delete" } },
  },
}
