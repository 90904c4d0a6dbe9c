-- SPDX-License-Identifier: Apache-2.0
--- Compression of responses by negotiation: when, how, and what the head then says.
local ffi = require("ffi")
local moongate = require("moongate.test")

pcall(ffi.cdef, [[
int BrotliDecoderDecompress(size_t encoded_size, const uint8_t *encoded, size_t *decoded_size,
                            uint8_t *decoded);
]])

local config = [[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  compression = true,
  backends = { origin = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/off/*", backend = "origin", compression = false },
    { path = "/streaming/*", backend = "origin", streaming = true },
    { path = "/gzip/*", backend = "origin", compression = { codings = { "gzip" }, min_bytes = 10,
      types = { "application/x-own" } } },
    { path = "/reply", reply = { status = 200, body = ("reply "):rep(500),
      headers = { ["Content-Type"] = "text/plain" } } },
    { path = "/*", backend = "origin" } } } },
}
]]

local TEXT = ("It was the best of times, it was the worst of times. "):rep(200)

local function unbrotli(bytes)
  local decoder = ffi.load("libbrotlidec.so.1")
  local into, size = ffi.new("uint8_t[?]", 1048576), ffi.new("size_t[1]", 1048576)
  assert(decoder.BrotliDecoderDecompress(#bytes, bytes, size, into) == 1, "not whole")
  return ffi.string(into, size[0])
end

local function gunzip(bytes)
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  file:write(bytes)
  file:close()
  local pipe = assert(io.popen("gzip -dc < '" .. path .. "'"))
  local text = pipe:read("*a")
  pipe:close()
  os.remove(path)
  return text
end

describe("compression", function()
  local gw, answer_headers, body

  before_each(function()
    answer_headers, body = { ["Content-Type"] = "text/plain", ETag = '"one"' }, TEXT
    gw = moongate.gateway { files = { ["gateway.lua"] = config },
      backends = { origin = function() return 200, answer_headers, body end } }
  end)

  after_each(function()
    gw:close()
  end)

  local function get(path, accept)
    return gw:get(path, { headers = { ["Accept-Encoding"] = accept } })
  end

  it("is br where the client takes both", function()
    local answer = get("/x", "gzip, deflate, br")
    assert.equal("br", answer.headers["content-encoding"])
    assert.equal("Accept-Encoding", answer.headers.vary)
    assert.equal('W/"one"', answer.headers.etag)
    assert.equal(TEXT, unbrotli(answer.body))
    assert.is_true(#answer.body < #TEXT / 10)
  end)

  it("is gzip where the client takes that, or prefers it", function()
    assert.equal(TEXT, gunzip(get("/x", "gzip").body))
    local answer = get("/x", "br;q=0.5, gzip;q=0.9")
    assert.equal("gzip", answer.headers["content-encoding"])
    assert.equal(TEXT, gunzip(answer.body))
  end)

  it("goes over replies of the gateway, with their length", function()
    local answer = get("/reply", "gzip")
    assert.equal(("reply "):rep(500), gunzip(answer.body))
    assert.equal(tostring(#answer.body), answer.headers["content-length"])
  end)

  for _, case in ipairs {
    { "where the client does not say so", nil },
    { "where it refuses", "br;q=0, gzip;q=0" },
    { "where it prefers the bytes as they are", "identity, gzip;q=0.1" },
  } do
    it("is off " .. case[1] .. ", and Vary tells it all the same", function()
      local answer = get("/x", case[2])
      assert.is_nil(answer.headers["content-encoding"])
      assert.equal("Accept-Encoding", answer.headers.vary)
      assert.equal('"one"', answer.headers.etag)
      assert.equal(TEXT, answer.body)
    end)
  end

  for _, case in ipairs {
    { "what is encoded already", { ["Content-Type"] = "text/plain", ["Content-Encoding"] = "zstd" } },
    { "types that are compressed by themselves", { ["Content-Type"] = "image/png" } },
    { "event streams", { ["Content-Type"] = "text/event-stream" } },
    { "what says no-transform", { ["Content-Type"] = "text/plain",
      ["Cache-Control"] = "public, no-transform" } },
    { "what a digest was made of", { ["Content-Type"] = "text/plain",
      ["Content-Digest"] = "sha-256=:AAAA:" } },
    { "what a digest of the representation was made of", { ["Content-Type"] = "text/plain",
      ["Repr-Digest"] = "sha-256=:AAAA:" } },
  } do
    it("leaves " .. case[1], function()
      answer_headers = case[2]
      local answer = get("/x", "br, gzip")
      assert.equal(case[2]["Content-Encoding"], answer.headers["content-encoding"])
      assert.equal(TEXT, answer.body)
    end)
  end

  it("leaves short bodies", function()
    body = "short"
    assert.is_nil(get("/x", "br").headers["content-encoding"])
  end)

  it("is switched off by a route, and by streaming", function()
    assert.is_nil(get("/off/x", "br").headers["content-encoding"])
    assert.is_nil(get("/streaming/x", "br").headers["content-encoding"])
  end)

  it("follows the innermost configuration", function()
    assert.is_nil(get("/gzip/x", "br, gzip").headers["content-encoding"])
    answer_headers = { ["Content-Type"] = "application/x-own; v=1", Vary = "Origin" }
    local answer = get("/gzip/x", "br, gzip")
    assert.equal("gzip", answer.headers["content-encoding"])
    assert.equal("Origin, Accept-Encoding", answer.headers.vary)
  end)

  it("tells HEAD what it would be of, and sends nothing", function()
    local bytes = gw:raw("HEAD /x HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br, gzip\r\n\r\n")
    assert.matches("^HTTP/1.1 200 ", bytes)
    assert.matches("\r\nVary: Accept%-Encoding\r\n", bytes)
    assert.matches("\r\n\r\n$", bytes)
  end)

  it("tells HEAD of the representation that GET would get, and no length that is not its own", function()
    for _, path in ipairs { "/x", "/reply" } do
      local bytes = gw:raw(("HEAD %s HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n"):format(path))
      assert.matches("\r\nContent%-Encoding: gzip\r\n", bytes)
      assert.not_matches("Content%-Length", bytes)
      assert.equal(path == "/x" and 'W/"one"' or nil, bytes:match("\r\nETag: ([^\r]+)"))
    end
    local plain = gw:raw("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert.matches("\r\nContent%-Length: " .. #TEXT .. "\r\n", plain)
    assert.not_matches("Content%-Encoding", plain)
  end)

  it("leaves parts of a representation, and does not offer parts of what it has changed", function()
    local status
    gw:close()
    gw = moongate.gateway { files = { ["gateway.lua"] = config }, backends = { origin = function(request)
      status = request.headers.range and 206 or 200
      return status, { ["Content-Type"] = "text/plain", ETag = '"one"', ["Accept-Ranges"] = "bytes",
        ["Content-Range"] = status == 206 and ("bytes 0-%d/%d"):format(#TEXT - 1, #TEXT) or nil }, TEXT
    end } }
    local part = gw:get("/x", { headers = { ["Accept-Encoding"] = "gzip", Range = "bytes=0-" } })
    assert.equal(206, part.status)
    assert.is_nil(part.headers["content-encoding"])
    assert.equal('"one"', part.headers.etag)
    assert.equal(TEXT, part.body)
    local whole = get("/x", "gzip")
    assert.equal("gzip", whole.headers["content-encoding"])
    assert.is_nil(whole.headers["accept-ranges"])
  end)

  it("passes 304 on to a client that asks by the weak tag it was given", function()
    local asked
    gw:close()
    gw = moongate.gateway { files = { ["gateway.lua"] = config }, backends = { origin = function(request)
      asked = request.headers["if-none-match"]
      return 304, { ETag = '"one"' }, ""
    end } }
    local answer = gw:get("/x", { headers = { ["Accept-Encoding"] = "gzip", ["If-None-Match"] = 'W/"one"' } })
    assert.equal(304, answer.status)
    assert.equal('W/"one"', asked)
    assert.equal('W/"one"', answer.headers.etag)
    assert.equal("Accept-Encoding", answer.headers.vary)
    answer = gw:get("/x", { headers = { ["Accept-Encoding"] = "gzip", ["If-None-Match"] = '"one"' } })
    assert.equal('"one"', answer.headers.etag)
    answer = gw:get("/x", { headers = { ["Accept-Encoding"] = "gzip", ["If-None-Match"] = 'W/"one"' } })
    assert.is_nil(answer.headers["content-encoding"])
    assert.equal("", answer.body)
  end)

  it("is not asked of the backend where policies read the answer, and the client has its own all the same", function()
    local asked
    local policies = {
      { 'outbound = { p.validate_content { schema = { type = "array" } } }', "identity" },
      { 'outbound = { p.find_and_replace { from = "best", to = "most" } }', "identity" },
      { 'outbound = { p.rewrite_links { hosts = { "origin.test" } } }', "identity" },
      { 'backend = { p.retry { count = 1, on = { 502 }, p.forward_request {} } }, '
        .. 'outbound = { p.when("true", { p.json_to_xml { apply = "always" } }) }', "identity" },
      { 'backend = { p.forward_request { buffer_response = true } }', "gzip" },
      { 'outbound = { p.set_header { name = "X", value = "y" } }', "gzip" },
    }
    for _, one in ipairs(policies) do
      gw:close()
      gw = moongate.gateway { files = { ["gateway.lua"] = 'local p = require("moongate.policies")'
        .. config:gsub('{ path = "/%*", backend = "origin" }', function()
          return ('{ path = "/*", backend = "origin", policies = { inbound = { p.cache { ttl = 60 } }, %s } }')
            :format(one[1])
        end) }, backends = { origin = function(request)
          asked = request.headers["accept-encoding"]
          return 200, { ["Content-Type"] = "application/json", Vary = "Accept-Encoding" },
            '["' .. ("best "):rep(500) .. '"]'
        end } }
      local headers = { ["Accept-Encoding"] = "gzip", Accept = "application/json, application/xml" }
      local answer = gw:get("/x", { headers = headers })
      assert.same({ 200, "gzip", one[2] }, { answer.status, answer.headers["content-encoding"], asked }, one[1])
      asked = "nobody"
      assert.equal("gzip", gw:get("/x", { headers = headers }).headers["content-encoding"])
      assert.equal("nobody", asked) -- out of the cache, Vary or not
    end
  end)

  it("sends each piece on when it comes", function()
    local wire = require("spec.support.wire")
    local origin = wire.origin()
    gw:close()
    gw = moongate.gateway { files = {
      ["gateway.lua"] = config:gsub("127.0.0.1:1\"", "127.0.0.1:" .. origin.port .. "\"") } }
    local first = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
      .. "6\r\n{1:2}\n\r\n"
    local got = wire.exchange(gw, origin, "GET /x HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n",
      { origin = { answer = first }, is_over = function(bytes) return bytes:find("\0\0\255\255\r\n", 1, true) end })
    assert.matches("\0\0\255\255\r\n$", got.bytes) -- flushed: what it was can be read by now
    origin:close()
  end)
end)
