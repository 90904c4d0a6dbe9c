-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local function serve(policy, backends)
  return moongate.gateway({ files = { ["gateway.lua"] = [[
local p = require("moongate.policies")
return {
  name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  management = { address = "127.0.0.1:0" },
  backends = { events = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", reply = { status = 200 }, policies = {
    inbound = { ]] .. policy .. [[ } } } } } },
}]] }, backends = backends })
end

describe("log_event", function()
  it("appends lines to a file", function()
    local path = os.tmpname()
    local gw = serve(([[p.log_event { file = %q, value = "a\nb ${ctx.request.path}" },
      p.log_event { file = %q, value = function(ctx) return { path = ctx.request.path } end }]])
      :format(path, path))
    assert.equal(200, gw:get("/x").status)
    gw:close()
    local file = assert(io.open(path))
    assert.equal('a b /x\n{"path":"/x"}\n', file:read("*a"))
    file:close()
    os.remove(path)
  end)

  it("posts to an endpoint without waiting for it", function()
    local gw = serve([[p.log_event { http = { backend = "events", path = "/in" },
      value = function(ctx) return { n = 1 } end }]], { events = function() return 202, {}, "" end })
    assert.equal(200, gw:get("/").status)
    for _ = 1, 20 do
      gw.core:turn(5)
    end
    assert.equal('POST /in {"n":1}', gw.calls.events[1].method .. " " .. gw.calls.events[1].path .. " "
      .. gw.calls.events[1].body)
    gw:close()
  end)

  it("counts what nobody takes, and never fails the request", function()
    local gw = serve([[p.log_event { file = "/dev/full", value = "x" },
      p.log_event { syslog = { address = "127.0.0.1", port = 9 }, value = "x" },
      p.log_event { file = "/dev/null", value = function() error("broken") end }]])
    assert.equal(200, gw:get("/").status)
    local text = gw:get("/metrics", { listener = "management" }).body
    assert.truthy(text:find('moongate_events_dropped_total{sink="file"} 1', 1, true))
    gw:close()
  end)

  it("is refused without exactly one sink, or with one that cannot be opened", function()
    for policy, message in pairs({
      ['p.log_event { value = "x" }'] = "exactly one of file, syslog",
      ['p.log_event { value = "x", file = "/nowhere/x" }'] = "No such file",
      ['p.log_event { value = "x", redis_stream = { name = "s" } }'] = "has no redis",
      ['p.log_event { value = "x", syslog = { unix = "/nowhere/log" } }'] = "No such file",
    }) do
      local ok, err = pcall(serve, policy)
      assert.is_false(ok)
      assert.truthy(err:find(message, 1, true), err)
    end
  end)
end)

describe("every policy", function()
  it("takes when, id and on_error", function()
    local gw = serve([[
      function(ctx) ctx.vars.n = 1 end,
      p.set_variable { name = "n", value = function() error("broken") end, on_error = "continue", id = "x" },
      p.set_variable { name = "n", value = 2, when = "ctx.request.path == '/two'" },
      p.when("true", { function() error("broken inside") end }, nil, { on_error = "continue" }),
      p.return_response { body = "${ctx.vars.n}" }]])
    assert.equal("1", gw:get("/one").body)
    assert.equal("2", gw:get("/two").body)
    gw:close()
  end)
end)
