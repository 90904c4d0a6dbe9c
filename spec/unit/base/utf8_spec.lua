-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local lib = helper.lib [[
size_t moon_utf8_length(const char *at, size_t left);
bool moon_utf8_is_valid(struct moon_slice s);
size_t moon_utf8_encode(uint32_t code, char *into);
]]

describe("base/utf8", function()
  it("encodes every code point so that it reads back, and no surrogate", function()
    local into = ffi.new("char[4]")
    for code = 0, 0x110100 do
      local n = tonumber(lib.moon_utf8_encode(code, into))
      local is_scalar = code <= 0x10FFFF and (code < 0xD800 or code > 0xDFFF)
      if is_scalar then
        local want = code < 0x80 and 1 or code < 0x800 and 2 or code < 0x10000 and 3 or 4
        if n ~= want or lib.moon_utf8_length(into, n) ~= n then
          assert.equal(want, n, code)
        end
        if n > 1 and lib.moon_utf8_length(into, n - 1) ~= 0 then
          assert.equal(0, "a sequence that is cut short was taken")
        end
      elseif n ~= 0 then
        assert.equal(0, n, code)
      end
    end
  end)

  it("refuses what is no UTF-8", function()
    for _, bytes in ipairs { "\128", "\191", "\192\128", "\193\191", "\194", "\194A",
      "\224\128\128",
      "\224\159\191", "\237\160\128", "\237\191\191", "\239\191", "\240\128\128\128",
      "\240\143\191\191", "\244\144\128\128", "\245\128\128\128", "\255", "\254", "a\226\130",
      "\226(\161" } do
      assert.is_false(lib.moon_utf8_is_valid(helper.guarded_slice(bytes)))
    end
    for _, bytes in ipairs { "", "abc", "\0", "\194\128", "\224\160\128", "\237\159\191",
      "\238\128\128", "\240\144\128\128", "\244\143\191\191" } do
      assert.is_true(lib.moon_utf8_is_valid(helper.guarded_slice(bytes)))
    end
  end)
end)
