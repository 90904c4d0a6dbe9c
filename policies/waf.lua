-- SPDX-License-Identifier: Apache-2.0
--- Inspects requests and responses with the Core Rule Set, or other ModSecurity rules.
local reply = require("moongate.reply")
local waf = require("moongate.waf")
local waf_api = require("moongate.waf_api")

local M = {
  name = "waf",
  summary = "Inspects requests and responses with the Core Rule Set, or other ModSecurity rules.",
  description = "Rules are SecLang files as mod_security2 reads them, unmodified; a set is "
    .. "compiled once and shared by all routes that name it. `custom_rules` run before them, by "
    .. "priority. In `detection` nothing is refused, all is logged. The anomaly score is left in "
    .. '`ctx.vars["waf.score"]`, the rule that refused in `ctx.vars["waf.rule"]`.',
  sections = { "inbound" },
  azure = "web application firewall of Application Gateway",
  differences = "ModSecurity's own rule language and verdicts; exclusions may name ranges, tags "
    .. "and patterns of names. Challenges and rate limits are policies of their own.",
  statuses = {
    ["403"] = "`WafBlocked`; a rule may name another status",
    ["413"] = "`WafBodyTooLarge`: over `max_body_bytes`, unless `over_limit` is `inspect_part`",
  },
  example = [[p.waf {
  ruleset = "crs", mode = "prevention", paranoia = 1, inbound_threshold = 5,
  exclusions = { { rules = { 942100, "941000-941999" }, variables = { "ARGS:comment" } } },
  custom_rules = {
    { name = "office", priority = 10, action = "block",
      conditions = {
        { variable = "request_uri", operator = "begins_with", values = { "/admin" } },
        { variable = "remote_addr", operator = "ip_match", negate = true,
          values = { "10.0.0.0/8" } },
      } },
  },
  audit_log = { file = "waf.log", format = "modsecurity" },
}]],
}

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
        "request_headers", "request_body", "request_cookies", "country" },
      description = "What is looked at.",
    },
    name = { type = "string", minLength = 1,
      description = "Which header, cookie or argument; all of them if not said." },
    operator = {
      enum = { "any", "equal", "contains", "begins_with", "ends_with", "regex", "ip_match",
        "less_than", "greater_than", "less_or_equal", "greater_or_equal" },
      description = "How it is compared; texts mind the case (see `transforms`).",
    },
    values = strings("Values; one of them must fit.", "A value."),
    negate = { type = "boolean", default = false, description = "Holds when nothing fits." },
    transforms = {
      type = "array", minItems = 1, description = "Done to the value first, in order.",
      items = { enum = { "lowercase", "uppercase", "trim", "url_decode", "url_encode",
        "remove_nulls", "html_entity_decode" }, description = "A transformation." },
    },
  },
}

