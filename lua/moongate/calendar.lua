-- SPDX-License-Identifier: Apache-2.0
--- Days and months of time zones, read from the system's zone files (TZif, RFC 8536).

local dates = require("moongate.dates")
local posix_tz = require("moongate.posix_tz")

local floor = math.floor

local M = {}

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

---@class moongate.Zone
local Zone = {}
Zone.__index = Zone

-- Of a zone file: the largest is a few KiB.
local MAX_FILE = 256 * 1024
local MAX_OFFSET = 26 * 3600 -- exclusive (RFC 8536 §3.2)

--- The counts of a header at `at`, and where the block after it begins.
local function read_header(text, at)
  if text:sub(at, at + 3) ~= "TZif" or #text < at + 43 then
    return nil
  end
  local c = {}
  for i, name in ipairs({ "isut", "isstd", "leap", "times", "types", "chars" }) do
    c[name] = be(text, at + 16 + 4 * i, 4)
    if c[name] < 0 or c[name] > MAX_FILE then
      return nil
    end
  end
  return c, at + 44
end

local function size_of(c, time_size)
  return c.times * (time_size + 1) + c.types * 6 + c.chars + c.leap * (time_size + 4) + c.isstd + c.isut
end

--- Times of change and the offsets from then on, of a zone file's 64-bit part.
local function read_changes(text, at, c)
  local zone, type_at, before = { times = {}, offsets = {}, first = 0 }, at + c.times * 9, -math.huge
  local offsets = {}
  for i = 0, c.types - 1 do
    offsets[i] = be(text, type_at + i * 6, 4)
    if math.abs(offsets[i]) >= MAX_OFFSET then
      return nil
    end
  end
  for i = 1, c.times do
    local time, offset = be(text, at + (i - 1) * 8, 8), offsets[text:byte(at + c.times * 8 + i - 1)]
    if not offset or time <= before then
      return nil
    end
    zone.times[i], zone.offsets[i], before = time, offset, time
  end
  zone.first = offsets[0]
  return zone
end

--- Reads a zone file (RFC 8536, version 2 or later).
---@param text string
---@return moongate.Zone? zone nil: it is none
function M.read(text)
  if #text > MAX_FILE then
    return nil
  end
  local c, at = read_header(text, 1)
  if not c or text:byte(5) < 0x32 then
    return nil
  end
  c, at = read_header(text, at + size_of(c, 4))
  if not c or c.types < 1 or #text < at + size_of(c, 8) then
    return nil
  end
  local zone = read_changes(text, at, c)
  local footer = text:sub(at + size_of(c, 8)):match("^\n([^\n]*)\n")
  if not zone or not footer then
    return nil
  end
  if footer ~= "" then
    zone.rule = posix_tz.parse(footer)
    if not zone.rule then
      return nil
    end
  end
  return setmetatable(zone, Zone)
end

--- A zone: "UTC", "+02:00", or a name like "Europe/Berlin".
---@return moongate.Zone? zone
---@return string? err
function M.zone(name)
  if name == nil or name == "UTC" then
    return setmetatable({ times = {}, offsets = {}, first = 0 }, Zone)
  end
  local sign, hours, minutes = name:match("^([+-])(%d%d):([0-5]%d)$")
  if sign and tonumber(hours) < 24 then
    local offset = (hours * 3600 + minutes * 60) * (sign == "-" and -1 or 1)
    return setmetatable({ times = {}, offsets = {}, first = offset }, Zone)
  end
  if not name:find("^%a[%w_+-]*[%w_+/-]*$") then
    return nil, ("%q is no time zone"):format(name)
  end
  local file = io.open("/usr/share/zoneinfo/" .. name, "rb")
  local text = file and file:read(MAX_FILE + 1) -- nil of a folder
  if file then
    file:close()
  end
  local zone = text and M.read(text)
  if not zone then
    return nil, ("there is no time zone %q on this machine"):format(name)
  end
  return zone
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
  if low == #self.times and self.rule then
    return self.rule:offset(time)
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
  local year, month = dates.date(days)
  local next_year, next_month = year, month + 1
  if next_month > 12 then
    next_year, next_month = year + 1, 1
  end
  return self:midnight(dates.days(year, month, 1)), self:midnight(dates.days(next_year, next_month, 1))
end

--- Seconds since 1970 of "2026-01-31T12:00:00Z" (or +02:00); nil where it is none.
function M.parse(text)
  local y, mo, d, h, mi, s, rest =
    text:match("^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d)(.*)$")
  if not y then
    y, mo, d = text:match("^(%d%d%d%d)-(%d%d)-(%d%d)$")
    h, mi, s, rest = 0, 0, 0, "Z"
  end
  local days = y and dates.days(tonumber(y), tonumber(mo), tonumber(d))
  local year, month, day = dates.date(days or 0)
  if year ~= tonumber(y) or month ~= tonumber(mo) or day ~= tonumber(d) or tonumber(h) > 23
    or tonumber(mi) > 59 or tonumber(s) > 60 then
    return nil -- 31 February, say
  end
  local zone = M.zone(rest == "Z" and "UTC" or rest)
  if not zone then
    return nil
  end
  return days * 86400 + h * 3600 + mi * 60 + s - zone.first
end

return M
