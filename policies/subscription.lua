-- SPDX-License-Identifier: Apache-2.0
--- Lets in who has a subscription key that opens the API.
local reply = require("moongate.reply")

local M = {
  name = "subscription",
  summary = "Lets in who has a subscription key that opens the API.",
  description = "An API with `subscription = { … }` gets this policy by itself, after the policies "
    .. "of gateway, site and route and before those of product, API and operation. Keys are compared "
    .. "by their hashes, in constant time.",
  sections = { "inbound" },
  azure = "subscription keys",
  differences = "A key that is given and does not open the API is always refused, also where none is "
    .. "required. The key is not sent to the backend unless `forward_key` says so.",
  statuses = { ["401"] = "`SubscriptionKeyNotFound`, `SubscriptionKeyInvalid`" },
  example = "subscription = { required = true }",
}

M.schema = {
  type = "object", additionalProperties = false, order = { "required", "header", "query",
    "forward_key" },
  properties = {
    required = { type = "boolean", default = true, description = "Callers without a key get 401." },
    header = { type = "string", default = "Ocp-Apim-Subscription-Key",
      description = "Header field that carries the key." },
    query = { type = "string", default = "subscription-key",
      description = "Query parameter that is looked at where the header is absent." },
    forward_key = { type = "boolean", default = false,
      description = "Whether the backend gets the key, too." },
  },
}

function M.prepare(conf, env)
  local self = { is_required = conf.required ~= false, header = conf.header, query = conf.query,
    strips = not conf.forward_key, api = env and env.api, products = {} }
  for _, name in ipairs(env and env.products or {}) do
    self.products[name] = true
  end
  return self
end

--- Whether a subscription opens the API: by its product, by the API, or as one for all.
local function opens(self, subscription)
  if subscription.product then
    return self.products[subscription.product] or false
  end
  return subscription.api == nil or subscription.api == self.api
end

function M.inbound(self, ctx)
  local subscription = ctx.subscription
  if not subscription then
    if ctx.subscription_given then
      return reply.refuse(401, "SubscriptionKeyInvalid", "the subscription key is not valid")
    elseif self.is_required then
      return reply.refuse(401, "SubscriptionKeyNotFound", "a subscription key is needed")
    end
    return
  end
  if subscription.state ~= "active" or not opens(self, subscription) then
    return reply.refuse(401, "SubscriptionKeyInvalid", "the subscription key is not valid")
  end
  if self.strips then
    ctx.request.headers[self.header] = nil
    ctx.request.query[self.query] = nil
  end
end

return M
