-- SPDX-License-Identifier: Apache-2.0
--- What a client gets where the gateway or a policy refuses (RFC 9457).
local moongate = require("moongate.test")
local json = require("moongate.json")

local CONFIG = [[
local p, reply = require("moongate.policies"), require("moongate.reply")
local function TELL(ctx) ctx.response.headers["X-Message"] = ctx.error.message end
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { dead = { sink = { status = 410 } } },
  sites = { { hosts = { "api.test" }, routes = {
    { path = "/refused", reply = { status = 200 }, policies = { inbound = {
      p.check_header { name = "X-Key", status = 403, message = "no \"key\"\n" },
    } } },
    { path = "/raised", reply = { status = 200 }, policies = { inbound = {
      function() error("secret") end,
    } } },
    { path = "/long", reply = { status = 200 }, policies = { inbound = {
      function() return reply.refuse(429, "TooMuch", ("\1"):rep(5000), { ["Retry-After"] = "7" }) end,
    } } },
    { path = "/dead", backend = "dead" },
    { path = "/number", reply = {}, policies = { on_error = { TELL }, inbound = {
      function() return 403 end,
    } } },
    { path = "/table", reply = {}, policies = { on_error = { TELL }, inbound = {
      function() return { body = "x" } end,
    } } },
    { path = "/tail", reply = {}, policies = { on_error = { TELL }, inbound = {
      function() return reply.text("200") end,
    } } },
    { path = "/*", apis = true },
  } } },
  policies = { on_error = { function(ctx)
    if ctx.error.reason == "OperationNotFound" then
      ctx.response.headers["X-Seen"] = ctx.error.source .. " " .. ctx.error.reason
    end
  end } },
}
]]

describe("a refused request", function()
  local gw

  setup(function()
    gw = moongate.gateway { files = { ["gateway.lua"] = CONFIG, ["apis/orders.lua"] = [[
return { name = "orders", paths = { "/orders" }, backend = "dead",
  operations = { list = { method = "GET", path = "/" } } }]] } }
  end)

  teardown(function()
    gw:close()
  end)

  local function problem(path)
    local r = gw:get(path, { host = "api.test" })
    assert.equal("application/problem+json", r.headers["content-type"])
    local p = assert(json.decode(r.body))
    assert.equal(r.status, p.status)
    assert.matches("^%x+$", p.request_id)
    return p, r
  end

  it("for which no operation is there meets on_error with OperationNotFound", function()
    for _, path in ipairs({ "/orders/nothing", "/nowhere" }) do
      local p, r = problem(path)
      assert.same({ 404, "OperationNotFound" }, { p.status, p.reason })
      assert.equal("gateway OperationNotFound", r.headers["x-seen"])
    end
  end)

  it("gets one form of problem document, whoever refuses", function()
    local p = problem("/refused")
    assert.same({ 403, "Forbidden", 'no "key"\n' }, { p.status, p.title, p.detail })
    assert.truthy(p.reason)
    p = problem("/dead")
    assert.same({ 410, "Gone", "Sinkpool" }, { p.status, p.title, p.reason })
    p = problem("/nowhere")
    assert.same({ 404, "Not Found" }, { p.status, p.title })
    assert.truthy(p.reason)
  end)

  it("keeps a policy's header fields, and a message of any length", function()
    local p, r = problem("/long")
    assert.equal("7", r.headers["retry-after"])
    assert.same({ "TooMuch", ("\1"):rep(5000) }, { p.reason, p.detail })
  end)

  it("is told apart by place and message where a policy returns what is no reply", function()
    for path, want in pairs({
      ["/number"] = { 19, "expected a reply (moongate.reply) or nothing, got a number" },
      ["/table"] = { 22, "a policy returned no valid reply: status must be 200 to 599, got nothing" },
      ["/tail"] = { 25, 'reply.text: status must be 200 to 599, got "200"' },
    }) do
      local r = gw:get(path, { host = "api.test" })
      assert.same({ 500, want[2] }, { r.status, r.headers["x-message"] })
      local line = gw:last_log()
      assert.same({ "gateway.lua:" .. want[1], "function", "inbound" }, { line.where, line.policy, line.section })
    end
  end)

  it("never gets the text of a raised error", function()
    local p, r = problem("/raised")
    assert.equal(500, p.status)
    assert.is_nil(r.body:find("secret", 1, true))
  end)
end)
