-- SPDX-License-Identifier: Apache-2.0
--- Custom rules of p.waf: their schema, and what they are as SecLang. Rules that the engine can carry
--- out by itself (allow, block, log, redirect) stand together in one rule set; one that needs the
--- gateway (challenge, rate_limit) is a rule set by itself, so that priorities hold.
local challenge = require("moongate.challenge")
local counters = require("moongate.counters")
local reply = require("moongate.reply")

local M = {}

local function strings(description, item)
  return { type = "array", minItems = 1, description = description,
    items = { type = "string", minLength = 1, description = item } }
end

local condition = {
  type = "object", additionalProperties = false, required = { "variable", "operator" },
  order = { "variable", "name", "operator", "values", "negate", "transforms" },
  description = "A condition; all of a rule's must hold.",
  properties = {
    variable = {
      enum = { "remote_addr", "request_method", "query_string", "post_args", "args", "request_uri",
        "request_headers", "request_body", "request_cookies", "country", "continent", "asn" },
      description = "What is looked at. `request_uri`: path, decoded and without dot segments, and "
        .. "query. `post_args`: of forms; `args`: those, the query's, and members of JSON. "
        .. "`request_body`: of any type, as it came.",
    },
    name = { type = "string", minLength = 1,
      description = "Which header, cookie or argument; all of them if not said." },
    operator = {
      enum = { "any", "equal", "contains", "begins_with", "ends_with", "regex", "ip_match",
        "less_than", "greater_than", "less_or_equal", "greater_or_equal" },
      description = "How it is compared; texts mind the case (see `transforms`).",
    },
    values = strings("Values; one of them must fit.", "A value."),
    negate = { type = "boolean", default = false,
      description = "Holds when nothing fits, and when there is nothing." },
    transforms = {
      type = "array", minItems = 1, description = "Done to the value first, in order.",
      items = { enum = { "lowercase", "uppercase", "trim", "url_decode", "url_encode",
        "remove_nulls", "html_entity_decode" }, description = "A transformation." },
    },
  },
}

M.schema = {
  type = "array", minItems = 1, description = "Rules of your own; they run first, by priority.",
  items = {
    type = "object", additionalProperties = false, required = { "name", "priority", "action" },
    order = { "name", "priority", "action", "conditions", "status", "location", "calls", "window",
      "group_by", "group_header" },
    description = "A rule.",
    properties = {
      name = { type = "string", minLength = 1, maxLength = 128, description = "Name for logs." },
      priority = { type = "integer", minimum = 1, maximum = 99999,
        description = "Lower ones run first; each once." },
      action = { enum = { "allow", "block", "log", "redirect", "challenge", "rate_limit" },
        description = "`allow` ends the inspection, the rule set's too. `challenge` asks for a proof "
          .. "of work, and goes on where one is shown. `rate_limit` refuses calls past `calls` in "
          .. "`window`." },
      conditions = { type = "array", minItems = 1, maxItems = 10, items = condition,
        description = "What must hold; always, if not said." },
      status = { type = "integer", minimum = 300, maximum = 599,
        description = "Status of `block` (403), `redirect` (302), `challenge` (403) or "
          .. "`rate_limit` (429)." },
      location = { type = "string", minLength = 1, description = "Where `redirect` leads." },
      calls = { type = "integer", minimum = 1, maximum = 68719476736,
        description = "Calls that `rate_limit` lets through in a window." },
      window = { enum = { 60, 300 }, default = 60,
        description = "Seconds that `rate_limit` counts over: one minute, or five." },
      group_by = { enum = { "client_ip", "country", "header", "none" }, default = "client_ip",
        description = "Who is counted together by `rate_limit`: an address, a country, the value of "
          .. "`group_header`, or all." },
      group_header = { type = "string", minLength = 1, pattern = "^[%w!#$%%&'*+.^_`|~-]+$",
        description = "The field that `group_by = \"header\"` means." },
    },
  },
}

M.NEEDS_GATEWAY = { challenge = true, rate_limit = true }

local VARIABLES = {
  remote_addr = "REMOTE_ADDR", request_method = "REQUEST_METHOD", query_string = "QUERY_STRING",
  post_args = "ARGS_POST", args = "ARGS", request_uri = "REQUEST_URI",
  request_headers = "REQUEST_HEADERS", request_body = "REQUEST_BODY_WHOLE",
  request_cookies = "REQUEST_COOKIES", country = "TX:moongate_country",
  continent = "TX:moongate_continent", asn = "TX:moongate_asn",
}
local LATE = { post_args = true, request_body = true, args = true }
local NAMED = { post_args = true, args = true, request_headers = true, request_cookies = true }
-- One value, always.
local SINGLE = { remote_addr = true, request_method = true, request_uri = true, country = true,
  continent = true, asn = true }
local TRANSFORMS = {
  lowercase = "lowercase", uppercase = "uppercase", trim = "trim", url_decode = "urlDecodeUni",
  url_encode = "urlEncode", remove_nulls = "removeNulls", html_entity_decode = "htmlEntityDecode",
}
local NUMBERS = {
  less_than = "lt", greater_than = "gt", less_or_equal = "le", greater_or_equal = "ge",
}

