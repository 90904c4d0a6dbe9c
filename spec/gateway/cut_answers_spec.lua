-- SPDX-License-Identifier: Apache-2.0
--- Backends that break off: what a client has seen nothing of becomes a 502, what has begun never looks
--- whole, and nothing of it is kept. Over both protocols on both sides, whatever is done to bodies.
local h2 = require("spec.support.h2")
local moongate = require("moongate.test")
local wire = require("spec.support.wire")

local CONFIG = [[
local p = require("moongate.policies")
local function read(ctx) ctx.response:body() end
local function routes(backend)
  return {
    { path = "/plain", backend = backend },
    { path = "/streamed", backend = backend, streaming = true },
    { path = "/cached", backend = backend, policies = { inbound = { p.cache { ttl = 60 } } } },
    { path = "/compressed", backend = backend, compression = { min_bytes = 1 } },
    { path = "/both", backend = backend, compression = { min_bytes = 1 },
      policies = { inbound = { p.cache { ttl = 60 } } } },
    { path = "/read", backend = backend, policies = { outbound = { read } } },
    { path = "/read-cached", backend = backend,
      policies = { inbound = { p.cache { ttl = 60 } }, outbound = { read } } },
    { path = "/replaced", backend = backend,
      policies = { outbound = { p.find_and_replace { from = "h", to = "j" } } } },
  }
end
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0", http2 = true } },
  backends = { h1 = { targets = { "http://127.0.0.1:PORT" }, retries = 0 },
    h2 = { targets = { "http://127.0.0.1:PORT" }, retries = 0, protocol = "h2" } },
  sites = { { hosts = { "h1.test" }, routes = routes("h1") }, { hosts = { "h2.test" }, routes = routes("h2") } },
}
]]

local gw, origin

setup(function()
  gw, origin = wire.serve(moongate, CONFIG)
end)

teardown(function()
  wire.close(gw, origin)
end)

-- ---- how each protocol says it ------------------------------------------------------------------

-- Whether a HEADERS frame has come behind the preface.
local function has_request(bytes)
  local at = #h2.PREFACE + 1
  while at + 8 <= #bytes do
    local a, b, c, kind = bytes:byte(at, at + 3)
    if kind == 1 then
      return true
    end
    at = at + 9 + (a * 256 + b) * 256 + c
  end
  return false
end

--- Backends: what is said first, what later, and how it ends. @return pieces, options of the origin
local backends = {
  h1 = function(answer)
    local head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" .. (answer.length
      and ("Content-Length: %d\r\n\r\n"):format(answer.length) or "Transfer-Encoding: chunked\r\n\r\n")
    local function body(text)
      return answer.length and text or ("%x\r\n%s\r\n"):format(#text, text)
    end
    local last = answer.is_whole and not answer.length and "0\r\n\r\n" or ""
    return answer.later and { head .. body(answer.first), body(answer.later) .. last }
      or { head .. body(answer.first) .. last }, { closes = not answer.is_whole }
  end,
  h2 = function(answer)
    local fields = { { ":status", "200" }, { "content-type", "text/plain" } }
    if answer.length then
      fields[3] = { "content-length", tostring(answer.length) }
    end
    local head = h2.settings() .. h2.headers(1, fields, h2.END_HEADERS)
    local stop = answer.ends == "reset" and h2.frame("RST_STREAM", 0, 1, h2.u32(2)) or ""
    local function body(text, is_last)
      return h2.data(1, text, is_last and answer.is_whole) .. (is_last and not answer.is_whole and stop or "")
    end
    return answer.later and { head .. body(answer.first), body(answer.later, true) }
      or { head .. body(answer.first, true) },
      { is_asked = has_request, closes = answer.ends == "close" }
  end,
}

