-- SPDX-License-Identifier: Apache-2.0
--- Tells bots from other callers by user agent and address: lets them in, refuses or marks them.
local net = require("moongate.net")
local regex = require("moongate.regex")
local reply = require("moongate.reply")

local M = {
  name = "bot_check",
  summary = "Lets bots in, refuses or marks them, by user agent and address.",
  description = "Rules are tried in the order of the list; the first that fits decides. A rule "
    .. "fits when its `agents` (texts, in any case) or its `patterns` (PCRE2, any case) are in the "
    .. "user agent, and its `addresses` hold the caller; where it has both, both must fit, so that "
    .. "a good bot is known by its address and not by its name alone. All texts of a rule are "
    .. "looked for at once, and patterns only where a text that they need is there. The rule's "
    .. 'name is left in `ctx.vars["bot_check.rule"]`.',
  sections = { "inbound" },
  azure = "bot manager rules of the web application firewall",
  differences = "Rules and lists are the configuration's own: nothing is fetched.",
  statuses = { ["403"] = "`BotBlocked`, `UserAgentMissing`; `status` changes it" },
  example = [[p.bot_check {
  rules = {
    { name = "search", action = "allow", agents = { "Googlebot" },
      addresses = { "66.249.64.0/19" } },
    { name = "liars", action = "deny", agents = { "Googlebot" } },
    { name = "tools", action = "deny", agents = { "sqlmap" }, patterns = { "^python-\\w+/" } },
    { name = "scripts", action = "tag", agents = { "curl/", "Wget/" } },
  },
  missing_agent = "deny",
}]],
}

local function texts(description, item)
  return { type = "array", minItems = 1, description = description,
    items = { type = "string", minLength = 1, description = item } }
end

M.schema = {
  type = "object", additionalProperties = false, required = { "rules" },
  order = { "rules", "missing_agent", "header", "status" },
  properties = {
    rules = {
      type = "array", minItems = 1, maxItems = 1000,
      description = "Rules; the first that fits decides.",
      items = {
        type = "object", additionalProperties = false, required = { "action" },
        order = { "name", "action", "agents", "patterns", "addresses", "exact_case" },
        description = "A rule.",
        properties = {
          name = { type = "string", minLength = 1,
            description = "Name for logs and for later policies." },
          action = { enum = { "allow", "deny", "tag" },
            description = "`deny`: refused; `allow`, `tag`: let in, and marked with the name." },
          agents = texts("Texts in the user agent, in any case.", "A text."),
          patterns = texts("Patterns (PCRE2) for the user agent.", "A pattern."),
          addresses = texts("Networks and addresses, or names from `networks`.", "A network."),
          exact_case = { type = "boolean", default = false,
            description = "Whether `patterns` mind the case." },
        },
      },
    },
    missing_agent = { enum = { "allow", "deny", "tag" }, default = "allow",
      description = "Requests without a user agent." },
    header = { type = "string", minLength = 1,
      description = "Request header field that tells the backend the rule's name (any that came is "
        .. "taken out)." },
    status = { type = "integer", minimum = 400, maximum = 599, default = 403,
      description = "Status of a refusal." },
  },
}

local function cidrset(items, known)
  local cidrs = {}
  for _, item in ipairs(items) do
    if known[item] then
      for _, cidr in ipairs(known[item]) do
        cidrs[#cidrs + 1] = cidr
      end
    else
      cidrs[#cidrs + 1] = item
    end
  end
  local set, err = net.cidrset(cidrs)
  return set or error(err, 0)
end

local function prepare_rule(rule, index, known)
  if not rule.agents and not rule.patterns and not rule.addresses then
    error(("rules[%d]: agents, patterns or addresses are needed"):format(index), 0)
  end
  local own = { name = rule.name or tostring(index), action = rule.action }
  own.agents = rule.agents and regex.literals(rule.agents)
  own.looks_at_agent = rule.agents ~= nil or rule.patterns ~= nil
  if rule.patterns then
    local ok, set = pcall(regex.set, rule.patterns, rule.exact_case and "" or "i")
    if not ok then
      error(("rules[%d].patterns: %s"):format(index, tostring(set):gsub("^regex%.set: ", "")), 0)
    end
    own.patterns = set
  end
  own.addresses = rule.addresses and cidrset(rule.addresses, known)
  return own
end

function M.prepare(conf, env)
  local self = { rules = {}, missing = conf.missing_agent or "allow", header = conf.header,
    status = conf.status or 403 }
  for i, rule in ipairs(conf.rules) do
    self.rules[i] = prepare_rule(rule, i, env and env.networks or {})
  end
  return self
end

--- Whether a rule fits. A pattern that gives up under its limit counts as fitting where the rule
--- refuses: who sends such a user agent means no good.
local function fits(rule, agent, address)
  if rule.looks_at_agent then
    local found = agent and rule.agents and rule.agents:test(agent)
    if not found and agent and rule.patterns then
      local gave_up
      found, gave_up = rule.patterns:test(agent)
      found = found or gave_up and rule.action == "deny"
    end
    if not found then
      return false
    end
  end
  return not rule.addresses or address ~= nil and rule.addresses:contains(address)
end

local function mark(self, ctx, name)
  ctx.vars["bot_check.rule"] = name
  if self.header then
    ctx.request.headers[self.header] = name
  end
end

function M.inbound(self, ctx)
  local request = ctx.request
  local agent, address = request.headers["User-Agent"], request.client_ip
  if self.header then
    request.headers[self.header] = nil
  end
  if agent == "" then
    agent = nil
  end
  local rules = self.rules
  for i = 1, #rules do
    local rule = rules[i]
    if fits(rule, agent, address) then
      mark(self, ctx, rule.name)
      if rule.action == "deny" then
        return reply.refuse(self.status, "BotBlocked", "automated access is blocked")
      end
      return
    end
  end
  if not agent and self.missing ~= "allow" then
    mark(self, ctx, "missing_agent")
    if self.missing == "deny" then
      return reply.refuse(self.status, "UserAgentMissing", "a user agent is required")
    end
  end
end

return M
