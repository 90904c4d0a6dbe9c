-- SPDX-License-Identifier: Apache-2.0
--- Who reaches what.
local moongate = require("moongate.test")

local HOST = "api.contoso.test"
local OUTSIDE = "198.51.100.7"
local KEY = "demo-starter-primary"

local function played()
  return 200, {}, "ok"
end

describe("sites", function()
  local gw

  local function get(path, client, host)
    local headers = { ["Ocp-Apim-Subscription-Key"] = KEY, ["X-Forwarded-For"] = client }
    return gw:get(path, { host = host or HOST, headers = headers })
  end

  before_each(function()
    gw = moongate.gateway { dir = "..", backends = { orders = played } }
  end)

  after_each(function()
    gw:close()
  end)

  it("serve /external/* to everybody with a key", function()
    assert.equal(200, get("/external/catalog/items", OUTSIDE).status)
  end)

  it("serve /internal/* to the internal networks, and the sinkpool to others", function()
    assert.equal(200, get("/internal/catalog/items", "10.1.2.3").status)
    assert.equal(404, get("/internal/catalog/items", OUTSIDE).status)
  end)

  it("answer 404 from the sinkpool to any other path", function()
    assert.equal(404, get("/wp-login.php", OUTSIDE).status)
  end)

  it("redirect the portal", function()
    local response = get("/start", OUTSIDE, "portal.contoso.test")
    assert.equal(302, response.status)
    assert.equal("https://developers.contoso.test/start", response.headers["location"])
  end)

  it("refuse denied countries and tools that look for holes", function()
    assert.equal(403, get("/external/catalog/items", "203.0.113.9").status)
    local headers = { ["Ocp-Apim-Subscription-Key"] = KEY, ["User-Agent"] = "sqlmap/1.7" }
    local response = gw:get("/external/catalog/items", { host = HOST, headers = headers })
    assert.equal(403, response.status)
  end)

  it("refuse attacks, whoever sends them", function()
    local response = get("/external/catalog/items?q=1'%20UNION%20SELECT%20password%20FROM%20users--", OUTSIDE)
    assert.equal(403, response.status)
    assert.equal("WafBlocked", require("moongate.json").decode(response.body).reason)
    assert.equal(200, get("/external/catalog/items?q=union%20square", OUTSIDE).status)
  end)

  it("limit the starter product to ten calls a minute", function()
    for _ = 1, 10 do
      assert.equal(200, get("/external/catalog/items", OUTSIDE).status)
    end
    assert.equal(429, get("/external/catalog/items", OUTSIDE).status)
    gw:advance(60)
    assert.equal(200, get("/external/catalog/items", OUTSIDE).status)
  end)
end)
