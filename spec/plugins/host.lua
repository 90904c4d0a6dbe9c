-- SPDX-License-Identifier: Apache-2.0
--- Loads the native plugins into the busted that runs: `host("regex")` opens one of them.

local names = { "build/release", "build/dev" }

local function library()
  local wanted = os.getenv("MOONGATE_BUILD")
  for _, dir in ipairs(wanted and { wanted } or names) do
    local path = dir .. "/libmoon_plugin_test.so"
    local file = io.open(path)
    if file then
      file:close()
      return path
    end
  end
  error("libmoon_plugin_test.so is not built: ninja -C build/dev moon_plugin_test")
end

local M = package.loadlib(library(), "luaopen_moongate_testhost")()

--- What the specs take from outside the tree; nil where it is absent.
---@param path string below the shared folder
---@return string?
function M.shared(path)
  local full = (os.getenv("MOONGATE_SHARED") or "../shared") .. "/" .. path
  local file = io.open(full)
  if file then
    file:close()
    return full
  end
  return nil
end

--- The whole of a file.
---@param path string
---@return string
function M.slurp(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

--- A policy as the configuration would prepare it: its options checked, then `prepare`.
---@param name string
---@param conf table
---@param env? table
---@return table policy the module
---@return any self
function M.policy(name, conf, env)
  local module = dofile("policies/" .. name .. ".lua")
  local checked, errors = require("moongate.schema").compile(module.schema):check(conf)
  if errors then
    error(errors[1].path .. ": " .. errors[1].message, 0)
  end
  return module, module.prepare(checked, env or {})
end

--- An exchange for a policy that looks at little of it. Header names are as the spec writes them.
---@param parts? table
---@return table
function M.ctx(parts)
  local ctx = { request = { headers = {}, query = {}, cookies = {}, client_ip = "192.0.2.1" },
    vars = {},
    response = { headers = {} } }
  for name, value in pairs(parts or {}) do
    ctx.request[name] = value
  end
  function ctx.sleep() end
  return ctx
end

return setmetatable(M, {
  __call = function(_, name)
    local key = "moongate." .. name
    package.loaded[key] = package.loaded[key] or M.open[name]()
    return package.loaded[key]
  end,
})
