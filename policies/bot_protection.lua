-- SPDX-License-Identifier: Apache-2.0
--- Puts bots into three classes, bad, good and unknown, and does with each category what is asked.
local bots = require("moongate.bots")
local bots_data = require("moongate.bots_data")
local challenge = require("moongate.challenge")
local counters = require("moongate.counters")
local dns = require("moongate.dns")
local metrics = require("moongate.metrics")
local net = require("moongate.net")
local regex = require("moongate.regex")
local reply = require("moongate.reply")

local M = {
  name = "bot_protection",
  summary = "Puts bots into the classes bad, good and unknown, and acts by category.",
  description = "**bad**: `malicious` and `high_risk` (addresses on your threat lists), "
    .. "`falsified` (says that it is a bot whose operator denies it). **good**, by name and "
    .. "address both: `search`, `social`, `advertising`, `monitor`, `feed`, `link_checker`, "
    .. "`archive`, `other`. **unknown**: `scanner`, `automation`, `tool` (HTTP libraries), "
    .. "`crawler` (known by name alone), `unidentified` (no user agent).\n\nA bot is verified "
    .. "by the address list that you give for it, else by forward-confirmed reverse DNS: the "
    .. "name of its address lies in its operator's domain, and leads back to the address; an address "
    .. "without a name is not theirs. "
    .. "Answers are kept for an hour; while nobody answers, it counts as `crawler`, not as falsified. "
    .. "Lists are files with a network a line, or the "
    .. "JSON that operators publish, read again when they are replaced.\n\n"
    .. 'Left for later policies: `ctx.vars["bot_protection.class"]`, `.category`, `.name`, '
    .. "`.action`. Metric: `moongate_bots_total` by class, category and action.",
  sections = { "inbound" },
  azure = "bot manager rule set 1.1 of the web application firewall",
  differences = "Threat lists are yours; nothing is fetched. Signatures are those of "
    .. "crawler-user-agents " .. bots_data.version .. " (`scripts/update-bots.sh`).",
  statuses = { ["403"] = "`BotBlocked`, or a challenge; `status` changes it",
    ["429"] = "`BotRateLimited`" },
  example = [[p.bot_protection {
  threat_lists = { "lists/threats.txt" },
  bots = { { agent = "Googlebot", category = "search", addresses = { "lists/googlebot.json" } } },
  actions = { scanner = "block", tool = "rate_limit", automation = "challenge" },
  rate = { calls = 60, period = 60 },
  challenge = { secret = "{{challenge_secret}}" },
}]],
}

local GOOD = { "search", "social", "advertising", "monitor", "feed", "link_checker", "archive",
  "other" }
local CLASS = { malicious = "bad", high_risk = "bad", falsified = "bad", scanner = "unknown",
  automation = "unknown", tool = "unknown", crawler = "unknown", unidentified = "unknown" }
for _, name in ipairs(GOOD) do
  CLASS[name] = "good"
end
local DEFAULT = { bad = "block", good = "allow", unknown = "log" }

-- Categories of the signatures, in the order in which they are tried.
local SIGNATURES = { { "scanner", "scanner" }, { "browser-automation", "automation" },
  { "http-library", "tool" } }

local action = { enum = { "allow", "log", "block", "challenge", "rate_limit" },
  description = "What to do." }

local function files(description)
  return { type = "array", minItems = 1, description = description,
    items = { type = "string", minLength = 1, description = "Path of a file of networks." } }
end

local actions = { type = "object", additionalProperties = false, properties = {},
  description = "What to do, by category or class; a category goes before its class. Where "
    .. "nothing is said: bad is blocked, good allowed, unknown logged." }
for category in pairs(CLASS) do
  actions.properties[category] = action
end
for class in pairs(DEFAULT) do
  actions.properties[class] = action
end

