-- SPDX-License-Identifier: Apache-2.0
--- Checks bodies against the API's definition, or a schema.
local jsonschema = require("moongate.jsonschema")
local validation = require("moongate.validation")
local xml = require("moongate.xml")

local M = {
  name = "validate_content",
  summary = "Checks bodies against the API's definition, or a schema.",
  description = "Inbound the request's body, outbound the response's. What is wrong stands in the "
    .. "log and in a variable; the client is told only that it is.",
  sections = { "inbound", "outbound", "on_error" },
  azure = "validate-content",
  differences = "Members that occur twice are always refused, and so are XML documents with a DTD. "
    .. "JSON is read, and XML where there is an `xml_schema`; other media types are let pass where the "
    .. "definition has them. Bodies up to `max_size`, which has no ceiling of its own.",
  statuses = {
    ["400"] = "`ContentInvalid`: the request's body",
    ["502"] = "`ContentInvalid`: the response's body",
  },
  example = [[p.validate_content {
  schema = { type = "object", required = { "id" } },
}]],
}

M.schema = {
  type = "object", additionalProperties = false,
  order = { "action", "unspecified_content_type_action", "max_size", "size_exceeded_action", "schema",
    "content_types", "xml_schema", "xml_content_types", "soap", "draft", "depth", "formats",
    "errors_variable" },
  properties = {
    action = { enum = validation.ACTIONS, default = "prevent",
      description = "What follows from a body that does not fit: it is refused, told, or not looked "
        .. "at." },
    unspecified_content_type_action = { enum = validation.ACTIONS, default = "prevent",
      description = "The same, for media types that the definition does not have." },
    max_size = { type = "integer", minimum = 1, default = 1048576, unit = "bytes",
      description = "Largest body that is checked." },
    size_exceeded_action = { enum = validation.ACTIONS, default = "prevent",
      description = "The same, for larger bodies." },
    schema = { type = { "object", "string", "boolean" },
      description = "A schema instead of the definition's: a table, or JSON." },
    content_types = { type = "array", minItems = 1,
      description = "Media types that `schema` is for; `application/json` where left out.",
      items = { type = "string", minLength = 3, description = "A media type." } },
    xml_schema = { type = "string", minLength = 1,
      description = "File with an XML schema (XSD 1.0) for XML bodies, instead of the definition's "
        .. "schemas; what it imports is not read." },
    xml_content_types = { type = "array", minItems = 1,
      description = "Media types that `xml_schema` is for; `application/xml` and `text/xml` where "
        .. "left out, with `soap` `application/soap+xml` too.",
      items = { type = "string", minLength = 3, description = "A media type." } },
    soap = { type = "boolean", default = false,
      description = "Whether XML bodies are SOAP envelopes, whose one element `xml_schema` is for." },
    draft = { enum = { "2020-12", "2019-09", "7", "4", "openapi-3.0" }, default = "2020-12",
      description = "Dialect of `schema` where it does not say." },
    depth = { type = "integer", minimum = 1, maximum = 512, default = 128,
      description = "How deeply bodies may nest." },
    formats = { type = "boolean", default = false,
      description = "Whether `format` of `schema` is asserted." },
    errors_variable = { type = "string", minLength = 1, default = "validate_content.errors",
      description = "Name in `ctx.vars` that gets the mistakes: a list of `{ name, type, rule, "
        .. "details, action }`." },
  },
}

function M.needs(conf, listing)
  if conf.action == "ignore" and conf.unspecified_content_type_action == "ignore" then
    return {}
  end
  local is_inbound = listing == nil or listing.section == "inbound"
  return { request_body = is_inbound, response_body = not is_inbound,
    max_body_bytes = conf.max_size }
end

local function content_of(definition, content, direction)
  local out = {}
  for media, one in pairs(content) do
    out[media] = { validator = validation.is_json(media)
      and validation.validator(definition, one.schema, direction) or nil }
  end
  return out
end

local function of_operation(definition, operation)
  local responses = {}
  for status, one in pairs(operation.responses) do
    responses[status] = content_of(definition, one.content, "response")
  end
  return { responses = responses, request = operation.body and {
    is_required = operation.body.required,
    content = content_of(definition, operation.body.content, "request") } }
end

