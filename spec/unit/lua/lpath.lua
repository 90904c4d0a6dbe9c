-- SPDX-License-Identifier: Apache-2.0
--- Loaded by busted before any spec: the search path, and stand-ins for what only the runtime has.
-- Interpreted: LuaJIT's compiled next() may go on with half a pointer (runtime/script/script_libraries.c).
jit.off()

package.path = "lua/?.lua;./?.lua;" .. package.path

-- Policies are modules of their own name, in the runtime as here.
local function stand_in(name, loader)
  if not package.preload[name] then
    package.preload[name] = loader
  end
end

stand_in("moongate.json", function()
  return require("cjson.safe")
end)

-- The C behind policies that configurations load here and no request runs.
stand_in("moongate.subscriptions", function()
  return { gate = function() end }
end)

-- busted forgets modules between files. Opening ffi anew would start a second C type table, and
-- break
-- what holds types of the first: every `require` gets the same one.
local ffi = require("ffi")
package.preload["ffi"] = function()
  return ffi
end
