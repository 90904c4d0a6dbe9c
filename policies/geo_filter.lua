-- SPDX-License-Identifier: Apache-2.0
--- Lets callers in, or keeps them out, by country, continent or network operator.
local reply = require("moongate.reply")

local M = {
  name = "geo_filter",
  summary = "Lets callers in, or keeps them out, by country, continent or network operator.",
  description = "Countries by their two letters (ISO 3166; `ZZ` stands for an unknown one), "
    .. "continents by theirs (`continent:EU`), operators by their AS number, from the databases that "
    .. "`geoip` of the configuration names; both are read again when the files are replaced. What is "
    .. "in `deny` is refused; then, where `allow` is given, what is not in it. An address of which "
    .. "nothing is known, such as a private one, is treated as `unknown` says, where `ZZ` is in no "
    .. "list.",
  sections = { "inbound" },
  azure = "geo-match custom rule of the web application firewall",
  differences = "Operators by AS number, too; what is not known is decided on its own.",
  statuses = { ["403"] = "`CountryBlocked`, `CountryNotAllowed`, `CountryUnknown`; `status` "
    .. "changes it" },
  example = 'p.geo_filter { allow = { "continent:EU", "CH", "AS64500" }, unknown = "deny" }',
}

local CONTINENTS = { AF = true, AN = true, AS = true, EU = true, NA = true, OC = true, SA = true }

--- "DE", "continent:EU" or "AS15169"; a number is an AS number.
local function is_place(value)
  if type(value) == "number" then
    return value > 0 and value % 1 == 0 and value < 2 ^ 32, "an AS number"
  end
  local continent = value:match("^continent:(%a%a)$")
  if continent then
    return CONTINENTS[continent:upper()] ~= nil, "a continent: AF, AN, AS, EU, NA, OC, SA"
  end
  return value:find("^%a%a$") ~= nil or value:find("^[Aa][Ss]%d+$") ~= nil,
    'a country such as "DE", a continent such as "continent:EU" or an operator such as "AS15169"'
end

local function places(description)
  return {
    type = "array", minItems = 1, description = description,
    items = { type = { "string", "integer" }, check = is_place,
      description = "A country (`DE`, `ZZ`), a continent (`continent:EU`), or an operator "
        .. "(`AS15169`)." },
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

--- Countries, continents and AS numbers as sets; nil where there is no list.
local function sets_of(list)
  if not list then
    return nil
  end
  local sets = { countries = {}, continents = {}, operators = {}, has_operators = false }
  for _, item in ipairs(list) do
    local number = type(item) == "number" and item or tonumber(item:match("^[Aa][Ss](%d+)$"))
    if number then
      sets.operators[number], sets.has_operators = true, true
    elseif #item == 2 then
      sets.countries[item:upper()] = true
    else
      sets.continents[item:sub(-2):upper()] = true
    end
  end
  return sets
end

local function wants_countries(sets)
  return sets ~= nil and (next(sets.countries) ~= nil or next(sets.continents) ~= nil)
end

local function holds(sets, geo)
  return sets ~= nil and (sets.countries[geo.country or "ZZ"] or geo.continent
    and sets.continents[geo.continent] or geo.asn and sets.operators[geo.asn]) or false
end

function M.prepare(conf, env)
  if not conf.allow and not conf.deny then
    error("allow or deny is needed", 0)
  end
  local plan = env and env.plan
  local geoip = plan and (plan.geoip or {})
  if geoip and not geoip.country and not geoip.asn then
    error("geoip of the configuration must name a database", 0)
  end
  local self = { status = conf.status or 403, allow = sets_of(conf.allow), deny = sets_of(conf.deny) }
  local wants_operators = self.allow and self.allow.has_operators
    or self.deny and self.deny.has_operators
  if wants_operators and geoip and not geoip.asn then
    error("geoip.asn of the configuration must name a database, as operators are listed", 0)
  end
  if geoip and not geoip.country and (wants_countries(self.allow) or wants_countries(self.deny)) then
    error("geoip.country of the configuration must name a database, as countries are listed", 0)
  end
  self.lets_unknown = (conf.unknown or (conf.allow and "deny" or "allow")) == "allow"
  return self
end

local NOWHERE = {}

function M.inbound(self, ctx)
  local geo = ctx.geo or NOWHERE
  if holds(self.deny, geo) then
    return reply.refuse(self.status, "CountryBlocked", "access from this place is blocked")
  elseif holds(self.allow, geo) then
    return
  elseif not geo.country then
    if self.lets_unknown then
      return
    end
    return reply.refuse(self.status, "CountryUnknown", "access from an unknown place is blocked")
  elseif self.allow then
    return reply.refuse(self.status, "CountryNotAllowed", "access from this place is not allowed")
  end
end

return M
