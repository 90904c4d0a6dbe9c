-- SPDX-License-Identifier: Apache-2.0
local p = require("moongate.policies")

return {
  name = "orders",
  paths = { "/orders" },
  backend = "origin",
  subscription = { required = true },
  operations = {
    get = { method = "GET", path = "/{id}" },
  },
  policies = {
    inbound = {
      p.base,
      p.validate_jwt {
        issuers = { "https://id.contoso.test" },
        audiences = { "api://orders" },
        algorithms = { "HS256" },
        keys = { { kty = "oct", value = "bench-signing-key-0123456789abcdef" } },
        required_claims = { scope = "orders.read" },
      },
      p.rate_limit {
        calls = 1000000000,
        period = 60,
        mode = "local",
        key = "${ctx.jwt.sub}",
      },
      p.set_header { name = "X-User", value = "${ctx.jwt.sub}" },
      p.set_header { name = "X-Product", value = "${ctx.product.name}" },
      p.rewrite_uri { template = "/v2/orders/{id}" },
    },
    outbound = {
      p.set_header { name = "X-Content-Type-Options", value = "nosniff" },
    },
  },
}
