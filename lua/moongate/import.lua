-- SPDX-License-Identifier: Apache-2.0
--- `moongate import`: API files from OpenAPI definitions, policy documents from Azure's.

local M = {}

local function read_file(path)
  local file, err = io.open(path, "rb")
  if not file then
    return nil, (err:gsub("^.-: ", ""))
  end
  local text = file:read("*a")
  file:close()
  return text or nil, text and nil or "cannot be read"
end

local function write_file(path, text, is_forced)
  if not is_forced then
    local there = io.open(path, "rb")
    if there then
      there:close()
      return nil, ("%s is there already: --force overwrites it"):format(path)
    end
  end
  local folder = path:match("^(.*)/[^/]*$")
  if folder then
    local quoted = "'" .. folder:gsub("'", "'\\''") .. "'"
    os.execute("mkdir -p " .. quoted)
  end
  local file, err = io.open(path, "wb")
  if not file then
    return nil, err
  end
  file:write(text)
  file:close()
  return true
end

local function split_path(path)
  local folder, name = path:match("^(.*/)([^/]*)$")
  return folder or "", name or path
end

--- Copies the definition and what it refers to below `openapi/` of the configuration.
local function copy_documents(definition, folder, config, is_forced)
  for path, value in pairs(definition.documents) do
    if value then
      local text = read_file(folder .. path)
      local to = config .. "openapi/" .. path
      if to ~= folder .. path then
        local ok, err = write_file(to, text, is_forced)
        if not ok then
          return nil, err
        end
      end
    end
  end
  return true
end

local function import_openapi(file, options)
  local openapi = require("moongate.openapi")
  local writer = require("moongate.import.openapi")
  local folder, base = split_path(file)
  local definition, err = openapi.read(base, function(path)
    return read_file(folder .. path)
  end)
  if not definition then
    return nil, err
  end
  local out = options.out
  local name = out and select(2, split_path(out)):match("^([%w_-]+)%.lua$")
    or writer.name_of(definition.title or base)
  local text = writer.write(definition, name, "openapi/" .. base)
  if not out then
    return text, nil, definition.warnings
  end
  local config = split_path(out):match("^(.*/)[^/]+/$") or ""
  local ok
  ok, err = copy_documents(definition, folder, config, options.force)
  if ok then
    ok, err = write_file(out, text, options.force)
  end
  if not ok then
    return nil, err
  end
  return ("%s: %d operations\n"):format(out, #definition.operations), nil, definition.warnings
end

local function import_apim(file, options)
  local text, err = read_file(file)
  if not text then
    return nil, ("%s: %s"):format(file, err)
  end
  local out, failed, notes = require("moongate.import.apim").convert(text, file)
  if not out then
    return nil, failed
  end
  if not options.out then
    return out, nil, notes
  end
  local ok
  ok, err = write_file(options.out, out, options.force)
  if not ok then
    return nil, err
  end
  return options.out .. "\n", nil, notes
end

--- Runs the command.
---@param kind string "openapi" or "apim"
---@param file string
---@param options { out?: string, force?: boolean }
---@return string? text for standard output
---@return string? err
---@return string[]? notes what somebody should look at
function M.run(kind, file, options)
  if kind == "openapi" then
    return import_openapi(file, options)
  elseif kind == "apim" then
    return import_apim(file, options)
  elseif kind == "waf_log" then -- for `moongate waf report`
    return require("moongate.waf_report").run(file)
  end
  return nil, ("cannot import %q: openapi or apim"):format(kind)
end

return M
