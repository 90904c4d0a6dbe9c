-- SPDX-License-Identifier: Apache-2.0
-- luacheck: no max line length (a case a line)
--- What mod_security2 2.9.7 did with the same rules and bytes, side by side; the cases are those where the two parted.
package.path = "spec/plugins/waf/?.lua;" .. package.path
local engine = require("engine")
local secrules = require("secrules")
local run, form = secrules.run, secrules.form

if not engine.lib then
  describe("semantics of SecLang", function()
    pending("libwaf_unit.so is not built")
  end)
  return
end

local function escaped(bytes)
  return (bytes:gsub(".", function(c) return ("%%%02X"):format(c:byte()) end))
end

describe("transformations", function()
  local cases = {
    { "escapeSeqDecode", "\\u0041\\x3c\\74\\q\\", "u0041<<q\\" }, { "escapeSeqDecode", "\\400\\8\\xg\\n", "\0" .. "8xg\n" },
    { "utf8toUnicode", "\195\169\226\130\172\240\159\152\128", "%u00e9%u20ac%u1f600" },
    { "utf8toUnicode", "\192\175", "%u002f\192" }, { "utf8toUnicode", "\237\160\128", "%ud800\237" },
    { "utf8toUnicode", "a\0b\195(\255\128", "ab(\255\128" }, { "utf8toUnicode", "\244\144\128\128\245", "%u110000\245" },
    { "removeComments", "a--b", "a" }, { "removeComments", "a#b", "a" }, { "removeComments", "a/*b", "a " },
    { "parityEven7bit", "a\160b", "\225\32\226" }, { "parityOdd7bit", "\128\255\127", "\0\255\127" },
    { "hexDecode", "414g", "\65\80" }, { "base64DecodeExt", "YWJ=j!k", "abc" }, { "base64DecodeExt", "A b+c&d=e/f", "" },
  }
  for _, case in ipairs(cases) do
    it(("%s makes %s of %s"):format(case[1], case[3]:gsub("[^ -~]", "?"), (case[2]:gsub("[^ -~]", "?"))), function()
      local r = run(('SecRule ARGS:v "@unconditionalMatch" "id:1,phase:1,pass,t:none,t:%s,msg:\'%%{MATCHED_VAR}\'"'):format(case[1]),
        { uri = "/?v=" .. escaped(case[2]) })
      assert.equal(case[3], r.fired[1].msg)
    end)
  end
end)

describe("counters", function()
  it("do not go below 0", function()
    local r = run('SecAction "id:1,phase:1,pass,nolog,setvar:tx.a=-3,setvar:tx.b=2,setvar:tx.b=-5,setvar:tx.c=+-4,setvar:tx.d=7,setvar:tx.d=-3"',
      nil, { get = { "a", "b", "c", "d" } })
    assert.are.same({ a = "0", b = "0", c = "0", d = "4" }, r.vars)
  end)
end)

describe("rules that could not do what they say", function()
  local head = 'SecRule ARGS "x" "id:1,phase:2,pass,chain"\n'
  local cases = {
    { head .. 'SecRule ARGS "y" "deny"', "only the first rule of a chain may have a disruptive action" },
    { head .. 'SecRule ARGS "y" "pass"', "only the first rule of a chain may have a disruptive action" },
    { head .. 'SecRule ARGS "y" "phase:2"', "only the first rule of a chain may have a phase" },
    { head .. 'SecRule ARGS "y" "skipAfter:END"', "only the first rule of a chain may have skip or skipAfter" },
    { head .. 'SecRule ARGS "y" "skip:1"', "only the first rule of a chain may have skip or skipAfter" },
    { head .. 'SecRule ARGS "y" "msg:\'z\'"', "only the first rule of a chain may have id, msg" },
    { head .. 'SecRule ARGS "y" "id:2"', "only the first rule of a chain may have id, msg" },
    { 'SecRule ARGS "x" "id:1,phase:5,deny"', "phase 5 comes after the answer" },
    { 'SecRule REMOTE_ADDR:x "y" "id:1,pass"', "REMOTE_ADDR is one value and has no ':x'" },
    { 'SecDefaultAction "phase:2,pass,id:5"', "SecDefaultAction cannot have id, msg" },
    { 'SecRule ARGS "x" "id:1,pass"\nSecRuleUpdateTargetById 1 "ARGS:a" "REQUEST_BODY"', "no rule '1' before this line has 'REQUEST_BODY' to replace" },
  }
  for _, case in ipairs(cases) do
    it("are refused: " .. case[1]:gsub("\n", " ; "), function()
      local rules, err = engine.load({ { name = "spec.conf", text = secrules.HEAD .. case[1] } })
      assert.is_nil(rules)
      assert.is_truthy(err:find(case[2], 1, true), err)
    end)
  end
  it("but a chain may go on with tags, variables and captures", function()
    assert.are.same({ 1 }, run(head .. 'SecRule ARGS "x" "tag:\'a\',capture,setvar:tx.a=1,t:lowercase"', { uri = "/?a=x" }).ids)
  end)
end)

