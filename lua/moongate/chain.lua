-- SPDX-License-Identifier: Apache-2.0
--- Composes the policies of nested scopes into one function per section: generated source, one call
--- a line, nothing allocated per request. Leaves with the same policies share their chains.

local fuel = require("moongate.fuel")
local listings = require("moongate.config.listings")

local concat = table.concat

-- Where a chain notes which policy it runs, for the report of a stuck worker, and what the runtime can
-- do without Lua. Without the runtime (unit specs) nobody looks.
local has_core, core = pcall(require, "moongate.chain.core")
if not has_core then
  core = {
    at = { 0 },
    name = function()
      return 0
    end,
    is_act = function()
      return false
    end,
    act = function()
      return nil
    end,
  }
end

local M = {}

---@class moongate.ChainEntry
---@field listing moongate.Listing
---@field product? string runs only for callers with a key of this product

---@class moongate.Chain
---@field acts? moongate.ChainAct[] what its first policies do, in C alone
---@field fn? fun(ctx): table?, integer? what follows them
---@field source? string of fn
---@field name? string fn's chunk name
---@field entries moongate.ChainEntry[]

---@class moongate.ChainAct
---@field object userdata
---@field product? string runs only for callers with a key of this product
---@field instead fun(ctx): table?, integer? the chain from this policy on, where the act declines

-- By chunk name: what `describe` answers from.
local book = {}
local chain_count = 0

--- Runs a policy whose errors do not end the request.
local function guard(f, own, ctx)
  local ok, result = pcall(f, own, ctx)
  if ok then
    return result
  end
  if fuel.is_spent() then
    fuel.core.refill()
  end
  local has_log, log = pcall(require, "moongate.log")
  if has_log then
    log.warning(("a policy failed and was passed over: %s"):format(tostring(result)))
  end
  return nil
end

local function guard_function(f, _, ctx)
  return guard(f, ctx)
end

