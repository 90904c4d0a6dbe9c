-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local gw, answer

setup(function()
  gw = moongate.gateway({ files = { ["gateway.lua"] = [[
local p = require("moongate.policies")
local function out(path, policy)
  return { path = path, backend = "a", policies = { outbound = { policy }, on_error = { function(ctx)
    ctx.response.headers["X-Reason"] = ctx.error.reason
  end } } }
end
return {
  name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { a = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = {
    out("/xml", p.json_to_xml { apply = "content-type-json", attribute_block_name = "#attrs",
      namespace_prefix = "xmlns", namespace_separator = ":" }),
    out("/friendly", p.xml_to_json { kind = "javascript-friendly", apply = "always" }),
    out("/direct", p.xml_to_json { kind = "direct", apply = "always" }),
    out("/lists", p.xml_to_json { kind = "direct", apply = "always", always_array_child_elements = true }),
    out("/xslt", p.xslt { file = "a.xsl", parameters = { who = "${ctx.request.query.who}" } }),
    { path = "/in", backend = "a", policies = { inbound = { p.xml_to_json { kind = "direct", apply = "always" } } } },
  } } },
}]], ["a.xsl"] = [[
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
  <xsl:param name="who"/>
  <xsl:output method="text"/>
  <xsl:template match="/"><xsl:if test="/secret"><xsl:value-of select="document('/etc/passwd')"/></xsl:if>
    <xsl:if test="/loop"><xsl:call-template name="loop"/></xsl:if>
    <xsl:value-of select="$who"/>:<xsl:value-of select="sum(//n)"/></xsl:template>
  <xsl:template name="loop"><xsl:call-template name="loop"/></xsl:template>
</xsl:stylesheet>]] }, backends = { a = function(request) return answer(request) end } })
end)

teardown(function()
  gw:close()
end)

local function through(path, media, body, headers)
  answer = function() return 200, { ["Content-Type"] = media }, body end
  return gw:get(path, { headers = headers })
end

local HEAD = '<?xml version="1.0" encoding="utf-8"?>'

describe("json_to_xml", function()
  local function xml(body)
    return (through("/xml", "application/json", body).body:gsub("^<%?xml.-%?>", ""))
  end

  it("keeps order, lists, attributes and namespaces", function()
    assert.equal('<z><b>1</b><a>x</a><a>y</a><n /><t>true</t></z>',
      xml('{"z":{"b":1,"a":["x","y"],"n":null,"t":true}}'))
    assert.equal('<s:e xmlns:s="urn:s" id="1&quot;"><s:b /><c_x003A_d>t</c_x003A_d></s:e>',
      xml('{"s:e":{"xmlns:s":"urn:s","#attrs":{"id":"1\\""},"s:b":{},"c:d":"t"}}'))
    assert.equal("<Document><a>1</a><b>2</b></Document>", xml('{"a":1,"b":2}'))
    assert.equal("<Document><item>1</item><item>2</item></Document>", xml("[1,2]"))
  end)

  it("writes what a name or a text cannot hold so that it can", function()
    assert.equal("<a_x0020_b>&lt;x&gt;&amp;</a_x0020_b>", xml('{"a b":"<x>&"}'))
    assert.equal("<_x0031_>1</_x0031_>", xml('{"1":1}'))
    assert.equal("<a_x003E__x003C_b>1</a_x003E__x003C_b>", xml('{"a><b":1}'))
    assert.equal("<a_x00D7_b>c&#13;d\239\191\189</a_x00D7_b>", xml('{"a\\u00d7b":"c\\rd\\uffff"}'))
    assert.equal("<_x0301_a />", xml('{"\\u0301a":""}'))
    assert.equal("<é />", xml('{"é":""}'))
  end)

  it("looks at media type and Accept, and refuses what is no JSON", function()
    assert.equal('{"a":1}', through("/xml", "text/plain", '{"a":1}').body)
    assert.equal('{"a":1}', through("/xml", "application/json", '{"a":1}', { Accept = "application/json" }).body)
    assert.equal(HEAD .. "<a>1</a>", through("/xml", "application/json", '{"a":1}', { Accept = "text/xml" }).body)
    local got = through("/xml", "application/json", '{"a":')
    assert.equal("502 JsonInvalid", got.status .. " " .. got.headers["x-reason"])
    assert.equal(502, through("/xml", "application/json", ("["):rep(5000)).status)
  end)
end)