M.schema = {
  type = "object", additionalProperties = false,
  order = { "ruleset", "profile", "mode", "paranoia", "detection_paranoia", "inbound_threshold",
    "outbound_threshold", "allowed_methods", "exclusions", "custom_rules", "setup", "directives",
    "inspect_body", "max_body_bytes", "over_limit", "inspect_response", "max_response_bytes",
    "audit_log" },
  properties = {
    ruleset = {
      type = { "string", "array" }, minLength = 1, minItems = 1, default = "crs",
      description = "`crs`: the installed package `modsecurity-crs`; a folder of CRS; or files, "
        .. "with wildcards, read in order. `none`: custom rules only.",
      items = { type = "string", minLength = 1, description = "A file, with wildcards." },
    },
    profile = { enum = { "api", "crs" }, default = "api",
      description = "`api`: values decoded, prose told from input of machines, rules of ours beside "
        .. "the Core Rule Set's; docs/waf-api-profile.md. `crs`: its verdicts exactly." },
    mode = { enum = { "detection", "prevention" }, default = "prevention",
      description = "`detection`: log only." },
    paranoia = { type = "integer", minimum = 1, maximum = 4,
      description = "Paranoia level whose rules count; the rule set's own if not said (1)." },
    detection_paranoia = { type = "integer", minimum = 1, maximum = 4,
      description = "Level up to which rules run and are logged; `paranoia` if not said." },
    inbound_threshold = { type = "integer", minimum = 1,
      description = "Anomaly score at which a request is refused; the rule set's own (5) if not "
        .. "said." },
    outbound_threshold = { type = "integer", minimum = 1,
      description = "Anomaly score at which a response is refused; the rule set's own (4) if not "
        .. "said." },
    allowed_methods = strings("Methods that the rule set lets through; its own if not said "
      .. "(GET, HEAD, POST, OPTIONS; with the profile `api` PUT, PATCH, DELETE too).", "A method."),
    exclusions = {
      type = "array", minItems = 1, description = "What is not to be looked at.",
      items = {
        type = "object", additionalProperties = false, order = { "rules", "tags", "variables" },
        description = "Rules by id, range or tag; with `variables` those only, else all of them.",
        properties = {
          rules = {
            type = "array", minItems = 1, description = "Ids, or ranges.",
            items = { type = { "integer", "string" }, description = "An id, or a range "
              .. "(`942000-942999`)." },
          },
          tags = strings("Patterns; a rule with a tag that fits is meant.", "A pattern."),
          variables = strings("Variables: `ARGS:name`, `ARGS:/^pattern/`, `REQUEST_COOKIES`; "
            .. "members of a JSON body are `ARGS:path.to.member`.", "A variable."),
        },
      },
    },
    custom_rules = {
      type = "array", minItems = 1, description = "Rules of your own; they run first.",
      items = {
        type = "object", additionalProperties = false, required = { "name", "priority", "action" },
        order = { "name", "priority", "action", "conditions", "status", "location" },
        description = "A rule.",
        properties = {
          name = { type = "string", minLength = 1, maxLength = 128,
            description = "Name for logs." },
          priority = { type = "integer", minimum = 1, maximum = 99999,
            description = "Lower ones run first; each once." },
          action = { enum = { "allow", "block", "log", "redirect" },
            description = "`allow` ends the inspection." },
          conditions = { type = "array", minItems = 1, maxItems = 10, items = condition,
            description = "What must hold; always, if not said." },
          status = { type = "integer", minimum = 300, maximum = 599,
            description = "Status of `block` (403) or `redirect` (302)." },
          location = { type = "string", minLength = 1, description = "Where `redirect` leads." },
        },
      },
    },
    setup = { type = "string", minLength = 1,
      description = "SecLang of your own, read before the rule set: settings, conditions." },
    directives = { type = "string", minLength = 1,
      description = "SecLang of your own, read after the rule set." },
    inspect_body = { type = "boolean", default = true, description = "Look at request bodies." },
    max_body_bytes = { type = "integer", minimum = 1, default = 131072,
      description = "Bytes of a request body that are inspected." },
    over_limit = { enum = { "refuse", "inspect_part" }, default = "refuse",
      description = "What to do with a larger body." },
    inspect_response = { type = "boolean", default = false, description = "Look at responses." },
    max_response_bytes = { type = "integer", minimum = 1, default = 524288,
      description = "Bytes of a response body that are inspected." },
    audit_log = {
      type = "object", additionalProperties = false, required = { "file" },
      order = { "file", "format" },
      description = "File for what matched; without it, a line each in the error log, as its member"
        .. " `waf`.",
      properties = {
        file = { type = "string", minLength = 1, description = "File, appended to." },
        format = { enum = { "json", "modsecurity" }, default = "json",
          description = "`json`: a line per request; `modsecurity`: a line per rule, as "
            .. "ModSecurity's error log has it." },
      },
    },
  },
}

function M.needs(conf)
  return { request_body = conf.inspect_body, response_body = conf.inspect_response }
end