describe("targets", function()
  local base = 'SecRule ARGS|REQUEST_HEADERS:X-A "x" "id:1,phase:1,pass"\n'
    .. 'SecRule ARGS "x" "id:3,phase:1,pass,chain"\nSecRule REQUEST_METHOD "GET"\n'
  local at = { uri = "/?a=x&b=x", headers = { { "Host", "h" }, { "X-A", "x" } } }

  it("are replaced by the third word of SecRuleUpdateTargetById", function()
    assert.are.same({ 1, 1, 1, 3 }, run(base, at).ids)
    assert.are.same({ 1, 1, 3 }, run(base .. 'SecRuleUpdateTargetById 1 "ARGS:a" "ARGS"', at).ids)
    assert.are.same({ 1, 1, 3 }, run(base .. 'SecRuleUpdateTargetById 1 "REQUEST_METHOD" "REQUEST_HEADERS:x-a"', at).ids)
  end)

  it("of a rule down the chain are named by its place", function()
    assert.are.same({ 1, 1, 1 }, run(base .. 'SecRuleUpdateTargetById 3:1 "!REQUEST_METHOD"', at).ids)
    assert.are.same({ 1, 1, 1, 3 }, run(base .. 'SecRuleUpdateTargetById 1:1 "!ARGS"', at).ids)
  end)

  it("that are counted have the name of what they count", function()
    local r = run('SecRule &REQUEST_COOKIES|&ARGS:a|&REQUEST_HEADERS:X-A "@ge 0" "id:1,phase:1,pass,msg:\'%{MATCHED_VAR_NAME}=%{MATCHED_VAR}\'"', at)
    assert.are.same({ "REQUEST_COOKIES=0", "ARGS=1", "REQUEST_HEADERS=1" }, { r.fired[1].msg, r.fired[2].msg, r.fired[3].msg })
  end)
end)

describe("the logging phase", function()
  it("sees what was refused, and with which status", function()
    local r = run('SecRule ARGS "x" "id:1,phase:2,deny,status:409"\nSecRule RESPONSE_STATUS "@streq 409" "id:2,phase:5,pass"\n'
      .. 'SecRule ARGS "x" "id:3,phase:5,pass"', { uri = "/?a=x" })
    assert.equal(409, r.status)
    assert.are.same({ 1, 2, 3 }, r.ids)
  end)
end)

describe("a message", function()
  it("that names its own rule's is told as it is written", function()
    local r = run([[SecAction "id:1,phase:1,pass,msg:'%{RULE.id} %{RULE.msg}',logdata:'%{RULE.logdata}'"]])
    assert.equal("1 %{RULE.id} %{RULE.msg}", r.fired[1].msg)
    assert.equal("%{RULE.logdata}", r.fired[1].data)
  end)
end)

describe("JSON", function()
  local head = 'SecAction "id:9,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"\n'
    .. 'SecRule REQBODY_ERROR "@eq 1" "id:1,phase:2,pass,msg:\'%{REQBODY_ERROR_MSG}\'"\n'
    .. 'SecRule MULTIPART_STRICT_ERROR "@eq 1" "id:2,phase:2,pass"'

  it("with bytes that are no UTF-8 is an error, of JSON only", function()
    for _, bad in ipairs({ "\255", "\195", "\195(", "\128", "a\\n\226\130", "\248\136\128\128\128" }) do
      local r = run(head, secrules.json('{"a":"' .. bad .. '"}'))
      assert.are.same({ 1 }, r.ids, bad)
      assert.is_truthy(r.fired[1].msg:find("UTF-8", 1, true), r.fired[1].msg)
    end
    for _, good in ipairs({ "\195\169", "\226\130\172", "\240\159\152\128", "x\\u0041\195\169" }) do
      assert.are.same({}, run(head, secrules.json('{"a":"' .. good .. '"}')).ids, good)
    end
  end)
end)

