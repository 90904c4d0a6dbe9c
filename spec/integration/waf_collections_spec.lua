-- SPDX-License-Identifier: Apache-2.0
--- Persistent collections of the WAF's rules: one for all workers, kept over reloads, as mod_security2 keeps them in a
--- file for all of httpd's processes.
local process = require("spec.support.process")

local GATEWAY = [[
local p = require("moongate.policies")
return {
  name = "spec", access_log = false, listeners = { { name = "http", address = "127.0.0.1:0" } },
  limits = { requests_per_connection = 0 },
  sites = {
    { hosts = { "*" }, routes = { { path = "/*", reply = { status = 200, body = "ok" } } } },
  },
  policies = { inbound = { p.waf { ruleset = "rules.conf" } } },
}
]]

local RULES = [[
SecAction "id:1,phase:1,pass,nolog,initcol:ip=%{REQUEST_HEADERS.X-Client}"
SecAction "id:2,phase:1,pass,nolog,setvar:ip.requests=+1,expirevar:ip.requests=600"
SecRule IP:HELD "@eq 1" "id:5,phase:1,deny,status:403"
SecRule IP:REQUESTS "@gt 20" "id:3,phase:1,deny,status:429,setvar:ip.refused=+1"
SecRule IP:REFUSED "@ge 5" "id:4,phase:5,pass,nolog,setvar:ip.held=1"
]]

describe("persistent collections", function()
  local gw

  teardown(function()
    if gw then
      gw:stop()
    end
  end)

  local function ask(client, n)
    local seen = {}
    for _ = 1, n do
      local status = process.get(gw:port("http"), "/", "X-Client: " .. client .. "\r\n")
      seen[status] = (seen[status] or 0) + 1
    end
    return seen
  end

  it("count what all workers see", function()
    gw = process.start { workers = 3, files = { ["gateway.lua"] = GATEWAY, ["rules.conf"] = RULES } }
    assert.are.same({ [200] = 20, [429] = 3 }, ask("a", 23))
    assert.are.same({ [200] = 1 }, ask("b", 1))
  end)

  it("are written by rules of the logging phase, for what was refused too", function()
    assert.are.same({ [429] = 2, [403] = 4 }, ask("a", 6))
  end)

  it("are kept when other rules are loaded", function()
    gw:write_file("rules.conf", RULES .. 'SecAction "id:6,phase:1,pass,nolog"\n')
    local said, status = gw:command("reload")
    assert.equal(0, status, said)
    assert.are.same({ [403] = 3 }, ask("a", 3))
    assert.are.same({ [200] = 2 }, ask("b", 2))
  end)
end)
