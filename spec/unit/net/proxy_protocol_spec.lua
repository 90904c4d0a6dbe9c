-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local C = helper.lib([[
struct moon_proxy_header {
  int version; bool has_addresses; struct moon_ip source, destination;
  uint16_t source_port, destination_port;
  struct moon_slice alpn, authority, unique_id, azure_endpoint; bool is_tls;
};
int moon_proxy_parse(struct moon_slice bytes, struct moon_proxy_header *out, size_t *consumed);
size_t moon_proxy_write(const struct moon_proxy_header *header, char into[128]);
size_t moon_ip_format(const struct moon_ip *ip, char into[46]);
bool moon_ip_parse(struct moon_slice text, struct moon_ip *out);
]])

local header, consumed = ffi.new("struct moon_proxy_header"), ffi.new("size_t[1]")

local function parse(bytes)
  local rc = C.moon_proxy_parse(helper.guarded_slice(bytes), header, consumed)
  return helper.rc(rc), rc == 0 and tonumber(consumed[0]) or nil
end

local function ip(address)
  local into = ffi.new("char[46]")
  return ffi.string(into, C.moon_ip_format(address, into))
end

local function told()
  if not header.has_addresses then
    return "none"
  end
  return ("%s:%d %s:%d"):format(ip(header.source), header.source_port, ip(header.destination),
    header.destination_port)
end

local SIGNATURE = "\r\n\r\n\0\r\nQUIT\n"

local function u16(n)
  return string.char(math.floor(n / 256), n % 256)
end