M.schema = {
  type = "object", additionalProperties = false,
  order = { "threat_lists", "high_risk_lists", "bots", "fingerprints", "actions", "rate",
    "challenge", "verify", "status" },
  properties = {
    threat_lists = files("Files with the addresses of malicious callers."),
    high_risk_lists = files("Files with addresses of high risk."),
    bots = {
      type = "array", description = "Good bots beside the built-in ones, tried before these.",
      items = {
        type = "object", additionalProperties = false, required = { "agent" },
        order = { "agent", "name", "category", "addresses", "domains" }, description = "A bot.",
        properties = {
          agent = { type = "string", minLength = 3,
            description = "Text in the user agent, in any case." },
          name = { type = "string", minLength = 1, description = "Its name in logs." },
          category = { enum = GOOD, default = "other", description = "Its category." },
          addresses = files("Files with its addresses; then DNS is not asked."),
          domains = { type = "array", minItems = 1, description = "Domains of its addresses' names.",
            items = { type = "string", pattern = "^%.", description = "Such as `.example.com`." } },
        },
      },
    },
    fingerprints = {
      type = "object", description = "Categories by the TLS fingerprint (JA4) of the caller.",
      additionalProperties = { description = "A category.",
        enum = { "malicious", "high_risk", "scanner", "automation", "tool", "crawler" } },
    },
    actions = actions,
    rate = {
      type = "object", additionalProperties = false, required = { "calls", "period" },
      order = { "calls", "period" }, description = "What `rate_limit` allows an address.",
      properties = {
        calls = { type = "integer", minimum = 1, description = "Calls in a period." },
        period = { type = "integer", minimum = 1, unit = "s",
          description = "Length of the period in seconds." },
      },
    },
    challenge = { type = "object", additionalProperties = false, required = { "secret" },
      properties = challenge.schema(), order = { "secret", "difficulty", "lifetime", "cookie" },
      description = "The proof of work that `challenge` asks for." },
    verify = { type = "boolean", default = true,
      description = "Whether DNS is asked; without it such bots count as `crawler`." },
    status = { type = "integer", minimum = 400, maximum = 599, default = 403,
      description = "Status of a refusal." },
  },
}

-- ---- prepare ------------------------------------------------------------------------------------

local function lists_of(paths)
  local lists = {}
  for i, path in ipairs(paths or {}) do
    local list, err = net.listfile(path)
    lists[i] = list or error(err, 0)
  end
  return lists
end

local function known_bots(given)
  local known = {}
  for _, bot in ipairs(given or {}) do
    if not bot.addresses and not bot.domains then
      error(("bots: %q needs addresses or domains"):format(bot.agent), 0)
    end
    known[#known + 1] = { text = bot.agent:lower(), name = bot.name or bot.agent:lower(),
      category = bot.category or "other", domains = bot.domains,
      lists = bot.addresses and lists_of(bot.addresses) }
  end
  for _, bot in ipairs(bots) do
    known[#known + 1] = { text = bot.text:lower(), name = bot.name, category = bot.category,
      domains = bot.domains }
  end
  return known
end

local function signature(tag)
  return { texts = bots_data.texts[tag] and regex.literals(bots_data.texts[tag]),
    patterns = bots_data.patterns[tag] and regex.set(bots_data.patterns[tag], "i") }
end

local function is_like(one, agent)
  return one.texts ~= nil and one.texts:test(agent)
    or one.patterns ~= nil and one.patterns:test(agent) or false
end

