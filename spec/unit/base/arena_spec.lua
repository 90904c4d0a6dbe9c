-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local lib = helper.lib [[
void *moon_arena_zalloc(struct moon_arena *arena, size_t size);
bool moon_arena_copy(struct moon_arena *arena, struct moon_slice from, struct moon_slice *out);
bool moon_arena_join(struct moon_arena *arena, const struct moon_slice *parts, size_t count,
                     struct moon_slice *out);
struct moon_slice moon_arena_printf(struct moon_arena *arena, const char *fmt, ...);
]]

describe("base/arena", function()
  it("gives memory that is aligned and does not overlap", function()
    local arena, blocks = helper.arena(), {}
    for i = 1, 500 do
      local size = (i * 37) % 3000
      local p = lib.moon_arena_alloc(arena, size)
      assert.is_true(p ~= nil)
      assert.equal(0, tonumber(ffi.cast("uintptr_t", p) % 16))
      ffi.fill(p, size, i % 256)
      blocks[i] = { ffi.cast("uint8_t *", p), size }
    end
    for i, block in ipairs(blocks) do
      for _, at in ipairs { 0, block[2] - 1 } do
        if at >= 0 and block[2] > 0 then
          assert.equal(i % 256, block[1][at])
        end
      end
    end
  end)

  it("stops at its ceiling and can be used again", function()
    local arena = helper.arena(1000)
    assert.is_true(lib.moon_arena_alloc(arena, 1001) == nil)
    assert.is_true(lib.moon_arena_alloc(arena, -1ULL) == nil)
    assert.is_true(lib.moon_arena_alloc(arena, 600) ~= nil)
    assert.is_true(lib.moon_arena_alloc(arena, 401) == nil)
    assert.is_true(lib.moon_arena_alloc(arena, 400) ~= nil)
    assert.is_true(lib.moon_arena_alloc(arena, 1) == nil)
    lib.moon_arena_reset(arena)
    assert.equal(0, tonumber(arena.used_bytes))
    local p = ffi.cast("uint8_t *", lib.moon_arena_zalloc(arena, 1000))
    assert.is_true(p ~= nil and p[0] == 0 and p[999] == 0)
  end)

  it("copies, joins and formats", function()
    local arena, out = helper.arena(64), ffi.new("struct moon_slice")
    assert.is_true(lib.moon_arena_copy(arena, helper.slice "abc", out))
    assert.equal("abc", helper.text(out))
    assert.equal(0, out.data[3])
    local parts = ffi.new("struct moon_slice[3]", { helper.slice "x", helper.slice(),
      helper.slice "yz" })
    assert.is_true(lib.moon_arena_join(arena, parts, 3, out))
    assert.equal("xyz", helper.text(out))
    assert.equal("n=5", helper.text(lib.moon_arena_printf(arena, "n=%d", ffi.cast("int", 5))))
    assert.is_false(lib.moon_arena_copy(arena, helper.slice(("x"):rep(64)), out))
  end)
end)
