-- SPDX-License-Identifier: Apache-2.0
--- `moongate import apim`: Azure's policy documents as ours.
local apim = require("moongate.import.apim")
local ffi = require("ffi")
local moongate = require("moongate.test")

local document = [[
<!-- a comment -->
<policies>
  <inbound>
    <base />
    <set-header name="X-Client" exists-action="override">
      <value>@(context.Request.IpAddress + ":" + context.Request.Method)</value>
    </set-header>
    <choose>
      <when condition="@(context.Request.Headers.GetValueOrDefault("X-Tenant","none") == "blue")">
        <set-query-parameter name="tenant"><value>blue</value></set-query-parameter>
      </when>
      <when condition="@(context.Request.Headers.GetValueOrDefault(&quot;X-Tenant&quot;) == null)">
        <set-variable name="a" value="b" />
      </when>
      <otherwise>
        <return-response><set-status code="403" /><set-body>no</set-body></return-response>
      </otherwise>
    </choose>
    <rate-limit-by-key calls="3" renewal-period="60" counter-key="@(context.Request.IpAddress)" />
  </inbound>
  <outbound><base /><set-header name="X-Mode" exists-action="delete" /></outbound>
</policies>]]

describe("moongate import apim", function()
  it("writes policies that do what Azure's did", function()
    local lua, err, notes = apim.convert(document, "orders.xml")
    assert.is_nil(err)
    assert.same({}, notes)
    local gw = moongate.gateway({ files = { ["lib/orders.lua"] = lua, ["gateway.lua"] = [[
return { name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { api = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "api",
    policies = require("orders") } } } } }]] }, backends = { api = function(request)
      return 200, { ["X-Mode"] = "x" }, request.headers["x-client"] .. " " .. (request.query or "")
    end } })
    local blue = gw:get("/", { headers = { ["X-Tenant"] = "blue" } })
    assert.equal(200, blue.status)
    assert.matches("127.0.0.1:GET", blue.body, 1, true)
    assert.is_nil(blue.headers["x-mode"])
    assert.equal(200, gw:get("/").status)
    assert.equal(403, gw:get("/", { headers = { ["X-Tenant"] = "red" } }).status)
    assert.equal(200, gw:get("/").status)
    assert.equal(429, gw:get("/").status)
    gw:close()
  end)

  it("lists what it cannot translate, and lets nothing pass in its place", function()
    local lua, _, notes = apim.convert([[
<policies><inbound>
  <set-body>@{ for (int i = 0; i < 3; i++) { } return ""; }</set-body>
  <validate-odata-request />
  <cors allow-credentials="os.exit()"><allowed-origins><origin>*</origin></allowed-origins></cors>
  <set-header name="a"><value>@(context.User.Groups.First().Name)</value></set-header>
</inbound></policies>]], "a.xml")
    assert.equal(4, #notes)
    assert.matches("^a.xml:2: <set%-body>: the expression", notes[1])
    assert.matches("a.xml:3: <validate-odata-request>", notes[2], 1, true)
    assert.matches("neither true nor false", notes[3], 1, true)
    assert.matches("context.User.Groups", notes[4], 1, true)
    assert.is_nil(lua:find("os.exit", 1, true) and lua:find("credentials = os.exit", 1, true))
    assert.truthy(load(lua))
    local _, count = lua:gsub("function%(%) error%(", "")
    assert.equal(4, count)
  end)

  it("writes what loads, for each policy that it knows", function()
    local lua, err, notes = apim.convert([[
<policies>
  <inbound>
    <authentication-basic username="u" password="p" />
    <check-header name="X-A" failed-check-httpcode="401" failed-check-error-message="no" ignore-case="true">
      <value>a</value></check-header>
    <cors allow-credentials="true"><allowed-origins><origin>https://a.test</origin></allowed-origins>
      <allowed-methods preflight-result-max-age="60"><method>GET</method></allowed-methods>
      <allowed-headers><header>X-A</header></allowed-headers></cors>
    <find-and-replace from="a" to="b" />
    <include-fragment fragment-id="limits" />
    <ip-filter action="allow"><address>127.0.0.1</address></ip-filter>
    <json-to-xml apply="content-type-json" consider-accept-header="false" namespace-separator=":" />
    <limit-concurrency key="k" max-count="3"><set-method>POST</set-method></limit-concurrency>
    <quota calls="10" bandwidth="40" renewal-period="3600" id="all" />
    <quota-by-key calls="10" renewal-period="3600" counter-key="@(context.Request.IpAddress)" />
    <rate-limit calls="10" renewal-period="60" />
    <rewrite-uri template="/x" />
    <set-backend-service backend-id="api" />
    <set-body>text</set-body>
    <set-query-parameter name="a" exists-action="append"><value>1</value></set-query-parameter>
    <set-variable name="a" value="@(1 + 2)" />
    <trace source="s" severity="information"><message>m</message><metadata name="n" value="v" /></trace>
    <validate-jwt header-name="Authorization" require-scheme="Bearer">
      <openid-config url="https://id.test/.well-known/openid-configuration" />
      <required-claims><claim name="scp" match="any"><value>a</value></claim></required-claims>
    </validate-jwt>
  </inbound>
  <backend><retry condition="@(context.Response.StatusCode == 503)" count="2" interval="1">
    <forward-request timeout="20" buffer-request-body="true" fail-on-error-status-code="false" />
  </retry></backend>
  <outbound>
    <jsonp callback-parameter-name="cb" />
    <redirect-content-urls />
    <set-status code="202" reason="Taken" />
    <validate-status-code unspecified-status-code-action="detect" errors-variable-name="e">
      <status-code code="404" action="ignore" /></validate-status-code>
    <xml-to-json kind="direct" apply="always" consider-accept-header="true" />
  </outbound>
  <on-error><mock-response status-code="418" /></on-error>
</policies>]], "all.xml")
    assert.is_nil(err)
    assert.same({}, notes)
    local state = os.tmpname() -- where quotas are kept
    os.remove(state)
    ffi.C.setenv("MOONGATE_STATE_DIR", state, 1)
    local gw = moongate.gateway({ files = { ["lib/all.lua"] = lua, ["fragments/limits.lua"] = "return {}",
      ["gateway.lua"] = [[
return { name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { api = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "api",
    policies = require("all") } } } } }]] }, backends = { api = function() return 200 end } })
    assert.equal(418, gw:get("/").status)
    gw:close()
    os.execute("rm -rf " .. state)
    assert.matches('p.quota { id = "all", calls = 10', lua, 1, true)
  end)

  it("refuses what is no policy document", function()
    for text, wanted in pairs({ ["<a/>"] = "expected <policies>", ["<policies>"] = "without its end",
      ["<policies><inbound></policies>"] = "expected </inbound>", [""] = "no element",
      ["<!DOCTYPE x><policies/>"] = "a DTD", [("<a>"):rep(100)] = "nested too deeply",
      ['<policies a="@(']  = "without its end" }) do
      local lua, err = apim.convert(text, "x.xml")
      assert.is_nil(lua)
      assert.matches(wanted, err, 1, true)
    end
  end)
end)
