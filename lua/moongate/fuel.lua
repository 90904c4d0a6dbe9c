-- SPDX-License-Identifier: Apache-2.0
--- The CPU budget of policies. `instrument` inserts, at load time and without moving a line, a
--- counter at every loop head, label and function entry; when it runs out, `refill` looks at the
--- clock. A spent budget stays spent until the request ends, whatever the code catches.

local ffi = require("ffi")
local lexer = require("moongate.lexer")

local M = {
  QUANTUM = 10000, -- checks between two looks at the clock
  PORTION = 500, -- checks that a chunk takes out of it at once
  HEAVY = 5000, -- price of a pass through code that concatenates: its cost grows with its operands
}

local cell_type = ffi.typeof("struct { int32_t left; }")

--- Stands in for `moongate.fuel.core` where the runtime is absent (unit specs): the same semantics
--- with `os.clock`. `begin` starts a budget, `finish` ends it.
local function stand_in()
  local cell = cell_type(M.QUANTUM)
  local core = { cell = ffi.cast("void *", cell), anchor = cell }
  local deadline, memory_limit, is_spent

  function core.begin(budget_s, memory_bytes)
    is_spent, deadline = false, budget_s and os.clock() + budget_s
    memory_limit = memory_bytes and collectgarbage("count") + memory_bytes / 1024
    cell.left = M.QUANTUM
  end

  function core.finish()
    is_spent, deadline, memory_limit = false, nil, nil
    cell.left = M.QUANTUM
  end

  function core.is_spent()
    return is_spent
  end

  function core.refill()
    if not is_spent then
      is_spent = deadline and os.clock() > deadline
        or memory_limit and collectgarbage("count") > memory_limit
        or false
    end
    if is_spent then
      cell.left = 0
      error("policy budget is spent", 0)
    end
    cell.left = M.QUANTUM
  end

  function core.take(left)
    cell.left = cell.left - (M.PORTION - left)
    if cell.left < 0 then
      core.refill()
    end
    return M.PORTION
  end

  return core
end

local has_core, core = pcall(require, "moongate.fuel.core")
if not has_core then
  core = stand_in()
end
M.core = core
M.is_spent = core.is_spent

local refill = core.refill
local cell = ffi.cast(ffi.typeof("$ *", cell_type), core.cell)
M.cell, M.refill = cell, refill

--- A chunk's further checks; also pays for those that it has made on credit.
---@param left number what is left of the portion before, at most 0
---@return number left
M.take = core.take

--- Charges for work that a library function is about to do on the policy's behalf.
---@param units number about a nanosecond each; any size
function M.charge(units)
  local left = cell.left - (units < 1000000000 and units or 1000000000)
  cell.left = left
  if left < 0 then
    refill()
  end
end

--- Starts a budget where nobody else does: while configuration is loaded, and in specs.
function M.begin(budget_s, memory_bytes)
  if core.begin then
    core.begin(budget_s, memory_bytes)
  end
end

function M.finish()
  if core.finish then
    core.finish()
  end
end

local block_ends = { ["end"] = true, ["until"] = true, ["else"] = true, ["elseif"] = true, eof = true }

--- Whether the label that ends at token `i` closes its block. Such a label can only be jumped to
--- forwards, and a statement after it would bring it into the scope of the block's locals.
local function is_trailing(kind, i)
  i = i + 1
  while true do
    if kind[i] == ";" then
      i = i + 1
    elseif kind[i] == "::" then
      i = i + 3
    else
      return block_ends[kind[i]] or false
    end
  end
end

--- A name that the text does not use, so that it can neither be read nor shadowed.
local function unused_name(text, tokens, stem)
  local taken = {}
  for i = 1, #tokens.kind do
    if tokens.kind[i] == "name" then
      taken[text:sub(tokens.first[i], tokens.last[i])] = true
    end
  end
  local name, n = stem, 0
  while taken[name] do
    n = n + 1
    name = stem .. n
  end
  return name
end

--- Finds where the counters go: after which byte, and whether the code there is heavy.
local function places(tokens)
  local kind, last = tokens.kind, tokens.last
  local at, is_heavy, count = {}, {}, 0
  local blocks, depth = {}, 0 -- open blocks: the index of their counter, or 0
  local labels = {} -- per depth of functions: indexes of the counters at labels
  local functions = 0
  local is_function = {}
  labels[0] = {}

  local function add(token)
    count = count + 1
    at[count], is_heavy[count] = last[token], false
    return count
  end
  local function open(index)
    depth = depth + 1
    blocks[depth] = index
  end

  local i = 1
  while kind[i] ~= "eof" do
    local k = kind[i]
    if k == "do" or k == "repeat" then
      open(add(i))
    elseif k == "if" then
      open(0)
    elseif k == "function" then
      while kind[i] ~= ")" and kind[i] ~= "eof" do
        i = i + 1
      end
      if kind[i] == "eof" then
        break
      end
      open(add(i))
      functions = functions + 1
      is_function[depth], labels[functions] = true, {}
    elseif (k == "end" or k == "until") and depth > 0 then
      if is_function[depth] then
        is_function[depth], functions = nil, functions - 1
      end
      depth = depth - 1
    elseif k == "::" then
      i = i + 2
      if kind[i] == "::" and not is_trailing(kind, i) then
        local own = labels[functions]
        own[#own + 1] = add(i)
      end
    elseif k == ".." then
      for d = depth, 1, -1 do
        if blocks[d] > 0 then
          is_heavy[blocks[d]] = true
          break
        end
      end
      -- A label may be the head of a loop made with goto: all of this function's are priced so.
      local own = labels[functions]
      for j = 1, #own do
        is_heavy[own[j]] = true
      end
    end
    i = i + 1
  end
  return at, is_heavy, count
end

--- Inserts the counters.
---@param text string Lua source that compiles as it stands
---@return string? instrumented a chunk that takes `take`, and gives the text's own function
---@return string? err
---@return integer? line
function M.instrument(text)
  local tokens, err, line = lexer.scan(text)
  if not tokens then
    return nil, err, line
  end
  -- Each chunk counts in a local of its own, which costs next to nothing, interpreted or compiled,
  -- and takes portions out of the quantum that all of them share.
  local name = unused_name(text, tokens, "FUEL")
  local take_name = unused_name(text, tokens, "TAKE")
  local check = " %s=%s-%d if %s<0 then %s=%s(%s)end "
  local light = check:format(name, name, 1, name, name, take_name, name)
  local heavy = check:format(name, name, M.HEAVY, name, name, take_name, name)

  local at, is_heavy, count = places(tokens)
  local out = { "local ", name, ",", take_name, "=0,... return function(...)" .. light }
  local from = 1
  if text:byte(1) == 35 then
    from = text:find("[\r\n]") or #text + 1
  end
  for i = 1, count do
    out[#out + 1] = text:sub(from, at[i])
    out[#out + 1] = is_heavy[i] and heavy or light
    from = at[i] + 1
  end
  out[#out + 1] = text:sub(from)
  out[#out + 1] = "\nend"
  return table.concat(out)
end

return M