local function add_xml(self, conf, env)
  local text, err = env.source.read(conf.xml_schema)
  if not text then
    error(("xml_schema: %s cannot be read: %s"):format(conf.xml_schema, err or "not found"), 0)
  end
  local schema
  schema, err = xml.schema(text)
  if not schema then
    error(("xml_schema: %s: %s"):format(conf.xml_schema, err), 0)
  end
  self.own = {}
  for _, media in ipairs(conf.xml_content_types
    or { "application/xml", "text/xml", conf.soap and "application/soap+xml" or nil })
  do
    self.own[media:lower()] = { xml = schema }
  end
end

function M.prepare(conf, env)
  local self = {}
  for name, value in pairs(conf) do
    self[name] = value
  end
  self.limits = { depth = conf.depth or 128, errors = 8 }
  self.action = conf.action or "prevent"
  self.unspecified = conf.unspecified_content_type_action or "prevent"
  self.too_large = conf.size_exceeded_action or "prevent"
  self.max_size = conf.max_size or 1048576
  self.variable = conf.errors_variable or "validate_content.errors"
  if conf.xml_schema then
    add_xml(self, conf, env)
  elseif conf.soap or conf.xml_content_types then
    error("soap and xml_content_types: only with xml_schema", 0)
  end
  if conf.schema ~= nil then
    local validator, err = jsonschema.compile(conf.schema, { draft = conf.draft,
      formats = conf.formats })
    if not validator then
      error(("schema: %s"):format(err), 0)
    end
    self.own = self.own or {}
    for _, media in ipairs(conf.content_types or { "application/json" }) do
      self.own[media:lower()] = { validator = validator }
    end
  elseif not self.own then
    self.operations = validation.by_operation(env, of_operation)
  end
  return self
end

--- Judges one body. `content` holds validators by media type.
local function check(self, mistakes, kind, content, field, text)
  local function add(rule, details, action)
    if action ~= "ignore" then
      mistakes[#mistakes + 1] = { name = kind, type = "body", rule = rule, details = details,
        action = action }
    end
  end
  if #text > self.max_size then
    return add("size", "is larger than max_size", self.too_large)
  end
  local media = validation.media_type(field)
  local entry = media and validation.entry(content, media)
  if not entry then
    return add("content_type", ("%s is not in the definition"):format(media or "no Content-Type"),
      self.unspecified)
  end
  if self.action == "ignore" then
    return
  end
  local ok, errors = true, nil
  if entry.xml then
    ok, errors = entry.xml:validate(text, self.soap)
  elseif entry.validator and validation.is_json(media) then
    ok, errors = entry.validator:validate(text, self.limits)
  end
  if not ok then
    validation.add(mistakes, kind, "body", errors, self.action)
  end
end

local REQUEST = { status = 400, reason = "ContentInvalid", policy = "validate_content",
  message = "the request's body is not valid" }
local RESPONSE = { status = 502, reason = "ContentInvalid", policy = "validate_content",
  message = "the answer of the backend is not valid" }

local function conclude(self, ctx, base, mistakes)
  return validation.conclude(ctx, { status = base.status, reason = base.reason,
    policy = base.policy, message = base.message, variable = self.variable }, mistakes)
end

function M.inbound(self, ctx)
  local content, required = self.own, false
  if not content then
    local operation = validation.find(self.operations, ctx)
    if not operation or not operation.request then
      return
    end
    content, required = operation.request.content, operation.request.is_required
  end
  local text = ctx.request:body() or ""
  local mistakes = {}
  if text == "" then
    if not required and not (self.own and ctx.request.headers["Content-Type"]) then
      return
    end
    if self.action ~= "ignore" then
      mistakes[1] = { name = "request", type = "body", rule = "required", details = "is missing",
        action = self.action }
    end
  else
    check(self, mistakes, "request", content, ctx.request.headers["Content-Type"], text)
  end
  if #mistakes > 0 then
    return conclude(self, ctx, REQUEST, mistakes)
  end
end

local BODILESS = { [204] = true, [304] = true }

local function answer(self, ctx)
  local content = self.own
  local status = ctx.response.status
  if ctx.request.method == "HEAD" or BODILESS[status] then
    return
  end
  if not content then
    local operation = validation.find(self.operations, ctx)
    local responses = operation and operation.responses
    content = responses and (responses[tostring(status)]
      or responses[math.floor(status / 100) .. "XX"] or responses.default)
    if not content or next(content) == nil then
      return
    end
  end
  local text = ctx.response:body() or ""
  local mistakes = {}
  check(self, mistakes, "response", content, ctx.response.headers["Content-Type"], text)
  if #mistakes > 0 then
    return conclude(self, ctx, RESPONSE, mistakes)
  end
end

M.outbound, M.on_error = answer, answer

return M
