-- SPDX-License-Identifier: Apache-2.0
--- The cases of h2spec (RFC 9113, RFC 7541), under its numbers, in clear and over TLS. A connection
--- error is GOAWAY with the code and the end of the connection; a stream error RST_STREAM with the
--- code, or the same as an error of the connection (RFC 9113 §5.4.2).
local h2 = require("spec.support.h2")
local moongate = require("moongate.test")

local config = [[
return {
  name = "spec",
  listeners = {
    { name = "clear", address = "127.0.0.1:0", http2 = true },
    { name = "tls", address = "127.0.0.1:0", http2 = true, tls = { certificates = { {
      certificate = "DIR/server.pem", key = "DIR/server.key" } } } } },
  limits = { streams = 10 },
  backends = { origin = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/small", reply = { status = 200, body = "hello" } },
    { path = "/*", backend = "origin" } } } },
}
]]

local ES, EH, PAD, PRIO = h2.END_STREAM, h2.END_HEADERS, h2.PADDED, h2.PRIORITY
local frame, u8, u16, u32 = h2.frame, h2.u8, h2.u16, h2.u32
local ALL = u32(2147483647)

local function open(stream, more)
  return h2.headers(stream, h2.request("/x", more, "POST"), EH)
end

local get, block = h2.get, h2.block(h2.request("/small"))
local reset1 = frame("RST_STREAM", 0, 1, u32(8))

local function priority(stream, on, weight, is_exclusive)
  return frame("PRIORITY", 0, stream, u32(on + (is_exclusive and 2147483648 or 0)) .. u8(weight))
end

local function with(...)
  return h2.get(1, "/small", { ... })
end

local function of(...)
  return h2.headers(1, { ... })
end

