-- SPDX-License-Identifier: Apache-2.0
--- A policy that changes the method: whether an answer has a body is the client's method's business, and
--- what the backend says to another one never reaches the next request.
local h2 = require("spec.support.h2")
local moongate = require("moongate.test")
local wire = require("spec.support.wire")

local config = [[
local p = require("moongate.policies")
local function set(method) return { inbound = { p.set_method { value = method } } } end
local function cached(method) return { inbound = { p.set_method { value = method }, p.cache { ttl = 60 } } } end
return {
  listeners = { { name = "http", address = "127.0.0.1:0", http2 = true } },
  backends = { origin = { targets = { "http://127.0.0.1:PORT" } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/head", backend = "origin", policies = set("HEAD") },
    { path = "/get", backend = "origin", policies = set("GET") },
    { path = "/cached", backend = "origin", policies = cached("GET") },
    { path = "/late", backend = "origin", policies = { inbound = { p.cache { ttl = 60 }, p.set_method {
      value = "HEAD", when = "ctx.request.headers['X-Head']" } } } },
    { path = "/connect", backend = "origin", policies = { inbound = { function(ctx)
      ctx.request.method = "CONNECT"
    end } } },
    { path = "/unchanged", reply = { status = 304 } },
    { path = "/*", backend = "origin" },
  } } },
}
]]

local NEXT = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n"

local function ask(line, fields)
  return line .. " HTTP/1.1\r\nHost: a\r\n" .. (fields or "") .. "\r\n"
end

describe("a method that a policy has changed", function()
  local gw, origin

  setup(function()
    gw, origin = wire.serve(moongate, config)
  end)

  teardown(function()
    wire.close(gw, origin)
  end)

  --- The origin answers HEAD with a head alone, and all else with a body that looks like an answer.
  local POISON = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
  local function answer(request)
    local head = ("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"):format(#POISON)
    return request.line:find("^HEAD") and head or head .. POISON
  end

  local function exchange(first, method)
    return wire.exchange(gw, origin, first .. NEXT, { answers = 2, methods = { method },
      origin = { answer = answer } })
  end

  it("from HEAD to GET: the client gets the head", function()
    local got = exchange(ask("HEAD /get"), "HEAD")
    assert.equal(2, #got.answers, got.bytes)
    assert.equal("GET /get HTTP/1.1", got.requests[1].line)
    assert.equal("", got.answers[1].body)
    assert.equal(tostring(#POISON), wire.field(got.answers[1].head, "Content-Length"))
    assert.equal(POISON, got.answers[2].body)
    assert.equal("", got.rest)
  end)

  it("from GET to HEAD: the client gets an empty body", function()
    local got = exchange(ask("GET /head"))
    assert.equal(2, #got.answers, got.bytes)
    assert.equal("HEAD /head HTTP/1.1", got.requests[1].line)
    assert.equal("0", wire.field(got.answers[1].head, "Content-Length"))
    assert.equal(POISON, got.answers[2].body)
  end)

  it("does the same over HTTP/2", function()
    local function over_h2(method, path)
      local got = wire.exchange(gw, origin, h2.START .. h2.headers(1, h2.request(path, nil, method)),
        { origin = { answer = answer }, is_over = function(bytes)
          return h2.answer(h2.read(bytes), 1).is_whole
        end })
      return h2.answer(h2.read(got.bytes), 1)
    end
    local head = over_h2("HEAD", "/get")
    assert.equal("", head.body)
    assert.equal(tostring(#POISON), head.headers["content-length"])
    local get = over_h2("GET", "/head")
    assert.equal("", get.body)
    assert.equal("0", get.headers["content-length"])
  end)

  it("leaves nothing in the cache that is not whole", function()
    exchange(ask("HEAD /cached"), "HEAD")
    local got = exchange(ask("GET /cached"))
    assert.equal(POISON, got.answers[1].body)
    exchange(ask("GET /late", "X-Head: 1\r\n"))
    got = exchange(ask("GET /late"))
    assert.equal(POISON, got.answers[1].body)
  end)

  it("is never CONNECT", function()
    local got = exchange(ask("GET /connect"))
    assert.equal(500, got.answers[1].status)
    assert.equal(1, #got.requests)
  end)

  it("and a 304 of the gateway's own says no length (RFC 9110 §8.6)", function()
    local got = exchange(ask("GET /unchanged"))
    assert.equal(304, got.answers[1].status)
    assert.is_nil(wire.field(got.answers[1].head, "Content-Length"))
  end)
end)
