-- SPDX-License-Identifier: Apache-2.0
--- `moongate import apim`: Azure's policy documents as ours.
local apim = require("moongate.import.apim")
local csharp = require("moongate.import.csharp")
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
  <set-body>@{ var b = context.Request.Body.As<JObject>(); return b.ToString(); }</set-body>
  <validate-odata-request />
  <cors allow-credentials="os.exit()"><allowed-origins><origin>*</origin></allowed-origins></cors>
  <set-header name="a"><value>@(Guid.NewGuid().ToString())</value></set-header>
</inbound></policies>]], "a.xml")
    assert.equal(4, #notes)
    assert.matches("^a.xml:2: <set%-body>: the expression", notes[1])
    assert.matches("a.xml:3: <validate-odata-request>", notes[2], 1, true)
    assert.matches("neither true nor false", notes[3], 1, true)
    assert.matches("Guid.NewGuid", notes[4], 1, true)
    assert.is_nil(lua:find("os.exit", 1, true) and lua:find("credentials = os.exit", 1, true))
    assert.truthy(load(lua))
    local _, count = lua:gsub("function%(%) error%(", "")
    assert.equal(4, count)
  end)

  it("translates expressions", function()
    local cases = {
      ['@(context.Request.Method == "GET" || !(1 > 2))'] =
        'ctx.request.method == "GET" or not (1 > 2)',
      ['@((string)context.Variables["a"] + "b")'] = 'tostring(ctx.vars["a"]) .. tostring("b")',
      ['@(context.Request.Url.Path.StartsWith("/a"))'] =
        '((ctx.request.path):sub(1, #("/a")) == ("/a"))',
      ['@(context.Request.Headers.ContainsKey("A"))'] = '(ctx.request.headers["A"] ~= nil)',
      ["@{ return context.Response.StatusCode; }"] = "ctx.response.status",
      ['@(context.Request.Url.Query.GetValueOrDefault("q", "").ToLower())'] =
        '((ctx.request.query["q"] or "")):lower()',
      ["@(context.Subscription?.Id ?? context.RequestId)"] =
        "(ctx.subscription and ctx.subscription.id) or ctx.id",
    }
    for text, wanted in pairs(cases) do
      assert.equal(wanted, csharp.translate(text), text)
    end
    for _, text in ipairs({ "@(System.IO.File)", '@("a)', "@(1 +)", "@{ int a = 1; return a; }",
      "@(new Random().Next())", "@()" }) do
      local lua, err = csharp.translate(text)
      assert.is_nil(lua, text)
      assert.is_string(err)
    end
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