local function literal(text)
  return (text:gsub("[^%w]", function(c)
    return ("\\x%02x"):format(c:byte())
  end))
end

local FORMS = {
  equal = "^(?:%s)\\z", contains = "(?:%s)", begins_with = "^(?:%s)", ends_with = "(?:%s)\\z",
}

-- Values of which something else would never be equal to what is compared.
local CODES = {
  country = { "^%u%u$", "a code of two capitals, like DE" },
  continent = { "^%u%u$", "a code of two capitals, like EU" },
  asn = { "^%d+$", "a number" },
}

local function check_codes(c)
  local code = c.operator == "equal" and CODES[c.variable]
  for _, value in ipairs(code and c.values or {}) do
    if not value:find(code[1]) then
      error(("%s equals %s, not %q"):format(c.variable, code[2], value), 0)
    end
  end
end

local function pattern(condition_, values)
  local parts = {}
  for i, value in ipairs(values) do
    parts[i] = condition_.operator == "regex" and "(?:" .. value .. ")" or literal(value)
  end
  local joined = table.concat(parts, "|")
  local form = FORMS[condition_.operator]
  return "@rx " .. (form and form:gsub("%%s", function() return joined end) or joined)
end

local function operator(c)
  if c.operator == "any" then
    return "@unconditionalMatch"
  end
  local values = c.values
  if not values then
    error(("operator %s needs values"):format(c.operator), 0)
  end
  check_codes(c)
  if c.operator == "ip_match" then
    return "@ipMatch " .. table.concat(values, ",")
  end
  if NUMBERS[c.operator] then
    if #values ~= 1 or not values[1]:find("^%-?%d+$") then
      error(("operator %s needs one number"):format(c.operator), 0)
    end
    return ("@%s %s"):format(NUMBERS[c.operator], values[1])
  end
  return pattern(c, values)
end

--- As an argument in SecLang.
local function quoted(text)
  return '"' .. text:gsub('[\\"]', "\\%0") .. '"'
end
M.quoted = quoted

local function target(c)
  local name = VARIABLES[c.variable]
  if c.name then
    if not NAMED[c.variable] or c.name:find("[|'\"\\,%s]") then
      error(("%s takes no name %q"):format(c.variable, c.name), 0)
    end
    name = name .. ":" .. c.name
  end
  return name
end

