-- SPDX-License-Identifier: Apache-2.0
--- gRPC with a real client and a real server, through HTTP/2 on both sides.
local gateway = require("spec.support.gateway")
local node = require("spec.support.node")

local config = [[
return {
  name = "spec", workers = 0,
  listeners = { { name = "http", address = "127.0.0.1:18080", http2 = true } },
  access_log = false,
  backends = { origin = { targets = { "http://127.0.0.1:19101" }, protocol = "h2" } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
}
]]

describe("gRPC, with @grpc/grpc-js:", function()
  local gw, dir, results, output

  setup(function()
    local http, origin = gateway.free_ports(2)
    if not node.has({ "@grpc/grpc-js" }) then
      return
    end
    dir = gateway.run("mktemp -d /tmp/moongate-spec.XXXXXX"):match("%S+")
    local file = assert(io.open(dir .. "/gateway.lua", "w"))
    file:write(config)
    file:close()
    gw = gateway.start { from = dir, port = http,
      replace = { ["18080"] = tostring(http), ["19101"] = tostring(origin) } }
    results, output = node.run("grpc", http, origin)
  end)

  teardown(function()
    if gw then
      gw:stop()
      gateway.run("rm -rf '" .. dir .. "'")
    end
  end)

  for _, check in ipairs {
    "unary, with metadata both ways",
    "unary with 4 MiB",
    "client streaming",
    "server streaming",
    "both streaming, question by question",
    "a status of the backend",
    "a status without a message is trailers only, in one frame",
    "compressed messages",
    "the rest of a deadline is what the backend hears",
    "a deadline, and the backend is told",
    "a call that is cancelled, and the backend is told",
    "a hundred calls at once",
    "a backend that is gone",
  } do
    it(check, function()
      if not results then
        pending("no node, or npm cannot be reached")
        return
      end
      assert.equal("ok", results[check] or output)
    end)
  end
end)
