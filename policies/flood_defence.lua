-- SPDX-License-Identifier: Apache-2.0
--- Learns how busy a site usually is, and keeps out who floods it.
local challenge = require("moongate.challenge")
local flood = require("moongate.flood")
local reply = require("moongate.reply")

local M = {
  name = "flood_defence",
  summary = "Learns a site's usual rate; while it is exceeded, keeps out who exceeds his own.",
  description = "The rate of the site is counted by the second; its mean, deviation and the mean of "
    .. "the hour of the day make a threshold. Each address is counted too, over five seconds, "
    .. "against its own usual rate and that of the site's callers. Only while the site is above its "
    .. "threshold (and 30 s longer) does the policy act: an address that goes past both enters the "
    .. "penalty box, and is refused for `penalty` seconds. While a site is flooded nothing is "
    .. "learnt, and what is refused is never learnt. All workers of a node share what they know; "
    .. "where `redis` is configured, nodes tell one another whom they hold (within a second), and each "
    .. "learns what is usual of its own share of the traffic. IPv6 addresses count by their /64.\n\n"
    .. "`learn` is the time before it acts at all; with a `threshold` it acts at once. Callers that "
    .. "`bot_protection` has put into the classes `bad` or `unknown` are allowed a third. Metrics: "
    .. "`moongate_flood_held_total`, `moongate_flood_refused_total`, "
    .. "`moongate_flood_box_addresses`, `moongate_flood_usual_rate`, `moongate_flood_threshold`. "
    .. 'The verdict is in `ctx.vars["flood_defence.verdict"]`.',
  sections = { "inbound" },
  azure = "HTTP DDoS rule set of the web application firewall",
  differences = "Learns for an hour by default, not a day; the box can also ask for a proof of work.",
  statuses = { ["429"] = "`FloodBlocked`, with `Retry-After`; `status` changes it" },
  example = [[p.flood_defence { sensitivity = "medium", penalty = 900 }]],
}

M.schema = {
  type = "object", additionalProperties = false,
  order = { "name", "sensitivity", "minimum_rate", "minimum_client", "threshold", "learn", "penalty",
    "action", "challenge", "status" },
  properties = {
    name = { type = "string", minLength = 1,
      description = "What is counted together; the scope that lists the policy where left out." },
    sensitivity = { enum = { "low", "medium", "high" }, default = "medium",
      description = "How far past the usual is a flood: a site at 5, 3 or 1.7 times its mean, an "
        .. "address at 6, 3 or 1.5 times its own." },
    minimum_rate = { type = "number", exclusiveMinimum = 0, default = 50,
      description = "Requests per second of the site below which there is no flood." },
    minimum_client = { type = "number", exclusiveMinimum = 0, default = 5,
      description = "Requests per second that every address may make during a flood." },
    threshold = { type = "number", exclusiveMinimum = 0,
      description = "Requests per second of the site from which there is a flood, in place of what "
        .. "is learnt." },
    learn = { type = "number", minimum = 0, default = 3600,
      description = "Seconds to learn before it acts." },
    penalty = { type = "number", minimum = 1, maximum = 86400, default = 900,
      description = "Seconds in the penalty box." },
    action = { enum = { "block", "challenge", "log" }, default = "block",
      description = "What happens to who is in the box." },
    challenge = { type = "object", additionalProperties = false, required = { "secret" },
      properties = challenge.schema(), order = { "secret", "difficulty", "lifetime", "cookie" },
      description = "The proof of work that `action = \"challenge\"` asks for." },
    status = { type = "integer", minimum = 400, maximum = 599, default = 429,
      description = "Status of a refusal." },
  },
}

function M.prepare(conf, env)
  local action = conf.action or "block"
  if action == "challenge" and not conf.challenge then
    error("challenge is needed for this action", 0)
  end
  local scope = env and ("%s %s"):format(env.scope or "gateway", env.scope_name or "") or "gateway"
  return {
    guard = flood.guard {
      name = conf.name or scope, sensitivity = conf.sensitivity or "medium",
      minimum_rate = conf.minimum_rate, minimum_client = conf.minimum_client,
      threshold = conf.threshold, learn_s = conf.learn, penalty_s = conf.penalty,
    },
    action = action, status = conf.status or 429,
    challenge = conf.challenge and challenge.new(conf.challenge),
  }
end

function M.inbound(self, ctx)
  local address = ctx.request.client_ip
  if not address or address == "" then
    return
  end
  local class = ctx.vars["bot_protection.class"]
  local verdict, retry_after = self.guard:check(address, class == "bad" or class == "unknown")
  ctx.vars["flood_defence.verdict"] = verdict
  if verdict == "pass" or self.action == "log" then
    return
  elseif self.challenge and self.action == "challenge" then
    return (self.challenge:check(ctx, self.status))
  end
  return reply.refuse(self.status, "FloodBlocked", "too many requests", {
    ["Retry-After"] = ("%d"):format(retry_after) })
end

return M
