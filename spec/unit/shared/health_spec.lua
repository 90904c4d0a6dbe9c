-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local shared = require("spec.unit.shared.support")
local helper = shared.helper

local C = helper.lib([[
struct moon_health;
struct moon_healths;
struct moon_healths *moon_healths_new(struct moon_region *region, size_t targets);
struct moon_health *moon_health_get(struct moon_healths *healths, struct moon_slice identity);
void moon_health_success(struct moon_health *health);
bool moon_health_failure(struct moon_health *health, uint32_t threshold, int64_t base_ms,
                         int64_t max_ms, bool may_eject, int64_t now_us, const char *reason);
void moon_healths_bind(struct moon_healths *healths, int worker);
bool moon_healths_lease(struct moon_healths *healths, int64_t now_us, int64_t for_us);
void moon_health_enter(struct moon_health *health);
bool moon_health_probed(struct moon_health *health, bool is_well, uint32_t passes,
                        uint32_t failures, int64_t now_us, int64_t valid_us, const char *reason);
bool moon_health_is_probed_down(const struct moon_health *health, int64_t now_us);
bool moon_health_is_usable(const struct moon_health *health, int64_t now_us);
const struct moon_health *moon_health_next(const struct moon_healths *healths, size_t *at);
]])

describe("health", function()
  local region, healths

  before_each(function()
    region = shared.region()
    healths = C.moon_healths_new(region, 100)
  end)

  local function get(name)
    return C.moon_health_get(healths, helper.slice(name))
  end

  it("finds a target by its identity, from any process", function()
    local a = get("http://10.0.0.1:80")
    assert.is_true(a ~= nil and a == get("http://10.0.0.1:80"))
    assert.is_true(a ~= get("http://10.0.0.2:80"))
    shared.together(2, function()
      assert(get("http://10.0.0.1:80") == a)
      for i = 1, 50 do
        assert(get("http://10.1.0." .. i) ~= nil)
      end
    end)
    local n, at = 0, ffi.new("size_t[1]")
    while C.moon_health_next(healths, at) ~= nil do
      n = n + 1
    end
    assert.equal(52, n)
  end)

  it("ejects after failures in a row, for longer each time, and forgets on success", function()
    local h = get("http://a")
    assert.is_false(C.moon_health_failure(h, 3, 1000, 0, true, 0, "reset"))
    C.moon_health_success(h)
    assert.is_false(C.moon_health_failure(h, 3, 1000, 0, true, 0, "reset"))
    assert.is_false(C.moon_health_failure(h, 3, 1000, 0, true, 0, "reset"))
    assert.is_true(C.moon_health_failure(h, 3, 1000, 0, true, 0, "reset"))
    assert.is_false(C.moon_health_is_usable(h, 999999))
    assert.is_true(C.moon_health_is_usable(h, 1000000))
    assert.is_true(C.moon_health_failure(h, 3, 1000, 0, true, 1000000, "reset"))
    assert.is_false(C.moon_health_is_usable(h, 2999999))
    assert.is_true(C.moon_health_is_usable(h, 3000000))
    C.moon_health_success(h)
    assert.is_true(C.moon_health_is_usable(h, 1000001))
  end)

  it("ejects once when workers fail at the same time", function()
    local h = get("http://a")
    local count = ffi.cast("int64_t *", C.moon_region_carve(region, "count", 64))
    shared.together(4, function(p)
      for _ = 1, 1000 do
        if C.moon_health_failure(h, 5, 1000000, 0, true, 0, "reset") then
          count[p] = count[p] + 1
        end
      end
    end)
    assert.equal(1, tonumber(count[1] + count[2] + count[3] + count[4]))
  end)

  it("counts a failure without ejecting where too many are out", function()
    local h = get("http://a")
    assert.is_false(C.moon_health_failure(h, 1, 1000, 0, false, 0, "reset"))
    assert.is_true(C.moon_health_is_usable(h, 1))
  end)

  it("changes by probes past their thresholds, and only while they go on", function()
    local h = get("http://a")
    assert.is_true(C.moon_health_probed(h, true, 2, 2, 0, 100, "status 200"))
    assert.is_false(C.moon_health_probed(h, false, 2, 2, 10, 100, "status 503"))
    assert.is_true(C.moon_health_probed(h, false, 2, 2, 20, 100, "status 503"))
    assert.is_true(C.moon_health_is_probed_down(h, 119))
    assert.is_false(C.moon_health_is_probed_down(h, 120)) -- nobody probes any more
    assert.is_false(C.moon_health_probed(h, true, 2, 2, 30, 100, "status 200"))
    assert.is_true(C.moon_health_probed(h, true, 2, 2, 40, 100, "status 200"))
    assert.is_true(C.moon_health_is_usable(h, 41))
  end)

  it("gives the lease to one worker, and to another when it is not renewed", function()
    C.moon_healths_bind(healths, 1)
    assert.is_true(C.moon_healths_lease(healths, 0, 100))
    C.moon_healths_bind(healths, 2)
    assert.is_false(C.moon_healths_lease(healths, 99, 100))
    assert.is_true(C.moon_healths_lease(healths, 101, 100))
    C.moon_healths_bind(healths, 1)
    assert.is_false(C.moon_healths_lease(healths, 150, 100))
    C.moon_healths_bind(healths, 2) -- restarted: its lease is free
    C.moon_healths_bind(healths, 1)
    assert.is_true(C.moon_healths_lease(healths, 151, 100))
    C.moon_healths_bind(healths, 0)
  end)

  it("gives no state where the table is full, and says so", function()
    local last
    for i = 1, 200 do
      last = get("http://target-" .. i)
    end
    assert.is_true(last == nil)
  end)
end)
