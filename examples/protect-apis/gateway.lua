-- SPDX-License-Identifier: Apache-2.0
--- Two APIs behind one gateway: what comes from outside, what may come from inside only, and what
--- comes to nothing. Change a file while it runs: it is loaded anew, or refused and left as it was.

local p = require("moongate.policies")
local demo = require("lib.demo")

return {
  name = "contoso",
  region = "westeurope",
  workers = "auto",

  listeners = {
    { name = "http", address = "0.0.0.0:8080" },
    {
      name = "https",
      address = "0.0.0.0:8443",
      http2 = true,
      -- Made on the first start, in ~/.local/state/moongate. Your own:
      -- { certificate = "certs/api.pem", key = "certs/api.key" }
      tls = { certificates = { { development = true } } },
    },
    -- The demonstration's origins; see lib/demo.lua. Delete them with the two sites below.
    { name = "orders-1", address = "127.0.0.1:9101" },
    { name = "orders-2", address = "127.0.0.2:9102" },
  },
  management = { address = "127.0.0.1:3443" },

  networks = { internal = { "10.0.0.0/8", "127.0.0.0/8", "::1/128" } },
  -- Whose X-Forwarded-For is believed. Loopback here, so that curl can play a client from anywhere.
  trusted_proxies = { "127.0.0.0/8", "::1/128" },

  -- A few networks for demonstration; geo/update.sh fetches the countries of all.
  geoip = { country = "geo/country.mmdb" },

  -- In earnest: signing_key = { env = "ORDERS_SIGNING_KEY" }. Such values are never shown.
  named_values = {
    issuer = "https://id.contoso.test",
    audience = "api://orders",
    signing_key = "demo-signing-key-of-at-least-32-bytes",
  },

  backends = {
    orders = {
      targets = { "http://127.0.0.1:9101", "http://127.0.0.2:9102" },
      balance = "round_robin",
      host = "target",
      timeout = { connect = 2, send = 10, first_byte = 10, total = 30 },
    },
    sinkpool = { sink = { status = 404 } }, -- no target: a dead end, and logged as one
  },

  sites = {
    {
      name = "api",
      hosts = { "api.contoso.test" },
      listeners = { "http", "https" },
      policies = {
        inbound = {
          p.bot_check {
            rules = {
              { name = "scanner", action = "deny", agents = { "sqlmap", "nikto", "masscan" } },
            },
          },
          p.geo_filter { deny = { "KP" } },
          p.flood_defence {}, -- learns for an hour what is usual, then keeps floods out
          p.waf { ruleset = "crs", mode = "prevention" }, -- of the package modsecurity-crs
        },
      },
      routes = {
        { path = "/external/*", apis = true },
        { path = "/internal/*", apis = true, networks = { "internal" } },
        { path = "/*", backend = "sinkpool" },
      },
    },
    {
      name = "portal",
      hosts = { "portal.contoso.test" },
      listeners = { "http", "https" },
      routes = {
        -- To block it instead: { path = "/*", backend = "sinkpool" },
        { path = "/*", redirect = { to = "https://developers.contoso.test", status = 302 } },
      },
    },
    demo.site("orders-1", "127.0.0.1"),
    demo.site("orders-2", "127.0.0.2"),
  },

  products = {
    starter = {
      title = "Starter",
      description = "The catalog, ten calls a minute.",
      apis = { "catalog" },
      policies = { inbound = { p.rate_limit { calls = 10, period = 60 } } },
    },
    gold = {
      title = "Gold",
      description = "Orders and the catalog.",
      apis = { "orders", "catalog" },
      policies = { inbound = { p.rate_limit { calls = 1000, period = 60 } } },
    },
  },

  -- Two keys each: one is replaced while the other serves. In earnest: { env = "GOLD_PRIMARY" }.
  subscriptions = {
    {
      id = "northwind",
      name = "Northwind Traders",
      product = "starter",
      keys = { "demo-starter-primary", "demo-starter-secondary" },
    },
    {
      id = "adventure",
      name = "Adventure Works",
      product = "gold",
      keys = { "demo-gold-primary", "demo-gold-secondary" },
    },
  },

  policies = {
    outbound = {
      p.set_header { name = "Server", exists_action = "delete" },
      p.set_header { name = "X-Content-Type-Options", value = "nosniff" },
    },
  },
}
