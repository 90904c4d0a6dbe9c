-- SPDX-License-Identifier: Apache-2.0
local host = require("spec.plugins.host")
host("json")
host("regex")

-- Networks as the runtime has them come from C; here an address stands for itself.
package.loaded["moongate.net"] = package.loaded["moongate.net"] or {
  cidrset = function(list)
    local set = {}
    for _, item in ipairs(list) do
      set[item] = true
    end
    return { contains = function(_, ip) return set[ip] == true end }
  end,
}

local RULES = {
  { name = "search", action = "allow", agents = { "Googlebot" }, addresses = { "192.0.2.9" } },
  { name = "liars", action = "deny", agents = { "googlebot" } },
  { name = "tools", action = "deny", agents = { "sqlmap", "nikto" }, patterns = { "^python-\\w+/",
    "^-$" } },
  { action = "tag", agents = { "curl/" } },
  { name = "office", action = "deny", addresses = { "192.0.2.66" } },
}

local function ask(agent, ip, more)
  local conf = { rules = RULES }
  for name, value in pairs(more or {}) do
    conf[name] = value
  end
  local policy, self = host.policy("bot_check", conf)
  local ctx = host.ctx({ headers = { ["User-Agent"] = agent, ["X-Bot"] = "forged" }, client_ip = ip
    or "192.0.2.1" })
  local r = policy.inbound(self, ctx)
  return r and r.refuse.reason, ctx.vars["bot_check.rule"], ctx
end

describe("bot_check", function()
  it("decides by the first rule that fits", function()
    assert.equal("search", (select(2, ask("Mozilla/5.0 (compatible; Googlebot/2.1)", "192.0.2.9"))))
    assert.equal("BotBlocked", (ask("Mozilla/5.0 (compatible; Googlebot/2.1)")))
    assert.equal("BotBlocked", (ask("SQLMap/1.7")))
    assert.equal("BotBlocked", (ask("Python-requests/2")))
    assert.equal("BotBlocked", (ask("-")))
    assert.equal("4", (select(2, ask("curl/8.1"))))
    assert.is_nil((ask("Mozilla/5.0 Firefox/120")))
    assert.equal("BotBlocked", (ask("Mozilla/5.0", "192.0.2.66")))
    assert.equal("BotBlocked", (ask(nil, "192.0.2.66")))
  end)

  it("decides about requests without a user agent", function()
    assert.is_nil((ask(nil)))
    assert.equal("UserAgentMissing", (ask(nil, nil, { missing_agent = "deny" })))
    assert.equal("UserAgentMissing", (ask("", nil, { missing_agent = "deny" })))
    assert.equal("missing_agent", (select(2, ask(nil, nil, { missing_agent = "tag" }))))
  end)

  it("tells the backend, and lets nobody else tell it", function()
    local _, _, ctx = ask("curl/8", nil, { header = "X-Bot" })
    assert.equal("4", ctx.request.headers["X-Bot"])
    _, _, ctx = ask("Mozilla/5.0", nil, { header = "X-Bot" })
    assert.is_nil(ctx.request.headers["X-Bot"])
  end)

  it("refuses user agents on which its patterns give up", function()
    local rules = { { action = "deny", patterns = { "^(?:a|aa)+$" } } }
    assert.equal("BotBlocked", (ask(("a"):rep(60) .. "b", nil, { rules = rules })))
    rules[1].action = "allow"
    assert.is_nil(select(2, ask(("a"):rep(60) .. "b", nil, { rules = rules })))
  end)

  it("says at load what is wrong", function()
    assert.has_error(function() ask("x", nil, { rules = { { action = "deny" } } }) end,
      "rules[1]: agents, patterns or addresses are needed")
    assert.has_error(function() ask("x", nil, { rules = { { action = "deny", patterns = { "a",
      "(" } } } }) end,
      "rules[1].patterns: item 2: missing closing parenthesis at byte 2")
  end)
end)
