-- SPDX-License-Identifier: Apache-2.0
--- "%2F" in paths, as names of packages and branches have it: refused, but where the listener lets it through.
local h2 = require("spec.support.h2")
local moongate = require("moongate.test")

local function gateway(listener)
  local seen = {}
  local gw = moongate.gateway {
    files = { ["gateway.lua"] = ([[
local p = require("moongate.policies")
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0", http2 = true, %s } },
  sites = { { name = "all", hosts = { "*" }, routes = {
    { path = "/packages/{name}/latest", backend = "origin", policies = { inbound = {
      p.set_header { name = "X-Name", value = function(ctx) return ctx.request.params.name end } } } },
    { path = "/private/*", reply = { status = 403 } },
    { path = "/*", backend = "origin" } } } },
  backends = { origin = { targets = { "http://127.0.0.1:1" } } },
}
]]):format(listener) },
    backends = { origin = function(request)
      seen[#seen + 1] = request
      return 200, {}, "inside"
    end },
  }
  finally(function()
    gw:close()
  end)
  return gw, seen
end

local function ask(gw, path)
  local answer = gw:raw(("GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"):format(path))
  return tonumber(answer:match("^HTTP/1%.1 (%d+)"))
end

local function ask_h2(gw, path)
  local fields = { { ":method", "GET" }, { ":scheme", "http" }, { ":authority", "a" }, { ":path", path } }
  local head = h2.headers(1, fields, h2.END_STREAM + h2.END_HEADERS)
  return h2.answer(h2.read((gw:raw(h2.START .. head, { wait = 0.1 }))), 1).status
end

describe("an escaped slash in the path", function()
  for version, send in pairs({ ["HTTP/1.1"] = ask, ["HTTP/2"] = ask_h2 }) do
    it("is refused by " .. version, function()
      local gw, seen = gateway("")
      assert.equal(400, send(gw, "/packages/@a%2fb/latest"))
      assert.equal(0, #seen)
    end)

    it("passes as it is where the listener says so, by " .. version, function()
      local gw, seen = gateway("escaped_slash = true")
      assert.equal(200, send(gw, "/packages/@a%2fb/latest?x=%2f"))
      assert.equal("/packages/@a%2Fb/latest", seen[1].path)
      assert.equal("@a/b", seen[1].headers["x-name"]) -- a value, no path
    end)

    it("is none of the slashes that routes look at, by " .. version, function()
      local gw, seen = gateway("escaped_slash = true")
      assert.equal(200, send(gw, "/private%2Fx"))
      assert.equal("/private%2Fx", seen[1].path)
      assert.equal(403, send(gw, "/private/a%2Fx"))
    end)

    it("is refused beside a dot segment, by " .. version, function()
      local gw, seen = gateway("escaped_slash = true")
      for _, path in ipairs({ "/a/..%2Fprivate", "/a/%2e%2e%2fprivate", "/a%2F../private", "/a%2F..%2Fprivate",
        "/a%5Cb", "/a%252Fb" }) do
        assert.equal(400, send(gw, path), path)
      end
      assert.equal(0, #seen)
    end)
  end
end)
