-- SPDX-License-Identifier: Apache-2.0
--- Runs Lua that is not ours: an allow-list of globals, text chunks only, and fuel in every loop.
--- What one chunk changes in its environment, another directory's chunk never sees.

local fuel = require("moongate.fuel")
local limits = require("moongate.sandbox.limits")
local near = require("moongate.near")
local strings = require("moongate.sandbox.strings")
local tables = require("moongate.sandbox.tables")

local error, type, select, rawget, rawset = error, type, select, rawget, rawset
local raw_pcall, raw_getmetatable, raw_setmetatable = pcall, getmetatable, setmetatable
local raw_next, raw_pairs = next, pairs
local co_create, co_resume, co_status = coroutine.create, coroutine.resume, coroutine.status
local charge, is_spent, refill = fuel.charge, fuel.is_spent, fuel.core.refill

local M = {}

local PAIRS_COST = 2000 -- next() may have to step over a whole emptied table

-- Read-only views of the libraries; weak, so that an environment can go.
local frozen = setmetatable({}, { __mode = "k" })

--- A read-only view of `t`.
local function freeze(t, name)
  local view = raw_setmetatable({}, {
    __index = t,
    __newindex = function()
      error(name .. " cannot be changed", 2)
    end,
    __metatable = false,
  })
  frozen[view] = true
  return view
end
M.freeze = freeze

--- A read-only view of a module that says so where it is asked for what it does not have.
---@param module table
---@param name string "moongate.reply"
function M.freeze_module(module, name)
  local copy = {}
  for key, value in raw_pairs(module) do
    copy[key] = value
  end
  raw_setmetatable(copy, raw_getmetatable(module) or { __index = function(_, key)
    error(near.unknown(name, key, copy), 2)
  end })
  return freeze(copy, name)
end

-- Checked calls: what they catch is looked at, and a spent budget goes on unwinding. By Lua's own
-- `error`: raised from C it would cost a microsecond a level, and there may be tens of thousands.
local SPENT = "policy budget is spent"

local function after_pcall(ok, ...)
  if not ok then
    if is_spent() then
      error(SPENT, 0)
    end
    charge(200) -- raising and catching take microseconds
  end
  return ok, ...
end

local function checked_pcall(f, ...)
  return after_pcall(raw_pcall(f, ...))
end

local function after_xpcall(handler, ok, ...)
  if ok then
    return true, ...
  end
  if is_spent() then
    error(SPENT, 0)
  end
  charge(200)
  -- After unwinding, never inside the failing call: a handler that loops must be stoppable too.
  local handled, result = raw_pcall(handler, (...))
  if not handled and is_spent() then
    error(SPENT, 0)
  end
  return false, result
end

local function checked_xpcall(f, handler, ...)
  return after_xpcall(handler, raw_pcall(f, ...))
end

-- Where the budget ends, the runtime leaves the coroutine: its resumer has to go on leaving.
local function after_resume(ok, ...)
  if is_spent() then
    refill()
  end
  return ok, ...
end

local function checked_resume(co, ...)
  charge(20)
  return after_resume(co_resume(co, ...))
end

local function unwrap(ok, ...)
  if is_spent() then
    refill()
  end
  if ok then
    return ...
  end
  error((...), 0)
end

local function checked_create(f)
  charge(200)
  return co_create(f)
end

local function checked_wrap(f)
  charge(200)
  local co = co_create(f)
  return function(...)
    return unwrap(co_resume(co, ...))
  end
end

local safe_coroutine = {
  create = checked_create,
  resume = checked_resume,
  wrap = checked_wrap,
  status = co_status,
  running = coroutine.running,
  yield = coroutine.yield,
  isyieldable = coroutine.isyieldable,
}

local function safe_getmetatable(value)
  if type(value) ~= "table" then
    return nil
  end
  return raw_getmetatable(value)
end

local function safe_setmetatable(t, mt)
  if type(t) ~= "table" then
    error("setmetatable: expected a table, got " .. type(t), 2)
  end
  return raw_setmetatable(t, mt)
end

local function safe_rawset(t, key, value)
  if frozen[t] then
    error("rawset: a library cannot be changed", 2)
  end
  return rawset(t, key, value)
end

local function safe_next(t, key)
  charge(PAIRS_COST)
  return raw_next(t, key)
end

local function safe_pairs(t)
  charge(PAIRS_COST)
  return raw_pairs(t)
end

