-- SPDX-License-Identifier: Apache-2.0
--- HTTP/1.1 with backends, byte by byte (RFC 9112, RFC 9110): what an origin says, and what a client
--- gets of it. A second request behind each shows that nothing of the first answer was left over.
local moongate = require("moongate.test")
local wire = require("spec.support.wire")

local config = [[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { origin = { targets = { "http://127.0.0.1:PORT" }, retries = 0 } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
}
]]

local GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
local NEXT = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
local FINE = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"

local gw, origin

setup(function()
  gw, origin = wire.serve(moongate, config)
end)

teardown(function()
  wire.close(gw, origin)
end)

--- `first` to the first request, a plain answer to those behind it.
local function says(first, more)
  local options = more or {}
  options.answer = function(_, n)
    return n == 1 and first or FINE
  end
  return options
end

local function ok(fields, body, status)
  return "HTTP/1.1 " .. (status or "200 OK") .. "\r\n" .. (fields and fields .. "\r\n" or "") .. "\r\n"
    .. (body or "")
end

local CHUNKED = "Transfer-Encoding: chunked"

local refused = {
  { "without a status line", "hello\r\n\r\n" },
  { "with an empty line before it", "\r\n" .. ok("Content-Length: 0") },
  { "of HTTP/0.9", "<html>hello</html>" },
  { "of HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n" },
  { "of HTTP/1.10", "HTTP/1.10 200 OK\r\nContent-Length: 0\r\n\r\n" },
  { "of http/1.1", "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" },
  { "of ICY", "ICY 200 OK\r\nContent-Length: 0\r\n\r\n" },
  { "with a tab in the status line", "HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n" },
  { "with two spaces before the status", "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n" },
  { "with status 20", ok("Content-Length: 0", "", "20 OK") },
  { "with status 2000", ok("Content-Length: 0", "", "2000 OK") },
  { "with status 099", ok("Content-Length: 0", "", "099 OK") },
  { "with status 600", ok("Content-Length: 0", "", "600 OK") },
  { "with status -200", ok("Content-Length: 0", "", "-200 OK") },
  { "with status abc", ok("Content-Length: 0", "", "abc OK") },
  { "with a NUL in the reason", ok("Content-Length: 0", "", "200 O\0K") },
  { "with CR in the reason", ok("Content-Length: 0", "", "200 O\rK") },
  { "with LF alone", "HTTP/1.1 200 OK\nContent-Length: 0\n\n" },
  { "with LF alone behind a field", "HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n" },
  { "with a NUL in a field", ok("Content-Length: 0\r\nX: a\0b") },
  { "with CR in a field", ok("Content-Length: 0\r\nX: a\rb") },
  { "with a folded field", ok("Content-Length: 0\r\nX: a\r\n b") },
  { "with a folded first field", ok(" X: a\r\nContent-Length: 0") },
  { "with a field without a colon", ok("Content-Length: 0\r\nX") },
  { "with a field without a name", ok("Content-Length: 0\r\n: a") },
  { "with a space in a field's name", ok("Content-Length: 0\r\nX y: a") },
  { "with a head past its limit", ok("Content-Length: 0\r\nX: " .. ("a"):rep(70000)) },
  { "with too many fields", ok(("X: a\r\n"):rep(300) .. "Content-Length: 0") },
  { "with different lengths", ok("Content-Length: 2\r\nContent-Length: 3", "abc") },
  { "with the same length twice", ok("Content-Length: 2\r\nContent-Length: 2", "ab") },
  { "with a list of lengths", ok("Content-Length: 2, 2", "ab") },
  { "with a negative length", ok("Content-Length: -2", "ab") },
  { "with a signed length", ok("Content-Length: +2", "ab") },
  { "with a hexadecimal length", ok("Content-Length: 0x2", "ab") },
  { "with an empty length", ok("Content-Length:", "ab") },
  { "with a length past 2^63", ok("Content-Length: 9223372036854775808", "ab") },
  { "with a length and chunks", ok("Content-Length: 5\r\n" .. CHUNKED, "0\r\n\r\n") },
  { "with chunks and a length", ok(CHUNKED .. "\r\nContent-Length: 5", "0\r\n\r\n") },
  { "chunked twice", ok("Transfer-Encoding: chunked, chunked", "0\r\n\r\n") },
  { "chunked on two lines", ok(CHUNKED .. "\r\n" .. CHUNKED, "0\r\n\r\n") },
  { "with another coding before chunked", ok("Transfer-Encoding: gzip, chunked", "0\r\n\r\n") },
  { "with another coding", ok("Transfer-Encoding: gzip", "x"), closes = true },
  { "with identity", ok("Transfer-Encoding: identity", "x"), closes = true },
  { "with a coding that hides behind a vertical tab", ok("Transfer-Encoding: \11chunked", "0\r\n\r\n") },
  { "chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
  { "with a first chunk that is none", ok(CHUNKED, "zz\r\n") },
  { "with a negative chunk", ok(CHUNKED, "-1\r\n") },
  { "with a chunk past 2^63", ok(CHUNKED, "8000000000000000\r\n") },
  { "with a chunk size that ends in LF alone", ok(CHUNKED, "5\nhello\r\n0\r\n\r\n") },
  { "with a chunk extension of control bytes", ok(CHUNKED, "5;a\1\r\nhello\r\n0\r\n\r\n") },
  { "that switches protocols unasked", ok("Upgrade: websocket\r\nConnection: upgrade", "", "101 Switching Protocols") },
  { "that is interim without an end", ok(nil, "", "102 Processing"):rep(40) },
  { "that is interim and then none", ok(nil, "", "102 Processing"), closes = true },
  { "that closes at once", "", closes = true },
  { "that closes within the status line", "HTTP/1.1 20", closes = true },
  { "that closes within the head", "HTTP/1.1 200 OK\r\nContent-Le", closes = true },
  { "with LF before it", "\n" .. ok("Content-Length: 0") },
  { "with a space before it", " " .. ok("Content-Length: 0") },
  { "of HTTP/0.9 by name", "HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n" },
  { "of HTTP/3.0", "HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n" },
  { "of HTTP/1.x", "HTTP/1.x 200 OK\r\nContent-Length: 0\r\n\r\n" },
  { "of HTTP/1", "HTTP/1 200 OK\r\nContent-Length: 0\r\n\r\n" },
  { "without a space before the status", "HTTP/1.1200 OK\r\nContent-Length: 0\r\n\r\n" },
  { "without a space behind the status", "HTTP/1.1 200OK\r\nContent-Length: 0\r\n\r\n" },
  { "with a tab behind the status", "HTTP/1.1 200\tOK\r\nContent-Length: 0\r\n\r\n" },
  { "with status +200", ok("Content-Length: 0", "", "+200 OK") },
  { "with status 0200", ok("Content-Length: 0", "", "0200 OK") },
  { "with status 2OO", ok("Content-Length: 0", "", "2OO OK") },
  { "with status 200.1", ok("Content-Length: 0", "", "200.1 OK") },
  { "with CR CR LF behind the reason", "HTTP/1.1 200 OK\r\r\nContent-Length: 0\r\n\r\n" },
  { "with DEL in a field", ok("Content-Length: 0\r\nX: a\127b") },
  { "with a vertical tab in a field", ok("Content-Length: 0\r\nX: a\11b") },
  { "with parentheses in a field's name", ok("Content-Length: 0\r\nX(y): a") },
  { "with another field behind LF alone", ok("Content-Length: 0\r\nX: a\nSet-Cookie: b=c") },
  { "with another field behind CR alone", ok("Content-Length: 0\r\nX: a\rSet-Cookie: b=c") },
  { "with CR before the empty line", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\r\n" },
  { "with a field's name past ASCII", ok("Content-Length: 0\r\nX\195\164: a") },
  { "with the same length twice, written otherwise", ok("Content-Length: 2\r\nContent-Length: 02", "ab") },
  { "with a length and an empty one", ok("Content-Length: 2\r\nContent-Length:", "ab") },
  { "with a length of two numbers", ok("Content-Length: 2 2", "ab") },
  { "with a length in quotes", ok('Content-Length: "2"', "ab") },
  { "with a length of 2^64 + 2", ok("Content-Length: 18446744073709551618", "ab") },
  { "with a length that is folded", ok("Content-Length:\r\n 2", "ab") },
  { "with an empty coding", ok("Transfer-Encoding:", "0\r\n\r\n") },
  { "with chunked before identity", ok("Transfer-Encoding: chunked, identity", "0\r\n\r\n") },
  { "with chunked and an empty coding", ok(CHUNKED .. "\r\nTransfer-Encoding:", "0\r\n\r\n") },
  { "with chunked and a parameter", ok("Transfer-Encoding: chunked;a=b", "0\r\n\r\n") },
  { "with chunked behind a no-break space", ok("Transfer-Encoding: \160chunked", "0\r\n\r\n") },
  { "with a length and chunks, of HTTP/1.0",
    "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
  { "with a length and chunks, and status 304",
    ok("Content-Length: 5\r\n" .. CHUNKED, "", "304 Not Modified") },
  { "with a first chunk of seventeen digits", ok(CHUNKED, "00000000000000005\r\nhello\r\n0\r\n\r\n") },
  { "with a first chunk without a size", ok(CHUNKED, "\r\nhello\r\n0\r\n\r\n") },
  { "with a space before the first chunk", ok(CHUNKED, " 5\r\nhello\r\n0\r\n\r\n") },
  { "with a chunk extension past its limit", ok(CHUNKED, "5;" .. ("a"):rep(2000) .. "\r\nhello\r\n0\r\n\r\n") },
  { "that is interim with a body", ok("Content-Length: 5", "hello", "103 Early Hints") .. ok("Content-Length: 0") },
  { "that is interim and malformed", "HTTP/1.1 103 Early Hints\r\nX : a\nb\r\n\r\n" .. ok("Content-Length: 0") },
}

local pieces = {} -- each is read by itself
for i = 1, 17 do
  pieces[i] = ok(nil, "", "102 Processing")
end
pieces[18] = FINE
refused[#refused + 1] = { "behind more interim ones than 16, one by one", pieces }

describe("HTTP/1.1 turns into 502 an answer", function()
  for _, case in ipairs(refused) do
    it(case[1], function()
      local got = wire.exchange(gw, origin, { GET, NEXT },
        { answers = 2, origin = says(case[2], { closes = case.closes }) })
      assert.equal(2, #got.answers, "answers: " .. got.bytes)
      assert.equal(502, got.answers[1].status)
      assert.is_false(got.is_closed, "the client's connection is closed")
      if not case.closes then
        assert.equal(200, got.answers[2].status)
        assert.equal("fine", got.answers[2].body)
        assert.equal(2, #origin.conns, "a connection with a broken answer was used again")
      end
      local log = gw:access_log()
      assert.is_string(log[#log - 1].error)
    end)
  end
end)

--- What the client may never take for a whole answer: the beginning, which comes with the head, and
--- what breaks it.
local LONG = ("x"):rep(20000)
local cut = {
  { "is shorter than its length", "Content-Length: 10", "hello", "", closes = true, is_awaited = true },
  { "is shorter than its length, and long", "Content-Length: 30000", LONG, "", closes = true },
  { "is without the last chunk", CHUNKED, "5\r\nhello\r\n", "", closes = true },
  { "is without any chunk", CHUNKED, "", "", closes = true },
  { "ends within a chunk", CHUNKED, "a\r\nhello", "", closes = true },
  { "ends within a chunk's size", CHUNKED, "5\r\nhello\r\n", "5", closes = true },
  { "ends before the empty line", CHUNKED, "5\r\nhello\r\n", "0\r\n", closes = true },
  { "ends within a trailer", CHUNKED, "5\r\nhello\r\n", "0\r\nX: a", closes = true },
  { "has a second chunk that is none", CHUNKED, "5\r\nhello\r\n", "zz\r\n" },
  { "has a chunk longer than its size", CHUNKED, "4\r\nhell", "o\r\n0\r\n\r\n" },
  { "has a chunk that ends in LF alone", CHUNKED, "5\r\nhello", "\n0\r\n\r\n" },
  { "has a bad trailer", CHUNKED, "5\r\nhello\r\n", "0\r\nX : a\r\n\r\n" },
  { "has trailers past their limit", CHUNKED, "5\r\nhello\r\n", "0\r\nX: " .. ("a"):rep(9000) .. "\r\n\r\n" },
}

local function check_502(got)
  assert.equal(2, #got.answers, "answers: " .. got.bytes:sub(1, 2000))
  assert.equal(502, got.answers[1].status)
  assert.equal("fine", got.answers[2].body)
  local log = gw:access_log()
  assert.is_truthy(({ upstream_truncated = true, upstream_protocol = true })[log[#log - 1].error])
end

describe("HTTP/1.1 turns into 502 what breaks before the client has seen of it: an answer that", function()
  for _, case in ipairs(cut) do
    if #case[3] <= 16384 then
      it(case[1], function()
        check_502(wire.exchange(gw, origin, { GET, NEXT },
          { answers = 2, origin = says(ok(case[2], case[3] .. case[4]), { closes = case.closes }) }))
      end)
    end
    if case.is_awaited then
      it(case[1] .. ", and comes in pieces", function()
        check_502(wire.exchange(gw, origin, { GET, NEXT },
          { answers = 2, origin = says({ ok(case[2]), case[3]:sub(1, 2), case[3]:sub(3) }, { closes = true }) }))
      end)
    end
  end

  it("is short and then silent: 504 when that has lasted", function()
    local got = wire.exchange(gw, origin, GET, { answers = 1, patience_s = 0.05,
      origin = says(ok("Content-Length: 10", "hello")) })
    assert.equal("", got.bytes) -- its head alone is of no use
  end)
end)

describe("HTTP/1.1 cuts off the client where what has begun breaks: an answer that", function()
  for _, case in ipairs(cut) do
    if not case.is_awaited then
      it(case[1], function()
        local got = wire.exchange(gw, origin, { GET, NEXT }, { answers = 1, closed = true,
          origin = says({ ok(case[2], case[3]), case[4] }, { closes = case.closes }) })
        assert.is_true(got.is_closed)
        assert.equal(0, #got.answers, "looks whole: " .. got.bytes:sub(1, 2000))
        assert.matches("^HTTP/1.1 200 ", got.bytes)
        assert.not_matches("fine", got.bytes)
        assert.is_string(gw:last_log().error)
      end)
    end
  end

  it("is whole but for its end, in HTTP/1.0, where only a reset can tell", function()
    local got = wire.exchange(gw, origin, "GET / HTTP/1.0\r\nHost: a\r\n\r\n", { answers = 9, closed = true,
      origin = says({ ok(CHUNKED, "5\r\nhello\r\n"), "" }, { closes = true }) })
    assert.is_true(got.was_reset, "the end looks like the end of the body")
  end)
end)

--- { what, answer, { sees = patterns in the client's head, lacks, body, request, closes } }
local forwarded = {
  { "with a length", ok("Content-Length: 5", "hello"),
    { sees = { "^HTTP/1%.1 200 OK\r\n", "\r\nContent%-Length: 5\r\n" }, body = "hello" } },
  { "without a space behind the status", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
    { sees = { "^HTTP/1%.1 200 " } } },
  { "with an empty reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", { sees = { "^HTTP/1%.1 200 " } } },
  { "with a reason of its own", ok("Content-Length: 0", "", "200 Fine by me"),
    { sees = { "^HTTP/1%.1 200 Fine by me\r\n" } } },
  { "with a status that nobody knows", ok("Content-Length: 0", "", "299 X"), { status = 299 } },
  { "with status 599", ok("Content-Length: 0", "", "599 X"), { status = 599 } },
  { "of HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    { sees = { "^HTTP/1%.1 200 " }, body = "hello" } },
  { "of HTTP/1.2", "HTTP/1.2 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    { sees = { "^HTTP/1%.1 200 " }, body = "hello" } },
  { "with white space before a colon, which is taken out", ok("X : a\r\nContent-Length\t: 5", "hello"),
    { sees = { "\r\nX: a\r\n", "\r\nContent%-Length: 5\r\n" }, body = "hello" } },
  { "with the same field on several lines", ok("Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0"),
    { sees = { "Set%-Cookie: a\r\nSet%-Cookie: b\r\n" } } },
  { "with bytes past ASCII", ok("X: \195\164\255\r\nContent-Length: 0"), { sees = { "\r\nX: \195\164\255\r\n" } } },
  { "in chunks", ok(CHUNKED, "5\r\nhello\r\n0\r\n\r\n"),
    { sees = { "\r\nTransfer%-Encoding: chunked\r\n" }, joined = "hello" } },
  { "in chunks with extensions, which are dropped", ok(CHUNKED, '5;a="b"\r\nhello\r\n0;c\r\n\r\n'),
    { joined = "hello", lacks_body = "[ac]=?" } },
  { "in chunks with a trailer that is announced",
    ok(CHUNKED .. "\r\nTrailer: X-Sum", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
    { sees = { "\r\nTrailer: X%-Sum\r\n" }, ends = "0\r\nX%-Sum: 1\r\n\r\n$" } },
  { "in chunks with a trailer", ok(CHUNKED, "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
    { ends = "0\r\nX%-Sum: 1\r\n\r\n$" } },
  { "in chunks with trailers that frame or set cookies",
    ok(CHUNKED, "5\r\nhello\r\n0\r\nContent-Length: 5\r\nSet-Cookie: a\r\n\r\n"), { ends = "0\r\n\r\n$" } },
  { "in chunks, to HTTP/1.0", ok(CHUNKED, "5\r\nhello\r\n0\r\n\r\n"),
    { request = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", lacks = { "Transfer%-Encoding", "keep%-alive" },
      body = "hello", closes = true } },
  { "until it closes", ok(nil, "hello"),
    { sees = { "\r\nTransfer%-Encoding: chunked\r\n" }, joined = "hello", origin_closes = true } },
  { "until it closes, to HTTP/1.0", ok(nil, "hello"),
    { request = "GET / HTTP/1.0\r\n\r\n", body = "hello", origin_closes = true, closes = true } },
  { "that is empty and closes", ok(nil, ""), { joined = "", origin_closes = true } },
  { "that closes behind its length", ok("Content-Length: 5\r\nConnection: close", "hello"),
    { body = "hello", origin_closes = true, lacks = { "[Cc]lose" } } },
  { "of HEAD, with the length that GET would have", ok("Content-Length: 5"),
    { request = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", method = "HEAD", sees = { "\r\nContent%-Length: 5\r\n" },
      body = "" } },
  { "of HEAD without a length", ok("X: a"),
    { request = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", method = "HEAD", body = "" } },
  { "of HEAD in chunks", ok(CHUNKED), { request = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", method = "HEAD", body = "" } },
  { "of 204", ok("X: a", "", "204 No Content"),
    { status = 204, body = "", lacks = { "Content%-Length", "Transfer" } } },
  { "of 204 with a length of 0", ok("Content-Length: 0", "", "204 No Content"),
    { status = 204, body = "", lacks = { "Content%-Length" } } },
  { "of 204 in chunks", ok(CHUNKED, "", "204 No Content"), { status = 204, body = "", lacks = { "Transfer" } } },
  { "of 304 with a length", ok("Content-Length: 5\r\nETag: \"a\"", "", "304 Not Modified"),
    { status = 304, body = "", sees = { "\r\nContent%-Length: 5\r\n" } } },
  { "of 304 without a length", ok('ETag: "a"', "", "304 Not Modified"),
    { status = 304, body = "", lacks = { "Content%-Length" } } },
  { "of 205 without content", ok("Content-Length: 0", "", "205 Reset Content"), { status = 205, body = "" } },
  { "with fields of the connection", ok("Connection: X-Hop\r\nX-Hop: a\r\nKeep-Alive: 5\r\nProxy-Connection: b\r\n"
    .. "Upgrade: h2c\r\nContent-Length: 0"), { lacks = { "X%-Hop", "Keep%-Alive", "Proxy%-Connection", "Upgrade" } } },
  { "with a Date of its own", ok("Date: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 0"),
    { sees = { "\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\n" } } },
  { "without Date, which is added (RFC 9110 §6.6.1)", ok("Content-Length: 0"),
    { sees = { "\r\nDate: %a%a%a, %d%d %a%a%a %d%d%d%d " } } },
  { "with Via", ok("Via: 1.0 x\r\nContent-Length: 0"), { sees = { "\r\nVia: 1%.0 x, 1%.1 spec\r\n" } } },
  { "of HTTP/1.0, and Via says so", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    { sees = { "\r\nVia: 1%.0 spec\r\n" } } },
  { "behind 100, which was not for the client", ok(nil, "", "100 Continue") .. ok("Content-Length: 0"),
    { interim = {} } },
  { "behind 102 (RFC 9110 §15.2)",
    ok("X: a", "", "102 Processing") .. ok("Content-Length: 0"), { interim = { 102 } } },
  { "behind 103 with links (RFC 8297)", ok("Link: </a>; rel=preload", "", "103 Early Hints") .. ok("Content-Length: 0"),
    { interim = { 103 } } },
  { "behind 1xx that nobody knows", ok(nil, "", "199 X") .. ok("Content-Length: 0"), { interim = { 199 } } },
  { "behind 102, to HTTP/1.0", ok(nil, "", "102 Processing") .. ok("Content-Length: 0"),
    { request = "GET / HTTP/1.0\r\n\r\n", interim = {}, closes = true } },
  { "with a coding and white space before the colon", ok("Transfer-Encoding : chunked", "5\r\nhello\r\n0\r\n\r\n"),
    { sees = { "\r\nTransfer%-Encoding: chunked\r\n" }, joined = "hello" } },
  { "with a coding in capitals, amid white space", ok("TRANSFER-ENCODING: \t Chunked \t", "5\r\nhello\r\n0\r\n\r\n"),
    { joined = "hello" } },
  { "with a length with zeros", ok("Content-Length: 0005", "hello"),
    { sees = { "\r\nContent%-Length: 5\r\n" }, lacks = { "0005" }, body = "hello" } },
  { "with a length that Connection names", ok("Connection: Content-Length\r\nContent-Length: 5", "hello"),
    { sees = { "\r\nContent%-Length: 5\r\n" }, body = "hello" } },
  { "in chunks that Connection names", ok("Connection: Transfer-Encoding\r\n" .. CHUNKED, "5\r\nhello\r\n0\r\n\r\n"),
    { joined = "hello" } },
  { "in chunks that look like an answer",
    ok(CHUNKED, ("%x\r\n%s\r\n0\r\n\r\n"):format(#ok("Content-Length: 0"), ok("Content-Length: 0"))),
    { joined = ok("Content-Length: 0") } },
  { "with a reason past ASCII", ok("Content-Length: 0", "", "200 \195\164"), {} },
  { "of HTTP/1.0 that is kept", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
    { sees = { "^HTTP/1%.1 200 " }, lacks = { "keep%-alive" }, body = "hello" } },
  { "of HTTP/1.0 until it closes", "HTTP/1.0 200 OK\r\n\r\nhello", { joined = "hello", origin_closes = true } },
  { "that says keep-alive and closes for its end", ok("Connection: keep-alive", "hello"),
    { joined = "hello", origin_closes = true, lacks = { "Connection" } } },
  { "of 304 in chunks", ok(CHUNKED .. "\r\nETag: \"a\"", "", "304 Not Modified"), { status = 304, body = "" } },
  { "of 200 with an empty body in chunks", ok(CHUNKED, "0\r\n\r\n"), { joined = "" } },
  { "with trailers that control it",
    ok(CHUNKED, "0\r\nAge: 1\r\nExpires: x\r\nLocation: /x\r\nVary: *\r\nVia: 1.1 x\r\nRetry-After: 1\r\nX: a\r\n\r\n"),
    { ends = "0\r\nX: a\r\n\r\n$" } },
  { "behind 100 and 103",
    ok(nil, "", "100 Continue") .. ok("Link: </a>", "", "103 Early Hints") .. ok("Content-Length: 0"),
    { interim = { 103 } } },
}

local function check(case)
  local wants = case[3]
  local request = wants.request or GET
  local count = wants.closes and 1 or 2
  local got = wire.exchange(gw, origin, { request, NEXT }, { answers = count, closed = wants.closes,
    methods = { wants.method }, origin = says(case[2], { closes = wants.origin_closes }) })
  assert.equal(count, #got.answers, "answers: " .. got.bytes)
  local answer = got.answers[1]
  assert.equal(wants.status or 200, answer.status)
  assert.equal(wants.closes or false, got.is_closed)
  if not wants.closes and not wants.origin_closes then
    assert.equal("fine", got.answers[2].body)
  end
  wire.check(answer, wants)
  if wants.interim then
    local seen = {}
    for i, interim in ipairs(got.interim) do
      seen[i] = interim.status
    end
    assert.same(wants.interim, seen)
  end
end

describe("HTTP/1.1 gives the client an answer", function()
  for _, case in ipairs(forwarded) do
    it(case[1], function()
      check(case)
    end)
  end
end)

describe("what an origin says beyond its answer", function()
  local poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
  local cases = {
    { "behind a length", ok("Content-Length: 2", "ok") .. poison },
    { "behind the last chunk", ok(CHUNKED, "0\r\n\r\n") .. poison },
    { "behind 204", ok(nil, "", "204 No Content") .. poison },
    { "behind 304", ok(nil, "", "304 Not Modified") .. poison },
    { "behind 204 with a length", ok("Content-Length: 3", "abc", "204 No Content") .. poison },
    { "behind HEAD", ok("Content-Length: 4", "body") .. poison, "HEAD" },
    { "as an empty line", ok("Content-Length: 2", "ok") .. "\r\n" },
  }
  for _, case in ipairs(cases) do
    it("reaches nobody: " .. case[1], function()
      local method = case[3] or "GET"
      local got = wire.exchange(gw, origin, { method .. " / HTTP/1.1\r\nHost: a\r\n\r\n", NEXT },
        { answers = 2, methods = { method }, origin = says(case[2]) })
      assert.equal(2, #got.answers, "answers: " .. got.bytes)
      assert.equal("fine", got.answers[2].body)
      assert.not_matches("poison", got.bytes)
      assert.equal(2, #origin.conns)
    end)
  end

  it("between two requests reaches nobody", function()
    local got = wire.exchange(gw, origin, { GET }, { origin = says(ok("Content-Length: 2", "ok")) })
    assert.equal(200, got.answers[1].status)
    origin.conns[1].socket:send(poison)
    gw.core:turn(5)
    local kept = origin.conns[1]
    got = wire.exchange(gw, origin, NEXT, { origin = { answer = FINE } })
    assert.equal("fine", got.answers[1].body)
    assert.not_equal(kept.socket, origin.conns[1].socket)
  end)
end)
