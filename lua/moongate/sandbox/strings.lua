-- SPDX-License-Identifier: Apache-2.0
--- The string library as policies see it: results are bounded in size, and what a call costs by the
--- size of its input is charged to the policy's budget. No `dump`.

local fuel = require("moongate.fuel")
local limits = require("moongate.sandbox.limits")
local pattern = require("moongate.sandbox.pattern")

local error, type, select, tostring = error, type, select, tostring
local s_find, s_match, s_gmatch, s_gsub = string.find, string.match, string.gmatch, string.gsub
local s_rep, s_format, s_sub, s_lower, s_upper, s_reverse =
  string.rep, string.format, string.sub, string.lower, string.upper, string.reverse
local charge, worst_case = fuel.charge, pattern.worst_case
local MAX_BYTES, NATIVE_STEPS = limits.MAX_BYTES, limits.NATIVE_STEPS

local M = { byte = string.byte, char = string.char, len = string.len }

local function too_long(name)
  error(("%s: the result exceeds %d bytes"):format(name, MAX_BYTES), 3)
end

function M.rep(s, n, separator)
  local each = #tostring(s) + (separator and #tostring(separator) or 0)
  if type(n) == "number" and n > 0 then
    if each * n > MAX_BYTES then
      too_long("string.rep")
    end
    charge(each * n / 8)
  end
  return s_rep(s, n, separator)
end

function M.format(...)
  local total = 0
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if type(value) == "string" then
      -- %q writes up to four bytes for one
      total = total + #value * (i > 1 and #value > 64 and 4 or 1)
    end
  end
  if total > MAX_BYTES then
    too_long("string.format")
  end
  if total > 64 then
    charge(total / 4)
  end
  return s_format(...)
end

function M.sub(s, from, to)
  if type(s) == "string" and #s > 1024 then
    charge(#s / 32)
  end
  return s_sub(s, from, to)
end

local function linear(f)
  return function(s)
    if type(s) == "string" and #s > 256 then
      charge(#s / 4)
    end
    return f(s)
  end
end
M.lower, M.upper, M.reverse = linear(s_lower), linear(s_upper), linear(s_reverse)

--- Charges for a match, and tells whether the C matcher may do it.
local function is_native(s, p, is_repeated)
  local steps = worst_case(p, #s, is_repeated)
  if steps <= NATIVE_STEPS then
    charge(steps / 4)
    return true
  end
  return false
end

--- Where a search starts, as the library counts it; nil past the end.
local function start_of(s, init)
  init = init or 1
  if init < 0 then
    init = math.max(#s + init + 1, 1)
  elseif init == 0 then
    init = 1
  end
  return init <= #s + 1 and init or nil
end

--- A plain search in windows, so that the clock is looked at between them.
local function find_plain(s, wanted, init)
  local size, at = #wanted, init
  local window = math.max(1, math.floor(NATIVE_STEPS / size))
  while at + size - 1 <= #s do
    charge(window * size / 8 + size)
    local from = s_find(s_sub(s, at, at + window + size - 2), wanted, 1, true)
    if from then
      return at + from - 1, at + from + size - 2
    end
    at = at + window
  end
  return nil
end

function M.find(s, p, init, plain)
  if type(s) ~= "string" or type(p) ~= "string" then
    return s_find(s, p, init, plain)
  end
  if plain then
    if #s * #p <= NATIVE_STEPS * 8 then
      charge(#s / 16 + #s * #p / 256)
      return s_find(s, p, init, true)
    end
    local from = start_of(s, init)
    if not from then
      return nil
    end
    return find_plain(s, p, from)
  end
  if is_native(s, p) then
    return s_find(s, p, init)
  end
  local from = start_of(s, init)
  if not from then
    return nil
  end
  return pattern.find(s, p, from)
end

function M.match(s, p, init)
  if type(s) ~= "string" or type(p) ~= "string" or is_native(s, p) then
    return s_match(s, p, init)
  end
  local from = start_of(s, init)
  if not from then
    return nil
  end
  return pattern.match(s, p, from)
end

function M.gmatch(s, p)
  if type(s) ~= "string" or type(p) ~= "string" or is_native(s, p, true) then
    return s_gmatch(s, p)
  end
  return pattern.gmatch(s, p)
end

--- Bytes that a replacement string can grow to, per match.
local function grown(s, replace)
  if not s_find(replace, "%", 1, true) then
    return #replace
  end
  local _, references = s_gsub(replace, "%%%d", "")
  return #replace + references * #s
end

function M.gsub(s, p, replace, most)
  if type(s) ~= "string" or type(p) ~= "string" then
    return s_gsub(s, p, replace, most)
  end
  local what = type(replace)
  if what == "number" then
    replace, what = tostring(replace), "string"
  end
  if what == "string" then
    local matches = math.min(most or #s + 1, #s + 1)
    if is_native(s, p) and grown(s, replace) * matches <= MAX_BYTES then
      charge(#s / 8 + #replace)
      return s_gsub(s, p, replace, most)
    end
  elseif what == "function" and #s <= 4096 and is_native(s, p) then
    local total = 0
    return s_gsub(s, p, function(...)
      local value = replace(...)
      if type(value) == "string" then
        total = total + #value
        charge(#value / 8 + 1)
        if total > MAX_BYTES then
          too_long("string.gsub")
        end
      end
      return value
    end, most)
  elseif what ~= "table" and what ~= "function" then
    return s_gsub(s, p, replace, most)
  end
  return pattern.gsub(s, p, replace, most or #s + 1)
end

return M
