-- SPDX-License-Identifier: Apache-2.0
--- What configuration may say of header fields.

local M = {}

--- Fields that belong to the connection itself, in small letters: neither policies nor replies set them.
M.of_connection = {}
for name in
  ([[connection content-length keep-alive proxy-connection te trailer transfer-encoding
     upgrade]]):gmatch("%S+")
do
  M.of_connection[name] = true
end

--- Whether a text can be a field's value: no line ends or other control characters.
---@param value string
function M.is_value(value)
  return not value:find("[%z\1-\8\10-\31\127]")
end

return M
