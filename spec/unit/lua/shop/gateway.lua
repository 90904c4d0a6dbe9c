-- SPDX-License-Identifier: Apache-2.0
local p = require("moongate.policies")
return {
  name = "shop",
  workers = 2,
  listeners = {
    { name = "http", address = "127.0.0.1:18080" },
    { name = "https", address = "127.0.0.1:18443", tls = { certificates = { { certificate = "a.pem", key = "a.key" } } } }, -- luacheck: ignore 631
  },
  management = { address = "127.0.0.1:13443" },
  networks = { internal = { "10.0.0.0/8", "::1/128" } },
  trusted_proxies = { "127.0.0.0/8" },
  named_values = { audience = "api://orders", key = { env = "SHOP_KEY" } },
  access_log = { path = "access.log" },
  error_log = { level = "info" },
  limits = { head_bytes = 16384, idle_timeout = 60 },
  backends = {
    orders = { targets = { "http://127.0.0.1:9101", { url = "http://127.0.0.1:9102", weight = 2 } },
      balance = "least_requests",
      timeout = { connect = 2 },
      health = { path = "/health", interval = 5 } },
    canary = { split = { { backend = "orders", weight = 9 }, { backend = "sinkpool", weight = 1 } } },
    sinkpool = { sink = { status = 404 } },
  },
  sites = {
    { hosts = { "api.shop.test" },
      routes = {
        { path = "/external/*", apis = true },
        { path = "/internal/*", apis = true, networks = { "internal" } },
        { path = "/old/*", redirect = { to = "https://new.test", status = 301 } },
        { path = "/*", backend = "sinkpool" },
      } },
  },
  products = { gold = { apis = { "orders" }, policies = { inbound = { p.check_header { name = "X-Plan", status = 403 } } } } }, -- luacheck: ignore 631
  subscriptions = { { id = "acme", product = "gold", keys = { "acme-primary-key" } } },
}
