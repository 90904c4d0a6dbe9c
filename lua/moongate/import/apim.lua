-- SPDX-License-Identifier: Apache-2.0
--- Azure's policy documents as ours. What is not translated is told with its line, and refuses
--- requests until somebody has written it: a check that is lost must not be lost in silence.

local csharp = require("moongate.import.csharp")
local xml = require("moongate.import.xml")

local M = {}

local quote = csharp.quote

local function give_up(message)
  error({ apim = message }, 0)
end

--- A text or an expression as a Lua value.
local function value(text)
  text = text or ""
  if csharp.is_expression(text) then
    local lua, err = csharp.translate(text)
    if not lua then
      give_up(("the expression %s (%s)"):format(text:gsub("%s+", " "), err))
    end
    return ("function(ctx) return %s end"):format(lua)
  elseif text:find("@[({]") then
    give_up(("the text with an expression in it: %s"):format(text:gsub("%s+", " ")))
  end
  return quote(text)
end

local function plain(node, name, default)
  local text = node.attributes[name]
  if text == nil then
    return default
  elseif csharp.is_expression(text) then
    give_up(("the expression in %s, which must be plain"):format(name))
  end
  return text
end

local function number(node, name)
  local text = plain(node, name)
  local n = text and (tonumber(text) or text:match("^{{.*}}$") and text)
  if text and not n then
    give_up(("%s=%q, no number"):format(name, text))
  end
  return n and (type(n) == "string" and quote(n) or ("%.14g"):format(n))
end

local function boolean(node, name)
  local text = plain(node, name)
  if text ~= nil and text ~= "true" and text ~= "false" then
    give_up(("%s=%q, neither true nor false"):format(name, text))
  end
  return text
end

local function condition(node)
  local text = node.attributes.condition or give_up("a <when> without condition")
  local lua, err = csharp.translate(text)
  if not lua then
    give_up(("the expression %s (%s)"):format(text:gsub("%s+", " "), err))
  end
  return quote(lua)
end

