-- SPDX-License-Identifier: Apache-2.0
--- Mistakes that only libraries see: in certificates, keys, databases, expressions. The others are in
--- `spec/unit/lua/config_mistakes_spec.lua`.
local moongate = require("moongate.test")

local CONFIG = [[
local p = require("moongate.policies")
return {
  listeners = {
    { name = "http", address = "127.0.0.1:0",
      tls = { certificates = { { certificate = "a.pem", key = "a.key" } } } },
  },
  geoip = { country = nil },
  sites = { { hosts = { "*" }, routes = { { path = "/*", reply = { status = 204 }, policies = { inbound = {
    p.base,
  } } } } } },
}
]]

local AT = "gateway.lua:9: sites[1].routes[1].policies.inbound[2]"

-- What is exchanged for what, and what is said.
local mistakes = {
  { '"a.key"', '"b.key"', "gateway.lua:4: listeners[1].tls: DIR/b.key: is not the key of DIR/a.pem" },
  { '"a.pem"', '"gateway.lua"',
    "gateway.lua:4: listeners[1].tls: DIR/gateway.lua: is no PEM certificate chain (no start line)" },
  { '"a.key"', '"locked.key"',
    "gateway.lua:4: listeners[1].tls: DIR/locked.key: is no unencrypted PEM private key (bad password read)" },
  { '"a.key"', '"/dev"', "gateway.lua:5: listeners[1].tls.certificates[1].key: expected a file that can be read "
    .. '(Is a directory), got "/dev"' },
  { "country = nil", 'country = "nope.mmdb"',
    'gateway.lua:7: geoip.country: expected an MMDB file, got "nope.mmdb": No such file or directory' },
  { "country = nil", 'country = "a.pem"', 'gateway.lua:7: geoip.country: expected an MMDB file, got "a.pem": '
    .. "The MaxMind DB file contains invalid metadata" },
  { "p.base,", 'p.base, p.geo_filter { deny = { "KP" } },', AT .. ': policy "geo_filter" refuses these options: '
    .. "geoip of the configuration must name a database" },
  { "p.base,", 'p.base, p.bot_check { rules = { { name = "x", action = "deny", patterns = { "(" } } } },', AT
    .. ': policy "bot_check" refuses these options: rules[1].patterns: item 1: missing closing parenthesis '
    .. "at byte 2" },
  { "p.base,", 'p.base, p.ip_filter { allow = { "10.0.0.0-x" } },', AT .. ': policy "ip_filter" refuses these '
    .. 'options: "10.0.0.0-x" is no network and no name from networks' },
  { "p.base,", 'p.base, p.waf { ruleset = "nope.conf" },', AT .. ': policy "waf" refuses these options: cannot '
    .. "include 'DIR/nope.conf': no such file" },
  { "p.base,", 'p.base, p.validate_jwt { algorithms = { "none" } },', AT .. ".algorithms[1]: expected an "
    .. 'algorithm such as "RS256", "ES256", "EdDSA" or "HS256", got "none"' },
  { "p.base,", 'p.base, p.validate_jwt { algorithms = { "HS256" } },', AT .. ': policy "validate_jwt" refuses '
    .. "these options: one of keys, jwks_uri and openid_config is needed" },
  { "p.base,", 'p.base, p.validate_jwt { algorithms = { "HS256" }, keys = { { kty = "oct", value = "short" } } },',
    AT .. ': policy "validate_jwt" refuses these options: keys[1]: it is too short for any algorithm' },
  { "p.base,", "p.base, p.rate_limit { calls = 10, period = '1m' },", AT .. ".period: expected number from 0.001 "
    .. 'to 34560000 (seconds), got "1m"' },
}

describe("a mistake that a library finds", function()
  local files = {}

  setup(function()
    local dir = os.tmpname()
    os.remove(dir)
    assert(os.execute(([[mkdir %s && cd %s && exec 2>/dev/null
      for name in a b; do openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -subj /CN=t -days 2 -keyout $name.key -out $name.pem; done
      openssl ec -in a.key -aes128 -passout pass:x -out locked.key]]):format(dir, dir)) == 0)
    for _, name in ipairs({ "a.pem", "a.key", "b.key", "locked.key" }) do
      local file = assert(io.open(dir .. "/" .. name))
      files[name] = file:read("*a")
      file:close()
    end
    os.execute("rm -r " .. dir)
  end)

  local function said(wrong, right)
    local from, to = CONFIG:find(wrong, 1, true)
    files["gateway.lua"] = CONFIG:sub(1, from - 1) .. right .. CONFIG:sub(to + 1)
    local ok, gw = pcall(moongate.gateway, { files = files })
    if ok then
      gw:close()
      return ""
    end
    return (gw:gsub("^.-does not start:\n", ""):gsub("/tmp/[^/]+/", "DIR/"):gsub("%s+$", ""))
  end

  it("is there to be made: the configuration itself is without", function()
    assert.equal("", said("p.base,", "p.base,"))
  end)

  for _, row in ipairs(mistakes) do
    it("is told with its place: " .. row[2], function()
      assert.equal(row[3], said(row[1], row[2]))
    end)
  end
end)
