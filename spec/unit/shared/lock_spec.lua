-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local shared = require("spec.unit.shared.support")
local C = shared.C

describe("lock", function()
  local region, lock

  before_each(function()
    region = shared.region(1048576)
    lock = ffi.cast("struct moon_lock *", C.moon_region_carve(region, "lock", 64))
    C.moon_lock_init(lock)
  end)

  it("lets one process in at a time", function()
    local count = ffi.cast("volatile int64_t *", C.moon_region_carve(region, "count", 8))
    shared.together(4, function()
      for _ = 1, 20000 do
        assert(C.moon_lock_take(lock))
        count[0] = count[0] + 1
        C.moon_lock_give(lock)
      end
    end)
    assert.equal(80000, tonumber(count[0]))
  end)

  it("tells the next one that its holder was killed, and works on", function()
    local pid = shared.child(function()
      assert(C.moon_lock_take(lock))
      ffi.C.kill(ffi.C.getpid(), shared.KILL)
    end)
    assert.equal(shared.KILL, shared.wait(pid))
    assert.is_false(C.moon_lock_take(lock))
    C.moon_lock_give(lock)
    assert.is_true(C.moon_lock_take(lock))
    C.moon_lock_give(lock)
  end)
end)

describe("region", function()
  it("carves cleared parts on cache lines until it is full", function()
    local region = shared.region(65536)
    local left = tonumber(C.moon_region_left(region))
    assert.is_true(left >= 65536)
    for _ = 1, 10 do
      local part = ffi.cast("uint8_t *", C.moon_region_carve(region, "part", 100))
      assert.equal(0, tonumber(ffi.cast("uintptr_t", part) % 64))
      assert.equal(0, part[0] + part[99])
    end
    assert.is_true(tonumber(C.moon_region_left(region)) <= left - 1000)
  end)

  it("shows every process the same memory at the same address", function()
    local region = shared.region(65536)
    local word = ffi.cast("int64_t *", C.moon_region_carve(region, "word", 8))
    shared.together(1, function()
      word[0] = 42
    end)
    assert.equal(42, tonumber(word[0]))
  end)
end)
