-- SPDX-License-Identifier: Apache-2.0
-- luacheck: no max line length (a case a line)
--- SecLang as the engine reads it, rule by rule.
package.path = "spec/plugins/waf/?.lua;" .. package.path
local engine = require("engine")
local secrules = require("secrules")
local rules_of, request, run = secrules.rules_of, secrules.request, secrules.run
local form, json = secrules.form, secrules.json

if not engine.lib then
  describe("SecLang", function()
    pending("libwaf_unit.so is not built")
  end)
  return
end

local JSON = 'SecAction "id:9,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"\n'

describe("loading", function()
  local cases = {
    { "SecRool X y", "spec.conf:4: unknown directive 'SecRool'" },
    { 'SecRule NOPE "x" "id:1,pass"', "unknown variable 'NOPE'" },
    { 'SecRule ARGS "@nope x" "id:1,pass"', "unknown operator '@nope'" },
    { 'SecRule ARGS "x" "id:1,pass,t:rot13"', "unknown transformation 'rot13'" },
    { 'SecRule ARGS "x" "id:1,pass,frob"', "unknown action 'frob'" },
    { 'SecRule ARGS "x" "id:1,pass,frob:1"', "unknown action 'frob'" },
    { 'SecRule ARGS "x" "id:1,pass,ctl:frob=1"', "unknown ctl option 'frob'" },
    { 'SecRule ARGS "(" "id:1,pass"', "@rx: pattern, offset 1" },
    { 'SecRule ARGS "x" "pass"', "a rule wants an id" },
    { 'SecRule ARGS "x" "id:1,pass"\nSecAction "id:1,pass"', "spec.conf:5: another rule has id 1" },
    { 'SecRule ARGS "x" "id:1,pass,chain"', "has no next rule" },
    { 'SecRule ARGS "@pmFromFile no/such" "id:1,pass"', "cannot open data file 'no/such'" },
    { 'SecRule ARGS "@ipMatch 1.2.3" "id:1,pass"', "is no address" },
    { "SecMoonCorroborate 5 1 2", "wants the first rule, the last, and points" },
    { "SecMoonCorroborate 1 5 2 3", "wants the first rule, the last, and points" },
    { "Include /no/such/file.conf", "cannot include '/no/such/file.conf'" },
    { "SecRuleEngine Perhaps", "On, Off or DetectionOnly wanted" },
  }
  for _, case in ipairs(cases) do
    it("refuses " .. case[1]:gsub("\n.*", " …"), function()
      local rules, err = engine.load({ { name = "spec.conf", text = secrules.HEAD .. case[1] } })
      assert.is_nil(rules)
      assert.is_truthy(err:find(case[2], 1, true), err)
    end)
  end

  it("reads continued lines and counts them", function()
    local _, err = engine.load({ { name = "f", text = 'SecAction \\\n  "id:1,\\\n  pass"\nBad' } })
    assert.equal("f:4: unknown directive 'Bad'", err)
  end)

  it("reads a backslash in quotes as httpd does", function()
    local r = run([[SecRule ARGS "^a\\\\b$" "id:1,pass"]], { uri = "/?x=a%5Cb" })
    assert.are.same({ 1 }, r.ids)
    r = run([[SecRule ARGS "say \"hi\"" "id:1,pass"]], { uri = "/?x=say%20%22hi%22" })
    assert.are.same({ 1 }, r.ids)
  end)
end)

describe("sharing", function()
  local ffi = require("ffi")

  local function shared(path)
    local list = ffi.new("struct waf_source[1]")
    local err = ffi.new("struct waf_error")
    list[0].kind, list[0].name = 0, path
    local rules = engine.lib.waf_ruleset_shared(list, 1, err)
    assert(rules ~= nil, ffi.string(err.text))
    return ffi.gc(rules, engine.lib.waf_ruleset_release)
  end

  local function write(path, text)
    local f = assert(io.open(path, "w"))
    f:write(text)
    f:close()
  end

  it("gives out one rule set for equal sources, and another once a file changes", function()
    local dir = os.tmpname()
    os.remove(dir)
    os.execute("mkdir -p " .. dir)
    write(dir .. "/words.data", "alpha\n")
    write(dir .. "/a.conf", 'SecRule ARGS "@pmFromFile words.data" "id:1,phase:2,pass"\n')
    local first = shared(dir .. "/a.conf")
    assert.is_true(first == shared(dir .. "/a.conf"))
    write(dir .. "/words.data", "alpha\nbeta\n")
    local second = shared(dir .. "/a.conf")
    assert.is_false(first == second)
    assert.are.same({ 1 }, engine.run(second, request({ uri = "/?x=beta" })).ids)
    assert.are.same({}, engine.run(first, request({ uri = "/?x=beta" })).ids)
    os.execute("rm -r " .. dir)
  end)
end)

