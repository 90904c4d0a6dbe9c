-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local C = helper.lib([[
bool moon_ja4(struct moon_slice client_hello, char into[37]);
]])

local function unhex(hex)
  return (hex:gsub("%x%x", function(byte)
    return string.char(tonumber(byte, 16))
  end))
end

--- The handshake message inside TLS records.
local function message(records)
  local parts, at = {}, 1
  while at + 5 <= #records and records:byte(at) == 22 do
    local n = records:byte(at + 3) * 256 + records:byte(at + 4)
    parts[#parts + 1] = records:sub(at + 5, at + 4 + n)
    at = at + 5 + n
  end
  return table.concat(parts)
end

local function ja4(bytes)
  local into = ffi.new("char[37]")
  local is_hello = C.moon_ja4(helper.guarded_slice(bytes), into)
  return ffi.string(into), is_hello
end

local function u16(n)
  return string.char(math.floor(n / 256), n % 256)
end

local function hello(ciphers, extensions, version)
  local list = {}
  for i, cipher in ipairs(ciphers) do
    list[i] = u16(cipher)
  end
  list = table.concat(list)
  local body = u16(version or 0x0303) .. ("r"):rep(32) .. "\0" .. u16(#list) .. list .. "\1\0"
  if extensions then
    local all = {}
    for i, e in ipairs(extensions) do
      all[i] = u16(e[1]) .. u16(#e[2]) .. e[2]
    end
    all = table.concat(all)
    body = body .. u16(#all) .. all
  end
  return "\1\0" .. u16(#body) .. body
end

describe("JA4", function()
  local path = helper.shared("conformance/ja4/vectors.json")

  it("agrees with the published vectors", function()
    if not path then
      pending("MOONGATE_SHARED has no JA4 vectors")
      return
    end
    local file = io.open(path)
    local json = file:read("*a")
    file:close()
    local count = 0
    for object in json:gmatch("{(.-)}") do
      local want = object:match('"ja4_by_the_text"%s*:%s*"([^"]+)"') or
        object:match('"ja4"%s*:%s*"([^"]+)"')
      local bytes = unhex(object:match('"client_hello"%s*:%s*"(%x+)"'))
      assert.equal(want, (ja4(message(bytes))), object:match('"from"%s*:%s*"([^"]+)"'))
      count = count + 1
    end
    assert.is_true(count >= 90)
  end)

  it("says no to every cut of a ClientHello, and reads nothing past it", function()
    local whole = hello({ 0x1301, 0xc02b }, { { 0, "\0\9\0\0\6a.test" }, { 16, "\0\3\2h2" },
      { 13, "\0\2\4\3" }, { 43, "\2\3\4" } })
    assert.matches("^t13d0204h2_%x+_%x+$", (ja4(whole)))
    for n = 0, #whole - 1 do
      local text, is_hello = ja4(whole:sub(1, n))
      assert.is_false(is_hello)
      assert.equal("", text)
    end
  end)

  it("says no to what is no ClientHello", function()
    assert.is_false(select(2, ja4("\2" .. hello({ 0x1301 }):sub(2))))
    assert.is_false(select(2, ja4(("\255"):rep(100))))
  end)

  it("fills zeros where there is nothing to hash", function()
    assert.equal("t12i000000_000000000000_000000000000", (ja4(hello({}))))
    assert.equal("t12i000000_000000000000_000000000000",
      (ja4(hello({ 0x0a0a }, { { 0x1a1a, "" } }))))
  end)

  it("does not care for the order of ciphers and extensions, nor for GREASE", function()
    local a = ja4(hello({ 0x1301, 0xc02b }, { { 5, "" }, { 23, "" } }))
    local b = ja4(hello({ 0xfafa, 0xc02b, 0x1301 }, { { 0x2a2a, "x" }, { 23, "" }, { 5, "" } }))
    assert.equal(a, b)
  end)

  it("writes a protocol that is no text in hex", function()
    local function alpn(protocol)
      local list = string.char(#protocol) .. protocol
      return ja4(hello({ 1 }, { { 16, u16(#list) .. list } })):sub(9, 10)
    end
    assert.equal("h1", alpn("http/1.1"))
    assert.equal("bd", alpn("\xb0\x0d"))
    assert.equal("6f", alpn("h\x0f"))
    assert.equal("xx", alpn("x"))
  end)

  it("counts no further than 99, and survives thousands", function()
    local many = {}
    for i = 1, 3000 do
      many[i] = i
    end
    assert.matches("^t12i9900", (ja4(hello(many))))
  end)
end)
