-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local C = helper.lib([[
struct moon_cache_control {
  unsigned flags; int64_t max_age_s, s_maxage_s, stale_while_revalidate_s, stale_if_error_s,
  min_fresh_s, max_stale_s;
};
void moon_cache_control_init(struct moon_cache_control *cc);
void moon_cache_control_add(struct moon_cache_control *cc, struct moon_slice value);
struct moon_freshness {
  int64_t response_ms, date_ms, age_ms, lifetime_ms, stale_while_revalidate_ms, stale_if_error_ms;
  unsigned flags;
};
int moon_freshness_reuse(const struct moon_freshness *fresh, const struct moon_cache_control *cc,
  int64_t now_ms);
int64_t moon_freshness_age_ms(const struct moon_freshness *fresh, int64_t now_ms);
bool moon_freshness_is_usable_on_error(const struct moon_freshness *fresh,
  const struct moon_cache_control *cc, int64_t now_ms);
]])

local FLAGS = { "no-store", "no-cache", "no-cache=", "private", "private=", "public",
  "must-revalidate", "proxy-revalidate", "must-understand", "no-transform", "only-if-cached",
  "immutable" }

local function read(...)
  local cc = ffi.new("struct moon_cache_control")
  C.moon_cache_control_init(cc)
  for _, line in ipairs({ ... }) do
    -- Ends at a page that cannot be read.
    C.moon_cache_control_add(cc, helper.guarded_slice(line))
  end
  return cc
end

local function flags(...)
  local cc, out = read(...), {}
  for i, name in ipairs(FLAGS) do
    if math.floor(cc.flags / 2 ^ (i - 1)) % 2 == 1 then
      out[#out + 1] = name
    end
  end
  return table.concat(out, " ")
end

describe("Cache-Control", function()
  it("is read without regard to case, space and empty elements", function()
    assert.equal("no-store public", flags("No-Store ,, \tPUBLIC"))
    assert.equal("no-store public", flags("no-store", "public"))
    assert.equal("", flags(""))
    assert.equal("", flags(",,, ,"))
    assert.equal("", flags("x-no-store, no-store-x, nostore"))
  end)

  it("tells directives with field names from those without", function()
    assert.equal("no-cache", flags("no-cache"))
    assert.equal("no-cache=", flags('no-cache="a, b"'))
    assert.equal("no-cache=", flags("no-cache=a"))
    assert.equal("no-cache", flags('no-cache=""'))
    assert.equal("private=", flags('private="set-cookie"'))
    assert.equal("no-cache private=", flags('private="no-cache, x", no-cache'))
  end)

  it("finds nothing inside quoted strings", function()
    assert.equal("", flags('foo="a, no-store, b"'))
    assert.equal("public", flags('foo="a\\", no-store, b", public'))
    assert.equal("", flags('foo="no end, no-store'))
  end)

  it("takes the shorter of two lifetimes, and 0 where it cannot read one", function()
    for text, seconds in pairs({
      ["max-age=10"] = 10, ["max-age=10, max-age=5"] = 5, ["max-age=5, max-age=10"] = 5,
      ["max-age=\"10\""] = 10, ["max-age='10'"] = 0, ["max-age"] = 0, ["max-age="] = 0,
      ["max-age=-1"] = 0, ["max-age=1.5"] = 0, ["max-age=10 5"] = 0, ["max-age=0x10"] = 0,
      ["max-age=2147483648"] = 2147483648, ["max-age=4294967296"] = 2147483648,
      ["max-age=18446744073709551616000"] = 2147483648, ["max-age=007"] = 7,
      ["public"] = -1, ["s-max-age=5"] = -1,
    }) do
      assert.equal(seconds, tonumber(read(text).max_age_s), text)
    end
  end)

  it("gives allowances only when they can be read", function()
    assert.equal(-1, tonumber(read("stale-if-error=x").stale_if_error_s))
    assert.equal(60, tonumber(read("stale-while-revalidate=60").stale_while_revalidate_s))
    assert.is_true(read("max-stale").max_stale_s > 2 ^ 60)
    assert.equal(5, tonumber(read("max-stale=5").max_stale_s))
  end)
end)

describe("freshness", function()
  local function fresh(more)
    local f = ffi.new("struct moon_freshness", { response_ms = 1000000, lifetime_ms = 100000 })
    for name, value in pairs(more or {}) do
      f[name] = value
    end
    return f
  end

  local function reuse(f, at_s, request)
    return C.moon_freshness_reuse(f, read(request or ""), 1000000 + at_s * 1000)
  end

  local FRESH, STALE, LATER, VALIDATE = 0, 1, 2, 3

  it("ends with the lifetime, to the millisecond", function()
    assert.equal(FRESH, reuse(fresh(), 99.999))
    assert.equal(VALIDATE, reuse(fresh(), 100))
    assert.equal(VALIDATE, reuse(fresh({ age_ms = 1 }), 99.999))
  end)

  it("does not run backwards with the clock", function()
    assert.equal(0, tonumber(C.moon_freshness_age_ms(fresh(), 0)))
    assert.equal(FRESH, reuse(fresh(), -1000))
  end)

  it("heeds what the request allows, and what the response forbids", function()
    assert.equal(STALE, reuse(fresh(), 109, "max-stale=10"))
    assert.equal(VALIDATE, reuse(fresh(), 111, "max-stale=10"))
    assert.equal(VALIDATE, reuse(fresh({ flags = 2 }), 109, "max-stale=10"))
    assert.equal(VALIDATE, reuse(fresh({ flags = 1 }), 1))
    assert.equal(LATER, reuse(fresh({ stale_while_revalidate_ms = 10000 }), 105))
    assert.equal(VALIDATE, reuse(fresh({ stale_while_revalidate_ms = 10000 }), 110))
    assert.equal(VALIDATE, reuse(fresh({ stale_while_revalidate_ms = 10000 }), 105, "max-age=200"))
    assert.equal(VALIDATE, reuse(fresh({ stale_while_revalidate_ms = 10000, flags = 2 }), 105))
  end)

  it("lets an error be hidden for as long as either side says", function()
    local function usable(f, at_s, request)
      return C.moon_freshness_is_usable_on_error(f, read(request or ""), 1000000 + at_s * 1000)
    end
    assert.is_true(usable(fresh({ stale_if_error_ms = 10000 }), 109))
    assert.is_false(usable(fresh({ stale_if_error_ms = 10000 }), 110))
    assert.is_true(usable(fresh(), 109, "stale-if-error=10"))
    assert.is_false(usable(fresh({ flags = 2, stale_if_error_ms = 10000 }), 105))
  end)
end)