local function without(name)
  local fields = {}
  for _, field in ipairs(h2.request("/small")) do
    if field[1] ~= name then
      fields[#fields + 1] = field
    end
  end
  return h2.headers(1, fields)
end

local function raw_block(bytes)
  return frame("HEADERS", ES + EH, 1, bytes)
end

-- A GET of /small in bytes of RFC 7541: indexed :method and :scheme, :path literal, :authority.
local INDEXED = "\130\134\4\6/small\65\6a.test"
local P, F, S, SC, C = "PROTOCOL_ERROR", "FRAME_SIZE_ERROR", "FLOW_CONTROL_ERROR", "STREAM_CLOSED",
  "COMPRESSION_ERROR"

--- { case, what, bytes, connection = codes | stream = codes | answers = { streams } | ping = true }
local cases = {
  { "generic/1", "the preface", "", ping = true },
  { "generic/2.1", "PRIORITY on an idle stream", priority(1, 0, 15) .. get(1, "/small"), answers = { 1 } },
  { "generic/2.2", "WINDOW_UPDATE on a half-closed stream", get(1, "/small") .. frame("WINDOW_UPDATE", 0, 1, u32(100)),
    answers = { 1 } },
  { "generic/2.3", "PRIORITY on a half-closed stream", get(1, "/x") .. priority(1, 0, 15), answers = { 1 } },
  { "generic/2.4", "RST_STREAM on a half-closed stream", get(1, "/x") .. reset1, ping = true },
  { "generic/2.5", "PRIORITY on a closed stream", get(1, "/small") .. priority(1, 0, 15), ping = true },
  { "generic/3.1/1", "DATA", open(1) .. h2.data(1, "test", true), answers = { 1 } },
  { "generic/3.1/2", "several DATA frames", open(1) .. h2.data(1, "test") .. h2.data(1, "test", true),
    answers = { 1 } },
  { "generic/3.1/3", "DATA with padding", open(1) .. frame("DATA", PAD + ES, 1, u8(5) .. "test\0\0\0\0\0"),
    answers = { 1 } },
  { "generic/3.2/1", "HEADERS", get(1, "/small"), answers = { 1 } },
  { "generic/3.2/2", "HEADERS with padding", frame("HEADERS", PAD + ES + EH, 1, u8(5) .. block .. "\0\0\0\0\0"),
    answers = { 1 } },
  { "generic/3.2/3", "HEADERS with priority", frame("HEADERS", PRIO + ES + EH, 1, u32(0) .. u8(255) .. block),
    answers = { 1 } },
  { "generic/3.3/1", "PRIORITY of weight 1", priority(1, 0, 0) .. get(1, "/small"), answers = { 1 } },
  { "generic/3.3/2", "PRIORITY of weight 256", priority(1, 0, 255) .. get(1, "/small"), answers = { 1 } },
  { "generic/3.3/3", "PRIORITY with a dependency", priority(1, 0, 255) .. priority(3, 1, 255) .. get(1, "/small"),
    answers = { 1 } },
  { "generic/3.3/4", "PRIORITY with an exclusive dependency", priority(3, 1, 255, true) .. get(1, "/small"),
    answers = { 1 } },
  { "generic/3.3/5", "PRIORITY on an idle stream and HEADERS of a lower number", priority(5, 0, 255) .. get(3,
    "/small"),
    answers = { 3 } },
  { "generic/3.4", "RST_STREAM", get(1, "/x") .. reset1 .. get(3, "/small"), answers = { 3 } },
  { "generic/3.5", "SETTINGS", h2.settings { { 3, 100 } }, ping = true },
  { "generic/3.7", "PING", "", ping = true },
  { "generic/3.8", "GOAWAY", get(1, "/small") .. frame("GOAWAY", 0, 0, u32(0) .. u32(0)), answers = { 1 } },
  { "generic/3.9/1", "WINDOW_UPDATE of the connection", frame("WINDOW_UPDATE", 0, 0, u32(1)) .. get(1, "/small"),
    answers = { 1 } },
  { "generic/3.9/2", "WINDOW_UPDATE of a stream", open(1) .. frame("WINDOW_UPDATE", 0, 1, u32(1)) .. h2.data(1,
    "x", true),
    answers = { 1 } },
  { "generic/3.10/1", "CONTINUATION", frame("HEADERS", ES, 1, block:sub(1, 9))
    .. frame("CONTINUATION", EH, 1, block:sub(10)), answers = { 1 } },
  { "generic/3.10/2", "several CONTINUATION frames", frame("HEADERS", ES, 1, block:sub(1, 9))
    .. frame("CONTINUATION", 0, 1, block:sub(10, 20)) .. frame("CONTINUATION", EH, 1, block:sub(21)), answers = { 1 } },
  { "generic/4/1", "GET", get(1, "/small"), answers = { 1 } },
  { "generic/4/2", "HEAD", h2.headers(1, h2.request("/small", nil, "HEAD")), answers = { 1 } },
  { "generic/4/3", "POST", open(1) .. h2.data(1, "test", true), answers = { 1 } },
  { "generic/4/4", "POST with trailers", open(1, { { "trailer", "x-test" } }) .. h2.data(1, "test")
    .. h2.headers(1, { { "x-test", "ok" } }), answers = { 1 } },

  { "generic/5/1", "an indexed field", raw_block(INDEXED), answers = { 1 } },
  { "generic/5/2", "a literal with indexing and an indexed name", raw_block(INDEXED .. "\122\1a"), answers = { 1 } },
  { "generic/5/3", "a literal with indexing and an indexed name, in Huffman code",
    raw_block(INDEXED .. "\122\130\29\127"), answers = { 1 } },
  { "generic/5/4", "a literal with indexing and a new name", raw_block(INDEXED .. "\64\6x-test\2ok"), answers = { 1 } },
  { "generic/5/5", "a literal with indexing and a new name, in Huffman code",
    raw_block(INDEXED .. "\64\133\242\180\149\42\79\1a"), answers = { 1 } },
  { "generic/5/6", "a literal without indexing and an indexed name", raw_block(INDEXED .. "\15\43\1a"),
    answers = { 1 } },
  { "generic/5/7", "a literal without indexing and an indexed name, in Huffman code",
    raw_block(INDEXED .. "\15\43\129\31"), answers = { 1 } },
  { "generic/5/8", "a literal without indexing and a new name", raw_block(INDEXED .. "\0\6x-test\2ok"),
    answers = { 1 } },
  { "generic/5/9", "a literal without indexing and a new name, in Huffman code",
    raw_block(INDEXED .. "\0\133\242\180\149\42\79\129\31"), answers = { 1 } },
  { "generic/5/10", "a literal never indexed, with an indexed name", raw_block(INDEXED .. "\31\43\1a"),
    answers = { 1 } },
  { "generic/5/11", "a literal never indexed, with an indexed name, in Huffman code",
    raw_block(INDEXED .. "\31\43\129\31"), answers = { 1 } },
  { "generic/5/12", "a literal never indexed, with a new name", raw_block(INDEXED .. "\16\6x-test\2ok"),
    answers = { 1 } },
  { "generic/5/13", "a literal never indexed, with a new name, in Huffman code",
    raw_block(INDEXED .. "\16\133\242\180\149\42\79\129\31"), answers = { 1 } },
  { "generic/5/14", "a change of the table's size", raw_block("\63\97" .. INDEXED), answers = { 1 } },
  { "generic/5/15", "several changes of the table's size", raw_block("\32\63\97" .. INDEXED), answers = { 1 } },
  { "beside", "an index into the table that the client filled",
    frame("HEADERS", ES + EH, 1, INDEXED .. "\64\6x-test\2ok") .. frame("HEADERS", ES + EH, 3,
      "\130\134\4\6/small\191\190"),
    answers = { 1, 3 } },

  { "http2/3.5/1", "the preface, answered by SETTINGS", "", settings = true },
  { "http2/3.5/2", "an invalid preface", false, preface = "INVALID CONNECTION PREFACE\r\n\r\n" },
  { "http2/4.1/1", "a frame of unknown type", frame(22, 0, 0, "\0\0\0\0\0\0\0\0"), ping = true },
  { "http2/4.1/2", "a frame with undefined flags", frame("PING", 22, 0, "abcdefgh"), ping = true },
  { "http2/4.1/3", "a frame with the reserved bit", frame("PING", 0, 0, "abcdefgh", { reserved = true }), ping = true },
  { "http2/4.2/1", "DATA of 2^14 bytes", open(1) .. h2.data(1, ("x"):rep(16384), true), answers = { 1 } },
  { "http2/4.2/2", "DATA past SETTINGS_MAX_FRAME_SIZE", open(1) .. h2.data(1, ("x"):rep(16385), true), stream = { F } },
  { "http2/4.2/3", "HEADERS past SETTINGS_MAX_FRAME_SIZE", frame("HEADERS", ES + EH, 1, block .. ("\0"):rep(16385)),
    connection = { F } },
  { "http2/4.3/1", "an invalid head", raw_block("\64"), connection = { C } },
  { "http2/4.3/2", "PRIORITY within a head", frame("HEADERS", ES, 1, block) .. priority(1, 0, 255),
    connection = { P } },
  { "http2/4.3/3", "HEADERS of another stream within a head", frame("HEADERS", ES, 1, block) .. get(3, "/small"),
    connection = { P } },

  { "http2/5.1/1", "idle: DATA", h2.data(1, "test", true), connection = { P } },
  { "http2/5.1/2", "idle: RST_STREAM", reset1, connection = { P } },
  { "http2/5.1/3", "idle: WINDOW_UPDATE", frame("WINDOW_UPDATE", 0, 1, u32(100)), connection = { P } },
  { "http2/5.1/4", "idle: CONTINUATION", frame("CONTINUATION", EH, 1, block), connection = { P } },
  { "http2/5.1/5", "half-closed: DATA", get(1, "/x") .. h2.data(1, "test", true), stream = { SC } },
  { "http2/5.1/6", "half-closed: HEADERS", get(1, "/x") .. get(1, "/x"), stream = { SC } },
  { "http2/5.1/7", "half-closed: CONTINUATION", get(1, "/x") .. frame("CONTINUATION", EH, 1, block),
    connection = { SC, P } },
  { "http2/5.1/8", "reset: DATA", open(1) .. reset1 .. h2.data(1, "test", true), stream = { SC } },
  { "http2/5.1/9", "reset: HEADERS", open(1) .. reset1 .. get(1, "/x"), stream = { SC } },
  { "http2/5.1/10", "reset: CONTINUATION", open(1) .. reset1 .. frame("CONTINUATION", EH, 1, block),
    connection = { SC, P } },
  { "http2/5.1/11", "closed: DATA", { get(1, "/small"), h2.data(1, "test", true) }, stream = { SC } },
  { "http2/5.1/12", "closed: HEADERS", { get(1, "/small"), get(1, "/small") }, connection = { SC } },
  { "http2/5.1/13", "closed: CONTINUATION", { get(1, "/small"), frame("CONTINUATION", EH, 1, block) },
    connection = { SC, P } },
  { "http2/5.1.1/1", "an even number", get(2, "/small"), connection = { P } },
  { "http2/5.1.1/2", "a number smaller than before", get(5, "/small") .. get(3, "/small"), connection = { P, SC } },
  { "http2/5.1.2/1", "more streams than allowed", (function()
    local parts = {}
    for i = 1, 11 do
      parts[i] = open(2 * i - 1)
    end
    return table.concat(parts)
  end)(), stream = { P, "REFUSED_STREAM" }, of_stream = 21 },
  { "http2/5.3.1/1", "HEADERS that depend on themselves",
    frame("HEADERS", PRIO + ES + EH, 1, u32(1) .. u8(255) .. block),
    stream = { P } },
  { "http2/5.3.1/2", "PRIORITY that depends on itself", priority(1, 1, 255), stream = { P } },
  { "http2/5.4.1/1", "an invalid PING and the end", frame("PING", 0, 3, "\0\0\0\0\0\0\0\0"), connection = { P } },
  { "http2/5.4.1/2", "an invalid PING behind a request", get(1, "/small") .. frame("PING", 0, 3, "\0\0\0\0\0\0\0\0"),
    connection = { P }, last_stream = 1 },
  { "http2/5.5/1", "an unknown frame", frame(22, 0, 0, "\0\0\0\0\0\0\0\0"), ping = true },
  { "http2/5.5/2", "an unknown frame within a head", frame("HEADERS", ES, 1, block) .. frame(22, 0, 1, "\0\0"),
    connection = { P } },

  { "http2/6.1/1", "DATA on stream 0", h2.data(0, "test", true), connection = { P } },
  { "http2/6.1/2", "DATA on a stream that is not open", get(1, "/x") .. h2.data(1, "test", true), stream = { SC } },
  { "http2/6.1/3", "DATA with invalid padding", open(1) .. frame("DATA", PAD + ES, 1, u8(6) .. "test"),
    connection = { P } },
  { "http2/6.2/1", "HEADERS without its end, and PRIORITY", frame("HEADERS", ES, 1, block) .. priority(1, 0, 255),
    connection = { P } },
  { "http2/6.2/2", "HEADERS without its end, and another stream", frame("HEADERS", ES, 1, block) .. get(3, "/small"),
    connection = { P } },
  { "http2/6.2/3", "HEADERS on stream 0", get(0, "/small"), connection = { P } },
  { "http2/6.2/4", "HEADERS with invalid padding", frame("HEADERS", PAD + ES + EH, 1, u8(#block + 2) .. block),
    connection = { P } },
  { "http2/6.3/1", "PRIORITY on stream 0", priority(0, 0, 255), connection = { P } },
  { "http2/6.3/2", "PRIORITY of another length", frame("PRIORITY", 0, 1, "\128\0\0\1"), stream = { F } },
  { "http2/6.4/1", "RST_STREAM on stream 0", frame("RST_STREAM", 0, 0, u32(8)), connection = { P } },
  { "http2/6.4/2", "RST_STREAM on an idle stream", reset1, connection = { P } },
  { "http2/6.4/3", "RST_STREAM of another length", open(1) .. frame("RST_STREAM", 0, 1, "\0\0\0"), connection = { F } },
  { "http2/6.5/1", "SETTINGS with ACK and a payload", frame("SETTINGS", h2.ACK, 0, "\0"), connection = { F } },
  { "http2/6.5/2", "SETTINGS on a stream", frame("SETTINGS", 0, 1, u16(3) .. u32(1)), connection = { P } },
  { "http2/6.5/3", "SETTINGS of another length", frame("SETTINGS", 0, 0, "\0\3\0"), connection = { F } },
  { "http2/6.5.2/1", "SETTINGS_ENABLE_PUSH 2", h2.settings { { 2, 2 } }, connection = { P } },
  { "http2/6.5.2/2", "SETTINGS_INITIAL_WINDOW_SIZE 2^31", h2.settings { { 4, 2147483648 } }, connection = { S } },
  { "http2/6.5.2/3", "SETTINGS_MAX_FRAME_SIZE 2^14-1", h2.settings { { 5, 16383 } }, connection = { P } },
  { "http2/6.5.2/4", "SETTINGS_MAX_FRAME_SIZE 2^24", h2.settings { { 5, 16777216 } }, connection = { P } },
  { "http2/6.5.2/5", "an unknown setting", h2.settings { { 255, 1 } }, ping = true },
  { "http2/6.5.3/1", "SETTINGS_INITIAL_WINDOW_SIZE twice", h2.settings { { 4, 100 }, { 4, 1 } } .. get(1, "/small"),
    data = "h" },
  { "http2/6.5.3/2", "SETTINGS, which is acknowledged", h2.settings { { 3, 100 } }, acks = 2 },
  { "http2/6.7/1", "PING", "", ping = true },
  { "http2/6.7/2", "PING with ACK", frame("PING", h2.ACK, 0, "invalid!"), ping = true },
  { "http2/6.7/3", "PING on a stream", frame("PING", 0, 1, "\0\0\0\0\0\0\0\0"), connection = { P } },
  { "http2/6.7/4", "PING of another length", frame("PING", 0, 0, "\0\0\0\0\0\0"), connection = { F } },
  { "http2/6.8/1", "GOAWAY on a stream", frame("GOAWAY", 0, 1, u32(0) .. u32(0)), connection = { P } },
  { "http2/6.9/1", "WINDOW_UPDATE by 0", frame("WINDOW_UPDATE", 0, 0, u32(0)), connection = { P } },
  { "http2/6.9/2", "WINDOW_UPDATE of a stream by 0", open(1) .. frame("WINDOW_UPDATE", 0, 1, u32(0)), stream = { P } },
  { "http2/6.9/3", "WINDOW_UPDATE of another length", frame("WINDOW_UPDATE", 0, 0, "\0\0\1"), connection = { F } },
  { "http2/6.9.1/1", "a window of 1", h2.settings { { 4, 1 } } .. get(1, "/small"), data = "h" },
  { "http2/6.9.1/2", "a window of the connection past 2^31-1", frame("WINDOW_UPDATE", 0, 0, ALL):rep(2),
    connection = { S } },
  { "http2/6.9.1/3", "a window of a stream past 2^31-1", open(1) .. frame("WINDOW_UPDATE", 0, 1, ALL):rep(2),
    stream = { S } },
  { "http2/6.9.2/1", "a window that is changed behind HEADERS", h2.settings { { 4, 0 } } .. get(1, "/small")
    .. h2.settings { { 4, 1 } }, data = "h" },
  { "http2/6.9.2/2", "a window that becomes negative", h2.settings { { 4, 3 } } .. get(1, "/small")
    .. h2.settings { { 4, 2 } } .. frame("WINDOW_UPDATE", 0, 1, u32(2)), data = "hell" },
  { "http2/6.9.2/3", "SETTINGS_INITIAL_WINDOW_SIZE past 2^31-1", h2.settings { { 4, 2147483648 } },
    connection = { S } },
  { "http2/6.10/1", "several CONTINUATION frames", frame("HEADERS", ES, 1, block:sub(1, 9))
    .. frame("CONTINUATION", 0, 1, block:sub(10, 20)) .. frame("CONTINUATION", EH, 1, block:sub(21)), answers = { 1 } },
  { "http2/6.10/2", "CONTINUATION and something else", frame("HEADERS", ES, 1, block) .. frame("CONTINUATION", 0, 1, "")
    .. h2.data(1, "test", true), connection = { P } },
  { "http2/6.10/3", "CONTINUATION on stream 0", frame("HEADERS", ES, 1, block) .. frame("CONTINUATION", EH, 0, ""),
    connection = { P } },
  { "http2/6.10/4", "CONTINUATION behind the end of a head", open(1) .. frame("CONTINUATION", EH, 1, ""),
    connection = { P } },
  { "http2/6.10/5", "CONTINUATION behind the last one", frame("HEADERS", 0, 1, h2.block(h2.request("/x", nil, "POST")))
    .. frame("CONTINUATION", EH, 1, "") .. frame("CONTINUATION", EH, 1, ""), connection = { P } },
  { "http2/6.10/6", "CONTINUATION behind DATA", open(1) .. h2.data(1, "test") .. frame("CONTINUATION", EH, 1, ""),
    connection = { P } },
  { "http2/7/1", "GOAWAY with an unknown code", frame("GOAWAY", 0, 0, u32(0) .. u32(255)), ping = true },
  { "http2/7/2", "RST_STREAM with an unknown code", open(1) .. frame("RST_STREAM", 0, 1, u32(255)), ping = true },

  { "http2/8.1/1", "a second HEADERS without END_STREAM", open(1) .. h2.headers(1, { { "x-test", "ok" } }, EH),
    stream = { P } },
  { "http2/8.1.2/1", "a name in capitals", with({ "X-TEST", "ok" }), stream = { P } },
  { "http2/8.1.2.1/1", "an unknown pseudo-field", with({ ":test", "ok" }), stream = { P } },
  { "http2/8.1.2.1/2", "a response's pseudo-field", with({ ":status", "200" }), stream = { P } },
  { "http2/8.1.2.1/3", "a pseudo-field in trailers", open(1) .. h2.headers(1, { { ":method", "POST" } }),
    stream = { P } },
  { "http2/8.1.2.1/4", "a pseudo-field behind others", of({ ":method", "GET" }, { ":scheme", "http" }, { "x-test",
    "ok" },
    { ":path", "/small" }, { ":authority", "a.test" }), stream = { P } },
  { "http2/8.1.2.2/1", "a field of the connection", with({ "connection", "keep-alive" }), stream = { P } },
  { "http2/8.1.2.2/2", "TE other than trailers", with({ "trailers", "test" }, { "te", "trailers, deflate" }),
    stream = { P } },
  { "http2/8.1.2.3/1", "an empty :path", of({ ":method", "GET" }, { ":scheme", "http" }, { ":path", "" },
    { ":authority", "a.test" }), stream = { P } },
  { "http2/8.1.2.3/2", "no :method", without(":method"), stream = { P } },
  { "http2/8.1.2.3/3", "no :scheme", without(":scheme"), stream = { P } },
  { "http2/8.1.2.3/4", "no :path", without(":path"), stream = { P } },
  { "http2/8.1.2.3/5", ":method twice", of({ ":method", "GET" }, unpack(h2.request("/small"))), stream = { P } },
  { "http2/8.1.2.3/6", ":scheme twice", of({ ":scheme", "http" }, unpack(h2.request("/small"))), stream = { P } },
  { "http2/8.1.2.3/7", ":path twice", of({ ":path", "/small" }, unpack(h2.request("/small"))), stream = { P } },
  { "http2/8.1.2.6/1", "a length that one DATA frame does not have", open(1, { { "content-length", "1" } })
    .. h2.data(1, "test", true), stream = { P } },
  { "http2/8.1.2.6/2", "a length that several DATA frames do not have", open(1, { { "content-length", "1" } })
    .. h2.data(1, "test") .. h2.data(1, "test", true), stream = { P } },
  { "http2/8.2/1", "PUSH_PROMISE", frame("PUSH_PROMISE", EH, 1, u32(3) .. block), connection = { P } },
  { "http2/8.2/2", "PUSH_PROMISE on an open stream", open(1) .. frame("PUSH_PROMISE", EH, 1, u32(2) .. block),
    connection = { P } },

  { "hpack/2.3.3/1", "an index that is not there", raw_block(INDEXED .. "\198"), connection = { C } },
  { "hpack/2.3.3/2", "a literal whose name's index is not there", raw_block(INDEXED .. "\126\1a\127\128\1\1a"),
    connection = { C } },
  { "hpack/4.2/1", "a change of the table's size at the end of a head", raw_block(INDEXED .. "\32"),
    connection = { C } },
  { "hpack/5.2/1", "Huffman padding of more than 7 bits",
    raw_block(INDEXED .. "\0\133\242\180\149\42\79\131\29\127\255"),
    connection = { C } },
  { "hpack/5.2/2", "Huffman padding of zeros", raw_block(INDEXED .. "\0\6x-test\129\24"), connection = { C } },
  { "hpack/5.2/3", "Huffman code with EOS", raw_block(INDEXED .. "\0\6x-test\133\255\255\255\255\255"),
    connection = { C } },
  { "hpack/6.1/1", "index 0", raw_block(INDEXED .. "\128"), connection = { C } },
  { "hpack/6.3/1", "a table larger than SETTINGS_HEADER_TABLE_SIZE", raw_block("\63\226\31" .. INDEXED),
    connection = { C } },
}

local PING = frame("PING", 0, 0, "moongate")

local function one_of(codes, code)
  for _, wanted in ipairs(codes) do
    if wanted == code then
      return true
    end
  end
  return false
end

local function check_answers(case, frames)
  for _, stream in ipairs(case.answers) do
    local answer = h2.answer(frames, stream)
    assert.equal(200, answer.status)
    assert.is_true(answer.is_whole)
  end
end

local function check(case, frames, is_closed)
  local goaway = h2.only(frames, "GOAWAY")
  goaway = goaway[#goaway]
  local told = "GOAWAY " .. tostring(goaway and goaway.code)
  if case.connection then
    assert.is_true(one_of(case.connection, goaway and goaway.code), told)
    assert.is_true(is_closed, "the connection stays open")
    assert.is_true(case.last_stream == nil or case.last_stream == goaway.last_stream)
  elseif case.stream then
    local reset = h2.only(frames, "RST_STREAM", case.of_stream or 1)[1]
    assert.is_true(one_of(case.stream, reset and reset.code or goaway and goaway.code),
      told .. ", RST_STREAM " .. tostring(reset and reset.code))
  elseif case.answers then
    check_answers(case, frames)
  elseif case.data then
    local answer = h2.answer(frames, 1)
    assert.equal(case.data, answer.body)
    assert.is_falsy(answer.is_whole)
  end
  if case.settings then
    assert.equal("SETTINGS", frames[1].type)
    assert.equal(0, frames[1].flags)
  end
  if case.ping then
    local pings = h2.only(frames, "PING")
    assert.equal("moongate", pings[#pings].payload)
    assert.equal(h2.ACK, pings[#pings].flags)
  end
  if case.acks then
    local acks = 0
    for _, settings in ipairs(h2.only(frames, "SETTINGS")) do
      acks = acks + settings.flags % 2
    end
    assert.equal(case.acks, acks)
  end
end

local dir, gw

setup(function()
  dir = os.tmpname()
  os.remove(dir)
  assert(os.execute(("mkdir %s && openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 2 "
    .. "-subj /CN=a.test -keyout %s/server.key -out %s/server.pem >/dev/null 2>&1"):format(dir, dir, dir)) == 0)
  gw = moongate.gateway { files = { ["gateway.lua"] = config:gsub("DIR", dir) },
    backends = { origin = function(request)
      return 200, {}, request.body
    end } }
end)

teardown(function()
  gw:close()
  os.execute("rm -rf " .. dir)
end)

local function run(case, options)
  if case.preface then
    local _, is_closed = gw:raw(case.preface, options)
    assert.is_true(is_closed)
    return
  end
  local pieces = type(case[3]) == "table" and { unpack(case[3]) } or { case[3] }
  pieces[1] = h2.START .. pieces[1]
  pieces[#pieces] = pieces[#pieces] .. (case.ping and PING or "")
  local got, is_closed = gw:raw(pieces, options)
  check(case, h2.read(got), is_closed)
end

for listener, is_tls in pairs { clear = false, tls = true } do
  describe("h2spec " .. (is_tls and "over TLS" or "in clear"), function()
    for _, case in ipairs(cases) do
      it(case[1] .. ": " .. case[2], function()
        if not pcall(run, case, { listener = listener, tls = is_tls, wait = 0.03 }) then
          run(case, { listener = listener, tls = is_tls, wait = 0.5 }) -- the machine may be slow
        end
      end)
    end
  end)
end
