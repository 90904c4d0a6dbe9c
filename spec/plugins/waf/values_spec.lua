-- SPDX-License-Identifier: Apache-2.0
-- luacheck: no max line length (a text a line)
--- What the profile for APIs takes values for (plugins/waf/context.c, prose.c, markup.c).
package.path = "spec/plugins/waf/?.lua;" .. package.path
local engine = require("engine")
local json = require("cjson")

local RULES = [[
SecRuleEngine DetectionOnly
SecRequestBodyAccess On
SecMoonValues On
SecRule REQUEST_HEADERS:Content-Type "@contains json" "id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQUEST_HEADERS:Content-Type "@contains xml" "id:2,phase:1,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule ARGS "@rx ^" "id:10,phase:2,pass,log,msg:'value'"
SecRule ARGS_PROSE "@rx ^" "id:11,phase:2,pass,log,msg:'prose'"
]]

describe("a value, as the profile for APIs sees it,", function()
  if not engine.lib then
    return pending("the engine's library is not here")
  end
  local rules = assert(engine.load({ { text = RULES } }))

  local function seen(content_type, body)
    local got = engine.run(rules, { method = "POST", uri = "/", body = body,
      headers = { { "Host", "a" }, { "Content-Type", content_type } } })
    local machine, prose = {}, {}
    for _, f in ipairs(got.fired) do
      local into = f.id == 10 and machine or prose
      into[#into + 1] = f.value
    end
    return machine, prose
  end

  -- A rule fires once for the first value that matches, so a text that is apart leaves no machine's.
  local function is_apart(text)
    local machine, prose = seen("application/json", json.encode({ a = text }))
    return #machine == 0 and #prose > 0
  end

  local apart = {
    "Please select an item from the list, or drop me a line",
    "How do I run `rm -rf build && make`? It's stuck.",
    "Refactor:\nconst el = <div onClick={() => f()}>x</div>;",
    "> quoted line here\nand an answer; thanks",
    "- [x] drop the old table\n- [ ] select a licence",
    "def fib(n):\n    return n if n < 2 else fib(n - 1)",
    "SELECT id, name FROM orders WHERE total > 100",
    "./configure --prefix=/usr && make && sudo make install",
    "data:image/png;base64,iVBORw0KGgo=",
    "name eq 'O''Brien' and (price gt 5 or not startswith(name,'x'))", "author.name = \"O'Reilly\" OR year < 1990",
    "(age>=18)and(city!='Paris')", "price>5;category==books,title=='*x*'",
    "project = OPS AND status in (\"To Do\", 'Done') AND owner = me() ORDER BY created DESC",
    "createdOn ge 2024-01-01T00:00:00Z and active", "https://example.com/a/b;c=d",
    "(&(objectClass=person)(|(uid=a)(mail=b*)))", "cd ~/src && ls -la | less", "$ npm run build; npm test",
    "<?php\n$x = $_GET['a'];\nsystem('ls ' . $dir);\necho \"<b>$x</b>\";\nrequire '../b.php';\nexit; // and so on, and so on",
    "<!doctype html><html><head><title>A page</title></head><body onload=\"init()\"><script src=\"/a.js\"></script></body></html>",
    "```wget -qO- https://example.com/i.sh | bash```", "| id | name |\n|----|------|\n| 1 | x |",
    "How can I read /etc/passwd in Go, and what is in it?", "Fix this JavaScript: document.write('a');",
    "SELECT table_name FROM information_schema.tables", "'use strict';\nconst a = 1;\nconst b = 2; // b is not used here\nexport default () => a;\nexport { b };\n// and the end of it all\n",
  }
  for _, text in ipairs(apart) do
    it("is what people write: " .. text:sub(1, 50):gsub("\n", " "), function()
      assert.is_true(is_apart(text))
    end)
  end

  it("is a reference whose parameters are values", function()
    local machine, prose = seen("application/json", json.encode({ u = "https://example.com/a?b=c;d&sort=e" }))
    assert.are.same({ "https://example.com/a?b=c;d&sort=e" }, prose)
    assert.are.equal("c;d", machine[1])
  end)

  it("is code or text where its name says so, and it begins as such", function()
    local function is_text(name, text)
      local machine, prose = seen("application/json", json.encode({ [name] = text }))
      return #machine == 0 and #prose > 0
    end
    assert.is_true(is_text("content", "os.system('clear'); sys.exit(0)"))
    assert.is_true(is_text("code", "<div onclick=\"f(this)\">{{ title }}</div>"))
    assert.is_false(is_text("name", "os.system('clear'); sys.exit(0)"))
    assert.is_false(is_text("content", "'; DROP TABLE a; -- b"))
    assert.is_false(is_text("content", "<img src=x onerror=f(1)>"))
    assert.is_false(is_text("command", "ls; cat /etc/passwd"))
  end)

  it("is text where it is said to a language model", function()
    local function is_text(body)
      local machine = seen("application/json", json.encode(body))
      return machine[1] ~= "'; ls"
    end
    assert.is_true(is_text({ messages = { { content = "'; ls" } } }))
    assert.is_true(is_text({ messages = { { content = { { text = "'; ls" } } } } }))
    assert.is_true(is_text({ contents = { { parts = { { text = "'; ls" } } } } }))
    assert.is_true(is_text({ input = { { content = { { text = "'; ls" } } } } }))
    assert.is_false(is_text({ message = { content = "'; ls" } }))
    assert.is_false(is_text({ xmessages = { { content = "'; ls" } } }))
  end)

  local machine = {
    "' OR 1=1 --", "laptop' UNION SELECT aa, bb FROM cc --", "; cat /etc/passwd",
    "foo; cat x", "a | b", "cmd=127.0.0.1 && ls /etc", "\nRCPT TO: someone now please", "../../etc/passwd",
    "`curl http://example.com/some thing here`", "please do cat /etc/passwd for me now: `x`",
    "red shoes' AND 1=1", "data:image/png;base64,<x>",
    "data:text/html;base64,PHN2Zz4=", "{\"$where\": \"sleep(1)\"}",
    "a = 1 or 1=1", "a = a", "name = 'x' or sleep(5)", "name = 'x", "a = 1 -- b", "a = (select b)", "javascript:alert(1)",
    "1 = 1 and b = 2", "https://example.com/'\"<x>", "https://example.com/../../etc/passwd", "javascript://a?b=c",
    "https://example.com/$(id)", "(&(uid=a))(|(uid=*)", "(&(uid=a)(1=0))", "(|(cn=a)(userPassword=b))", "java\tscript:alert(1)", "cd /tmp; cat /etc/passwd", "bash -c {echo,aQ==}|sh",
    "| id", "|id|\n|x", "SELECT sleep(5) FROM a", "javascript:document.write(1)", "a\n; b\n",
  }
  for _, text in ipairs(machine) do
    it("is a machine's: " .. text:sub(1, 50):gsub("\n", " "), function()
      assert.is_false(is_apart(text))
    end)
  end

  local harmless = {
    "<p>Hello <b>you</b></p>", "<P CLASS=x>y</P>", "<br/>", "<!-- wp:x {\"a\":1} --><p>y</p>",
    "<a href=\"https://example.com/?a=1&amp;b=2\" target=_blank>z</a>", "<img src='/a.png' alt='b'>",
    "<img src=\"data:image/gif;base64,R0lGOD==\">", "<video controls src=\"/v.mp4\"></video>",
    "<saml:Issuer Version=\"2.0\">x</saml:Issuer>", "<p style=\"color: red\">1 < 2</p>",
    "<svg viewBox=\"0 0 1 1\"><path d=\"M0 0\"/></svg>", "<iframe src=\"https://example.com/\"></iframe>",
    "<b onclick=\"menu.show(this, 'file-1'); return false\">y</b>", "<body onload=\"init()\">x", "<a href=\"javascript:history.back()\">y</a>",
    "<script src=\"/js/app.js\"></script>", "<td><%= row.title %></td>", "<li><?= $row ?></li>",
  }
  for _, text in ipairs(harmless) do
    it("is harmless markup: " .. text, function()
      local _, prose = seen("application/json", json.encode({ a = text }))
      assert.equal(text, prose[1])
    end)
  end

  local harmful = {
    "<b onclick=\"alert(1)\">y</b>", "<b onclick=\"window.location.assign('x')\">y</b>", "<b onclick=\"a.href='x'\">y</b>",
    "<b onclick=\"f`x`\">y</b>", "<b onclick=\"self['x'](1)\">y</b>", "<b onclick=\"top.eval('x')\">y</b>", "<b onclick=\"&#97;lert(1)\">y</b>",
    "<script src=\"//example.com/a.js\"></script>", "<script src=\"https://example.com/a.js\"></script>", "<script src=\"/a.js\">x</script>",
    "<script src=\"/jsonp?f=x.js\"></script>", "<script src=\"../a.js\"></script>", "<b>y</b></script>", "<a href=\"javascript:fetch(a)\">y</a>",
    "<script>x</script>", "<p onclick=x>y</p>", "<img/src=x/onerror=y>", "<img src=x onerror=y>",
    "<a href=\"javascript:x\">y</a>", "<a href=\"java&#115;cript:x\">y</a>", "<a href=\"\tjavascript:x\">y</a>",
    "<a href=\"data:text/html,x\">y</a>", "<svg><script>x</script></svg>", "<x:script>y</x:script>",
    "<iframe src=\"http://example.com\">", "<iframe srcdoc=\"x\">", "<p style=\"background:url(x)\">y</p>",
    "<p style=\"width:expr\\65ssion(x)\">y</p>", "<form action=x>", "<object data=x>", "<p", "<p>\"><svg/onload=x>",
    "<!--><script>x</script>-->", "<p class=\"a\"onclick=x>", "<a href=x onfocus=y>", "<<p>x", "<p\0>x",
    "<meta http-equiv=refresh content=\"0;url=x\">", "<base href=x>", "<math><mtext>x",
  }
  for _, text in ipairs(harmful) do
    it("is no harmless markup: " .. text:gsub("%c", "?"), function()
      assert.is_false(is_apart(text))
    end)
  end

  it("is each text and attribute of XML", function()
    local got = seen("text/xml", "<a b='1 OR 1=1'><c>hello you</c>;<d/> <e>&lt;x&gt;</e></a>")
    assert.equal(";", got[1])
    local all = engine.run(rules, { method = "POST", uri = "/", body = "<a b='x;'>please read it</a>",
      headers = { { "Host", "a" }, { "Content-Type", "text/xml" } } })
    assert.are.same({ 10, 11 }, all.ids)
  end)

  local collecting = assert(engine.load({ { text = RULES .. [[
SecRule ARGS|ARGS_PROSE "@rx ." "id:20,phase:2,pass,nolog,setvar:'tx.all=%{tx.all}%{MATCHED_VAR_NAME}=%{MATCHED_VAR}|'"
]] } }))

  -- Every argument as "NAME=value".
  local function all_of(content_type, body)
    local got = engine.run(collecting, { method = "POST", uri = "/", body = body,
      headers = { { "Host", "a" }, { "Content-Type", content_type } } }, nil, { get = { "all" } })
    local all = {}
    for name, value in got.vars.all:gmatch("ARGS[_PROSE]*:([^=]*)=([^|]*)|") do
      all[name .. "=" .. value] = true
    end
    return all
  end

  local FORM = "application/x-www-form-urlencoded"

  it("is each text of JSON in an argument, by its path, and what stands behind the JSON", function()
    local all = all_of(FORM, 'a={"b":["x y",{"c":"\\u003cz"}],"__proto__":{"d":true}}')
    assert.is_true(all["a.b.b=x y"])
    assert.is_true(all["a.b.b.c=<z"])
    assert.is_true(all["a.__proto__.d=true"])
    assert.is_true(all_of(FORM, 'a={"b":"c"} ! ls')["a=! ls"])
    assert.is_true(all_of(FORM, 'a={"b":"{\\"c\\":\\"d e\\"}"}')["a.b.c=d e"])
  end)

  it("is no error of the body where JSON in an argument is deep, broken or long", function()
    for _, text in ipairs({ ('{"a":'):rep(5000), '{"a":"b', '["' .. ("a"):rep(10) .. '\1"]', '["x",' .. ('"y",'):rep(3000) .. '"z"]' }) do
      local got = engine.run(collecting, { method = "POST", uri = "/", body = "a=" .. text,
        headers = { { "Host", "a" }, { "Content-Type", FORM } } }, nil, { get = { "all" } })
      assert.is_truthy(got.vars.all:find("a=", 1, true))
    end
  end)

  it("is a short text in base64 where it begins with a mark", function()
    assert.is_true(all_of("application/json", '{"a":"e3s3Kjd9fQ"}')["a={{7*7}}"])
    assert.are.same({ ["a=active"] = true }, all_of("application/json", '{"a":"active"}'))
    assert.is_true(all_of("application/json", '{"a":"data:text/html;base64,PHN2Zy9vbmxvYWQ9eD4="}')["a=<svg/onload=x>"])
  end)

  it("is a text of GraphQL by the argument that it is given for", function()
    local all = all_of("application/json", json.encode({ query = '{ f(host: "a;b", tags: ["c;d"]) { id } }' }))
    assert.is_true(all["query.host=a;b"])
    assert.is_true(all["query=c;d"])
  end)

  it("is prose in a field of the head and in a path as in a body", function()
    local function is_prose(uri, note)
      local got = engine.run(rules, { method = "GET", uri = uri, headers = { { "Host", "a" }, { "X-Note", note } } })
      for _, f in ipairs(got.fired) do
        if f.id == 10 then
          return f.value == "Bob;"
        end
      end
      return #got.fired > 0
    end
    assert.is_true(is_prose("/", "What%27s%20%3Cb%3E%20for%20in%20a%20page%3F"))
    assert.is_true(is_prose("/wiki/What%27s%20%3Cb%3E%20for%20in%20a%20page%3F", "Bob;"))
    assert.is_false(is_prose("/a/..%2f..%2f;What%27s%20it%20for%20in%20a%20page", "please read it"))
  end)

  it("is looked at in time that grows with its length", function()
    for _, unit in ipairs({ "a ", "<p>", "<p a='", "&lt;", "`a` ", "- [ ] ", "<!--", "{\"a\":", "%41", "\\",
      "{\"a\":\"", "%2541", "<b onclick=\"a(", "<% %>", "{ a(b: \"\" " }) do
      local text = unit:rep(math.floor(100000 / #unit))
      local started = os.clock()
      seen("application/json", json.encode({ a = text }))
      assert.is_true(os.clock() - started < 2, unit)
    end
  end)
end)
