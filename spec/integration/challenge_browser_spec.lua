-- SPDX-License-Identifier: Apache-2.0
--- The challenge in Debian's chromium, driven by playwright-core. Pending where chromium is not installed:
--- `make test-browser` installs it.
local node = require("spec.support.node")
local process = require("spec.support.process")

local SITE = [[
local p = require("moongate.policies")
return {
  name = "spec", access_log = false,
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  sites = { { hosts = { "*" }, routes = { { path = "/*",
    reply = { status = 200, headers = { ["Content-Type"] = "text/html" }, body = "<p>inside</p>" },
    policies = { inbound = { p.challenge { secret = "a secret of the spec", difficulty = 10 } } } } } } },
}
]]

local CHECKS = { "the first answer is the challenge", "the browser gets in by itself",
  "it holds a cookie that scripts cannot read", "it is not asked again", "another one is",
  "the page's script runs without errors", "without scripts it says what is missing" }

describe("the challenge in chromium", function()
  it("lets the browser in, once it has worked", function()
    local program = process.run("command -v chromium"):match("%S+")
    if not program or not node.has({ "playwright-core" }) then
      return pending("chromium or playwright-core is not here")
    end
    local gw = process.start({ workers = 1, files = { ["gateway.lua"] = SITE } })
    finally(function()
      gw:stop()
    end)
    local results, output = node.run("challenge_browser", ("http://127.0.0.1:%d/"):format(gw:port("http")), program)
    for _, name in ipairs(CHECKS) do
      assert.equal("ok", results[name], name .. "\n" .. output)
    end
  end)
end)