describe("multipart bodies", function()
  local rules = 'SecRule REQBODY_ERROR "@eq 1" "id:1,phase:2,pass"\nSecRule MULTIPART_MISSING_SEMICOLON "@eq 1" "id:2,phase:2,pass"\n'
    .. 'SecRule MULTIPART_LF_LINE "@eq 1" "id:3,phase:2,pass"\nSecRule MULTIPART_NAME|MULTIPART_FILENAME "@unconditionalMatch" "id:4,phase:2,pass"'
  local function ids(body, content_type)
    return run(rules, { method = "POST", body = body,
      headers = { { "Content-Type", content_type or "multipart/form-data; boundary=B" } } }).ids
  end
  local function part(disposition, stop)
    return '--B\r\nContent-Disposition: form-data; ' .. disposition .. "\r\n\r\nv" .. (stop or "\r\n") .. "--B--\r\n"
  end

  it("tell a boundary that no semicolon stands before", function()
    assert.are.same({ 2, 4 }, ids(part('name="f"'), "multipart/form-data boundary=B"))
    assert.are.same({ 4 }, ids(part('name="f"')))
  end)

  it("with a parameter that only some applications read are errors", function()
    assert.are.same({ 1, 4 }, ids(part('name="f"; filename*=UTF-8\'\'x.php')))
    assert.are.same({ 1 }, ids(part('foo="f"')))
  end)

  it("tell a bare LF before the last boundary", function()
    assert.are.same({ 3, 4 }, ids(part('name="f"', "\n")))
  end)

  it("that are empty are no error, and other bodies have no names of parts", function()
    assert.are.same({}, ids(""))
    assert.are.same({}, run(rules, form("a=b")).ids)
  end)
end)

describe("collections", function()
  local seen = 'SecAction "id:9,phase:2,pass,msg:\'%{ip.a} %{ip.b} %{ip.key} %{ip.is_new} %{ip.update_counter} %{ip.timeout}\'"'
  local function after(actions, key)
    local text = ('SecCollectionTimeout 77\nSecAction "id:1,phase:1,pass,nolog,initcol:ip=%s%s"\n%s'):format(key, actions, seen)
    return run(text).fired[1].msg
  end

  it("tell of themselves, and count what changed them", function()
    local key = "facts"
    assert.equal("  " .. key .. " 1 0 77", after("", key))
    assert.equal("1  " .. key .. " 1 0 77", after(",setvar:ip.a=+1", key))
    assert.equal("1  " .. key .. "  1 77", after("", key))
    assert.equal("3 x " .. key .. "  1 77", after(",setvar:ip.a=+2,setvar:ip.b=x", key))
    assert.equal("3  " .. key .. "  2 77", after(",setvar:!ip.b", key))
    assert.equal("0  " .. key .. "  3 77", after(",setvar:ip.a=-9", key))
  end)

  it("keep the time that a variable has when it is set again, and lose it when it is taken out", function()
    local key = "expiry"
    after(",setvar:ip.a=1,expirevar:ip.a=0,setvar:ip.b=1,expirevar:ip.b=900,setvar:ip.b=2", key)
    assert.equal(" 2 " .. key .. "  1 77", after("", key))
  end)

  it("are those of a SecWebAppId, and of no other key, with a NUL or without", function()
    local key = "apps"
    after(",setvar:ip.a=1", key)
    local other = run(('SecWebAppId other\nSecAction "id:1,phase:1,pass,nolog,initcol:ip=%s"\nSecAction "id:9,phase:2,pass,msg:\'%%{ip.a} %%{WEBAPPID}\'"'):format(key))
    assert.equal(" other", other.fired[1].msg)
    local nul = run('SecAction "id:1,phase:1,pass,nolog,initcol:ip=%{ARGS.k},setvar:ip.a=+1"\nSecAction "id:9,phase:2,pass,msg:\'%{ip.a}\'"',
      { uri = "/?k=" .. key .. "%00x" })
    assert.equal("1", nul.fired[1].msg)
    assert.equal("1", after("", key):match("^%d"))
  end)

  it("hold no more than a record has room for", function()
    local key = "room"
    after((",setvar:ip.a=1,setvar:ip.b=%s"):format(("x"):rep(2000)), key)
    assert.equal("1  " .. key .. "  1 77", after("", key))
  end)
end)

