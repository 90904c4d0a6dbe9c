-- SPDX-License-Identifier: Apache-2.0
local config = require("moongate.config")
local directory = require("spec.unit.lua.directory")
local docs = require("moongate.docs")
local explain = require("moongate.explain")

local ENV = { ORDERS_KEY = "sekritvalue", S1_PRIMARY = "primary-key", S1_SECONDARY = "secondary-key" }

describe("explain", function()
  local plan = assert(config.load(directory.tree("spec/unit/lua/seed", ENV)))

  it("prints route, operation and effective policies with their places", function()
    local text, details = explain(plan, "GET", "https://api.contoso.test/external/orders/7?x=1")
    assert.truthy(text:find("route      /external/*  gateway.lua:", 1, true), text)
    assert.truthy(text:find("operation  get  GET /external/orders/{id}  apis/orders.lua:8", 1, true))
    assert.truthy(text:find('params     id = "7"', 1, true))
    assert.truthy(text:find("with a key of product gold", 1, true))
    assert.equal("check_header", details.policies[1].policy)
    assert.equal("subscription", details.policies[2].policy)
    assert.is_nil(text:find("primary-key", 1, true))
  end)

  it("knows networks, redirects and what has no route", function()
    local _, outside = explain(plan, "GET", "https://api.contoso.test/internal/orders/7")
    assert.equal("sinkpool", outside.backend)
    local _, inside = explain(plan, "GET", "https://api.contoso.test/internal/orders/7",
      { networks = { "internal" } })
    assert.equal("orders", inside.backend)
    local text = explain(plan, "GET", "https://portal.contoso.test/")
    assert.truthy(text:find("redirect 302", 1, true))
    local _, nowhere = explain(plan, "GET", "https://elsewhere.test/")
    assert.equal(404, nowhere.status)
    assert.is_nil((explain(plan, "GET", "https://api.contoso.test/%2f")))
    assert.is_nil((explain(plan, "GET", "no url")))
  end)

  it("refuses what the gateway refuses for its form", function()
    for _, row in ipairs({
      { "GET", "ftp://a.test/", "expected a URL like https://host/path" },
      { "GET", "http://u@a.test/", "no host that a request may name" },
      { "GET", "http://a.test:0/", "no host that a request may name" },
      { "GET", "http://a.test:65536/", "no host that a request may name" },
      { "GET", "http://*/", "no host that a request may name" },
      { "G T", "http://a.test/", "is no method" },
      { "", "http://a.test/", "is no method" },
      { "GET", "http://a.test/#x", "a request has no fragment" },
      { "GET", "http://a.test/a b", "a byte that requests must escape" },
      { "GET", "http://a.test/?ä", "a byte that requests must escape" },
      { "GET", "http://a.test/%252f", "ambiguous" },
    }) do
      local text, why = explain(plan, row[1], row[2])
      assert.is_nil(text, row[2])
      assert.truthy(why:find(row[3], 1, true), why)
    end
    assert.truthy((explain(plan, "GET", "http://[::1]:80/")))
  end)

  it("takes the listener from the URL: by its port, else by its scheme", function()
    local own = assert(config.load(directory.source({ ["gateway.lua"] = [[return {
      listeners = { { name = "http", address = ":8080" },
        { name = "https", address = ":8443", tls = { certificates = { { development = true } } } } },
      sites = {
        { name = "plain", hosts = { "a.test" }, listeners = { "http" },
          routes = { { path = "/*", reply = { status = 200 } } } },
        { name = "safe", hosts = { "a.test" }, listeners = { "https" },
          routes = { { path = "/*", reply = { status = 200 } } } },
      },
    }]] })))
    for url, site in pairs({ ["http://a.test/"] = "plain", ["https://a.test/"] = "safe",
      ["http://a.test:8443/"] = "safe", ["https://a.test:9443/"] = "safe", ["http://a.test:8080/"] = "plain" })
    do
      local _, details = explain(own, "GET", url)
      assert.equal(site, details.route.site, url)
    end
  end)
end)

describe("the reference", function()
  it("describes every field of the configuration", function()
    local function walk(def, path)
      for name, field in pairs(def.properties or {}) do
        assert.is_string(field.description, path .. "." .. name)
        walk(field, path .. "." .. name)
      end
      for _, inner in ipairs({ def.items, type(def.additionalProperties) == "table"
        and def.additionalProperties or nil })
      do
        walk(inner, path)
      end
    end
    walk(require("moongate.config.gateway_schema"), "gateway")
    walk(require("moongate.config.api_schema"), "api")
    local text = docs.configuration()
    assert.truthy(text:find("`backends.<name>.health`", 1, true))
    assert.truthy(text:find("| `session_tickets` | boolean | `true` |", 1, true))
  end)

  it("describes policies", function()
    local text = docs.policies({ cors = require("policies.cors") })
    assert.truthy(text:find("## `cors`", 1, true))
    assert.truthy(text:find("Stands in: `inbound`; acts in `outbound`, `on_error` too.", 1, true))
    assert.truthy(text:find("| `origins` | list of", 1, true))
  end)
end)
