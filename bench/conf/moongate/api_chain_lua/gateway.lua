-- SPDX-License-Identifier: Apache-2.0
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
  sites = { { hosts = { "*" }, routes = { { path = "/*", apis = true } } } },
  products = { gold = { apis = { "orders" } } },
  subscriptions = {
    {
      id = "s-1",
      product = "gold",
      keys = { "bench-key-primary-0001", "bench-key-secondary-0001" },
    },
  },
}