--- Clients: asks for a path. @return status, body, whether it looks whole, whether it is seen to be cut
local clients = {
  h1 = function(host, path, options)
    options.closed = options.wants == "cut"
    local got = wire.exchange(gw, origin, ("GET /%s HTTP/1.1\r\nHost: %s\r\nAccept-Encoding: gzip\r\n\r\n")
      :format(path, host), options)
    local answer = got.answers[1]
    return answer and answer.status or tonumber(got.bytes:match("^HTTP/1.1 (%d+)")), answer ~= nil, got.is_closed
  end,
  h2 = function(host, path, options)
    options.is_over = function(bytes)
      local answer = h2.answer(h2.read(bytes), 1)
      return answer.is_whole or answer.reset
    end
    local request = { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" .. path }, { ":authority", host },
      { "accept-encoding", "gzip" } }
    local got = wire.exchange(gw, origin, h2.START .. h2.headers(1, request), options)
    local answer = h2.answer(h2.read(got.bytes), 1)
    return answer.status, answer.is_whole == true, answer.reset ~= nil
  end,
}

-- ---- the cases ----------------------------------------------------------------------------------

local KEPT = { cached = true, both = true, ["read-cached"] = true }
local WHOLE = { first = ("hello"):rep(50), is_whole = true }

local function ask(client, backend, path, answer, wants)
  local pieces, options = backends[backend](answer)
  options.answer = pieces
  gw.core:turn(0)
  return clients[client](backend .. ".test", path, { origin = options, wants = wants })
end

-- A connection that the case before has left is not this case's.
local function forget_connections()
  gw:advance(120)
  for _ = 1, 3 do
    gw.core:turn(1)
  end
end

describe("a short answer that comes slowly", function()
  it("goes to the client when it is whole", function()
    local got = wire.exchange(gw, origin, "GET /plain HTTP/1.1\r\nHost: h1.test\r\n\r\n", { patience_s = 0.05,
      origin = { answer = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf" } })
    assert.equal("", got.bytes)
  end)

  it("goes on as it comes where the route streams", function()
    local got = wire.exchange(gw, origin, "GET /streamed HTTP/1.1\r\nHost: h1.test\r\n\r\n", { wants_bytes = "half",
      origin = { answer = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf" } })
    assert.matches("^HTTP/1.1 200 .*\r\n\r\nhalf$", got.bytes)
  end)
end)

local number = 0

for _, client in ipairs { "h1", "h2" } do
  for _, backend in ipairs { "h1", "h2" } do
    for _, path in ipairs { "plain", "cached", "compressed", "both", "read", "read-cached", "replaced" } do
      describe(("an answer of %s to a client of %s (%s) that breaks"):format(backend, client, path), function()
        local function target()
          number = number + 1
          return path .. "?" .. number
        end

        local function is_502(answer)
          forget_connections()
          local url = target()
          local status, looks_whole = ask(client, backend, url, answer, "error")
          assert.equal(502, status)
          assert.is_true(looks_whole) -- an answer of its own, with a reason in the log
          assert.is_truthy(({ upstream_truncated = true, upstream_reset = true })[gw:last_log().error],
            gw:last_log().error)
          if KEPT[path] then
            forget_connections()
            assert.equal(200, (ask(client, backend, url, WHOLE, "whole")))
            assert.equal(1, #origin.requests, "what was cut came out of the store")
          end
        end

        local ends = backend == "h2" and { "close", "reset" } or { "close" }
        for _, how in ipairs(ends) do
          it(("before its length, by %s, is a 502"):format(how), function()
            is_502 { length = 1000, first = ("hello"):rep(50), ends = how }
          end)

          it(("before its length, by %s, in two pieces, is a 502"):format(how), function()
            is_502 { length = 1000, first = ("hello"):rep(50), later = "world", ends = how }
          end)

          it(("without an end, by %s, is a 502"):format(how), function()
            is_502 { first = ("hello"):rep(50), ends = how }
          end)

          it(("behind what has been sent, by %s, is seen to be cut, or a 502"):format(how), function()
            forget_connections()
            local url = target()
            local answer = { first = ("hello"):rep(50), later = ("world"):rep(9), ends = how }
            local is_read = path:find("^read") ~= nil
            local status, looks_whole, is_cut = ask(client, backend, url, answer, is_read and "error" or "cut")
            if is_read then
              assert.equal(502, status)
            else
              assert.equal(200, status)
              assert.is_false(looks_whole)
              assert.is_true(is_cut)
            end
            assert.is_string(gw:last_log().error)
            if KEPT[path] then
              forget_connections()
              assert.equal(200, (ask(client, backend, url, WHOLE, "whole")))
              assert.equal(1, #origin.requests, "what was cut came out of the store")
            end
          end)
        end
      end)
    end
  end
end
