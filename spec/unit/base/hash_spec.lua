-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local lib = helper.lib [[
void moon_hash_seed(void);
uint64_t moon_hash(struct moon_slice bytes);
void moon_hash128_list(uint64_t seed, const struct moon_slice *texts, size_t count, uint64_t out[2]);
void moon_random_bytes(void *into, size_t n);
uint64_t moon_random_fast(void);
void moon_random_seed(uint64_t seed);
]]

describe("base/hash", function()
  it("depends on every byte, the length and the key", function()
    local seen = {}
    for len = 0, 40 do
      local base = ("a"):rep(len)
      for at = 0, len do
        local text = at == 0 and base or (base:sub(1, at - 1) .. "b" .. base:sub(at + 1))
        local hash = tostring(lib.moon_hash(helper.guarded_slice(text)))
        assert.is_true(seen[hash] == nil or seen[hash] == text)
        seen[hash] = text
      end
    end
    local one = lib.moon_hash(helper.slice "key")
    lib.moon_hash_seed()
    assert.is_true(lib.moon_hash(helper.slice "key") ~= one)
  end)

  local function of_list(texts, seed)
    local count, out = texts.n or #texts, ffi.new("uint64_t[2]")
    local list = ffi.new("struct moon_slice[?]", count)
    for i = 1, count do
      list[i - 1] = texts[i] and helper.guarded_slice(texts[i]) or helper.slice(nil)
    end
    lib.moon_hash128_list(seed or 1, list, count, out)
    return tostring(out[0]) .. " " .. tostring(out[1])
  end

  it("tells lists apart, and where in them a text ends", function()
    local seen = {}
    local function is_new(texts, seed)
      local hash = of_list(texts, seed)
      assert.equal(hash, of_list(texts, seed))
      assert.is_nil(seen[hash])
      seen[hash] = true
    end
    for _, texts in ipairs({ {}, { "" }, { "", "" }, { n = 1 }, { n = 2 }, { "", n = 2 },
      { "ab", "c" }, { "a", "bc" }, { "abc" }, { "abc", "" }, { "", "abc" }, { "abc", n = 2 },
      { "\0" }, { "\0\0" }, { "abcdefgh", "\1\0\0\0\0\0\0\0x" },
      { "abcdefgh\9\0\0\0\0\0\0\0", "x" } }) do
      is_new(texts)
    end
    is_new({ "abc" }, 2)
    for len = 4, 40 do
      for at = 0, len do
        is_new({ ("a"):rep(at) .. "b" .. ("a"):rep(len - at) })
      end
    end
  end)

  it("draws bytes, and repeats itself from a seed", function()
    local a, b = ffi.new("uint8_t[32]"), ffi.new("uint8_t[32]")
    lib.moon_random_bytes(a, 32)
    lib.moon_random_bytes(b, 32)
    assert.not_equal(ffi.string(a, 32), ffi.string(b, 32))
    lib.moon_random_seed(42)
    local first, second = lib.moon_random_fast(), lib.moon_random_fast()
    assert.is_true(first ~= second)
    lib.moon_random_seed(42)
    assert.is_true(lib.moon_random_fast() == first)
  end)
end)
