-- SPDX-License-Identifier: Apache-2.0
--- Orders: read with a subscription key, placed with a token on top of it.

local p = require("moongate.policies")

return {
  name = "orders",
  title = "Orders",
  paths = { "/external/orders", "/internal/orders" },
  backend = "orders",
  subscription = { required = true },
  operations = {
    list = { method = "GET", path = "/" },
    get = { method = "GET", path = "/{id}" },
    create = {
      method = "POST",
      path = "/",
      limits = { body_bytes = 65536 },
      policies = {
        inbound = {
          p.base,
          p.validate_jwt {
            issuers = { "{{issuer}}" },
            audiences = { "{{audience}}" },
            algorithms = { "HS256" },
            keys = { { kty = "oct", value = "{{signing_key}}" } },
            required_claims = { scope = "orders.write" },
          },
          p.rate_limit {
            calls = 5,
            period = 60,
            key = function(ctx)
              return ctx.jwt.sub
            end,
          },
          function(ctx)
            ctx.request.headers["X-User"] = ctx.jwt.sub
            ctx.request.headers["Authorization"] = nil
          end,
        },
        outbound = {
          -- The origin names a new order by its own path; the client knows another.
          function(ctx)
            local id = (ctx.response.headers.Location or ""):match("^/v2/orders/([^/]+)$")
            if id then
              ctx.response.headers.Location = ctx.request.raw_path:match("^(.-)/*$") .. "/" .. id
            end
          end,
        },
      },
    },
  },
  policies = {
    inbound = {
      p.base,
      p.contoso_tenant { tenants = { northwind = "t-100", adventure = "t-200" } },
      p.rewrite_uri { template = "/v2/orders/{id}" },
    },
  },
}