local function v2(command, family, body)
  return SIGNATURE .. string.char(command, family) .. u16(#body) .. body
end

local function tlv(type, value)
  return string.char(type) .. u16(#value) .. value
end

local inet = "\192\0\2\1\198\51\100\7" .. u16(5000) .. u16(443)
local inet6 = "\32\1\13\184" .. ("\0"):rep(11) .. "\1" .. "\32\1\13\184" .. ("\0"):rep(11) ..
  "\2" .. u16(1) .. u16(65535)

describe("PROXY protocol version 1", function()
  for line, want in pairs({
    ["PROXY TCP4 192.0.2.1 198.51.100.7 5000 443\r\n"] = "192.0.2.1:5000 198.51.100.7:443",
    ["PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"] = "2001:db8::1:1 2001:db8::2:65535",
    ["PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"] =
      "255.255.255.255:65535 255.255.255.255:65535",
    ["PROXY UNKNOWN\r\n"] = "none",
    ["PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"] = "none",
  }) do
    it("reads " .. line:sub(1, -3), function()
      assert.same({ "ok", #line }, { parse(line .. "GET / HTTP/1.1\r\n") })
      assert.equal(want, told())
      assert.equal(1, header.version)
      for n = 0, #line - 1 do
        assert.equal("again", (parse(line:sub(1, n))))
      end
    end)
  end

  it("refuses what is malformed", function()
    for _, line in ipairs({
      "GET / HTTP/1.1\r\n", "PROXY\r\n", "PROXY \r\n", "PROXY TCP4\r\n",
      "PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
      "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
      "PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n", "PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
      "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
      "PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
      "PROXY TCP6 [::1] ::1 1 2\r\n", "PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n",
      "PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n", "proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
      "PROXY " .. ("x"):rep(200), "PROXY UNKNOWN" .. ("x"):rep(100) .. "\r\n", "PROXY UNKNOWNS\r\n",
    }) do
      assert.equal("bad_request", (parse(line)), line)
    end
  end)
end)

describe("PROXY protocol version 2", function()
  it("reads addresses of both families, at every cut of the bytes", function()
    for bytes, want in pairs({
      [v2(0x21, 0x11, inet)] = "192.0.2.1:5000 198.51.100.7:443",
      [v2(0x21, 0x21, inet6)] = "2001:db8::1:1 2001:db8::2:65535",
      [v2(0x21, 0x31, ("u"):rep(216))] = "none",
      [v2(0x20, 0x00, "")] = "none",
      [v2(0x20, 0x11, inet)] = "none",
      [v2(0x21, 0x00, "whatever")] = "none",
    }) do
      assert.same({ "ok", #bytes }, { parse(bytes .. "rest") })
      assert.equal(want, told())
      assert.equal(2, header.version)
      for n = 0, #bytes - 1 do
        assert.equal("again", (parse(bytes:sub(1, n))))
      end
    end
  end)

  it("reads extensions", function()
    local bytes = v2(0x21, 0x11, inet .. tlv(1, "h2") .. tlv(2, "api.test") .. tlv(5, "id-1") ..
      tlv(0x20, "\1\0\0\0\0") .. tlv(4, "pad") .. tlv(0xee, "\1\4\3\2\1"))
    assert.equal("ok", (parse(bytes)))
    assert.equal("h2", helper.text(header.alpn))
    assert.equal("api.test", helper.text(header.authority))
    assert.equal("id-1", helper.text(header.unique_id))
    assert.equal("\4\3\2\1", helper.text(header.azure_endpoint))
    assert.is_true(header.is_tls)
  end)

  it("checks the checksum where there is one", function()
    -- CRC-32C by the definition, bit by bit
    local bit = require("bit")
    local function crc32c(text)
      local crc = -1
      for i = 1, #text do
        crc = bit.bxor(crc, text:byte(i))
        for _ = 1, 8 do
          local low = bit.band(crc, 1)
          crc = bit.rshift(crc, 1)
          if low == 1 then
            crc = bit.bxor(crc, 0x82f63b78)
          end
        end
      end
      crc = bit.bnot(crc)
      return string.char(bit.band(bit.rshift(crc, 24), 255), bit.band(bit.rshift(crc, 16), 255),
        bit.band(bit.rshift(crc, 8), 255), bit.band(crc, 255))
    end
    assert.equal("\xe3\x06\x92\x83", crc32c("123456789")) -- the published check value
    local sum = crc32c(v2(0x21, 0x11, inet .. tlv(3, "\0\0\0\0")))
    assert.equal("ok", (parse(v2(0x21, 0x11, inet .. tlv(3, sum)))))
    assert.equal("bad_request", (parse(v2(0x21, 0x11, inet .. tlv(3, "\1\2\3\4")))))
  end)

  it("refuses what is malformed", function()
    for i, bytes in ipairs({
      SIGNATURE:sub(1, 11) .. "x", v2(0x11, 0x11, inet), v2(0x22, 0x11, inet),
      v2(0x21, 0x11, "short"),
      v2(0x21, 0x21, inet), v2(0x21, 0x12, inet), v2(0x21, 0x41, inet), v2(0x21, 0x31, inet),
      v2(0x21, 0x11, inet .. "\1"), v2(0x21, 0x11, inet .. "\1\0\9ab"),
      v2(0x21, 0x11, inet .. tlv(3, "x")),
      v2(0x21, 0x11, inet .. tlv(5, ("x"):rep(129))), v2(0x21, 0x11, inet .. tlv(0x20, "\1")),
      SIGNATURE .. "\33\17" .. u16(5000),
    }) do
      assert.equal("bad_request", (parse(bytes)), i)
    end
  end)
end)

describe("writing the PROXY protocol", function()
  local function write(version, source, destination)
    local h, into = ffi.new("struct moon_proxy_header"), ffi.new("char[128]")
    h.version, h.has_addresses = version, source ~= nil
    h.source_port, h.destination_port = 5000, 443
    if source then
      assert(C.moon_ip_parse(helper.slice(source), h.source))
      assert(C.moon_ip_parse(helper.slice(destination), h.destination))
    end
    return ffi.string(into, C.moon_proxy_write(h, into))
  end

  it("gives what the parser reads", function()
    for version = 1, 2 do
      for _, pair in ipairs({ { "192.0.2.1", "198.51.100.7" }, { "2001:db8::1", "2001:db8::2" },
        { "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0" },
        { "192.0.2.1", "2001:db8::2" } }) do
        local bytes = write(version, pair[1], pair[2])
        assert.same({ "ok", #bytes }, { parse(bytes) }, bytes)
        assert.equal(("%s:5000 %s:443"):format(pair[1], pair[2]), told())
      end
      assert.equal("ok", (parse(write(version))))
      assert.equal("none", told())
    end
    assert.equal("PROXY TCP4 192.0.2.1 198.51.100.7 5000 443\r\n",
      write(1, "192.0.2.1", "198.51.100.7"))
  end)
end)