--- Inner scopes stand inside their outer ones: where `base` is, or by the section's own habit.
local function wrap(outer, own, section, product)
  if #own == 0 then
    return outer
  end
  local before, after, has_base = {}, {}, false
  for _, item in ipairs(own) do
    if item == "base" then
      has_base = true
    else
      local list = has_base and after or before
      list[#list + 1] = { listing = item, product = product }
    end
  end
  if not has_base and (section == "inbound" or section == "backend") then
    before, after = after, before
  end
  return before, after
end

local function joined(...)
  local out = {}
  for i = 1, select("#", ...) do
    for _, entry in ipairs((select(i, ...))) do
      out[#out + 1] = entry
    end
  end
  return out
end

--- The policies of a section, outermost scope first, as the request will meet them.
---@param scopes (moongate.Scope|moongate.Scope[])[] a list in place of a scope: products, of which the
---request's key picks one
---@param section string
---@return moongate.ChainEntry[]
function M.compose(scopes, section)
  local list = {}
  for _, scope in ipairs(scopes) do
    if scope.lists then
      local before, after = wrap(list, scope.lists[section], section)
      if after then
        list = joined(before, list, after)
      end
    else
      local all_before, all_after = {}, {}
      for _, product in ipairs(scope) do
        local before, after = wrap(list, product.lists[section], section, product.name)
        if after then
          all_before, all_after = joined(all_before, before), joined(all_after, after)
        end
      end
      list = joined(all_before, list, all_after)
    end
  end
  return list
end

--- All sections at once; a policy that acts in later sections too is entered there, before those
--- that are listed there.
---@return table<string, moongate.ChainEntry[]>
function M.compose_all(scopes)
  local listed, out = {}, {}
  for i, section in ipairs(listings.ACTS) do
    listed[section] = listings.SECTIONS[i] and M.compose(scopes, section) or {}
    local entries = {}
    for j = 1, i - 1 do
      for _, entry in ipairs(listed[listings.ACTS[j]]) do
        if entry.listing.acts[section] then
          entries[#entries + 1] = entry
        end
      end
    end
    for _, entry in ipairs(listed[section]) do
      if entry.listing.acts[section] then
        entries[#entries + 1] = entry
      end
    end
    out[section] = entries
  end
  return out
end

-- LuaJIT lets a function have 60 upvalues; beyond that the calls go through the list itself.
local MAX_UPVALUES = 54

-- By listing: the number that the runtime knows it by.
local place_numbers = setmetatable({}, { __mode = "k" })

local function place_number(listing)
  local number = place_numbers[listing]
  if not number then
    number = core.name(("%s (%s:%d)"):format(listing.policy or "function", listing.file or "?",
      listing.line or 0))
    place_numbers[listing] = number
  end
  return number
end

--- The call of one policy, without its conditions.
local function call(entry, section, name, is_nested)
  local listing = entry.listing
  local f, own = name.f, name.own
  local text
  if listing.continues then
    local through = listing.takes_self and "guard" or "guard_function"
    text = ("r = %s(%s, %s, ctx)"):format(through, f, own)
  elseif listing.takes_self then
    text = ("r = %s(%s, ctx)"):format(f, own)
  else
    text = ("r = %s(ctx)"):format(f)
  end
  if section == "log" or section == "malformed" then
    return text
  elseif is_nested then
    return text .. (" if r then return place(r, %d) end"):format(name.line)
  end
  return text .. (" if r then return r, %d end"):format(name.line)
end

-- A policy whose `prepare` says so (`native`) is done by C alone in a section, or by its Lua function
-- where C declines. The runtime itself calls those that a chain begins with, which may wait as well.
local function act_of(entry, section, may_wait)
  local listing = entry.listing
  if listing.when or type(listing.own) ~= "table" then
    return nil
  end
  local native = rawget(listing.own, "native")
  local act = type(native) == "table" and rawget(native, section)
  return core.is_act(act, may_wait) and { object = act, product = entry.product } or nil
end

--- The acts that follow each other, by the place in the chain of the first of them; and by place, of
--- which run a policy is and as which.
local function runs_of(entries, section)
  local runs, of, run = {}, {}, nil
  for i, entry in ipairs(entries) do
    local act = act_of(entry, section, false)
    if not act then
      run = nil
    else
      run = run or { first = i }
      run[#run + 1] = act
      runs[run.first], of[i] = run, run
    end
  end
  return runs, of
end

--- Generates the source of a chain. Line 1 opens the function; entries follow, one a line.
---@return string source
---@return any[] values what its names stand for
---@return table<integer, moongate.ChainEntry> by_line
function M.generate(entries, section, is_nested)
  local out, values, by_line = {}, {}, {}
  local runs, run_of = runs_of(entries, section)
  local uses_names = #entries * 4 + 4 <= MAX_UPVALUES
  local names, line, product_line = {}, 1, nil

  local function bind(value, name)
    values[#values + 1] = value
    local slot = ("P[%d]"):format(#values)
    if uses_names then
      names[#names + 1] = ("local %s = %s "):format(name, slot)
      return name
    end
    return slot
  end

  for i, entry in ipairs(entries) do
    local listing = entry.listing
    if entry.product and not run_of[i] and not product_line then
      out[#out + 1] = "local q = ctx.product q = q and q.name"
      line = line + 1
      product_line = line
      by_line[line] = entry
    end
    if runs[i] then
      runs[i].name = bind(core.acts(runs[i]), "a" .. i)
      out[#out + 1] = ("d = act(%s, 1, ctx)"):format(runs[i].name)
      line = line + 1
      by_line[line] = entry
    end
    line = line + 1
    local name = { line = line, f = bind(listing.acts[section], "p" .. i), own = "nil" }
    if listing.takes_self then
      name.own = bind(listing.own, "s" .. i)
    end
    local text = call(entry, section, name, is_nested)
    if listing.when then
      text = ("if %s(ctx) then %s end"):format(bind(listing.when, "w" .. i), text)
    end
    text = ("at[1] = %d %s"):format(place_number(listing), text)
    local run = run_of[i]
    if entry.product and not run then
      text = ("if q == %q then %s end"):format(entry.product, text)
    elseif run then -- the act was the caller's, and has declined
      local place = i - run.first + 1
      text = ("if d == %d then %s%s end"):format(place, text,
        place < #run and (" d = act(%s, %d, ctx)"):format(run.name, place + 1) or "")
    end
    out[#out + 1] = text
    by_line[line] = entry
  end
  local head = ("local P, at, guard, guard_function, place, act = ... %sreturn function(ctx) local r, d")
    :format(concat(names))
  return head .. "\n" .. concat(out, "\n") .. "\nend\n", values, by_line
end

--- The function of a chain, its source and its chunk's name. Where it is not the leaf's own
--- (`is_nested`), a reply of its policies tells the place that it comes from: the innermost.
local function compile(entries, section, is_nested)
  chain_count = chain_count + 1
  local name = ("chain:%d:%s"):format(chain_count, section)
  local source, values, by_line = M.generate(entries, section, is_nested)
  local chunk = assert(load(source, "=" .. name, "t", {}))
  book[name] = { section = section, by_line = by_line }
  local function place(r, line)
    if type(r) == "table" and r.chain == nil then
      r.chain, r.line = name, line
    end
    return r
  end
  return chunk(values, core.at, guard, guard_function, place, core.act), source, name
end

-- What an act declines is rare: the chain from there on is compiled when it is first called.
local function from(entries, first, section)
  local fn
  return function(ctx)
    fn = fn or compile({ unpack(entries, first) }, section, true)
    return fn(ctx)
  end
end

--- Takes the acts at the front of a chain.
---@return moongate.ChainAct[] acts
---@return moongate.ChainEntry[] rest
local function split(entries, section)
  local acts = {}
  for i, entry in ipairs(entries) do
    local act = act_of(entry, section, true)
    if not act then
      break
    end
    act.instead = from(entries, i, section)
    acts[i] = act
  end
  if #acts == 0 then
    return acts, entries
  end
  return acts, { unpack(entries, #acts + 1) }
end

local function key_of(entries, section)
  local parts = { section }
  for _, entry in ipairs(entries) do
    parts[#parts + 1] = entry.listing.uid .. (entry.product and "@" .. entry.product or "")
  end
  return concat(parts, " ")
end

--- Builds what a section runs; nil where that is nothing.
---@param entries moongate.ChainEntry[]
---@param section string
---@param cache table chains made before in this load, by what is in them
---@return moongate.Chain?
function M.build(entries, section, cache)
  if #entries == 0 then
    return nil
  end
  local key = key_of(entries, section)
  local chain = cache[key]
  if not chain then
    local acts, rest = split(entries, section)
    chain = { acts = #acts > 0 and acts or nil, entries = entries }
    if #rest > 0 then
      chain.fn, chain.source, chain.name = compile(rest, section)
    end
    cache[key] = chain
  end
  return chain
end

--- The policies inside another one, for a section: nil where none of them acts in it.
---@param children moongate.Listing[]
---@param section string
---@return (fun(ctx): table?)?
function M.block(children, section)
  local entries = {}
  for _, listing in ipairs(children) do
    if listing.acts[section] and not listing.is_marker then
      entries[#entries + 1] = { listing = listing }
    end
  end
  if #entries == 0 then
    return nil
  end
  return (compile(entries, section, true))
end

--- What runs on a line of a chain: for errors, stuck workers and refusals.
---@param chunkname string "chain:3:inbound", with or without "="
---@param line integer
---@return table? place { policy, id, path, scope, scope_name, section, file, line }
function M.describe(chunkname, line)
  local page = book[(chunkname:gsub("^=", ""))]
  local entry = page and page.by_line[line]
  if not entry then
    return nil
  end
  local listing = entry.listing
  return {
    policy = listing.policy,
    id = listing.id,
    path = listing.place,
    scope = listing.scope,
    scope_name = listing.scope_name,
    section = page.section,
    product = entry.product,
    file = listing.file,
    line = listing.line,
  }
end

return M
