-- SPDX-License-Identifier: Apache-2.0
--- HTTP/2 frames for specs: built byte by byte, good or bad, and read back. Heads that come are
--- decompressed by libnghttp2, those that go are literals.
local bit = require("bit")
local ffi = require("ffi")

local M = {}

M.PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
M.types = { [0] = "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING",
  "GOAWAY", "WINDOW_UPDATE", "CONTINUATION" }
M.codes = { [0] = "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR",
  "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL",
  "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM" }

local type_of = {}
for number, name in pairs(M.types) do
  type_of[name] = number
end

M.END_STREAM, M.ACK, M.END_HEADERS, M.PADDED, M.PRIORITY = 1, 1, 4, 8, 32

local function u8(n)
  return string.char(n % 256)
end

local function u16(n)
  return string.char(math.floor(n / 256) % 256, n % 256)
end

local function u24(n)
  return u8(math.floor(n / 65536)) .. u16(n % 65536)
end

local function u32(n)
  return u16(math.floor(n / 65536)) .. u16(n % 65536)
end

M.u8, M.u16, M.u32 = u8, u16, u32

--- One frame. @param options { length = what the head says, reserved = the reserved bit }
function M.frame(kind, flags, stream, payload, options)
  options = options or {}
  payload = payload or ""
  local id = stream + (options.reserved and 2147483648 or 0)
  return u24(options.length or #payload) .. u8(type_of[kind] or kind) .. u8(flags) .. u32(id)
    .. payload
end

local function string_of(text)
  assert(#text < 127)
  return u8(#text) .. text
end

--- Literal fields without indexing (RFC 7541 §6.2.2): { { name, value }, ... }
function M.block(fields)
  local parts = {}
  for i, field in ipairs(fields) do
    local value = field[2]
    local length = u8(#value)
    if #value >= 127 then -- RFC 7541 §5.1
      local rest, digits = #value - 127, {}
      while rest >= 128 do
        digits[#digits + 1] = u8(rest % 128 + 128)
        rest = math.floor(rest / 128)
      end
      length = u8(127) .. table.concat(digits) .. u8(rest)
    end
    parts[i] = "\0" .. string_of(field[1]) .. length .. value
  end
  return table.concat(parts)
end

--- The four pseudo-fields of a usual request, and further fields behind them.
function M.request(path, more, method)
  local fields = { { ":method", method or "GET" }, { ":scheme", "http" }, { ":path", path or "/" },
    { ":authority", "a.test" } }
  for _, field in ipairs(more or {}) do
    fields[#fields + 1] = field
  end
  return fields
end

function M.settings(entries)
  local parts = {}
  for i, entry in ipairs(entries or {}) do
    parts[i] = u16(entry[1]) .. u32(entry[2])
  end
  return M.frame("SETTINGS", 0, 0, table.concat(parts))
end

function M.headers(stream, fields, flags)
  return M.frame("HEADERS", flags or (M.END_STREAM + M.END_HEADERS), stream, M.block(fields))
end

function M.data(stream, bytes, is_last)
  return M.frame("DATA", is_last and M.END_STREAM or 0, stream, bytes)
end

function M.get(stream, path, more)
  return M.headers(stream, M.request(path, more))
end

--- What a client begins with.
M.START = M.PREFACE .. M.settings()

ffi.cdef [[
typedef struct nghttp2_hd_inflater nghttp2_hd_inflater;
typedef struct { uint8_t *name; uint8_t *value; size_t namelen; size_t valuelen; uint8_t flags; } nghttp2_nv;
int nghttp2_hd_inflate_new(nghttp2_hd_inflater **inflater_ptr);
void nghttp2_hd_inflate_del(nghttp2_hd_inflater *inflater);
long nghttp2_hd_inflate_hd2(nghttp2_hd_inflater *inflater, nghttp2_nv *nv_out, int *inflate_flags,
                            const uint8_t *in, size_t inlen, int in_final);
int nghttp2_hd_inflate_end_headers(nghttp2_hd_inflater *inflater);
]]

local nghttp2

local function inflate(inflater, block)
  local fields, at = {}, 0
  local nv, flags = ffi.new("nghttp2_nv"), ffi.new("int[1]")
  local bytes = ffi.cast("const uint8_t *", block)
  repeat
    local n = tonumber(nghttp2.nghttp2_hd_inflate_hd2(inflater, nv, flags, bytes + at, #block - at, 1))
    assert(n >= 0, "the head cannot be decompressed")
    at = at + n
    if bit.band(flags[0], 2) ~= 0 then
      fields[#fields + 1] = { ffi.string(nv.name, nv.namelen), ffi.string(nv.value, nv.valuelen) }
    end
  until bit.band(flags[0], 1) ~= 0
  nghttp2.nghttp2_hd_inflate_end_headers(inflater)
  return fields
end

local function be(bytes, first, last)
  local n = 0
  for i = first, last do
    n = n * 256 + bytes:byte(i)
  end
  return n
end

local function read_payload(frame, inflater)
  local p = frame.payload
  if frame.type == "GOAWAY" then
    frame.last_stream = be(p, 1, 4)
    frame.code = M.codes[be(p, 5, 8)]
    frame.debug = p:sub(9)
  elseif frame.type == "RST_STREAM" then
    frame.code = M.codes[be(p, 1, 4)]
  elseif frame.type == "WINDOW_UPDATE" then
    frame.increment = be(p, 1, 4)
  elseif frame.type == "SETTINGS" then
    frame.settings = {}
    for i = 1, #p, 6 do
      frame.settings[be(p, i, i + 1)] = be(p, i + 2, i + 5)
    end
  elseif frame.type == "HEADERS" then
    frame.fields = inflate(inflater, p)
    frame.named = {}
    for _, field in ipairs(frame.fields) do
      frame.named[field[1]] = field[2]
    end
  end
end

--- Reads what the gateway sent; CONTINUATION frames are joined to their HEADERS.
function M.read(bytes)
  nghttp2 = nghttp2 or ffi.load("libnghttp2.so.14")
  local pointer = ffi.new("nghttp2_hd_inflater *[1]")
  assert(nghttp2.nghttp2_hd_inflate_new(pointer) == 0)
  local frames, at = {}, 1
  while at + 8 <= #bytes do
    local length = be(bytes, at, at + 2)
    local frame = { type = M.types[be(bytes, at + 3, at + 3)], flags = be(bytes, at + 4, at + 4),
      stream = be(bytes, at + 5, at + 8), payload = bytes:sub(at + 9, at + 8 + length) }
    frame.is_last = (frame.type == "DATA" or frame.type == "HEADERS") and frame.flags % 2 == 1
    if frame.type == "CONTINUATION" then
      local head = frames[#frames]
      head.payload, head.flags = head.payload .. frame.payload, bit.bor(head.flags, frame.flags)
      frame = head
    else
      frames[#frames + 1] = frame
    end
    if frame.type ~= "HEADERS" or bit.band(frame.flags, M.END_HEADERS) ~= 0 then
      read_payload(frame, pointer[0])
    end
    at = at + 9 + length
  end
  nghttp2.nghttp2_hd_inflate_del(pointer[0])
  return frames
end

--- Frames of one kind (and stream).
function M.only(frames, kind, stream)
  local found = {}
  for _, frame in ipairs(frames) do
    if frame.type == kind and (stream == nil or frame.stream == stream) then
      found[#found + 1] = frame
    end
  end
  return found
end

--- The answer on a stream: status, fields, body, whether it ended, the code it was reset with.
function M.answer(frames, stream)
  local answer = { body = "" }
  for _, frame in ipairs(frames) do
    if frame.stream == stream then
      if frame.type == "HEADERS" and frame.named[":status"] then
        if frame.named[":status"]:sub(1, 1) == "1" then
          answer.interim = frame.named[":status"]
        else
          answer.status, answer.headers = tonumber(frame.named[":status"]), frame.named
        end
      elseif frame.type == "HEADERS" then
        answer.trailers = frame.named
      elseif frame.type == "DATA" then
        answer.body = answer.body .. frame.payload
      elseif frame.type == "RST_STREAM" then
        answer.reset = frame.code
      end
      answer.is_whole = answer.is_whole or frame.is_last
    end
  end
  return answer
end

return M
