-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local gw, answer

setup(function()
  gw = moongate.gateway({ files = { ["gateway.lua"] = [[
local p = require("moongate.policies")
local function out(path, ...)
  return { path = path, backend = "a", policies = { outbound = { ... }, on_error = { function(ctx)
    ctx.response.headers["X-Reason"] = ctx.error.reason
  end } } }
end
local function as(media, text)
  return p.set_body { template = text, content_type = media }
end
return {
  name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { a = { targets = { "http://backend.test:8000" } } },
  management = { address = "127.0.0.1:0" },
  sites = { { hosts = { "*" }, routes = {
    out("/json", as("application/json", '{"q":"{{ ctx.request.query.q }}","n":{{ {1,2} | json }}}')),
    out("/html", as("text/html", "<p title='{{ctx.request.query.q}}'>{{ ctx.request.query.q | upper }}</p>")),
    out("/loop", as("text/plain", [=[
{% for x in { "a", "b" } %}{% if x == "a" %}first{% else %}, {{ index }}:{{ x }}{% end %}{% end %}{# no #}]=])),
    out("/csv", as("text/csv", "{{ ctx.request.query.q }},1")),
    out("/null", as("application/json", '{"n":"{{ ctx.response:json().n }}"}')),
    out("/table", as("application/json", '{"n":"{{ ctx.response:json().t }}"}')),
    out("/address", p.set_header { name = "X-T", value = "t=${ctx.response:json().t}" }),
    out("/replace", p.find_and_replace { from = "a.b", to = "${ctx.request.query.q}" }),
    out("/links", p.rewrite_links { hosts = { "backend.test:8000" } }),
    out("/jsonp", p.jsonp { callback_parameter_name = "cb" }),
    out("/metric", p.emit_metric { name = "spec_total", labels = { q = "${ctx.request.query.q}" }, max_series = 2 }),
    out("/trace", p.trace { message = "seen ${ctx.request.path}", severity = "information",
      metadata = { a = "1\n2" } }),
    { path = "/in", backend = "a", policies = { inbound = { p.find_and_replace { from = "x", to = "yy" } } } },
  } } },
}]] }, backends = { a = function(request) return answer(request) end } })
end)

before_each(function()
  answer = function(request)
    return 200, { ["Content-Type"] = "application/json" }, request.body
  end
end)

teardown(function()
  gw:close()
end)

local HOSTILE = "%3C%22%27%26%5C%0A{{1%2b1}}"

describe("set_body with a template", function()
  it("writes JSON's null as nothing, and never the address of a table", function()
    answer = function()
      return 200, { ["Content-Type"] = "application/json" }, '{"n":null,"t":{}}'
    end
    assert.equal('{"n":""}', gw:get("/null").body)
    for _, path in ipairs({ "/table", "/address" }) do
      local got = gw:get(path)
      assert.equal(500, got.status)
      assert.is_nil(got.headers["x-t"])
    end
  end)

  it("escapes values for the media type, and takes none for a template", function()
    assert.equal([[{"q":"\u003c\"'\u0026\\\n{{1+1}}","n":[1,2]}]], gw:get("/json?q=" .. HOSTILE).body)
    assert.equal("<p title='&lt;&quot;&#39;&amp;\\\n{{1+1}}'>&lt;&quot;&#39;&amp;\\\n{{1+1}}</p>",
      gw:get("/html?q=" .. HOSTILE).body)
    assert.equal([["'=1+""1""",1]], gw:get("/csv?q=%3D1%2B%221%22").body)
  end)

  it("has conditions and loops", function()
    assert.equal("first, 2:b", gw:get("/loop").body)
  end)

  it("is compiled when loaded, and each part stands by itself", function()
    local function err(text)
      return moongate.errors({ files = { ["gateway.lua"] = ([[
local p = require("moongate.policies")
return { name = "s", listeners = { { name = "http", address = "127.0.0.1:0" } },
  sites = { { hosts = { "*" }, routes = { { path = "/", reply = { status = 200 }, policies = {
    inbound = { p.set_body { template = %q } } } } } } } }]]):format(text) } })
    end
    assert.truthy(err("{{ 1 + }}"):find("template:", 1, true))
    assert.truthy(err("{{ 1) end do (1 }}"):find("template:", 1, true))
    assert.truthy(err("{{ 1 | nosuch }}"):find("unknown filter", 1, true))
    assert.truthy(err("{% if true %}"):find("is missing", 1, true))
    assert.truthy(err("{% while true do %}"):find("unknown statement", 1, true))
    assert.truthy(err("{{ os.exit"):find("without", 1, true))
  end)
end)

describe("find_and_replace", function()
  it("replaces literally, in requests and responses", function()
    answer = function() return 200, { ETag = '"1"' }, "a.b axb a.ba.b" end
    local got = gw:get("/replace?q=%251")
    assert.equal("%1 axb %1%1", got.body)
    assert.equal('W/"1"', got.headers.etag)
    answer = function(request) return 200, {}, request.body end
    assert.equal("yyayy", gw:post("/in", { body = "xax" }).body)
  end)

  it("leaves coded bodies alone", function()
    answer = function() return 200, { ["Content-Encoding"] = "gzip" }, "a.b" end
    assert.equal("a.b", gw:get("/replace?q=1").body)
  end)
end)

describe("rewrite_links", function()
  it("turns the backend's hosts into the client's view of the gateway", function()
    answer = function()
      return 200, { ["Content-Type"] = "text/html", Location = "http://backend.test:8000/x",
        ["Set-Cookie"] = "a=1; Domain=backend.test; Path=/" },
        '<a href="http://backend.test:8000/a"> https://backend.test:8000?q http://backend.test:80001/ '
          .. [["http:\/\/backend.test:8000\/j" ftp://backend.test:8000/]]
    end
    local got = gw:get("/links", { host = "api.test" })
    assert.equal('<a href="http://api.test/a"> http://api.test?q http://backend.test:80001/ '
      .. [["http:\/\/api.test\/j" ftp://backend.test:8000/]], got.body)
    assert.equal("http://api.test/x", got.headers.location)
    assert.equal("a=1; Domain=api.test; Path=/", got.headers["set-cookie"])
  end)
end)

describe("jsonp", function()
  it("wraps JSON where the client asks for it", function()
    answer = function() return 200, { ["Content-Type"] = "application/json" }, '{"a":"\226\128\168"}' end
    local got = gw:get("/jsonp?cb=app.done")
    assert.equal([[/**/app.done({"a":"\u2028"});]], got.body)
    assert.equal("application/javascript", got.headers["content-type"])
    assert.equal('{"a":"\226\128\168"}', gw:get("/jsonp").body)
  end)

  it("refuses what is no identifier", function()
    for _, name in ipairs({ "alert(1)", "a..b", "1a", "if", "", "a%3Cb", ("x"):rep(129) }) do
      local got = gw:get("/jsonp?cb=" .. name)
      assert.equal("400 CallbackParameterInvalid", got.status .. " " .. tostring(got.headers["x-reason"]), name)
    end
  end)
end)

describe("emit_metric and trace", function()
  it("names no metric as the gateway does", function()
    local text = moongate.errors({ files = { ["gateway.lua"] = [[
      local p = require("moongate.policies")
      return { name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
        sites = { { hosts = { "*" }, routes = { { path = "/", reply = { status = 200 },
          policies = { inbound = { p.emit_metric { name = "moongate_request_duration_seconds" } } } } } } } }
    ]] } })
    assert.matches("begin with moongate_ are the gateway's own", text)
  end)

  it("count with bounded labels", function()
    for _, q in ipairs({ "a", "b", "a", "c", "d" }) do
      gw:get("/metric?q=" .. q)
    end
    local text = gw:get("/metrics", { listener = "management" }).body
    assert.truthy(text:find('spec_total{q="a"} 2', 1, true), text)
    assert.truthy(text:find('spec_total{q="other"} 2', 1, true))
    assert.is_nil(text:find('spec_total{q="c"}', 1, true))
  end)

  it("do not fail the request", function()
    assert.equal(200, gw:get("/trace").status)
  end)
end)
