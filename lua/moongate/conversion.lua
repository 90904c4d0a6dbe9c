-- SPDX-License-Identifier: Apache-2.0
--- What the policies that turn one media type into another have in common: when they act, what a body
--- that is not what it claims is answered with, and which fields change with the body.

local reply = require("moongate.reply")

local M = {}

---@class moongate.Conversion
---@field name string of the policy, for the log
---@field from string what the media type must name: "json"
---@field to string what Accept must name: "xml"
---@field content_type string of the result
---@field reason string of the refusal
---@field message string of the refusal
---@field convert fun(self: table, text: string): string?, string?

local function accepts(accept, to)
  return accept == nil or accept:lower():find(to, 1, true) or accept:find("*/*", 1, true)
end

local function act(kind, self, ctx, message, status)
  local media = (message.headers["Content-Type"] or ""):lower()
  if not self.always and not media:find(kind.from, 1, true) or message.headers["Content-Encoding"]
  then
    return nil
  end
  local body = message:body()
  if body == "" then
    return nil
  end
  local text, err = kind.convert(self, body)
  if not text then
    ctx.log:warning(kind.name .. ": " .. err)
    return reply.refuse(status, kind.reason, kind.message)
  end
  message:set_body(text)
  message.headers["Content-Type"] = kind.content_type
  message.headers["ETag"] = nil
end

--- Gives a policy its sections. Its `self` says `always` (whatever the media type) and `considers`
--- (the Accept field).
---@param policy moongate.Policy
---@param kind moongate.Conversion
function M.install(policy, kind)
  function policy.inbound(self, ctx)
    return act(kind, self, ctx, ctx.request, 400)
  end

  function policy.outbound(self, ctx)
    if self.considers and not accepts(ctx.request.headers["Accept"], kind.to) then
      return nil
    end
    return act(kind, self, ctx, ctx.response, 502)
  end

  policy.on_error = policy.outbound
end

return M
