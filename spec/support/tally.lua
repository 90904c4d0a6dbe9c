-- SPDX-License-Identifier: Apache-2.0
--- busted's output for scripts/test.sh (`busted -o spec/support/tally.lua`): a line per test,
--- failures in full, and a last line `tally: P passed, F failed, S pending`.

local ffi = require("ffi")
local pretty = require("pl.pretty")

-- A sanitizer that was preloaded into busted is not meant for openssl, redis-server and what else
-- specs start.
ffi.cdef("int unsetenv(const char *name);")
ffi.C.unsetenv("LD_PRELOAD")

--- A test that takes longer than this is named in the log.
local SLOW_S = 2

local function text_of(message)
  if type(message) == "string" then
    return message
  end
  return message == nil and "nil error" or pretty.write(message)
end

local function show_failure(failure)
  local trace = failure.trace or {}
  local place = ("%s:%s"):format(trace.short_src or "?", trace.currentline or "?")
  io.write(("FAIL  %s\n      %s\n"):format(failure.name, place))
  io.write("      " .. text_of(failure.message):gsub("\n", "\n      ") .. "\n")
  if trace.traceback then
    io.write("      " .. trace.traceback:gsub("^\n", ""):gsub("\n", "\n      ") .. "\n")
  end
end

return function()
  local busted = require("busted")
  local handler = require("busted.outputHandlers.base")()
  local passed, failed, pending = 0, 0, 0

  local function test_end(element, _, status)
    local name = handler.getFullName(element)
    if status == "success" then
      passed = passed + 1
      local slow = (element.duration or 0) > SLOW_S and (" (%.1f s)"):format(element.duration) or ""
      io.write("ok    " .. name .. slow .. "\n")
    elseif status == "pending" then
      pending = pending + 1
      local latest = handler.pendings[#handler.pendings]
      local why = latest and type(latest.message) == "string" and (": " .. latest.message) or ""
      io.write("skip  " .. name .. why .. "\n")
    else
      failed = failed + 1
      local list = status == "failure" and handler.failures or handler.errors
      show_failure(list[#list])
    end
    io.flush()
    return nil, true
  end

  -- Errors outside a test: a file that does not load, a setup that raises.
  local function outside_error(element)
    if element.descriptor ~= "it" then
      failed = failed + 1
      show_failure(handler.errors[#handler.errors])
      io.flush()
    end
    return nil, true
  end

  local function suite_end()
    io.write(("tally: %d passed, %d failed, %d pending\n"):format(passed, failed, pending))
    io.flush()
    return nil, true
  end

  busted.subscribe({ "test", "end" }, test_end, { predicate = handler.cancelOnPending })
  busted.subscribe({ "error" }, outside_error)
  busted.subscribe({ "failure" }, outside_error)
  busted.subscribe({ "suite", "end" }, suite_end)
  return handler
end
