-- SPDX-License-Identifier: Apache-2.0
--- The requests of examples/protect-apis/try.txt answer what it says, over real connections.
local gateway = require("spec.support.gateway")
local process = require("spec.support.process")

local FROM = "examples/protect-apis"

--- The curl lines of try.txt, each with the status that the line below it starts with.
local function tries()
  local found, command = {}, nil
  for line in io.lines(FROM .. "/try.txt") do
    if command then
      found[#found + 1] = { command = command, status = line:match("^%s+(%d%d%d)") }
    end
    command = line:match("^%s+(curl .*)$")
  end
  return found
end

describe("examples/protect-apis", function()
  local gw, http, https, management, first, second

  setup(function()
    http, https, management, first, second = gateway.free_ports(5)
    gw = gateway.start {
      from = FROM,
      port = http,
      replace = { ["8080"] = tostring(http), ["8443"] = tostring(https),
        ["3443"] = tostring(management), ["9101"] = tostring(first), ["9102"] = tostring(second) },
    }
  end)

  teardown(function()
    if gw then
      gw:stop()
    end
  end)

  local function with_ports(command)
    return (command:gsub(":8080/", ":" .. http .. "/"):gsub(":8443/", ":" .. https .. "/"))
  end

  it("has five requests to try", function()
    assert.equal(5, #tries())
  end)

  for _, try in ipairs(tries()) do
    it("answers " .. try.status .. " to " .. try.command:sub(1, 110), function()
      local answer = gateway.run(with_ports(try.command) .. " -sS --max-time 10")
      assert.equal(try.status, answer:match("HTTP/[%d.]+ (%d%d%d)"), answer)
    end)
  end

  it("spreads requests over both origins", function()
    local command = "curl -sS --max-time 10 -D - -o /dev/null -H 'Host: api.contoso.test' "
      .. "-H 'Ocp-Apim-Subscription-Key: demo-gold-primary' "
      .. "http://127.0.0.1:%d/external/orders"
    local seen = {}
    for _ = 1, 8 do
      local head = gateway.run(command:format(http))
      seen[head:match("[Xx]%-[Ss]erved%-[Bb]y: (%S+)") or "none"] = true
    end
    assert.same({ ["orders-1"] = true, ["orders-2"] = true }, seen)
  end)

  it("does not serve the origins' sites on the public listeners", function()
    local command = "curl -sS -o /dev/null -w '%%{http_code}' http://127.0.0.1:%d/v2/items"
    assert.equal("404", (gateway.run(command:format(http))))
  end)

  it("logs the sinkpool as one", function()
    gateway.run(("curl -sS -H 'Host: api.contoso.test' http://127.0.0.1:%d/nowhere"):format(http))
    assert.truthy(process.eventually(function()
      return gw:log():find("sinkpool", 1, true)
    end), gw:log())
  end)
end)