-- What `modsecurity.conf-recommended` sets, as far as rules see it.
local BEFORE = [[
SecRuleEngine On
SecRequestBodyAccess On
SecRequestBodyJsonDepthLimit 512
SecResponseBodyAccess On
SecResponseBodyMimeType text/plain text/html text/xml application/json
SecResponseBodyLimitAction ProcessPartial
SecPcreMatchLimit 20000
SecDefaultAction "phase:1,log,auditlog,pass"
SecDefaultAction "phase:2,log,auditlog,pass"
SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\+|/)|text/)xml" \
  "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "^application/(?:[^;\s]+\+)?json" \
  "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQBODY_ERROR "!@eq 0" \
  "id:200002,phase:2,t:none,log,deny,status:400,severity:2,\
  msg:'Failed to parse request body.',logdata:'%{reqbody_error_msg}'"
SecRule MULTIPART_STRICT_ERROR "!@eq 0" \
  "id:200003,phase:2,t:none,log,deny,status:400,severity:2,\
  msg:'Multipart request body failed strict validation.'"
SecRule MULTIPART_UNMATCHED_BOUNDARY "!@eq 0" \
  "id:200004,phase:2,t:none,log,deny,severity:2,\
  msg:'Multipart parser detected a possible unmatched boundary.'"
]]

local CRS_HOMES = {
  { setup = { "/etc/modsecurity/crs/crs-setup.conf" },
    before = "/etc/modsecurity/crs/REQUEST-900-EXCLUSION-RULES-BEFORE-CRS.conf",
    rules = "/usr/share/modsecurity-crs/rules",
    after = "/etc/modsecurity/crs/RESPONSE-999-EXCLUSION-RULES-AFTER-CRS.conf" },
}