local function all_of(groups)
  local all = {}
  for _, items in pairs(groups) do
    for _, item in ipairs(items) do
      all[#all + 1] = item
    end
  end
  return all
end

local function actions_of(conf)
  local by_category, given = {}, conf.actions or {}
  for category, class in pairs(CLASS) do
    local chosen = given[category] or given[class] or DEFAULT[class]
    if chosen == "challenge" and not conf.challenge then
      error(("challenge is needed for actions.%s"):format(category), 0)
    elseif chosen == "rate_limit" and not conf.rate then
      error(("rate is needed for actions.%s"):format(category), 0)
    end
    by_category[category] = { action = chosen, class = class,
      labels = { class = class, category = category, action = chosen } }
  end
  return by_category
end

function M.prepare(conf)
  local self = {
    threats = lists_of(conf.threat_lists), high_risks = lists_of(conf.high_risk_lists),
    bots = known_bots(conf.bots), fingerprints = conf.fingerprints,
    actions = actions_of(conf), rate = conf.rate, status = conf.status or 403,
    challenge = conf.challenge and challenge.new(conf.challenge),
    asks_dns = conf.verify ~= false, signatures = {},
    any = { texts = regex.literals(all_of(bots_data.texts)),
      patterns = regex.set(all_of(bots_data.patterns), "i") },
  }
  local texts = {}
  for i, bot in ipairs(self.bots) do
    texts[i] = bot.text
  end
  self.bot_texts = regex.literals(texts)
  for i, pair in ipairs(SIGNATURES) do
    self.signatures[i] = signature(pair[1])
    self.signatures[i].category = pair[2]
  end
  return self
end

-- ---- requests -----------------------------------------------------------------------------------

local function is_in(lists, address)
  for i = 1, #lists do
    if lists[i]:contains(address) then
      return true
    end
  end
  return false
end

local function lies_in(name, domains)
  name = name:lower():gsub("%.$", "")
  for i = 1, #domains do
    if name:sub(-#domains[i]) == domains[i] then
      return true
    end
  end
  return false
end

--- Whether the address is one of the operator's: true, false, or nil where nobody can tell.
local function confirmed(address, domains)
  local name, why = dns.reverse(address)
  if not name then
    if why == "no name" then
      return false -- operators name their addresses
    end
    return nil
  elseif not lies_in(name, domains) then
    return false
  end
  local addresses = dns.forward(name)
  if not addresses then
    return nil
  end
  for i = 1, #addresses do
    if addresses[i] == address then
      return true
    end
  end
  return false
end

local function category_of_bot(self, bot, address)
  if bot.lists then
    if is_in(bot.lists, address) then
      return bot.category
    elseif not bot.domains then
      return "falsified"
    end
  end
  if not self.asks_dns then
    return "crawler"
  end
  local is_true = confirmed(address, bot.domains)
  if is_true == nil then
    return "crawler"
  end
  return is_true and bot.category or "falsified"
end

local function category_of_agent(self, agent, address)
  if self.bot_texts:test(agent) then
    local lower = agent:lower()
    for i = 1, #self.bots do
      local bot = self.bots[i]
      if lower:find(bot.text, 1, true) then
        return category_of_bot(self, bot, address), bot.name
      end
    end
  end
  if is_like(self.any, agent) then
    for i = 1, #self.signatures do
      if is_like(self.signatures[i], agent) then
        return self.signatures[i].category
      end
    end
    return "crawler"
  end
end

local function classify(self, request, address)
  if is_in(self.threats, address) then
    return "malicious"
  elseif is_in(self.high_risks, address) then
    return "high_risk"
  end
  local tls = self.fingerprints and request.tls
  local by_print = tls and tls.ja4 and self.fingerprints[tls.ja4]
  if by_print then
    return by_print
  end
  local agent = request.headers["User-Agent"]
  if not agent or agent == "" then
    return "unidentified"
  end
  return category_of_agent(self, agent, address)
end

function M.inbound(self, ctx)
  local request, vars = ctx.request, ctx.vars
  local address = request.client_ip or ""
  local category, name = classify(self, request, address)
  if not category then
    return
  end
  local chosen = self.actions[category]
  vars["bot_protection.class"], vars["bot_protection.category"] = chosen.class, category
  vars["bot_protection.name"], vars["bot_protection.action"] = name, chosen.action
  metrics.add("moongate_bots_total", 1, chosen.labels)
  if chosen.action == "block" then
    return reply.refuse(self.status, "BotBlocked", "automated access is blocked")
  elseif chosen.action == "challenge" then
    return (self.challenge:check(ctx, self.status))
  elseif chosen.action == "rate_limit" and counters.add("bot_protection " .. address, 1,
      self.rate.period) > self.rate.calls then
    return reply.refuse(429, "BotRateLimited", "too many automated requests",
      { ["Retry-After"] = tostring(self.rate.period) })
  end
end

return M
