-- SPDX-License-Identifier: Apache-2.0
--- Azure's policies of transformation, validation and telling, as ours.

local emit = require("moongate.import.apim.emit")
local liquid = require("moongate.import.apim.liquid")

local T = {}

local boolean, call, children, give_up, number, only, plain, quote, text, texts, value = emit.boolean,
  emit.call, emit.children, emit.give_up, emit.number, emit.only, emit.plain, emit.quote, emit.text,
  emit.texts, emit.value

local function named_values(policy)
  return function(node)
    only(node, "name", "exists-action")
    local values = texts(node, nil, "value")
    local one = #children(node, "value") == 1 and values:sub(3, -3) or values
    return call(policy, { { "name", value(node.attributes.name) }, { "value", one },
      { "exists_action", text(node, "exists-action") } })
  end
end

T["set-header"] = named_values("set_header")
T["set-query-parameter"] = named_values("set_query_parameter")

T["set-variable"] = function(node)
  only(node, "name", "value")
  return call("set_variable", { { "name", value(node.attributes.name) },
    { "value", value(node.attributes.value) } })
end

T["set-method"] = function(node)
  only(node)
  return call("set_method", { { "value", value(emit.trimmed(node.text)) } })
end

T["rewrite-uri"] = function(node)
  only(node, "template", "copy-unmatched-params")
  return call("rewrite_uri", { { "template", value(node.attributes.template) },
    { "copy_unmatched_params", boolean(node, "copy-unmatched-params") } })
end

T["set-backend-service"] = function(node)
  only(node, "backend-id", "base-url")
  if node.attributes["base-url"] then
    local url = emit.inline(node.attributes["base-url"])
    return { ("function(ctx) cs.base_url(ctx, %s) end"):format(url) }
  end
  return call("set_backend_service", { { "backend", value(node.attributes["backend-id"]
    or give_up("neither backend-id nor base-url")) } })
end

T["set-status"] = function(node)
  only(node, "code", "reason")
  return call("set_status", { { "code", emit.number_value(node, "code") },
    { "reason", node.attributes.reason and value(node.attributes.reason) } })
end

--- A Liquid template, and the listing in front of it that makes `body` known.
local function liquid_body(node, document)
  local template = quote(liquid.translate(node.text or ""))
  emit.note(document, node, "values of the template are written as they are: content_type escapes them")
  local message = (document.section == "inbound" or document.section == "backend") and "request"
    or "response"
  local out = { ("function(ctx) ctx.vars.liquid = cs.liquid(ctx.%s) end,"):format(message) }
  emit.append(out, call("set_body", { { "template", template },
    { "needs_body", "true" } }))
  return out
end

T["set-body"] = function(node, document)
  only(node, "template")
  local template = plain(node, "template")
  if template == "liquid" then
    return liquid_body(node, document)
  elseif template then
    give_up(("template=%q"):format(template))
  end
  local body = value(node.text)
  local reads = body:find(":body()", 1, true) or body:find(":json()", 1, true)
  return call("set_body", { { "value", body }, { "needs_body", reads and "true" or nil } })
end

T["find-and-replace"] = function(node)
  only(node, "from", "to")
  return call("find_and_replace", { { "from", value(node.attributes.from) },
    { "to", value(node.attributes.to) } })
end

