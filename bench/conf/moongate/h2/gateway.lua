-- SPDX-License-Identifier: Apache-2.0
return {
  name = "bench",
  workers = 1,
  access_log = false,
  listeners = { { name = "in", address = "127.0.0.1:@PORT@", http2 = true } },
  limits = { connections = 20000 },
  backends = {
    origin = {
      targets = { "http://127.0.0.1:@ORIGIN@" },
      keepalive = { idle = 2048, requests = 0 },
    },
  },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
}
