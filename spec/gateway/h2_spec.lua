-- SPDX-License-Identifier: Apache-2.0
--- HTTP/2 with clients, frame by frame (RFC 9113): what h2spec does not ask (its own cases are those of
--- h2_conformance_spec.lua), and what floods do. Sections are named as in the RFC.
local h2 = require("spec.support.h2")
local moongate = require("moongate.test")

local config = [[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0", http2 = true },
    { name = "plain", address = "127.0.0.1:0" } },
  limits = { streams = 16, head_bytes = 4096, header_count = 20, uri_bytes = 512 },
  backends = { origin = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/small", reply = { status = 200, body = "hello" } },
    { path = "/*", backend = "origin" } } } },
}
]]

local function echo(request)
  return 200, { ["X-Method"] = request.method, ["X-Path"] = request.path, ["X-Big"] = ("v"):rep(300) },
    request.body
end

describe("HTTP/2", function()
  local gw

  before_each(function()
    gw = moongate.gateway { files = { ["gateway.lua"] = config }, backends = { origin = echo } }
  end)

  after_each(function()
    gw:close()
  end)

  local function exchange(...)
    local bytes, is_closed = gw:raw(h2.START .. table.concat({ ... }), { wait = 0.04 })
    return h2.read(bytes), is_closed
  end

  local function last_goaway(frames)
    local found = h2.only(frames, "GOAWAY")
    return found[#found] and found[#found].code
  end

  local function fails_connection(code, ...)
    local frames, is_closed = exchange(...)
    assert.equal(code, last_goaway(frames))
    assert.is_true(is_closed, "the connection stays open")
  end

  -- A stream error, or the same as an error of the connection (RFC 9113 §5.4.2 allows it).
  local function fails_stream(code, ...)
    local frames = exchange(...)
    local reset = h2.only(frames, "RST_STREAM")[1]
    assert.equal(code, reset and reset.code or last_goaway(frames))
  end

  local function answers(stream, ...)
    local frames = exchange(...)
    local answer = h2.answer(frames, stream)
    assert.is_nil(last_goaway(frames))
    assert.equal(200, answer.status)
    assert.is_true(answer.is_whole)
    return answer, frames
  end

  local function acknowledges_ping(...)
    local frames = exchange(..., h2.frame("PING", 0, 0, "12345678"))
    local ping = h2.only(frames, "PING")[1]
    assert.is_truthy(ping, "no answer to PING")
    assert.equal("12345678", ping.payload)
    assert.equal(h2.ACK, ping.flags)
  end

  describe("starts a connection (3.4)", function()
    it("with its SETTINGS first, and acknowledges the client's", function()
      local frames = exchange()
      assert.equal("SETTINGS", frames[1].type)
      assert.equal(0, frames[1].flags)
      assert.equal(16, frames[1].settings[3])
      assert.equal(4096, frames[1].settings[6])
      assert.equal(1, frames[1].settings[8])
      local acks = 0
      for _, frame in ipairs(h2.only(frames, "SETTINGS")) do
        acks = acks + (frame.flags == h2.ACK and 1 or 0)
      end
      assert.equal(1, acks)
    end)

    it("not for a preface that breaks off into something else", function()
      local bytes, is_closed = gw:raw("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
      assert.matches("^HTTP/1.1 505", bytes)
      assert.is_true(is_closed)
    end)

    it("that is refused when no SETTINGS follow", function()
      local bytes, is_closed = gw:raw(h2.PREFACE .. h2.get(1, "/small"))
      assert.equal("PROTOCOL_ERROR", last_goaway(h2.read(bytes)))
      assert.is_true(is_closed)
    end)

    it("only on listeners that say http2", function()
      local bytes = gw:raw(h2.START, { listener = "plain" })
      assert.matches("^HTTP/1.1 505", bytes)
    end)

    it("beside HTTP/1.1 on the same port", function()
      assert.equal("hello", gw:get("/small").body)
    end)
  end)

  describe("answers", function()
    it("GET", function()
      local answer = answers(1, h2.get(1, "/small"))
      assert.equal("hello", answer.body)
      assert.equal("5", answer.headers["content-length"])
    end)

    it("GET by a backend, with the names of fields in lower case", function()
      local answer = answers(1, h2.get(1, "/x?y=1"))
      assert.equal("/x", answer.headers["x-path"])
      assert.is_nil(answer.headers["connection"])
      assert.is_nil(answer.headers["transfer-encoding"])
    end)

    it("HEAD without a body", function()
      local answer = answers(1, h2.headers(1, h2.request("/small", nil, "HEAD")))
      assert.equal("", answer.body)
      assert.equal("5", answer.headers["content-length"])
    end)

    it("POST with a body in several frames, and without a length", function()
      local answer = answers(1, h2.headers(1, h2.request("/x", nil, "POST"), h2.END_HEADERS),
        h2.data(1, "abc"), h2.data(1, "def", true))
      assert.equal("abcdef", answer.body)
      assert.equal("chunked", gw.calls.origin[1].headers["transfer-encoding"])
    end)

    it("POST with a length, which goes on as it came", function()
      local answer = answers(1, h2.headers(1,
        h2.request("/x", { { "content-length", "6" } }, "POST"), h2.END_HEADERS),
        h2.data(1, "abcdef", true))
      assert.equal("abcdef", answer.body)
      assert.equal("6", gw.calls.origin[1].headers["content-length"])
    end)

    it("POST with trailers", function()
      local answer = answers(1, h2.headers(1, h2.request("/x", nil, "POST"), h2.END_HEADERS),
        h2.data(1, "abc"), h2.headers(1, { { "x-check", "1" } }))
      assert.equal("abc", answer.body)
    end)

    it("requests side by side", function()
      local parts = {}
      for i = 1, 15 do
        parts[i] = h2.get(2 * i - 1, "/x" .. i)
      end
      local frames = exchange(unpack(parts))
      for i = 1, 15 do
        assert.equal("/x" .. i, h2.answer(frames, 2 * i - 1).headers["x-path"])
      end
    end)

    it("padded frames (6.1, 6.2)", function()
      local block = h2.block(h2.request("/x", nil, "POST"))
      local answer = answers(1,
        h2.frame("HEADERS", h2.END_HEADERS + h2.PADDED, 1, h2.u8(7) .. block .. ("\0"):rep(7)),
        h2.frame("DATA", h2.PADDED + h2.END_STREAM, 1, h2.u8(9) .. "abc" .. ("\0"):rep(9)))
      assert.equal("abc", answer.body)
    end)

    it("a head with priority (6.2)", function()
      answers(1, h2.frame("HEADERS", h2.END_HEADERS + h2.END_STREAM + h2.PRIORITY, 1,
        h2.u32(0) .. h2.u8(255) .. h2.block(h2.request("/small"))))
    end)

    it("a head in several CONTINUATION frames (6.10)", function()
      local block = h2.block(h2.request("/small"))
      answers(1, h2.frame("HEADERS", h2.END_STREAM, 1, block:sub(1, 10)),
        h2.frame("CONTINUATION", 0, 1, block:sub(11, 20)),
        h2.frame("CONTINUATION", h2.END_HEADERS, 1, block:sub(21)))
    end)

    it("Expect: 100-continue with an interim head", function()
      local answer = answers(1, h2.headers(1,
        h2.request("/x", { { "expect", "100-continue" } }, "POST"), h2.END_HEADERS),
        h2.data(1, "abc", true))
      assert.equal("100", answer.interim)
      assert.equal("abc", answer.body)
    end)

    it("cookies that came in pieces as one field (8.2.3)", function()
      answers(1, h2.get(1, "/x", { { "cookie", "a=1" }, { "x-y", "z" }, { "cookie", "b=2" } }))
      assert.equal("a=1; b=2", gw.calls.origin[1].headers.cookie)
      assert.equal("z", gw.calls.origin[1].headers["x-y"])
    end)
  end)

  describe("frames (4)", function()
    it("of unknown types are ignored (4.1, 5.5)", function()
      acknowledges_ping(h2.frame(0x16, 0, 0, "12345678"))
      acknowledges_ping(h2.frame(0x16, 0, 7, "12345678"))
    end)

    it("with undefined flags and the reserved bit are taken (4.1)", function()
      acknowledges_ping(h2.frame("PING", 0xfe, 0, "abcdefgh"):sub(1, 0))
      local frames = exchange(h2.frame("PING", 0x16, 0, "abcdefgh"),
        h2.frame("PING", 0, 0, "hgfedcba", { reserved = true }))
      assert.equal(2, #h2.only(frames, "PING"))
    end)

    it("of the largest size are taken (4.2)", function()
      local answer = answers(1, h2.headers(1, h2.request("/x", nil, "POST"), h2.END_HEADERS),
        h2.data(1, ("d"):rep(16384), true))
      assert.equal(16384, #answer.body)
    end)

    it("that are larger end the connection (4.2)", function()
      fails_stream("FRAME_SIZE_ERROR", h2.headers(1, h2.request("/x", nil, "POST"), h2.END_HEADERS),
        h2.data(1, ("d"):rep(16385), true))
      fails_connection("FRAME_SIZE_ERROR", h2.frame("HEADERS", 5, 1, ("d"):rep(16385)))
    end)

    it("with a broken head end the connection (4.3)", function()
      fails_connection("COMPRESSION_ERROR",
        h2.frame("HEADERS", h2.END_HEADERS + h2.END_STREAM, 1, "\255\255\255\255\255\255\255\255"))
    end)

    it("do not come between the parts of a head (4.3, 6.2, 6.10)", function()
      local block = h2.block(h2.request("/small"))
      local first = h2.frame("HEADERS", h2.END_STREAM, 1, block:sub(1, 10))
      fails_connection("PROTOCOL_ERROR", first, h2.frame("PRIORITY", 0, 1, h2.u32(0) .. "\1"))
      fails_connection("PROTOCOL_ERROR", first, h2.get(3, "/small"))
      fails_connection("PROTOCOL_ERROR", first, h2.frame(0x16, 0, 1, "x"))
      fails_connection("PROTOCOL_ERROR", first, h2.data(1, "x"))
      fails_connection("PROTOCOL_ERROR", first,
        h2.frame("CONTINUATION", h2.END_HEADERS, 3, block:sub(11)))
    end)
  end)

  describe("streams (5)", function()
    it("refuse DATA and HEADERS on one whose request has ended (5.1)", function()
      fails_stream("STREAM_CLOSED", h2.get(1, "/x"), h2.data(1, "x"))
      fails_stream("STREAM_CLOSED", h2.get(1, "/x"), h2.get(1, "/x"))
    end)

    it("refuse DATA and HEADERS on one that was reset (5.1)", function()
      local reset = h2.frame("RST_STREAM", 0, 1, h2.u32(8))
      fails_stream("STREAM_CLOSED", h2.headers(1, h2.request("/x"), h2.END_HEADERS), reset,
        h2.data(1, "x"))
      fails_stream("STREAM_CLOSED", h2.headers(1, h2.request("/x"), h2.END_HEADERS), reset,
        h2.get(1, "/x"))
      fails_connection("PROTOCOL_ERROR", h2.headers(1, h2.request("/x"), h2.END_HEADERS), reset,
        h2.frame("CONTINUATION", 4, 1, h2.block { { "a", "b" } }))
    end)

    it("refuse numbers that go back (5.1.1)", function()
      local frames = exchange(h2.get(5, "/small"), h2.get(3, "/small"))
      assert.is_nil(h2.answer(frames, 3).status)
      assert.is_truthy(last_goaway(frames))
    end)

    it("take frames that may come after the end (5.1)", function()
      local frames = exchange(h2.get(1, "/small"), h2.frame("WINDOW_UPDATE", 0, 1, h2.u32(100)),
        h2.frame("PRIORITY", 0, 1, h2.u32(0) .. "\1"), h2.frame("RST_STREAM", 0, 1, h2.u32(8)),
        h2.frame("PING", 0, 0, "12345678"))
      assert.equal(1, #h2.only(frames, "PING"))
      assert.is_nil(last_goaway(frames))
    end)

    it("beyond the limit are refused (5.1.2)", function()
      local parts = {}
      for i = 1, 40 do
        parts[i] = h2.headers(2 * i - 1, h2.request("/x", nil, "POST"), h2.END_HEADERS)
      end
      local frames = exchange(unpack(parts))
      local reset = h2.only(frames, "RST_STREAM")[1]
      local code = reset and reset.code or last_goaway(frames)
      assert.is_true(code == "REFUSED_STREAM" or code == "PROTOCOL_ERROR")
    end)

    it("do not depend on themselves (5.3.1)", function()
      fails_stream("PROTOCOL_ERROR", h2.frame("HEADERS", 4 + 1 + h2.PRIORITY, 1,
        h2.u32(1) .. "\1" .. h2.block(h2.request("/small"))))
    end)
  end)

  describe("frames of each kind (6)", function()
    local open = h2.headers(1, h2.request("/x", nil, "POST"), h2.END_HEADERS)
    it("refuse windows that a setting takes past 2^31-1 (6.9.2)", function()
      fails_stream("FLOW_CONTROL_ERROR", h2.settings { { 4, 65535 } } .. open
        .. h2.frame("WINDOW_UPDATE", 0, 1, h2.u32(2147418112)) .. h2.settings { { 4, 2147483647 } })
    end)

    it("refuse CONTINUATION on stream 0 (6.10)", function()
      fails_connection("PROTOCOL_ERROR", h2.frame("CONTINUATION", 4, 0, "x"))
    end)

    it("take unknown settings and error codes (6.5.2, 7)", function()
      acknowledges_ping(h2.settings { { 0xff, 1 } })
      acknowledges_ping(open .. h2.frame("RST_STREAM", 0, 1, h2.u32(0xff)))
    end)

    it("leave PING with ACK unanswered (6.7)", function()
      local frames = exchange(h2.frame("PING", h2.ACK, 0, "abcdefgh"),
        h2.frame("PING", 0, 0, "12345678"))
      local pings = h2.only(frames, "PING")
      assert.equal(1, #pings)
      assert.equal("12345678", pings[1].payload)
    end)
  end)

  describe("windows (6.9)", function()
    it("let out no more than they hold", function()
      local frames = exchange(h2.settings { { 4, 1 } }, h2.get(1, "/small"))
      local answer = h2.answer(frames, 1)
      assert.equal("h", answer.body)
      assert.is_falsy(answer.is_whole)
    end)

    it("go on when they are opened", function()
      local answer = answers(1, h2.settings { { 4, 1 } }, h2.get(1, "/small"),
        h2.settings { { 4, 3 } }, h2.frame("WINDOW_UPDATE", 0, 1, h2.u32(2)))
      assert.equal("hello", answer.body)
    end)

    it("may become negative", function()
      local frames = exchange(h2.settings { { 4, 3 } }, h2.get(1, "/small"), h2.settings { { 4, 2 } },
        h2.frame("WINDOW_UPDATE", 0, 1, h2.u32(2)))
      assert.equal("hell", h2.answer(frames, 1).body)
    end)

    it("of a request open as its body is read", function()
      local parts, body = { h2.headers(1, h2.request("/x", nil, "POST"), h2.END_HEADERS) }, ("b"):rep(8192)
      for i = 1, 7 do
        parts[i + 1] = h2.data(1, body)
      end
      local frames = exchange(unpack(parts))
      local opened = h2.only(frames, "WINDOW_UPDATE", 1)[1]
      assert.is_true(opened and opened.increment >= 32768)
    end)

    it("of a request hold what may be sent ahead, and no more", function()
      local parts = { h2.headers(1, h2.request("/x", nil, "POST"), h2.END_HEADERS) }
      for i = 1, 80 do
        parts[i + 1] = h2.data(1, ("b"):rep(16384))
      end
      gw:answer("origin", function() return 200, {}, "never" end)
      local frames = exchange(unpack(parts)) -- 1.3 MB, of which windows allow 1 MiB at most
      assert.is_truthy(last_goaway(frames) or h2.only(frames, "RST_STREAM")[1]
        or #h2.only(frames, "WINDOW_UPDATE") > 0)
    end)
  end)

  describe("refuses malformed requests (8.1.1)", function()
    it("and logs each with its reason", function()
      local before = #gw:access_log()
      for _, field in ipairs { { "connection", "close" }, { "X-Upper", "a" }, { "te", "gzip" }, { "x", "a\0b" } } do
        local frames = exchange(h2.get(1, "/", { field }))
        assert.equal("PROTOCOL_ERROR", h2.answer(frames, 1).reset)
        assert.equal("h2_protocol", gw:last_log().error)
      end
      assert.equal(before + 4, #gw:access_log())
    end)

    local function with(...)
      return h2.get(1, "/small", { ... })
    end
    local function of(...)
      return h2.headers(1, { ... })
    end
    local m, s, p, a = { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/small" },
      { ":authority", "a.test" }
    local post = { h2.request("/x", nil, "POST") }
    local cases = {
      { "two Hosts", with({ "host", "a.test" }, { "host", "a.test" }) },
      { "no host", of(m, s, p) },
      { "an upper-case name", with({ "X-Test", "ok" }) },
      { "an unknown pseudo-field", with({ ":test", "ok" }) },
      { "a response's pseudo-field", of(m, s, p, a, { ":status", "200" }) },
      { "a pseudo-field behind a plain one", of(s, p, a, { "x-test", "ok" }, m) },
      { "Connection", with({ "connection", "keep-alive" }) },
      { "Keep-Alive", with({ "keep-alive", "timeout=5" }) },
      { "Proxy-Connection", with({ "proxy-connection", "keep-alive" }) },
      { "Transfer-Encoding", with({ "transfer-encoding", "chunked" }) },
      { "Upgrade", with({ "upgrade", "h2c" }) },
      { "TE other than trailers", with({ "te", "trailers, deflate" }) },
      { "an empty :path", of(m, s, { ":path", "" }, a) },
      { "a :path without a slash", of(m, s, { ":path", "small" }, a) },
      { "no :method", of(s, p, a) },
      { "no :scheme", of(m, p, a) },
      { "no :path", of(m, s, a) },
      { ":method twice", of(m, m, s, p, a) },
      { ":scheme twice", of(m, s, s, p, a) },
      { ":path twice", of(m, s, p, p, a) },
      { ":authority twice", of(m, s, p, a, a) },
      { "CONNECT with :path", of({ ":method", "CONNECT" }, p, a) },
      { ":protocol without CONNECT", of(m, s, p, a, { ":protocol", "websocket" }) },
      { "a value with a line break", with({ "x-a", "b\r\nx-c: d" }) },
      { "a value with NUL", with({ "x-a", "b\0" }) },
      { "a value with space at its end", with({ "x-a", "b " }) },
      { "a name with a space", with({ "x a", "b" }) },
      { "a name with a colon", with({ "x:a", "b" }) },
      { "an empty name", with({ "", "b" }) },
      { "a method with a space", of({ ":method", "GET /x" }, s, p, a) },
      { "a path with a space", of(m, s, { ":path", "/a b" }, a) },
      { "Content-Length twice", with({ "content-length", "0" }, { "content-length", "0" }) },
      { "Content-Length that is no number", with({ "content-length", "0x" }) },
      { "Content-Length and no body", with({ "content-length", "1" }) },
      { "a body that is longer than Content-Length",
        h2.headers(1, h2.request("/x", { { "content-length", "1" } }, "POST"), h2.END_HEADERS)
          .. h2.data(1, "test", true) },
      { "a body that is shorter than Content-Length",
        h2.headers(1, h2.request("/x", { { "content-length", "9" } }, "POST"), h2.END_HEADERS)
          .. h2.data(1, "te") .. h2.data(1, "st", true) },
      { "a second head that does not end the stream",
        h2.headers(1, post[1], h2.END_HEADERS) .. h2.headers(1, { { "a", "b" } }, h2.END_HEADERS) },
      { "pseudo-fields in trailers", h2.headers(1, post[1], h2.END_HEADERS)
        .. h2.data(1, "x") .. h2.headers(1, { { ":method", "GET" } }) },
    }
    for _, case in ipairs(cases) do
      it("with " .. case[1], function()
        fails_stream("PROTOCOL_ERROR", case[2])
        assert.equal(0, #gw.calls.origin > 0 and #gw.calls.origin - 1 or 0)
      end)
    end

    local answered = {
      { "400 to a Host that says something else", 400, with({ "host", "b.test" }) },
      { "421 to https on a plain connection", 421, of(m, { ":scheme", "https" }, p, a) },
      { "400 to another scheme", 400, of(m, { ":scheme", "ftp" }, p, a) },
      { "400 to an ambiguous path", 400, of(m, s, { ":path", "/a/%2e%2e/..%2fb" }, a) },
      { "400 to a fragment", 400, of(m, s, { ":path", "/a#b" }, a) },
      { "414 to a path that is too long", 414, of(m, s, { ":path", "/" .. ("a"):rep(600) }, a) },
      { "431 to a head that is too long", 431, with({ "x-a", ("a"):rep(4096) }) },
      { "431 to too many fields", 431, h2.get(1, "/small", (function()
        local all = {}
        for i = 1, 30 do
          all[i] = { "x-" .. i, "y" }
        end
        return all
      end)()) },
      { "417 to another expectation", 417, with({ "expect", "wonders" }) },
      { "501 to an extended CONNECT for another protocol", 501,
        of({ ":method", "CONNECT" }, s, p, a, { ":protocol", "connect-udp" }) },
    }
    for _, case in ipairs(answered) do
      it("with " .. case[1], function()
        assert.equal(case[2], h2.answer(exchange(case[3]), 1).status)
      end)
    end

    it("and takes a Host that agrees, and TE: trailers", function()
      answers(1, with({ "host", "A.test" }, { "te", "trailers" }))
    end)
  end)

  describe("cuts off", function()
    local floods = {
      { "PING", h2.frame("PING", 0, 0, "12345678") },
      { "SETTINGS", h2.settings { { 4, 65535 } } },
      { "empty DATA", h2.data(1, ""), h2.headers(1, h2.request("/x", nil, "POST"), h2.END_HEADERS) },
      { "PRIORITY", h2.frame("PRIORITY", 0, 3, h2.u32(0) .. "\1") },
      { "WINDOW_UPDATE", h2.frame("WINDOW_UPDATE", 0, 0, h2.u32(1)) },
      { "unknown frames", h2.frame(0x20, 0, 0, "") },
    }
    for _, flood in ipairs(floods) do
      it("floods of " .. flood[1], function()
        fails_connection("ENHANCE_YOUR_CALM", (flood[3] or "") .. flood[2]:rep(3000))
      end)
    end

    it("floods of CONTINUATION", function()
      local frames, is_closed = exchange(h2.frame("HEADERS", h2.END_STREAM, 1, ""),
        h2.frame("CONTINUATION", 0, 1, ""):rep(3000))
      assert.is_true(is_closed)
      assert.is_nil(h2.answer(frames, 1).status)
    end)

    it("rapid resets, before backends see them", function()
      local parts = {}
      for i = 1, 1000 do
        parts[i] = h2.get(2 * i - 1, "/x") .. h2.frame("RST_STREAM", 0, 2 * i - 1, h2.u32(8))
      end
      fails_connection("ENHANCE_YOUR_CALM", unpack(parts))
      assert.is_true(#gw.calls.origin < 20)
    end)

    it("heads that grow by reference", function()
      -- One entry of 4 KB in the table, named by one byte again and again.
      local big = "\64" .. "\1a" .. "\127" .. "\129\30" .. ("v"):rep(4000)
      local frames = exchange(h2.frame("HEADERS", 5, 1, h2.block(h2.request("/small")) .. big
        .. ("\190"):rep(10000)))
      assert.not_equal(200, h2.answer(frames, 1).status)
    end)
  end)

  it("answers early, and tells the client to stop sending (8.1)", function()
    local frames = exchange(h2.headers(1, h2.request("/small", nil, "POST"), h2.END_HEADERS),
      h2.data(1, "abc"))
    local answer = h2.answer(frames, 1)
    assert.equal(200, answer.status)
    assert.equal("NO_ERROR", answer.reset)
  end)

  it("shows a cut answer as cut", function()
    gw:answer("origin", function() return 200, { ["Content-Length"] = "10" }, "short" end)
    local frames = exchange(h2.get(1, "/x"))
    local answer = h2.answer(frames, 1)
    assert.is_falsy(answer.is_whole and answer.status == 200 and answer.body == "short")
  end)

  it("writes the version and the failure to the access log", function()
    exchange(h2.get(1, "/small"))
    assert.equal(200, gw:last_log().status)
    exchange(h2.get(1, "/small", { { "connection", "close" } }))
    assert.equal(2, #gw:access_log())
  end)
end)
