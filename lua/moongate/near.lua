-- SPDX-License-Identifier: Apache-2.0
--- Near misses: what the writer of an unknown name most likely meant.

local foreign = require("moongate.foreign")

local M = {}

--- Edit distance with transpositions (optimal string alignment), up to a ceiling.
---@param a string
---@param b string
---@param ceiling integer distances above it are reported as ceiling + 1
---@return integer
function M.distance(a, b, ceiling)
  if math.abs(#a - #b) > ceiling then
    return ceiling + 1
  end
  local before, previous, current = {}, {}, {}
  for j = 0, #b do
    previous[j] = j
  end
  for i = 1, #a do
    current[0] = i
    local ca = a:byte(i)
    for j = 1, #b do
      local cost = ca == b:byte(j) and 0 or 1
      local best = math.min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + cost)
      if i > 1 and j > 1 and ca == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        best = math.min(best, before[j - 2] + 1)
      end
      current[j] = best
    end
    before, previous, current = previous, current, before
  end
  return math.min(previous[#b], ceiling + 1)
end

--- Whether one is the other, shortened or lengthened: "certs" and "certificates", "renewal_period"
--- and "period", "least_conn" and "least_requests".
local function is_akin(name, candidate)
  local short, long = name, candidate
  if #short > #long then
    short, long = long, short
  end
  if #short >= 4 and long:find(short, 1, true) then
    return true
  end
  local same = 0
  while same < #short and short:byte(same + 1) == long:byte(same + 1) do
    same = same + 1
  end
  return same >= 4 and same * 2 > #short
end

--- The candidate that other gateways call `name`.
local function translated(name, candidates)
  local ours = foreign[name:lower():gsub("[- ]", "_")]
  for i = 1, ours and #ours or 0 do
    for j = 1, #candidates do
      if candidates[j] == ours[i] then
        return ours[i]
      end
    end
  end
  return nil
end

--- Finds the candidate nearest to `name`, if one is near enough to be worth saying.
---@param name string
---@param candidates string[]
---@return string?
function M.find(name, candidates)
  if #name > 64 then
    return nil
  end
  local known = translated(name, candidates)
  if known then
    return known
  end
  local ceiling = #name <= 3 and 1 or #name <= 7 and 2 or 3
  local folded = name:lower():gsub("[-_ ]", "")
  local best, best_distance
  for i = 1, #candidates do
    local candidate = candidates[i]
    local d
    if candidate:lower():gsub("[-_ ]", "") == folded then
      d = 0
    else
      d = M.distance(name, candidate, ceiling)
    end
    if d <= ceiling and (not best or d < best_distance or d == best_distance and candidate < best) then
      best, best_distance = candidate, d
    end
  end
  local akin
  for i = 1, best and 0 or #candidates do
    if is_akin(name, candidates[i]) then
      if akin then
        return nil -- it may be either
      end
      akin = candidates[i]
    end
  end
  return best or akin
end

--- What is said to who asks `what` for a name that it does not have.
---@param what string "ctx.request"
---@param name any
---@param known table<string, any> what there is
---@return string
function M.unknown(what, name, known)
  local hint = type(name) == "string" and M.find(name, M.keys(known)) or nil
  return ("%s has no field '%s'%s"):format(what, tostring(name),
    hint and ('; did you mean "%s"?'):format(hint) or "")
end

--- The sorted keys of a table: what `find` takes.
---@param t table<string, any>
---@return string[]
function M.keys(t)
  local names = {}
  for key in pairs(t) do
    if type(key) == "string" then
      names[#names + 1] = key
    end
  end
  table.sort(names)
  return names
end

return M
