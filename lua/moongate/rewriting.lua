-- SPDX-License-Identifier: Apache-2.0
--- What the policies that replace texts in bodies have in common: which bodies they leave alone, and
--- what else of a message changes when its body does.

local M = {}

-- No body, or a part of one: what stands in a range is not where it stood.
local WITHOUT = { [204] = true, [206] = true, [304] = true }

--- Whether the texts of this body can be seen: it has no coding, and is all of it.
---@param message table ctx.request or ctx.response
---@param status? integer of a response
function M.is_readable(message, status)
  local coding = message.headers["Content-Encoding"]
  return (coding == nil or coding:lower() == "identity") and not WITHOUT[status]
end

local DIGESTS = { "Content-MD5", "Digest", "Content-Digest", "Repr-Digest", "Accept-Ranges" }

--- Replaces texts while the body passes. Other bytes than the origin's have no digest of its own, no
--- ranges, and no strong validator (RFC 9110, 8.8.1).
---@param message table ctx.request or ctx.response
---@param rules string[][] { from, to }
---@param is_link? boolean
function M.replace(message, rules, is_link)
  message:replace(rules, is_link)
  local headers = message.headers
  for i = 1, #DIGESTS do
    if headers[DIGESTS[i]] then
      headers[DIGESTS[i]] = nil
    end
  end
  local tag = headers["ETag"]
  if tag and tag:sub(1, 2) ~= "W/" then
    headers["ETag"] = "W/" .. tag
  end
end

return M