local function crs_sources(sources, home)
  local function add(path)
    if path and waf.exists(path) then
      sources[#sources + 1] = { file = path }
      return true
    end
  end
  local has_setup = false
  for _, path in ipairs(home.setup) do
    has_setup = has_setup or add(path) == true
  end
  if not has_setup then
    return false
  end
  add(home.before)
  sources[#sources + 1] = { file = home.rules .. "/*.conf" }
  add(home.after)
  return true
end

local function folder_of(file)
  return file and file:match("^(.*)/[^/]*$") or "."
end

local function absolute(path, env)
  if path:sub(1, 1) == "/" then
    return path
  end
  return (env.dir or folder_of(env.file)) .. "/" .. path
end

--- Whether the rules are the Core Rule Set, to which a profile can add.
local function is_crs(conf, env)
  local ruleset = conf.ruleset or "crs"
  return ruleset == "crs" or type(ruleset) == "string" and ruleset ~= "none"
    and waf.exists(absolute(ruleset, env) .. "/rules")
end

--- The files of the rule set, in the order they are read.
local function ruleset_sources(conf, env, sources)
  local ruleset = conf.ruleset or "crs"
  if ruleset == "none" then
    return
  end
  if ruleset == "crs" then
    for _, home in ipairs(CRS_HOMES) do
      if waf.exists(home.rules) and crs_sources(sources, home) then
        return
      end
    end
    error("the Core Rule Set is not installed: install modsecurity-crs, or name a folder", 0)
  end
  for _, item in ipairs(type(ruleset) == "table" and ruleset or { ruleset }) do
    local path = absolute(item, env)
    if waf.exists(path .. "/rules") then
      local ok = crs_sources(sources, {
        setup = { path .. "/crs-setup.conf", path .. "/crs-setup.conf.example" },
        rules = path .. "/rules",
      })
      if not ok then
        error(("%s holds rules but no crs-setup.conf"):format(path), 0)
      end
    else
      sources[#sources + 1] = { file = path }
    end
  end
end

-- --- custom rules, as SecLang ----------------------------------------------------------------

local VARIABLES = {
  remote_addr = "REMOTE_ADDR", request_method = "REQUEST_METHOD", query_string = "QUERY_STRING",
  post_args = "ARGS_POST", args = "ARGS", request_uri = "REQUEST_URI",
  request_headers = "REQUEST_HEADERS", request_body = "REQUEST_BODY",
  request_cookies = "REQUEST_COOKIES", country = "TX:moongate_country",
}
local LATE = { post_args = true, request_body = true, args = true }
local NAMED = { post_args = true, args = true, request_headers = true, request_cookies = true }
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

local function quoted(text)
  return '"' .. text:gsub('[\\"]', "\\%0") .. '"'
end

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

local function actions_of(rule, phase)
  local name = rule.name:gsub("[^%w %-_.:/]", "_")
  local list = { ("id:%d"):format(9900000 + rule.priority), "phase:" .. phase, "t:none",
    "msg:'" .. name .. "'", "tag:'moongate-custom'" }
  if rule.action == "allow" then
    list[#list + 1] = "allow,log"
  elseif rule.action == "block" then
    list[#list + 1] = ("deny,log,status:%d"):format(rule.status or 403)
  elseif rule.action == "log" then
    list[#list + 1] = "pass,log"
  else
    if not rule.location or rule.location:find("[%c ']") then
      error(("rule %q: redirect needs a location"):format(rule.name), 0)
    end
    list[#list + 1] = ("redirect:'%s',log,status:%d"):format(rule.location, rule.status or 302)
  end
  return list
end

local function custom_rule(rule)
  local phase, lines = 1, {}
  local conditions = rule.conditions or { { variable = "request_method", operator = "any" } }
  for _, c in ipairs(conditions) do
    phase = LATE[c.variable] and 2 or phase
  end
  for i, c in ipairs(conditions) do
    local actions = i == 1 and actions_of(rule, phase) or { "t:none" }
    for _, t in ipairs(c.transforms or {}) do
      actions[#actions + 1] = "t:" .. TRANSFORMS[t]
    end
    if i < #conditions then
      actions[#actions + 1] = "chain"
    end
    lines[#lines + 1] = ("SecRule %s %s %s"):format(target(c),
      quoted((c.negate and "!" or "") .. operator(c)), quoted(table.concat(actions, ",")))
  end
  return table.concat(lines, "\n")
end

local function custom_text(rules)
  local ordered, lines = {}, {}
  for i, rule in ipairs(rules) do
    ordered[i] = rule
  end
  table.sort(ordered, function(a, b)
    return a.priority < b.priority
  end)
  for i, rule in ipairs(ordered) do
    if i > 1 and rule.priority == ordered[i - 1].priority then
      error(("custom_rules: priority %d is there twice"):format(rule.priority), 0)
    end
    lines[#lines + 1] = custom_rule(rule)
  end
  return table.concat(lines, "\n") .. "\n"
end

-- --- exclusions --------------------------------------------------------------------------------

local function selected(exclusion, directive, suffix)
  local lines = {}
  for _, rule in ipairs(exclusion.rules or {}) do
    local id = tostring(rule)
    if not id:find("^%d+$") and not id:find("^%d+%-%d+$") then
      error(("exclusions: %q is no rule id and no range"):format(id), 0)
    end
    lines[#lines + 1] = ("%sById %s%s"):format(directive, id, suffix)
  end
  for _, tag in ipairs(exclusion.tags or {}) do
    lines[#lines + 1] = ("%sByTag %s%s"):format(directive, quoted(tag), suffix)
  end
  return lines
end

local function exclusion_text(exclusions)
  local lines = {}
  for _, exclusion in ipairs(exclusions) do
    if not exclusion.rules and not exclusion.tags then
      exclusion = { rules = { "1-999999999" }, variables = exclusion.variables }
      if not exclusion.variables then
        error("exclusions: rules, tags or variables are needed", 0)
      end
    end
    if not exclusion.variables then
      for _, line in ipairs(selected(exclusion, "SecRuleRemove", "")) do
        lines[#lines + 1] = line
      end
    end
    for _, variable in ipairs(exclusion.variables or {}) do
      local suffix = " " .. quoted("!" .. variable)
      for _, line in ipairs(selected(exclusion, "SecRuleUpdateTarget", suffix)) do
        lines[#lines + 1] = line
      end
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

-- --- the policy ---------------------------------------------------------------------------------

local function variables_of(conf)
  local vars = {}
  local function both(a, b, value)
    if value then
      vars[a], vars[b] = tostring(value), tostring(value)
    end
  end
  both("paranoia_level", "blocking_paranoia_level", conf.paranoia)
  both("executing_paranoia_level", "detection_paranoia_level", conf.detection_paranoia)
  vars.inbound_anomaly_score_threshold = conf.inbound_threshold
    and tostring(conf.inbound_threshold)
  vars.outbound_anomaly_score_threshold = conf.outbound_threshold
    and tostring(conf.outbound_threshold)
  if conf.allowed_methods then
    vars.allowed_methods = table.concat(conf.allowed_methods, " ")
  end
  return vars
end

local function needs_country(conf)
  for _, rule in ipairs(conf.custom_rules or {}) do
    for _, c in ipairs(rule.conditions or {}) do
      if c.variable == "country" then
        return true
      end
    end
  end
  return false
end

function M.prepare(conf, env)
  env = env or {}
  local sources = { { name = "settings", text = BEFORE } }
  if conf.custom_rules then
    sources[2] = { name = "custom_rules", text = custom_text(conf.custom_rules) }
  end
  if conf.setup then
    sources[#sources + 1] = { name = "setup", text = conf.setup }
  end
  local has_profile = conf.profile ~= "crs" and is_crs(conf, env)
  if has_profile then
    sources[#sources + 1] = { name = "profile", text = waf_api.before(conf.allowed_methods) }
  end
  ruleset_sources(conf, env, sources)
  if has_profile then
    sources[#sources + 1] = { name = "profile", text = waf_api.after }
  end
  if conf.directives then
    sources[#sources + 1] = { name = "directives", text = conf.directives }
  end
  local log = conf.audit_log
  local guard, err = waf.guard({
    sources = sources, mode = conf.mode, vars = variables_of(conf),
    exclusions = conf.exclusions and exclusion_text(conf.exclusions),
    max_body_bytes = conf.max_body_bytes or 131072, partial = conf.over_limit == "inspect_part",
    max_response_bytes = conf.max_response_bytes or 524288,
    log_file = log and absolute(log.file, env), log_format = log and log.format,
  })
  if not guard then
    error(err, 0)
  end
  return {
    guard = guard, inspects_body = conf.inspect_body ~= false,
    inspects_response = conf.inspect_response or false, needs_country = needs_country(conf),
  }
end

local function refusal(ctx, verdict)
  ctx.vars["waf.rule"] = verdict.rule_id
  if verdict.redirect then
    return reply.redirect(verdict.status, verdict.redirect)
  end
  if verdict.status == 413 then
    return reply.refuse(413, "WafBodyTooLarge", "the body is larger than is inspected here")
  end
  return reply.refuse(verdict.status, "WafBlocked", "the request was refused by a security rule")
end

function M.inbound(self, ctx)
  local guard, vars = self.guard, nil
  if self.needs_country then
    vars = { moongate_country = ctx.geo and ctx.geo.country or "ZZ" }
  end
  local verdict = guard:request_headers(ctx, vars)
  if not verdict then
    if self.inspects_body and guard:wants_request_body(ctx) then
      ctx.request:body()
    end
    verdict = guard:request_body(ctx)
  end
  if verdict then
    return refusal(ctx, verdict)
  end
end

function M.outbound(self, ctx)
  if not self.inspects_response then
    return
  end
  local guard = self.guard
  local verdict = guard:response_headers(ctx)
  if not verdict and guard:wants_response_body(ctx) then
    ctx.response:body()
    verdict = guard:response_body(ctx)
  end
  if verdict then
    return refusal(ctx, verdict)
  end
end

--- A request that the HTTP layer refuses for its form: the rules see what can be read of it, for
--- the log; the answer stays the HTTP layer's.
function M.malformed(self, ctx)
  if not self.guard:request_headers(ctx) then
    self.guard:request_body(ctx)
  end
  self.guard:finish(ctx, ctx.error and ctx.error.status or 400)
end

function M.log(self, ctx)
  local fired, score = self.guard:finish(ctx, ctx.response and ctx.response.status or 0)
  if fired then
    ctx.vars["waf.fired"], ctx.vars["waf.score"] = fired, score
  end
end

return M
