-- SPDX-License-Identifier: Apache-2.0
-- luacheck: no max line length (a rule a line)
--- The firewall in a running gateway.
local h2 = require("spec.support.h2")
local moongate = require("moongate.test")

local function site(policies, more)
  return ([[
local p = require("moongate.policies")
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0", http2 = true } },
  sites = { { name = "all", hosts = { "*" }, policies = { inbound = { %s } },
    routes = { { path = "/*", reply = { status = 200, body = "inside" }, %s } } } },
}
]]):format(policies, more or "")
end

-- What the gateways of a test leave; `finally` would keep only its last.
local open, logs = {}, {}

after_each(function()
  for i, gw in ipairs(open) do
    gw:close()
    open[i] = nil
  end
  for i, log in ipairs(logs) do
    os.remove(log)
    logs[i] = nil
  end
end)

local function gateway(policies, more)
  local log = os.tmpname()
  logs[#logs + 1] = log
  local gw = moongate.gateway({ files = {
    ["gateway.lua"] = site(policies:gsub("LOG", ("%q"):format(log)), more) } })
  open[#open + 1] = gw
  return gw, function()
    local file = assert(io.open(log))
    local text = file:read("*a")
    file:close()
    return text
  end
end

describe("waf and requests that the HTTP layer refuses", function()
  local rules = [[p.waf { ruleset = "none", audit_log = { file = LOG, format = "modsecurity" }, directives = [=[
SecRule REQUEST_PROTOCOL "!@rx ^HTTP/[12]" "id:1,phase:1,deny,msg:'protocol'"
SecRule ARGS "@rx \xc3\xa9" "id:2,phase:2,deny,msg:'accent'"
SecRule REQUEST_METHOD "@streq CONNECT" "id:3,phase:1,pass,log,msg:'tunnel'"
SecRule REQUEST_HEADERS:X-Probe "@streq 1" "id:4,phase:1,pass,log,msg:'probe'"
]=] }]]
  local cases = {
    { "another version of HTTP", "GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "1" },
    { "bytes outside ASCII in the target", "GET /?a=\195\169 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "2" },
    { "a tunnel", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405, "3" },
    { "two lengths", "GET / HTTP/1.1\r\nHost: a\r\nX-Probe: 1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
      400, "4" },
    { "two framings", "POST / HTTP/1.1\r\nHost: a\r\nX-Probe: 1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      400, "4" },
    { "an empty Host", "GET / HTTP/1.0\r\nHost:\r\nX-Probe: 1\r\n\r\n", 400, "4" },
  }
  for _, case in ipairs(cases) do
    it("logs what its rules find in one with " .. case[1], function()
      local gw, log = gateway(rules)
      local answer = gw:raw(case[2])
      assert.equal(case[3], tonumber(answer:match("^HTTP/1%.1 (%d%d%d)")))
      assert.truthy(log():find('[id "' .. case[4] .. '"]', 1, true), log())
    end)
  end

  for what, case in pairs({
    ["a path that leaves the root"] = { { { ":path", "/../a" }, { ":authority", "a.test" } }, 400, "4" },
    ["an escaped slash and an odd argument"] = { { { ":path", "/a%2fb?a=%c3%a9" }, { ":authority", "a.test" } }, 400, "2" },
    ["another Host"] = { { { ":path", "/" }, { ":authority", "a.test" }, { "host", "b.test" } }, 400, "4" },
  }) do
    it("logs what its rules find in one of HTTP/2 with " .. what, function()
      local gw, log = gateway(rules)
      local fields = { { ":method", "GET" }, { ":scheme", "http" } }
      for _, field in ipairs(case[1]) do
        fields[#fields + 1] = field
      end
      fields[#fields + 1] = { "x-probe", "1" }
      local answer = h2.answer(h2.read((gw:raw(h2.START .. h2.headers(1, fields), { wait = 0.05 }))), 1)
      assert.equal(case[2], answer.status)
      assert.truthy(log():find('[id "' .. case[3] .. '"]', 1, true), log())
    end)
  end

  it("leaves alone what breaks the grammar", function()
    local gw, log = gateway(rules)
    for _, bytes in ipairs({ "GET / \r\nHost: a\r\nX-Probe: 1\r\n\r\n", "GET / HTTP/1.1\nX-Probe: 1\nHost: a\n\n",
      "GET / HTTP/1.1\r\nX-Probe: 1\r\n\r\n", "GET / HTTP/1.1\r\nX-Probe : 1\r\nHost: a\r\n\r\n" }) do
      assert.equal("400", gw:raw(bytes):match("^HTTP/1%.1 (%d%d%d)"))
    end
    assert.equal("", log())
  end)

  it("goes on to answer as it would without rules", function()
    local gw = gateway('p.waf { ruleset = "none", directives = "SecRule ARGS \\"@rx .\\" \\"id:1,phase:2,deny,'
      .. 'status:418\\"" }')
    assert.equal("400", gw:raw("GET /?a=\195\169 HTTP/1.1\r\nHost: a\r\n\r\n"):match("^HTTP/1%.1 (%d%d%d)"))
    assert.equal(418, gw:get("/?a=b").status)
  end)
end)

describe("waf and bodies that lie", function()
  it("refuses what is no text of its type: compressed, cut short, of another type", function()
    local gw = gateway('p.waf { ruleset = "none" }')
    local bomb = "\31\139\8\0\0\0\0\0\2\3" .. ("\236\193\1\1\0\0\0\130\32\255\175\110\72\64"):rep(2000)
    for _, case in ipairs({ { "application/json", bomb }, { "application/json", '{"a":' },
      { "application/json", ("["):rep(2000) }, { "application/xml", bomb }, { "application/xml", "<a>" },
      { "multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx" } }) do
      local answer = gw:post("/", { body = case[2], headers = { ["Content-Type"] = case[1],
        ["Content-Encoding"] = case[2] == bomb and "gzip" or nil } })
      assert.equal(400, answer.status, case[1])
    end
  end)

  it("refuses more than it inspects, or inspects the beginning", function()
    local options = 'ruleset = "none", max_body_bytes = 100, directives = [=[SecRule ARGS "@rx evil" "id:1,phase:2,deny"]=]'
    local form = { ["Content-Type"] = "application/x-www-form-urlencoded" }
    local gw = gateway("p.waf { " .. options .. " }")
    assert.equal(413, gw:post("/", { body = "a=" .. ("x"):rep(200), headers = form }).status)
    local part = gateway("p.waf { " .. options .. ', over_limit = "inspect_part" }')
    assert.equal(200, part:post("/", { body = "a=" .. ("x"):rep(200) .. "&b=evil", headers = form }).status)
    assert.equal(403, part:post("/", { body = "b=evil&a=" .. ("x"):rep(200), headers = form }).status)
  end)
end)

describe("custom rules of waf", function()
  local function custom(rules, more)
    return ('p.waf { ruleset = "none", custom_rules = { %s }, audit_log = { file = LOG }, %s }'):format(
      rules, more or "")
  end
  local uri = '{ variable = "request_uri", operator = "begins_with", values = { "%s" } }'
  local function rule(name, priority, action, path, more)
    return ('{ name = "%s", priority = %d, action = "%s", conditions = { %s }, %s },'):format(name, priority,
      action, uri:format(path), more or "")
  end

  it("block, redirect, log and let pass, by priority", function()
    local gw, log = gateway(custom(rule("pass", 1, "allow", "/open/in") .. rule("stop", 2, "block", "/open", "status = 451")
      .. rule("away", 3, "redirect", "/old", 'location = "https://new.example.com/"') .. rule("note", 4, "log", "/seen")))
    assert.equal(200, gw:get("/open/in").status)
    assert.equal(451, gw:get("/open/x").status)
    local answer = gw:get("/old")
    assert.equal(302, answer.status)
    assert.equal("https://new.example.com/", answer.headers.location)
    assert.equal(200, gw:get("/seen").status)
    assert.truthy(log():find('"msg":"note"', 1, true))
  end)

  local function conditions(list, action, priority)
    return ('{ name = "r%d", priority = %d, action = "%s", conditions = { %s } },'):format(priority or 1, priority or 1,
      action or "block", list)
  end

  it("that are negated hold where no value fits, of several or of none", function()
    for condition, cases in pairs({
      ['{ variable = "request_headers", name = "X-Key", operator = "equal", values = { "k" }, negate = true }'] = {
        [{}] = 403, [{ "k" }] = 200, [{ "j" }] = 403 },
      ['{ variable = "args", operator = "contains", values = { "x" }, negate = true }'] = {
        [{ nil, "/?a=x&b=y" }] = 200, [{ nil, "/?a=y&b=z" }] = 403, [{ nil, "/" }] = 403 },
      ['{ variable = "query_string", operator = "any", negate = true }'] = { [{ nil, "/?a" }] = 200, [{ nil, "/" }] = 403 },
      ['{ variable = "remote_addr", operator = "ip_match", values = { "10.0.0.0/8" }, negate = true }, '
        .. '{ variable = "request_headers", name = "X-Key", operator = "any", negate = true }'] = { [{}] = 403, [{ "k" }] = 200 },
    }) do
      local gw = gateway(custom(conditions(condition)))
      for case, status in pairs(cases) do
        local headers = case[1] and { ["X-Key"] = case[1] }
        assert.equal(status, gw:get(case[2] or "/", { headers = headers }).status, condition)
      end
    end
  end)

  it("see the path as backends get it, however it is written", function()
    local gw = gateway(custom(rule("stop", 1, "block", "/admin")))
    for _, path in ipairs({ "/admin/x", "/%61dmin", "//admin", "/x/../admin", "/./admin" }) do
      assert.equal(403, gw:get(path).status, path)
    end
    assert.equal(200, gw:get("/other/admin").status)
  end)

  it("see bodies of any type", function()
    local gw = gateway(custom(conditions('{ variable = "request_body", operator = "contains", values = { "evil" } }')))
    for _, kind in ipairs({ "application/json", "text/plain", "text/xml", "application/octet-stream",
        "application/x-www-form-urlencoded" }) do
      local body = kind:find("json") and '{"a":"%s"}' or kind:find("xml") and "<a>%s</a>" or "a=%s"
      local headers = { ["Content-Type"] = kind }
      assert.equal(403, gw:post("/", { body = body:format("evil"), headers = headers }).status, kind)
      assert.equal(200, gw:post("/", { body = body:format("good"), headers = headers }).status, kind)
    end
  end)

  it("keep their order where one wants the body and the next does not", function()
    local gw = gateway(custom(
      conditions('{ variable = "args", name = "pass", operator = "equal", values = { "1" } }', "allow", 1)
      .. conditions('{ variable = "request_method", operator = "equal", values = { "POST" } }', "block", 2)))
    local headers = { ["Content-Type"] = "application/x-www-form-urlencoded" }
    assert.equal(200, gw:post("/", { body = "pass=1", headers = headers }).status)
    assert.equal(403, gw:post("/", { body = "pass=2", headers = headers }).status)
  end)

  it("that let a request pass end the rule set's inspection too", function()
    local gw = gateway(custom(rule("pass", 1, "allow", "/in"), 'directives = "SecRule ARGS \\"@rx x\\" \\"id:1,phase:2,deny\\""'))
    assert.equal(200, gw:get("/in?a=x").status)
    assert.equal(403, gw:get("/out?a=x").status)
  end)

  it("limit calls of an address, of a field's value, of all; and forget after the window", function()
    local gw, log = gateway(custom(
      rule("each", 1, "rate_limit", "/a", "calls = 2")
      .. rule("key", 2, "rate_limit", "/b", 'calls = 1, group_by = "header", group_header = "X-Key"')
      .. rule("all", 3, "rate_limit", "/c", 'calls = 1, window = 300, group_by = "none", status = 503')))
    local function statuses(path, key)
      return gw:get(path, { headers = { ["X-Key"] = key } }).status
    end
    assert.are.same({ 200, 200, 429 }, { statuses("/a"), statuses("/a"), statuses("/a") })
    assert.are.same({ 200, 200, 429 }, { statuses("/b", "1"), statuses("/b", "2"), statuses("/b", "1") })
    assert.are.same({ 200, 503 }, { statuses("/c", "1"), statuses("/c", "2") })
    local refused = gw:get("/a")
    assert.truthy(tonumber(refused.headers["retry-after"]) >= 1)
    assert.truthy(log():find('"action":"rate_limit"', 1, true))
    gw:advance(125)
    assert.are.same({ 200, 503 }, { statuses("/a"), statuses("/c") })
    gw:advance(600)
    assert.equal(200, statuses("/c"))
  end)

  it("ask for a proof of work, and go on to the next rule where it is shown", function()
    local crypto = require("moongate.crypto")
    local gw = gateway(custom(rule("prove", 1, "challenge", "/") .. rule("stop", 2, "block", "/never"),
      'challenge = { secret = "a secret of the spec", difficulty = 4 }'))
    local asked = gw:get("/x")
    assert.equal(403, asked.status)
    local token, answer = asked.headers["x-moongate-challenge"], 0
    while crypto.sha256(token .. ":" .. answer):byte() >= 16 do
      answer = answer + 1
    end
    local headers = { ["X-Moongate-Challenge"] = token, ["X-Moongate-Response"] = tostring(answer) }
    assert.equal(200, gw:get("/x", { headers = headers }).status)
    local refused = gw:get("/never", { headers = headers })
    assert.equal(403, refused.status)
    assert.truthy(refused.body:find("WafBlocked", 1, true))
    assert.is_nil(gw:get("/never").body:find("WafBlocked", 1, true)) -- the challenge comes first
  end)

  it("in detection stop nothing, and are logged", function()
    local gw, log = gateway(custom(rule("each", 1, "rate_limit", "/", "calls = 1") .. rule("stop", 2, "block", "/"),
      'mode = "detection"'))
    assert.equal(200, gw:get("/").status)
    assert.equal(200, gw:get("/").status)
    assert.truthy(log():find('"msg":"stop"', 1, true))
  end)

  for _, case in ipairs({
    { "a challenge without its settings", rule("x", 1, "challenge", "/"), "needs the setting challenge" },
    { "a rate limit without calls", rule("x", 1, "rate_limit", "/"), "rate_limit needs calls" },
    { "a group without its field", rule("x", 1, "rate_limit", "/", 'calls = 1, group_by = "header"'), "go together" },
  }) do
    it("refuse " .. case[1], function()
      local ok, err = pcall(gateway, custom(case[2]))
      assert.is_false(ok)
      assert.truthy(tostring(err):find(case[3], 1, true), tostring(err))
    end)
  end
end)

describe("waf in nested scopes", function()
  local outer = [[p.waf { ruleset = "none", audit_log = { file = LOG },
    directives = "SecRule ARGS \"@rx outer\" \"id:1,phase:2,deny,log,msg:'outer'\"\n"
      .. "SecRule ARGS \"@rx both\" \"id:2,phase:2,deny,log,msg:'both'\"",
    custom_rules = { { name = "stop", priority = 5, action = "block",
      conditions = { { variable = "request_uri", operator = "contains", values = { "closed" } } } } } }]]
  local function inner(options)
    return ("policies = { inbound = { p.waf { %s } } },"):format(options)
  end

  it("runs once, with what both say", function()
    local gw, log = gateway(outer, inner([[exclusions = { { rules = { 2 } } },
      directives = "SecRule ARGS \"@rx inner\" \"id:3,phase:2,deny,log,msg:'inner'\"" ]]))
    assert.equal(403, gw:get("/?a=outer").status)
    assert.equal(403, gw:get("/?a=inner").status)
    assert.equal(200, gw:get("/?a=both").status)
    assert.equal(403, gw:get("/closed").status)
    local _, lines = log():gsub("\n", "\n")
    assert.equal(3, lines)
  end)

  it("takes the inner scope's settings, and its custom rule of the same name", function()
    local gw = gateway(outer, inner([[mode = "prevention", custom_rules = { { name = "stop", priority = 5,
      action = "block", status = 451,
      conditions = { { variable = "request_uri", operator = "contains", values = { "closed" } } } } } ]]))
    assert.equal(451, gw:get("/closed").status)
    local quiet = gateway(outer, inner('mode = "detection"'))
    assert.equal(200, quiet:get("/closed?a=outer").status)
  end)

  it("stands for itself where it says so", function()
    local gw = gateway(outer, inner([[replace = true, ruleset = "none",
      directives = "SecRule ARGS \"@rx inner\" \"id:3,phase:2,deny\"" ]]))
    assert.equal(200, gw:get("/closed?a=outer").status)
    assert.equal(403, gw:get("/?a=inner").status)
  end)

  it("keeps apart what has a condition", function()
    local gw = gateway(outer, inner([[when = "ctx.request.method == 'POST'", ruleset = "none",
      directives = "SecRule ARGS \"@rx inner\" \"id:3,phase:2,deny\"" ]]))
    assert.equal(200, gw:get("/?a=inner").status)
    assert.equal(403, gw:post("/?a=inner", { body = "" }).status)
    assert.equal(403, gw:post("/?a=outer", { body = "" }).status)
  end)

  it("counts a custom rule's calls by site, wherever it is merged into", function()
    local gw = moongate.gateway({ files = { ["gateway.lua"] = [[
local p = require("moongate.policies")
local function route(path, ...)
  return { path = path, reply = { status = 200, body = "inside" }, policies = { inbound = { ... } } }
end
local more = { ruleset = "none", custom_rules = { { name = "other", priority = 9, action = "log" } } }
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  policies = { inbound = { p.waf { ruleset = "none", custom_rules = {
    { name = "few", priority = 1, action = "rate_limit", calls = 3, window = 300, group_by = "none" } } } } },
  sites = {
    { name = "a", hosts = { "a.test" }, routes = { route("/1", p.waf(more)), route("/2", p.waf(more)), route("/3") } },
    { name = "b", hosts = { "b.test" }, policies = { inbound = { p.waf(more) } }, routes = { route("/*") } },
    { name = "c", hosts = { "c.test" }, routes = { route("/*") } },
  },
}
]] } })
    finally(function()
      gw:close()
    end)
    local function ask(host, path)
      return gw:get(path, { headers = { Host = host } }).status
    end
    assert.same({ 200, 200, 200, 429, 429, 429 }, { ask("a.test", "/1"), ask("a.test", "/2"), ask("a.test", "/3"),
      ask("a.test", "/1"), ask("a.test", "/2"), ask("a.test", "/3") })
    for _, host in ipairs({ "b.test", "c.test" }) do
      assert.same({ 200, 200, 200, 429 }, { ask(host, "/"), ask(host, "/"), ask(host, "/"), ask(host, "/") })
    end
  end)
end)

describe("waf and what it leaves for others", function()
  local SEEN = [[
local reply = require("moongate.reply")
local M = { name = "seen", summary = "Tells what the firewall left.", sections = { "inbound" } }
local last = "nothing"
function M.inbound(_, ctx)
  if ctx.request.path == "/seen" then return reply.text(200, last) end
end
function M.log(_, ctx)
  if ctx.request.path ~= "/seen" then
    last = ("fired %s, score %s, refused by %s"):format(tostring(ctx.vars["waf.fired"]),
      tostring(ctx.vars["waf.score"]), tostring(ctx.vars["waf.rule"]))
  end
end
return M
]]

  local function seen_after(options, path)
    local gw = moongate.gateway({ files = { ["policies/seen.lua"] = SEEN,
      ["gateway.lua"] = site("p.waf {" .. options .. "}, p.seen {}") } })
    open[#open + 1] = gw
    gw:get(path)
    return gw:get("/seen").body
  end

  it("is the number of rules that matched, and the score, for what logs after it", function()
    local quiet = 'ruleset = "none", directives = [=[SecAction "id:1,phase:5,pass,nolog"]=]'
    assert.equal("fired 0, score 0, refused by nil", seen_after('ruleset = "none"', "/?a=1"))
    assert.equal("fired 0, score 0, refused by nil", seen_after(quiet, "/?a=1"))
  end)

  it("counts what phase 5 finds too, and tells the rule that refused", function()
    local late = [['none', directives = [=[
SecRule ARGS:a "@streq 1" "id:1,phase:2,pass,log,setvar:tx.anomaly_score=+3"
SecRule ARGS:a "@streq 1" "id:2,phase:5,pass,log,setvar:tx.anomaly_score=+4"
SecRule ARGS:a "@streq 2" "id:3,phase:1,deny,log"]=] ]]
    assert.equal("fired 2, score 7, refused by nil", seen_after("ruleset = " .. late, "/?a=1"))
    assert.equal("fired 1, score 0, refused by 3", seen_after("ruleset = " .. late, "/?a=2"))
  end)
end)
