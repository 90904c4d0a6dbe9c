-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")
local h1 = require("spec.unit.http.http_helper")

local LAST = "0\r\n\r\n"

local accepted = {
  { "an empty body", LAST, "" },
  { "one chunk", "5\r\nhello\r\n" .. LAST, "hello" },
  { "two chunks", "5\r\nhello\r\n6\r\n world\r\n" .. LAST, "hello world" },
  { "digits in both cases", "A\r\n0123456789\r\nb\r\nabcdefghijk\r\n" .. LAST,
    "0123456789abcdefghijk" },
  { "zeros before a size", "0000000000000005\r\nhello\r\n" .. LAST, "hello" },
  { "several zeros as the end", "000\r\n\r\n", "" },
  { "CR and LF inside a chunk", "4\r\n\r\n\r\n\r\n" .. LAST, "\r\n\r\n" },
  { "what looks like the end inside a chunk", "5\r\n" .. LAST .. "\r\n" .. LAST, LAST },
  { "an extension", "5;a\r\nhello\r\n" .. LAST, "hello" },
  { "an extension with a value", "5;a=b\r\nhello\r\n" .. LAST, "hello" },
  { "an extension with a quoted value", "5;a=\"b;\\\" c\"\r\nhello\r\n" .. LAST, "hello" },
  { "several extensions", "5;a=b;c;d=\"e\"\r\nhello\r\n0;x\r\n\r\n", "hello" },
  { "white space before a semicolon", "5 \t;a\r\nhello\r\n" .. LAST, "hello" },
  { "white space around the parts", "5 ; a = b ; c\r\nhello\r\n" .. LAST, "hello" },
  { "trailers", "0\r\nX-A: b\r\nX-B:  c \r\n\r\n", "", { "X-A: b", "X-B: c" } },
  { "trailers that may not be there", "0\r\nContent-Length: 5\r\nX-A: b\r\nHost: evil\r\n" ..
    "Transfer-Encoding: chunked\r\nAuthorization: x\r\nConnection: close\r\n\r\n", "",
    { "X-A: b" } },
}

local refused = {
  { "no size", "\r\nhello\r\n" },
  { "a size with 0x", "0x5\r\nhello\r\n" },
  { "a size with a sign", "+5\r\nhello\r\n" },
  { "a negative size", "-5\r\nhello\r\n" },
  { "a space before a size", " 5\r\nhello\r\n" },
  { "a space behind a size", "5 \r\nhello\r\n" },
  { "a tab behind a size", "5\t\r\nhello\r\n" },
  { "a letter that is no digit", "5g\r\nhello\r\n" },
  { "an h behind a size", "5h\r\nhello\r\n" },
  { "a decimal point", "5.0\r\nhello\r\n" },
  { "an underscore", "1_0\r\nhello\r\n" },
  { "a comma", "5,5\r\nhello\r\n" },
  { "a NUL behind a size", "5\0\r\nhello\r\n" },
  { "a size of 2^63", "8000000000000000\r\nhello\r\n" },
  { "a size of 2^64 - 1", "ffffffffffffffff\r\nhello\r\n" },
  { "a size of 2^64 + 5", "10000000000000005\r\nhello\r\n" },
  { "a size of 17 digits", "00000000000000005\r\nhello\r\n" },
  { "a bare LF behind a size", "5\nhello\r\n" },
  { "a bare CR behind a size", "5\rhello\r\n" },
  { "CR CR LF behind a size", "5\r\r\nhello\r\n" },
  { "a bare LF behind the data", "5\r\nhello\n" .. LAST },
  { "a bare CR behind the data", "5\r\nhello\r0\r\n\r\n" },
  { "data that is longer than its size", "4\r\nhello\r\n" .. LAST },
  { "data that is shorter than its size", "6\r\nhello\r\n" .. LAST },
  { "nothing between data and the next size", "5\r\nhello0\r\n\r\n" },
  { "an extension without a name", "5;\r\nhello\r\n" },
  { "two semicolons", "5;;a\r\nhello\r\n" },
  { "a value without a name", "5;=b\r\nhello\r\n" },
  { "a name without its value", "5;a=\r\nhello\r\n" },
  { "a bare LF in an extension", "5;a\nhello\r\n" },
  { "a bare CR in an extension", "5;a\rb\r\nhello\r\n" },
  { "a NUL in an extension", "5;a\0b\r\nhello\r\n" },
  { "a bare LF in a quoted value", "5;a=\"b\nc\"\r\nhello\r\n" },
  { "CRLF in a quoted value", "5;a=\"b\r\nc\"\r\nhello\r\n" },
  { "an escaped LF in a quoted value", "5;a=\"b\\\nc\"\r\nhello\r\n" },
  { "a quoted value that does not end", "5;a=\"b\r\nhello\r\n" },
  { "bytes behind a quoted value", "5;a=\"b\"c\r\nhello\r\n" },
  { "white space at the end of an extension", "5;a \r\nhello\r\n" },
  { "a colon in an extension", "5;a:b\r\nhello\r\n" },
  { "extensions without end", "5;" .. ("a"):rep(2000) .. "\r\nhello\r\n" },
  { "a bare LF as the end", "0\r\n\n", "bad_trailer" },
  { "a bare LF behind a trailer", "0\r\nX: a\n\r\n", "bad_trailer" },
  { "a bare CR in a trailer", "0\r\nX: a\rb\r\n\r\n", "bad_trailer" },
  { "a NUL in a trailer", "0\r\nX: a\0b\r\n\r\n", "bad_trailer" },
  { "a folded trailer", "0\r\nX: a\r\n b\r\n\r\n", "bad_trailer" },
  { "a space before the colon of a trailer", "0\r\nX : a\r\n\r\n", "bad_trailer" },
  { "a trailer without a colon", "0\r\nX\r\n\r\n", "bad_trailer" },
  { "a trailer without a name", "0\r\n: a\r\n\r\n", "bad_trailer" },
  { "the next request instead of the end", "0\r\nGET / HTTP/1.1\r\n\r\n", "bad_trailer" },
  { "trailers without end", "0\r\nX: " .. ("a"):rep(9000), "head_too_large" },
  { "more than 100 trailers", "0\r\n" .. ("X: a\r\n"):rep(101) .. "\r\n", "head_too_large" },
}

