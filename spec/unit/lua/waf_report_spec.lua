-- SPDX-License-Identifier: Apache-2.0
-- luacheck: no max line length (lines of logs)
package.path = "./lua/?.lua;" .. package.path

local LOG = {
  '{"time":"2026-01-01T00:00:00Z","event":"waf","path":"/a","rules":[{"id":942100,"msg":"SQL","variable":"ARGS:comment"},{"id":949110,"variable":"TX:anomaly_score"}]}',
  '[Thu Jan 01 00:00:00 2026] [security2:error] [client 127.0.0.1] ModSecurity: Warning. detected SQLi at ARGS:comment. [file "x.conf"] [line "1"] [id "942100"] [msg "SQL"] [uri "/b"]',
  '{"time":"2026-01-01T00:00:00Z","level":"info","message":"waf: rules matched","waf":{"event":"waf","path":"/c","rules":[{"id":942100,"msg":"SQL","variable":"ARGS:comment"}]}}',
  '{"event":"waf","path":"/a","rules":[{"id":941100,"msg":"XSS","variable":"REQUEST_COOKIES:c"}]}',
  "not of ours", '{"rules":[', "",
}

describe("waf report", function()
  local report
  setup(function()
    package.loaded["moongate.waf_report"] = nil
    package.loaded["moongate.json"] = package.loaded["moongate.json"] or require("cjson")
    report = require("moongate.waf_report")
  end)

  local function collect()
    local i = 0
    return report.collect(function()
      i = i + 1
      return LOG[i]
    end)
  end

  it("counts per rule and variable, without the sums, from all forms of the log", function()
    local found = collect()
    assert.equal(2, #found.list)
    assert.equal(942100, found.list[1].id)
    assert.equal("ARGS:comment", found.list[1].variable)
    assert.equal(3, found.list[1].count)
    assert.are.same({ 4, 3 }, { found.read, found.skipped })
  end)

  it("names the exclusion that silences each", function()
    assert.equal('{ rules = { 942100 }, variables = { "ARGS:comment" } }',
      report.exclusion(collect().list[1]))
    assert.matches("3 x  rule 942100  ARGS:comment  SQL\n          at /a %(1%), /b %(1%), /c %(1%)",
      report.render(collect()))
  end)

  it("tells a file that is not there", function()
    local text, err = report.run("/no/such/file")
    assert.is_nil(text)
    assert.matches("No such file", err)
  end)
end)