describe("what no log may show", function()
  local log = "logdata:'%{MATCHED_VAR}',msg:'m'"
  local at = { uri = "/?password=hunter2&user=hunter2", headers = { { "Host", "h" }, { "X-Pin", "hunter2" } } }
  local function data(rules)
    local found = {}
    for i, line in ipairs(run(rules, at).lines) do
      found[i] = line:match("%[data \"(.-)\"%]")
    end
    return found
  end

  it("is told by the name of the variable, where a chain goes on from it too", function()
    assert.are.same({ "[redacted]", "hunter2" }, data('SecRule ARGS "hunter" "id:1,phase:1,pass,' .. log .. '"'))
    for _, rest in ipairs({ 'MATCHED_VAR "hunter"', 'TX:1 "hunter"', 'MATCHED_VARS "hunter"' }) do
      assert.are.same({ "[redacted]" }, data('SecRule ARGS:password "(hunter2)" "id:1,phase:1,pass,capture,chain,' .. log
        .. '"\nSecRule ' .. rest), rest)
      assert.are.same({ "hunter2" }, data('SecRule ARGS:user "(hunter2)" "id:1,phase:1,pass,capture,chain,' .. log
        .. '"\nSecRule ' .. rest), rest)
    end
  end)

  it("is a query with such a name in it", function()
    assert.are.same({ "[redacted]" }, data('SecRule QUERY_STRING "hunter" "id:1,phase:1,pass,' .. log .. '"'))
    assert.are.same({ "[redacted]" }, data('SecRule REQUEST_LINE "hunter" "id:1,phase:1,pass,' .. log .. '"'))
  end)

  it("is what rules say: arguments, fields, what matched", function()
    local rule = '\nSecRule ARGS:user|REQUEST_HEADERS:X-Pin "hunter" "id:2,phase:1,pass,' .. log .. '"'
    assert.are.same({ "hunter2", "hunter2" }, data(rule))
    assert.are.same({ "[redacted]", "hunter2" }, data('SecAction "id:1,phase:1,pass,nolog,sanitiseArg:user"' .. rule))
    assert.are.same({ "hunter2", "[redacted]" }, data('SecAction "id:1,phase:1,pass,nolog,sanitizeRequestHeader:x-pin"' .. rule))
    assert.are.same({ "[redacted]", "hunter2" }, data('SecRule ARGS:user "h" "id:1,phase:1,pass,nolog,sanitiseMatched"' .. rule))
  end)
end)

describe("a match in a chain", function()
  it("is told by the variable that the chain began with", function()
    local r = run('SecRule ARGS "x" "id:1,phase:1,pass,chain"\nSecRule MATCHED_VAR "x"', { uri = "/?a=x" })
    assert.equal("ARGS:a", r.fired[1].variable)
  end)
end)

