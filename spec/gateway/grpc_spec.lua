-- SPDX-License-Identifier: Apache-2.0
--- gRPC through the gateway: what it answers itself, deadlines, trailers. With real clients and
--- servers: spec/integration/grpc_spec.lua.
local h2 = require("spec.support.h2")
local moongate = require("moongate.test")

local config = [[
local reply = require("moongate.reply")
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0", http2 = true } },
  backends = { origin = { targets = { "http://127.0.0.1:1" } },
    down = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/refused/*", backend = "origin", policies = { inbound = {
      function() return reply.refuse(401, "NoToken", "a token is wanted, 100% of the time") end } } },
    { path = "/limited/*", backend = "origin", policies = { inbound = {
      function() return reply.refuse(429, "TooMany", "slow down") end } } },
    { path = "/slow/*", backend = "origin", policies = { inbound = {
      function(ctx) ctx:sleep(5) end } } },
    { path = "/down/*", backend = "down" },
    { path = "/svc/*", backend = "origin" } } } },
}
]]

describe("gRPC", function()
  local gw

  before_each(function()
    gw = moongate.gateway { files = { ["gateway.lua"] = config }, backends = {
      origin = function() return 200, { ["Content-Type"] = "application/grpc" }, "\0\0\0\0\1x" end } }
  end)

  after_each(function()
    gw:close()
  end)

  local function call(path, more, wait)
    local fields = { { "content-type", "application/grpc+proto" }, { "te", "trailers" } }
    for _, field in ipairs(more or {}) do
      fields[#fields + 1] = field
    end
    local bytes = gw:raw(h2.START .. h2.headers(1, h2.request(path, fields, "POST"), h2.END_HEADERS)
      .. h2.data(1, "\0\0\0\0\1x", true), { wait = wait })
    return h2.answer(h2.read(bytes), 1)
  end

  local function fails(status, answer)
    assert.equal(200, answer.status)
    assert.equal(tostring(status), answer.headers["grpc-status"])
    assert.equal("application/grpc", answer.headers["content-type"])
    assert.is_nil(answer.headers["content-length"])
    assert.equal("", answer.body)
    assert.is_true(answer.is_whole)
  end

  it("for browsers is answered as gRPC-Web, over either version of HTTP", function()
    for _, form in ipairs { "application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text" } do
      local answer = gw:get("/refused/m", { method = "POST", body = "x",
        headers = { ["Content-Type"] = form .. "; a=b" } })
      assert.same({ 200, "16", form }, { answer.status, answer.headers["grpc-status"], answer.headers["content-type"] })
    end
    local answer = gw:get("/refused/m", { method = "POST", body = "x",
      headers = { ["Content-Type"] = "application/grpcish" } })
    assert.equal(401, answer.status)
  end)

  it("reaches the backend with TE: trailers", function()
    local answer = call("/svc/m")
    assert.equal("\0\0\0\0\1x", answer.body)
    assert.equal("trailers", gw.calls.origin[1].headers.te)
  end)

  it("is told UNIMPLEMENTED where there is no route", function()
    fails(12, call("/nowhere/m"))
  end)

  it("is told UNAVAILABLE where no target answers", function()
    fails(14, call("/down/m"))
  end)

  it("is told UNAUTHENTICATED with the policy's message, percent-encoded", function()
    local answer = call("/refused/m")
    fails(16, answer)
    assert.equal("a token is wanted, 100%25 of the time", answer.headers["grpc-message"])
  end)

  it("is told RESOURCE_EXHAUSTED past a limit", function()
    fails(8, call("/limited/m"))
  end)

  it("is told DEADLINE_EXCEEDED when its own deadline passes", function()
    fails(4, call("/slow/m", { { "grpc-timeout", "50m" } }, 0.5))
  end)

  it("keeps plain errors for other clients", function()
    local bytes = gw:raw(h2.START .. h2.get(1, "/refused/m"))
    local answer = h2.answer(h2.read(bytes), 1)
    assert.equal(401, answer.status)
    assert.is_nil(answer.headers["grpc-status"])
  end)

  it("passes over a deadline that is malformed", function()
    assert.equal("\0\0\0\0\1x", call("/svc/m", { { "grpc-timeout", "soon" } }).body)
  end)
end)
