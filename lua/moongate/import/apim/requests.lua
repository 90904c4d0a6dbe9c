-- SPDX-License-Identifier: Apache-2.0
--- Azure's policies that call others or keep values, as functions of `ctx`, and `cache-lookup` with its
--- `cache-store` as one `p.cache`. S[name](node, document) gives the lines of a function's body, for use
--- inside `wait`, `cache-value` and `choose` too.

local csharp = require("moongate.import.csharp")
local emit = require("moongate.import.apim.emit")

local T, S = {}, {}

local boolean, call, children, give_up, inline, number, only, plain, quote, text = emit.boolean,
  emit.call, emit.children, emit.give_up, emit.inline, emit.number, emit.only, emit.plain, emit.quote,
  emit.text

-- ---- sub-requests ------------------------------------------------------------------------------

local function header_line(node)
  only(node, "name", "exists-action")
  local how = plain(node, "exists-action", "override")
  local name, values = inline(node.attributes.name), children(node, "value")
  if how == "delete" then
    return ("headers[%s] = nil"):format(name)
  elseif #values ~= 1 or how == "append" then
    give_up("a field with several values, or exists-action=append")
  elseif how == "skip" then
    return ("headers[%s] = headers[%s] or %s"):format(name, name, inline(emit.trimmed(values[1].text)))
  end
  return ("headers[%s] = %s"):format(name, inline(emit.trimmed(values[1].text)))
end

local function url_of(node)
  local found = children(node, "set-url")[1]
  return found and inline(emit.trimmed(found.text))
end

