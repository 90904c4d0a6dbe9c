-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local shared = require("spec.unit.shared.support")
local helper = shared.helper

local C = helper.lib([[
struct moon_ip { uint8_t bytes[16]; };
bool moon_ip_parse(struct moon_slice text, struct moon_ip *out);
struct moon_flood;
struct moon_flood *moon_flood_new(struct moon_region *region);
size_t moon_flood_bytes(void);
struct moon_flood_conf {
  int sensitivity; double minimum_rate, threshold, minimum_client; int64_t learn_ms, penalty_ms;
};
int moon_flood_site(struct moon_flood *flood, struct moon_slice name);
int moon_flood_check(struct moon_flood *flood, int site, const struct moon_flood_conf *conf,
  const struct moon_ip *ip, bool is_suspect, int64_t now_ms, int64_t wall_ms, int64_t *retry_ms);
void moon_flood_hold(struct moon_flood *flood, struct moon_slice site, const struct moon_ip *ip,
  int64_t now_ms, int64_t penalty_ms);
struct moon_flood_report {
  double rate, usual, threshold, client_usual; int64_t learnt_ms; bool is_flooded; size_t boxed;
  uint64_t held, refused;
};
void moon_flood_read(struct moon_flood *flood, int site, int64_t now_ms, struct moon_flood_report *out);
void moon_flood_sweep(struct moon_flood *flood, int64_t now_ms);
bool moon_flood_is_reader(struct moon_flood *flood, const void *asker, int64_t now_ms);
bool moon_flood_is_teller(struct moon_flood *flood, int site, const void *asker, int64_t now_ms);
]])

local PASS, HELD, BOXED = 0, 1, 2

local function address(text)
  local ip = ffi.new("struct moon_ip")
  assert(C.moon_ip_parse(helper.slice(text), ip))
  return ip
end

