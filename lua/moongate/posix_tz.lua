-- SPDX-License-Identifier: Apache-2.0
--- The rule that goes on where a zone file's table of changes ends (RFC 8536 §3.3, POSIX TZ with its
--- extensions): "CET-1CEST,M3.5.0,M10.5.0/3". Slim zone files hold nothing else for the future.

local dates = require("moongate.dates")

local floor = math.floor

local M = {}

---@class moongate.PosixTz
---@field standard integer seconds east of UTC
---@field summer? integer the same, while the rule's summer lasts
---@field from? table when that begins, in local standard time
---@field to? table when it ends, in local summer time
local Rule = {}
Rule.__index = Rule

--- "CET" or "<+0330>" away from the front.
local function take_name(text)
  local rest = text:match("^%a%a%a+(.*)$") or text:match("^<[%w+-]+>(.*)$")
  return rest
end

--- "-1", "3:30", "+02:00:00" away from the front, in seconds.
local function take_time(text, most_hours)
  local sign, hours, rest = text:match("^([+-]?)(%d%d?%d?)(.*)$")
  if not hours or tonumber(hours) > most_hours then
    return nil
  end
  local seconds = hours * 3600
  for _, unit in ipairs({ 60, 1 }) do
    local part, after = rest:match("^:([0-5]%d)(.*)$")
    if not part then
      break
    end
    seconds, rest = seconds + part * unit, after
  end
  return sign == "-" and -seconds or seconds, rest
end

--- "M3.5.0/2", "J60" or "59" away from the front.
local function take_date(text)
  local date, rest
  local month, week, weekday, after = text:match("^M(%d%d?)%.(%d)%.(%d)(.*)$")
  local julian, after_julian = text:match("^(J?%d%d?%d?)(.*)$")
  if month then
    date, rest = { month = tonumber(month), week = tonumber(week), weekday = tonumber(weekday) }, after
    if date.month < 1 or date.month > 12 or date.week < 1 or date.week > 5 or date.weekday > 6 then
      return nil
    end
  elseif julian then
    local has_no_leap_day, day = julian:sub(1, 1) == "J", tonumber(julian:match("%d+"))
    if day > 365 or has_no_leap_day and day < 1 then
      return nil
    end
    date, rest = { [has_no_leap_day and "julian" or "day"] = day }, after_julian
  else
    return nil
  end
  date.time = 7200
  if rest:sub(1, 1) == "/" then
    date.time, rest = take_time(rest:sub(2), 167)
  end
  if not date.time then
    return nil
  end
  return date, rest
end

--- Reads a rule.
---@param text string "EST5EDT,M3.2.0,M11.1.0"
---@return moongate.PosixTz? rule nil: it is none
function M.parse(text)
  local rest = #text <= 128 and take_name(text)
  local west
  if rest then
    west, rest = take_time(rest, 24)
  end
  if not west then
    return nil
  end
  local self = setmetatable({ standard = -west }, Rule)
  if rest == "" then
    return self
  end
  rest = take_name(rest)
  if rest and rest:sub(1, 1) ~= "," then
    west, rest = take_time(rest, 24)
    self.summer = west and -west
  else
    self.summer = self.standard + 3600
  end
  if not rest or not self.summer or rest:sub(1, 1) ~= "," then
    return nil
  end
  self.from, rest = take_date(rest:sub(2))
  if not self.from or rest:sub(1, 1) ~= "," then
    return nil
  end
  self.to, rest = take_date(rest:sub(2))
  return self.to and rest == "" and self or nil
end

--- The moment of a date in a year, seconds since 1970 of a clock that knows no zones.
local function moment(date, year)
  local first = dates.days(year, 1, 1)
  if date.julian then
    local is_leap = dates.days(year + 1, 1, 1) - first == 366
    return (first + date.julian - 1 + (is_leap and date.julian >= 60 and 1 or 0)) * 86400 + date.time
  elseif date.day then
    return (first + date.day) * 86400 + date.time
  end
  local day = dates.days(year, date.month, 1)
  day = day + (date.weekday - (day + 4)) % 7 + (date.week - 1) * 7 -- 1970-01-01 was a Thursday
  local next_month = date.month == 12 and dates.days(year + 1, 1, 1)
    or dates.days(year, date.month + 1, 1)
  while day >= next_month do
    day = day - 7
  end
  return day * 86400 + date.time
end

--- Seconds east of UTC at a time.
---@param time number seconds since 1970
---@return integer
function Rule:offset(time)
  if not self.from then
    return self.standard
  end
  -- The change of another year may fall into this one: times go from -167 to 167 hours.
  local year = dates.date(floor((time + self.standard) / 86400))
  local last, is_summer = -math.huge, false
  for y = year - 1, year + 1 do
    local from, to = moment(self.from, y) - self.standard, moment(self.to, y) - self.summer
    -- Of two changes at one moment the one to summer counts: that is how summer all year is written.
    if to <= time and to > last then
      last, is_summer = to, false
    end
    if from <= time and from >= last then
      last, is_summer = from, true
    end
  end
  return is_summer and self.summer or self.standard
end

return M