local function each_split(bytes, check)
  local limit = math.min(#bytes - 1, 120)
  for cut = 1, limit do
    check { cut }
  end
  local every = {}
  for cut = 1, #bytes - 1 do
    every[cut] = cut
  end
  check(every)
end

describe("http/h1_body", function()
  for _, case in ipairs(accepted) do
    it("reads " .. case[1] .. ", however it arrives", function()
      local bytes = case[2] .. "NEXT"
      local function check(cuts)
        local got = h1.read_body(bytes, cuts)
        assert.equal("ok", got.rc)
        assert.equal("ok", got.looked)
        assert.is_true(got.done)
        assert.is_false(got.holds_memory)
        assert.equal(case[3], got.data)
        assert.equal(#case[2], got.used)
        assert.same(case[4] or {}, got.trailers)
      end
      check {}
      each_split(bytes, check)
    end)
    it("waits for the end of " .. case[1], function()
      for len = 0, #case[2] - 1 do
        local got = h1.read_body(case[2]:sub(1, len))
        assert.equal("again", got.rc)
        assert.equal("again", got.looked)
        assert.is_false(got.done)
        assert.equal("client_closed", got.eof)
      end
    end)
  end

  for _, case in ipairs(refused) do
    it("refuses " .. case[1] .. ", however it arrives", function()
      local want = case[3] or "bad_chunk"
      local function check(cuts)
        local got = h1.read_body(case[2], cuts)
        assert.equal(want, got.rc)
        assert.equal(want, got.looked)
        assert.is_false(got.holds_memory)
      end
      check {}
      each_split(case[2], check)
      assert.equal("upstream_protocol", h1.read_body(case[2], {}, { is_response = true }).rc)
    end)
  end

  it("takes as many bytes as the length says", function()
    for cut = 1, 9 do
      local got = h1.read_body("helloNEXT", { cut }, { framing = 1, length = 5 })
      assert.equal("ok", got.rc)
      assert.equal("hello", got.data)
      assert.equal(5, got.used)
    end
    local short = h1.read_body("hell", {}, { framing = 1, length = 5 })
    assert.same({ "again", "hell", "client_closed" }, { short.rc, short.data, short.eof })
    local upstream = h1.read_body("hell", {}, { framing = 1, length = 5, is_response = true })
    assert.equal("upstream_truncated", upstream.eof)
    assert.is_true(h1.read_body("", {}, { framing = 1, length = 0 }).rc == "ok")
  end)

  it("takes everything until the connection closes", function()
    local got = h1.read_body("hello", { 2 }, { framing = 3, is_response = true })
    assert.same({ "again", "hello", false, "ok" }, { got.rc, got.data, got.done, got.eof })
  end)

  it("needs nothing where there is no body", function()
    local got = h1.read_body("NEXT", {}, { framing = 0 })
    assert.same({ "ok", "", 0, true }, { got.rc, got.data, got.used, got.done })
  end)

  it("never reads on behind an error", function()
    for _, text in ipairs { "x\r\n", "0\r\nbad\r\n" } do
      local body = ffi.gc(ffi.new("struct moon_h1_body"), h1.lib.moon_h1_body_fini)
      local used, data = ffi.new("size_t[1]"), ffi.new("struct moon_slice")
      h1.lib.moon_h1_body_init(body, 2, -1, nil, false)
      assert.not_equal(0, h1.lib.moon_h1_body_next(body, helper.slice(text), used, data))
      assert.equal("bad_chunk",
        helper.rc(h1.lib.moon_h1_body_next(body, helper.slice("0\r\n\r\n"), used, data)))
      assert.is_false(body.is_done)
    end
  end)

  it("drops trailers that nobody wants, and still checks them", function()
    local body = ffi.gc(ffi.new("struct moon_h1_body"), h1.lib.moon_h1_body_fini)
    local used, data = ffi.new("size_t[1]"), ffi.new("struct moon_slice")
    h1.lib.moon_h1_body_init(body, 2, -1, nil, false)
    local text = "0\r\nA: b\r\nC\r\n\r\n"
    assert.equal("bad_trailer",
      helper.rc(h1.lib.moon_h1_body_next(body, helper.slice(text), used, data)))
  end)

  it("says so when trailers do not fit the arena", function()
    local got = h1.read_body("0\r\nX: a\r\n\r\n", {}, { ceiling = 8 })
    assert.equal("memory", got.rc)
    assert.equal("memory", h1.read_body("0\r\nX: a\r\n\r\n", {},
      { ceiling = 8, is_response = true }).rc)
  end)
end)