local function children(node, name)
  local out = {}
  for _, one in ipairs(node) do
    if one.name == name then
      out[#out + 1] = one
    end
  end
  return out
end

local function texts(node, name, item)
  local owner = name and children(node, name)[1] or node
  local out = {}
  for _, one in ipairs(owner and children(owner, item) or {}) do
    out[#out + 1] = value((one.text or ""):match("^%s*(.-)%s*$"))
  end
  return #out > 0 and "{ " .. table.concat(out, ", ") .. " }" or nil
end

--- `p.name { … }` from fields in order; a field without value is left out.
local function call(name, fields)
  local parts = {}
  for _, field in ipairs(fields) do
    if field[2] ~= nil then
      parts[#parts + 1] = ("%s = %s"):format(field[1], field[2])
    end
  end
  return { ("p.%s { %s }"):format(name, table.concat(parts, ", ")):gsub("{  }", "{}") .. "" }
end

--- Attributes that a translation knows; another one is told, not dropped.
local function only(node, ...)
  local known = { id = true }
  for i = 1, select("#", ...) do
    known[select(i, ...)] = true
  end
  for name in pairs(node.attributes) do
    if not known[name] then
      give_up(("the attribute %s"):format(name))
    end
  end
end

local T = {}

T["set-header"] = function(node)
  only(node, "name", "exists-action")
  local values = texts(node, nil, "value")
  local one = #children(node, "value") == 1 and values:sub(3, -3) or values
  return call("set_header", { { "name", value(node.attributes.name) }, { "value", one },
    { "exists_action", node.attributes["exists-action"]
      and quote(plain(node, "exists-action")) } })
end

T["set-query-parameter"] = function(node)
  only(node, "name", "exists-action")
  local values = texts(node, nil, "value")
  local one = #children(node, "value") == 1 and values:sub(3, -3) or values
  return call("set_query_parameter", { { "name", value(node.attributes.name) }, { "value", one },
    { "exists_action", node.attributes["exists-action"]
      and quote(plain(node, "exists-action")) } })
end

T["set-variable"] = function(node)
  only(node, "name", "value")
  return call("set_variable", { { "name", value(node.attributes.name) },
    { "value", value(node.attributes.value) } })
end

T["set-method"] = function(node)
  only(node)
  return call("set_method", { { "value", value((node.text or ""):match("^%s*(.-)%s*$")) } })
end

T["rewrite-uri"] = function(node)
  only(node, "template")
  return call("rewrite_uri", { { "template", value(node.attributes.template) } })
end

T["set-backend-service"] = function(node)
  only(node, "backend-id")
  return call("set_backend_service", { { "backend", value(node.attributes["backend-id"]
    or give_up("a base-url: name a backend in gateway.lua")) } })
end

--- The status of `<set-status>`. Its reason is told where it is lost: ours are the standard ones.
local function status_of(node, notes)
  only(node, "code", "reason")
  if node.attributes.reason then
    notes[#notes + 1] = { line = node.line, text = ("<set-status>: the reason %q is not kept: "
      .. "the standard one is sent"):format(node.attributes.reason) }
  end
  return number(node, "code")
end

T["set-status"] = function(node, notes)
  return call("set_status", { { "code", status_of(node, notes) } })
end

T["set-body"] = function(node)
  only(node)
  return call("set_body", { { "value", value(node.text) } })
end

T["find-and-replace"] = function(node)
  only(node, "from", "to")
  return call("find_and_replace", { { "from", value(node.attributes.from) },
    { "to", value(node.attributes.to) } })
end

T["check-header"] = function(node)
  only(node, "name", "failed-check-httpcode", "failed-check-error-message", "ignore-case")
  return call("check_header", { { "name", value(node.attributes.name) },
    { "values", texts(node, nil, "value") }, { "status", number(node, "failed-check-httpcode") },
    { "message", node.attributes["failed-check-error-message"]
      and quote(plain(node, "failed-check-error-message")) },
    { "ignore_case", boolean(node, "ignore-case") } })
end

T["rate-limit"] = function(node)
  only(node, "calls", "renewal-period")
  if #node > 0 then
    give_up("limits for single APIs and operations")
  end
  return call("rate_limit", { { "calls", number(node, "calls") },
    { "period", number(node, "renewal-period") },
    { "key", quote("${ctx.subscription and ctx.subscription.id or ctx.request.client_ip}") } })
end

T["rate-limit-by-key"] = function(node)
  only(node, "calls", "renewal-period", "counter-key")
  return call("rate_limit", { { "calls", number(node, "calls") },
    { "period", number(node, "renewal-period") },
    { "key", value(node.attributes["counter-key"]) } })
end

T["quota-by-key"] = function(node)
  only(node, "calls", "bandwidth", "renewal-period", "counter-key")
  local kilobytes = tonumber(plain(node, "bandwidth", ""))
  return call("quota", { { "calls", number(node, "calls") },
    { "bytes", kilobytes and ("%.0f"):format(kilobytes * 1024) },
    { "period", number(node, "renewal-period") },
    { "key", value(node.attributes["counter-key"]) } })
end

T["ip-filter"] = function(node)
  only(node, "action")
  local list = {}
  for _, one in ipairs(node) do
    if one.name ~= "address" then
      give_up("an address range that is no network: write it as 10.0.0.0/8")
    end
    list[#list + 1] = value((one.text or ""):match("^%s*(.-)%s*$"))
  end
  return call("ip_filter", { { plain(node, "action") == "forbid" and "deny" or "allow",
    "{ " .. table.concat(list, ", ") .. " }" } })
end

T.cors = function(node)
  only(node, "allow-credentials")
  local methods = children(node, "allowed-methods")[1]
  return call("cors", { { "origins", texts(node, "allowed-origins", "origin") },
    { "methods", texts(node, "allowed-methods", "method") },
    { "headers", texts(node, "allowed-headers", "header") },
    { "expose", texts(node, "expose-headers", "header") },
    { "credentials", boolean(node, "allow-credentials") },
    { "max_age", methods and number(methods, "preflight-result-max-age") } })
end

T["mock-response"] = function(node)
  only(node, "status-code", "content-type")
  return call("mock_response", { { "status", number(node, "status-code") },
    { "content_type", node.attributes["content-type"] and quote(plain(node, "content-type")) } })
end

T["return-response"] = function(node, notes)
  only(node)
  local status, body, headers = nil, nil, {}
  for _, one in ipairs(node) do
    if one.name == "set-status" then
      status = status_of(one, notes)
    elseif one.name == "set-body" then
      only(one)
      body = value(one.text)
    elseif one.name == "set-header" then
      only(one, "name", "exists-action")
      local values = children(one, "value")
      if #values ~= 1 or plain(one, "exists-action", "override") ~= "override" then
        give_up(("the field %s of return-response"):format(tostring(one.attributes.name)))
      end
      headers[#headers + 1] = ("[%s] = %s"):format(value(one.attributes.name),
        value(values[1] and values[1].text))
    else
      give_up(("<%s> within return-response"):format(one.name))
    end
  end
  return call("return_response", { { "status", status },
    { "headers", #headers > 0 and "{ " .. table.concat(headers, ", ") .. " }" or nil },
    { "body", body } })
end

T["authentication-basic"] = function(node)
  only(node, "username", "password")
  return call("authentication_basic", { { "username", value(node.attributes.username) },
    { "password", value(node.attributes.password) } })
end

T["validate-jwt"] = function(node)
  only(node, "header-name", "query-parameter-name", "failed-validation-httpcode",
    "failed-validation-error-message", "require-expiration-time", "require-scheme", "clock-skew",
    "output-token-variable-name")
  local config, claims = children(node, "openid-config"), {}
  if #config ~= 1 then
    give_up("keys that are not from one openid-config")
  end
  local known = { ["openid-config"] = true, audiences = true, issuers = true,
    ["required-claims"] = true }
  for _, one in ipairs(node) do
    if not known[one.name] then
      give_up(("<%s>"):format(one.name))
    end
  end
  local required = children(node, "required-claims")[1]
  for _, one in ipairs(required or {}) do
    claims[#claims + 1] = ("[%s] = { values = %s, match = %s }"):format(
      quote(plain(one, "name")), texts(one, nil, "value") or "{}",
      quote(plain(one, "match", "all")))
  end
  return call("validate_jwt", {
    { "header_name", node.attributes["header-name"] and quote(plain(node, "header-name")) },
    { "query_parameter_name", node.attributes["query-parameter-name"]
      and quote(plain(node, "query-parameter-name")) },
    { "require_scheme", node.attributes["require-scheme"]
      and quote(plain(node, "require-scheme")) },
    { "openid_config", quote(plain(config[1], "url")) },
    { "algorithms", '{ "RS256" }' }, { "audiences", texts(node, "audiences", "audience") },
    { "issuers", texts(node, "issuers", "issuer") },
    { "required_claims", #claims > 0 and "{ " .. table.concat(claims, ", ") .. " }" or nil },
    { "require_expiration_time", boolean(node, "require-expiration-time") },
    { "clock_skew", number(node, "clock-skew") },
    { "status", number(node, "failed-validation-httpcode") },
    { "message", node.attributes["failed-validation-error-message"]
      and quote(plain(node, "failed-validation-error-message")) },
    { "output_variable", node.attributes["output-token-variable-name"]
      and quote(plain(node, "output-token-variable-name")) } })
end

T["forward-request"] = function(node)
  only(node, "timeout", "follow-redirects", "buffer-request-body", "buffer-response",
    "fail-on-error-status-code")
  return call("forward_request", { { "timeout", number(node, "timeout") },
    { "follow_redirects", boolean(node, "follow-redirects") },
    { "buffer_request_body", boolean(node, "buffer-request-body") },
    { "buffer_response", boolean(node, "buffer-response") },
    { "fail_on_error_status_code", boolean(node, "fail-on-error-status-code") } })
end

-- Attributes that are texts of a fixed meaning, by our names.
local function texts_of(node, ...)
  local fields = {}
  for i = 1, select("#", ...) do
    local name = select(i, ...)
    fields[i] = { (name:gsub("-", "_")), node.attributes[name] and quote(plain(node, name)) }
  end
  return fields
end

T["json-to-xml"] = function(node)
  only(node, "apply", "consider-accept-header", "namespace-separator", "namespace-prefix",
    "attribute-block-name")
  local fields = texts_of(node, "apply", "namespace-separator", "namespace-prefix",
    "attribute-block-name")
  fields[#fields + 1] = { "consider_accept_header", boolean(node, "consider-accept-header") }
  return call("json_to_xml", fields)
end

T["xml-to-json"] = function(node)
  only(node, "kind", "apply", "consider-accept-header", "always-array-child-elements")
  local fields = texts_of(node, "kind", "apply")
  fields[#fields + 1] = { "consider_accept_header", boolean(node, "consider-accept-header") }
  fields[#fields + 1] = { "always_array_child_elements",
    boolean(node, "always-array-child-elements") }
  return call("xml_to_json", fields)
end

T.jsonp = function(node)
  only(node, "callback-parameter-name")
  return call("jsonp", texts_of(node, "callback-parameter-name"))
end

T["redirect-content-urls"] = function(node)
  only(node)
  return call("rewrite_links", {})
end

T["include-fragment"] = function(node)
  only(node, "fragment-id")
  return { ("p.include(%s)"):format(quote(plain(node, "fragment-id")
    or give_up("include-fragment without fragment-id"))) }
end

T.trace = function(node)
  only(node, "source", "severity")
  local message, metadata = nil, {}
  for _, one in ipairs(node) do
    if one.name == "message" then
      message = value(one.text)
    elseif one.name == "metadata" then
      metadata[#metadata + 1] = ("[%s] = %s"):format(quote(plain(one, "name", "")),
        value(one.attributes.value))
    else
      give_up(("<%s> within trace"):format(one.name))
    end
  end
  local fields = texts_of(node, "source", "severity")
  fields[#fields + 1] = { "message", message or value((node.text or ""):match("^%s*(.-)%s*$")) }
  fields[#fields + 1] = { "metadata",
    #metadata > 0 and "{ " .. table.concat(metadata, ", ") .. " }" or nil }
  return call("trace", fields)
end

T["validate-status-code"] = function(node)
  only(node, "unspecified-status-code-action", "errors-variable-name")
  local overrides = {}
  for _, one in ipairs(node) do
    overrides[#overrides + 1] = ("[%s] = %s"):format(quote(plain(one, "code", "")),
      quote(plain(one, "action", "")))
  end
  return call("validate_status_code", {
    { "action", quote(plain(node, "unspecified-status-code-action", "prevent")) },
    { "overrides", #overrides > 0 and "{ " .. table.concat(overrides, ", ") .. " }" or nil },
    { "errors_variable", node.attributes["errors-variable-name"]
      and quote(plain(node, "errors-variable-name")) } })
end

T.quota = function(node)
  only(node, "calls", "bandwidth", "renewal-period")
  if #node > 0 then
    give_up("quotas for single APIs and operations")
  end
  local kilobytes = tonumber(plain(node, "bandwidth", ""))
  return call("quota", { { "calls", number(node, "calls") },
    { "bytes", kilobytes and ("%.0f"):format(kilobytes * 1024) },
    { "period", number(node, "renewal-period") } })
end

local list_of

local function indented(lines)
  local out = {}
  for i, line in ipairs(lines) do
    out[i] = "  " .. line
  end
  return out
end

local function append(out, lines)
  for _, line in ipairs(lines) do
    out[#out + 1] = line
  end
end

T.choose = function(node, notes)
  local out, is_first = {}, true
  for _, one in ipairs(node) do
    local head
    if one.name == "when" then
      head = is_first and ("p.when(%s, {"):format(condition(one))
        or ("}):elsewhen(%s, {"):format(condition(one))
    elseif one.name == "otherwise" and not is_first then
      head = "}, {"
    else
      give_up(("<%s> within choose"):format(one.name))
    end
    is_first = false
    out[#out + 1] = head
    append(out, indented(list_of(one, notes)))
  end
  if is_first then
    give_up("choose without <when>")
  end
  out[#out + 1] = "})"
  return out
end

T.retry = function(node, notes)
  only(node, "condition", "count", "interval", "delta", "max-interval", "first-fast-retry")
  local fields = { "count = " .. (number(node, "count") or give_up("retry without count")) }
  if node.attributes.condition then
    fields[#fields + 1] = "condition = " .. condition(node)
  end
  for _, name in ipairs({ "interval", "delta", "max-interval" }) do
    if node.attributes[name] then
      fields[#fields + 1] = ("%s = %s"):format(name:gsub("-", "_"), number(node, name))
    end
  end
  if node.attributes["first-fast-retry"] then
    fields[#fields + 1] = "first_fast_retry = " .. boolean(node, "first-fast-retry")
  end
  local out = { "p.retry {" }
  append(out, indented({ table.concat(fields, ", ") .. "," }))
  append(out, indented(list_of(node, notes)))
  out[#out + 1] = "}"
  return out
end

T["limit-concurrency"] = function(node, notes)
  only(node, "key", "max-count")
  local out = { "p.limit_concurrency {" }
  append(out, indented({ ("key = %s, max = %s,"):format(value(node.attributes.key),
    number(node, "max-count") or give_up("limit-concurrency without max-count")) }))
  append(out, indented(list_of(node, notes)))
  out[#out + 1] = "}"
  return out
end

--- The listing's own name, which any policy takes.
local function add_id(node, lines)
  local id = node.attributes.id
  if not id then
    return
  end
  local n
  lines[1], n = lines[1]:gsub("^(p%.[%w_]+ {)( ?)", function(head)
    return ("%s id = %s, "):format(head, quote(id))
  end)
  if n == 0 then
    give_up("the attribute id of this policy")
  end
end

--- The policies of an element, each ending with a comma.
function list_of(node, notes)
  local out = {}
  for _, one in ipairs(node) do
    if one.name == "base" then
      out[#out + 1] = "base,"
    else
      local translate = T[one.name]
      local ok, lines
      if translate then
        ok, lines = pcall(translate, one, notes)
        if ok then
          local named, err = pcall(add_id, one, lines)
          ok, lines = named, named and lines or err
        end
      else
        ok, lines = false, { apim = "the policy" }
      end
      if ok then
        lines[#lines] = lines[#lines] .. ","
        append(out, lines)
      else
        local why = type(lines) == "table" and lines.apim or tostring(lines)
        notes[#notes + 1] = { line = one.line,
          text = ("<%s>: %s is not translated"):format(one.name, why) }
        append(out, { ("-- line %d: <%s>: %s"):format(one.line, one.name,
          (why:gsub("%s+", " "))),
          ("function() error(%s) end,"):format(quote(("<%s> of line %d is not translated"):format(
            one.name, one.line))) })
      end
    end
  end
  return out
end

local SECTIONS = { "inbound", "backend", "outbound", "on-error" }

--- Converts a document.
---@param text string
---@param file string
---@return string? lua
---@return string? err
---@return string[]? notes what was not translated, with its line
function M.convert(text, file)
  local root, err = xml.read(text)
  if not root then
    return nil, ("%s: %s"):format(file, err)
  elseif root.name ~= "policies" and root.name ~= "fragment" then
    return nil, ("%s: line %d: expected <policies>, got <%s>"):format(file, root.line, root.name)
  end
  local notes, body = {}, {}
  if root.name == "fragment" then
    append(body, indented(list_of(root, notes)))
  end
  local known = {}
  for _, name in ipairs(root.name == "policies" and SECTIONS or {}) do
    known[name] = true
    for _, section in ipairs(children(root, name)) do
      local lines = list_of(section, notes)
      if #lines > 0 then
        append(body, { ("  %s = {"):format(name:gsub("-", "_")) })
        append(body, indented(indented(lines)))
        append(body, { "  }," })
      end
    end
  end
  for _, one in ipairs(root) do
    if root.name == "policies" and not known[one.name] then
      notes[#notes + 1] = { line = one.line, text = ("<%s>: no section"):format(one.name) }
    end
  end
  table.sort(notes, function(a, b)
    return a.line < b.line
  end)
  local lines = { "-- From " .. file:match("[^/]*$") .. ", an Azure API Management policy document.",
    'local p = require("moongate.policies")', "local base = p.base", "", "return {" }
  append(lines, body)
  lines[#lines + 1] = "}"
  local lua = table.concat(lines, "\n") .. "\n"
  if not lua:find("%f[%w]base,") then
    lua = lua:gsub("local base = p.base\n", "")
  end
  local told = {}
  for i, note in ipairs(notes) do
    told[i] = ("%s:%d: %s"):format(file, note.line, note.text)
  end
  return lua, nil, told
end

return M
