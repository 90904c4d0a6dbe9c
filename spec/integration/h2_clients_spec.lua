-- SPDX-License-Identifier: Apache-2.0
--- HTTP/2, WebSocket, event streams with real clients and servers: curl, nghttp, h2load, node, ws.
local gateway = require("spec.support.gateway")
local node = require("spec.support.node")

local config = [[
return {
  name = "spec", workers = 0,
  listeners = { { name = "http", address = "127.0.0.1:18080", http2 = true },
    { name = "https", address = "127.0.0.1:18443", http2 = true,
      tls = { certificates = { { development = true } } } } },
  access_log = false,
  backends = { origin = { targets = { "http://127.0.0.1:19101" } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/small", reply = { status = 200, body = "hello" } },
    { path = "/*", backend = "origin" } } } },
}
]]

local function command(text)
  return select(2, gateway.run("command -v " .. text)) == 0
end

describe("real clients", function()
  local gw, http, https, origin, dir

  setup(function()
    http, https, origin = gateway.free_ports(3)
    dir = gateway.run("mktemp -d /tmp/moongate-spec.XXXXXX"):match("%S+")
    local file = assert(io.open(dir .. "/gateway.lua", "w"))
    file:write(config)
    file:close()
    gw = gateway.start { from = dir, port = http, replace = { ["18080"] = tostring(http),
      ["18443"] = tostring(https), ["19101"] = tostring(origin) } }
  end)

  teardown(function()
    if gw then
      gw:stop()
    end
    gateway.run("rm -rf '" .. dir .. "'")
  end)

  it("curl speaks HTTP/2 by prior knowledge", function()
    local output = gateway.run(("curl -s --http2-prior-knowledge -w ' %%{http_version}' "
      .. "http://127.0.0.1:%d/small"):format(http))
    assert.equal("hello 2", output)
  end)

  it("curl speaks HTTP/2 by ALPN, and HTTP/1.1 where it wants that", function()
    local url = ("https://127.0.0.1:%d/small"):format(https)
    assert.equal("hello 2", (gateway.run("curl -sk --http2 -w ' %{http_version}' " .. url)))
    assert.equal("hello 1.1", (gateway.run("curl -sk --http1.1 -w ' %{http_version}' " .. url)))
  end)

  it("nghttp takes what it gets", function()
    if not command("nghttp") then
      pending("nghttp2-client is not installed")
      return
    end
    local output, status = gateway.run(("nghttp -v http://127.0.0.1:%d/small"):format(http))
    assert.equal(0, status)
    assert.matches(":status: 200", output, 1, true)
  end)

  it("h2load has every request answered", function()
    if not command("h2load") then
      pending("nghttp2-client is not installed")
      return
    end
    local output = gateway.run(("h2load -n 5000 -c 10 -m 50 http://127.0.0.1:%d/small"):format(http))
    assert.matches("5000 succeeded, 0 failed, 0 errored", output, 1, true)
  end)

  it("a stopping gateway says GOAWAY and finishes what it has", function()
    if not node.has({}) then
      pending("no node")
      return
    end
    local port, behind = gateway.free_ports(2)
    local stopping = gateway.start { from = dir, port = port, replace = {
      ["18080"] = tostring(port), ["18443"] = tostring((gateway.free_ports(1))),
      ["19101"] = tostring(behind) } }
    local results, output = node.run("drain", port, behind, stopping.pid)
    stopping:stop()
    assert.equal("ok", results["GOAWAY without an error, and the whole answer"] or output)
  end)

  local function script(name, packages, checks)
    describe(name .. ".js:", function()
      local results, output

      setup(function()
        if node.has(packages) then
          results, output = node.run(name, http, origin)
        end
      end)

      for _, check in ipairs(checks) do
        it(check, function()
          if not results then
            pending("no node, or npm cannot be reached")
            return
          end
          assert.equal("ok", results[check] or output)
        end)
      end
    end)
  end

  script("streams", {}, {
    "first event before the backend ends, HTTP/1.1",
    "first event before the backend ends, HTTP/2",
    "long polling answers when there is news",
    "an answer before the body has come, HTTP/1.1",
    "an answer before the body has come, HTTP/2",
    "a client that does not read holds the backend back",
    "an upload of 32 MiB arrives whole",
    "trailers of the backend reach HTTP/2",
    "Early Hints reach HTTP/1.1",
    "Early Hints reach HTTP/2",
  })

  script("websocket", { "ws" }, {
    "messages both ways, and a clean end",
    "compressed messages (permessage-deflate)",
    "a subprotocol, and a ping",
    "a message of 8 MiB",
    "a backend that refuses",
    "a client that vanishes ends the backend's side",
    "h2c is not upgraded to",
    "over HTTP/2",
    "over HTTP/2, with its extensions and subprotocol",
    "over HTTP/2, to a backend that does not upgrade",
  })
end)
