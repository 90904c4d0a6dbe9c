-- SPDX-License-Identifier: Apache-2.0
--- Sites on listeners: one host may be another site on each.
local moongate = require("moongate.test")

local CONFIG = [[
return {
  name = "sites",
  listeners = {
    { name = "web", address = "127.0.0.1:0" },
    { name = "admin", address = "127.0.0.1:0" },
  },
  networks = { here = { "127.0.0.0/8" } },
  sites = {
    { hosts = { "shop.test" }, listeners = { "web" }, routes = {
      { path = "/*", redirect = { to = "https://shop.test/", status = 301 } },
      { path = "/web-only/*", reply = { status = 200, body = "web only" } },
      { path = "/near/*", reply = { status = 200, body = "for all" } },
      { path = "/near/*", networks = { "here" }, reply = { status = 200, body = "for those here" } },
    } },
    { hosts = { "other.test", "*.shop.test" }, routes = {
      { path = "/*", reply = { status = 200, body = "other" } } } },
    { hosts = { "shop.test" }, listeners = { "admin" }, routes = {
      { path = "/*", reply = { status = 200, body = "admin" } } } },
  },
}
]]

describe("a host on two listeners", function()
  local gw

  setup(function()
    gw = moongate.gateway({ files = { ["gateway.lua"] = CONFIG } })
  end)

  teardown(function()
    gw:close()
  end)

  local function get(path, listener, host)
    return gw:get(path, { host = host or "shop.test", listener = listener })
  end

  it("is a site of its own on each", function()
    assert.equal(301, get("/", "web").status)
    assert.equal("admin", get("/", "admin").body)
    assert.equal("web only", get("/web-only/a", "web").body)
    assert.equal("admin", get("/web-only/a", "admin").body)
    for _, listener in ipairs({ "web", "admin" }) do
      assert.equal("other", get("/", listener, "other.test").body)
      assert.equal("other", get("/", listener, "a.shop.test").body)
    end
  end)

  it("puts a route for some networks before that for all, listed later as it is", function()
    assert.equal("for those here", get("/near/a", "web").body)
  end)

  it("has a name for each in the log", function()
    get("/", "web")
    get("/", "admin")
    local log = gw:access_log()
    assert.equal("shop.test", log[#log - 1].site)
    assert.equal("shop.test on admin", log[#log].site)
  end)
end)

describe("a configuration that writes names and paths otherwise than requests do", function()
  local gw

  setup(function()
    gw = moongate.gateway({ files = { ["gateway.lua"] = [[
return {
  listeners = { { address = "127.0.0.1:0" } },
  backends = { origin = { targets = { "http://127.0.0.1:1" } } },
  sites = {
    { hosts = { "Dot.test." }, routes = { { path = "/*", reply = { body = "with a dot" } } } },
    { hosts = { "plain.test" }, routes = {
      { path = "/café", reply = { body = "é" } },
      { path = "/a|b/{id}", reply = { body = "bar" } },
      { path = "/größe/*", apis = true },
    } },
  },
}
]], ["apis/sizes.lua"] = [[
return { name = "sizes", paths = { "/größe/ä" }, backend = "origin",
  operations = { get = { method = "GET", path = "/{id}/ü" } } }
]] }, backends = { origin = function(request) return 200, {}, request.path end } })
  end)

  teardown(function()
    gw:close()
  end)

  it("finds a host with a final dot", function()
    for _, host in ipairs({ "dot.test", "DOT.test." }) do
      assert.equal("with a dot", gw:get("/", { host = host }).body)
    end
  end)

  it("finds paths of bytes that requests escape", function()
    local function body(path)
      return gw:get(path, { host = "plain.test" }).body
    end
    assert.equal("é", body("/caf%C3%A9"))
    assert.equal("é", body("/caf%c3%a9"))
    assert.equal("bar", body("/a%7cb/1"))
    assert.equal("bar", body("/a|b/1"))
    assert.equal("/gr%C3%B6%C3%9Fe/%C3%A4/7/%C3%BC", body("/gr%c3%b6%C3%9Fe/%C3%A4/7/%C3%BC"))
  end)
end)