describe("a body over the limit that is inspected in part", function()
  local rules = [[
SecRequestBodyLimit 60
SecRequestBodyNoFilesLimit 60
SecRequestBodyLimitAction ProcessPartial
SecRule REQUEST_HEADERS:Content-Type "json" "id:10,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQUEST_HEADERS:Content-Type "xml" "id:11,phase:1,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQBODY_ERROR|MULTIPART_STRICT_ERROR "@eq 1" "id:1,phase:2,pass"
SecRule INBOUND_DATA_ERROR "@eq 1" "id:2,phase:2,pass"
SecRule ARGS|XML:/*|FILES_NAMES|FILES "evil|up" "id:3,phase:2,pass"]]
  local long = ("x"):rep(200)
  local boundary = "multipart/form-data; boundary=B"
  local cases = {
    { "JSON", "application/json", '{"a":"evil","b":"' .. long .. '"}', { 2, 3 } },
    { "JSON, cut in the value", "application/json", '{"a":"evil' .. long .. '"}', { 2, 3 } },
    { "JSON, cut in a value with escapes", "application/json", '{"a":"\\u0065vil' .. long .. '"}', { 2, 3 } },
    { "JSON that is broken before the cut", "application/json", '{"a":"evil",,"b":"' .. long .. '"}', { 1, 2, 3 } },
    { "XML", "text/xml", "<a><b>evil</b><c>" .. long .. "</c></a>", { 2, 3 } },
    { "XML, cut in the text", "text/xml", "<a>evil" .. long .. "</a>", { 2, 3 } },
    { "XML that is broken before the cut", "text/xml", "<a><b>evil</c>" .. long, { 1, 2 } },
    { "a part", boundary, '--B\r\nContent-Disposition: form-data; name="f"\r\n\r\nevil' .. long .. "\r\n--B--\r\n", { 2, 3 } },
    { "a part, cut in its head", boundary, '--B\r\nContent-Disposition: form-data; name="f' .. long .. '"\r\n\r\nv\r\n--B--\r\n', { 2 } },
    { "a form", "application/x-www-form-urlencoded", "a=evil&b=" .. long, { 2, 3 } },
  }
  for _, case in ipairs(cases) do
    it("is read as far as it goes: " .. case[1], function()
      for _, whole in ipairs({ true, false }) do
        local r = run(rules, { method = "POST", body = case[3], headers = { { "Content-Type", case[2] } } }, { whole = whole })
        assert.are.same(case[4], r.ids)
      end
    end)
  end

  it("wherever JSON is cut, no error comes of it", function()
    local body = '{"k\\u00e9y":["\\ud83d\\ude00",1.5e3,true,null,{"\195\169":"\226\130\172"}],"z":"\\"end"}'
    for n = 1, #body - 1 do
      local r = run((rules:gsub("60", tostring(n))), { method = "POST", body = body, headers = { { "Content-Type", "application/json" } } })
      assert.are.same({ 2 }, r.ids, body:sub(1, n))
    end
    assert.are.same({}, run((rules:gsub("60", tostring(#body))), { method = "POST", body = body,
      headers = { { "Content-Type", "application/json" } } }).ids)
  end)
end)

describe("XML that libxml2 reads in the square of its length", function()
  local rules = 'SecAction "id:9,phase:1,pass,nolog,ctl:requestBodyProcessor=XML"\nSecRequestBodyNoFilesLimit 9000000\n'
    .. 'SecRule REQBODY_ERROR "@eq 1" "id:1,phase:2,pass"\nSecRule XML://@* "last" "id:2,phase:2,pass"'
  local function many(n, text)
    local out = {}
    for i = 1, n do
      out[i] = text:gsub("%%", i)
    end
    return table.concat(out)
  end
  local function ids(body)
    local began = os.clock()
    local r = run(rules, { method = "POST", body = body, headers = { { "Content-Type", "text/xml" } } })
    assert.is_true(os.clock() - began < 1, "it took " .. os.clock() - began)
    return r.ids
  end

  it("is an error: attributes of an element, in a DTD, and namespaces around one", function()
    assert.are.same({ 1 }, ids("<a " .. many(100000, 'b%="x" ') .. "/>"))
    assert.are.same({ 1 }, ids("<a><b>" .. "<c d='<' " .. many(100000, "b%='x' ") .. "/></b></a>"))
    assert.are.same({ 1 }, ids("<!DOCTYPE a [<!ATTLIST a " .. many(60000, 'b% CDATA "x" ') .. ">]><a/>"))
    assert.are.same({ 1 }, ids("<!DOCTYPE a [" .. many(60000, '<!ATTLIST a b% CDATA "x">') .. "]><a/>"))
    assert.are.same({ 1 }, ids(many(200, "<a " .. many(200, 'xmlns:p%="u" '):gsub("%%", "%%%%") .. ">") .. many(100000, '<b p1:x="1"/>')))
  end)

  it("but not what documents have", function()
    assert.are.same({ 2 }, ids("<a " .. many(200, 'b%="x" ') .. 'c="last"/>'))
    assert.are.same({ 2 }, ids('<a b="last">' .. many(20000, '<c xmlns="urn:x" d="a>b" e=\'"=\'>f="g" h="i"</c>') .. "</a>"))
    assert.are.same({ 2 }, ids('<a b="last"><!-- ' .. many(2000, 'c="d" ') .. " --><![CDATA[" .. many(2000, 'c="d" ') .. "]]></a>"))
  end)
end)
