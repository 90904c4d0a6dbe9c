-- SPDX-License-Identifier: Apache-2.0
--- A subscription and a quota kept in the node's own file, beside a route with neither.
local p = require("moongate.policies")

return {
  name = "bench",
  workers = 1,
  access_log = false,
  listeners = { { name = "in", address = "127.0.0.1:@PORT@" } },
  backends = {
    origin = {
      targets = { "http://127.0.0.1:@ORIGIN@" },
      keepalive = { idle = 2048, requests = 0 },
    },
  },
  sites = { { hosts = { "*" }, routes = {
    { path = "/orders/*", apis = true },
    { path = "/*", backend = "origin" },
  } } },
  products = { gold = { apis = { "orders" }, policies = { inbound = {
    p.quota { calls = 1000000000, period = "month" } } } } },
  subscriptions = { { id = "s-1", product = "gold", keys = { "bench-key-primary-0001" } } },
}
