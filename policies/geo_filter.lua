-- SPDX-License-Identifier: Apache-2.0
--- Lets callers in, or keeps them out, by country or network operator.
local reply = require("moongate.reply")

local M = {
  name = "geo_filter",
  summary = "Lets callers in, or keeps them out, by country or network operator.",
  description = "Countries by their two letters (ISO 3166), operators by their AS number, from the "
    .. "databases that `geoip` of the configuration names; both are read again when the files are "
    .. "replaced. What is in `deny` is refused; then, where `allow` is given, what is not in it. "
    .. "An address of which nothing is known, such as a private one, is treated as `unknown` says.",
  sections = { "inbound" },
  azure = "geo-match custom rule of the web application firewall",
  differences = "Operators by AS number, too; what is not known is decided on its own.",
  statuses = { ["403"] = "`CountryBlocked`, `CountryNotAllowed`, `CountryUnknown`; `status` "
    .. "changes it" },
  example = 'p.geo_filter { deny = { "KP" }, unknown = "allow" }',
}

--- "DE" or "AS15169"; a number is an AS number.
local function is_place(value)
  if type(value) == "number" then
    return value > 0 and value % 1 == 0 and value < 2 ^ 32, "an AS number"
  end
  return value:find("^%a%a$") ~= nil or value:find("^[Aa][Ss]%d+$") ~= nil,
    'a country such as "DE" or an operator such as "AS15169"'
end

local function places(description)
  return {
    type = "array", minItems = 1, description = description,
    items = { type = { "string", "integer" }, check = is_place,
      description = "A country (`DE`), or an operator (`AS15169`)." },
  }
end

M.schema = {
  type = "object", additionalProperties = false, order = { "allow", "deny", "unknown", "status" },
  properties = {
    allow = places("Only these are let in."),
    deny = places("These are refused."),
    unknown = { enum = { "allow", "deny" },
      description = "Addresses of which nothing is known; `deny` where `allow` is given, else "
        .. "`allow`." },
    status = { type = "integer", minimum = 400, maximum = 599, default = 403,
      description = "Status of a refusal." },
  },
}

--- Countries and AS numbers as two sets; nil where there are none.
local function sets_of(list)
  if not list then
    return nil, nil, false
  end
  local countries, operators, has_operators = {}, {}, false
  for _, item in ipairs(list) do
    local number = type(item) == "number" and item or tonumber(item:match("^[Aa][Ss](%d+)$"))
    if number then
      operators[number], has_operators = true, true
    else
      countries[item:upper()] = true
    end
  end
  return countries, operators, has_operators
end

function M.prepare(conf, env)
  if not conf.allow and not conf.deny then
    error("allow or deny is needed", 0)
  end
  local plan = env and env.plan
  if plan and not plan.geoip then
    error("geoip of the configuration must name a database", 0)
  end
  local self = { status = conf.status or 403 }
  local allow_as, deny_as
  self.allow, self.allow_operators, allow_as = sets_of(conf.allow)
  self.deny, self.deny_operators, deny_as = sets_of(conf.deny)
  if (allow_as or deny_as) and plan and not plan.geoip.asn then
    error("geoip.asn of the configuration must name a database, as operators are listed", 0)
  end
  self.lets_unknown = (conf.unknown or (conf.allow and "deny" or "allow")) == "allow"
  return self
end

function M.inbound(self, ctx)
  local geo = ctx.geo
  local country, asn = geo and geo.country, geo and geo.asn
  if self.deny and (country and self.deny[country] or asn and self.deny_operators[asn]) then
    return reply.refuse(self.status, "CountryBlocked", "access from this place is blocked")
  end
  if not country and not (asn and self.allow and self.allow_operators[asn]) then
    if self.lets_unknown then
      return
    end
    return reply.refuse(self.status, "CountryUnknown", "access from an unknown place is blocked")
  end
  if self.allow and not (self.allow[country] or asn and self.allow_operators[asn]) then
    return reply.refuse(self.status, "CountryNotAllowed", "access from this place is not allowed")
  end
end

return M