--- The lines that make `headers`, and the fields of the request.
local function request_parts(node, is_copy)
  local lines, fields = {}, {}
  local method, body = is_copy and "ctx.request.method", is_copy and "ctx.request:body()"
  local has_fields = is_copy
  for _, one in ipairs(node) do
    if one.name == "set-header" then
      lines[#lines + 1] = header_line(one)
      has_fields = true
    elseif one.name == "set-method" then
      method = inline(emit.trimmed(one.text))
    elseif one.name == "set-body" then
      only(one)
      body = inline(one.text)
    elseif one.name == "authentication-basic" then
      lines[#lines + 1] = ('headers["Authorization"] = "Basic " .. cs.base64(%s .. ":" .. %s)'):format(
        inline(one.attributes.username), inline(one.attributes.password))
      has_fields = true
    elseif one.name == "authentication-certificate" then
      local name = (plain(one, "certificate-id") or plain(one, "thumbprint")
        or give_up("a certificate in the document")):gsub("[^%w_.-]", "-")
      fields.tls = ("{ certificate = %s, key = %s }"):format(quote("certs/" .. name .. ".pem"),
        quote("certs/" .. name .. ".key"))
    elseif one.name ~= "set-url" then
      give_up(("<%s> within it"):format(one.name))
    end
  end
  if has_fields then
    table.insert(lines, 1, "local headers = " .. (is_copy and "cs.fields(ctx.request)" or "{}"))
    fields.headers = "headers"
  end
  fields.method, fields.body = method, body
  return lines, fields
end

local ORDER = { "method", "url", "backend", "path", "headers", "body", "timeout", "tls" }

local function request_table(fields)
  local parts = {}
  for _, name in ipairs(ORDER) do
    if fields[name] then
      parts[#parts + 1] = ("%s = %s"):format(name, fields[name])
    end
  end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

local function mode_of(node)
  local mode = plain(node, "mode", "new")
  return mode == "copy" or mode ~= "new" and give_up(("mode=%q"):format(mode))
end

S["send-request"] = function(node)
  only(node, "mode", "response-variable-name", "timeout", "ignore-error")
  local is_copy = mode_of(node)
  local lines, fields = request_parts(node, is_copy)
  fields.url = url_of(node) or is_copy and "ctx.request.url" or give_up("send-request without set-url")
  fields.timeout = number(node, "timeout")
  lines[#lines + 1] = ("local answer, err = ctx.http:request %s"):format(request_table(fields))
  if boolean(node, "ignore-error") ~= "true" then
    emit.append(lines, { "if not answer then", '  error("send-request: " .. err, 0)', "end" })
  else
    lines[#lines] = lines[#lines]:gsub("answer, err", "answer")
  end
  local name = node.attributes["response-variable-name"]
  if name then
    lines[#lines + 1] = ("ctx.vars[%s] = answer"):format(quote(plain(node, "response-variable-name")))
  end
  return lines
end

S["send-one-way-request"] = function(node)
  only(node, "mode", "timeout")
  local is_copy = mode_of(node)
  local lines, fields = request_parts(node, is_copy)
  fields.url = url_of(node) or is_copy and "ctx.request.url" or give_up("a request without set-url")
  fields.timeout = number(node, "timeout")
  lines[#lines + 1] = ("ctx.http:send %s"):format(request_table(fields))
  return lines
end

T["invoke-request"] = function(node)
  only(node, "method", "url", "backend-id", "response-variable-name")
  local lines, fields = request_parts(node, false)
  fields.method = node.attributes.method and inline(node.attributes.method) or fields.method
  if node.attributes["backend-id"] then
    fields.backend = inline(node.attributes["backend-id"])
    fields.path = node.attributes.url and inline(node.attributes.url) or "ctx.request.path"
  else
    fields.url = inline(node.attributes.url or give_up("invoke-request without url"))
  end
  lines[#lines + 1] = ("local answer = assert(ctx.http:request %s)"):format(request_table(fields))
  local name = plain(node, "response-variable-name")
  if name then
    lines[#lines + 1] = ("ctx.vars[%s] = answer"):format(quote(name))
  else
    lines[#lines + 1] = "return cs.reply(answer)"
  end
  local out = { "function(ctx)" }
  emit.append(out, emit.indented(lines))
  out[#out + 1] = "end"
  return out
end

-- ---- values that are kept ----------------------------------------------------------------------

local function kept(node, document)
  local kind = plain(node, "caching-type", "prefer-external")
  if kind ~= "internal" and kind ~= "external" and kind ~= "prefer-external" then
    give_up(("caching-type=%q"):format(kind))
  elseif kind ~= "prefer-external" then
    emit.note(document, node, ("caching-type %s: cache.store of gateway.lua says where"):format(kind))
  end
  return inline(node.attributes.key or give_up(node.name .. " without key"))
end

local function variable(node)
  return ("ctx.vars[%s]"):format(quote(plain(node, "variable-name")
    or give_up(node.name .. " without variable-name")))
end

S["cache-lookup-value"] = function(node, document)
  only(node, "key", "variable-name", "default-value", "caching-type")
  local value = ("ctx.cache:get(%s)"):format(kept(node, document))
  if node.attributes["default-value"] then
    value = ("cs.default(%s, %s)"):format(value, inline(node.attributes["default-value"]))
  end
  return { ("%s = %s"):format(variable(node), value) }
end

S["cache-store-value"] = function(node, document)
  only(node, "key", "value", "duration", "caching-type")
  local duration = node.attributes.duration or give_up("cache-store-value without duration")
  return { ("ctx.cache:set(%s, %s, %s)"):format(kept(node, document), inline(node.attributes.value),
    csharp.is_expression(duration) and inline(duration) or number(node, "duration")) }
end

S["cache-remove-value"] = function(node, document)
  only(node, "key", "caching-type")
  return { ("ctx.cache:delete(%s)"):format(kept(node, document)) }
end

S["set-variable"] = function(node)
  only(node, "name", "value")
  return { ("ctx.vars[%s] = %s"):format(inline(node.attributes.name), inline(node.attributes.value)) }
end

local function body_of(node, document)
  local out = {}
  for _, one in ipairs(node) do
    local translate = S[one.name] or give_up(("<%s> within <%s>"):format(one.name, node.name))
    local lines = translate(one, document)
    local is_scoped = #lines > 1
    emit.append(out, is_scoped and { "do" } or {})
    emit.append(out, is_scoped and emit.indented(lines) or lines)
    emit.append(out, is_scoped and { "end" } or {})
  end
  return out
end

S.choose = function(node, document)
  local out, is_first = {}, true
  for _, one in ipairs(node) do
    if one.name == "when" then
      out[#out + 1] = ("%s %s then"):format(is_first and "if" or "elseif",
        inline(one.attributes.condition))
    elseif one.name == "otherwise" and not is_first then
      out[#out + 1] = "else"
    else
      give_up(("<%s> within choose"):format(one.name))
    end
    is_first = false
    emit.append(out, emit.indented(body_of(one, document)))
  end
  out[#out + 1] = "end"
  return out
end

S["cache-value"] = function(node, document)
  only(node, "key", "variable-name", "default-value", "expires-after", "refresh-after",
    "caching-type")
  local target = variable(node)
  local fields = { "ttl = " .. (number(node, "expires-after") or "28800") }
  if node.attributes["refresh-after"] then
    fields[2] = "refresh_after = " .. number(node, "refresh-after")
  end
  local out = { ("%s = ctx.cache:fetch(%s, {"):format(target, kept(node, document)),
    "  " .. table.concat(fields, ", ") .. ",", "  compute = function()" }
  emit.append(out, emit.indented(emit.indented(body_of(node, document))))
  emit.append(out, { "    return " .. target, "  end,", "})" })
  if node.attributes["default-value"] then
    out[#out + 1] = ("%s = cs.default(%s, %s)"):format(target, target,
      inline(node.attributes["default-value"]))
  end
  return out
end

S.wait = function(node, document)
  only(node, "for")
  local what = plain(node, "for", "all")
  if what ~= "all" and what ~= "any" then
    give_up(("for=%q"):format(what))
  end
  local out = { ("local results = ctx:parallel({ %s = {"):format(what) }
  for _, one in ipairs(node) do
    local translate = S[one.name] or give_up(("<%s> within wait"):format(one.name))
    out[#out + 1] = "  function(ctx)"
    emit.append(out, emit.indented(emit.indented(translate(one, document))))
    out[#out + 1] = "  end,"
  end
  out[#out + 1] = "} })"
  if what == "any" then
    out[1] = out[1]:gsub("^local results = ", "")
    return out
  end
  emit.append(out, { "for _, result in ipairs(results) do", "  if not result.ok then",
    "    error(result.error, 0)", "  end", "end" })
  return out
end

for name, translate in pairs(S) do
  if name ~= "choose" and name ~= "set-variable" then
    T[name] = function(node, document)
      local out = { "function(ctx)" }
      emit.append(out, emit.indented(translate(node, document)))
      out[#out + 1] = "end"
      return out
    end
  end
end

-- ---- cached responses --------------------------------------------------------------------------

local STORES = { internal = '"local"', external = '"redis"' }

local function names_of(node, item)
  local out = {}
  for _, one in ipairs(emit.plain_texts(node, item)) do
    for name in one:gmatch("[^;%s]+") do
      out[#out + 1] = quote(name)
    end
  end
  return emit.list(out)
end

T["cache-lookup"] = function(node, document)
  only(node, "vary-by-developer", "vary-by-developer-groups", "caching-type",
    "downstream-caching-type", "must-revalidate", "allow-private-response-caching")
  emit.only_children(node, "vary-by-header", "vary-by-query-parameter")
  local store = document.cache_store or give_up("no cache-store in this document tells how long; it")
  if boolean(node, "vary-by-developer-groups") == "true" then
    give_up("vary-by-developer-groups")
  elseif boolean(node, "allow-private-response-caching") == "true" then
    emit.note(document, node, "answers to requests with Authorization are kept only where the origin "
      .. "allows it, or vary_by or key keeps callers apart")
  end
  emit.note(document, node, ("downstream-caching-type %s: the origin's Cache-Control goes to clients as "
    .. "it is"):format(plain(node, "downstream-caching-type", "none")))
  local all = plain(store, "cache-response")
  if all and all ~= "true" then
    give_up("cache-response of cache-store")
  end
  return call("cache", { { "ttl", number(store, "duration") or give_up("cache-store without duration") },
    { "statuses", all and "{ 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501 }" },
    { "vary_headers", names_of(node, "vary-by-header") },
    { "vary_query", names_of(node, "vary-by-query-parameter") },
    { "vary_by", boolean(node, "vary-by-developer") == "true" and '"user"' or nil },
    { "store", STORES[plain(node, "caching-type", "")] } })
end

T["cache-store"] = function(node, document)
  only(node, "duration", "cache-response")
  if not document.cache_lookup then
    emit.note(document, node, "does nothing without a cache-lookup, here as there")
  end
  return {}
end

T["return-response"] = function(node, document)
  only(node, "response-variable-name")
  local status, body, headers = nil, nil, {}
  local from = text(node, "response-variable-name")
  if from and #node == 0 then
    return { ("function(ctx) return cs.reply(ctx.vars[%s]) end"):format(from) }
  elseif from then
    give_up("response-variable-name with changes")
  end
  for _, one in ipairs(node) do
    if one.name == "set-status" then
      status = emit.status(one, document)
    elseif one.name == "set-body" then
      only(one)
      body = emit.value(one.text)
    elseif one.name == "set-header" then
      only(one, "name", "exists-action")
      local values = children(one, "value")
      if #values ~= 1 or plain(one, "exists-action", "override") ~= "override" then
        give_up(("the field %s of return-response"):format(tostring(one.attributes.name)))
      end
      headers[#headers + 1] = ("[%s] = %s"):format(emit.value(one.attributes.name),
        emit.value(emit.trimmed(values[1].text)))
    else
      give_up(("<%s> within return-response"):format(one.name))
    end
  end
  return call("return_response", { { "status", status }, { "headers", emit.list(headers) },
    { "body", body } })
end

T["mock-response"] = function(node)
  only(node, "status-code", "content-type")
  return call("mock_response", { { "status", number(node, "status-code") },
    { "content_type", text(node, "content-type") } })
end

T["forward-request"] = function(node, document)
  only(node, "timeout", "timeout-ms", "follow-redirects", "buffer-request-body", "buffer-response",
    "fail-on-error-status-code", "http-version", "continue-timeout")
  if node.attributes["http-version"] or node.attributes["continue-timeout"] then
    emit.note(document, node, "http-version and continue-timeout are settings of the backend")
  end
  local ms = tonumber(number(node, "timeout-ms"))
  return call("forward_request", {
    { "timeout", number(node, "timeout") or ms and ("%.14g"):format(ms / 1000) },
    { "follow_redirects", boolean(node, "follow-redirects") },
    { "buffer_request_body", boolean(node, "buffer-request-body") },
    { "buffer_response", boolean(node, "buffer-response") },
    { "fail_on_error_status_code", boolean(node, "fail-on-error-status-code") } })
end

return T
