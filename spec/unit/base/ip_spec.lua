-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local lib = helper.lib [[
struct moon_ipset;
bool moon_ip_parse(struct moon_slice text, struct moon_ip *out);
size_t moon_ip_format(const struct moon_ip *ip, char *into);
bool moon_ip_is_v4(const struct moon_ip *ip);
int moon_ip_compare(const struct moon_ip *a, const struct moon_ip *b);
struct moon_ipset *moon_ipset_new(void);
void moon_ipset_free(struct moon_ipset *set);
int moon_ipset_add(struct moon_ipset *set, struct moon_slice text);
void moon_ipset_seal(struct moon_ipset *set);
bool moon_ipset_has(const struct moon_ipset *set, const struct moon_ip *ip);
size_t moon_ipset_count(const struct moon_ipset *set);
]]

local function parse(text)
  local ip = ffi.new("struct moon_ip")
  return lib.moon_ip_parse(helper.guarded_slice(text), ip) and ip or nil
end

local function again(text)
  local ip, into = parse(text), ffi.new("char[46]")
  return ip and ffi.string(into, lib.moon_ip_format(ip, into))
end

describe("base/ip", function()
  it("reads addresses and writes them the short way", function()
    for text, want in pairs {
      ["192.0.2.1"] = "192.0.2.1", ["0.0.0.0"] = "0.0.0.0", ["255.255.255.255"] = "255.255.255.255",
      ["2001:DB8:0:0::1"] = "2001:db8::1", ["::"] = "::", ["::1"] = "::1", ["[::1]"] = "::1",
      ["::ffff:192.0.2.1"] = "192.0.2.1",
    } do
      assert.equal(want, again(text), text)
    end
    assert.is_true(lib.moon_ip_is_v4(parse "1.2.3.4"))
    assert.is_true(lib.moon_ip_is_v4(parse "::ffff:1.2.3.4"))
    assert.is_false(lib.moon_ip_is_v4(parse "::1.2.3.4"))
  end)

  it("refuses what is none", function()
    for _, text in ipairs { "", "1", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.4 ",
      " 1.2.3.4", "1.2.3.4:80", "[1.2.3.4", "::1]", "[::1", ":", ":::", "1::2::3", "g::1", "::1%lo",
      "1:2:3:4:5:6:7:8:9", "0x7f.1.1.1", "1.2.3.4\0", ("1"):rep(100) } do
      assert.is_nil(parse(text), text)
    end
  end)

  it("answers for networks, ranges and single addresses", function()
    local set = ffi.gc(lib.moon_ipset_new(), lib.moon_ipset_free)
    for _, text in ipairs { "10.0.0.0/8", "192.0.2.7", "198.51.100.10-198.51.100.20",
      "2001:db8::/32", "10.1.0.0/16", "0.0.0.0/32" } do
      assert.equal("ok", helper.rc(lib.moon_ipset_add(set, helper.guarded_slice(text))), text)
    end
    lib.moon_ipset_seal(set)
    for text, want in pairs {
      ["10.0.0.0"] = true, ["10.255.255.255"] = true, ["11.0.0.0"] = false,
        ["9.255.255.255"] = false,
      ["192.0.2.6"] = false, ["192.0.2.7"] = true, ["192.0.2.8"] = false,
      ["198.51.100.9"] = false, ["198.51.100.10"] = true, ["198.51.100.20"] = true,
      ["198.51.100.21"] = false, ["2001:db8::"] = true, ["2001:db8:ffff:ffff::1"] = true,
      ["2001:db9::"] = false, ["::"] = false, ["0.0.0.0"] = true, ["::ffff:10.2.3.4"] = true,
      ["10.1.2.3"] = true, ["10.200.0.1"] = true,
    } do
      assert.equal(want, lib.moon_ipset_has(set, parse(text)), text)
    end
  end)

  it("refuses networks that are none", function()
    local set = ffi.gc(lib.moon_ipset_new(), lib.moon_ipset_free)
    for _, text in ipairs { "", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0.1/8", "/8",
      "10.0.0.9-10.0.0.1", "10.0.0.1-", "a", "2001:db8::/129", "10.0.0.1-2001:db8::1",
      "10.0.0.0/8/8" } do
      assert.equal("config", helper.rc(lib.moon_ipset_add(set, helper.slice(text))), text)
    end
    lib.moon_ipset_seal(set)
    assert.is_false(lib.moon_ipset_has(set, parse "10.0.0.1"))
  end)

  it("agrees with a slow search on random networks", function()
    math.randomseed(11)
    local set, ranges = ffi.gc(lib.moon_ipset_new(), lib.moon_ipset_free), {}
    for _ = 1, 300 do
      local first = math.random(0, 65535)
      local last = math.min(65535, first + math.random(0, 300))
      ranges[#ranges + 1] = { first, last }
      local text = ("10.0.%d.%d-10.0.%d.%d"):format(math.floor(first / 256), first % 256,
        math.floor(last / 256), last % 256)
      assert.equal(0, lib.moon_ipset_add(set, helper.slice(text)))
    end
    lib.moon_ipset_seal(set)
    for n = 0, 65535, 3 do
      local want = false
      for _, range in ipairs(ranges) do
        want = want or (n >= range[1] and n <= range[2])
      end
      assert.equal(want, lib.moon_ipset_has(set, parse(("10.0.%d.%d"):format(math.floor(n / 256),
        n % 256))))
    end
  end)
end)
