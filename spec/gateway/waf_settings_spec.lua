-- SPDX-License-Identifier: Apache-2.0
-- luacheck: no max line length (a rule a line)
--- What p.waf's settings do to the rules: paranoia, thresholds, limits, exclusions in every scope, places.
local json = require("moongate.json")
local moongate = require("moongate.test")

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

-- What the gateways of a test leave; `finally` would keep only its last.
local open, logs = {}, {}

after_each(function()
  for i, gw in ipairs(open) do
    gw:close()
    open[i] = nil
  end
  for i, log in ipairs(logs) do
    os.remove(log)
    logs[i] = nil
  end
end)

--- A gateway whose p.waf has these options, with a log; gives it, and a function for the rules that the
--- last request fired.
local function gateway(options, more)
  local log = os.tmpname()
  logs[#logs + 1] = log
  more = more or {}
  local files = { ["gateway.lua"] = ([[
local p = require("moongate.policies")
return {
  name = "spec", %s
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  trusted_proxies = { "127.0.0.1" },
  policies = { inbound = { p.waf { audit_log = { file = %q }, %s } } },
  sites = { { name = "all", hosts = { "*" }, %s
    routes = { { path = "/r/*", reply = { status = 200, body = "inside" }, %s }, { path = "/*", %s } } } },
}]]):format(more.top or "", log, options, more.site or "", more.route or "",
    more.rest or 'reply = { status = 200, body = "inside" }') }
  for name, text in pairs(more.files or {}) do
    files[name] = text
  end
  local gw = moongate.gateway({ files = files, backends = more.backends })
  open[#open + 1] = gw
  return gw, function()
    local ids = {}
    local last = read(log):match("([^\n]+)\n$")
    for _, rule in ipairs(last and json.decode(last).rules or {}) do
      ids[rule.id] = true
    end
    return ids, last and json.decode(last)
  end
end

local RULES = [[ruleset = "none", directives = [=[
SecRule ARGS "@rx evil" "id:1001,phase:2,deny,tag:'app/one',tag:'kind/a'"
SecRule ARGS|REQUEST_HEADERS:X-A|REQUEST_COOKIES "@rx (?:evil|bad)" "id:1002,phase:2,deny,tag:'app/two',tag:'kind/a'"
SecRule XML:/* "@rx evil" "id:1003,phase:2,deny"
]=],]]

local function waf(options)
  return ("policies = { inbound = { p.waf { %s } } },"):format(options)
end

local has_crs = io.open("/usr/share/modsecurity-crs/rules/REQUEST-901-INITIALIZATION.conf")
if has_crs then
  has_crs:close()
end

describe("levels and thresholds of the Core Rule Set", function()
  if not has_crs then
    return pending("modsecurity-crs is not installed")
  end
  local CRS = 'ruleset = "crs", profile = "crs",'
  local SECOND_LEVEL = "/?a=%7f" -- 920271 stands at the second level

  it("refuse by the rules of `paranoia`, and log those up to `detection_paranoia`", function()
    local gw = gateway(CRS)
    assert.equal(200, gw:get(SECOND_LEVEL).status)
    local fired
    gw, fired = gateway(CRS .. "detection_paranoia = 2")
    assert.equal(200, gw:get(SECOND_LEVEL).status)
    assert.is_true(fired()[920271])
    gw, fired = gateway(CRS .. "paranoia = 2")
    assert.equal(403, gw:get(SECOND_LEVEL).status)
    assert.is_true(fired()[949110])
  end)

  it("refuse from `inbound_threshold` on, in `prevention` only", function()
    local attack = "/?a=%3Cscript%3Ealert(1)%3C/script%3E"
    assert.equal(403, (gateway(CRS)):get(attack).status)
    assert.equal(200, (gateway(CRS .. "inbound_threshold = 1000")):get(attack).status)
    local gw, fired = gateway(CRS .. 'mode = "detection"')
    assert.equal(200, gw:get(attack).status)
    local ids, event = fired()
    assert.is_true(ids[941100])
    assert.equal("detection", event.mode)
    assert.is_true(event.score >= 5)
  end)

  it("refuse answers from `outbound_threshold` on, where answers are inspected", function()
    local function asked(options)
      local gw, fired = gateway(CRS .. options, {
        top = 'backends = { b = { targets = { "http://127.0.0.1:1" } } },', rest = 'backend = "b"',
        backends = { b = function()
          return 200, { ["Content-Type"] = "text/html" }, "<p>ORA-01756: quoted string not properly terminated</p>"
        end } })
      return gw:get("/").status, (fired())
    end
    assert.equal(200, (asked("")))
    local status, ids = asked("inspect_response = true")
    assert.equal(403, status)
    assert.is_true(ids[951120])
    assert.equal(200, (asked("inspect_response = true, outbound_threshold = 1000")))
  end)

  it("take methods that `allowed_methods` names", function()
    assert.equal(403, (gateway(CRS)):request({ method = "PUT", path = "/" }).status)
    assert.equal(200, (gateway(CRS .. 'allowed_methods = { "GET", "PUT" }')):request({ method = "PUT", path = "/" }).status)
  end)
end)

describe("exclusions", function()
  local function ask(gw, path, options)
    return gw:get(path, options).status
  end

  it("take out rules by id, by range and by tag", function()
    for _, one in ipairs({ "rules = { 1001, 1002 }", 'rules = { "1000-1002" }', 'tags = { "^kind/" }',
      'rules = { 1001 }, tags = { "two$" }' }) do
      assert.equal(200, ask(gateway(RULES .. ("exclusions = { { %s } }"):format(one)), "/?a=evil"), one)
    end
    assert.equal(403, ask(gateway(RULES .. "exclusions = { { rules = { 1001 } } }"), "/?a=evil"))
  end)

  it("take out variables by name, by beginning, by pattern, or all of a kind", function()
    for variable, outcome in pairs({
      ["ARGS:note"] = { note = 200, notes = 403, other = 403 },
      ["ARGS:/^note/"] = { note = 200, notes = 200, other = 403 },
      ["ARGS:/(?:s|r)$/"] = { note = 403, notes = 200, other = 200 },
      ["ARGS"] = { note = 200, notes = 200, other = 200 },
    }) do
      local gw = gateway(RULES .. ('exclusions = { { variables = { "%s" } } }'):format(variable))
      for name, status in pairs(outcome) do
        assert.equal(status, ask(gw, "/?" .. name .. "=evil"), variable .. " " .. name)
      end
      assert.equal(403, ask(gw, "/", { headers = { ["X-A"] = "bad" } }))
      assert.equal(403, ask(gw, "/", { headers = { Cookie = "note=bad" } }))
    end
  end)

  it("take out members of JSON by their path, for the rules that are named only", function()
    local gw = gateway(RULES .. [[exclusions = { { rules = { 1001 }, variables = { "ARGS:order.note" } },
      { tags = { "app/two" }, variables = { "ARGS:/^order\\.(?:note|lines)\\b/" } } }]])
    local function post(body)
      return gw:post("/", { body = body, headers = { ["Content-Type"] = "application/json" } }).status
    end
    assert.equal(200, post('{"order":{"note":"evil"}}'))
    assert.equal(200, post('{"order":{"lines":[{"text":"bad"}]}}'))
    assert.equal(403, post('{"order":{"lines":[{"text":"evil"}]}}')) -- 1001 still looks there
    assert.equal(403, post('{"note":"evil"}'))
  end)

  it("hold for the scope that says them: site, route, API, operation", function()
    local exclusion = 'exclusions = { { variables = { "ARGS:note" } } }'
    local gw = gateway(RULES, { site = waf(exclusion) })
    assert.same({ 200, 200 }, { ask(gw, "/r/?note=evil"), ask(gw, "/?note=evil") })
    gw = gateway(RULES, { route = waf(exclusion) })
    assert.same({ 200, 403 }, { ask(gw, "/r/?note=evil"), ask(gw, "/?note=evil") })
    local api = [[local p = require("moongate.policies")
return { name = "orders", paths = { "/v1" }, backend = "b", %s
  operations = { a = { method = "GET", path = "/a", %s }, b = { method = "GET", path = "/b" } } }]]
    local function with(text)
      return { rest = "apis = true", files = { ["apis/orders.lua"] = text },
        top = 'backends = { b = { targets = { "http://127.0.0.1:1" } } },', backends = { b = function() return 200 end } }
    end
    gw = gateway(RULES, with(api:format(waf(exclusion), "")))
    assert.same({ 200, 200 }, { ask(gw, "/v1/a?note=evil"), ask(gw, "/v1/b?note=evil") })
    gw = gateway(RULES, with(api:format("", waf(exclusion))))
    assert.same({ 200, 403, 403 }, { ask(gw, "/v1/a?note=evil"), ask(gw, "/v1/b?note=evil"), ask(gw, "/v1/a?a=evil") })
  end)
end)

describe("custom rules by place", function()
  it("know countries, and the unknown as ZZ", function()
    local function statuses(condition)
      local gw = gateway(([[ruleset = "none", custom_rules = { { name = "place", priority = 1, action = "block",
        conditions = { { variable = "country", operator = "equal", %s } } } }]]):format(condition),
        { top = 'geoip = { country = "geo/country.mmdb" },',
          files = { ["geo/country.mmdb"] = read("examples/protect-apis/geo/country.mmdb") } })
      local out = {}
      for i, ip in ipairs({ "192.0.2.1", "198.51.100.1", "10.0.0.1" }) do -- US, DE, of no country
        out[i] = gw:get("/", { headers = { ["X-Forwarded-For"] = ip } }).status
      end
      return out
    end
    assert.same({ 200, 403, 200 }, statuses('values = { "DE", "NL" }'))
    assert.same({ 403, 200, 403 }, statuses('values = { "DE", "NL" }, negate = true'))
    assert.same({ 200, 200, 403 }, statuses('values = { "ZZ" }'))
  end)
end)

describe("@geoLookup", function()
  local RULE = [=[SecRule REQUEST_HEADERS:X-Who "@geoLookup" "id:1,phase:1,deny,chain"
SecRule GEO:COUNTRY_CODE "@streq DE" ""]=]
  local FILE = { ["geo/country.mmdb"] = read("examples/protect-apis/geo/country.mmdb") }

  local function statuses(directives, top, files)
    local gw = gateway(('ruleset = "none", directives = [=[%s]=]'):format(directives), { top = top, files = files })
    local out = {}
    for i, ip in ipairs({ "192.0.2.1", "198.51.100.1", "10.0.0.1", "nobody" }) do -- US, DE, of no country, no address
      out[i] = gw:get("/", { headers = { ["X-Who"] = ip } }).status
    end
    return out
  end

  it("looks in the database that SecGeoLookupDb names", function()
    assert.same({ 200, 403, 200, 200 }, statuses("SecGeoLookupDb geo/country.mmdb\n" .. RULE, "", FILE))
  end)

  it("looks in the gateway's own where the rules name none, and nowhere where there is none", function()
    assert.same({ 200, 403, 200, 200 }, statuses(RULE, 'geoip = { country = "geo/country.mmdb" },', FILE))
    assert.same({ 200, 200, 200, 200 }, statuses(RULE, ""))
  end)

  it("is refused at load with a database that is none, and with what GEO does not have", function()
    for want, directives in pairs({
      ["directives:1: SecGeoLookupDb wants an MMDB file, got nowhere.dat"] = "SecGeoLookupDb nowhere.dat\n" .. RULE,
      ["GEO has COUNTRY_CODE, COUNTRY_CONTINENT and CITY, not 'LATITUDE'"] = RULE:gsub("COUNTRY_CODE", "LATITUDE"),
    }) do
      local ok, err = pcall(statuses, directives, "")
      assert.is_false(ok)
      assert.truthy(tostring(err):find(want, 1, true), err)
    end
  end)
end)

describe("limits of p.waf", function()
  it("leave bodies alone where they are not to be inspected, and rules on headers in force", function()
    local gw = gateway(RULES .. "inspect_body = false,"
      .. 'custom_rules = { { name = "note", priority = 1, action = "log" } }')
    local body = { body = '{"a":"evil"}', headers = { ["Content-Type"] = "application/json" } }
    assert.equal(200, gw:post("/", body).status)
    assert.equal(403, gw:post("/?a=evil", body).status)
    gw = gateway(RULES .. 'custom_rules = { { name = "note", priority = 1, action = "log" } }')
    assert.equal(403, gw:post("/", body).status)
    assert.equal(200, gw:post("/", { body = "{}", headers = { ["Content-Type"] = "application/json" } }).status)
  end)

  it("refuse a body, or look at its beginning, and say why", function()
    local form = { headers = { ["Content-Type"] = "application/x-www-form-urlencoded" }, body = "a=" .. ("x"):rep(200) .. "&b=evil" }
    local gw, fired = gateway(RULES .. "max_body_bytes = 100")
    assert.equal(413, gw:post("/", form).status)
    local _, event = fired()
    assert.equal("request body is larger than SecRequestBodyLimit", event.reason)
    assert.equal(200, (gateway(RULES .. 'max_body_bytes = 100, over_limit = "inspect_part"')):post("/", form).status)
    assert.equal(403, (gateway(RULES .. 'max_body_bytes = 1000, over_limit = "inspect_part"')):post("/", form).status)
  end)
end)
