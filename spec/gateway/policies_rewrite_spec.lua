-- SPDX-License-Identifier: Apache-2.0
--- Texts replaced while bodies pass: longer than what the route keeps in memory, in both directions.
local moongate = require("moongate.test")

local gw, answer, calls_before

setup(function()
  gw = moongate.gateway({ files = { ["gateway.lua"] = [[
local p = require("moongate.policies")
local swap = p.find_and_replace { from = "needle", to = "thread" }
local function route(path, policies)
  return { path = path, backend = "a", policies = policies }
end
return {
  name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  limits = { policy_body_bytes = 4096 }, compression = { min_bytes = 10000 },
  backends = { a = { targets = { "http://backend.test:8000" } } },
  sites = { { hosts = { "*" }, routes = {
    route("/out", { outbound = { swap } }),
    route("/in", { inbound = { swap } }),
    route("/twice", { outbound = { swap, p.find_and_replace { from = "thread", to = "" } } }),
    route("/kept", { outbound = { swap, function(ctx)
      ctx.response:set_body("[" .. ctx.response:body() .. "]") end, p.find_and_replace { from = "]", to = "!" } } }),
    route("/links", { outbound = { p.rewrite_links { hosts = { "backend.test:8000" } } } }),
    route("/cached", { inbound = { p.cache { ttl = 60 } }, outbound = { swap } }),
    route("/packed", { outbound = { swap } }),
    route("/long", { outbound = { function(ctx)
      ctx.response:replace({ { ("x"):rep(1025), "" } }) end } }),
    route("/own", { inbound = { p.return_response { status = 200, body = "a needle" } },
      outbound = { swap } }),
    route("/again", { backend = { p.retry { count = 1, interval = 0, condition = "ctx.response.status == 503",
      p.forward_request {} } }, outbound = { swap } }),
  } } },
}]] }, backends = { a = function(request)
    return answer(request)
  end } })
end)

before_each(function()
  calls_before = #gw.calls.a
end)

teardown(function()
  gw:close()
end)

local hay = ("hay "):rep(40000) .. "needle" .. (" hay"):rep(40000) .. " needle"
local wanted = hay:gsub("needle", "thread")

describe("find_and_replace", function()
  it("changes answers and requests of any length", function()
    answer = function() return 200, { ETag = '"1"', ["Accept-Ranges"] = "bytes" }, hay end
    local got = gw:get("/out")
    assert.equal(wanted, got.body)
    assert.equal('W/"1"', got.headers.etag)
    assert.is_nil(got.headers["accept-ranges"])
    assert.is_nil(got.headers["content-length"])
    answer = function(request) return 200, {}, request.body end
    assert.equal(wanted, gw:post("/in", { body = hay }).body)
  end)

  it("tells the length where all of the answer is there at once", function()
    answer = function() return 200, {}, "a needle" end
    local got = gw:get("/out")
    assert.equal("a thread", got.body)
    assert.equal("8", got.headers["content-length"])
    answer = function(request) return 200, { ["X-Length"] = request.headers["content-length"] }, request.body end
    got = gw:post("/in", { body = "needles" })
    assert.equal("threads", got.body)
    assert.equal("7", got.headers["x-length"])
  end)

  it("comes after what stood before it, in streams and in what is kept", function()
    answer = function() return 200, {}, "1 needle 2" end
    assert.equal("1  2", gw:get("/twice").body)
    assert.equal("[1 thread 2!", gw:get("/kept").body)
  end)

  it("acts on an answer of the gateway itself, and on that of the last try only", function()
    assert.equal("a needle", gw:get("/own").body) -- a reply ends the pipeline
    local calls = 0
    answer = function()
      calls = calls + 1
      return calls == 1 and 503 or 200, {}, "needle " .. calls
    end
    assert.equal("thread 2", gw:get("/again").body)
  end)

  it("changes what comes out of the cache as what goes into it", function()
    answer = function() return 200, { ETag = '"1"' }, "a needle" end
    for _ = 1, 2 do
      assert.equal("a thread", gw:get("/cached").body)
    end
    assert.equal(1, #gw.calls.a - calls_before)
    assert.equal(304, gw:get("/cached", { headers = { ["If-None-Match"] = 'W/"1"' } }).status)
  end)

  it("compresses what it has changed", function()
    answer = function() return 200, { ["Content-Type"] = "text/plain" }, hay end
    local got = gw:get("/packed", { headers = { ["Accept-Encoding"] = "gzip" } })
    assert.equal("gzip", got.headers["content-encoding"])
    local path = os.tmpname()
    local file = assert(io.open(path, "wb"))
    file:write(got.body)
    file:close()
    local pipe = assert(io.popen("gzip -dc < " .. path))
    assert.equal(wanted, pipe:read("*a"))
    pipe:close()
    os.remove(path)
  end)

  it("leaves parts, empty answers and HEAD as they are", function()
    answer = function() return 206, { ["Content-Range"] = "bytes 0-5/10", ETag = '"1"' }, "needle" end
    local got = gw:get("/out", { headers = { Range = "bytes=0-5" } })
    assert.equal("needle", got.body)
    assert.equal('"1"', got.headers.etag)
    answer = function() return 204, {} end
    assert.equal(204, gw:get("/out").status)
    answer = function() return 200, {}, "needle" end
    got = gw:head("/out")
    assert.equal(200, got.status)
    assert.is_nil(got.headers["content-length"])
  end)
end)

describe("rewrite_links", function()
  it("changes links in an answer of any length", function()
    local text = ('<a href="http://backend.test:8000/x">'):rep(20000)
    answer = function() return 200, { ["Content-Type"] = "text/html" }, text end
    assert.equal((text:gsub("backend.test:8000", "api.test")), gw:get("/links", { host = "api.test" }).body)
  end)
end)

describe("ctx.response:replace", function()
  it("refuses a text that is too long to be carried over", function()
    answer = function() return 200, {}, "x" end
    assert.equal(500, gw:get("/long").status)
  end)
end)
