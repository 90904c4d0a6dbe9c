-- SPDX-License-Identifier: Apache-2.0
--- What people get wrong in a configuration, and what they are told: all of it, word by word. Each row
--- exchanges one text of `shop/` for another; what follows is every line that the load then says.
local config = require("moongate.config")
local directory = require("spec.unit.lua.directory")

local GATEWAY, ORDERS, MINE = "gateway.lua", "apis/orders.lua", "policies/mine.lua"

local mistakes = {
  { GATEWAY, "listeners =",
    "listenrs =",
    "gateway.lua:3: listeners: required field is missing (expected list)",
    'gateway.lua:6: listenrs: unknown field "listenrs"; did you mean "listeners"?' },
  { GATEWAY, 'address = "127.0.0.1:18080"',
    'adress = "127.0.0.1:18080"',
    "gateway.lua:7: listeners[1].address: required field is missing (expected non-empty string)",
    'gateway.lua:7: listeners[1].adress: unknown field "adress"; did you mean "address"?' },
  { GATEWAY, "127.0.0.1:18080",
    "localhost:http",
    "gateway.lua:7: listeners[1].address: expected IP:port, [IPv6]:port, :port (all "
      .. 'addresses) or unix:/path, got "localhost:http"' },
  { GATEWAY, "127.0.0.1:18080",
    "127.0.0.1:99999",
    "gateway.lua:7: listeners[1].address: expected IP:port, [IPv6]:port, :port (all "
      .. 'addresses) or unix:/path, got "127.0.0.1:99999"' },
  { GATEWAY, "127.0.0.1:18080",
    "example.test:80",
    "gateway.lua:7: listeners[1].address: expected IP:port, [IPv6]:port, :port (all "
      .. 'addresses) or unix:/path, got "example.test:80"' },
  { GATEWAY, 'address = "127.0.0.1:18080"',
    'address = "127.0.0.1:18080", mode = "660"',
    "gateway.lua:7: listeners[1].mode: expected a UNIX socket as address, as only a file has "
      .. 'permissions, got "127.0.0.1:18080"' },
  { GATEWAY, 'address = "127.0.0.1:18080"',
    'address = "unix:/run/shop.sock", mode = "rw"',
    'gateway.lua:7: listeners[1].mode: expected permissions in octal, like "660", got "rw"' },
  { GATEWAY, "127.0.0.1:18443",
    "127.0.0.1:18080",
    'gateway.lua:8: listeners[2].address: address "127.0.0.1:18080" is already at listeners[1]' },
  { GATEWAY, 'name = "https"',
    'name = "http"',
    'gateway.lua:8: listeners[2].name: name "http" is already at listeners[1]' },
  { GATEWAY, "127.0.0.1:13443",
    "127.0.0.1:18080",
    'gateway.lua:10: management.address: address "127.0.0.1:18080" is already at listeners[1]' },
  { GATEWAY, "workers = 2",
    'workers = "two"',
    'gateway.lua:5: workers: expected "auto" or integer from 0 to 1024, got "two"' },
  { GATEWAY, "workers = 2",
    "workers = 100000",
    'gateway.lua:5: workers: expected "auto" or integer from 0 to 1024, got 100000' },
  { GATEWAY, '"a.pem"',
    '"nope.pem"',
    "gateway.lua:8: listeners[2].tls.certificates[1].certificate: expected a file that can "
      .. 'be read (not found), got "nope.pem"' },
  { GATEWAY, ', key = "a.key"',
    "",
    "gateway.lua:8: listeners[2].tls.certificates[1].key: expected a PEM file, or "
      .. "development = true, got nothing" },
  { GATEWAY, "tls = { certificates",
    "tls = { certs",
    "gateway.lua:8: listeners[2].tls.certificates: required field is missing (expected list)",
    'gateway.lua:8: listeners[2].tls.certs: unknown field "certs"; did you mean "certificates"?' },
  { GATEWAY, "tls = { ",
    'tls = { min_version = "1.1", ',
    'gateway.lua:8: listeners[2].tls.min_version: unknown field "min_version"; there is '
      .. '"certificates", "preset", "session_tickets", "hsts", "warn_before" and "client"' },
  { GATEWAY, "tls = { ",
    'tls = { ciphers = "FOO", ',
    'gateway.lua:8: listeners[2].tls.ciphers: unknown field "ciphers"; there is '
      .. '"certificates", "preset", "session_tickets", "hsts", "warn_before" and "client"' },
  { GATEWAY, "10.0.0.0/8",
    "10.0.0.0/33",
    "gateway.lua:11: networks.internal[1]: expected a network like 10.0.0.0/8 or ::1/128, "
      .. 'without bits behind the prefix, got "10.0.0.0/33"' },
  { GATEWAY, '"10.0.0.0/8"',
    '"10.1.0.0/8"',
    "gateway.lua:11: networks.internal[1]: expected a network like 10.0.0.0/8 or ::1/128, "
      .. 'without bits behind the prefix, got "10.1.0.0/8"' },
  { GATEWAY, '"127.0.0.0/8"',
    '"localhost"',
    "gateway.lua:12: trusted_proxies[1]: expected a network like 10.0.0.0/8 or ::1/128, "
      .. 'without bits behind the prefix, got "localhost"' },
  { GATEWAY, "SHOP_KEY",
    "SHOP_KEYY",
    "gateway.lua:13: named_values.key: environment variable SHOP_KEYY is not set" },
  { GATEWAY, '{ env = "SHOP_KEY" }',
    '{ file = "nope.txt" }',
    "gateway.lua:13: named_values.key: file nope.txt cannot be read: not found" },
  { GATEWAY, '{ env = "SHOP_KEY" }',
    '{ env = "SHOP_KEY", file = "a" }',
    'gateway.lua:13: named_values.key: expected a text, { env = "NAME" } or { file = "path" '
      .. "}, got a table" },
  { GATEWAY, '{ env = "SHOP_KEY" }',
    "5",
    'gateway.lua:13: named_values.key: expected a text, { env = "NAME" } or { file = "path" '
      .. "}, got 5" },
  { GATEWAY, 'audience = "api',
    '["au dience"] = "api',
    'apis/orders.lua:13: policies.inbound[2].value: unknown named value "audience"',
    [[gateway.lua:13: named_values["au dience"]: expected a name of letters, digits, '_', ]]
      .. [['.', '-', got "au dience"]], },
  { GATEWAY, '"info"',
    '"verbose"',
    'gateway.lua:15: error_log.level: expected "debug", "info", "notice", "warning" or '
      .. '"error", got "verbose"' },
  { GATEWAY, "16384",
    '"16k"',
    'gateway.lua:16: limits.head_bytes: expected integer from 256 to 524288 (bytes), got "16k"' },
  { GATEWAY, "16384",
    "-1",
    "gateway.lua:16: limits.head_bytes: expected integer from 256 to 524288 (bytes), got -1" },
  { GATEWAY, "idle_timeout = 60",
    "idle_timeot = 60",
    'gateway.lua:16: limits.idle_timeot: unknown field "idle_timeot"; did you mean '
      .. '"idle_timeout"?' },
  { GATEWAY, "idle_timeout = 60",
    'idle_timeout = "60s"',
    'gateway.lua:16: limits.idle_timeout: expected number from 0 to 31622400 (seconds), got "60s"' },
  { GATEWAY, '"http://127.0.0.1:9101"',
    '"tcp://127.0.0.1:9101"',
    "gateway.lua:18: backends.orders.targets[1]: expected http://host:port, "
      .. 'https://host:port or unix:/path, got "tcp://127.0.0.1:9101"' },
  { GATEWAY, '"http://127.0.0.1:9101"',
    '"127.0.0.1:9101"',
    "gateway.lua:18: backends.orders.targets[1]: expected http://host:port, "
      .. 'https://host:port or unix:/path, got "127.0.0.1:9101"' },
  { GATEWAY, '"http://127.0.0.1:9101"',
    '"http://127.0.0.1:0"',
    "gateway.lua:18: backends.orders.targets[1]: expected http://host:port, "
      .. 'https://host:port or unix:/path with a port from 1 to 65535, got "http://127.0.0.1:0"' },
  { GATEWAY, '"http://127.0.0.1:9101"',
    "9101",
    "gateway.lua:18: backends.orders.targets[1]: expected non-empty string or table, got 9101" },
  { GATEWAY, '{ url = "http://127.0.0.1:9102"',
    '{ uri = "http://127.0.0.1:9102"',
    'gateway.lua:18: backends.orders.targets[2].uri: unknown field "uri"; did you mean "url"?',
    "gateway.lua:18: backends.orders.targets[2].url: required field is missing (expected "
      .. "non-empty string)" },
  { GATEWAY, "weight = 2",
    "weight = -2",
    "gateway.lua:18: backends.orders.targets[2].weight: expected integer from 0 to 1000, got -2" },
  { GATEWAY, "least_requests",
    "least_conn",
    'gateway.lua:19: backends.orders.balance: expected "round_robin", "least_requests", '
      .. '"random" or "hash", got "least_conn"; did you mean "least_requests"?' },
  { GATEWAY, '{ "http://127.0.0.1:9101", { url = "http://127.0.0.1:9102", weight = 2 } }',
    "{}",
    "gateway.lua:18: backends.orders.targets: expected at least one target, a sink or a "
      .. "split, got an empty table" },
  { GATEWAY, '{ "http://127.0.0.1:9101", { url = "http://127.0.0.1:9102", weight = 2 } }',
    '"http://127.0.0.1:9101"',
    'gateway.lua:18: backends.orders.targets: expected list, got "http://127.0.0.1:9101"; '
      .. 'write { "http://127.0.0.1:9101" }' },
  { GATEWAY, '"/health"',
    '"health"',
    'gateway.lua:21: backends.orders.health.path: expected a path that starts with "/", got '
      .. '"health"' },
  { GATEWAY, 'path = "/health", ',
    "",
    "gateway.lua:21: backends.orders.health.path: required field is missing (expected a path "
      .. 'that starts with "/")' },
  { GATEWAY, "interval = 5",
    "interval = 0",
    "gateway.lua:21: backends.orders.health.interval: expected number from 0.1 to 31622400 "
      .. "(seconds), got 0" },
  { GATEWAY, "connect = 2",
    "conect = 2",
    'gateway.lua:20: backends.orders.timeout.conect: unknown field "conect"; did you mean '
      .. '"connect"?' },
  { GATEWAY, "timeout = { connect = 2 }",
    "timeout = 2",
    'gateway.lua:20: backends.orders.timeout: expected table with "connect", "send", "first_byte", "idle" '
      .. 'or "total", got 2' },
  { GATEWAY, "sink = { status = 404 }",
    'sink = { status = 404 }, targets = { "http://a" }',
    "gateway.lua:23: backends.sinkpool.sink: expected either targets or a sink, not both, "
      .. "got a table" },
  { GATEWAY, "sink = { status = 404 }",
    "",
    "gateway.lua:23: backends.sinkpool.targets: expected at least one target, a sink or a "
      .. "split, got nothing" },
  { GATEWAY, "{ sink = { status = 404 } }",
    '"sink"',
    'gateway.lua:23: backends.sinkpool: expected table, got "sink"' },
  { GATEWAY, '{ backend = "orders", weight = 9 }',
    '{ backend = "ordes", weight = 9 }',
    'gateway.lua:22: backends.canary.split[1].backend: unknown backend "ordes"; did you mean '
      .. '"orders"?' },
  { GATEWAY, '{ backend = "orders", weight = 9 }',
    '{ backend = "canary", weight = 9 }',
    "gateway.lua:22: backends.canary.split[1].backend: expected a backend with targets or a "
      .. 'sink, got "canary"' },
  { GATEWAY, 'weight = 9 }, { backend = "sinkpool", weight = 1 }',
    'weight = 0 }, { backend = "sinkpool", weight = 0 }',
    "gateway.lua:22: backends.canary.split: expected a share with a weight, got a list of 2" },
  { GATEWAY, 'hosts = { "api.shop.test" }',
    'hosts = "api.shop.test"',
    'gateway.lua:26: sites[1].hosts: expected list, got "api.shop.test"; write { '
      .. '"api.shop.test" }' },
  { GATEWAY, '"api.shop.test"',
    '"api shop"',
    "gateway.lua:26: sites[1].hosts[1]: expected a host name without port, *.name, or *, got "
      .. '"api shop"' },
  { GATEWAY, '"api.shop.test"',
    '"api.shop.test:8080"',
    "gateway.lua:26: sites[1].hosts[1]: expected a host name without port, *.name, or *, got "
      .. '"api.shop.test:8080"' },
  { GATEWAY, 'hosts = { "api.shop.test" }',
    'hosts = { "api.shop.test" }, listeners = { "htp" }',
    'gateway.lua:26: sites[1].listeners[1]: unknown listener "htp"; did you mean "http"?' },
  { GATEWAY, 'hosts = { "api.shop.test" },',
    'hosts = { "api.shop.test" }, listeners = { "http", "https" }, routes = { { path = "/*", reply = {} } } },'
      .. '{ hosts = { "api.shop.test" }, listeners = { "https" },',
    'gateway.lua:26: sites[2].hosts[1]: host "api.shop.test" is already in sites[1], on the same listener' },
  { GATEWAY, 'hosts = { "api.shop.test" },',
    'name = "a", hosts = { "a.test" }, routes = { { path = "/*", reply = {} } } },'
      .. '{ name = "a", hosts = { "api.shop.test" },',
    'gateway.lua:26: sites[2].name: name "a" is already that of sites[1]' },
  { GATEWAY, '"/old/*"',
    '"old/*"',
    'gateway.lua:30: sites[1].routes[3].path: expected a path that starts with "/", got "old/*"' },
  { GATEWAY, '"/old/*"',
    '"/old/*/x"',
    "gateway.lua:30: sites[1].routes[3].path: expected '*' only as the last segment, got "
      .. '"/old/*/x"' },
  { GATEWAY, '"/old/*"',
    '"~ ^/old"',
    'gateway.lua:30: sites[1].routes[3].path: expected a path that starts with "/", got "~ ^/old"' },
  { GATEWAY, '"/old/*"',
    '"/old/{id"',
    "gateway.lua:30: sites[1].routes[3].path: expected {param} or '*' as a whole segment, "
      .. 'got "/old/{id"' },
  { GATEWAY, '"/old/*"',
    '"/old/{a}/{a}"',
    "gateway.lua:30: sites[1].routes[3].path: expected each parameter once; {a} is there "
      .. 'twice, got "/old/{a}/{a}"' },
  { GATEWAY, '"/old/*"',
    '"/*"',
    "gateway.lua:31: sites[1].routes[4]: * api.shop.test/* is also taken at gateway.lua:30" },
  { GATEWAY, "backend = \"sinkpool\" },\n      }",
    "backend = \"sinkpool\", reply = {} },\n      }",
    "gateway.lua:31: sites[1].routes[4]: a route has exactly one of apis, backend, redirect, "
      .. "reply; this one has backend and reply" },
  { GATEWAY, '{ path = "/*", backend = "sinkpool" }',
    '{ path = "/*" }',
    "gateway.lua:31: sites[1].routes[4]: a route has exactly one of apis, backend, redirect, "
      .. "reply; this one has none" },
  { GATEWAY, '{ path = "/*", backend = "sinkpool" }',
    '{ path = "/*", backend = "sinkpol" }',
    'gateway.lua:31: sites[1].routes[4].backend: unknown backend "sinkpol"; did you mean '
      .. '"sinkpool"?' },
  { GATEWAY, 'networks = { "internal" }',
    'networks = { "interna" }',
    'gateway.lua:29: sites[1].routes[2].networks[1]: unknown network "interna"; did you mean '
      .. '"internal"?' },
  { GATEWAY, 'networks = { "internal" }',
    'networks = { "10.0.0.0/8" }',
    'gateway.lua:29: sites[1].routes[2].networks[1]: unknown network "10.0.0.0/8"; there is '
      .. '"internal"' },
  { GATEWAY, 'networks = { "internal" }',
    'networks = "internal"',
    'gateway.lua:29: sites[1].routes[2].networks: expected list, got "internal"; write { '
      .. '"internal" }' },
  { GATEWAY, "status = 301",
    "status = 200",
    "gateway.lua:30: sites[1].routes[3].redirect.status: expected 301, 302, 303, 307 or 308, "
      .. "got 200" },
  { GATEWAY, "https://new.test",
    "new.test",
    "gateway.lua:30: sites[1].routes[3].redirect.to: expected a URL with its scheme, or an "
      .. 'absolute path, got "new.test"' },
  { GATEWAY, 'path = "/old/*",',
    'path = "/old/*", methods = { "get" },',
    'gateway.lua:30: sites[1].routes[3].methods[1]: expected a method in capitals, or "*", '
      .. 'got "get"' },
  { GATEWAY, 'path = "/old/*",',
    'path = "/old/*", methods = "GET",',
    'gateway.lua:30: sites[1].routes[3].methods: expected list, got "GET"; write { "GET" }' },
  { GATEWAY, '"/external/*", apis = true',
    '"/external/*", apis = { "ordrs" }',
    'gateway.lua:28: sites[1].routes[1].apis[1]: unknown API "ordrs"; did you mean "orders"?' },
  { GATEWAY, '"/external/*", apis = true',
    '"/external/*", apis = false',
    "gateway.lua:28: sites[1].routes[1]: a route has exactly one of apis, backend, redirect, "
      .. "reply; this one has none" },
  { GATEWAY, '"/external/*", apis = true',
    '"/external", apis = true',
    'apis/orders.lua:4: paths[1]: no route with `apis` reaches "/external/orders"',
    "gateway.lua:28: sites[1].routes[1]: no API has the path /external; /external/* stands "
      .. "for all below it", warns = true },
  { ORDERS, '"/external/orders"',
    '"/extern/orders"',
    'apis/orders.lua:4: paths[1]: no route with `apis` reaches "/extern/orders"',
    "gateway.lua:28: sites[1].routes[1]: no API has a path below /external/*", warns = true },
  { GATEWAY, 'apis = { "orders" }, policies',
    'apis = { "order" }, policies',
    'gateway.lua:34: products.gold.apis[1]: unknown API "order"; did you mean "orders"?' },
  { GATEWAY, 'product = "gold"',
    'product = "golden"',
    'gateway.lua:35: subscriptions[1].product: unknown product "golden"; did you mean "gold"?' },
  { GATEWAY, ', keys = { "acme-primary-key" }',
    "",
    "gateway.lua:35: subscriptions[1].keys: required field is missing (expected list)" },
  { GATEWAY, '"acme-primary-key"',
    '"a"',
    "gateway.lua:35: subscriptions[1].keys[1]: expected string of at least 8 bytes, { env = "
      .. '"NAME" } or { file = "path" }, got "a"' },
  { GATEWAY, "subscriptions = {",
    'subscriptions = { { id = "acme", product = "gold", keys = { "acme-primary-key" } },',
    'gateway.lua:35: subscriptions[2].id: subscription "acme" is already at subscriptions[1]',
    "gateway.lua:35: subscriptions[2].keys[1]: the same key is already at "
      .. "subscriptions[1].keys[1]" },
  { GATEWAY, "p.check_header {",
    "p.chek_header {",
    'gateway.lua:34: products.gold.policies.inbound[1]: unknown policy "chek_header"; did '
      .. 'you mean "check_header"?' },
  { GATEWAY, 'p.check_header { name = "X-Plan", status = 403 }',
    "p.check_header",
    "gateway.lua:34: products.gold.policies.inbound[1]: expected a policy, got "
      .. "p.check_header without its options; write p.check_header {}" },
  { GATEWAY, 'p.check_header { name = "X-Plan", status = 403 }',
    '"rate_limit"',
    "gateway.lua:34: products.gold.policies.inbound[1]: expected a policy (p.name { ... }), "
      .. 'base, or a function, got "rate_limit"' },
  { GATEWAY, 'p.check_header { name = "X-Plan", status = 403 }',
    "{ calls = 1 }",
    "gateway.lua:34: products.gold.policies.inbound[1]: expected a policy (p.name { ... }), "
      .. "base, or a function, got a table" },
  { GATEWAY, "policies = { inbound = { p.check",
    "policies = { inbund = { p.check",
    'gateway.lua:34: products.gold.policies.inbund: unknown field "inbund"; did you mean '
      .. '"inbound"?' },
  { GATEWAY, 'policies = { inbound = { p.check_header { name = "X-Plan", status = 403 } } }',
    'policies = { p.check_header { name = "X-Plan", status = 403 } }',
    "gateway.lua:34: products.gold.policies: expected a table of lists by section: inbound, "
      .. "backend, outbound, on_error, got a list of 1" },
  { ORDERS, 'p.set_header { name = "Server", exists_action = "delete" }',
    'p.rewrite_uri { template = "/x" }',
    'apis/orders.lua:18: policies.outbound[2]: policy "rewrite_uri" cannot stand in '
      .. "outbound; it can in inbound" },
  { ORDERS, "p.cors {",
    "p.crs {",
    'apis/orders.lua:14: policies.inbound[3]: unknown policy "crs"; did you mean "cors"?' },
  { ORDERS, "base,\n      p.set",
    "base, base,\n      p.set",
    "apis/orders.lua:12: policies.inbound[2]: base stands here twice" },
  { ORDERS, "base, p.set",
    "base {}, p.set",
    "apis/orders.lua:18: base takes no options: it stands in the list by itself" },
  { ORDERS, '"delete"',
    '"remove"',
    'apis/orders.lua:18: policies.outbound[2].exists_action: expected "override", "skip", '
      .. '"append" or "delete", got "remove"' },
  { ORDERS, 'origins = { "https://app.test" }',
    'origins = { "app.test" }',
    'apis/orders.lua:14: policies.inbound[3].origins[1]: expected "https://host[:port]", '
      .. '"https://*.host", "null" or "*", got "app.test"' },
  { ORDERS, 'origins = { "https://app.test" }',
    'origins = { "*" }, credentials = true',
    'apis/orders.lua:14: policies.inbound[3]: policy "cors" refuses these options: origins = '
      .. [[{ "*" } with credentials would hand every site the user's session; name the origins]], },
  { ORDERS, '"/v2/orders/{id}"',
    '"v2/orders/{id}"',
    'apis/orders.lua:15: policies.inbound[4].template: expected a path that starts with "/", '
      .. 'got "v2/orders/{id}"' },
  { ORDERS, '"/v2/orders/{id}"',
    '"/v2/orders/{idd}"',
    'apis/orders.lua:15: policies.inbound[4]: no path that policy "rewrite_uri" runs for has '
      .. 'the parameter {idd}; did you mean "id"?', warns = true },
  { ORDERS, 'template = "/v2/orders/{id}"',
    "template = 42",
    'apis/orders.lua:15: policies.inbound[4].template: expected a path that starts with "/", '
      .. "got 42" },
  { ORDERS, 'get = { method = "GET"',
    'get = { method = "get"',
    'apis/orders.lua:8: operations.get.method: expected a method in capitals, or "*" or '
      .. 'list, got "get"' },
  { ORDERS, '"/{id}" }',
    '"{id}" }',
    'apis/orders.lua:8: operations.get.path: expected a path that starts with "/", got "{id}"' },
  { ORDERS, 'path = "/{id}" }',
    'path = "/" }',
    "apis/orders.lua:7: operations.list: GET api.shop.test/external/orders is also taken at "
      .. "apis/orders.lua:8",
    "apis/orders.lua:7: operations.list: GET api.shop.test/external/orders/ is also taken at "
      .. "apis/orders.lua:8",
    "apis/orders.lua:7: operations.list: GET api.shop.test/internal/orders is also taken at "
      .. "apis/orders.lua:8",
    "apis/orders.lua:7: operations.list: GET api.shop.test/internal/orders/ is also taken at "
      .. "apis/orders.lua:8" },
  { ORDERS, 'get = { method = "GET", ',
    "get = { ",
    "apis/orders.lua:8: operations.get.method: required field is missing (expected a method "
      .. 'in capitals, or "*" or list)' },
  { ORDERS, "list = { method",
    "{ method",
    "apis/orders.lua:6: operations: expected table, got a table that has an item without a name" },
  { ORDERS, 'name = "orders", ',
    "",
    "apis/orders.lua:3: name: required field is missing (expected a name of letters, digits, "
      .. "'_', '.', '-')" },
  { ORDERS, 'paths = { "/external/orders", "/internal/orders" }',
    'paths = "/external/orders"',
    'apis/orders.lua:4: paths: expected list, got "/external/orders"; write { '
      .. '"/external/orders" }' },
  { ORDERS, '"/external/orders"',
    '"/external/{v}/orders"',
    'apis/orders.lua:4: paths[1]: expected a path that starts with "/", without parameters, got '
      .. '"/external/{v}/orders"' },
  { ORDERS, 'backend = "orders"',
    'backend = "order"',
    'apis/orders.lua:4: backend: unknown backend "order"; did you mean "orders"?' },
  { ORDERS, "subscription = { required = true }",
    "subscription = true",
    'apis/orders.lua:5: subscription: expected table with "required", "header" or "query", got true' },
  { ORDERS, "base,\n      p.set",
    "base\n      p.set",
    "apis/orders.lua:13: '}' expected (to close '{' at line 11) near 'p'" },
  { ORDERS, "\nreturn {",
    "\nlocal x = {",
    "apis/orders.lua: the file must return a table, and returned nothing" },
  { ORDERS, "paths = {",
    "paths = nosuch {",
    "apis/orders.lua:4: attempt to call global 'nosuch' (a nil value)" },
  { ORDERS, "\nreturn {",
    "\nlocal f = io.open(\"x\")\nreturn {",
    "apis/orders.lua:3: attempt to index global 'io' (a nil value)" },
  { ORDERS, "\nreturn {",
    "\nlocal f = require(\"lib.nope\")\nreturn {",
    'apis/orders.lua:3: module "lib.nope" cannot be required here: it is no module for '
      .. "policies, and there is no lib/nope.lua" },
  { ORDERS, "\nreturn {",
    "\nlocal f = require(\"moongate.regx\")\nreturn {",
    'apis/orders.lua:3: module "moongate.regx" cannot be required here: it is no module for '
      .. 'policies, and there is no lib/moongate/regx.lua; did you mean "moongate.regex"?' },
  { MINE, "function M.inbound",
    "funtion M.inbound",
    "policies/mine.lua:9: '=' expected near 'M'" },
  { MINE, "return M",
    "",
    "policies/mine.lua: a policy must return a table" },
  { MINE, 'type = "string"',
    'type = "strin"',
    'policies/mine.lua: the schema of policy "mine" is not valid: unknown type "strin"' },
  { MINE, "function M.inbound",
    "function M.inbond",
    'policies/mine.lua: policy "mine" has no function inbound, backend, outbound, on_error or log; did you '
      .. 'mean "inbound"?' },
  { GATEWAY, 'p.check_header { name = "X-Plan", status = 403 }',
    "p.mine {}",
    "gateway.lua:34: products.gold.policies.inbound[1].tag: required field is missing "
      .. "(expected string)" },
  { ORDERS, "p.cors {",
    'p.check_header { "X-Key" }, p.cors {',
    "apis/orders.lua:14: policies.inbound[3]: expected table, got a list of 1" },
  { GATEWAY, "workers = 2",
    'workers = 2, redis = "redis://x"',
    'gateway.lua:5: redis: expected table with "url", "username", "password", "tls", "timeout", '
      .. '"connect_timeout", "prefix", "sentinel" or "cluster", got "redis://x"' },
  { GATEWAY, "return {",
    "local x = {",
    "gateway.lua: the file must return a table, and returned nothing" },
  { GATEWAY, "return {",
    "return { {}, ",
    "gateway.lua:3: expected table, got a table that has an item without a name" },
  { GATEWAY, 'balance = "least_requests"',
    'tls = { ca = "nope.pem" }, balance = "least_requests"',
    'gateway.lua:19: backends.orders.tls.ca: expected a file that can be read (not found), got "nope.pem"' },
  { GATEWAY, 'balance = "least_requests"',
    'tls = { certificate = "a.pem" }, balance = "least_requests"',
    "gateway.lua:19: backends.orders.tls.key: expected the file of the key beside the "
      .. "certificate, got nothing" },
  { GATEWAY, 'balance = "least_requests"',
    'auth = { basic = { user = "a", password = "b" } }, balance = "least_requests"',
    'gateway.lua:19: backends.orders.auth.basic.user: unknown field "user"; did you mean '
      .. '"username"?',
    "gateway.lua:19: backends.orders.auth.basic.username: required field is missing "
      .. '(expected non-empty string, { env = "NAME" } or { file = "path" })' },
  { GATEWAY, "workers = 2",
    'workers = 2, dns = { servers = { "ns1.test" } }',
    'gateway.lua:5: dns.servers[1]: expected an address, or address:port, got "ns1.test"' },
  { GATEWAY, 'balance = "least_requests"',
    'balance = "hash", hash = { on = "header" }',
    "gateway.lua:19: backends.orders.hash.name: expected the name of the header, got nothing" },
  { GATEWAY, 'hosts = { "api.shop.test" }',
    'hosts = { "api.shop.test" }, compression = { codings = { "zstd" } }',
    'gateway.lua:26: sites[1].compression.codings[1]: expected "br" or "gzip", got "zstd"' },
  { GATEWAY, 'hosts = { "api.shop.test" }',
    'hosts = { "api.shop.test" }, compression = "gzip"',
    'gateway.lua:26: sites[1].compression: expected boolean or table, got "gzip"' },
  { GATEWAY, 'name = "shop",',
    'name = "",',
    'gateway.lua:4: name: expected non-empty string, got ""' },
  { GATEWAY, 'name = "shop",',
    'name = "shop", [1] = 3,',
    "gateway.lua:3: expected table, got a table that has an item without a name" },
  -- As other gateways have it.
  { GATEWAY, 'address = "127.0.0.1:18080"',
    'listen = "8080"',
    "gateway.lua:7: listeners[1].address: required field is missing (expected non-empty string)",
    'gateway.lua:7: listeners[1].listen: unknown field "listen"; did you mean "address"?' },
  { GATEWAY, '"127.0.0.1:18080"',
    '"8080"',
    "gateway.lua:7: listeners[1].address: expected IP:port, [IPv6]:port, :port (all "
      .. 'addresses) or unix:/path, got "8080"; did you mean ":8080"?' },
  { GATEWAY, 'hosts = { "api.shop.test" }',
    'server_name = "api.shop.test"',
    "gateway.lua:26: sites[1].hosts: required field is missing (expected list)",
    'gateway.lua:26: sites[1].server_name: unknown field "server_name"; did you mean "hosts"?' },
  { GATEWAY, '"api.shop.test"',
    '"_"',
    'gateway.lua:26: sites[1].hosts[1]: expected a host name without port, *.name, or *, got "_"; did you '
      .. 'mean "*"?' },
  { GATEWAY, '"api.shop.test"',
    '("a."):rep(128)',
    "gateway.lua:26: sites[1].hosts[1]: expected a host name without port, *.name, or *, got "
      .. '"' .. ("a."):rep(28) .. 'a..."' },
  { GATEWAY, 'path = "/*", backend = "sinkpool"',
    'path = "/*", proxy_pass = "http://127.0.0.1"',
    "gateway.lua:31: sites[1].routes[4]: a route has exactly one of apis, backend, redirect, "
      .. "reply; this one has none",
    'gateway.lua:31: sites[1].routes[4].proxy_pass: unknown field "proxy_pass"; did you mean "backend"?' },
  { GATEWAY, 'backend = "sinkpool" },\n      }',
    "reply = 404 },\n      }",
    'gateway.lua:31: sites[1].routes[4].reply: expected table with "status", "headers" or "body", got 404' },
  { GATEWAY, 'url = "http://127.0.0.1:9102", weight = 2',
    'url = "http://127.0.0.1:9102", max_fails = 2',
    'gateway.lua:18: backends.orders.targets[2].max_fails: unknown field "max_fails"; there is "url", '
      .. '"weight", "priority", "name" and "srv"' },
  { GATEWAY, "workers = 2",
    "workers = 2, gzip = true",
    'gateway.lua:5: gzip: unknown field "gzip"; did you mean "compression"?' },
  { ORDERS, "p.cors {",
    "p.key_auth {}, p.cors {",
    'apis/orders.lua:14: policies.inbound[3]: unknown policy "key_auth"; did you mean "subscription"?' },
  { ORDERS, "p.cors {",
    'p["cache-lookup"] {}, p.cors {',
    'apis/orders.lua:14: policies.inbound[3]: unknown policy "cache-lookup"; did you mean "cache"?' },
  { ORDERS, 'path = "/{id}"',
    'path = "/:id"',
    'apis/orders.lua:8: operations.get: ":id" is taken as it is; a parameter is written {id}',
    'apis/orders.lua:15: policies.inbound[4]: no path that policy "rewrite_uri" runs for has the parameter {id}',
    warns = true },
  { ORDERS, 'template = "/v2/orders/{id}"',
    'template = "/v2/orders/{id}" }, p.set_header { name = "A", value = "@(context.User.Id)"',
    "apis/orders.lua:15: policies.inbound[5].value: @(…) is taken as it is; here it is a function of ctx, or "
      .. "${…} in a text", warns = true },
  -- What could never be asked for, and what may not go out.
  { ORDERS, '"/external/orders"',
    '"/external/../orders"',
    'apis/orders.lua:4: paths[1]: expected a path without dot segments, got "/external/../orders"' },
  { ORDERS, '"/external/orders"',
    '"/external//orders"',
    'apis/orders.lua:4: paths[1]: expected a path without empty segments, got "/external//orders"' },
  { GATEWAY, "https://new.test",
    "https://new.test/\\r\\nX: y",
    "gateway.lua:30: sites[1].routes[3].redirect.to: expected a URL with its scheme, or an absolute path, got "
      .. [["https://new.test/\13\10X: y"]] },
  { GATEWAY, 'path = "/*", backend = "sinkpool"',
    'path = "/*", reply = { headers = { A = "b\\r\\nX: y" } }',
    "gateway.lua:31: sites[1].routes[4].reply.headers.A: expected a text without line ends and control "
      .. [[characters, got "b\13\10X: y"]] },
  { GATEWAY, 'path = "/*", backend = "sinkpool"',
    'path = "/*", reply = { headers = { ["Content-Length"] = "5" } }',
    "gateway.lua:31: sites[1].routes[4].reply.headers: expected fields other than Content-Length, which are "
      .. "the connection's own, got a table" },
  { ORDERS, 'name = "Server", exists_action = "delete"',
    'name = "Server", value = { "a", "b\\nX: y" }',
    "apis/orders.lua:18: policies.outbound[2].value: expected texts without line ends and control characters, "
      .. "got a list of 2" },
  { GATEWAY, "idle_timeout = 60",
    "streams = 2^32",
    "gateway.lua:16: limits.streams: expected integer >= 1, up to 2147483647, got 4294967296" },
  { ORDERS, "p.cors {",
    'p.set_method { value = "CONNECT" }, p.cors {',
    'apis/orders.lua:14: policies.inbound[3].value: expected a method that asks for no tunnel, got "CONNECT"' },
  -- Names without a value.
  { GATEWAY, '{ "api.shop.test" }',
    "{ api_host }",
    'gateway.lua:26: the name "api_host" has no value',
    "gateway.lua:26: sites[1].hosts: expected a list of at least 1, got an empty table" },
  { GATEWAY, '{ "10.0.0.0/8"',
    "{ office, '10.0.0.0/8'",
    'gateway.lua:11: the name "office" has no value',
    "gateway.lua:11: networks.internal: expected list, got a list whose item 1 is nil" },
  { ORDERS, "local p, base",
    "local p, basis",
    "apis/orders.lua:11: policies.inbound: expected list, got a list whose item 1 is nil",
    'apis/orders.lua:12: the name "base" has no value; write local base = require("moongate.policies").base',
    'apis/orders.lua:18: the name "base" has no value; write local base = require("moongate.policies").base',
    "apis/orders.lua:18: policies.outbound: expected list, got a list whose item 1 is nil" },
  { GATEWAY, 'audience = "api',
    'other = "{{audience}}/v2", audience = "api',
    "gateway.lua:13: named_values.other: expected a text without other named values, got one with {{audience}}" },
  -- What is raised, and schemas.
  { ORDERS, "\nreturn {",
    "\nerror({})\nreturn {",
    "apis/orders.lua: an error that is no text, but a table" },
  { ORDERS, "\nreturn {",
    "\nerror(setmetatable({}, { __tostring = function() error('no') end }))\nreturn {",
    "apis/orders.lua: an error that is no text, but a table" },
  { MINE, 'type = "string"',
    'type = "string", patern = "^a"',
    'policies/mine.lua: the schema of policy "mine" is not valid: tag: unknown keyword "patern"; did you '
      .. 'mean "pattern"?' },
  { MINE, 'type = "string"',
    'type = "string", pattern = "("',
    'policies/mine.lua: the schema of policy "mine" is not valid: tag: pattern is no Lua pattern: unfinished '
      .. "capture" },
  { MINE, "function M.inbound",
    "M.schema.properties.tag = M.schema\nfunction M.inbound",
    'policies/mine.lua: the schema of policy "mine" is not valid: it is more than 64 tables deep, or within itself' },
  { GATEWAY, 'p.check_header { name = "X-Plan", status = 403 }',
    'p.mine { tag = "" }',
    'gateway.lua:34: products.gold.policies.inbound[1]: policy "mine" refuses these options: tag is empty' },
  { MINE, "function M.inbound",
    "M.schema = 5\nfunction M.inbound",
    'policies/mine.lua: the schema of policy "mine" is not valid: a schema must be a table, and is a number' },
}

--- A source of `shop/` with one text exchanged.
local function mistaken(file, wrong, right)
  local source = directory.tree("spec/unit/lua/shop", { SHOP_KEY = "key-of-the-shop" })
  local read = source.read
  source.read = function(path)
    local text = path:find("^a%.") and "a certificate or its key" or read(path)
    if path ~= file then
      return text
    end
    local from, to = text:find(wrong, 1, true)
    assert(from, "shop/" .. file .. " has no " .. wrong)
    return text:sub(1, from - 1) .. right .. text:sub(to + 1)
  end
  return source
end

describe("a mistake in the configuration", function()
  it("is there to be made: the shop itself is without", function()
    local plan, errors = config.load(mistaken(GATEWAY, "return", "return"))
    assert(plan, errors and config.format_errors(errors))
    assert.same({}, plan.warnings)
  end)

  for _, row in ipairs(mistakes) do
    it(("of %s: %s"):format(row[1], row[3]:gsub("%s+", " ")), function()
      local plan, errors = config.load(mistaken(row[1], row[2], row[3]))
      assert.equal(row.warns or false, plan ~= nil)
      local said = config.format_errors(plan and plan.warnings or errors)
      assert.equal(table.concat(row, "\n", 4), said)
    end)
  end

  it("warns of files that look as if they were read, and are not", function()
    local source = mistaken(GATEWAY, "return", "return")
    source.paths = function()
      return { "apis/orders.lua", "apis/v1/orders.lua", "apis/my.orders.lua", "api/items.lua", "api/more.lua",
        "lib/deep/er.lua", "gateway.lua", "scripts/deploy.lua", "policies/mine.lua", "Policies/other.lua" }
    end
    local plan = assert(config.load(source))
    assert.equal(table.concat({
      'Policies/other.lua: the folder "Policies" is not read; did you mean "policies"?',
      'api/items.lua: the folder "api" is not read; did you mean "apis"?',
      "apis/my.orders.lua: is not read: APIs are the files right in apis/, named by letters, digits, '_' and '-'",
      "apis/v1/orders.lua: is not read: APIs are the files right in apis/, named by letters, digits, '_' and '-'",
    }, "\n"), config.format_errors(plan.warnings))
  end)

  it("warns of an operation that leads nowhere", function()
    local source = mistaken(ORDERS, ', backend = "orders"', "")
    local read = source.read
    source.read = function(path)
      local text, err = read(path)
      return text and text:gsub("function%(ctx%).-end,", ""), err
    end
    local plan = assert(config.load(source))
    assert.equal("apis/orders.lua:8: operations.get: neither it nor its API has a backend, and no policy "
      .. "chooses one or answers", (config.format_errors(plan.warnings):match("[^\n]*operations%.get:[^\n]*")))
  end)
end)
