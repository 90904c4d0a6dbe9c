-- SPDX-License-Identifier: Apache-2.0
--- Loads the Lua files of a configuration directory in the sandbox, and what they may require.

local fuel = require("moongate.fuel")
local near = require("moongate.near")
local policies = require("moongate.policies")
local sandbox = require("moongate.sandbox")

local M = {}
M.__index = M

-- Modules of ours that user code may require; the other names are in DIR/lib/.
local modules = {}
for name in
  ([[clock counters crypto csharp expression geo http json jsonschema jwt log net policies regex
  reply]]):gmatch("%a+")
do
  modules["moongate." .. name] = true
end

---@class moongate.Source
---@field dir? string
---@field read fun(path: string): string?, string?
---@field list fun(dir: string): string[]?
---@field paths fun(): string[]
---@field env fun(name: string): string?
---@field builtin fun(name: string): function?
---@field builtin_list fun(): string[]

---@param source moongate.Source
---@param errors table
function M.new(source, errors)
  return setmetatable({ source = source, errors = errors, libs = {}, policies = {}, unset = {} }, M)
end

local UNSET_MOST = 100

-- What names that are often left undeclared stand for.
local DECLARATIONS = {
  base = 'local base = require("moongate.policies").base', p = 'local p = require("moongate.policies")',
  reply = 'local reply = require("moongate.reply")',
}

--- Notes the globals that a file reads while it runs and that nobody has set: a misspelt name is nil to
--- Lua, and a table with nil in it is one without.
function M:note_unset(env)
  return setmetatable(env, { __index = function(_, name)
    local at = debug.getinfo(2, "Sl")
    local file, line = at.source:match("^@(.*)$"), at.currentline
    local key = ("%s:%s:%s"):format(file, line, tostring(name))
    if file and type(name) == "string" and not self.unset[key] and #self.unset < UNSET_MOST then
      local remedy = DECLARATIONS[name]
      self.unset[key] = true
      self.unset[#self.unset + 1] = {
        file = file, line = line, name = name,
        message = ("the name %q has no value%s"):format(name, remedy and "; write " .. remedy or ""),
        hint = not remedy and near.find(name, near.keys(env)) or nil,
      }
    end
    return nil
  end })
end

--- Adds to `list` the names without a value that no error on the same line speaks of.
---@param list table  the errors or the warnings of the load
function M:report_unset(list)
  for _, one in ipairs(self.unset) do
    local is_told = false
    for _, err in ipairs(self.errors.list) do
      is_told = is_told or err.file == one.file and err.line == one.line
        and err.message:find("'" .. one.name .. "'", 1, true) ~= nil
    end
    if not is_told then
      list:add({ file = one.file, line = one.line, message = one.message, hint = one.hint })
    end
  end
end

--- What `require` does in user code.
function M:require(name)
  if name == "moongate.policies" then
    return policies
  elseif modules[name] then
    local ok, module = pcall(require, name)
    if not ok then
      error(("module %s is not part of this build"):format(name), 3)
    end
    return type(module) == "table" and sandbox.freeze_module(module, name) or module
  end
  local short = type(name) == "string" and name:gsub("^lib%.", "")
  if not short or not short:find("^[%w_][%w_.]*$") or short:find("..", 1, true) then
    error(("module %q cannot be required here"):format(tostring(name)), 3)
  end
  local lib = self.libs[short]
  if lib == nil then
    local path = "lib/" .. short:gsub("%.", "/") .. ".lua"
    if not self.source.read(path) then
      local known = near.keys(modules)
      local hint = near.find(name, known)
      error(("module %q cannot be required here: it is no module for policies, and there is no %s%s")
        :format(name, path, hint and ("; did you mean %q?"):format(hint) or ""), 3)
    end
    self.libs[short] = false -- while it loads: a circle ends here
    local ok, value = self:run(path)
    if not ok then
      self.libs[short] = nil
      error(value, 0)
    end
    lib = value == nil and true or value
    self.libs[short] = lib
  elseif lib == false then
    error(("module %q requires itself"):format(name), 3)
  end
  return lib
end

