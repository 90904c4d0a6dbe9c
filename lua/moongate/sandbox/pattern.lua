-- SPDX-License-Identifier: Apache-2.0
--- Lua patterns with a brake. The C matcher cannot be stopped, and some patterns take it n^k steps;
--- where `worst_case` is high, the matcher here runs instead: same answers, fuel charged per step.

local fuel = require("moongate.fuel")
local limits = require("moongate.sandbox.limits")

local byte, char, find, sub = string.byte, string.char, string.find, string.sub
local charge = fuel.charge

local M = {}

local ANY = {}
for c = 0, 255 do
  ANY[c] = true
end

-- Node kinds
local ONE, STAR, PLUS, MINUS, MAYBE = 1, 2, 3, 4, 5
local OPEN, CLOSE, POSITION, BALANCE, FRONTIER, BACKREF, FINISH = 6, 7, 8, 9, 10, 11, 12
local repeats = { ["*"] = STAR, ["+"] = PLUS, ["-"] = MINUS, ["?"] = MAYBE }

--- The bytes that a single-character item stands for. The C matcher itself is asked, byte by byte.
local function byte_set(item)
  if item == "." then
    return ANY
  end
  if #item == 1 then
    return { [byte(item)] = true }
  end
  local set, pattern = {}, "^" .. item
  for c = 0, 255 do
    if find(char(c), pattern) then
      set[c] = true
    end
  end
  return set
end

--- Position of the last byte of the single-character item at `at`; nil when malformed.
local function item_end(pattern, at)
  local c = sub(pattern, at, at)
  if c == "%" then
    return at < #pattern and at + 1 or nil
  elseif c ~= "[" then
    return at
  end
  at = at + 1
  if sub(pattern, at, at) == "^" then
    at = at + 1
  end
  repeat -- the first one is an item even if it is "]"
    if at > #pattern then
      return nil
    end
    at = at + (sub(pattern, at, at) == "%" and 2 or 1)
  until sub(pattern, at, at) == "]"
  return at
end

local function malformed()
  error("malformed pattern", 0)
end

