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
        key = function(ctx)
          return ctx.jwt.sub
        end,
      },
      function(ctx)
        ctx.request.headers["X-User"] = ctx.jwt.sub
        ctx.request.headers["X-Product"] = ctx.product.name
        ctx.request.headers["Ocp-Apim-Subscription-Key"] = nil
      end,
      p.rewrite_uri { template = "/v2/orders/{id}" },
    },
    outbound = {
      function(ctx)
        ctx.response.headers["X-Content-Type-Options"] = "nosniff"
      end,
    },
  },
}
