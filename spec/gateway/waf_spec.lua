-- SPDX-License-Identifier: Apache-2.0
--- The firewall in a running gateway.
local moongate = require("moongate.test")

local function site(policies, more)
  return ([[
local p = require("moongate.policies")
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  sites = { { name = "all", hosts = { "*" }, policies = { inbound = { %s } },
    routes = { { path = "/*", reply = { status = 200, body = "inside" }, %s } } } },
}
]]):format(policies, more or "")
end

local function gateway(policies, more)
  local log = os.tmpname()
  local gw = moongate.gateway({ files = {
    ["gateway.lua"] = site(policies:gsub("LOG", ("%q"):format(log)), more) } })
  finally(function()
    gw:close()
    os.remove(log)
  end)
  return gw, function()
    local file = assert(io.open(log))
    local text = file:read("*a")
    file:close()
    return text
  end
end

describe("waf and requests that the HTTP layer refuses", function()
  local rules = [[p.waf { ruleset = "none", audit_log = { file = LOG, format = "modsecurity" }, directives = [=[
SecRule REQUEST_PROTOCOL "!@rx ^HTTP/1" "id:1,phase:1,deny,msg:'protocol'"
SecRule ARGS "@rx \xc3\xa9" "id:2,phase:2,deny,msg:'accent'"
SecRule REQUEST_METHOD "@streq CONNECT" "id:3,phase:1,pass,log,msg:'tunnel'"
SecRule REQUEST_HEADERS:X-Probe "@streq 1" "id:4,phase:1,pass,log,msg:'probe'"
]=] }]]
  local cases = {
    { "another version of HTTP", "GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "1" },
    { "no version", "GET / \r\nHost: a\r\n\r\n", 400, "1" },
    { "bytes outside ASCII in the target", "GET /?a=\195\169 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "2" },
    { "a tunnel", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405, "3" },
    { "a bare LF", "GET / HTTP/1.1\nX-Probe: 1\nHost: a\n\n", 400, "4" },
    { "two lengths", "GET / HTTP/1.1\r\nHost: a\r\nX-Probe: 1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
      400, "4" },
    { "no Host", "GET / HTTP/1.1\r\nX-Probe: 1\r\n\r\n", 400, "4" },
  }
  for _, case in ipairs(cases) do
    it("logs what its rules find in one with " .. case[1], function()
      local gw, log = gateway(rules)
      local answer = gw:raw(case[2])
      assert.equal(case[3], tonumber(answer:match("^HTTP/1%.1 (%d%d%d)")))
      assert.truthy(log():find('[id "' .. case[4] .. '"]', 1, true), log())
    end)
  end

  it("goes on to answer as it would without rules", function()
    local gw = gateway('p.waf { ruleset = "none", directives = "SecRule ARGS \\"@rx .\\" \\"id:1,phase:2,deny,'
      .. 'status:418\\"" }')
    assert.equal("400", gw:raw("GET /?a=\195\169 HTTP/1.1\r\nHost: a\r\n\r\n"):match("^HTTP/1%.1 (%d%d%d)"))
    assert.equal(418, gw:get("/?a=b").status)
  end)
end)