--- Compiles a pattern into nodes: kind[i], and what the kind needs in arg[i] and arg2[i].
local function compile(pattern, may_anchor)
  local kind, arg, arg2, n = {}, {}, {}, 0
  local captures, open = 0, {}
  local at, size = 1, #pattern
  local is_anchored = may_anchor and sub(pattern, 1, 1) == "^"
  if is_anchored then
    at = 2
  end
  local function add(k, a, b)
    n = n + 1
    kind[n], arg[n], arg2[n] = k, a, b or false
  end
  while at <= size do
    local c, next_c = sub(pattern, at, at), sub(pattern, at + 1, at + 1)
    if c == "(" then
      captures = captures + 1
      if captures > limits.MAX_CAPTURES then
        error("too many captures", 0)
      end
      if next_c == ")" then
        add(POSITION, captures)
        at = at + 2
      else
        open[#open + 1] = captures
        add(OPEN, captures)
        at = at + 1
      end
    elseif c == ")" then
      if #open == 0 then
        error("invalid pattern capture", 0)
      end
      add(CLOSE, table.remove(open))
      at = at + 1
    elseif c == "$" and at == size then
      add(FINISH, false)
      at = at + 1
    elseif c == "%" and next_c == "b" then
      if at + 3 > size then
        malformed()
      end
      add(BALANCE, byte(pattern, at + 2), byte(pattern, at + 3))
      at = at + 4
    elseif c == "%" and next_c == "f" then
      local stop = sub(pattern, at + 2, at + 2) == "[" and item_end(pattern, at + 2)
      if not stop then
        malformed()
      end
      add(FRONTIER, byte_set(sub(pattern, at + 2, stop)))
      at = stop + 1
    elseif c == "%" and find(next_c, "%d") then
      add(BACKREF, tonumber(next_c))
      at = at + 2
    else
      local stop = item_end(pattern, at)
      if not stop then
        malformed()
      end
      local quantifier = repeats[sub(pattern, stop + 1, stop + 1)]
      add(quantifier or ONE, byte_set(sub(pattern, at, stop)))
      at = stop + (quantifier and 2 or 1)
    end
  end
  return { kind = kind, arg = arg, arg2 = arg2, n = n, is_anchored = is_anchored, captures = captures }
end

-- What one match works on. Not re-entrant while a match runs, and a match never yields.
local text, size, nodes
local starts, stops, opened = {}, {}, 0 -- captures; stops[i] == 0 while open, -1 for a position

local match_from

--- Longest first, or shortest first, then the rest of the pattern.
local function match_greedy(node, at, least)
  local set, count = nodes.arg[node], 0
  while at + count <= size and set[byte(text, at + count)] do
    count = count + 1
  end
  charge(count)
  while count >= least do
    local stop = match_from(node + 1, at + count)
    if stop then
      return stop
    end
    count = count - 1
  end
  return nil
end

local function match_lazy(node, at)
  local set = nodes.arg[node]
  while true do
    local stop = match_from(node + 1, at)
    if stop then
      return stop
    end
    if at <= size and set[byte(text, at)] then
      at = at + 1
    else
      return nil
    end
  end
end

local function match_balance(node, at)
  local first, last = nodes.arg[node], nodes.arg2[node]
  if byte(text, at) ~= first then
    return nil
  end
  local depth = 1
  for i = at + 1, size do
    local c = byte(text, i)
    if c == last then
      depth = depth - 1
      if depth == 0 then
        charge(i - at)
        return i + 1
      end
    elseif c == first then
      depth = depth + 1
    end
  end
  charge(size - at)
  return nil
end

--- Matches nodes `node`… at `at`; gives the position after the match.
function match_from(node, at)
  local kind, arg = nodes.kind, nodes.arg
  while node <= nodes.n do
    charge(2)
    local k = kind[node]
    if k == ONE then
      if at > size or not arg[node][byte(text, at)] then
        return nil
      end
      at = at + 1
    elseif k == STAR then
      return match_greedy(node, at, 0)
    elseif k == PLUS then
      return match_greedy(node, at, 1)
    elseif k == MINUS then
      return match_lazy(node, at)
    elseif k == MAYBE then
      if at <= size and arg[node][byte(text, at)] then
        local stop = match_from(node + 1, at + 1)
        if stop then
          return stop
        end
      end
    elseif k == OPEN then
      local index = arg[node]
      starts[index], stops[index] = at, 0
      opened = index
      local stop = match_from(node + 1, at)
      if not stop then
        opened = index - 1
      end
      return stop
    elseif k == CLOSE then
      local index = arg[node]
      stops[index] = at
      local stop = match_from(node + 1, at)
      if not stop then
        stops[index] = 0
      end
      return stop
    elseif k == POSITION then
      local index = arg[node]
      starts[index], stops[index] = at, -1
      opened = index
      local stop = match_from(node + 1, at)
      if not stop then
        opened = index - 1
      end
      return stop
    elseif k == BALANCE then
      at = match_balance(node, at)
      if not at then
        return nil
      end
    elseif k == FRONTIER then
      local set = arg[node]
      local before = at == 1 and 0 or byte(text, at - 1)
      if set[before] or not set[at <= size and byte(text, at) or 0] then
        return nil
      end
    elseif k == BACKREF then
      local index = arg[node]
      if index < 1 or index > opened or stops[index] == 0 then
        error("invalid capture index", 0)
      end
      local part = stops[index] > 0 and sub(text, starts[index], stops[index] - 1) or ""
      charge(#part)
      if sub(text, at, at + #part - 1) ~= part then
        return nil
      end
      at = at + #part
    elseif at ~= size + 1 then -- FINISH
      return nil
    end
    node = node + 1
  end
  return at
end

local function capture(index, from, stop)
  if index > opened then
    return sub(text, from, stop - 1)
  elseif stops[index] == -1 then
    return starts[index]
  elseif stops[index] == 0 then
    error("unfinished capture", 0)
  end
  return sub(text, starts[index], stops[index] - 1)
end

--- The captures of the last match as a list; the whole match where the pattern has none.
local function take_captures(from, stop)
  local list = {}
  for i = 1, math.max(opened, 1) do
    list[i] = capture(i, from, stop)
  end
  return list
end

local compiled, compiled_count = {}, 0

local function prepare(pattern, may_anchor)
  local key = (may_anchor and "a" or "p") .. pattern
  local hit = compiled[key]
  if not hit then
    charge(#pattern * 300)
    hit = compile(pattern, may_anchor)
    if compiled_count >= 256 then
      compiled, compiled_count = {}, 0
    end
    compiled[key], compiled_count = hit, compiled_count + 1
  end
  return hit
end

--- First match at or after `init`.
---@return integer? from, integer? stop position after the match
local function search(subject, program, init)
  text, size, nodes = subject, #subject, program
  for at = init, program.is_anchored and init or size + 1 do
    opened = 0
    local stop = match_from(1, at)
    if stop then
      return at, stop
    end
  end
  return nil
end

local shapes, shape_count = {}, 0

--- How many loops a pattern nests, at worst: what the exponent of its cost is. The search for a place to
--- start is one, unless the pattern is anchored.
local function shape(pattern)
  local loops = sub(pattern, 1, 1) == "^" and 0 or 1
  local at, n = 1, #pattern
  while at <= n do
    local c = sub(pattern, at, at)
    if c == "%" then
      if sub(pattern, at + 1, at + 1) == "b" then
        loops = loops + 1
      end
      at = at + 1
    elseif c == "*" or c == "+" or c == "-" or c == "?" then
      loops = loops + 1
    end
    at = at + 1
  end
  if shape_count >= 1024 then
    shapes, shape_count = {}, 0
  end
  shapes[pattern], shape_count = loops, shape_count + 1
  return loops
end

--- Steps that the C matcher may need for a subject of `n` bytes.
---@param pattern string
---@param n integer
---@param is_repeated? boolean for gmatch, where `^` stands for itself
---@return number
function M.worst_case(pattern, n, is_repeated)
  local loops = shapes[pattern] or shape(pattern)
  if is_repeated and byte(pattern, 1) == 94 then
    loops = loops + 1
  end
  local steps = 1
  for i = 1, loops do
    steps = steps * (n + i) / i
    if steps > 1e15 then
      break
    end
  end
  return #pattern > 32 and steps * #pattern / 32 or steps
end

function M.find(subject, pattern, init)
  local from, stop = search(subject, prepare(pattern, true), init)
  if not from then
    return nil
  end
  if nodes.captures == 0 then
    return from, stop - 1
  end
  return from, stop - 1, unpack(take_captures(from, stop))
end

function M.match(subject, pattern, init)
  local from, stop = search(subject, prepare(pattern, true), init)
  if not from then
    return nil
  end
  return unpack(take_captures(from, stop))
end

function M.gmatch(subject, pattern)
  local program, at = prepare(pattern, false), 1
  return function()
    local from, stop = nil, nil
    if at <= #subject + 1 then
      from, stop = search(subject, program, at)
    end
    if not from then
      at = #subject + 2
      return nil
    end
    at = stop == from and stop + 1 or stop
    return unpack(take_captures(from, stop))
  end
end

--- One replacement as `gsub` defines it for strings: %0-%9, and any other %x is x.
local function expand(replacement, from, stop)
  local out = replacement:gsub("%%(.)", function(c)
    if not find(c, "%d") then
      return c
    elseif c == "0" then
      return sub(text, from, stop - 1)
    end
    local index = tonumber(c)
    if index > math.max(opened, 1) then
      error("invalid capture index", 0)
    end
    return tostring(capture(index, from, stop))
  end)
  return out
end

--- `gsub`; `replace` is a string, a table or a function as for the library's.
function M.gsub(subject, pattern, replace, most)
  local program = prepare(pattern, true)
  local out, total, count, at = {}, 0, 0, 1
  local what = type(replace)
  local function add(piece)
    total = total + #piece
    charge(#piece / 8 + 1)
    if total > limits.MAX_BYTES then
      error(("gsub: the result exceeds %d bytes"):format(limits.MAX_BYTES), 0)
    end
    out[#out + 1] = piece
  end
  while count < most do
    -- The callback below may match in turn, so that what we work on is set anew each time.
    text, size, nodes, opened = subject, #subject, program, 0
    local stop = match_from(1, at)
    if stop then
      count = count + 1
      local value
      if what == "string" then
        value = expand(replace, at, stop)
      else
        local whole, captures = sub(subject, at, stop - 1), take_captures(at, stop)
        if what == "table" then
          value = replace[captures[1]]
        else
          value = replace(unpack(captures))
        end
        if not value then
          value = whole
        elseif type(value) ~= "string" and type(value) ~= "number" then
          error(("invalid replacement value (a %s)"):format(type(value)), 0)
        end
      end
      add(tostring(value))
    end
    if stop and stop > at then
      at = stop
    elseif at <= #subject then
      add(sub(subject, at, at))
      at = at + 1
    else
      at = at + 1
      break
    end
    if program.is_anchored then
      break
    end
  end
  if at <= #subject then
    add(sub(subject, at))
  end
  return table.concat(out), count
end

return M