--- Compiles and runs a user's file.
---@return boolean ok
---@return any value what it returned, or the error
function M:run(path)
  local text, err = self.source.read(path)
  if not text then
    return false, ("%s: cannot be read: %s"):format(path, err or "not found")
  end
  text = sandbox.without_mark(text)
  self.errors:add_source(path, text)
  local env = sandbox.new_env({
    require = function(name)
      local module = self:require(name) -- no tail call: errors name the line that requires
      return module
    end,
  })
  local chunk
  chunk, err = sandbox.load(text, "@" .. path, env)
  if not chunk then
    return false, err
  end
  local outer = self.running
  self.running = path -- and stays it where the budget ends the load
  self:note_unset(env)
  local ok, value = pcall(chunk)
  setmetatable(env, nil)
  if not fuel.is_spent() then
    self.running = outer
  end
  return ok, value
end

--- The table that a file returns; what is wrong is reported.
---@return table?
function M:load_table(path)
  local ok, value = self:run(path)
  if not ok then
    self.errors:add_raised(path, value)
    return nil
  elseif type(value) ~= "table" then
    self.errors:add({
      file = path,
      message = ("the file must return a table, and returned %s"):format(
        value == nil and "nothing" or "a " .. type(value)
      ),
    })
    return nil
  end
  return value
end

--- Names of the Lua files of a folder, sorted.
function M:names(dir)
  local names = {}
  for _, name in ipairs(self.source.list(dir) or {}) do
    local stem = name:match("^([%w_-]+)%.lua$")
    if stem and not stem:find("_spec$") then
      names[#names + 1] = stem
    end
  end
  table.sort(names)
  return names
end

--- Every policy's name, built-in and the user's.
function M:policy_names()
  if not self.all_policies then
    local names = {}
    for _, name in ipairs(self.source.builtin_list and self.source.builtin_list() or {}) do
      names[#names + 1] = (name:gsub("%.lua$", ""))
    end
    for _, name in ipairs(self:names("policies")) do
      names[#names + 1] = name
    end
    self.all_policies = names
  end
  return self.all_policies
end

local function load_builtin(source, name)
  local key = "policies." .. name
  local loaded = package.loaded[key]
  if loaded then
    return loaded
  end
  local chunk = source.builtin and source.builtin(name)
  if not chunk then
    return nil
  end
  loaded = chunk(key)
  package.loaded[key] = loaded
  return loaded
end

--- Whether a policy is one of ours.
---@param name string
---@return boolean
function M:is_builtin(name)
  return load_builtin(self.source, name) ~= nil
end

local SECTIONS = { "inbound", "backend", "outbound", "on_error", "log" }

--- The section that a function of a policy was meant for, where its name comes near one.
local function near_section(module)
  for _, name in ipairs(near.keys(module)) do
    local hint = type(module[name]) == "function" and near.find(name, SECTIONS)
    if hint then
      return hint
    end
  end
  return nil
end

--- The module of a policy, or nil and the reason.
---@param name string
---@return table? module
---@return string? err
---@return string? hint
function M:policy(name)
  local known = self.policies[name]
  if known then
    return known.module, known.err, known.hint
  end
  known = {}
  self.policies[name] = known
  local path = "policies/" .. name .. ".lua"
  local is_users = self.source.read(path) ~= nil
  local builtin = load_builtin(self.source, name)
  if is_users and builtin then
    known.err = ("policy %q is built in: give %s another name"):format(name, path)
  elseif builtin then
    known.module = builtin
  elseif not is_users then
    known.err = ("unknown policy %q"):format(name)
    known.hint = near.find(name, self:policy_names())
  else
    local ok, value = self:run(path)
    if not ok then
      self.errors:add_raised(path, value)
      known.err = ("policy %q could not be loaded"):format(name)
    elseif type(value) ~= "table" then
      self.errors:add({ file = path, message = "a policy must return a table" })
      known.err = ("policy %q could not be loaded"):format(name)
    else
      known.module = value
    end
  end
  if known.module then
    local acts = false
    for _, section in ipairs(SECTIONS) do
      acts = acts or type(rawget(known.module, section)) == "function"
    end
    if not acts then
      known.err = ("policy %q has no function inbound, backend, outbound, on_error or log"):format(
        name
      )
      known.hint = near_section(known.module)
      known.module = nil
    end
  end
  return known.module, known.err, known.hint
end

return M
