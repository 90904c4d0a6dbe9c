-- SPDX-License-Identifier: Apache-2.0
-- luacheck: no max line length (a case a line)
--- Words of SecLang one by one: operators, actions, ctl, directives, includes.
package.path = "spec/plugins/waf/?.lua;" .. package.path
local engine = require("engine")
local secrules = require("secrules")
local run, form = secrules.run, secrules.form

if not engine.lib then
  describe("words of SecLang", function()
    pending("libwaf_unit.so is not built")
  end)
  return
end

describe("operators", function()
  -- operator, what it matches, what it does not.
  local cases = {
    { "@rx ^a.c$", "abc", "abd" }, { "^a.c$", "abc", "abd" }, { "@pm foo bar", "xBARx", "fo" },
    { "@contains b c", "a b c", "a bc" }, { "@containsWord cat", "a cat!", "concat" },
    { "@strmatch ell", "hello", "world" }, { "@beginsWith ab", "abc", "cab" }, { "@endsWith bc", "abc", "bca" },
    { "@streq abc", "abc", "ABC" }, { "@within a,b,abc", "b", "z" },
    { "@eq 5", "5", "6" }, { "@ge 5", "5", "4" }, { "@gt 5", "6", "5" }, { "@le 5", "5", "6" }, { "@lt 5", "4", "5" },
    { "@detectSQLi", "1' or '1'='1", "plain words" }, { "@detectXSS", "<script>alert(1)</script>", "1 < 2" },
    { "@validateByteRange 32-126", "a\1b", "plain" }, { "@validateUrlEncoding", "%zz", "%41" },
    { "@validateUtf8Encoding", "\195\40", "\195\169" }, { "@ipMatch 10.0.0.0/8,2001:db8::/32", "10.1.2.3", "11.1.2.3" },
    { "@ipMatch 10.0.0.0/8,2001:db8::/32", "2001:db8::1", "2001:db9::1" },
    { "@unconditionalMatch", "anything", nil }, { "@noMatch", nil, "anything" }, { "!@streq abc", "abd", "abc" },
  }
  for _, case in ipairs(cases) do
    it(case[1] .. " tells what it should from what it should not", function()
      for i, want in ipairs({ true, false }) do
        if case[i + 1] then
          local value = case[i + 1]:gsub("%W", function(c) return ("%%%02X"):format(c:byte()) end)
          local ids = run(('SecRule ARGS:v "%s" "id:1,phase:2,pass"'):format(case[1]), form("v=" .. value)).ids
          assert.are.same(want and { 1 } or {}, ids, case[i + 1])
        end
      end
    end)
  end
end)

describe("disruptive actions", function()
  local after = '\nSecAction "id:8,phase:1,deny"\nSecAction "id:9,phase:2,deny,status:418"'

  it("redirect", function()
    local r = run([[SecRule ARGS:a "@rx (.*)" "id:1,phase:1,capture,redirect:'https://x.test/%{tx.1}',status:303"]],
      { uri = "/?a=b" })
    assert.equal(303, r.status)
    assert.equal(302, run([[SecAction "id:1,phase:1,redirect:'https://x.test/'"]]).status)
  end)

  it("let pass: the phase, the request, all", function()
    assert.equal(418, run('SecAction "id:1,phase:1,allow:phase"' .. after).status)
    local text = 'SecAction "id:1,phase:1,allow:request"' .. after .. '\nSecAction "id:10,phase:4,deny,status:500"'
    assert.equal(500, run(text).status)
    assert.is_nil(run((text:gsub("allow:request", "allow"))).status)
  end)

  it("block as the default action says", function()
    local text = 'SecDefaultAction "phase:1,log,auditlog,%s"\nSecAction "id:1,phase:1,block"'
    assert.equal(429, run(text:format("deny,status:429")).status)
    assert.is_nil(run(text:format("pass")).status)
  end)

  it("drop", function()
    assert.equal(403, run('SecAction "id:1,phase:1,drop"').status)
  end)
end)

