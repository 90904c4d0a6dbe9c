-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local config = [[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = {
    origin = { targets = { "http://127.0.0.1:1" }, retries = 0,
      timeout = { connect = 1, send = 1, first_byte = 2, idle = 3, total = 20 } },
  },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
}
]]

local gw, behaviour

setup(function()
  gw = moongate.gateway({
    files = { ["gateway.lua"] = config },
    backends = { origin = function(request)
      return behaviour(request)
    end },
  })
end)

teardown(function()
  gw:close()
end)

local function raw(bytes, keep)
  behaviour = function()
    return { raw = bytes, keep = keep }
  end
end

local function expect(status, reason)
  local answer = gw:get("/a", { host = "a" })
  assert.equal(status, answer.status)
  assert.equal(reason, gw:last_log().error)
  behaviour = function()
    return 200, {}, "well"
  end
  assert.equal("well", gw:get("/next", { host = "a" }).body)
end

describe("a backend", function()
  it("that closes without an answer gives 502", function()
    behaviour = function() end
    expect(502, "upstream_closed")
  end)

  it("that closes within the head gives 502", function()
    raw("HTTP/1.1 200 OK\r\nContent-Le")
    expect(502, "upstream_closed")
  end)

  it("that talks nonsense gives 502", function()
    raw("hello, I am no HTTP server\r\n\r\n")
    expect(502, "upstream_protocol")
  end)

  it("that gives two lengths gives 502", function()
    raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
    expect(502, "upstream_protocol")
  end)

  it("that gives length and chunked gives 502", function()
    raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    expect(502, "upstream_protocol")
  end)

  it("that cuts its body cannot make it look whole", function()
    raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    expect(502, "upstream_truncated")
    raw("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" .. ("x"):rep(50000))
    local answer = gw:get("/a", { host = "a" })
    assert.is_string(answer.broken)
    assert.equal("upstream_truncated", gw:last_log().error)
  end)

  it("that cuts a chunked body cannot make it look whole", function()
    raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    expect(502, "upstream_truncated")
    raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc350\r\n" .. ("x"):rep(50000) .. "\r\n")
    local answer = gw:get("/a", { host = "a" })
    assert.is_string(answer.broken)
  end)

  it("that ends its body by closing is read to the end", function()
    raw("HTTP/1.1 200 OK\r\n\r\nuntil the end")
    local answer = gw:get("/a", { host = "a" })
    assert.equal("until the end", answer.body)
    assert.is_nil(answer.broken)
  end)

  it("that sends more than its length does not poison the next request", function()
    raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", true)
    assert.equal("ok", gw:get("/a", { host = "a" }).body)
    behaviour = function()
      return 200, {}, "clean"
    end
    for _ = 1, 3 do
      assert.equal("clean", gw:get("/b", { host = "a" }).body)
    end
  end)

  it("that answers early is believed, and the rest of the body is not waited for", function()
    raw("HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmuch")
    local answer = gw:raw("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    assert.matches("^HTTP/1%.1 413", answer)
  end)

  it("that sends interim answers is heard out", function()
    raw("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone", true)
    assert.equal("done", gw:get("/a", { host = "a" }).body)
  end)

  it("that never answers gives 504 in first_byte's time", function()
    raw("", true)
    local answer
    local started = os.clock()
    gw.core:raw("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", { wait = 0.05 })
    gw:advance(2.5)
    answer = gw:last_log()
    assert.is_true(os.clock() - started < 5)
    assert.is_true(answer.error == "first_byte_timeout" or answer.error == "client_closed")
  end)

  it("that closed a kept connection meanwhile is asked again on a new one", function()
    local count = 0
    behaviour = function()
      count = count + 1
      if count == 1 then
        return { raw = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst" } -- keep-alive said, then closed
      end
      return 200, {}, "second"
    end
    assert.equal("first", gw:get("/a", { host = "a" }).body)
    assert.equal("second", gw:get("/a", { host = "a" }).body)
  end)
end)
