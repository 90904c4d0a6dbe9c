-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local lib = helper.lib [[
void moon_hash_set_key(const uint64_t key[2]);
void moon_hash_get_key(uint64_t key[2]);
uint64_t moon_hash(struct moon_slice bytes);
uint64_t moon_hash_nocase(struct moon_slice bytes);
void moon_random_bytes(void *into, size_t n);
uint64_t moon_random_fast(void);
void moon_random_seed(uint64_t seed);
]]

describe("base/hash", function()
  local before = ffi.new("uint64_t[2]")
  setup(function()
    lib.moon_hash_get_key(before)
  end)
  teardown(function()
    lib.moon_hash_set_key(before)
  end)

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
    lib.moon_hash_set_key(ffi.new("uint64_t[2]", { 1, 2 }))
    assert.is_true(lib.moon_hash(helper.slice "key") ~= one)
    local key = ffi.new("uint64_t[2]")
    lib.moon_hash_get_key(key)
    assert.is_true(key[0] == 1 and key[1] == 2)
  end)

  it("folds ASCII case where asked", function()
    for len = 0, 30 do
      local text = ("aZ-9\195"):rep(6):sub(1, len)
      assert.is_true(lib.moon_hash_nocase(helper.slice(text:lower()))
        == lib.moon_hash_nocase(helper.guarded_slice(text:upper())))
    end
    assert.is_true(lib.moon_hash_nocase(helper.slice "@") ~= lib.moon_hash_nocase(helper.slice "`"))
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
