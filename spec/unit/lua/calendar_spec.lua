-- SPDX-License-Identifier: Apache-2.0
--- Days and months of time zones: files as `zic -b slim` writes them end with a rule.
require("spec.unit.lua.lpath")
local calendar = require("moongate.calendar")
local posix_tz = require("moongate.posix_tz")

local function be(n, size)
  local out = {}
  for i = size, 1, -1 do
    out[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(out)
end

--- A zone file without changes: its one offset, and a rule for all times.
local function slim(offset, rule)
  local function header(types, chars)
    return "TZif2" .. ("\0"):rep(15) .. be(0, 4) .. be(0, 4) .. be(0, 4) .. be(0, 4) .. be(types, 4) .. be(chars, 4)
  end
  local block = be(offset % 2 ^ 32, 4) .. "\0\0" .. "AAA\0"
  return header(1, 4) .. block .. header(1, 4) .. block .. "\n" .. rule .. "\n"
end

local function at(text)
  return assert(calendar.parse(text), text)
end

-- A rule, and moments with the hours east of UTC that hold from then on.
local RULES = {
  { "CET-1CEST,M3.5.0,M10.5.0/3", "2037-03-29T00:59:59Z", 1, "2037-03-29T01:00:00Z", 2, "2037-10-25T00:59:59Z", 2,
    "2037-10-25T01:00:00Z", 1, "2100-03-28T01:00:00Z", 2, "2100-12-31T23:59:59Z", 1 },
  { "AEST-10AEDT,M10.1.0,M4.1.0/3", "2040-01-01T00:00:00Z", 11, "2040-03-31T15:59:59Z", 11, "2040-03-31T16:00:00Z", 10,
    "2040-10-06T15:59:59Z", 10, "2040-10-06T16:00:00Z", 11 },
  { "IST-1GMT0,M10.5.0,M3.5.0/1", "2038-01-19T03:14:08Z", 0, "2038-03-28T00:59:59Z", 0, "2038-03-28T01:00:00Z", 1,
    "2038-10-31T00:59:59Z", 1, "2038-10-31T01:00:00Z", 0 }, -- Dublin: its summer is negative, in winter
  { "<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "2050-03-27T00:59:59Z", -2, "2050-03-27T01:00:00Z", -1,
    "2050-10-30T00:59:59Z", -1, "2050-10-30T01:00:00Z", -2 },
  { "<-04>4<-03>,M9.1.6/24,M4.1.6/24", "2044-04-03T02:59:59Z", -3, "2044-04-03T03:00:00Z", -4,
    "2044-09-04T03:59:59Z", -4, "2044-09-04T04:00:00Z", -3 },
  { "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", "2037-07-01T00:00:00Z", 10.5, "2037-12-01T00:00:00Z", 11 },
  { "EST5EDT,0/0,J365/25", "2037-01-01T04:59:59Z", -4, "2037-01-01T05:00:00Z", -4, "2040-12-31T00:00:00Z", -4 },
  { "AAA0BBB,J60/0,J61/0", "2040-03-01T00:00:00Z", 1, "2040-02-29T12:00:00Z", 0, "2041-03-01T22:59:59Z", 1 },
  { "AAA0BBB,59/0,60/0", "2040-02-29T00:00:00Z", 1, "2041-03-01T00:00:00Z", 1, "2041-02-28T00:00:00Z", 0 },
  { "<+0530>-5:30", "2999-06-01T00:00:00Z", 5.5 },
}

describe("a zone file's rule", function()
  it("goes on where its table ends, in both hemispheres, to 2037 and after", function()
    for _, rule in ipairs(RULES) do
      local zone = assert(calendar.read(slim(0, rule[1])), rule[1])
      for i = 2, #rule, 2 do
        assert.equal(rule[i + 1] * 3600, zone:offset(at(rule[i])), rule[1] .. " " .. rule[i])
      end
    end
  end)

  it("gives days of 23 and 25 hours, and months that follow one another", function()
    local zone = assert(calendar.read(slim(3600, RULES[1][1])))
    local from, to = zone:window("day", at("2040-03-25T12:00:00Z"))
    assert.equal(23 * 3600, to - from)
    from, to = zone:window("day", at("2040-10-28T12:00:00Z"))
    assert.equal(25 * 3600, to - from)
    local time, before = at("2039-12-31T23:00:00Z"), nil
    while time < at("2042-01-01") do
      from, to = zone:window("month", time)
      assert.equal(before or from, from)
      before, time = to, to
    end
  end)

  it("is what this machine's files say of the years after their tables", function()
    for _, name in ipairs({ "Europe/Rome", "Europe/Dublin", "America/New_York", "Australia/Sydney" }) do
      local zone = assert(calendar.zone(name))
      local winter, summer = zone:offset(at("2026-01-15")), zone:offset(at("2026-07-15"))
      assert.is_true(winter ~= summer)
      assert.equal(winter, zone:offset(at("2060-01-15")), name)
      assert.equal(summer, zone:offset(at("2060-07-15")), name)
    end
  end)

  it("is refused where it is none", function()
    for _, text in ipairs({ "", "C", "CE-1", "CET", "CET-", "CET-25", "CET-1CEST", "CET-1CEST,", "CET-1CEST,M3.5.0",
      "CET-1CEST,M3.5.0,", "CET-1CEST,M13.5.0,M10.5.0", "CET-1CEST,M3.6.0,M10.5.0", "CET-1CEST,M3.5.7,M10.5.0",
      "CET-1CEST,M3.5.0/168,M10.5.0", "CET-1CEST,J0,J5", "CET-1CEST,366,5", "CET-1CEST,M3.5.0,M10.5.0x",
      "<CET-1", "<>-1", "CET-1:60", ("A"):rep(200) .. "1" }) do
      assert.is_nil(posix_tz.parse(text), text)
    end
  end)
end)

describe("a zone file", function()
  it("that is cut or spoilt is refused, or gives offsets within a day", function()
    local good = slim(3600, RULES[1][1])
    for size = 0, #good - 1 do
      assert.is_nil(calendar.read(good:sub(1, size)), size)
    end
    local file = assert(io.open("/usr/share/zoneinfo/Europe/Dublin", "rb"))
    local real = file:read("*a")
    file:close()
    math.randomseed(7)
    for _ = 1, 2000 do
      local place = math.random(#real)
      local zone = calendar.read(real:sub(1, place - 1) .. string.char(math.random(0, 255)) .. real:sub(place + 1))
      if zone then
        local offset = zone:offset(math.random(-2 ^ 31, 2 ^ 33))
        assert.is_true(math.abs(offset) < 26 * 3600)
      end
    end
    assert.is_nil(calendar.read(("x"):rep(300000)))
  end)

  it("needs a name that is one, and dates are dates", function()
    for _, name in ipairs({ "../passwd", "/etc/passwd", "Europe", "Europe/../Rome", "+24:00", "+01:60", "" }) do
      assert.is_nil(calendar.zone(name), name)
    end
    assert.is_nil(calendar.parse("2026-02-30"))
    assert.is_nil(calendar.parse("2026-04-31T00:00:00Z"))
    assert.is_nil(calendar.parse("2026-04-30T24:00:00Z"))
    assert.equal(86400 * 59, calendar.parse("1970-03-01"))
  end)
end)
