-- SPDX-License-Identifier: Apache-2.0
--- What policies of Azure's catalogue do once they are imported.
local apim = require("moongate.import.apim")
local json = require("moongate.json")
local moongate = require("moongate.test")

local gw, calls

--- A gateway with the sections of a document; @return its notes
local function start(sections, more)
  more = more or {}
  local lua, err, notes = apim.convert("<policies>" .. sections .. "</policies>", "a.xml")
  assert(lua, err)
  calls = {}
  local function backend(name, answer)
    return function(request)
      calls[#calls + 1] = { name = name, request = request }
      if answer then
        return answer(request)
      end
      return 200, { ["Content-Type"] = "text/plain" }, "ok"
    end
  end
  gw = moongate.gateway({ files = { ["lib/a.lua"] = lua, ["apis/x.lua"] = more.api, ["gateway.lua"] = [[
return { name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  named_values = { key = "s3cret", user = "ada" },
  backends = { api = { targets = { "http://127.0.0.1:1" } }, other = { targets = { "http://127.0.0.1:2" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/other/*", backend = "other" }, { path = "/*", ]]
    .. (more.api and "apis = true" or "backend = 'api'") .. [[, policies = require("a") } } } } }]] },
    backends = { api = backend("api", more.answer), other = backend("other", more.other) } })
  return notes, lua
end

local function get(path, headers)
  return gw:get(path, { headers = headers })
end

describe("imported policies", function()
  after_each(function()
    if gw then
      gw:close()
      gw = nil
    end
  end)

  it("keep answers: cache-lookup and cache-store are one", function()
    local notes = start([[<inbound><cache-lookup vary-by-developer="false" vary-by-developer-groups="false"
      caching-type="internal"><vary-by-header>X-Lang</vary-by-header>
      <vary-by-query-parameter>a;b</vary-by-query-parameter></cache-lookup></inbound>
      <outbound><cache-store duration="60" /></outbound>]])
    assert.equal(1, #notes)
    assert.matches("downstream-caching-type none", notes[1], 1, true)
    get("/x?a=1&c=1")
    get("/x?a=1&c=2")
    assert.equal(1, #calls)
    get("/x?a=2")
    get("/x?a=2", { ["X-Lang"] = "it" })
    assert.equal(3, #calls)
    gw:advance(61)
    get("/x?a=1")
    assert.equal(4, #calls)
  end)

  it("keep values: cache-lookup-value, -store-value, -remove-value", function()
    assert.same({}, (start([[<inbound>
      <choose><when condition="@(context.Request.Url.Path == "/forget")">
        <cache-remove-value key="@("k" + context.Request.Url.Query.GetValueOrDefault("n"))" /></when></choose>
      <cache-lookup-value key="@("k" + context.Request.Url.Query.GetValueOrDefault("n"))"
        variable-name="seen" default-value="none" />
      <cache-store-value key="@("k" + context.Request.Url.Query.GetValueOrDefault("n"))" value="there"
        duration="10" />
      <return-response><set-body>@((string)context.Variables["seen"])</set-body></return-response>
      </inbound>]])))
    assert.equal("none", get("/?n=1").body)
    assert.equal("there", get("/?n=1").body)
    assert.equal("none", get("/?n=2").body)
    assert.equal("none", get("/forget?n=1").body)
    gw:advance(11)
    assert.equal("none", get("/?n=2").body)
  end)

  it("call others: send-request, and its answer in expressions", function()
    local port
    local notes = start([[<inbound>
      <send-request mode="new" response-variable-name="token" timeout="5" ignore-error="false">
        <set-url>@("http://127.0.0.1:" + context.Request.Url.Query.GetValueOrDefault("port")
          + "/other/token")</set-url>
        <set-method>POST</set-method>
        <set-header name="Content-Type" exists-action="override"><value>application/json</value></set-header>
        <authentication-basic username="{{user}}" password="{{key}}" />
        <set-body>@{ return new JObject(new JProperty("who", context.Request.IpAddress)).ToString(); }</set-body>
      </send-request>
      <set-header name="Authorization" exists-action="override">
        <value>@("Bearer " + ((IResponse)context.Variables["token"]).Body.As<JObject>()["access_token"]
          .ToString())</value>
      </set-header>
      <set-header name="X-Type"><value>@(((IResponse)context.Variables["token"]).Headers
        .GetValueOrDefault("Content-Type","?"))</value></set-header>
      </inbound>]], { other = function()
        return 200, { ["Content-Type"] = "application/json" }, '{"access_token":"t-1"}'
      end })
    port = gw:port()
    assert.same({}, notes)
    assert.equal(200, get("/x?port=" .. port).status)
    local asked, sent = calls[1].request, calls[2].request
    assert.equal("POST /token", asked.method .. " " .. asked.path:gsub("/other", ""))
    assert.equal("Basic YWRhOnMzY3JldA==", asked.headers.authorization)
    assert.equal("127.0.0.1", json.decode(asked.body).who)
    assert.equal("Bearer t-1", sent.headers.authorization)
    assert.equal("application/json", sent.headers["x-type"])
  end)

  it("end in on-error where a sub-request fails, unless its error is ignored", function()
    start([[<inbound>
      <send-request mode="new" response-variable-name="r" ignore-error="true">
        <set-url>http://127.0.0.1:1/</set-url></send-request>
      <choose><when condition="@(context.Variables["r"] == null && context.Request.Url.Path == "/soft")">
        <return-response><set-status code="204" /></return-response></when></choose>
      <send-request mode="new" response-variable-name="r"><set-url>http://127.0.0.1:1/</set-url></send-request>
      </inbound>]])
    assert.equal(204, get("/soft").status)
    assert.equal(500, get("/hard").status)
    assert.equal(0, #calls)
  end)

  it("copy the request: mode=copy, send-one-way-request, wait", function()
    local notes = start([[<inbound>
      <wait for="all">
        <send-request mode="copy" response-variable-name="one">
          <set-url>@("http://127.0.0.1:" + context.Request.Headers.GetValueOrDefault("X-Port") + "/other/one")</set-url>
        </send-request>
        <choose><when condition="@(true)">
          <set-variable name="two" value="2" /></when></choose>
      </wait>
      <send-one-way-request mode="new">
        <set-url>@("http://127.0.0.1:" + context.Request.Headers.GetValueOrDefault("X-Port") + "/other/seen")</set-url>
        <set-method>PUT</set-method>
      </send-one-way-request>
      <return-response>
        <set-status code="@(((IResponse)context.Variables["one"]).StatusCode)" />
        <set-body>@((string)context.Variables["two"])</set-body>
      </return-response></inbound>]], { other = function() return 202 end })
    assert.same({}, notes)
    local answer = gw:post("/x", { body = "text", headers = { ["X-Port"] = tostring(gw:port()),
      ["X-Own"] = "kept" } })
    assert.equal("202 2", answer.status .. " " .. answer.body)
    for _ = 1, 100 do
      if #calls >= 2 then
        break
      end
      gw:get("/other/turn")
    end
    assert.equal("POST text kept", ("%s %s %s"):format(calls[1].request.method, calls[1].request.body,
      calls[1].request.headers["x-own"]))
    local methods = {}
    for _, one in ipairs(calls) do
      methods[one.request.method] = true
    end
    assert.is_true(methods.PUT)
  end)

  it("compute a value once: cache-value", function()
    local notes = start([[<inbound>
      <cache-value key="token" variable-name="t" expires-after="100" refresh-after="50">
        <send-request mode="new" response-variable-name="r">
          <set-url>@("http://127.0.0.1:" + context.Request.Url.Query.GetValueOrDefault("port") + "/other/t")</set-url>
        </send-request>
        <set-variable name="t" value="@(((IResponse)context.Variables["r"]).Body.As<string>())" />
      </cache-value>
      <return-response><set-body>@((string)context.Variables["t"])</set-body></return-response>
      </inbound>]], { other = function() return 200, {}, "v" .. #calls end })
    assert.same({}, notes)
    local path = "/?port=" .. gw:port()
    assert.equal("v1v1", get(path).body .. get(path).body)
    gw:advance(60)
    assert.equal("v2v2", get(path).body .. get(path).body)
  end)

  it("limit by API, by condition and by amount, with fields of one's own", function()
    start([[<inbound>
      <rate-limit-by-key calls="4" renewal-period="60" counter-key="k"
        increment-condition="@(context.Response.StatusCode == 200)" increment-count="2"
        remaining-calls-header-name="X-Left" total-calls-header-name="X-All"
        retry-after-variable-name="wait" />
      <ip-filter action="allow"><address-range from="127.0.0.0" to="127.0.0.5" /></ip-filter>
      <choose><when condition="@(context.Request.Url.Path == "/no")">
        <return-response><set-status code="404" /></return-response></when></choose></inbound>]])
    get("/no")
    assert.equal("2", get("/").headers["x-left"])
    assert.equal("4", get("/").headers["x-all"])
    assert.equal(429, get("/").status)
    local lua = apim.convert([[<policies><inbound><rate-limit calls="10" renewal-period="60">
      <api name="orders" calls="5" renewal-period="30"><operation name="get" calls="1" /></api></rate-limit>
      <ip-filter action="forbid"><address-range from="10.0.0.1" to="10.0.0.6" /></ip-filter>
      </inbound></policies>]], "b.xml")
    assert.matches('ctx.operation.name == \\"get\\"', lua, 1, true)
    assert.matches('"10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"', lua, 1, true)
    assert.truthy(load(lua))
  end)

  it("transform: xsl-transform, set-body with statements, base-url", function()
    local notes = start([[<inbound>
      <set-backend-service base-url="@("http://127.0.0.1:"
        + context.Request.Headers.GetValueOrDefault("X-Port") + "/other")" />
      <set-body>@{
        var body = context.Request.Body.As<JObject>(preserveContent: true);
        body["by"] = "{{user}}";
        body.Remove("secret");
        foreach (var item in body["items"]) {
          if ((int)item["n"] > 1) { item["big"] = true; }
        }
        return body.ToString();
      }</set-body></inbound>
      <outbound><xsl-transform><parameter name="who">@(context.Request.Method)</parameter>
        <xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
          <xsl:output method="text" /><xsl:param name="who" />
          <xsl:template match="/"><xsl:value-of select="concat($who, ':', /a/b)" /></xsl:template>
        </xsl:stylesheet></xsl-transform></outbound>]],
      { other = function() return 200, { ["Content-Type"] = "text/xml" }, "<a><b>x</b></a>" end })
    assert.same({}, notes)
    local answer = gw:post("/x", { headers = { ["Content-Type"] = "application/json",
      ["X-Port"] = tostring(gw:port()) },
      body = '{"secret":1,"items":[{"n":1},{"n":2}]}' })
    assert.equal("POST:x", answer.body)
    assert.same({ by = "ada", items = { { n = 1 }, { n = 2, big = true } } },
      json.decode(calls[1].request.body))
  end)

  it("fill in Liquid templates", function()
    local notes = start([[<inbound><set-body template="liquid">{% comment %}no{{ x }}{% endcomment %}{
      "order": "{{body.id}}", "by": "{{ context.Request.Method | Downcase }}", "deep": "{{ body.a.b.c }}",
      "first": {{ body.lines[0].n }}, "seen": "{{context.Variables.none}}",
      "lines": [{% for line in body.lines %}{% if line.n >= 2 and line.name != 'x' %}"{{line.name}}",
        {%- elsif line.n == 1 -%}"one",{% else %}0,{% endif %}{% endfor %}0] }</set-body></inbound>]])
    assert.equal(1, #notes)
    gw:post("/", { body = '{"id":"o-1","lines":[{"n":1,"name":"a"},{"n":2,"name":"b"},{"n":3,"name":"x"}]}' })
    assert.same({ order = "o-1", by = "post", deep = "", first = 1, seen = "", lines = { "one", "b", 0, 0 } },
      json.decode(calls[1].request.body))
  end)

  it("fill in Liquid templates that assign, choose by case and leave out", function()
    local notes = start([[<inbound><set-body template="liquid">{% assign who = body.buyer %}{% assign limit = 2 %}{
      "name": "{{ who.name | Upcase }}", "kind": "{% case who.kind %} {% comment %}x{% endcomment %}
        {% when 'a' or 'b' %}letter{% when 1, limit %}number{% else %}other{% endcase %}",
      "big": {% unless body.n &lt;= limit %}true{% else %}false{% endunless %}, "all": [
        {%- for one in who.list -%}{% unless one == 0 %}{{ one }},{% endunless %}{%- endfor -%}
        0] }</set-body></inbound>]])
    assert.equal(1, #notes)
    for kind, expected in pairs({ ['"a"'] = "letter", ['"b"'] = "letter", ["1"] = "number", ["2"] = "number",
      ["3"] = "other", ["null"] = "other" }) do
      calls = {}
      gw:post("/", { body = ('{"n":3,"buyer":{"name":"ada","kind":%s,"list":[1,0,2]}}'):format(kind) })
      local got = json.decode(calls[1].request.body)
      assert.equal(expected, (got.kind:gsub("%s", "")))
      got.kind = nil
      assert.same({ name = "ADA", big = true, all = { 1, 2, 0 } }, got)
    end
  end)

  it("look at the answer's body where they stand outbound", function()
    local notes = start([[<outbound>
      <set-variable name="n" value="@(context.Response.Body.As<JObject>(preserveContent: true)["n"])" />
      <choose><when condition="@((int)context.Variables["n"] > 5)">
        <set-header name="X-N"><value>@(context.Variables["n"].ToString())</value></set-header></when>
      </choose></outbound>]], { answer = function(request)
        return 200, { ["Content-Type"] = "application/json" }, '{"n":' .. (request.query or "n=1"):match("%d+") .. "}"
      end })
    assert.same({}, notes)
    assert.equal("7", get("/?n=7").headers["x-n"])
    assert.is_nil(get("/?n=4").headers["x-n"])
    assert.equal('{"n":7}', get("/?n=7").body)
  end)

  it("validate XML and SOAP by a schema in a file, and set the reason of a status", function()
    local lua, err, notes = apim.convert([[<policies><inbound>
      <validate-content unspecified-content-type-action="prevent" max-size="1000" size-exceeded-action="prevent">
        <content type="text/xml" validate-as="soap" schema-id="orders v1" action="prevent" /></validate-content>
      </inbound><outbound><set-status code="202" reason="Taken" /></outbound></policies>]], "x.xml")
    assert.is_nil(err)
    assert.same({ 'x.xml:2: <validate-content>: the schema "orders v1" is read from schemas/orders-v1.xsd' }, notes)
    gw = moongate.gateway({ files = { ["lib/x.lua"] = lua, ["schemas/orders-v1.xsd"] = [[
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="order" type="xs:int"/></xs:schema>]],
      ["gateway.lua"] = [[
return { name = "x", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { b = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "b", policies = require("lib.x") } } } } }]] },
      backends = { b = function() return 200, {}, "ok" end } })
    local function post(order, media)
      return (gw:raw(("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"):format(media,
        #order, order)))
    end
    local function soap(text)
      return '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>' .. text
        .. "</s:Body></s:Envelope>"
    end
    assert.matches("^HTTP/1.1 202 Taken\r\n", post(soap("<order>1</order>"), "text/xml"))
    assert.matches("^HTTP/1.1 400 ", post(soap("<order>x</order>"), "text/xml"))
    assert.matches("^HTTP/1.1 400 ", post(soap("<order>1</order>"), "application/xml"))
  end)

  it("validate by the definition", function()
    local lua, err, notes = apim.convert([[<policies><inbound>
      <validate-content unspecified-content-type-action="prevent" max-size="1000"
        size-exceeded-action="prevent" errors-variable-name="e">
        <content type="application/json" validate-as="json" action="prevent" /></validate-content>
      <validate-parameters specified-parameter-action="prevent" unspecified-parameter-action="ignore"
        errors-variable-name="e"><query unspecified-parameter-action="prevent">
        <parameter name="debug" action="ignore" /></query></validate-parameters></inbound>
      <outbound><validate-headers specified-header-action="prevent" unspecified-header-action="detect"
        errors-variable-name="e"><header name="X-A" action="ignore" /></validate-headers>
      <validate-status-code unspecified-status-code-action="prevent" errors-variable-name="e" /></outbound>
      </policies>]], "v.xml")
    assert.is_nil(err)
    assert.same({}, notes)
    gw = moongate.gateway({ files = { ["lib/v.lua"] = lua, ["openapi.yaml"] = [[
openapi: 3.0.3
info: { title: x, version: "1" }
paths:
  /x:
    post:
      operationId: make
      parameters: [ { name: n, in: query, schema: { type: integer } } ]
      requestBody: { content: { application/json: { schema: { type: object, required: [ id ] } } } }
      responses: { "200": { description: ok } }
]], ["apis/x.lua"] = [[return { name = "x", paths = { "/v1" }, backend = "x", openapi = "openapi.yaml",
      policies = require("v") }]], ["gateway.lua"] = [[
return { name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { x = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", apis = true } } } } }]] },
      backends = { x = function(request) return request.headers["x-status"] and 418 or 200 end } })
    local function post(path, body, headers)
      headers = headers or {}
      headers["Content-Type"] = "application/json"
      return gw:post(path, { body = body, headers = headers }).status
    end
    assert.equal(200, post("/v1/x?n=1&debug=1", '{"id":1}'))
    assert.equal(400, post("/v1/x?n=a", '{"id":1}'))
    assert.equal(400, post("/v1/x?m=1", '{"id":1}'))
    assert.equal(400, post("/v1/x", "{}"))
    assert.equal(502, post("/v1/x", '{"id":1}', { ["X-Status"] = "1" }))
  end)

  it("write what loads, for the rest of the catalogue", function()
    local lua, err, notes = apim.convert([[<policies><inbound>
      <cross-domain><cross-domain-policy><allow-access-from domain='*' /></cross-domain-policy></cross-domain>
      <cors terminate-unmatched-request="false"><allowed-origins><origin>https://a.test</origin>
      </allowed-origins></cors>
      <validate-azure-ad-token tenant-id="contoso.test" header-name="Authorization"
        output-token-variable-name="jwt">
        <client-application-ids><application-id>app-1</application-id></client-application-ids>
        <required-claims><claim name="roles" match="any" separator=" "><value>r</value></claim></required-claims>
      </validate-azure-ad-token>
      <validate-jwt token-value="@(context.Request.Headers.GetValueOrDefault("X-Token", ""))"
        require-signed-tokens="true">
        <issuer-signing-keys><key id="k1">c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ1Njc4</key></issuer-signing-keys>
      </validate-jwt>
      <validate-client-certificate validate-revocation="false" validate-trust="true">
        <identities><identity common-name="c" issuer-subject="CN=CA" /></identities></validate-client-certificate>
      <validate-graphql-request max-size="1000" max-depth="4" error-variable-name="e">
        <authorize><rule path="/Mutation" action="reject" /><rule path="/__*" action="reject" /></authorize>
      </validate-graphql-request>
      <emit-metric name="orders.made" namespace="shop" value="@(context.Request.Headers.ContainsKey("X") ? 2 : 1)">
        <dimension name="API ID" /><dimension name="Client IP" value="@(context.Request.IpAddress)" /></emit-metric>
      <quota-by-key calls="10" renewal-period="0" counter-key="a" first-period-start="2026-01-01T00:00:00Z"
        increment-count="@(2)" />
      <invoke-request url="http://127.0.0.1:1/" response-variable-name="r" id="call" />
      </inbound>
      <backend><forward-request timeout-ms="1500" http-version="2" /></backend>
      <outbound><log-to-eventhub logger-id="hub">@("{" + context.RequestId + "}")</log-to-eventhub></outbound>
      </policies>]], "c.xml")
    assert.is_nil(err)
    assert.equal(3, #notes, table.concat(notes, "\n"))
    assert.matches("orders.made", notes[1], 1, true)
    assert.matches("settings of the backend", notes[2], 1, true)
    assert.matches("/var/log/moongate/hub.jsonl", notes[3], 1, true)
    assert.matches("%-%- id: call", lua)
    local log = os.tmpname()
    gw = moongate.gateway({ files = { ["lib/c.lua"] = lua:gsub("/var/log/moongate/hub.jsonl", log), ["gateway.lua"] = [[
return { name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { api = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "api", policies = require("c") } } } } }]] } })
    assert.equal(401, get("/x").status) -- there is no token
    os.remove(log)
  end)

  it("name what cannot be told, each with its line", function()
    local cases = { ["validate-odata-request"] = "<validate-odata-request/>",
      ["a credential store"] = '<get-authorization-context provider-id="p"/>',
      ["platform's identity"] = '<authentication-managed-identity resource="r"/>',
      ["SHA-1"] = '<validate-client-certificate validate-revocation="false"><identities>'
        .. '<identity thumbprint="AA"/></identities></validate-client-certificate>',
      ["no cache-store"] = '<cache-lookup vary-by-developer="false" vary-by-developer-groups="false"/>',
      ["set-body> within"] = '<wait for="all"><set-body>x</set-body></wait>',
      ["assign a = body.x | size"] = '<set-body template="liquid">{% assign a = body.x | size %}</set-body>',
      ["assign b = 1"] = '<set-body template="liquid">{% if body.a %}{% assign b = 1 %}{% endif %}</set-body>',
      ['the tag "endcase"'] = '<set-body template="liquid">{% case body.a %}{% endcase %}</set-body>',
      ['the tag "capture"'] = '<set-body template="liquid">{% capture a %}{% endcapture %}</set-body>',
      ['the filter "Sort"'] = '<set-body template="liquid">{{body.a | Sort}}</set-body>',
      ['"secret.x" in the template'] = '<set-body template="liquid">{{secret.x}}</set-body>',
      ["a text with an expression"] = nil,
      ["XML without schema-id"] = '<validate-content unspecified-content-type-action="ignore" max-size="1" '
        .. 'size-exceeded-action="ignore"><content type="a/xml" validate-as="xml"/></validate-content>',
      ["types of inner fields"] = '<validate-graphql-request max-size="1"><authorize>'
        .. '<rule path="/User/email" action="reject"/></authorize></validate-graphql-request>',
      ["without set-url"] = '<send-request mode="new" response-variable-name="r"/>' }
    for wanted, element in pairs(cases) do
      local lua, _, notes = apim.convert("<policies><inbound>\n" .. element .. "</inbound></policies>", "n.xml")
      assert.equal(1, #notes, element)
      assert.truthy(notes[1]:find("n.xml:2: ", 1, true) and notes[1]:find(wanted, 1, true), notes[1])
      assert.truthy(lua:find("is not translated", 1, true), element)
      assert.truthy(load(lua))
    end
  end)
end)
