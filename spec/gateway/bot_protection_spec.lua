-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")
local socket = require("socket")

local config = [[
local p = require("moongate.policies")
local reply = require("moongate.reply")
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  trusted_proxies = { "127.0.0.1" },
  dns = { servers = { "127.0.0.1:DNS_PORT" } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", reply = { status = 200 }, policies = {
    inbound = {
      p.bot_protection {
        threat_lists = { "lists/threats.txt" },
        bots = { { agent = "ShopMonitor", name = "shop", category = "monitor",
          addresses = { "lists/shop.json" } } },
        actions = { scanner = "block", tool = "rate_limit", automation = "challenge" },
        rate = { calls = 2, period = 60 },
        challenge = { secret = "a secret of the spec" },
      },
      function(ctx)
        return reply.text(200, (ctx.vars["bot_protection.class"] or "-") .. " "
          .. (ctx.vars["bot_protection.category"] or "-") .. " "
          .. (ctx.vars["bot_protection.name"] or "-"))
      end,
    } } } } } },
}
]]

local GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"

describe("bot_protection", function()
  local gw, server, port

  setup(function()
    server = io.popen("exec luajit spec/support/dns_server.lua 0 "
      .. "1.66.249.66.in-addr.arpa=PTR=crawl-66-249-66-1.googlebot.com "
      .. "crawl-66-249-66-1.googlebot.com=A=66.249.66.1 "
      .. "2.2.0.192.in-addr.arpa=PTR=fake.googlebot.com fake.googlebot.com=A=203.0.113.9 "
      .. "3.2.0.192.in-addr.arpa=PTR=host.evil.test host.evil.test=A=192.0.2.3 "
      .. "4.2.0.192.in-addr.arpa=PTR=googlebot.com.evil.test "
      .. "6.2.0.192.in-addr.arpa=silent=")
    port = server:read("*l")
    gw = moongate.gateway({ files = {
      ["gateway.lua"] = (config:gsub("DNS_PORT", port)),
      ["lists/threats.txt"] = "198.51.100.0/24\n",
      ["lists/shop.json"] = '{"prefixes": [{"ipv4Prefix": "203.0.113.0/28"}]}',
    } })
  end)
  teardown(function()
    gw:close()
    os.execute("luajit -e 'require(\"socket\").udp():sendto(\"\", \"127.0.0.1\", " .. port .. ")'")
    server:close()
  end)

  local function ask(agent, ip)
    return gw:get("/", { headers = { ["User-Agent"] = agent, ["X-Forwarded-For"] = ip } })
  end
  local function body(agent, ip)
    return ask(agent, ip).body
  end

  it("lets a search engine in whose address is confirmed by name and back", function()
    assert.equal("good search googlebot", body(GOOGLEBOT, "66.249.66.1"))
    assert.equal("good search googlebot", body(GOOGLEBOT, "66.249.66.1"))
  end)

  it("refuses who lies about it: another domain, no name, or one that leads elsewhere", function()
    for _, ip in ipairs({ "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.7", "2001:db8::7" }) do
      assert.equal(403, ask(GOOGLEBOT, ip).status, ip)
    end
  end)

  it("does not call it a lie when the name servers are silent, and does not ask them each time", function()
    assert.equal("unknown crawler googlebot", body(GOOGLEBOT, "192.0.2.6"))
    local began = socket.gettime()
    for _ = 1, 5 do
      assert.equal("unknown crawler googlebot", body(GOOGLEBOT, "192.0.2.6"))
    end
    assert.is_true(socket.gettime() - began < 2) -- an answer is waited for three seconds
  end)

  it("knows a bot by the list of addresses that its operator publishes", function()
    assert.equal("good monitor shop", body("ShopMonitor/1.0", "203.0.113.1"))
    assert.equal(403, ask("ShopMonitor/1.0", "203.0.113.77").status)
  end)

  it("refuses addresses of threat lists, whoever they say they are", function()
    assert.equal(403, ask("Mozilla/5.0 (X11) Firefox/140.0", "198.51.100.7").status)
  end)

  it("tells tools, scanners and browsers", function()
    assert.equal(403, ask("sqlmap/1.8", "192.0.2.20").status)
    assert.equal("- - -", body("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 "
      .. "Firefox/140.0", "192.0.2.20"))
    assert.equal("unknown unidentified -", body("", "192.0.2.20"))
  end)

  it("limits and challenges where it is told to", function()
    assert.equal("unknown tool -", body("python-requests/2.32", "192.0.2.21"))
    assert.equal(200, ask("python-requests/2.32", "192.0.2.21").status)
    assert.equal(429, ask("python-requests/2.32", "192.0.2.21").status)
    assert.equal(200, ask("python-requests/2.32", "192.0.2.22").status)
    local answer = ask("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
      .. "HeadlessChrome/130.0.0.0 Safari/537.36", "192.0.2.21")
    assert.equal(403, answer.status)
    assert.truthy(answer.headers["x-moongate-challenge"])
  end)
end)
