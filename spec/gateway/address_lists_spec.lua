-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local config = [[
local p = require("moongate.policies")
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/deny", reply = { status = 200 },
      policies = { inbound = { p.ip_filter { deny = { "192.0.2.0/24", "file:lists/deny.txt" } } } } },
    { path = "/json", reply = { status = 200 },
      policies = { inbound = { p.ip_filter { allow = { "file:lists/bots.json" } } } } },
  } } },
}
]]

local gw

local function replace(path, text)
  local file = assert(io.open(gw.dir .. "/" .. path .. ".new", "w"))
  file:write(text)
  file:close()
  assert(os.rename(gw.dir .. "/" .. path .. ".new", gw.dir .. "/" .. path))
end

--- Asks until the answer is there: the file is read by a thread, in real time.
local function status_becomes(wanted, path)
  local status
  for _ = 1, 2000 do
    gw:advance(1.1)
    status = gw:get(path).status
    if status == wanted then
      break
    end
    os.execute("sleep 0.01")
  end
  assert.equal(wanted, status)
end

before_each(function()
  gw = moongate.gateway({ files = {
    ["gateway.lua"] = config,
    ["lists/deny.txt"] = "# threats\n10.0.0.0/8 ; SBL1\n\n2001:db8::/32\n",
    ["lists/bots.json"] = '{"creationTime": "2026-01-01T00:00:00", "prefixes": [\n'
      .. '{"ipv6Prefix": "2001:4860:4801:10::/64"}, {"ipv4Prefix": "127.0.0.0/27"}]}',
  } })
end)

after_each(function()
  gw:close()
end)

describe("an address list in a file", function()
  it("is read from lines, or from the JSON that operators publish", function()
    assert.equal(200, gw:get("/deny").status)
    assert.equal(200, gw:get("/json").status)
  end)

  it("takes effect when it is replaced, without a reload", function()
    replace("lists/deny.txt", "127.0.0.1\n")
    status_becomes(403, "/deny")
    replace("lists/deny.txt", "# nobody\n")
    status_becomes(200, "/deny")
  end)

  it("stays as it was when the new one cannot be read", function()
    replace("lists/deny.txt", "127.0.0.1\n")
    status_becomes(403, "/deny")
    replace("lists/deny.txt", "203.0.113.0/24\nnot a network\n")
    for _ = 1, 5 do
      gw:advance(1.1)
      assert.equal(403, gw:get("/deny").status)
      os.execute("sleep 0.02")
    end
    os.remove(gw.dir .. "/lists/deny.txt")
    gw:advance(1.1)
    assert.equal(403, gw:get("/deny").status)
  end)

  it("that has a bad line, or is not there, is an error of the configuration", function()
    local err = moongate.errors({ files = { ["gateway.lua"] = config, ["lists/deny.txt"] = "\n10.0.0.1/8\n",
      ["lists/bots.json"] = "{}" } })
    assert.truthy(err:find("deny.txt:2: no network", 1, true), err)
    err = moongate.errors({ files = { ["gateway.lua"] = config } })
    assert.truthy(err:find("cannot be opened", 1, true), err)
  end)

  it("of a million networks is searched in about a microsecond at most", function()
    local net = require("moongate.net")
    local path = os.tmpname()
    finally(function() os.remove(path) end)
    local file = assert(io.open(path, "w"))
    for i = 0, 999999 do -- every other /30 from 16.0.0.0 on: none can be joined with its neighbour
      file:write(("%d.%d.%d.%d/30\n"):format(16 + math.floor(i / 2097152), math.floor(i / 8192) % 256,
        math.floor(i / 32) % 256, i % 32 * 8))
    end
    file:close()
    local list = assert(net.listfile(path))
    assert.is_true(list:contains("16.0.0.1"))
    assert.is_false(list:contains("16.0.0.5"))
    assert.is_true(list:contains("16.122.17.251"))
    local addresses = {}
    for i = 1, 65536 do -- all over the list, one in two within
      local at = i * 40503 % 1000000
      addresses[i] = ("%d.%d.%d.%d"):format(16, math.floor(at / 8192) % 128, math.floor(at / 32) % 256,
        at % 32 * 8 + i % 2 * 4 + 1)
    end
    local rounds, started, found = 196608, os.clock(), 0
    for i = 1, rounds do
      found = found + (list:contains(addresses[i % 65536 + 1]) and 1 or 0)
    end
    local us = (os.clock() - started) * 1e6 / rounds
    print(("a look-up among a million networks: %.2f us"):format(us))
    assert.equal(rounds / 2, found)
    assert.is_true(us < 3, us) -- sanitizers, and a machine at work
  end)
end)
