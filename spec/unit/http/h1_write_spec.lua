-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")
local h1 = require("spec.unit.http.http_helper")

local function write_request(bytes, target, keep_alive, change)
  local rc, request = h1.parse_request(bytes)
  assert.equal("ok", rc)
  if change then
    change(request)
  end
  local out = helper.buf()
  assert.equal("ok", helper.rc(h1.lib.moon_h1_write_request(out, request, helper.slice(target),
    keep_alive)))
  return helper.buf_text(out)
end

local function write_response(fields, options)
  local arena = helper.arena()
  local response = ffi.new("struct moon_response")
  h1.lib.moon_response_init(response, arena)
  response.status = options.status or 200
  response.framing = options.framing or 0
  response.content_length = options.length or -1
  local keep = {}
  for i, field in ipairs(fields) do
    keep[i] = { helper.slice(field[1]), helper.slice(field[2]) }
    assert.equal(0, h1.lib.moon_fields_add(response.fields, keep[i][1], keep[i][2]))
  end
  local out = helper.buf()
  local keep_alive = options.keep_alive ~= false
  assert.equal("ok", helper.rc(h1.lib.moon_h1_write_response(out, response,
    h1.METHOD[options.method or "GET"], options.minor or 1, keep_alive)))
  return helper.buf_text(out)
end

describe("http/h1_write", function()
  it("writes Host first and the fields as they are", function()
    assert.equal("GET /y?z HTTP/1.1\r\nHost: a.test\r\nX-a: 1\r\naccept: */*\r\n\r\n",
      write_request("GET /x HTTP/1.1\r\nX-a:1\r\nHost:a.test\r\naccept: */*\r\n\r\n", "/y?z", true))
  end)

  it("takes the authority of an absolute target for Host", function()
    assert.equal("GET /x HTTP/1.1\r\nHost: b.test:81\r\n\r\n",
      write_request("GET http://b.test:81/x HTTP/1.1\r\nHost: a.test\r\n\r\n", "/x", true))
  end)

  it("makes framing and connection fields itself", function()
    assert.equal("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
      write_request("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0005\r\n" ..
        "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n\r\n", "/", false))
    assert.equal("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
      write_request("POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: CHUNKED\r\n" ..
        "Proxy-Connection: x\r\nUpgrade: h2c\r\n\r\n", "/", true))
  end)

  it("passes an upgrade on only where it is wanted", function()
    local bytes = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert.equal("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
      write_request(bytes, "/", true))
    assert.equal("GET / HTTP/1.1\r\nHost: a\r\n\r\n", write_request(bytes, "/", true,
      function(request)
        request.wants_upgrade = false
      end))
  end)

  it("fits the buffer or leaves it alone", function()
    local rc, request = h1.parse_request("GET / HTTP/1.1\r\nHost: a.test\r\nX: y\r\n\r\n")
    assert.equal("ok", rc)
    local want = "GET / HTTP/1.1\r\nHost: a.test\r\nX: y\r\n\r\n"
    for ceiling = 0, #want - 1 do
      local out = helper.buf(ceiling)
      assert.equal("limit", helper.rc(h1.lib.moon_h1_write_request(out, request, helper.slice("/"),
        true)))
      assert.equal("", helper.buf_text(out))
    end
    local out = helper.buf(#want)
    assert.equal(0, h1.lib.moon_h1_write_request(out, request, helper.slice("/"), true))
    assert.equal(want, helper.buf_text(out))
  end)

  it("refuses a target that would begin a line of its own", function()
    local rc, request = h1.parse_request("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
    assert.equal("ok", rc)
    for _, target in ipairs { "", "/a b", "/\r\nX: y", "/\n", "/\0", "/\195\169", "/\127" } do
      local out = helper.buf()
      assert.equal("bad_target",
        helper.rc(h1.lib.moon_h1_write_request(out, request, helper.slice(target), true)))
      assert.equal("", helper.buf_text(out))
    end
  end)

  for _, case in ipairs {
    { "a length", { framing = 1, length = 5 }, "200 OK", "Content-Length: 5" },
    { "chunked", { framing = 2 }, "200 OK", "Transfer-Encoding: chunked" },
    { "no chunked coding to HTTP/1.0", { framing = 2, minor = 0 }, "200 OK", "Connection: close" },
    { "until the end", { framing = 3 }, "200 OK", "Connection: close" },
    { "a length to HTTP/1.0 that keeps alive", { framing = 1, length = 5, minor = 0 }, "200 OK",
      "Content-Length: 5\r\nConnection: keep-alive" },
    { "a connection that ends", { framing = 1, length = 5, keep_alive = false }, "200 OK",
      "Content-Length: 5\r\nConnection: close" },
    { "no body as a length of 0", {}, "200 OK", "Content-Length: 0" },
    { "204 without framing", { status = 204, framing = 1, length = 5 }, "204 No Content" },
    { "100 without framing", { status = 100, keep_alive = false }, "100 Continue" },
    { "304 with its length", { status = 304, length = 5 }, "304 Not Modified",
      "Content-Length: 5" },
    { "304 without a length", { status = 304 }, "304 Not Modified" },
    { "the length for HEAD", { method = "HEAD", length = 5 }, "200 OK", "Content-Length: 5" },
    { "HEAD without a length", { method = "HEAD" }, "200 OK" },
    { "a tunnel", { method = "CONNECT", framing = 1, length = 5 }, "200 OK" },
    { "a status without a name", { status = 299, framing = 1, length = 0 }, "299 ",
      "Content-Length: 0" },
  } do
    it("writes " .. case[1], function()
      assert.equal("HTTP/1.1 " .. case[3] .. "\r\nA: b\r\n" ..
        (case[4] and case[4] .. "\r\n" or "") .. "\r\n", write_response({ { "A", "b" } }, case[2]))
    end)
  end

  it("leaves out what belongs to the other connection", function()
    assert.equal("HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 1\r\n\r\n", write_response({
      { "Connection", "close" }, { "Keep-Alive", "x" }, { "Content-Length", "99" }, { "A", "b" },
      { "Transfer-Encoding", "chunked" }, { "Upgrade", "h2c" }, { "TE", "trailers" },
    }, { framing = 1, length = 1 }))
  end)

  it("writes an upgrade", function()
    assert.equal("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n" ..
      "Upgrade: websocket\r\n\r\n", write_response({ { "Upgrade", "websocket" } },
        { status = 101 }))
  end)

  it("writes chunk lines and the last chunk", function()
    local into = ffi.new("char[20]")
    for _, case in ipairs {
      { 0, "0\r\n" }, { 15, "f\r\n" }, { 16, "10\r\n" }, { 500, "1f4\r\n" },
      { 2 ^ 40, "10000000000\r\n" }, { -1ULL, "ffffffffffffffff\r\n" },
    } do
      local len = tonumber(h1.lib.moon_h1_chunk_line(case[1], into))
      assert.equal(case[2], ffi.string(into, len))
    end
    local out = helper.buf()
    assert.equal(0, h1.lib.moon_h1_write_last_chunk(out, nil))
    assert.equal("0\r\n\r\n", helper.buf_text(out))
    local _, _, arena = h1.parse_request("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    local trailers = ffi.new("struct moon_fields")
    h1.lib.moon_fields_init(trailers, arena)
    assert.equal(0, h1.lib.moon_fields_add(trailers, helper.slice("X-A"), helper.slice("b")))
    out = helper.buf()
    assert.equal(0, h1.lib.moon_h1_write_last_chunk(out, trailers))
    assert.equal("0\r\nX-A: b\r\n\r\n", helper.buf_text(out))
  end)
end)
