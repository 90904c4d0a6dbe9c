-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local gw

setup(function()
  gw = moongate.gateway({ files = { ["gateway.lua"] = [[
local p = require("moongate.policies")
return {
  name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { a = { targets = { "http://127.0.0.1:1" } } },
  policies = { inbound = {
    p.when("ctx.request.query.mock", { p.mock_response {} }),
    p.when("ctx.request.query.missing", { p.mock_response { status = 404 } }),
    p.when("ctx.request.query.xml", { p.mock_response { content_type = "application/xml" } }),
    p.when("ctx.request.query.own", { p.mock_response { status = 201, json = { 1, 2 } } }),
  } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", apis = true } } } },
}]], ["apis/a.lua"] = [[
return { name = "a", paths = { "/a" }, backend = "a", operations = {
  get = { method = "GET", path = "/", examples = {
    ["200"] = { ["application/json"] = { id = 1 }, ["application/xml"] = "<id>1</id>" },
    ["404"] = { ["application/json"] = { why = "none" } },
  } },
  other = { method = "GET", path = "/other" },
} }]] } })
end)

teardown(function()
  gw:close()
end)

describe("mock_response", function()
  it("in an outer scope answers with the operation's examples", function()
    local got = gw:get("/a?mock=1")
    assert.equal('200 application/json {"id":1}',
      got.status .. " " .. got.headers["content-type"] .. " " .. got.body)
    assert.equal('404 {"why":"none"}', gw:get("/a?missing=1").status .. " "
      .. gw:get("/a?missing=1").body)
    assert.equal("<id>1</id>", gw:get("/a?xml=1").body)
    assert.equal("[1,2]", gw:get("/a?own=1").body)
    assert.equal("", gw:get("/a/other?mock=1").body)
  end)
end)
