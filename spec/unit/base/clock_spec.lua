-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local lib = helper.lib [[
int64_t moon_clock_us(void);
int64_t moon_clock_wall_ms(void);
int64_t moon_clock_wall_ms_at(int64_t us);
int64_t moon_clock_cpu_us(void);
int64_t moon_clock_real_us(void);
void moon_clock_freeze(bool is_frozen);
void moon_clock_advance_us(int64_t us);
struct moon_slice moon_clock_http_date(int64_t wall_ms);
size_t moon_clock_iso(int64_t wall_ms, char *into);
bool moon_clock_parse_http_date(struct moon_slice text, int64_t *wall_ms);
]]

local function parse(text)
  local out = ffi.new("int64_t[1]")
  return lib.moon_clock_parse_http_date(helper.guarded_slice(text), out) and tonumber(out[0]) or nil
end

describe("base/clock", function()
  it("never runs backwards, stands still when frozen, and is moved by hand", function()
    local before = lib.moon_clock_us()
    lib.moon_clock_freeze(true)
    local frozen, wall = lib.moon_clock_us(), lib.moon_clock_wall_ms()
    assert.is_true(frozen >= before)
    local real = lib.moon_clock_real_us()
    while lib.moon_clock_real_us() - real < 2000 do
    end
    assert.is_true(lib.moon_clock_us() == frozen)
    lib.moon_clock_advance_us(60000000)
    assert.is_true(lib.moon_clock_us() == frozen + 60000000)
    assert.is_true(lib.moon_clock_wall_ms() == wall + 60000)
    lib.moon_clock_freeze(false)
    assert.is_true(lib.moon_clock_us() >= frozen + 60000000)
    assert.is_true(lib.moon_clock_cpu_us() > 0)
  end)

  it("tells the wall time of a moment", function()
    local function is_near(shift_us)
      local off = math.huge
      for _ = 1, 20 do -- between two looks at the clock the machine may stand
        local us, wall = lib.moon_clock_us(), lib.moon_clock_wall_ms()
        local at = lib.moon_clock_wall_ms_at(us + shift_us)
        off = math.min(off, math.abs(tonumber(at - wall) - shift_us / 1000))
      end
      assert.is_true(off <= 50, off .. " ms off")
    end
    is_near(0)
    is_near(-50000)
    is_near(5000000)
    lib.moon_clock_advance_us(3600000000)
    is_near(0)
    lib.moon_clock_freeze(true)
    lib.moon_clock_advance_us(3600000000)
    assert.is_true(lib.moon_clock_wall_ms_at(lib.moon_clock_us()) == lib.moon_clock_wall_ms())
    lib.moon_clock_freeze(false)
    is_near(0)
  end)

  it("writes dates", function()
    assert.equal("Sun, 06 Nov 1994 08:49:37 GMT",
      helper.text(lib.moon_clock_http_date(784111777123LL)))
    assert.equal("Thu, 01 Jan 1970 00:00:00 GMT", helper.text(lib.moon_clock_http_date(0)))
    assert.equal("Tue, 29 Feb 2028 23:59:59 GMT",
      helper.text(lib.moon_clock_http_date(1835481599999LL)))
    local into = ffi.new("char[30]")
    assert.equal("1994-11-06T08:49:37.123Z",
      ffi.string(into, lib.moon_clock_iso(784111777123LL, into)))
  end)

  it("reads dates in the three forms", function()
    assert.equal(784111777000, parse "Sun, 06 Nov 1994 08:49:37 GMT")
    assert.equal(784111777000, parse "Sunday, 06-Nov-94 08:49:37 GMT")
    assert.equal(784111777000, parse "Sun Nov  6 08:49:37 1994")
    for day = 0, 20000, 97 do
      local text = helper.text(lib.moon_clock_http_date(day * 86400000LL + 45296000))
      assert.equal(day * 86400000 + 45296000, parse(text), text)
    end
  end)

  it("reads them without regard to case, and UTC as GMT", function()
    assert.equal(784111777000, parse "SUN, 06 NOV 1994 08:49:37 gmt")
    assert.equal(784111777000, parse "Sun, 06 Nov 1994 08:49:37 UTC")
    assert.equal(784111777000, parse "Sunday, 06-nov-94 08:49:37 Utc")
  end)

  it("refuses dates that are none", function()
    for _, text in ipairs { "", "now", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 24:00:00 GMT",
      "Sun, 32 Nov 1994 08:49:37 GMT", "Sun, 31 Feb 1994 08:49:37 GMT",
      "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET", "0", "-1",
      "Sun, 06 Nov 1994 08:49:37 GMT x" } do
      assert.is_nil(parse(text), text)
    end
  end)
end)
