-- SPDX-License-Identifier: Apache-2.0
--- The table library as policies see it: the same results, the cost charged to their budget.

local fuel = require("moongate.fuel")
local limits = require("moongate.sandbox.limits")

local error, type, select = error, type, select
local raw_concat, raw_insert, raw_remove, raw_sort, maxn =
  table.concat, table.insert, table.remove, table.sort, table.maxn
local charge = fuel.charge

local M = {}

function M.concat(t, separator, from, to)
  if type(t) ~= "table" then
    return raw_concat(t)
  end
  separator, from, to = separator or "", from or 1, to or #t
  local total = 0
  local width = #tostring(separator)
  for i = from, to do
    local item = t[i]
    total = total + width + (type(item) == "string" and #item or 24)
    if total > limits.MAX_BYTES then
      error(("table.concat: the result exceeds %d bytes"):format(limits.MAX_BYTES), 2)
    end
    charge(2)
  end
  charge(total / 8)
  return raw_concat(t, separator, from, to)
end

function M.insert(t, ...)
  if select("#", ...) == 2 then
    local at = ...
    local size = #t
    if type(at) == "number" and at < size then
      charge((size - at) * 4)
    end
  end
  return raw_insert(t, ...)
end

function M.remove(t, at)
  if at == nil then
    return raw_remove(t)
  end
  local size = #t
  if type(at) == "number" and at < size then
    charge((size - at) * 4)
  end
  return raw_remove(t, at)
end

function M.sort(t, before)
  local size = #t
  charge(size * 10)
  if size < 1000 then
    return raw_sort(t, before)
  end
  -- Every comparison passes through Lua that can be stopped.
  if before then
    return raw_sort(t, function(a, b)
      charge(20)
      return before(a, b)
    end)
  end
  return raw_sort(t, function(a, b)
    charge(20)
    return a < b
  end)
end

function M.maxn(t)
  charge(2000)
  return maxn(t)
end

return M