T["json-to-xml"] = function(node, document)
  only(node, "apply", "consider-accept-header", "namespace-separator", "namespace-prefix",
    "attribute-block-name", "parse-date")
  if boolean(node, "parse-date") == "true" then
    emit.note(document, node, "dates stay as they are written")
  end
  local fields = emit.texts_of(node, "apply", "namespace-separator", "namespace-prefix",
    "attribute-block-name")
  fields[#fields + 1] = { "consider_accept_header", boolean(node, "consider-accept-header") }
  return call("json_to_xml", fields)
end

T["xml-to-json"] = function(node)
  only(node, "kind", "apply", "consider-accept-header", "always-array-child-elements")
  local fields = emit.texts_of(node, "kind", "apply")
  fields[#fields + 1] = { "consider_accept_header", boolean(node, "consider-accept-header") }
  fields[#fields + 1] = { "always_array_child_elements",
    boolean(node, "always-array-child-elements") }
  return call("xml_to_json", fields)
end

T["xsl-transform"] = function(node)
  only(node)
  local parameters, sheet = {}, nil
  for _, one in ipairs(node) do
    if one.name == "parameter" then
      parameters[#parameters + 1] = ("[%s] = %s"):format(quote(plain(one, "name", "")),
        value(emit.trimmed(one.text)))
    elseif one.name:find("stylesheet$") or one.name:find("transform$") then
      sheet = one.source
    else
      give_up(("<%s>"):format(one.name))
    end
  end
  return call("xslt", { { "parameters", emit.list(parameters) },
    { "stylesheet", quote(sheet or give_up("a stylesheet elsewhere")) } })
end

T.jsonp = function(node)
  only(node, "callback-parameter-name")
  return call("jsonp", emit.texts_of(node, "callback-parameter-name"))
end

T["redirect-content-urls"] = function(node, document)
  only(node)
  if document.section ~= "outbound" then
    give_up("links of requests: the policy")
  end
  return call("rewrite_links", {})
end

T["cross-domain"] = function(node)
  only(node)
  local inner = node.source:match("^<cross%-domain[^>]*>(.*)</cross%-domain%s*>$") or ""
  return call("return_response", { { "when", quote('ctx.request.path == "/crossdomain.xml"') },
    { "headers", '{ ["Content-Type"] = "text/xml" }' }, { "body", quote(emit.trimmed(inner)) } })
end

-- ---- telling -----------------------------------------------------------------------------------

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
  local fields = emit.texts_of(node, "source", "severity")
  fields[#fields + 1] = { "message", message or value(emit.trimmed(node.text)) }
  fields[#fields + 1] = { "metadata", emit.list(metadata) }
  return call("trace", fields)
end

-- Dimensions that have a value of their own.
local DIMENSIONS = { ["API ID"] = "${ctx.api and ctx.api.name}",
  ["Operation ID"] = "${ctx.operation and ctx.operation.name}",
  ["Product ID"] = "${ctx.product and ctx.product.name}", ["User ID"] = "${ctx.user and ctx.user.id}",
  ["Subscription ID"] = "${ctx.subscription and ctx.subscription.id}",
  ["Location"] = "${ctx.deployment.region}", ["Gateway ID"] = "${ctx.deployment.node}" }

local function metric_name(name)
  return (name:gsub("[^%w_]", "_"):gsub("^(%d)", "_%1"))
end

T["emit-metric"] = function(node, document)
  only(node, "name", "value", "namespace")
  emit.only_children(node, "dimension")
  local given = plain(node, "name") or give_up("emit-metric without name")
  local name, labels = metric_name(given), {}
  if node.attributes.namespace then
    name = metric_name(plain(node, "namespace")) .. "_" .. name
  end
  if name ~= given then
    emit.note(document, node, ("the metric %q is %s here"):format(given, name))
  end
  for _, one in ipairs(node) do
    local label = plain(one, "name", "")
    local own = one.attributes.value and value(one.attributes.value)
      or DIMENSIONS[label] and quote(DIMENSIONS[label])
      or give_up(("the dimension %q without a value"):format(label))
    labels[#labels + 1] = ("[%s] = %s"):format(quote(metric_name(label):lower()), own)
  end
  return call("emit_metric", { { "name", quote(name) },
    { "value", emit.number_value(node, "value") }, { "labels", emit.list(labels) } })
end

T["log-to-eventhub"] = function(node, document)
  only(node, "logger-id", "partition-id", "partition-key")
  local logger = plain(node, "logger-id") or give_up("log-to-eventhub without logger-id")
  local file = ("/var/log/moongate/%s.jsonl"):format((logger:gsub("[^%w_.-]", "-")))
  emit.note(document, node, ("the events of %s go to %s; syslog, http or redis_stream take them too")
    :format(logger, file))
  return call("log_event", { { "file", quote(file) }, { "value", value(emit.trimmed(node.text)) } })
end

-- ---- validation --------------------------------------------------------------------------------

local function action(node, name)
  local word = plain(node, name)
  if word and word ~= "prevent" and word ~= "detect" and word ~= "ignore" then
    give_up(("%s=%q"):format(name, word))
  end
  return word
end

local function quoted(word)
  return word and quote(word)
end

--- A `validate-content` whose bodies are all XML: by a schema that lies in a file here.
local function xml_content(node, document)
  local schema, own, types, is_soap = nil, nil, {}, false
  for i, one in ipairs(node) do
    only(one, "type", "validate-as", "action", "schema-id")
    local id = plain(one, "schema-id") or give_up("XML without schema-id; the policy")
    local what = action(one, "action")
    if schema and schema ~= id or i > 1 and own ~= what then
      give_up("different schemas or actions by media type")
    end
    schema, own, is_soap = id, what, is_soap or plain(one, "validate-as") == "soap"
    types[i] = text(one, "type")
  end
  local file = ("schemas/%s.xsd"):format((schema:gsub("[^%w_.-]", "-")))
  emit.note(document, node, ("the schema %q is read from %s"):format(schema, file))
  return { { "xml_schema", quote(file) }, { "xml_content_types", emit.list(types) },
    { "soap", is_soap and "true" or nil }, { "action", quoted(own) } }
end

local function is_xml(one)
  local kind = plain(one, "validate-as", "json")
  return kind == "xml" or kind == "soap"
end

local function json_content(node, document)
  local own
  for _, one in ipairs(node) do
    only(one, "type", "validate-as", "action", "allow-additional-properties",
      "case-insensitive-property-names")
    local what = action(one, "action")
    if is_xml(one) then
      give_up("JSON and XML in one")
    elseif own and own ~= what then
      give_up("different actions by media type")
    elseif boolean(one, "allow-additional-properties") == "false" then
      give_up("allow-additional-properties=false: the schema says it here; the policy")
    elseif boolean(one, "case-insensitive-property-names") == "true" then
      give_up("case-insensitive-property-names")
    elseif one.attributes.type ~= "application/json" then
      emit.note(document, node, ("bodies of %s are those that the API's definition has"):format(
        tostring(one.attributes.type)))
    end
    own = what
  end
  return { { "action", quoted(#node == 0 and "ignore" or own) } }
end

T["validate-content"] = function(node, document)
  only(node, "unspecified-content-type-action", "max-size", "size-exceeded-action",
    "errors-variable-name")
  emit.only_children(node, "content")
  local fields = (node[1] and is_xml(node[1]) and xml_content or json_content)(node, document)
  for _, field in ipairs({
    { "unspecified_content_type_action", quoted(action(node, "unspecified-content-type-action")) },
    { "max_size", number(node, "max-size") },
    { "size_exceeded_action", quoted(action(node, "size-exceeded-action")) },
    { "errors_variable", text(node, "errors-variable-name") },
  }) do
    fields[#fields + 1] = field
  end
  return call("validate_content", fields)
end

T["validate-parameters"] = function(node)
  only(node, "specified-parameter-action", "unspecified-parameter-action", "errors-variable-name")
  emit.only_children(node, "headers", "query", "path")
  local specified = action(node, "specified-parameter-action")
  local unspecified = action(node, "unspecified-parameter-action")
  local by, own, overrides = { headers = unspecified, query = unspecified }, {}, {}
  for _, group in ipairs(node) do
    only(group, "specified-parameter-action", "unspecified-parameter-action")
    by[group.name] = action(group, "unspecified-parameter-action") or by[group.name]
    own[group.name] = action(group, "specified-parameter-action")
    for _, one in ipairs(group) do
      only(one, "name", "action")
      overrides[#overrides + 1] = ("[%s] = %s"):format(quote(plain(one, "name", "")),
        quote(action(one, "action") or give_up("a parameter without action")))
    end
  end
  return call("validate_parameters", { { "specified_action", quoted(specified) },
    { "specified_path_action", quoted(own.path) }, { "specified_query_action", quoted(own.query) },
    { "specified_header_action", quoted(own.headers) },
    { "unspecified_action", quoted(by.query) }, { "unspecified_header_action", quoted(by.headers) },
    { "overrides", emit.list(overrides) }, { "errors_variable", text(node, "errors-variable-name") } })
end

T["validate-headers"] = function(node)
  only(node, "specified-header-action", "unspecified-header-action", "errors-variable-name")
  emit.only_children(node, "header")
  local overrides = {}
  for _, one in ipairs(node) do
    overrides[#overrides + 1] = ("[%s] = %s"):format(quote(plain(one, "name", "")),
      quote(action(one, "action") or give_up("a header without action")))
  end
  return call("validate_headers", { { "action", quoted(action(node, "specified-header-action")) },
    { "unspecified_action", quoted(action(node, "unspecified-header-action")) },
    { "overrides", emit.list(overrides) }, { "errors_variable", text(node, "errors-variable-name") } })
end

T["validate-status-code"] = function(node)
  only(node, "unspecified-status-code-action", "errors-variable-name")
  local overrides = {}
  for _, one in ipairs(node) do
    overrides[#overrides + 1] = ("[%s] = %s"):format(quote(plain(one, "code", "")),
      quote(action(one, "action") or give_up("a status without action")))
  end
  return call("validate_status_code", {
    { "action", quote(action(node, "unspecified-status-code-action") or "prevent") },
    { "overrides", emit.list(overrides) }, { "errors_variable", text(node, "errors-variable-name") } })
end

T["validate-graphql-request"] = function(node)
  only(node, "max-size", "max-depth", "error-variable-name")
  local rules, introspection = {}, "allow"
  for _, group in ipairs(node) do
    if group.name ~= "authorize" then
      give_up(("<%s>"):format(group.name))
    end
    for _, one in ipairs(group) do
      local path, what = plain(one, "path", ""), plain(one, "action", "allow")
      if path == "/__*" and (what == "reject" or what == "allow") then
        introspection = what
      elseif not path:find("^/Query%f[/%z]") and not path:find("^/Mutation%f[/%z]")
        and not path:find("^/Subscription%f[/%z]") then
        give_up(("the path %s: types of inner fields are not known here; the rule"):format(path))
      elseif what ~= "allow" and what ~= "reject" and what ~= "remove" then
        give_up(("the action %s"):format(what))
      else
        rules[#rules + 1] = ("{ path = %s, action = %s }"):format(quote(path), quote(what))
      end
    end
  end
  return call("graphql_guard", { { "max_size", number(node, "max-size") },
    { "max_depth", number(node, "max-depth") }, { "introspection", quote(introspection) },
    { "rules", emit.list(rules) }, { "errors_variable", text(node, "error-variable-name") } })
end

return T
