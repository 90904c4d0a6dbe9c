-- SPDX-License-Identifier: Apache-2.0
--- Lets in who has a subscription key that opens the API.
local reply = require("moongate.reply")
local subscriptions = require("moongate.subscriptions")

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
  local gate = subscriptions.gate(conf.header, conf.query, conf.required ~= false,
    not conf.forward_key, env and env.api or "", env and env.products or {})
  return { gate = gate, native = { inbound = gate } }
end

function M.inbound(self, ctx)
  local why = self.gate:admit(ctx)
  if why == "missing" then
    return reply.refuse(401, "SubscriptionKeyNotFound", "a subscription key is needed")
  elseif why then
    return reply.refuse(401, "SubscriptionKeyInvalid", "the subscription key is not valid")
  end
end

return M
