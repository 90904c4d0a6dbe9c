-- SPDX-License-Identifier: Apache-2.0
--- `openapi = "file.yaml"` in an API: operations, texts and examples come from the definition, and
--- requests are checked against it.

local openapi = require("moongate.openapi")

local M = {}

local function key_of(method, path)
  return method .. " " .. path:gsub("{[^}]*}", "{}")
end

--- The operations of the file over those of the definition: one of the same name or of the same
--- method and path takes its place. Definitions' names follow those of the file.
local function merge(definition, given)
  local operations, by_key = {}, {}
  for _, one in ipairs(definition.operations) do
    operations[one.name] = { method = one.method, path = one.path }
    by_key[key_of(one.method, one.path)] = one
  end
  for name, own in pairs(given) do
    if type(own) == "table" then
      local copy = {}
      for field, value in pairs(own) do
        copy[field] = value
      end
      local known = definition.by_name[name]
      if not known and type(own.method) == "string" and type(own.path) == "string" then
        known = by_key[key_of(own.method, own.path)]
        if known and operations[known.name] and given[known.name] == nil then
          operations[known.name], definition.by_name[known.name] = nil, nil
          definition.by_name[name] = known
        end
      end
      if known then
        copy.method = copy.method or known.method
        copy.path = copy.path or known.path
      end
      operations[name] = copy
    else
      operations[name] = own
    end
  end
  return operations
end

--- Reads the definition that a file names. What is wrong is reported.
---@param load table errors, warnings, source
---@param file string
---@param given table what the file returned
---@return table given with the definition's operations
---@return moongate.Definition?
function M.read(load, file, given)
  local path = given.openapi
  if type(path) ~= "string" then
    return given
  end
  local definition, err = openapi.read(path, load.source.read)
  if not definition then
    load.errors:add({ file = file, path = "openapi", message = err })
    return given
  end
  for _, message in ipairs(definition.warnings) do
    load.warnings:add({ file = file, path = "openapi", message = message })
  end
  local full = {}
  for name, value in pairs(given) do
    full[name] = value
  end
  if given.operations == nil or type(given.operations) == "table" then
    full.operations = merge(definition, given.operations or {})
  end
  if given.validation == nil then
    full.validation = {}
  end
  return full, definition
end

--- Adds the definition's texts to a checked API. They hold no named values, so they come late.
---@param api table
---@param definition moongate.Definition
function M.complete(api, definition)
  api.definition = definition
  api.title = api.title or definition.title
  api.description = api.description or definition.description
  api.version = api.version or definition.info_version
  for name, operation in pairs(api.operations) do
    local known = definition.by_name[name]
    if known then
      operation.title = operation.title or known.title
      operation.description = operation.description or known.description
      operation.examples = operation.examples or openapi.examples(known)
    end
  end
end

--- The policies that check requests and responses as `validation` says: section, name, options.
---@param validation { request: string, response: string, max_size: integer, formats: boolean }
---@return table[]
function M.policies(validation)
  local list = {}
  local request, response = validation.request, validation.response
  local formats = validation.formats
  local function content(action)
    return { action = action, unspecified_content_type_action = action,
      size_exceeded_action = action, max_size = validation.max_size, formats = formats }
  end
  if request ~= "ignore" then
    list[#list + 1] = { "inbound", "validate_parameters",
      { specified_action = request, formats = formats } }
    list[#list + 1] = { "inbound", "validate_content", content(request) }
  end
  if response ~= "ignore" then
    list[#list + 1] = { "outbound", "validate_content", content(response) }
    list[#list + 1] = { "outbound", "validate_headers", { action = response, formats = formats } }
    list[#list + 1] = { "outbound", "validate_status_code", { action = response } }
  end
  return list
end

return M
