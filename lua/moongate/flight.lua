-- SPDX-License-Identifier: Apache-2.0
--- One request does what takes long (fetches keys, a token), the others wait for it or go on
--- without. A request that was given up by its client holds the others no longer than the limit.

local jwt = require("moongate.jwt")

local M = {}

local POLL = 0.01

---@class moongate.Flight
local Flight = {}
Flight.__index = Flight

--- Whether a request is at it now.
---@return boolean
function Flight:is_busy()
  return self.ends_at ~= nil and jwt.now() < self.ends_at
end

--- Waits until the one that is at it has done.
---@param ctx any
function Flight:wait(ctx)
  local waited = 0
  while self:is_busy() and waited < self.limit do
    ctx:sleep(POLL)
    waited = waited + POLL
  end
end

--- Does it. An error is caught and returned.
---@param f function
---@return boolean ok
---@return any result or the error
---@return any more
function Flight:run(f, ...)
  self.ends_at = jwt.now() + self.limit
  local ok, result, more = pcall(f, ...)
  self.ends_at = nil
  return ok, result, more
end

---@param limit number seconds that it may take
---@return moongate.Flight
function M.new(limit)
  return setmetatable({ limit = limit }, Flight)
end

return M
