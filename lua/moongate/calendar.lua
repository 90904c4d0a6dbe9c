-- SPDX-License-Identifier: Apache-2.0
--- Days and months of time zones, read from the system's zone files (TZif, RFC 8536).

local floor = math.floor

local M = {}

--- Days since 1970-01-01 of a date (proleptic Gregorian).
function M.days(year, month, day)
  year = month <= 2 and year - 1 or year
  local era = floor(year / 400)
  local of_era = year - era * 400
  local of_year = floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5) + day - 1
  return era * 146097 + of_era * 365 + floor(of_era / 4) - floor(of_era / 100) + of_year - 719468
end

--- Year, month and day of a count of days.
function M.date(days)
  local z = days + 719468
  local era = floor(z / 146097)
  local of_era = z - era * 146097
  local year = floor((of_era - floor(of_era / 1460) + floor(of_era / 36524)
    - floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + floor(year / 4) - floor(year / 100))
  local shifted = floor((5 * of_year + 2) / 153)
  local day = of_year - floor((153 * shifted + 2) / 5) + 1
  local month = shifted + (shifted < 10 and 3 or -9)
  return year + era * 400 + (month <= 2 and 1 or 0), month, day
end

local function be(text, at, size)
  local n = text:byte(at)
  if n >= 128 then
    n = n - 256
  end
  for i = at + 1, at + size - 1 do
    n = n * 256 + text:byte(i)
  end
  return n
end

--- Times of change and the offsets from then on, of a zone file's 64-bit part.
local function parse(text)
  if text:sub(1, 4) ~= "TZif" or text:byte(5) < 0x32 then
    return nil
  end
  local function counts(at)
    local c = {}
    for i = 0, 5 do
      c[i + 1] = be(text, at + 20 + 4 * i, 4)
    end
    return c[4], c[5], c[1], c[2], c[3], c[6]
  end
  local times, types, isut, isstd, leap, chars = counts(1)
  local second = 1 + 44 + times * 5 + types * 6 + chars + leap * 8 + isstd + isut
  times, types = counts(second)
  local at, zone = second + 44, { times = {}, offsets = {}, first = 0 }
  local type_at = at + times * 9
  for i = 1, times do
    zone.times[i] = be(text, at + (i - 1) * 8, 8)
    local kind = text:byte(at + times * 8 + i - 1)
    zone.offsets[i] = be(text, type_at + kind * 6, 4)
  end
  if types > 0 then
    zone.first = be(text, type_at, 4)
  end
  return zone
end

---@class moongate.Zone
local Zone = {}
Zone.__index = Zone

--- A zone: "UTC", "+02:00", or a name like "Europe/Berlin".
---@return moongate.Zone? zone
---@return string? err
function M.zone(name)
  if name == nil or name == "UTC" then
    return setmetatable({ times = {}, offsets = {}, first = 0 }, Zone)
  end
  local sign, hours, minutes = name:match("^([+-])(%d%d):(%d%d)$")
  if sign then
    local offset = (hours * 3600 + minutes * 60) * (sign == "-" and -1 or 1)
    return setmetatable({ times = {}, offsets = {}, first = offset }, Zone)
  end
  if not name:find("^%a[%w_+-]*[%w_+/-]*$") then
    return nil, ("%q is no time zone"):format(name)
  end
  local file = io.open("/usr/share/zoneinfo/" .. name, "rb")
  local text = file and file:read("*a")
  if file then
    file:close()
  end
  local zone = text and #text > 44 and parse(text)
  if not zone then
    return nil, ("there is no time zone %q on this machine"):format(name)
  end
  return setmetatable(zone, Zone)
end

--- Seconds east of UTC at a time.
function Zone:offset(time)
  local low, high = 0, #self.times
  while low < high do
    local middle = floor((low + high + 1) / 2)
    if self.times[middle] <= time then
      low = middle
    else
      high = middle - 1
    end
  end
  return low == 0 and self.first or self.offsets[low]
end

--- When a local day begins: at the first moment that has its date or a later one. Where clocks change
--- at midnight there is no 00:00, or it comes twice; where a zone has left a day out, no such day.
function Zone:midnight(days)
  local time = days * 86400
  local early, late = time - self:offset(time - 86400), time - self:offset(time + 86400)
  if early > late then
    early, late = late, early
  end
  return early + self:offset(early) >= time and early or late
end

--- The day or month that a time lies in.
---@param period "day"|"month"
---@return integer from
---@return integer to
function Zone:window(period, time)
  local days = floor((time + self:offset(time)) / 86400)
  if period == "day" then
    return self:midnight(days), self:midnight(days + 1)
  end
  local year, month = M.date(days)
  local next_year, next_month = year, month + 1
  if next_month > 12 then
    next_year, next_month = year + 1, 1
  end
  return self:midnight(M.days(year, month, 1)), self:midnight(M.days(next_year, next_month, 1))
end

--- Seconds since 1970 of "2026-01-31T12:00:00Z" (or +02:00); nil where it is none.
function M.parse(text)
  local y, mo, d, h, mi, s, rest =
    text:match("^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d)(.*)$")
  if not y then
    y, mo, d = text:match("^(%d%d%d%d)-(%d%d)-(%d%d)$")
    h, mi, s, rest = 0, 0, 0, "Z"
  end
  if not y or tonumber(mo) < 1 or tonumber(mo) > 12 or tonumber(d) < 1 or tonumber(d) > 31 then
    return nil
  end
  local zone = M.zone(rest == "Z" and "UTC" or rest)
  if not zone then
    return nil
  end
  return M.days(tonumber(y), tonumber(mo), tonumber(d)) * 86400 + h * 3600 + mi * 60 + s
    - zone.first
end

return M
