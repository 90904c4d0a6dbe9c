-- SPDX-License-Identifier: Apache-2.0
--- The files of the tree, and their text. Shared by the lint specs.

local M = {}

---@param ... string patterns as scripts/files.sh takes them
---@return string[]
function M.files(...)
  local quoted = {}
  for i, pattern in ipairs({ ... }) do
    quoted[i] = "'" .. pattern .. "'"
  end
  local pipe = assert(io.popen("scripts/files.sh " .. table.concat(quoted, " ")))
  local found = {}
  for path in pipe:lines() do
    found[#found + 1] = path
  end
  pipe:close()
  assert(#found > 0, "no file matches " .. table.concat(quoted, " "))
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
