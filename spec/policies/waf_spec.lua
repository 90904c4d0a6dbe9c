-- SPDX-License-Identifier: Apache-2.0
-- luacheck: no max line length (a case a line)
local host = require("spec.plugins.host")
host("waf")

-- What custom rules need of the gateway at run time is for spec/gateway/waf_spec.lua.
for _, name in ipairs({ "clock", "counters", "crypto", "json" }) do
  package.preload["moongate." .. name] = package.preload["moongate." .. name] or function()
    return {}
  end
end

local function prepare(conf)
  local ok, result = pcall(function()
    local _, self = host.policy("waf", conf)
    return self
  end)
  return ok and result or nil, not ok and result or nil
end

local function rule(conditions, parts)
  local r = { name = "r", priority = 1, action = "block", conditions = conditions }
  for k, v in pairs(parts or {}) do
    r[k] = v
  end
  return { ruleset = "none", custom_rules = { r } }
end

describe("waf", function()
  it("compiles custom rules of every operator", function()
    for operator, value in pairs({
      any = false, equal = "a\"b\\c", contains = "x y", begins_with = "/admin", ends_with = ".php",
      regex = "^a|b$", ip_match = "10.0.0.0/8", less_than = "5", greater_or_equal = "7",
    }) do
      local self, err = prepare(rule({
        { variable = "request_headers", name = "X-A", operator = operator,
          values = value and { value } or nil, transforms = { "lowercase", "url_decode" } },
        { variable = "country", operator = "equal", values = { "DE" }, negate = true },
      }))
      assert.is_nil(err)
      assert.equal(6, self.steps[1].guard:info().rules)
    end
  end)

  local bad = {
    { "an operator without values", rule({ { variable = "args", operator = "equal" } }), "needs values" },
    { "a pattern that is none", rule({ { variable = "args", operator = "regex", values = { "(" } } }),
      'rule "r": @rx: pattern' },
    { "a country that none has", rule({ { variable = "country", operator = "equal", values = { "de" } } }),
      'country equals a code of two capitals, like DE, not "de"' },
    { "two rules of one priority", { ruleset = "none", custom_rules = {
      { name = "a", priority = 1, action = "log" }, { name = "b", priority = 1, action = "log" } } },
      "priority 1 is there twice" },
    { "a redirect to nowhere", rule(nil, { action = "redirect" }), "redirect needs a location" },
    { "an exclusion of nothing", { ruleset = "none", exclusions = { {} } }, "are needed" },
    { "an exclusion of an unknown variable",
      { ruleset = "none", exclusions = { { rules = { 1 }, variables = { "NOPE" } } } },
      "unknown variable 'NOPE'" },
    { "directives that are none", { ruleset = "none", directives = "SecNope 1" },
      "directives:1: unknown directive 'SecNope'" },
    { "rules that are not there", { ruleset = "/no/such/rules.conf" }, "no such file" },
  }
  for _, case in ipairs(bad) do
    it("refuses " .. case[1], function()
      local self, err = prepare(case[2])
      assert.is_nil(self)
      assert.is_truthy(tostring(err):find(case[3], 1, true), err)
    end)
  end

  it("loads the installed Core Rule Set", function()
    local file = io.open("/usr/share/modsecurity-crs/rules/REQUEST-901-INITIALIZATION.conf")
    if not file then
      pending("modsecurity-crs is not installed")
      return
    end
    file:close()
    local began = os.clock()
    local self, err = prepare({ paranoia = 2, exclusions = { { rules = { 942100, "941000-941999" } },
      { tags = { "attack-rce" }, variables = { "ARGS:/^cmd/" } } } })
    assert.is_nil(err)
    assert.is_true(self.guard:info().rules > 500)
    assert.is_true(self.guard:info().bytes < 20 * 1024 * 1024)
    local first_s = os.clock() - began
    local started, sites = os.clock(), {}
    for i = 1, 10 do -- that differ in all that needs no rules of their own
      sites[i], err = prepare({ paranoia = i % 4 + 1, inbound_threshold = i, mode = i % 2 == 0 and "detection" or nil,
        allowed_methods = { "GET", "X" .. i }, exclusions = { { rules = { 942100 + i } } },
        custom_rules = { { name = "r" .. i, priority = i, action = "log" } } })
      assert.is_nil(err)
    end
    assert.is_true(sites[1].guard:info().holders > 10)
    assert.is_true(os.clock() - started < first_s) -- ten that read the rules would take as long as ten
    sites[11] = prepare({ profile = "crs" })
    assert.equal(1, sites[11].guard:info().holders)
  end)
end)
