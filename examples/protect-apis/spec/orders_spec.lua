-- SPDX-License-Identifier: Apache-2.0
--- The example as its owner would test it: the real runtime, with backends played by functions.
local moongate = require("moongate.test")

local HOST = "api.contoso.test"
local GOLD = "demo-gold-primary"
-- Issued for ada, with orders.write, until 2100; signed with the key in gateway.lua.
local TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
  .. ".eyJpc3MiOiJodHRwczovL2lkLmNvbnRvc28udGVzdCIsImF1ZCI6ImFwaTovL29yZGVycyIsInN1YiI6"
  .. "ImFkYSIsInNjb3BlIjoib3JkZXJzLnJlYWQgb3JkZXJzLndyaXRlIiwiZXhwIjo0MTAyNDQ0ODAwfQ"
  .. ".PKBVn_YpuiCM7EgEQzL8OEiWrOQ6mf3M6Ej2izRoGe0"

local function played(request)
  return 200, { ["Content-Type"] = "application/json", ["X-Path"] = request.path,
    ["Location"] = request.method == "POST" and "/v2/orders/43" or nil,
    ["X-Tenant-Seen"] = request.headers["x-contoso-tenant"] or "none" }, "{}"
end

local function headers(more)
  local all = { ["Ocp-Apim-Subscription-Key"] = GOLD }
  for name, value in pairs(more or {}) do
    all[name] = value
  end
  return all
end

describe("orders", function()
  local gw

  before_each(function()
    gw = moongate.gateway { dir = "..", backends = { orders = played } }
  end)

  after_each(function()
    gw:close()
  end)

  it("answers 401 to callers without a subscription key", function()
    assert.equal(401, gw:get("/external/orders", { host = HOST }).status)
  end)

  it("answers 401 to a key of a product without orders", function()
    local more = { ["Ocp-Apim-Subscription-Key"] = "demo-starter-primary" }
    assert.equal(401, gw:get("/external/orders", { host = HOST, headers = more }).status)
  end)

  it("reaches the backend under its own path, with either key", function()
    local response = gw:get("/external/orders/42", { host = HOST, headers = headers() })
    assert.equal(200, response.status)
    assert.equal("/v2/orders/42", response.headers["x-path"])
    local second = { ["Ocp-Apim-Subscription-Key"] = "demo-gold-secondary" }
    assert.equal(200, gw:get("/external/orders/42", { host = HOST, headers = second }).status)
  end)

  it("tells the backend the tenant, whatever the client says", function()
    local more = headers { ["X-Contoso-Tenant"] = "t-666" }
    local response = gw:get("/external/orders/42", { host = HOST, headers = more })
    assert.equal("t-200", response.headers["x-tenant-seen"])
    assert.equal("t-200", response.headers["x-contoso-tenant"])
  end)

  it("answers 401 to an order without a token, and lets one with a token through", function()
    local body = '{"item":"lamp"}'
    local refused = gw:post("/external/orders", { host = HOST, headers = headers(), body = body })
    assert.equal(401, refused.status)
    local more = headers { Authorization = "Bearer " .. TOKEN }
    local taken = gw:post("/external/orders", { host = HOST, headers = more, body = body })
    assert.equal(200, taken.status)
    assert.equal("/external/orders/43", taken.headers.location)
  end)

  it("answers 429 to the sixth order of a minute, and recovers", function()
    local more = headers { Authorization = "Bearer " .. TOKEN }
    local call = { host = HOST, headers = more, body = "{}" }
    for _ = 1, 5 do
      assert.equal(200, gw:post("/external/orders", call).status)
    end
    local refused = gw:post("/external/orders", call)
    assert.equal(429, refused.status)
    assert.truthy(refused.headers["retry-after"])
    gw:advance(60)
    assert.equal(200, gw:post("/external/orders", call).status)
  end)
end)
