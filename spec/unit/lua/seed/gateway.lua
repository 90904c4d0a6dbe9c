-- SPDX-License-Identifier: Apache-2.0
local p = require("moongate.policies")
return {
  name = "contoso", region = "westeurope",
  workers = "auto",
  listeners = {
    { name = "http",  address = "0.0.0.0:8080" },
    { name = "https", address = "0.0.0.0:8443", http2 = true,
      tls = { certificates = { { certificate = "certs/api.pem", key = "certs/api.key" } } } },
  },
  management = { address = "127.0.0.1:3443" },
  networks = { internal = { "10.0.0.0/8", "127.0.0.0/8", "::1/128" } },
  trusted_proxies = {},
  redis = { url = "redis://127.0.0.1:6379" },
  geoip = { country = "geo/country.mmdb", asn = "geo/asn.mmdb" },
  named_values = { audience = "api://orders", signing_key = { env = "ORDERS_KEY" } },
  backends = {
    orders   = { targets = { "http://127.0.0.1:9101", { url = "http://127.0.0.1:9102", weight = 2 } },
                 balance = "least_requests", health = { path = "/health", interval = 5 }, protocol = "http1",
                 timeout = { connect = 2, send = 10, first_byte = 30, total = 60 } },
    sinkpool = { sink = { status = 404 } },
  },
  sites = {
    { hosts = { "api.contoso.test" },
      policies = { inbound = { p.check_header { name = "User-Agent" } } },
      routes = {
        { path = "/external/*", apis = true },
        { path = "/internal/*", apis = true, networks = { "internal" } },
        { path = "/*", backend = "sinkpool" },
      } },
    { hosts = { "portal.contoso.test" },
      routes = { { path = "/*", redirect = { to = "https://developers.contoso.test", status = 302 } } } },
  },
  products = {
    gold = { apis = { "orders" }, policies = { inbound = {
      p.set_header { name = "X-Plan", value = "gold" } } } },
  },
  subscriptions = {
    { id = "s-1", product = "gold", keys = { { env = "S1_PRIMARY" }, { env = "S1_SECONDARY" } } },
  },
  policies = { inbound = {}, backend = {}, outbound = {}, on_error = {} },
}
