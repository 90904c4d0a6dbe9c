-- SPDX-License-Identifier: Apache-2.0
--- validate_content with an XML schema.
local moongate = require("moongate.test")

local schema = [[
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:orders"
    xmlns="urn:orders" elementFormDefault="qualified">
  <xs:element name="order">
    <xs:complexType><xs:sequence>
      <xs:element name="id" type="xs:positiveInteger"/>
      <xs:element name="item" type="xs:string" maxOccurs="3"/>
    </xs:sequence></xs:complexType>
  </xs:element>
</xs:schema>]]

local function files(xsd, options)
  return { ["orders.xsd"] = xsd or schema, ["gateway.lua"] = ([[
local p = require("moongate.policies")
local function told(ctx)
  local list = ctx.vars["validate_content.errors"]
  ctx.response.headers["X-Told"] = list and list[1].name .. " " .. list[1].rule .. " " .. list[1].details
end
local function check(more)
  more.xml_schema, more.without = not more.without and "orders.xsd" or nil, nil
  return p.validate_content(more)
end
return {
  name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { a = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, policies = { on_error = { told }, outbound = { told } }, routes = {
    { path = "/xml", backend = "a", policies = { inbound = { check { %s } } } },
    { path = "/soap", backend = "a", policies = { inbound = { check { soap = true } } } },
    { path = "/both", backend = "a", policies = { inbound = { check {
      schema = { type = "object", required = { "id" } } } } } },
    { path = "/told", backend = "a", policies = { inbound = { check { action = "detect" } } } },
    { path = "/answer", backend = "a", policies = { outbound = { check {} } } },
  } } },
}]]):format(options or "") }
end

local gw

setup(function()
  gw = moongate.gateway { files = files(), backends = { a = function(request)
    return 200, { ["Content-Type"] = "text/xml" }, request.body
  end } }
end)

teardown(function()
  gw:close()
end)

local function ask(path, body, media)
  local answer = gw:post(path, { body = body, headers = { ["Content-Type"] = media or "application/xml" } })
  return answer.status, answer.headers["x-told"], answer.body
end

local function order(id)
  return ('<order xmlns="urn:orders"><id>%s</id><item>a</item></order>'):format(id)
end

describe("validate_content with xml_schema", function()
  it("lets pass what fits, and tells where it does not, the log and a variable alone", function()
    assert.equal(200, (ask("/xml", order(7))))
    local status, told, body = ask("/xml", order("seven"))
    assert.equal(400, status)
    assert.matches("^request/%*/%*%[1%] xml_schema .*positiveInteger", told)
    assert.is_nil(body:find("seven", 1, true))
    assert.equal(400, (ask("/xml", "<order/>")))
    assert.equal(400, (ask("/xml", (order(7):gsub("<item>a</item>", ("<item/>"):rep(4))))))
    assert.equal(400, (ask("/xml", order(7), "application/json")))
  end)

  it("refuses what is no document, or brings entities or depth", function()
    for _, text in ipairs { "<order", "", "{}", '<!DOCTYPE order [<!ENTITY e "x">]>' .. order("&e;"),
      '<!DOCTYPE order SYSTEM "file:///etc/passwd">' .. order(1), ("<a>"):rep(5000) .. ("</a>"):rep(5000) }
    do
      assert.equal(400, (ask("/xml", text)), text:sub(1, 40))
    end
  end)

  it("refuses what libxml2 would read in the square of its length", function()
    local function many(n, text)
      local out = {}
      for i = 1, n do
        out[i] = text:format(i)
      end
      return table.concat(out)
    end
    local nested = {}
    for i = 1, 150 do
      nested[i] = "<a " .. many(200, 'xmlns:p' .. i .. 'x%d="u" ') .. ">"
    end
    for _, text in ipairs { "<order " .. many(60000, 'b%d="x" ') .. "/>",
      table.concat(nested) .. ('<b p1x1:x="1"/>'):rep(20000) } do
      local began = os.clock()
      local status, told = ask("/xml", text)
      assert.equal(400, status)
      assert.is_true(os.clock() - began < 1)
      assert.is_truthy(told:find("too many attributes", 1, true) or told:find("not well-formed", 1, true), told)
    end
  end)

  it("looks into SOAP envelopes of both versions", function()
    for _, space in ipairs { "http://schemas.xmlsoap.org/soap/envelope/",
      "http://www.w3.org/2003/05/soap-envelope" }
    do
      local function envelope(content)
        return ('<s:Envelope xmlns:s="%s"><s:Header/><s:Body>%s</s:Body></s:Envelope>'):format(space, content)
      end
      assert.equal(200, (ask("/soap", envelope(order(1)), "application/soap+xml; charset=utf-8")))
      assert.equal(400, (ask("/soap", envelope(order("x")))))
      assert.equal(400, (ask("/soap", envelope(order(1) .. order(2)))))
      assert.equal(400, (ask("/soap", envelope(""))))
    end
    assert.equal(400, (ask("/soap", order(1))))
    assert.equal(400, (ask("/soap", '<Envelope xmlns="urn:other"><Body>' .. order(1) .. "</Body></Envelope>")))
  end)

  it("stands beside a schema for JSON, detects without refusing, and judges answers", function()
    assert.equal(200, (ask("/both", '{"id":1}', "application/json")))
    assert.equal(400, (ask("/both", "{}", "application/json")))
    assert.equal(400, (ask("/both", order("x"))))
    local status, told = ask("/told", order("x"))
    assert.equal(200, status)
    assert.matches("xml_schema", told)
    assert.equal(200, (ask("/answer", order(1))))
    assert.equal(502, (ask("/answer", order("x"))))
  end)

  it("is refused at load with a schema that is none, and imports nothing", function()
    assert.matches("is not a schema document", moongate.errors { files = files("<a/>") }, 1, true)
    assert.matches("not well-formed", moongate.errors { files = files("<a>") }, 1, true)
    assert.matches("has a DTD", moongate.errors { files = files("<!DOCTYPE a>" .. schema) }, 1, true)
    assert.matches("soap and xml_content_types: only with xml_schema",
      moongate.errors { files = files(nil, "soap = true, without = true") }, 1, true)
    local imports = schema:gsub('<xs:element name="order">', '<xs:include schemaLocation="/etc/passwd"/>%0')
    assert.matches("orders.xsd: line", moongate.errors { files = files(imports) }, 1, true)
  end)
end)