local function actions_of(rule, extra)
  local name = rule.name:gsub("[^%w %-_.:/]", "_")
  local list = { ("id:%d"):format(9900000 + rule.priority + extra * 100000), "phase:2", "t:none",
    "msg:'" .. name .. "'", "tag:'moongate-custom'" }
  if rule.action == "allow" then
    list[#list + 1] = "allow,log"
  elseif rule.action == "block" then
    list[#list + 1] = ("deny,log,status:%d"):format(rule.status or 403)
  elseif rule.action == "log" then
    list[#list + 1] = "pass,log"
  elseif rule.action == "challenge" or rule.action == "rate_limit" then
    list[#list + 1] = "pass,log"
    if not rule.conditions or #rule.conditions == 1 then
      list[#list + 1] = "setvar:tx.moongate_hit=1" -- else at the end of the chain
    end
  else
    if not rule.location or rule.location:find("[%c ']") then
      error(("rule %q: redirect needs a location"):format(rule.name), 0)
    end
    list[#list + 1] = ("redirect:'%s',log,status:%d"):format(rule.location, rule.status or 302)
  end
  return list
end

local function add_transforms(actions, c)
  for _, t in ipairs(c.transforms or {}) do
    actions[#actions + 1] = "t:" .. TRANSFORMS[t]
  end
end

-- A negated condition holds when no value fits, of several or of none: a rule before notes whether one
-- does. `!` in SecLang would hold when one value does not.
local function noted(c, lines, step)
  step.noted = (step.noted or 0) + 1
  local name = "moongate_fits_" .. step.noted
  local actions = { "id:" .. step.noted, "phase:2,pass,nolog,t:none" }
  add_transforms(actions, c)
  actions[#actions + 1] = ("setvar:tx.%s=1"):format(name)
  lines[#lines + 1] = ("SecRule %s %s %s"):format(target(c), quoted(operator(c)),
    quoted(table.concat(actions, ",")))
  return "&TX:" .. name, '"@eq 0"'
end

-- All are of phase 2, so that they run by priority; whether the body is waited for is the step's affair.
local function custom_rule(rule, extra, step)
  local notes, lines = {}, {}
  local conditions = rule.conditions or { { variable = "request_method", operator = "any" } }
  for i, c in ipairs(conditions) do
    local actions = i == 1 and actions_of(rule, extra) or { "t:none" }
    local what, how
    if c.negate and not SINGLE[c.variable] then
      what, how = noted(c, notes, step)
    else
      what, how = target(c), quoted((c.negate and "!" or "") .. operator(c))
      add_transforms(actions, c)
    end
    if i < #conditions then
      actions[#actions + 1] = "chain"
    elseif i > 1 and M.NEEDS_GATEWAY[rule.action] then
      actions[#actions + 1] = "setvar:tx.moongate_hit=1"
    end
    lines[#lines + 1] = ("SecRule %s %s %s"):format(what, how, quoted(table.concat(actions, ",")))
  end
  return table.concat(notes, "\n") .. "\n" .. table.concat(lines, "\n")
end

--- The rules by priority. With `is_merged` rules of several scopes may share one: the outer goes first.
local function ordered(rules, is_merged)
  local list = {}
  for i, rule in ipairs(rules) do
    list[i] = { rule = rule, at = i }
  end
  table.sort(list, function(a, b)
    if a.rule.priority == b.rule.priority then
      return a.at < b.at
    end
    return a.rule.priority < b.rule.priority
  end)
  for i = 2, #list do
    if not is_merged and list[i].rule.priority == list[i - 1].rule.priority then
      error(("custom_rules: priority %d is there twice"):format(list[i].rule.priority), 0)
    end
  end
  for i, one in ipairs(list) do
    list[i] = one.rule
  end
  return list
end

local function country_of(ctx)
  return ctx.geo and ctx.geo.country or "ZZ"
end

M.PLACES = { country = true, continent = true, asn = true }

--- What rules read of the caller's place; `ZZ` and 0 where it is not known.
function M.place_of(ctx)
  local geo = ctx.geo
  return { moongate_country = geo and geo.country or "ZZ",
    moongate_continent = geo and geo.continent or "ZZ",
    moongate_asn = tostring(geo and geo.asn or 0) }
end

local GROUPS = {
  client_ip = function(_, ctx)
    return ctx.request.client_ip or ""
  end,
  country = function(_, ctx)
    return country_of(ctx)
  end,
  header = function(rule, ctx)
    return ctx.request.headers[rule.group_header] or ""
  end,
  none = function()
    return "all"
  end,
}

local function rate_limit(rule, conf, env)
  local origin = conf.origins and conf.origins[rule.name] or env.id or "waf"
  if not rule.calls then
    error(("rule %q: rate_limit needs calls"):format(rule.name), 0)
  end
  if (rule.group_by == "header") ~= (rule.group_header ~= nil) then
    error(("rule %q: group_by header and group_header go together"):format(rule.name), 0)
  end
  local ok, limit = pcall(counters.limiter, {
    id = ("%s/waf:%s"):format(origin, rule.name), calls = rule.calls,
    period = rule.window or 60, algorithm = "sliding_window",
    mode = env.plan and env.plan.redis and "shared" or nil,
  })
  if not ok then
    error((tostring(limit):gsub("^.-counters%.limiter: ", "")), 0)
  end
  local group, status = GROUPS[rule.group_by or "client_ip"], rule.status or 429
  return function(ctx)
    local allowed, _, retry_after = limit:check((ctx.site or "") .. "\0" .. group(rule, ctx), 1)
    if not allowed then
      return reply.refuse(status, "WafRateLimited", "rate limit exceeded",
        { ["Retry-After"] = tostring(math.max(1, retry_after)) })
    end
  end
end

local function challenged(rule, conf)
  if not conf.challenge then
    error(("rule %q: challenge needs the setting challenge of the policy"):format(rule.name), 0)
  end
  local asked, status = challenge.new(conf.challenge), rule.status or 403
  return function(ctx)
    local answer, outcome = asked:check(ctx, status)
    ctx.vars["challenge.outcome"] = outcome
    return answer
  end
end

--- The rules as steps, in the order they run: `text` is SecLang; `act(ctx)`, where the step is one
--- rule that needs the gateway, gives a reply once it has matched, or nil to go on.
--- `names` has the name of the rule that each line of the text is of.
---@return { text: string, act?: function, rule?: table, has_late: boolean, names: string[] }[]
function M.steps(conf, env)
  local steps, last = {}, nil
  for _, rule in ipairs(ordered(conf.custom_rules or {}, conf.is_merged)) do
    local act = rule.action == "challenge" and challenged(rule, conf)
      or rule.action == "rate_limit" and rate_limit(rule, conf, env) or nil
    local is_late = false
    for _, c in ipairs(rule.conditions or {}) do
      is_late = is_late or LATE[c.variable] == true
    end
    -- A rule that wants the body begins a step, so that those before it do not wait for it.
    if act or not last or last.act or is_late and not last.has_late then
      last = { text = "", act = act, rule = rule, has_late = false, priority = 0, extra = 0,
        names = {} }
      steps[#steps + 1] = last
    end
    -- A priority that scopes share gives ids of a further hundred thousand.
    last.extra = rule.priority == last.priority and last.extra + 1 or 0
    last.priority = rule.priority
    local text = custom_rule(rule, last.extra, last) .. "\n"
    for _ in text:gmatch("\n") do
      last.names[#last.names + 1] = rule.name
    end
    last.text = last.text .. text
    last.has_late = last.has_late or is_late
  end
  return steps
end

return M
