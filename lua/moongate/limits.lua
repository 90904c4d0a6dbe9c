-- SPDX-License-Identifier: Apache-2.0
--- What the limits on one route share.
local counters = require("moongate.counters")
local reply = require("moongate.reply")

local M = {}

local REFUSED = "limits.refused"

--- Refuses a request for a limit: what others have counted of it is given back.
---@return moongate.Reply
function M.refuse(ctx, status, reason, message, headers)
  counters.give_back()
  ctx.vars[REFUSED] = true
  return reply.refuse(status, reason, message, headers)
end

--- Did a limit refuse the request, so that it counts for none?
---@return boolean?
function M.is_refused(vars)
  return vars[REFUSED]
end

return M