describe("xml_to_json", function()
  local DOC = '<r xmlns:p="urn:p" id="7"><p:a>1</p:a><b>x</b><b k="v">y</b><c/></r>'

  it("has Azure's two kinds", function()
    assert.equal('{"r":{"id":"7","a":"1","b":["x",{"k":"v","value":"y"}],"c":""}}',
      through("/friendly", "text/xml", DOC).body)
    assert.equal('{"r":{"@xmlns:p":"urn:p","@id":"7","p:a":"1","b":["x",{"@k":"v","#text":"y"}],"c":null}}',
      through("/direct", "text/xml", DOC).body)
    assert.equal('{"r":{"a":["1"]}}', through("/lists", "text/xml", "<r><a>1</a></r>").body)
  end)

  it("writes no name twice, though an attribute, an element and a text may share one", function()
    local doc = '<a id="1"><id>2</id><value>3</value>text<x:b xmlns:x="u" x:id="7" id="8"/></a>'
    assert.equal('{"a":{"id":["1","2"],"value":["3","text"],"b":{"id":["7","8"]}}}',
      through("/friendly", "text/xml", doc).body)
    assert.equal('{"a":{"@id":"1","id":"2","value":"3","x:b":{"@xmlns:x":"u","@x:id":"7","@id":"8"},"#text":"text"}}',
      through("/direct", "text/xml", doc).body)
  end)

  it("takes no DTD, no entity, and nothing that is broken or deep", function()
    local bomb = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c SYSTEM "file:///etc/passwd">]><a>&b;&c;</a>'
    for _, body in ipairs({ bomb, "<!DOCTYPE a><a/>", "<a>", "<a>&x;</a>", "text",
      ("<a>"):rep(5000) .. ("</a>"):rep(5000) }) do
      local got = through("/direct", "text/xml", body)
      assert.equal("502 XmlInvalid", got.status .. " " .. tostring(got.headers["x-reason"]), body:sub(1, 40))
      assert.is_nil(got.body:find("root:", 1, true))
    end
  end)

  it("converts requests", function()
    answer = function(request) return 200, {}, request.headers["content-type"] .. request.body end
    assert.equal('application/json{"a":"1"}', gw:post("/in", { body = "<a>1</a>" }).body)
    assert.equal(400, gw:post("/in", { body = "<a>" }).status)
  end)
end)

describe("xslt", function()
  it("transforms, with parameters that are texts", function()
    local got = through("/xslt?who=%27%20or%20//n", "text/xml", "<a><n>1</n><n>2</n></a>")
    assert.equal("' or //n:3", (got.body:gsub("%s", " "):gsub("^ +", "")))
    assert.equal("text/plain; charset=utf-8", got.headers["content-type"])
  end)

  it("reads no files, and stops what does not end", function()
    local got = through("/xslt?who=x", "text/xml", "<secret/>")
    assert.is_nil(got.body:find("root:", 1, true))
    got = through("/xslt?who=x", "text/xml", "<loop/>")
    assert.equal("502 XslTransformFailed", got.status .. " " .. tostring(got.headers["x-reason"]))
  end)

  it("is compiled when loaded", function()
    local err = moongate.errors({ files = { ["gateway.lua"] = [[
local p = require("moongate.policies")
return { name = "s", listeners = { { name = "http", address = "127.0.0.1:0" } },
  sites = { { hosts = { "*" }, routes = { { path = "/", reply = { status = 200 }, policies = {
    outbound = { p.xslt { stylesheet = "<a/>" },
      p.xslt { stylesheet = "<a" }, p.xslt { file = "none.xsl" } } } } } } } }]] } })
    assert.truthy(err:find("not well-formed", 1, true), err)
    assert.truthy(err:find("none.xsl cannot be read", 1, true), err)
  end)
end)