describe("flood", function()
  local flood, site, conf, retry_ms

  before_each(function()
    flood = C.moon_flood_new(shared.region(tonumber(C.moon_flood_bytes()) + 1048576))
    assert(flood ~= nil)
    site = C.moon_flood_site(flood, helper.slice("shop"))
    conf = ffi.new("struct moon_flood_conf", { 1, 20, 0, 2, 10000, 60000 })
    retry_ms = ffi.new("int64_t[1]")
  end)

  -- The cells of addresses are the last of the table; each starts with its key.
  local function cells()
    local count, bytes = 65536 + 16, 64
    local at = ffi.cast("char *", flood) + (tonumber(C.moon_flood_bytes()) - count * bytes)
    return function(i)
      return ffi.cast("uint64_t *", at + i * bytes)
    end, count
  end

  local function ask(ip, now_ms, is_suspect)
    return C.moon_flood_check(flood, site, conf, ip, is_suspect or false, now_ms, now_ms, retry_ms)
  end

  local function report(now_ms)
    local out = ffi.new("struct moon_flood_report")
    C.moon_flood_read(flood, site, now_ms, out)
    return out
  end

  local function sweep_all(now_ms)
    for i = 1, 16 do
      C.moon_flood_sweep(flood, now_ms + i * 300)
    end
  end

  --- Ten callers, one request a second each, for so many seconds; gives the time after.
  local function ordinary(seconds, from_ms)
    for second = 0, seconds - 1 do
      for i = 1, 10 do
        assert.equal(PASS, ask(address("10.0.0." .. i), from_ms + second * 1000 + i * 90))
      end
    end
    return from_ms + seconds * 1000
  end

  it("goes on counting beside a cell whose maker has died", function()
    local ip, cell, count = address("192.0.2.77"), cells()
    ask(ip, 1000)
    local home = 0
    while cell(home)[0] == 0 do
      home = home + 1
      assert(home < count)
    end
    local key = cell(home)[0]
    cell(home)[0] = 1
    for i = 1, 15 do
      cell(home + i)[0] = 2 + 4 * i
      cell(home + i)[4] = 2000 -- used later than the first
    end
    ask(ip, 3000)
    local is_counted = false
    for i = 0, 15 do
      is_counted = is_counted or cell(home + i)[0] == key
    end
    assert.is_true(is_counted)
  end)

  it("holds who asks far more than others while the site is flooded, and nobody else", function()
    local now = ordinary(30, 1000000)
    local flooder, verdicts = address("10.9.9.9"), {}
    for i = 1, 300 do -- a hundred a second
      local verdict = ask(flooder, now + i * 10)
      verdicts[verdict] = (verdicts[verdict] or 0) + 1
    end
    assert.equal(1, verdicts[HELD])
    assert.is_true(verdicts[BOXED] > 150)
    assert.is_true(report(now + 3000).is_flooded)
    assert.equal(10, math.floor(report(now + 3000).usual + 0.5)) -- the flood has taught it nothing
    ordinary(3, now + 3000)
    assert.equal(BOXED, ask(flooder, now + 30000))
    assert.is_true(retry_ms[0] > 0 and retry_ms[0] <= 60000)
    assert.equal(PASS, ask(flooder, now + 90000))
  end)

  it("does nothing before it has learnt, nor below the least rate", function()
    local one = address("10.9.9.9")
    for i = 1, 500 do
      assert.equal(PASS, ask(one, 1000000 + i * 10))
    end
    local now = ordinary(30, 2000000)
    for i = 1, 9 do -- with the ten of the second before: fewer than twenty
      assert.equal(PASS, ask(one, now + i * 100))
    end
  end)

  it("takes over whom another node holds, for sites that it has", function()
    local one, other = address("10.1.1.1"), address("2001:db8::1")
    C.moon_flood_hold(flood, helper.slice("shop"), one, 1000, 60000)
    C.moon_flood_hold(flood, helper.slice("shop"), other, 1000, 60000)
    C.moon_flood_hold(flood, helper.slice("shop"), one, 1000, 10) -- a shorter stay changes nothing
    C.moon_flood_hold(flood, helper.slice("none"), one, 1000, 60000)
    assert.equal(BOXED, ask(one, 50000))
    assert.equal(BOXED, ask(address("2001:db8::ffff"), 50000)) -- of the same /64
    assert.equal(PASS, ask(address("10.1.1.2"), 50000))
    assert.equal(PASS, ask(one, 61001))
    local elsewhere = C.moon_flood_site(flood, helper.slice("none"))
    assert.equal(PASS, C.moon_flood_check(flood, elsewhere, conf, one, false, 50000, 50000, retry_ms))
  end)

  it("counts who is in the box a part at a time", function()
    for i = 1, 50 do
      C.moon_flood_hold(flood, helper.slice("shop"), address("10.2.0." .. i), 1000, 60000)
    end
    sweep_all(1000)
    assert.equal(50, tonumber(report(6000).boxed))
    C.moon_flood_sweep(flood, 5801) -- too early for another part
    sweep_all(70000)
    assert.equal(0, tonumber(report(76000).boxed))
  end)

  it("has one reader and one teller, until they fall silent", function()
    local a, b = ffi.cast("void *", 1), ffi.cast("void *", 2)
    assert.is_true(C.moon_flood_is_reader(flood, a, 1000))
    assert.is_false(C.moon_flood_is_reader(flood, b, 2000))
    assert.is_true(C.moon_flood_is_reader(flood, a, 3000))
    assert.is_true(C.moon_flood_is_reader(flood, b, 7000))
    assert.is_false(C.moon_flood_is_reader(flood, a, 7001))
    assert.is_true(C.moon_flood_is_teller(flood, site, a, 1000))
    assert.is_false(C.moon_flood_is_teller(flood, site, b, 15000))
    assert.is_true(C.moon_flood_is_teller(flood, site, b, 16001))
  end)
end)
