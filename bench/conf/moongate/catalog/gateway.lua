-- SPDX-License-Identifier: Apache-2.0
--- A policy a route, each beside the route without it: what the policy alone costs.
local p = require("moongate.policies")

local many = 1000000000

local schema = {
  type = "object", required = { "id", "customer", "lines", "total" }, additionalProperties = false,
  properties = {
    id = { type = "string", pattern = "^o-[0-9]+$" },
    customer = { type = "object", required = { "name", "email" }, properties = {
      name = { type = "string", minLength = 1, maxLength = 100 },
      email = { type = "string", maxLength = 200 },
      country = { enum = { "DE", "FR", "NL" } } } },
    lines = { type = "array", minItems = 1, maxItems = 50, items = {
      type = "object", required = { "sku", "quantity", "price" }, properties = {
        sku = { type = "string" }, title = { type = "string" },
        quantity = { type = "integer", minimum = 1 }, price = { type = "number", minimum = 0 } } } },
    note = { type = { "string", "null" } },
    total = { type = "number", minimum = 0 },
  },
}

local function route(path, ...)
  return { path = path, backend = "origin", policies = { inbound = { ... } } }
end

local function limit(mode)
  return p.rate_limit { calls = many, period = 60, mode = mode, algorithm = "sliding_window",
    key = "${ctx.request.headers['X-Client']}", headers = "none" }
end

local function token(algorithm, key)
  return p.validate_jwt { issuers = { "https://id.contoso.test" }, audiences = { "api://orders" },
    algorithms = { algorithm }, keys = { key }, required_claims = { scope = "orders.read" } }
end

local function read(ctx)
  ctx.request:body()
end

return {
  name = "bench",
  workers = 1,
  access_log = false,
  listeners = { { name = "in", address = "127.0.0.1:@PORT@" } },
  redis = { url = "unix:@REDIS@" },
  backends = {
    origin = {
      targets = { "http://127.0.0.1:@ORIGIN@" },
      keepalive = { idle = 2048, requests = 0 },
    },
  },
  sites = { { hosts = { "*" }, routes = {
    route("/local", limit("local")),
    route("/shared", limit("shared")),
    route("/exact", limit("exact")),
    route("/read", read),
    route("/schema", p.validate_content { schema = schema }),
    route("/hs256", token("HS256", { kty = "oct", value = "bench-signing-key-0123456789abcdef" })),
    route("/rs256", token("RS256", { pem = [[@RSA@]] })),
    { path = "/*", backend = "origin" },
  } } },
}
