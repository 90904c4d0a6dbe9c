-- SPDX-License-Identifier: Apache-2.0
local host = require("spec.plugins.host")
host("json")

local function reason(conf, geo)
  local policy, self = host.policy("geo_filter", conf)
  local ctx = host.ctx()
  ctx.geo = geo
  local r = policy.inbound(self, ctx)
  return r and r.refuse.reason, r and r.status
end

describe("geo_filter", function()
  it("refuses what is denied, and what is not allowed", function()
    assert.equal("CountryBlocked", (reason({ deny = { "KP" } }, { country = "KP" })))
    assert.is_nil((reason({ deny = { "kp" } }, { country = "DE" })))
    assert.equal("CountryBlocked", (reason({ deny = { "kp" } }, { country = "KP" })))
    assert.is_nil((reason({ allow = { "DE", "FR" } }, { country = "FR" })))
    assert.equal("CountryNotAllowed", (reason({ allow = { "DE" } }, { country = "FR" })))
    assert.equal("CountryBlocked", (reason({ allow = { "DE" }, deny = { "DE" } },
      { country = "DE" })))
    assert.same({ "CountryBlocked", 451 }, { reason({ deny = { "KP" }, status = 451 },
      { country = "KP" }) })
  end)

  it("knows operators by their AS number", function()
    assert.equal("CountryBlocked", (reason({ deny = { "AS64496" } }, { country = "DE",
      asn = 64496 })))
    assert.equal("CountryBlocked", (reason({ deny = { 64496 } }, { asn = 64496 })))
    assert.is_nil((reason({ allow = { "as64496" } }, { asn = 64496 })))
    assert.is_nil((reason({ allow = { "DE", "AS64496" } }, { country = "FR", asn = 64496 })))
  end)

  it("knows continents, and the unknown as ZZ", function()
    local fr, us = { country = "FR", continent = "EU" }, { country = "US", continent = "NA" }
    assert.is_nil((reason({ allow = { "continent:EU" } }, fr)))
    assert.equal("CountryNotAllowed", (reason({ allow = { "continent:eu" } }, us)))
    assert.equal("CountryBlocked", (reason({ deny = { "continent:NA" } }, us)))
    assert.is_nil((reason({ deny = { "NA" } }, us))) -- Namibia
    assert.is_nil((reason({ allow = { "FR", "ZZ" } }, nil)))
    assert.equal("CountryBlocked", (reason({ deny = { "ZZ" } }, {})))
    assert.has_error(function() reason({ deny = { "continent:XX" } }) end)
  end)

  it("decides about the unknown on its own", function()
    assert.is_nil((reason({ deny = { "KP" } }, nil)))
    assert.equal("CountryUnknown", (reason({ allow = { "DE" } }, nil)))
    assert.equal("CountryUnknown", (reason({ deny = { "KP" }, unknown = "deny" }, {})))
    assert.is_nil((reason({ allow = { "DE" }, unknown = "allow" }, { asn = 5 })))
  end)

  it("says at load what is wrong", function()
    assert.has_error(function() reason({}) end, "allow or deny is needed")
    assert.has_error(function() reason({ deny = { "Germany" } }) end)
    assert.has_error(function() host.policy("geo_filter", { deny = { "KP" } }, { plan = {} }) end,
      "geoip of the configuration must name a database")
    assert.has_error(function()
      host.policy("geo_filter", { deny = { "AS1" } }, { plan = { geoip = { country = "c" } } })
    end, "geoip.asn of the configuration must name a database, as operators are listed")
  end)
end)
