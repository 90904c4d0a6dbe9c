-- SPDX-License-Identifier: Apache-2.0
--- Real clients and servers in Node.js for specs. A script prints `ok NAME` or `not ok NAME: why`, a
--- line for each of its checks; packages come from npm once, into build/node.
local gateway = require("spec.support.gateway")
local process = require("spec.support.process")

local M = {}

local FOLDER = "build/node"

--- Installs packages. @return false where npm or its registry cannot be reached
function M.has(packages)
  local missing = {}
  for _, name in ipairs(packages) do
    if select(2, gateway.run(("test -d '%s/node_modules/%s'"):format(FOLDER, name))) ~= 0 then
      missing[#missing + 1] = name
    end
  end
  if #missing == 0 then
    return select(2, gateway.run("command -v node")) == 0
  end
  local _, status = gateway.run(("mkdir -p '%s' && timeout 120 npm install --prefix '%s' --no-audit "
    .. "--no-fund --ignore-scripts %s"):format(FOLDER, FOLDER, table.concat(missing, " ")))
  return status == 0
end

--- Starts spec/support/<name>.js, which prints on what ports it listens.
---@param name string
---@param shows string a pattern of what it prints when it listens on all
---@param ... string arguments
---@return integer pid
---@return string output
function M.start(name, shows, ...)
  local out = os.tmpname()
  local pid = tonumber((gateway.run(("node spec/support/%s.js %s >'%s' 2>&1 & echo $!"):format(name,
    table.concat({ ... }, " "), out)):match("%d+")))
  local function output()
    local file = assert(io.open(out, "rb"))
    local text = file:read("*a")
    file:close()
    return text
  end
  local said = process.eventually(function()
    return output():find(shows) and output()
  end)
  assert(said, output())
  os.remove(out)
  return pid, said
end

--- Runs spec/integration/clients/<name>.js. @return results by name ("ok", or why not), all output
function M.run(name, ...)
  local output = gateway.run(("NODE_PATH='%s/node_modules' timeout 60 node "
    .. "spec/integration/clients/%s.js %s"):format(FOLDER, name, table.concat({ ... }, " ")))
  local results = {}
  for line in output:gmatch("[^\n]+") do
    local is_bad, what = line:match("^(n?o?t? ?)ok (.*)$")
    if what and is_bad == "" then
      results[what] = "ok"
    elseif what then
      results[what:match("^(.-): ") or what] = what
    end
  end
  return results, output
end

return M
