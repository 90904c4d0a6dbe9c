-- SPDX-License-Identifier: Apache-2.0
--- What the limits on one route share.
local counters = require("moongate.counters")
local reply = require("moongate.reply")

local M = {}

--- Refuses a request for a limit: what others have counted of it is given back.
---@return moongate.Reply
function M.refuse(status, reason, message, headers)
  counters.give_back()
  return reply.refuse(status, reason, message, headers)
end

return M
