-- SPDX-License-Identifier: Apache-2.0
--- Inspects requests and responses with the Core Rule Set, or other ModSecurity rules.
local challenge = require("moongate.challenge")
local reply = require("moongate.reply")
local waf = require("moongate.waf")
local waf_api = require("moongate.waf_api")
local waf_custom = require("moongate.waf_custom")

local M = {
  name = "waf",
  summary = "Inspects requests and responses with the Core Rule Set, or other ModSecurity rules.",
  description = "Rules are SecLang files as mod_security2 reads them, unmodified; a set is "
    .. "compiled once and shared by all routes that name it. `custom_rules` run before them, by "
    .. "priority. In `detection` nothing is refused, all is logged. The anomaly score is left in "
    .. '`ctx.vars["waf.score"]`, the rule that refused in `ctx.vars["waf.rule"]`.\n\n'
    .. "Listed in several scopes around a request it runs once, where the outermost stands: the "
    .. "inner scope's settings win, its exclusions, custom rules, `setup` and `directives` are added "
    .. "to the outer ones'; a custom rule replaces an outer one of the same name. `replace` leaves "
    .. "the outer scopes' out. A listing with `when`, and one of a product, runs by itself, where it "
    .. "stands: it adds a look at the request and takes nothing from the others, so an exclusion in "
    .. "it holds for its own rules only.\n\n"
    .. "Custom rules with `rate_limit` count by site, wherever they are listed, as Application "
    .. "Gateway counts by listener; over all nodes where `redis` is configured. `p.rate_limit` "
    .. "counts what several sites share.\n\n"
    .. "`@geoLookup` looks in the MMDB file that `SecGeoLookupDb` names, else in `geoip.country` of "
    .. "the gateway; `GEO` then has `COUNTRY_CODE`, `COUNTRY_CONTINENT` and `CITY`.\n\n"
    .. "Collections that rules open (`initcol`) are shared by the workers of a node and by its rule "
    .. "sets (`SecWebAppId` parts them), and kept over reloads, not over restarts: 32,768 records of at "
    .. "most 992 bytes, those used last. As in ModSecurity, what a request changes is seen when it "
    .. "ends.\n\n"
    .. "What of ModSecurity has no counterpart here is read and does nothing: where it logs and keeps "
    .. "files (`SecAudit…`, `SecDebug…`, `SecDataDir`, `SecTmpDir`, `SecUpload…`), `ctl:auditEngine`, "
    .. "`setenv`; `drop` answers as `deny`; `@rbl` asks no DNS and never matches. Everything else that "
    .. "is not known is an error at load.",
  sections = { "inbound" },
  azure = "web application firewall of Application Gateway",
  differences = "ModSecurity's own rule language and verdicts; exclusions may name ranges, tags "
    .. "and patterns of names.",
  statuses = {
    ["403"] = "`WafBlocked`, or a challenge; a rule may name another status",
    ["429"] = "`WafRateLimited`, by a custom rule",
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

M.schema = {
  type = "object", additionalProperties = false,
  order = { "ruleset", "profile", "mode", "paranoia", "detection_paranoia", "inbound_threshold",
    "outbound_threshold", "allowed_methods", "exclusions", "custom_rules", "challenge", "setup",
    "directives", "inspect_body", "max_body_bytes", "over_limit",
    "inspect_response", "max_response_bytes",
    "audit_log", "replace" },
  properties = {
    replace = { type = "boolean", default = false,
      description = "Whether this listing stands for itself, without the outer scopes' settings." },
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
      .. "(GET, HEAD, POST, OPTIONS; with the profile `api` PUT, PATCH, DELETE, "
      .. "QUERY, SEARCH and those of WebDAV too).", "A method."),
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
    custom_rules = waf_custom.schema,
    challenge = {
      type = "object", additionalProperties = false, required = { "secret" },
      order = { "secret", "difficulty", "lifetime", "cookie" }, properties = challenge.schema(),
      description = "What custom rules with the action `challenge` ask for; as in `p.challenge`.",
    },
    setup = { type = "string", minLength = 1,
      description = "SecLang of your own, read before the rule set: settings, conditions." },
    directives = { type = "string", minLength = 1,
      description = "SecLang of your own, read after the rule set." },
    inspect_body = { type = "boolean", default = true, description = "Look at request bodies." },
    max_body_bytes = { type = "integer", minimum = 1, default = 131072,
      description = "Bytes of a request body that are inspected. The limit `policy_body_bytes` "
        .. "holds before it." },
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

--- Where a listing has nothing to do, so that nothing runs for it there.
function M.idle(conf)
  return { outbound = not conf.inspect_response }
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
    lines[#lines + 1] = ("%sByTag %s%s"):format(directive, waf_custom.quoted(tag), suffix)
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
      local suffix = " " .. waf_custom.quoted("!" .. variable)
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

local function needs_place(conf)
  for _, rule in ipairs(conf.custom_rules or {}) do
    for _, c in ipairs(rule.conditions or {}) do
      if waf_custom.PLACES[c.variable] then
        return true
      end
    end
  end
  return false
end

local JOINED = { "exclusions", "custom_rules" }
local TEXTS = { "setup", "directives" }

--- One set of options from those of nested scopes, as they were written, outermost first.
---@param given table[]
---@param ids string[] of the listings
---@return table options
---@return table<string, string> origins  name of a custom rule -> the listing that it stands in
function M.merge(given, ids)
  local out, origins = {}, {}
  for i, conf in ipairs(given) do
    for _, rule in ipairs(conf.custom_rules or {}) do
      origins[rule.name] = ids[i]
    end
  end
  for _, conf in ipairs(given) do
    for key, value in pairs(conf) do
      out[key] = value
    end
  end
  for _, name in ipairs(JOINED) do
    local list, at = {}, {}
    for _, conf in ipairs(given) do
      for _, item in ipairs(conf[name] or {}) do
        local place = item.name and at[item.name] or #list + 1
        list[place] = item
        if item.name then
          at[item.name] = place
        end
      end
    end
    out[name] = #list > 0 and list or nil
  end
  for _, name in ipairs(TEXTS) do
    local parts = {}
    for _, conf in ipairs(given) do
      parts[#parts + 1] = conf[name]
    end
    out[name] = #parts > 0 and table.concat(parts, "\n") or nil
  end
  out.replace = nil
  return out, origins
end

--- Opens what `@geoLookup` looks in: the database at a path of the rule set, else the gateway's own.
--- @return function: nil, and why not
local function places_of(env)
  return function(path)
    local own = env.plan and env.plan.geoip and env.plan.geoip.country
    path = path or own
    if path then
      return require("moongate.geo").locator({ country = absolute(path, env) })
    end
  end
end

local function guard_of(conf, env, sources, more)
  local log = conf.audit_log
  local options = {
    sources = sources, mode = conf.mode, max_body_bytes = conf.max_body_bytes or 131072,
    partial = conf.over_limit == "inspect_part",
    max_response_bytes = conf.max_response_bytes or 524288, places = places_of(env),
    log_file = log and absolute(log.file, env), log_format = log and log.format,
  }
  for key, value in pairs(more) do
    options[key] = value
  end
  local guard, err = waf.guard(options)
  if not guard then
    error(err, 0)
  end
  return guard
end

--- The rule set's files and the profile's: the same for all that differ in nothing else, so that one
--- compiled set serves them.
local function main_sources(conf, env)
  local sources = { { name = "settings", text = BEFORE } }
  if conf.setup then
    sources[#sources + 1] = { name = "setup", text = conf.setup }
  end
  local has_profile = conf.profile ~= "crs" and is_crs(conf, env)
  if has_profile then
    sources[#sources + 1] = { name = "profile", text = waf_api.before() }
  end
  ruleset_sources(conf, env, sources)
  if has_profile then
    sources[#sources + 1] = { name = "profile", text = waf_api.after }
  end
  if conf.directives then
    sources[#sources + 1] = { name = "directives", text = conf.directives }
  end
  return sources
end

function M.prepare(conf, env)
  env = env or {}
  local steps = waf_custom.steps(conf, env)
  for _, step in ipairs(steps) do
    local ok, guard = pcall(guard_of, conf, env, { { name = "settings", text = BEFORE },
      { name = "custom_rules", text = step.text } }, {})
    if not ok then
      error((tostring(guard):gsub("^custom_rules:(%d+):", function(line)
        return ("rule %q:"):format(step.names[tonumber(line)] or "?")
      end)), 0)
    end
    step.guard, step.text, step.names = guard, nil, nil
  end
  return {
    guard = guard_of(conf, env, main_sources(conf, env), { vars = variables_of(conf),
      exclusions = conf.exclusions and exclusion_text(conf.exclusions) }),
    steps = steps, enforces = conf.mode ~= "detection",
    inspects_body = conf.inspect_body ~= false,
    needs_place = needs_place(conf),
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

local function inspect(guard, ctx, vars, inspects_body)
  local verdict, wants_body = guard:request(ctx, vars, inspects_body)
  if wants_body then
    ctx.request:body()
    return guard:request_body(ctx)
  end
  return verdict
end

--- What a matched rule does that the engine cannot. @return a reply that ends the request, or nil
local function act(step, ctx)
  local rule = step.rule
  local answer = step.act(ctx)
  if answer then
    ctx.vars["waf.rule"] = rule.name
    step.guard:finish(ctx, answer.status or 0, rule.action)
  end
  return answer
end

--- Custom rules. @return a reply, or nil; whether a rule let the request pass by the others
local function run_steps(self, ctx, vars)
  local steps = self.steps
  for i = 1, #steps do
    local step = steps[i]
    local guard = step.guard
    local verdict = inspect(guard, ctx, vars, step.has_late and self.inspects_body)
    if verdict then
      return refusal(ctx, verdict)
    end
    if guard:is_allowed(ctx) then
      return nil, true
    end
    if step.act and self.enforces and guard:var(ctx, "moongate_hit") then
      local answer = act(step, ctx)
      if answer then
        return answer
      end
    end
  end
end

function M.inbound(self, ctx)
  local vars
  if self.needs_place then
    vars = waf_custom.place_of(ctx)
  end
  if #self.steps > 0 then
    local answer, is_allowed = run_steps(self, ctx, vars)
    if answer or is_allowed then
      ctx.vars["waf.is_allowed"] = is_allowed
      return answer
    end
  end
  local verdict = inspect(self.guard, ctx, vars, self.inspects_body)
  if verdict then
    return refusal(ctx, verdict)
  end
end

function M.outbound(self, ctx)
  if ctx.vars["waf.is_allowed"] then
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
  self.guard:request(ctx)
  self.guard:finish(ctx, ctx.error and ctx.error.status or 400)
end

function M.log(self, ctx)
  local steps = self.steps
  local status = #steps > 0 and ctx.response and ctx.response.status or 0
  for i = 1, #steps do
    if not steps[i].act or not self.enforces then
      steps[i].guard:finish(ctx, status)
    end
  end
  self.guard:conclude(ctx)
end

return M