describe("other actions", function()
  it("skip rules by number", function()
    assert.are.same({ 1, 4 }, run('SecAction "id:1,phase:1,pass,skip:2"\nSecAction "id:2,phase:1,pass"\n'
      .. 'SecAction "id:3,phase:1,pass"\nSecAction "id:4,phase:1,pass"').ids)
  end)

  it("set, add, subtract and unset variables, with macros in names and values", function()
    local r = run('SecAction "id:1,phase:1,pass,nolog,setvar:tx.a=5,setvar:tx.a=+%{tx.a},setvar:tx.b=7,setvar:tx.b=-3,setvar:tx.c,setvar:!tx.c,'
      .. "setvar:'tx.d_%{REQUEST_METHOD}=%{tx.a}/%{tx.b}'\"", nil, { get = { "a", "b", "c", "d_GET" } })
    assert.are.same({ a = "10", b = "4", d_GET = "10/4" }, r.vars)
  end)

  it("log or do not, with message and data", function()
    local r = run([[SecRule ARGS "@rx (x)" "id:1,phase:1,pass,capture,msg:'saw %{TX.1}',logdata:'%{MATCHED_VAR_NAME}=%{MATCHED_VAR}'"
SecRule ARGS "x" "id:2,phase:1,pass,nolog"]], { uri = "/?q=axb" })
    assert.are.same({ 1 }, r.ids)
    assert.equal("saw x", r.fired[1].msg)
    assert.equal("ARGS:q=axb", r.fired[1].data)
  end)
end)

describe("ctl", function()
  local function ctl(option, rest, parts)
    return run(('SecAction "id:5,phase:1,pass,nolog,ctl:%s"\n%s'):format(option, rest), parts).ids
  end
  local two = 'SecRule ARGS "x" "id:1,phase:2,pass,tag:\'app/one\',msg:\'first\'"\nSecRule ARGS "x" "id:2,phase:2,pass,msg:\'second\'"'
  local at = { uri = "/?a=x&b=x" }

  it("removes rules by id, range, tag and message", function()
    assert.are.same({ 2, 2 }, ctl("ruleRemoveById=1", two, at))
    assert.are.same({}, ctl("ruleRemoveById=1-2", two, at))
    assert.are.same({ 2, 2 }, ctl("ruleRemoveByTag=^app/", two, at))
    assert.are.same({ 1, 1 }, ctl("ruleRemoveByMsg=second", two, at))
  end)

  it("removes targets by id, tag and message: a name, a pattern, all of a kind", function()
    assert.are.same({ 1, 2, 2 }, ctl("ruleRemoveTargetById=1;ARGS:a", two, at))
    assert.are.same({ 1, 2, 2 }, ctl("ruleRemoveTargetByTag=app;ARGS:/^B$/", two, at))
    assert.are.same({ 1, 1 }, ctl("ruleRemoveTargetByMsg=second;ARGS", two, at))
  end)

  it("turns the engine off, or to detection", function()
    assert.are.same({}, ctl("ruleEngine=Off", two, at))
    assert.is_nil(run('SecAction "id:5,phase:1,pass,nolog,ctl:ruleEngine=DetectionOnly"\nSecAction "id:6,phase:1,deny"').status)
  end)

  it("chooses the body's processor, or whether a body is read at all", function()
    local post = { method = "POST", body = "a=x", headers = { { "Content-Type", "text/plain" } } }
    local rule = 'SecRule ARGS_POST:a "x" "id:1,phase:2,pass"\nSecRule REQUEST_BODY "x" "id:2,phase:2,pass"'
    assert.are.same({}, ctl("auditEngine=Off", rule, post))
    assert.are.same({ 2 }, ctl("forceRequestBodyVariable=On", rule, post))
    assert.are.same({ 1, 2 }, ctl("requestBodyProcessor=URLENCODED", rule, post))
    assert.are.same({}, ctl("requestBodyAccess=Off", rule, form("a=x")))
  end)

  it("sets limits", function()
    local r = run('SecAction "id:5,phase:1,pass,nolog,ctl:requestBodyLimit=3"', form("a=xyz"))
    assert.equal(413, r.status)
  end)
end)

