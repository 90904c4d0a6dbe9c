-- SPDX-License-Identifier: Apache-2.0
--- The files of the tree as git sees them, and their text. Shared by the lint specs.

local M = {}

--- Files that are tracked, or new and not ignored.
---@param ... string path patterns of git
---@return string[]
function M.files(...)
  local quoted = {}
  for i, pattern in ipairs({ ... }) do
    quoted[i] = "'" .. pattern .. "'"
  end
  local command = "git ls-files -co --exclude-standard " .. table.concat(quoted, " ")
  local pipe = assert(io.popen(command))
  local found = {}
  for path in pipe:lines() do
    local file = io.open(path, "rb") -- a file that is deleted and not yet committed is still listed
    if file then
      file:close()
      found[#found + 1] = path
    end
  end
  pipe:close()
  return found
end

function M.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

--- Calls `visit(line, number)` for each line.
function M.each_line(text, visit)
  local number = 0
  for line in (text .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    visit(line, number)
  end
end

return M
