-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local gw

setup(function()
  gw = moongate.gateway({ files = { ["gateway.lua"] = [[
local p, reply = require("moongate.policies"), require("moongate.reply")
local function sleep(s) return function(ctx) ctx:sleep(s) end end
local function limited(path, conf, s)
  return { path = path, backend = "a", policies = { backend = { p.limit_concurrency(conf) },
    outbound = s and { sleep(s) } or nil,
    on_error = { function(ctx) ctx.response.headers["X-Reason"] = ctx.error.reason end } } }
end
return {
  name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { a = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = {
    limited("/full", { max = 2, sleep(0.05), p.forward_request {} }),
    limited("/queue", { max = 1, queue = 1, queue_timeout = 2, sleep(0.03), p.forward_request {} }),
    limited("/late", { max = 1, queue = 1, queue_timeout = 0.02, sleep(0.1), p.forward_request {} }),
    limited("/after", { max = 1, queue = 2, p.forward_request {} }, 0.05),
    limited("/held", { max = 1, key = "held" }, 0.05),
    limited("/raises", { max = 1, function() error("raised") end }),
    limited("/answers", { max = 1, p.return_response { status = 418 } }),
    { path = "/together", backend = "a", policies = { inbound = { function(ctx)
      local query, functions = ctx.request.query, {}
      local url = "http://127.0.0.1:" .. query.port .. query.path
      for i = 1, tonumber(query.n) do
        functions[i] = function(c) return c.http:request({ url = url }).status end
      end
      local out = {}
      for i, result in ipairs(ctx:parallel(functions)) do
        out[i] = result.value
      end
      table.sort(out)
      return reply.text(200, table.concat(out, " "))
    end } } },
  } } },
}]] }, backends = { a = function() return 200, {}, "ok" end } })
end)

teardown(function()
  gw:close()
end)

--- Statuses of requests that overlap, sorted: which of them comes first is chance.
local function together(path, n)
  return gw:get(("/together?port=%d&path=%s&n=%d"):format(gw:port(), path, n)).body
end

describe("limit_concurrency", function()
  it("refuses what comes while all places are taken, and gives them back", function()
    assert.equal("200 200 429 429", together("/full", 4))
    assert.equal("200 200 429", together("/full", 3))
  end)

  it("lets a bounded number wait for a place", function()
    assert.equal("200 200 429", together("/queue", 3))
  end)

  it("answers 503 to those that waited in vain", function()
    assert.equal("200 429 503", together("/late", 3))
  end)

  it("lets the place go when the policies inside are done, not when the request is", function()
    assert.equal("200 200 200", together("/after", 3))
  end)

  it("without policies inside holds the place until the request is over", function()
    assert.equal("200 429 429", together("/held", 3))
    assert.equal("200 429", together("/held", 2))
  end)

  it("gives the place back where a policy inside fails or answers", function()
    for _ = 1, 3 do
      assert.equal(500, gw:get("/raises").status)
      assert.equal(418, gw:get("/answers").status)
    end
  end)
end)