describe("directives", function()
  local base = 'SecRule ARGS "x" "id:1,phase:2,deny,tag:\'app/one\',msg:\'first\'"\n'
  local at = { uri = "/?a=x" }

  it("change the actions of rules that stand before", function()
    assert.equal(403, run(base, at).status)
    assert.equal(418, run(base .. 'SecRuleUpdateActionById 1 "status:418"', at).status)
    local r = run(base .. 'SecRuleUpdateActionById 1 "pass,msg:\'other\',setvar:tx.seen=1"', at, { get = { "seen" } })
    assert.is_nil(r.status)
    assert.equal("other", r.fired[1].msg)
    assert.equal("1", r.vars.seen)
  end)

  it("change the targets of rules by id, tag and message", function()
    for _, line in ipairs({ "ById 1", "ByTag ^app/", "ByMsg first" }) do
      assert.are.same({}, run(base .. ('SecRuleUpdateTarget%s "!ARGS:a"'):format(line), at).ids, line)
      assert.are.same({ 1 }, run(base .. ('SecRuleUpdateTarget%s "REQUEST_METHOD"'):format(line), at).ids, line)
    end
    assert.are.same({ 1 }, run(base .. 'SecRuleUpdateTargetById 1 "REQUEST_URI"', { uri = "/x" }).ids)
  end)

  it("remove rules by id, range, tag and message", function()
    for _, line in ipairs({ "ById 1", "ById 0-5 7", "ByTag one$", "ByMsg ^fir" }) do
      assert.are.same({}, run(base .. "SecRuleRemove" .. line, at).ids, line)
    end
  end)

  it("forget collections after their time", function()
    local rules = secrules.rules_of("SecCollectionTimeout 2\n"
      .. 'SecAction "id:1,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},setvar:ip.n=+1,setvar:ip.m=+1,expirevar:ip.m=2"\n'
      .. 'SecRule IP:n "@ge 2" "id:2,phase:1,pass"\nSecRule IP:m "@ge 2" "id:3,phase:1,pass"')
    local function ids()
      return engine.run(rules, secrules.request()).ids
    end
    assert.are.same({}, ids())
    assert.are.same({ 2, 3 }, ids())
    os.execute("sleep 3.1") -- counted in whole seconds
    assert.are.same({}, ids())
  end)

  it("divide arguments and parse cookies as they say", function()
    assert.are.same({ 1 }, run('SecArgumentSeparator ";"\nSecRule ARGS:b "@streq 2" "id:1,phase:1,pass"', { uri = "/?a=1;b=2" }).ids)
    local cookie = { headers = { { "Host", "h" }, { "Cookie", 'a="x;y"; b=2' } } }
    assert.are.same({ 1 }, run('SecRule REQUEST_COOKIES:b "@streq 2" "id:1,phase:1,pass"', cookie).ids)
  end)

  it("bound the response that is inspected", function()
    local rule = '\nSecRule RESPONSE_BODY "secret" "id:1,phase:4,deny"'
    assert.equal(403, run("SecResponseBodyLimit 100" .. rule).status)
    assert.equal(500, run("SecResponseBodyLimit 5\nSecResponseBodyLimitAction Reject" .. rule).status)
    assert.is_nil(run("SecResponseBodyLimit 5\nSecResponseBodyLimitAction ProcessPartial" .. rule).status)
  end)

  it("bound the number of files", function()
    local part = '--b\r\nContent-Disposition: form-data; name="f%d"; filename="x"\r\n\r\n1\r\n'
    local r = run('SecUploadFileLimit 2\nSecRule MULTIPART_FILE_LIMIT_EXCEEDED "@eq 1" "id:1,phase:2,pass"',
      { method = "POST", body = part:format(1) .. part:format(2) .. part:format(3) .. "--b--\r\n",
        headers = { { "Content-Type", "multipart/form-data; boundary=b" } } })
    assert.are.same({ 1 }, r.ids)
  end)
end)

describe("includes", function()
  local dir

  before_each(function()
    dir = os.tmpname()
    os.remove(dir)
    os.execute("mkdir -p " .. dir .. "/sub")
  end)

  after_each(function()
    os.execute("rm -r " .. dir)
  end)

  local function write(name, text)
    local file = assert(io.open(dir .. "/" .. name, "w"))
    file:write(text)
    file:close()
  end

  it("read files beside the one that names them, in order of their names, where wildcards fit", function()
    write("main.conf", "SecRuleEngine On\nInclude sub/*.conf\nIncludeOptional none/*.conf\nInclude last.conf\n")
    write("sub/b.conf", 'SecAction "id:2,phase:1,pass,log"\n')
    write("sub/a.conf", 'SecAction "id:1,phase:1,pass,log"\n')
    write("sub/c.txt", "nonsense\n")
    write("last.conf", 'SecAction "id:3,phase:1,pass,log"\n')
    local rules = assert(engine.load({ dir .. "/main.conf" }))
    assert.are.same({ 1, 2, 3 }, engine.run(rules, secrules.request()).ids)
  end)

  it("that fit nothing, go in circles or hold mistakes are refused with the place", function()
    local function refused(text)
      local rules, err = engine.load({ dir .. "/main.conf" })
      assert.is_nil(rules)
      assert.is_truthy(err:find(text, 1, true), err)
    end
    write("main.conf", "Include none/*.conf\n")
    refused("main.conf:1: cannot include")
    write("main.conf", "\nInclude main.conf\n")
    refused("includes are more than")
    write("main.conf", "Include sub/a.conf\n")
    write("sub/a.conf", "\n\nSecNope 1\n")
    refused("sub/a.conf:3: unknown directive 'SecNope'")
  end)
end)
