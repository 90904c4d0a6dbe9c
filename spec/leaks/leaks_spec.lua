-- SPDX-License-Identifier: Apache-2.0
--- LeakSanitizer over the life of a gateway: requests of all kinds, reloads, a stop.
local gateway = require("spec.support.gateway")

local FROM = "examples/protect-apis"
local REQUESTS, RELOADS = 10000, 20

describe("a gateway built with LeakSanitizer", function()
  it("leaks nothing over 10,000 requests and 20 reloads", function()
    local http, https, management, first, second = gateway.free_ports(5)
    local report = gateway.run("mktemp -d /tmp/moongate-leaks.XXXXXX"):match("%S+")
    local gw = gateway.start {
      from = FROM,
      port = http,
      patience_s = 30,
      environment = ("ASAN_OPTIONS='detect_leaks=1:log_path=%s/report'"):format(report),
      replace = { ["8080"] = tostring(http), ["8443"] = tostring(https),
        ["3443"] = tostring(management), ["9101"] = tostring(first), ["9102"] = tostring(second),
        ["calls = 1"] = "calls = 1000" },
    }
    local paths = { "/external/orders/42", "/external/catalog/items", "/internal/orders", "/none" }
    local each = REQUESTS / RELOADS / #paths
    for _ = 1, RELOADS do
      for _, path in ipairs(paths) do
        local command = "curl -sS --max-time 60 -o /dev/null -H 'Host: api.contoso.test' "
          .. "-H 'Ocp-Apim-Subscription-Key: demo-gold-primary' 'http://127.0.0.1:%d%s?n=[1-%d]'"
        local said, status = gateway.run(command:format(http, path, each))
        assert.equal(0, status, said)
      end
      gw:signal("HUP")
    end
    local ended = gw:stop()
    local found = gateway.run(("cat '%s'/report* 2>/dev/null; rm -rf '%s'"):format(report, report))
    assert.equal("", (found:gsub("%s+$", "")))
    assert.is_true(ended, "it did not end by itself within ten seconds")
  end)
end)
