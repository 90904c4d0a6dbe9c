-- SPDX-License-Identifier: Apache-2.0
--- Warnings about a valid configuration: what nothing uses, nothing reaches, or cannot work.

local near = require("moongate.near")
local schema = require("moongate.schema")

local M = {}

-- Built-in policies that answer by themselves.
local ANSWERING = { return_response = true, mock_response = true, forward_request = true }

--- Texts that API Management would run: here they go out as they are.
local function review_expressions(self, listing)
  if self.is_reviewed[listing] then
    return
  end
  self.is_reviewed[listing] = true
  for _, name in ipairs(near.keys(type(listing.conf) == "table" and listing.conf or {})) do
    local text = listing.conf[name]
    if type(text) == "string" and (text:find("^@%(.*%)$") or text:find("^@{.*}$")) then
      self.warnings:add({ file = listing.file, line = listing.line, path = listing.path .. "." .. name,
        message = "@(…) is taken as it is; here it is a function of ctx, or ${…} in a text" })
    end
  end
end

--- Notes which backends a policy uses, and those inside it, and which path parameters it names.
---@return boolean whether it may answer or choose a backend
local function review_listing(self, listing, used, parameters)
  local conf, module = listing.conf, listing.module
  review_expressions(self, listing)
  local is_free = listing.policy == "function" or not self.files:is_builtin(listing.policy)
  local answers = is_free or ANSWERING[listing.policy] or false
  if type(conf) == "table" and type(conf.backend) == "string" then
    used[conf.backend], answers = true, true
  end
  self.has_free_policies = self.has_free_policies or listing.policy == "function"
  for _, name in ipairs(module and module.path_parameters and module.path_parameters(conf) or {}) do
    local seen = self.named_parameters[listing] or {}
    self.named_parameters[listing] = seen
    seen[name] = seen[name] or parameters[name] ~= nil
    for known in pairs(parameters) do
      self.parameters[known] = true
    end
  end
  for _, child in ipairs(listing.children or {}) do
    answers = review_listing(self, child, used, parameters) or answers
  end
  return answers
end

--- Reviews the policies of a leaf; warns of one that reaches no backend.
local function review_leaf(self, leaf, used, warned)
  local parameters, answers = {}, leaf.kind ~= "backend"
  for name in leaf.path:gmatch("{([^}]+)}") do
    parameters[name] = true
  end
  if leaf.backend then
    used[self.backend_list[leaf.backend].name], answers = true, true
  end
  for _, section in ipairs({ "inbound", "backend" }) do
    for _, entry in ipairs(leaf.entries[section]) do
      answers = review_listing(self, entry.listing, used, parameters) or answers
    end
  end
  local place = leaf.source.file .. leaf.source.path
  local name = leaf.path:match("/:([%a_][%w_]*)")
  if name and not warned[place .. ":"] then
    warned[place .. ":"] = true
    self:warn(leaf.source.file, leaf.source.path,
      ("\":%s\" is taken as it is; a parameter is written {%s}"):format(name, name))
  end
  if not answers and not warned[place] then
    warned[place] = true
    self:warn(leaf.source.file, leaf.source.path,
      "neither it nor its API has a backend, and no policy chooses one or answers")
  end
end

--- Parameters in a policy's template that no path it runs for has.
local function review_parameters(self)
  for listing, names in pairs(self.named_parameters) do
    for _, name in ipairs(near.keys(names)) do
      if not names[name] then
        local hint = near.find(name, near.keys(self.parameters))
        self.warnings:add({ file = listing.file, line = listing.line, path = listing.path, hint = hint,
          message = ("no path that policy %q runs for has the parameter {%s}"):format(listing.policy,
            name) })
      end
    end
  end
end

-- Folders whose files are read by their names alone.
local READ = { apis = "APIs", policies = "policies", fragments = "fragments" }
local FOLDERS = { "apis", "policies", "fragments", "lib", "spec" }

--- Lua files that look as if they were read, and are not.
local function review_files(self)
  local told = {}
  for _, path in ipairs(self.source.paths()) do
    local folder, rest = path:match("^([^/]+)/(.+)%.lua$")
    local message, hint
    if folder and READ[folder] then
      if not rest:find("^[%w_-]+$") then
        message = ("is not read: %s are the files right in %s/, named by letters, digits, '_' and '-'")
          :format(READ[folder], folder)
      end
    elseif folder and not told[folder] then
      hint = near.find(folder, FOLDERS)
      message = hint ~= folder and hint and ("the folder %q is not read"):format(folder) or nil
      told[folder] = true
    end
    if message then
      self.warnings:add({ file = path, message = message, hint = hint })
    end
  end
end

--- Warns of what is there and never used, or used and cannot work.
---@param self table the load, its plan made
function M.run(self)
  local used, warned = {}, {}
  self.named_parameters, self.parameters, self.is_reviewed = {}, {}, {}
  for _, leaf in ipairs(self.plan.routes) do
    review_leaf(self, leaf, used, warned)
  end
  review_parameters(self)
  review_files(self)
  for _, name in ipairs(near.keys(self.gateway.backends or {})) do
    local backend = self.gateway.backends[name]
    for _, share in ipairs(backend.split or {}) do
      used[share.backend] = true
    end
    if backend.mirror then
      used[backend.mirror.backend] = true
    end
  end
  for _, name in ipairs(near.keys(self.gateway.backends or {})) do
    if not used[name] and not self.has_free_policies then
      self:warn("gateway.lua", schema.join("backends", name),
        ("backend %q is used by no route, API or policy"):format(name))
    end
  end
  for _, api in ipairs(self.apis) do
    if not api.is_reached then
      self:warn(api.file, "paths", ("no route reaches API %q"):format(api.name))
    end
    for i, path in ipairs(api.is_reached and api.paths or {}) do
      if not api.reached_paths[path] then
        self:warn(api.file, ("paths[%d]"):format(i),
          ("no route with `apis` reaches %q"):format(path))
      end
    end
  end
end

return M
