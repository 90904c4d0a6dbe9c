-- SPDX-License-Identifier: Apache-2.0
--- The access log: which requests, which fields, and what is hidden.
local moongate = require("moongate.test")

describe("the access log", function()
  local gw

  local function start(log, more)
    gw = moongate.gateway {
      files = { ["gateway.lua"] = ([[
return {
  name = "spec", access_log = %s, %s
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  management = { address = "127.0.0.1:0" },
  backends = { main = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/silent", reply = { status = 200, body = "ok" }, access_log = false },
    { path = "/missing", reply = { status = 404 } },
    { path = "/*", backend = "main" },
  } } },
}]]):format(log, more or "") },
      backends = { main = function()
        return 200, { ["X-Served-By"] = "one", ["Set-Cookie"] = "session=secret" }, "ok"
      end },
    }
  end

  after_each(function()
    gw:close()
  end)

  local function query_of(path)
    assert.equal(200, gw:get(path).status)
    return gw:last_log().query
  end

  it("has the fields that the configuration names, those with credentials hidden", function()
    start([[{ request_headers = { "Accept", "authorization", "X-Custom", "Absent", "X-Mine" },
      response_headers = { "X-Served-By", "Set-Cookie" }, redact = { "x-mine" } }]])
    gw:get("/a", { headers = { Accept = "text/plain", Authorization = "Bearer abc",
      ["X-Custom"] = ("c"):rep(1000), ["X-Mine"] = "mine" } })
    local line = gw:last_log()
    assert.same({ Accept = "text/plain", authorization = "***", ["X-Custom"] = ("c"):rep(512),
      ["X-Mine"] = "***" }, line.request_headers)
    assert.same({ ["X-Served-By"] = "one", ["Set-Cookie"] = "***" }, line.response_headers)
  end)

  it("stays one line of JSON however long the fields are", function()
    local names, headers = {}, {}
    for i = 1, 32 do
      names[i] = ('"X-%d"'):format(i)
      headers["X-" .. i] = ("\"\\"):rep(200)
    end
    start(("{ request_headers = { %s } }"):format(table.concat(names, ", ")))
    gw:get("/long", { headers = headers })
    assert.equal("/long", gw:last_log().path)
    assert.equal(200, gw:last_log().status)
    assert.equal(headers["X-1"], gw:last_log().request_headers["X-1"])
  end)

  it("hides the values of secrets in the query, however their names are written", function()
    start([[{ redact = { "pin" } }]])
    assert.equal("a=1&b=2", query_of("/q?a=1&b=2"))
    assert.equal("token=***&a=1&PIN=***", query_of("/q?token=abc&a=1&PIN=1234"))
    assert.equal("a=1&access%5Ftoken=***", query_of("/q?a=1&access%5Ftoken=x"))
    assert.equal("subscription-key=***&subscription-key=***",
      query_of("/q?subscription-key=1&subscription-key=2"))
    assert.equal("token=&a&token", query_of("/q?token=&a&token"))
    assert.equal("&&token=***&&", query_of("/q?&&token=a=b&&"))
  end)

  it("leaves the query out where it is not wanted", function()
    start("{ query = false }")
    assert.is_nil(query_of("/q?a=1"))
  end)

  it("has a sample of what went well, and all that failed", function()
    start("{ sample = 0.2 }")
    for _ = 1, 500 do
      gw:get("/good")
    end
    local lines = gw:access_log()
    -- Five standard deviations around 100.
    assert.is_true(#lines > 55 and #lines < 145, #lines .. " lines")
    assert.equal(0.2, lines[1].sample)
    for _ = 1, 20 do
      gw:get("/missing")
    end
    assert.equal(#lines + 20, #gw:access_log())
  end)

  it("passes over routes that say so", function()
    start("{}")
    assert.equal(200, gw:get("/silent").status)
    assert.equal(0, #gw:access_log())
  end)

  it("names a field that cannot be one", function()
    local ok, err = pcall(start, '{ request_headers = { "a b" } }')
    assert.is_false(ok)
    assert.matches("request_headers%[1%]", tostring(err))
    start("{}")
  end)
end)