describe("matching", function()
  it("acts once for each value that matches", function()
    local r = run('SecRule ARGS "@rx evil" "id:1,phase:2,pass,setvar:tx.score=+5"',
      { uri = "/?a=evil&b=good&c=evil2" }, { get = { "score" } })
    assert.are.same({ 1, 1 }, r.ids)
    assert.equal("10", r.vars.score)
  end)

  it("adds at most the points of SecMoonCorroborate, and once a rule with SecMoonValues", function()
    local function score(directives)
      local r = run(directives .. '\nSecRule ARGS "@rx evil" "id:5,phase:2,pass,setvar:tx.score=+5,setvar:tx.seen=+1"\n'
        .. 'SecRule ARGS "@rx evil" "id:9,phase:2,pass,setvar:tx.score=+3"',
        { uri = "/?a=evil&b=evil" }, { get = { "score", "seen" } })
      return r.vars.score .. " " .. r.vars.seen
    end
    assert.equal("16 2", score(""))
    assert.equal("10 2", score("SecMoonCorroborate 1 5 2"))
    assert.equal("8 2", score("SecMoonValues On"))
    assert.equal("5 2", score("SecMoonValues On\nSecMoonCorroborate 5 5 2"))
  end)

  describe("counts what is told of by the fourth word of SecMoonCorroborate", function()
    local function score(arguments, head)
      local r = run("SecMoonCorroborate 5 5 5 3\n" .. (head or "")
        .. '\nSecRule ARGS "@rx (evil)" "id:5,phase:2,pass,capture,setvar:tx.score=+9"',
        { uri = "/?" .. arguments }, { get = { "score" } })
      return tonumber(r.vars.score)
    end
    -- What was found, and what stands around it.
    local told = {
      ["words before it"] = "a=Refused+path+/evil",
      ["words around it, and no mark of a language"] = "a=/evil+windows+equivalent",
      ["words behind it, in a field that holds text"] = "q=cat+/evil+windows+equivalent",
      ["words of a script without spaces before it"] = "a=%E5%A6%82%E4%BD%95%E9%98%B2%E6%AD%A2%E5%A6%82%E4%BD%95 %3Cevil%3E",
      ["code between back quotes before the words"] = "a=`evil(x)`+in+vendored+bundle",
      ["words between tags"] = "a=%3Cp%3Eone+two+three+four%3Cevil%3E%3C/p%3E",
      ["a word, in a field that holds text"] = "comment=def+f(x):+evil",
      ["three lines of code"] = "a=import+os%0Aimport+sys%0Aos.evil(sys.argv[1])+%23+as+the+first+one+does+it",
      ["a quotation that is opened and closed"] = "a=she+said+%22it's+fine%22+and+evil",
    }
    for what, arguments in pairs(told) do
      it("where there are " .. what, function()
        assert.equal(3, score(arguments))
      end)
    end
    local not_told = {
      ["nothing else"] = "a=evil",
      ["a name before it"] = "a=admin=evil",
      ["words that a quotation mark ends"] = "a=blue+shirt'+and+evil",
      ["words, and a quotation that goes on as SQL does"] = "a=tea+time+%22or+evil",
      ["words that a parenthesis ends which nobody opened"] = "a=big+books)+evil",
      ["words with a back quote behind"] = "a=good+old+day`evil`",
      ["words with a bar behind"] = "a=john+doe|evil",
      ["an end of line before the words"] = "a=%0d%0asome+words+evil",
      ["a mark at its beginning that breaks out"] = "a=';+some+words+evil",
      ["an attribute's name and value"] = "a=%3Cimg+src=x+onerror=evil%3E",
      ["words of SQL"] = "a=1+union+select+evil",
      ["no words, in a field of the query that holds text"] = "comment=%3Cevil%3E",
    }
    for what, arguments in pairs(not_told) do
      it("but not where there is " .. what, function()
        assert.equal(5, score(arguments))
      end)
    end

    it("and the rest, once, where another value has it by itself", function()
      local on = "SecMoonValues On"
      assert.equal(5, score("a=Refused+path+/evil&b=evil&c=evil", on))
      assert.equal(5, score("a=evil&b=Refused+path+/evil", on))
      assert.equal(3, score("a=Refused+path+/evil&b=Denied+path+/evil", on))
    end)

    it("not for a rule that looks at other things than arguments", function()
      local r = run("SecMoonCorroborate 5 5 5 3\n"
        .. 'SecRule REQUEST_HEADERS:Referer "@rx evil" "id:5,phase:1,pass,setvar:tx.score=+9"',
        { headers = { { "Host", "a" }, { "Referer", "some words, evil" } } }, { get = { "score" } })
      assert.equal("5", r.vars.score)
    end)
  end)

  it("denies with the status of the rule, in prevention only", function()
    local text = 'SecRule ARGS:a "@streq b" "id:7,phase:1,deny,status:418"'
    assert.equal(418, run(text, { uri = "/?a=b" }).status)
    assert.is_nil(run(text, { uri = "/?a=b" }, { mode = 2 }).status)
    assert.is_nil(run(text, { uri = "/?a=c" }).status)
  end)

  it("runs a chain to its end before the disruptive action", function()
    local text = 'SecRule REQUEST_METHOD "@streq POST" "id:1,phase:2,deny,chain"\n'
      .. ' SecRule &ARGS "@gt 1" "t:none,setvar:tx.hit=1"'
    assert.equal(403, run(text, form("a=1&b=2")).status)
    assert.is_nil(run(text, form("a=1")).status)
  end)

  it("captures groups for later rules and macros", function()
    local r = run('SecRule ARGS:v "@rx ^(\\d+)-(\\d+)$" "id:1,phase:1,pass,capture,chain"\n'
      .. ' SecRule TX:2 "@lt %{tx.1}" "setvar:\'tx.order=%{tx.2}<%{tx.1}\'"',
      { uri = "/?v=9-3" }, { get = { "order" } })
    assert.equal("3<9", r.vars.order)
  end)

  it("skips to a marker", function()
    local text = 'SecAction "id:1,phase:1,pass,nolog,skipAfter:END"\n'
      .. 'SecAction "id:2,phase:1,pass,log"\nSecMarker END\nSecAction "id:3,phase:1,pass,log"'
    assert.are.same({ 3 }, run(text).ids)
  end)

  it("removes rules and targets at run time and at load", function()
    local base = 'SecRule ARGS "@rx x" "id:1,phase:2,pass,tag:\'app/y\'"\n'
    local at = { uri = "/?a=x&b=x" }
    assert.are.same({}, run('SecAction "id:5,phase:1,pass,nolog,ctl:ruleRemoveById=1-3"\n' .. base, at).ids)
    assert.are.same({ 1 }, run('SecAction "id:5,phase:1,pass,nolog,'
      .. 'ctl:ruleRemoveTargetByTag=app;ARGS:a"\n' .. base, at).ids)
    assert.are.same({ 1 }, run(base .. 'SecRuleUpdateTargetById 1 "!ARGS:/^B$/"', at).ids)
    assert.are.same({}, run(base .. "SecRuleRemoveByTag app/", at).ids)
  end)

  it("takes exclusions of one route on top of a shared rule set", function()
    local rules = rules_of('SecRule ARGS "@rx x" "id:1,phase:2,pass"\nSecRule ARGS "@rx x" "id:2,phase:2,pass"')
    local overlay = assert(engine.overlay(rules, 'SecRuleRemoveById 1\nSecRuleUpdateTargetById 2 "!ARGS:a"'))
    local req = request({ uri = "/?a=x&b=x" })
    assert.are.same({ 2 }, engine.run(rules, req, nil, { overlay = overlay }).ids)
    assert.are.same({ 1, 1, 2, 2 }, engine.run(rules, req).ids)
    local none, err = engine.overlay(rules, 'SecAction "id:9,pass"')
    assert.is_nil(none)
    assert.is_truthy(err:find("not allowed here", 1, true))
  end)

  it("applies transformations in order, and multiMatch to each stage", function()
    assert.are.same({ 1 }, run('SecRule ARGS "@streq <b>" "id:1,phase:2,pass,t:urlDecodeUni,t:htmlEntityDecode"',
      { uri = "/?x=%2526lt%253Bb%253E" }).ids)
    assert.are.same({ 1, 1 }, run('SecRule ARGS "@rx a" "id:1,phase:2,pass,multiMatch,t:urlDecode"',
      { uri = "/?x=a%252Bb" }).ids)
  end)

  it("looks at response bodies of the types that are inspected", function()
    assert.equal(403, run('SecRule RESPONSE_BODY "@contains secret" "id:1,phase:4,deny"').status)
    assert.is_nil(run('SecResponseBodyMimeTypesClear\nSecResponseBodyMimeType text/css\n'
      .. 'SecRule RESPONSE_BODY "@contains secret" "id:1,phase:4,deny"').status)
  end)

  it("keeps collections from one request to the next", function()
    local rules = rules_of('SecAction "id:1,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},setvar:ip.n=+1"\n'
      .. 'SecRule IP:n "@ge 3" "id:2,phase:1,deny,status:429"')
    local function status(client)
      return engine.run(rules, request({ client = client })).status
    end
    assert.is_nil(status("192.0.2.1"))
    assert.is_nil(status("192.0.2.1"))
    assert.is_nil(status("192.0.2.2"))
    assert.equal(429, status("192.0.2.1"))
  end)
end)

