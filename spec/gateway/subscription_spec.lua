-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local CONFIG = [[
return {
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { origin = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", apis = true } } } },
  products = { gold = { apis = { "orders" } }, free = { apis = { "other" } } },
  subscriptions = {
    { id = "of-product", product = "gold", keys = { "key-of-product-1", "key-of-product-2" } },
    { id = "of-api", api = "orders", keys = { "key-of-one-api" } },
    { id = "of-all", keys = { "key-of-all-apis" } },
    { id = "of-another-product", product = "free", keys = { "key-of-free-1" } },
    { id = "of-another-api", api = "other", keys = { "key-of-other-api" } },
    { id = "suspended", api = "orders", state = "suspended", keys = { "key-of-suspended" } },
  },
}
]]

-- Its policies say who they are, and which refused.
local TOLD = [[
return { name = "told", paths = { "/told" }, backend = "origin", subscription = { required = true },
  operations = { all = { method = "*", path = "/*" } },
  policies = {
    inbound = { function(ctx) ctx.request.headers["X-Subscription"] = ctx.subscription.id end },
    on_error = { function(ctx)
      local error = ctx.error
      ctx.response.headers["X-Error"] = ("%s in %s"):format(error.source, error.section)
    end },
  },
}
]]

local API = [[
return { name = "%s", paths = { "/%s" }, backend = "origin", subscription = { required = %s },
  operations = { all = { method = "*", path = "/*" } } }
]]

describe("subscription", function()
  local gw

  setup(function()
    gw = moongate.gateway({
      files = { ["gateway.lua"] = CONFIG, ["apis/orders.lua"] = API:format("orders", "orders", "true"),
        ["apis/other.lua"] = API:format("other", "other", "true"),
        ["apis/open.lua"] = API:format("open", "open", "false"), ["apis/told.lua"] = TOLD },
      backends = { origin = function()
        return 200, {}, "ok"
      end },
    })
  end)

  teardown(function()
    gw:close()
  end)

  --- The status, and the reason of a refusal.
  local function ask(path, key)
    local answer = gw:get(path, { host = "a", headers = { ["Ocp-Apim-Subscription-Key"] = key } })
    return answer.status == 200 and "200" or answer.status .. " " .. gw:last_log().reason
  end

  it("asks for a key that opens the API", function()
    assert.equal("401 SubscriptionKeyNotFound", ask("/orders/1"))
    for _, key in ipairs({ "key-of-product-1", "key-of-product-2", "key-of-one-api", "key-of-all-apis" }) do
      assert.equal("200", ask("/orders/1", key), key)
    end
    for _, key in ipairs({ "no-key-at-all", "key-of-free-1", "key-of-other-api", "key-of-suspended" }) do
      assert.equal("401 SubscriptionKeyInvalid", ask("/orders/1", key), key)
    end
  end)

  it("lets callers without a key in where none is required, never with a bad one", function()
    assert.equal("200", ask("/open/1"))
    assert.equal("401 SubscriptionKeyInvalid", ask("/open/1", "no-key-at-all"))
  end)

  it("costs no Lua for who is let in", function()
    assert.equal("200", ask("/orders/1", "key-of-one-api"))
    assert.equal(0, gw:last_log().lua_us or 0)
  end)

  it("refuses as a policy of its section, and the others run for who is let in", function()
    for _ = 1, 2 do
      local answer = gw:get("/told/1", { host = "a" })
      assert.same({ 401, "subscription in inbound" }, { answer.status, answer.headers["x-error"] })
      assert.equal(200, gw:get("/told/1?subscription-key=key-of-all-apis", { host = "a" }).status)
      local calls = gw.calls.origin
      assert.equal("of-all", calls[#calls].headers["x-subscription"])
    end
  end)

  it("does not hand the key to the backend", function()
    assert.equal("200", ask("/orders/1", "key-of-one-api"))
    assert.equal(200, gw:get("/orders/1?a=1&subscription-key=key-of-one-api", { host = "a" }).status)
    local calls = gw.calls.origin
    assert.is_nil(calls[#calls - 1].headers["ocp-apim-subscription-key"])
    assert.equal("a=1", calls[#calls].query)
  end)
end)