local function safe_tonumber(value, base)
  if type(value) == "string" and #value > 256 then
    charge(#value)
  end
  if base == nil then
    return tonumber(value)
  end
  return tonumber(value, base)
end

local function safe_unpack(t, from, to)
  from, to = from or 1, to or #t
  if to > from then
    charge(to - from)
  end
  return unpack(t, from, to)
end

local function pick(library, names)
  local copy = {}
  for name in names:gmatch("%S+") do
    copy[name] = library[name]
  end
  return copy
end

local safe_math = pick(math, [[abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp
  log log10 max min modf pi pow rad random sin sinh sqrt tan tanh]])
local safe_bit = pick(require("bit"), [[tobit tohex bnot bor band bxor lshift rshift arshift rol ror
  bswap]])
local safe_os = pick(os, "clock time date difftime")

local is_installed = false

--- Makes string methods (`s:rep(n)`) the safe ones, in the whole Lua state. The runtime's trusted
--- code lives with that: the safe functions do what the plain ones do, within the limits.
---@return fun() restore undoes it
function M.install()
  local mt = raw_getmetatable("")
  if is_installed then
    return function() end
  end
  local plain = mt.__index
  mt.__index, is_installed = strings, true
  return function()
    mt.__index, is_installed = plain, false
  end
end

---@class moongate.SandboxOptions
---@field require? fun(name: string): any what the code gets when it requires something
---@field print? fun(...)
---@field globals? table<string, any> further globals

--- Makes an environment: the allow-list and nothing else.
---@param options? moongate.SandboxOptions
---@return table env
function M.new_env(options)
  options = options or {}
  local env = {
    _VERSION = _VERSION,
    assert = assert,
    error = error,
    ipairs = ipairs,
    next = safe_next,
    pairs = safe_pairs,
    pcall = checked_pcall,
    xpcall = checked_xpcall,
    rawequal = rawequal,
    rawget = rawget,
    rawset = safe_rawset,
    select = select,
    tonumber = safe_tonumber,
    tostring = tostring,
    type = type,
    unpack = safe_unpack,
    getmetatable = safe_getmetatable,
    setmetatable = safe_setmetatable,
    print = options.print or function() end,
    string = freeze(strings, "string"),
    table = freeze(tables, "table"),
    math = freeze(safe_math, "math"),
    bit = freeze(safe_bit, "bit"),
    os = freeze(safe_os, "os"),
    coroutine = freeze(safe_coroutine, "coroutine"),
    require = options.require or function(name)
      error(("module %q cannot be required here"):format(tostring(name)), 2)
    end,
  }
  env._G = env

  local function load_text(text, name, mode, own_env)
    if type(text) == "function" then
      local parts, total = {}, 0
      for piece in text do
        if type(piece) ~= "string" or piece == "" then
          break
        end
        total = total + #piece
        charge(#piece)
        if total > limits.MAX_BYTES then
          error("load: the source is too long", 2)
        end
        parts[#parts + 1] = piece
      end
      text = table.concat(parts)
    end
    if type(text) ~= "string" then
      error("load: expected a string, got " .. type(text), 2)
    end
    if mode == "b" then
      return nil, "attempt to load chunk with wrong mode"
    end
    charge(#text * 50)
    return M.load(text, name and tostring(name) or "=(load)", own_env or env)
  end
  env.load, env.loadstring = load_text, function(text, name)
    return load_text(text, name)
  end
  for name, value in raw_pairs(options.globals or {}) do
    env[name] = value
  end
  return env
end

--- A text without the byte order mark that editors of Windows put in front of it.
---@param text string
---@return string
function M.without_mark(text)
  return text:sub(1, 3) == "\239\187\191" and text:sub(4) or text
end

--- Compiles a text with fuel, to run in `env`.
---@param text string source, never bytecode
---@param chunkname string as for `load`: "@gateway.lua", "=expression"
---@param env? table default: a fresh `new_env()`
---@return function? chunk
---@return string? err names the chunk and the line
function M.load(text, chunkname, env)
  text = M.without_mark(text)
  if text:byte(1) == 27 then
    return nil, ("%s: bytecode is not accepted"):format((chunkname:gsub("^[@=]", "")))
  end
  -- The text must stand by itself: then nothing in it can close the function that we wrap it in,
  -- and a syntax error reads as it always does.
  local plain, err = load(text, chunkname, "t", env)
  if not plain then
    return nil, err
  end
  local instrumented, scan_err, line = fuel.instrument(text)
  if not instrumented then
    return nil, ("%s:%d: %s"):format((chunkname:gsub("^[@=]", "")), line, scan_err)
  end
  local wrapped
  wrapped, err = load(instrumented, chunkname, "t", env or M.new_env())
  if not wrapped then
    return nil, err
  end
  return wrapped(fuel.take)
end

return M
