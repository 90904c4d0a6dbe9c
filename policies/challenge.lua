-- SPDX-License-Identifier: Apache-2.0
--- Asks callers for a proof of work before they are let in.
local challenge = require("moongate.challenge")
local metrics = require("moongate.metrics")

local M = {
  name = "challenge",
  summary = "Lets in who has solved a proof of work: browsers by a page, programs by header fields.",
  description = "A browser gets a page whose script finds a number such that SHA-256 of "
    .. "`CHALLENGE:NUMBER` begins with `difficulty` zero bits, sends it to the address that was "
    .. "asked for, where this policy answers it, and loads that again with the cookie that it got. "
    .. "The cookie is signed, bound to the caller's address, and holds for `lifetime`.\n\n"
    .. "A program gets a problem document with `X-Moongate-Challenge` and `X-Moongate-Difficulty`, "
    .. "and repeats its request with that field and the number in `X-Moongate-Response`; the answer "
    .. "holds for five minutes. With `X-Moongate-Verify: 1` beside them it gets 204 and the cookie "
    .. "in place of the resource. Nothing is stored, so any node accepts what another has issued.",
  sections = { "inbound" },
  azure = "JavaScript challenge of the web application firewall",
  differences = "Programs can pass it too. The cookie's name, lifetime and the work are settings.",
  statuses = {
    ["403"] = "the challenge: a page, or `ChallengeRequired`; `status` changes it",
    ["204"] = "answered: the cookie",
  },
  example = [[p.challenge { secret = "{{challenge_secret}}", difficulty = 16, lifetime = 1800 }]],
}

M.schema = {
  type = "object", additionalProperties = false, required = { "secret" },
  order = { "secret", "difficulty", "lifetime", "cookie", "status" },
  properties = challenge.schema(),
}
M.schema.properties.status = { type = "integer", minimum = 400, maximum = 599, default = 403,
  description = "Status of the challenge." }

function M.prepare(conf)
  return { challenge = challenge.new(conf), status = conf.status or 403,
    labels = { issued = { outcome = "issued" }, verified = { outcome = "verified" },
      failed = { outcome = "failed" }, passed = { outcome = "passed" } } }
end

function M.inbound(self, ctx)
  local answer, outcome = self.challenge:check(ctx, self.status)
  ctx.vars["challenge.outcome"] = outcome
  metrics.add("moongate_challenges_total", 1, self.labels[outcome])
  return answer
end

return M
