-- SPDX-License-Identifier: Apache-2.0
--- A configuration directory made of texts, as the runtime would hand it to `moongate.config`.

local lfs = require("lfs")

local M = {}

local builtin_dir = "policies"

local function read(path)
  local file = io.open(path, "rb")
  if not file then
    return nil, "not found"
  end
  local text = file:read("*a")
  file:close()
  return text
end

local function builtin_list()
  local names = {}
  for name in lfs.dir(builtin_dir) do
    if name:find("%.lua$") then
      names[#names + 1] = name:sub(1, -5)
    end
  end
  table.sort(names)
  return names
end

--- A source whose files are given as a table from path to text.
function M.source(files, env)
  return {
    dir = "/conf",
    read = function(path)
      if files[path] then
        return files[path]
      end
      return nil, "not found"
    end,
    list = function(dir)
      local names = {}
      for path in pairs(files) do
        names[#names + 1] = path:match("^" .. dir .. "/([^/]+)$")
      end
      return names
    end,
    paths = function()
      local paths = {}
      for path in pairs(files) do
        paths[#paths + 1] = path
      end
      table.sort(paths)
      return paths
    end,
    env = function(name)
      return env and env[name]
    end,
    builtin = function(name)
      local path = builtin_dir .. "/" .. name .. ".lua"
      local text = read(path)
      return text and assert(loadstring(text, "@" .. path))
    end,
    builtin_list = builtin_list,
  }
end

--- A source that reads a directory of the tree.
function M.tree(dir, env)
  local source = M.source({}, env)
  source.dir = dir
  source.read = function(path)
    return read(dir .. "/" .. path)
  end
  source.list = function(sub)
    local names = {}
    if lfs.attributes(dir .. "/" .. sub, "mode") ~= "directory" then
      return nil
    end
    for name in lfs.dir(dir .. "/" .. sub) do
      names[#names + 1] = name
    end
    return names
  end
  return source
end

return M