describe("bodies", function()
  local function seen(text, parts)
    local out = {}
    for _, f in ipairs(run(text, parts).fired) do
      out[#out + 1] = f.variable .. "=" .. f.value
    end
    return out
  end
  local ALL = 'SecRule ARGS|FILES|MULTIPART_PART_HEADERS "@unconditionalMatch" "id:1,phase:2,pass"'

  it("names members of JSON as mod_security2 does", function()
    assert.are.same({ "ARGS:a.b.b=1", "ARGS:a.b.b=2", "ARGS:a.b.b.c=x", "ARGS:a.d=", "ARGS:a.e=true", "ARGS:f.f.f=q" },
      seen(JSON .. ALL, json('{"a":{"b":[1,2,{"c":"x"}],"d":null,"e":true},"f":[["q"]]}')))
    assert.are.same({ "ARGS:array.array=1", "ARGS:array.array.a=2", "ARGS:array.array.array=3" },
      seen(JSON .. ALL, json('[1,{"a":2},[3]]')))
  end)

  for _, bad in ipairs({ '{"a":', '{"a":1}x', "[1,]", "{'a':1}", '"\\x"', "01", "nul", '"\1"', '{"a" 1}' }) do
    it("calls broken JSON broken: " .. bad:gsub("%c", "?"), function()
      local r = run(JSON .. 'SecRule REQBODY_ERROR "!@eq 0" "id:1,phase:2,deny,status:400"', json(bad))
      assert.equal(400, r.status)
    end)
  end

  it("stops at the depth that is allowed", function()
    local text = JSON .. "SecRequestBodyJsonDepthLimit 20\n"
      .. 'SecRule REQBODY_ERROR "@eq 1" "id:1,phase:2,deny,status:400"'
    assert.is_nil(run(text, json(("["):rep(20) .. ("]"):rep(20))).status)
    assert.equal(400, run(text, json(("["):rep(21) .. ("]"):rep(21))).status)
  end)

  it("reads parts, files and their headers", function()
    local body = table.concat({ "--b", 'Content-Disposition: form-data; name="n"', "", "v", "--b",
      'Content-Disposition: form-data; name="f"; filename="a.php"', "X-Y: z", "", "data", "--b--", "" }, "\r\n")
    assert.are.same({
      "ARGS:n=v", "FILES:f=a.php",
      'MULTIPART_PART_HEADERS:n=Content-Disposition: form-data; name="n"',
      'MULTIPART_PART_HEADERS:f=Content-Disposition: form-data; name="f"; filename="a.php"',
      "MULTIPART_PART_HEADERS:f=X-Y: z",
    }, seen(ALL, { method = "POST", body = body,
      headers = { { "Content-Type", "multipart/form-data; boundary=b" } } }))
  end)

  local strict = {
    { "text before the first boundary", "x\r\n--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b--\r\n", "DATA_BEFORE" },
    { "text after the last boundary", "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b--\r\nx\r\n", "DATA_AFTER" },
    { "bare line feeds", "--b\nContent-Disposition: form-data; name=\"a\"\n\n1\n--b--\n", "LF_LINE" },
    { "a missing semicolon", "--b\r\nContent-Disposition: form-data; name=\"a\" filename=\"x\"\r\n\r\n1\r\n--b--\r\n", "MISSING_SEMICOLON" },
    { "single quotes", "--b\r\nContent-Disposition: form-data; name='a'\r\n\r\n1\r\n--b--\r\n", "INVALID_QUOTING" },
    { "folded headers", "--b\r\nContent-Disposition: form-data;\r\n name=\"a\"\r\n\r\n1\r\n--b--\r\n", "HEADER_FOLDING" },
  }
  for _, case in ipairs(strict) do
    it("tells of " .. case[1], function()
      local r = run(('SecRule MULTIPART_%s "@eq 1" "id:1,phase:2,pass"\nSecRule MULTIPART_STRICT_ERROR "@eq 1" "id:2,phase:2,pass"')
        :format(case[3]), { method = "POST", body = case[2],
          headers = { { "Content-Type", "multipart/form-data; boundary=b" } } })
      assert.are.same({ 1, 2 }, r.ids)
    end)
  end

  it("reads all of a folded header, what stands behind a NUL too", function()
    local body = "--b\r\nX-\0Y: one\r\n two\0three\r\n"
      .. 'Content-Disposition: form-data;\r\n name="n"\r\n\r\nv\r\n--b--\r\n'
    assert.are.same({
      "ARGS:n=v", "MULTIPART_PART_HEADERS:n=X-\0Y: one two\0three",
      'MULTIPART_PART_HEADERS:n=Content-Disposition: form-data; name="n"',
    }, seen(ALL, { method = "POST", body = body,
      headers = { { "Content-Type", "multipart/form-data; boundary=b" } } }))
  end)

  local XML = 'SecAction "id:9,phase:1,pass,nolog,ctl:requestBodyProcessor=XML"\n'
  it("reads text and attributes of XML", function()
    local r = run(XML .. 'SecRule XML:/* "@streq t1 t2 cd" "id:1,phase:2,pass"\n'
      .. 'SecRule XML://@* "@streq 1<2&" "id:2,phase:2,pass"',
      { method = "POST", body = '<a x="1&lt;2&amp;"><b>t1</b> t2 <![CDATA[cd]]></a>' })
    assert.are.same({ 1, 2 }, r.ids)
  end)

  it("never expands an entity", function()
    local bomb = '<!DOCTYPE a [<!ENTITY x "lol"><!ENTITY y "&x;&x;&x;"><!ENTITY f SYSTEM "file:///etc/hostname">]>'
      .. "<a>[&y;&f;]</a>"
    local r = run(XML .. 'SecRule XML:/* "@streq []" "id:1,phase:2,pass"', { method = "POST", body = bomb })
    assert.are.same({ 1 }, r.ids)
  end)

  it("refuses what is over the limit, or looks at a part of it", function()
    local limit = "SecRequestBodyLimit 10\n"
    assert.equal(413, run(limit .. ALL, form("a=" .. ("x"):rep(20))).status)
    local part = run(limit .. "SecRequestBodyLimitAction ProcessPartial\n" .. ALL, form("a=" .. ("x"):rep(20)))
    assert.equal("xxxxxxxx", part.fired[1].value)
  end)

  it("bounds the number of arguments", function()
    local r = run("SecArgumentsLimit 100\n"
      .. 'SecRule REQBODY_ERROR "@eq 1" "id:1,phase:2,pass"\nSecRule &ARGS "@eq 100" "id:2,phase:2,pass"',
      form(("a=1&"):rep(5000)))
    assert.are.same({ 1, 2 }, r.ids)
  end)
end)

describe("limits", function()
  it("bound a pattern that backtracks, and say so", function()
    local text = "SecPcreMatchLimit 1000\n"
      .. 'SecRule ARGS "@rx ^(a+)+$" "id:1,phase:2,deny"\n'
      .. 'SecRule TX:MSC_PCRE_LIMITS_EXCEEDED "@eq 1" "id:2,phase:2,deny,status:400"'
    local started = os.clock()
    assert.equal(400, run(text, { uri = "/?x=" .. ("a"):rep(40) .. "!" }).status)
    assert.is_true(os.clock() - started < 0.5)
  end)
end)

describe("a budget that is spent", function()
  it("refuses the request where rules are enforced", function()
    local slow = {}
    for i = 1, 3000 do
      slow[i] = ('SecRule ARGS "@rx ^(a+)+[b%d]$" "id:%d,phase:2,pass,nolog"'):format(i % 10, i)
    end
    local text = "SecPcreMatchLimit 100000\n" .. table.concat(slow, "\n")
    local at = { uri = "/?x=" .. ("a"):rep(60) .. "9b" }
    local r = run(text, at)
    assert.is_true(r.exhausted)
    assert.equal(403, r.status)
    r = run(text, at, { mode = 2 })
    assert.is_nil(r.status)
  end)

  it("is not spent by a client that takes its time over the body", function()
    local text = 'SecRequestBodyAccess On\nSecPcreMatchLimit 1000\n'
      .. 'SecRule ARGS "@rx ^(a+)+b$" "id:1,phase:2,pass,nolog"'
    local r = engine.run(rules_of(text), request(form("x=" .. ("a"):rep(60) .. "9b")), nil, {
      get = { "MSC_PCRE_LIMITS_EXCEEDED" },
      before_body = function() os.execute("sleep 0.1") end,
    })
    assert.equal("1", r.vars.MSC_PCRE_LIMITS_EXCEEDED)
    assert.is_false(r.exhausted)
    assert.is_nil(r.status)
  end)
end)

describe("libinjection", function()
  it("never calls one word SQL, nor script what has neither tag nor value", function()
    local sqli = rules_of('SecRule ARGS "@detectSQLi" "id:1,phase:2,pass"')
    local xss = rules_of('SecRule ARGS "@detectXSS" "id:1,phase:2,pass"')
    local vocabulary = { "onclick", "script", "javascript:", "style", " ", "\t", '"', "'", "`", ">", "/", "!", "--",
      "xlink:href", "svg", "data:", "alert(1)", "%00", "&#x3c;", "[", "]]", "?", "xmlns", "on", ";" }
    math.randomseed(7)
    engine.lib.waf_set_prefilter(false)
    for _ = 1, 4000 do
      local word, text = {}, {}
      for i = 1, math.random(12) do
        local at = math.random(63)
        word[i] = ("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"):sub(at, at)
        text[i] = vocabulary[math.random(#vocabulary)]
      end
      assert.are.same({}, engine.run(sqli, request(form("x=" .. table.concat(word))), nil, { quiet = true }).ids)
      local value = table.concat(text):gsub("%W", function(c) return ("%%%02X"):format(c:byte()) end)
      assert.are.same({}, engine.run(xss, request(form("x=" .. value)), nil, { quiet = true }).ids)
    end
    engine.lib.waf_set_prefilter(true)
  end)
end)

describe("libinjection's words", function()
  local ffi = require("ffi")
  ffi.cdef("int libinjection_sqli(const char *, size_t, char *);")

  it("are remembered as the library itself says them", function()
    local rules = rules_of('SecRule ARGS:x "@detectSQLi" "id:1,phase:2,pass,capture"')
    local words = { "1", "'", '"', "or", "OR", "and", "union", "UNION", "select", "Select", "from", "where", "(", ")",
      "--", "#", "/*", "*/", "a", "name", "garden", "=", "1=1", ";", ",", "sleep", "benchmark", "case", "when", "is",
      "not", "null", "group by", "order by", "in", "like", "admin", "0x1f", "1e5", "@@version", "`", "into outfile",
      ("averylongword"):rep(4), "straße", "\0" }
    math.randomseed(11)
    local found = 0
    for _ = 1, 4000 do
      local text = {}
      for i = 1, math.random(7) do
        text[i] = words[math.random(#words)]
      end
      local value, print = table.concat(text, math.random(2) == 1 and " " or ""), ffi.new("char[16]")
      local is_sqli = engine.lib.libinjection_sqli(value, #value, print) ~= 0
      local escaped = value:gsub("%W", function(c) return ("%%%02X"):format(c:byte()) end)
      local r = engine.run(rules, request(form("x=" .. escaped)), nil, { quiet = true, get = { "0" } })
      assert.are.same(is_sqli and { 1 } or {}, r.ids, value)
      if is_sqli then
        assert.equal(ffi.string(print), r.vars["0"], value)
        found = found + 1
      end
    end
    assert.is_true(found > 80, found)
  end)
end)

describe("the error log", function()
  it("writes ModSecurity's line", function()
    local r = run('SecRule ARGS:q "@rx bad" "id:42,phase:1,deny,rev:2,msg:\'A \\\'b\\\'\',logdata:\'%{MATCHED_VAR}\','
      .. 'severity:2,tag:one,tag:two,ver:\'X/1\'"', { uri = "/p?q=bad%22%0a" })
    assert.equal('[client 127.0.0.1] ModSecurity: Access denied with code 403 (phase 1). '
      .. 'Pattern match "bad" at ARGS:q. [file "spec.conf"] [line "4"] [id "42"] [rev "2"] '
      .. '[msg "A \'b\'"] [data "bad\\x22\\x0a"] [severity "CRITICAL"] [ver "X/1"] [tag "one"] [tag "two"] '
      .. '[hostname "h"] [uri "/p"] [unique_id "AbC123"]', r.lines[1])
  end)
end)
