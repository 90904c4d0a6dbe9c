-- SPDX-License-Identifier: Apache-2.0
--- What can be ordered. Every subscriber may read it.

local p = require("moongate.policies")

return {
  name = "catalog",
  title = "Catalog",
  paths = { "/external/catalog", "/internal/catalog" },
  backend = "orders",
  subscription = { required = true },
  operations = {
    list = { method = "GET", path = "/items" },
    get = { method = "GET", path = "/items/{id}" },
  },
  policies = {
    inbound = {
      p.base,
      p.set_query_parameter { name = "utm_source", exists_action = "delete" },
      p.rewrite_uri { template = "/v2/items/{id}" },
    },
    outbound = {
      p.set_header { name = "Cache-Control", value = "private, max-age=30" },
      p.base,
    },
  },
}
