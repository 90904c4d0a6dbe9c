-- SPDX-License-Identifier: Apache-2.0
--- What the firewall's parts share over Redis: limits of custom rules, and who is in a penalty box.
local gateways = require("spec.support.gateway")
local servers = require("spec.support.redis")
local socket = require("socket")

if not servers.is_there() then
  describe("the firewall of several nodes", function()
    pending("needs redis-server")
  end)
  return
end

local config = [==[
local p = require("moongate.policies")
local function site(name, policy)
  return { name = name, hosts = { name .. ".test" }, policies = { inbound = { policy } },
    routes = { { path = "/*", reply = { status = 200, body = "ok" } } } }
end
local limited = p.waf { ruleset = "none", custom_rules = {
  { name = "logins", priority = 1, action = "rate_limit", calls = 20, window = 300, group_by = "header",
    group_header = "X-User", conditions = {
      { variable = "request_uri", operator = "begins_with", values = { "/login" } } } },
  { name = "all", priority = 2, action = "rate_limit", calls = 2000, window = 60, group_by = "none" } } }
return {
  name = "spec", workers = 2,
  listeners = { { name = "http", address = "127.0.0.1:PORT" } },
  redis = { url = "URL", timeout = 5 }, -- what is answered late is told once more, and later
  sites = {
    site("limited", limited),
    site("flooded", p.flood_defence { threshold = 30, minimum_rate = 30, minimum_client = 5, penalty = 120 }),
  },
}]==]

local server, nodes, folders

local function start()
  local port = gateways.free_ports(1)
  local folder = gateways.run("mktemp -d"):match("%S+")
  folders[#folders + 1] = folder
  local file = assert(io.open(folder .. "/gateway.lua", "w"))
  file:write((config:gsub("PORT", port):gsub("URL", server.url)))
  file:close()
  local node = gateways.start { from = folder, port = port }
  node.port = port
  nodes[#nodes + 1] = node
  return node
end

local function ask(node, host, path, options)
  local conn = socket.tcp()
  assert(conn:bind(options and options.from or "127.0.0.1", 0))
  conn:settimeout(10)
  assert(conn:connect("127.0.0.1", node.port))
  conn:send(("GET %s HTTP/1.1\r\nHost: %s\r\nX-User: %s\r\nConnection: close\r\n\r\n")
    :format(path, host, options and options.user or "nobody"))
  local line = conn:receive("*l")
  conn:close()
  return line and tonumber(line:match("^HTTP/1%.1 (%d+)"))
end

local function admitted(n, user)
  local count = 0
  for i = 1, n do
    socket.sleep(0.02) -- slower than the nodes tell one another
    count = count + (ask(nodes[i % 2 + 1], "limited.test", "/login", { user = user }) == 200 and 1 or 0)
  end
  return count
end

describe("the firewall of several nodes", function()
  setup(function()
    nodes, folders = {}, {}
    server = servers.start()
    start()
    start()
    servers.eventually(function()
      return tonumber(server:cli("ZCARD", "moongate:nodes")) == 2
    end, 10, "the nodes know one another")
  end)

  teardown(function()
    for _, node in ipairs(nodes) do
      node:stop()
    end
    server:stop()
    for _, folder in ipairs(folders) do
      gateways.run("rm -rf '" .. folder .. "'")
    end
  end)

  it("counts what a custom rule limits over all of them, each group by itself", function()
    for _, user in ipairs({ "ada", "bob" }) do
      local count = admitted(50, user)
      assert.is_true(count >= 18 and count <= 20 + 2 * 2 + 2, ("%s: %d admitted"):format(user, count))
    end
    for _, node in ipairs(nodes) do
      assert.equal(200, ask(node, "limited.test", "/other", { user = "ada" }))
    end
  end)

  it("refuses on every node whom one has put into the penalty box, later ones included", function()
    local flooder, ordinary = { from = "127.1.4.1" }, { from = "127.1.4.2" }
    servers.eventually(function()
      return ask(nodes[1], "flooded.test", "/", flooder) == 429
    end, 20, "a flooder is held")
    for _, node in ipairs({ nodes[2], start() }) do
      servers.eventually(function()
        return ask(node, "flooded.test", "/", flooder) == 429
      end, 10, "the other node refuses him too")
      assert.equal(200, ask(node, "flooded.test", "/", ordinary))
      assert.equal(200, ask(node, "limited.test", "/", flooder)) -- the box is the site's
    end
  end)

  it("goes on where the store holds what no node has told", function()
    for _, entry in ipairs({
      "site 'site flooded' ip nonsense ms 1000",
      "site 'site flooded' ip 127.1.4.3 ms 99999999999",
      "site 'no such site' ip 127.1.4.3 ms 1000",
      "a b",
      "site 'site flooded' ip 127.1.4.5 ms 60000",
    }) do
      server:cli("XADD", "moongate:flood", "'*'", entry)
    end
    servers.eventually(function()
      return ask(nodes[2], "flooded.test", "/", { from = "127.1.4.5" }) == 429
    end, 10, "what stands behind it is heard")
    assert.equal(200, ask(nodes[2], "flooded.test", "/", { from = "127.1.4.3" }))
  end)
end)
