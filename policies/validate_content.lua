-- SPDX-License-Identifier: Apache-2.0
--- Checks bodies against the API's definition, or a schema.
local forms = require("moongate.openapi.forms")
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
    .. "Forms are read as JSON is, and XML where there is an `xml_schema`; other media types are let "
    .. "pass where the definition has them. A body of an operation that has none is of an unspecified "
    .. "media type. Bodies up to `max_size`, which has no ceiling of its own.",
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
    formats = { type = "boolean",
      description = "Whether `format` is asserted: `int32`, `int64`, `float`, `date`, `date-time`, "
        .. "`uuid`, `email`, `uri`, `byte` and the like. Where left out, in the definition's schemas, "
        .. "not in `schema`. One that is not known says nothing." },
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

local SEEN_MOST, SEEN_BYTES = 64, 100

--- What bodies may be, by media type; and what was found for a Content-Type field, as clients
--- repeat themselves.
local function new_content(by_media)
  return { by_media = by_media, seen = {}, count = 0 }
end

--- What judges bodies of a Content-Type; false where it is not in the definition.
local function judge_of(content, field)
  field = field or ""
  local judge = content.seen[field]
  if judge ~= nil then
    return judge
  end
  local media = validation.media_type(field)
  local entry = media and validation.entry(content.by_media, media)
  judge = entry and { xml = entry.xml, form = entry.form, fields = entry.fields,
    whole = entry.form and entry.validator,
    json = validation.is_json(media) and entry.validator or nil } or false
  if content.count < SEEN_MOST and #field <= SEEN_BYTES then
    content.count = content.count + 1
    content.seen[field] = judge
  end
  return judge
end

--- The fields of a form of OpenAPI 2.0, which has no schema of the whole.
local function fields_of(definition, list, formats)
  local out = {}
  for i, one in ipairs(list) do
    out[i] = { name = one.name, required = one.required,
      validator = not one.is_file
        and validation.validator(definition, one.schema, "request", formats) or nil }
  end
  return out
end

local function content_of(definition, content, direction, formats)
  local by_media = {}
  for media, one in pairs(content) do
    by_media[media] = { form = one.form, fields = one.fields and fields_of(definition, one.fields,
      formats),
      validator = (validation.is_json(media) or one.form)
        and validation.validator(definition, one.schema, direction, formats) or nil }
  end
  return new_content(by_media)
end

local function of_operation(definition, operation, formats)
  local responses = {}
  for status, one in pairs(operation.responses) do
    responses[status] = content_of(definition, one.content, "response", formats)
  end
  return { responses = responses, request = operation.body and {
    is_required = operation.body.required,
    content = content_of(definition, operation.body.content, "request", formats) } }
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
  self.own = new_content({})
  for _, media in ipairs(conf.xml_content_types
    or { "application/xml", "text/xml", conf.soap and "application/soap+xml" or nil })
  do
    self.own.by_media[media:lower()] = { xml = schema }
  end
end

function M.prepare(conf, env)
  local self = {}
  for name, value in pairs(conf) do
    self[name] = value
  end
  self.depth = conf.depth or 128
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
    self.own = self.own or new_content({})
    for _, media in ipairs(conf.content_types or { "application/json" }) do
      self.own.by_media[media:lower()] = { validator = validator }
    end
  elseif not self.own then
    self.operations = validation.by_operation(env, function(definition, operation)
      return of_operation(definition, operation, conf.formats)
    end)
  end
  return self
end

local function note(mistakes, kind, rule, details, action)
  if action ~= "ignore" then
    mistakes[#mistakes + 1] = { name = kind, type = "body", rule = rule, details = details,
      action = action }
  end
  return mistakes
end

--- Judges a form: as one object, or field by field.
local function check_form(self, kind, judge, field, text)
  local mistakes = {}
  local members, err, names = forms.members(judge.form, field, text)
  if not members then
    local name = err.name ~= "" and "/" .. err.name or ""
    return note({}, kind .. name, err.rule, err.details, self.action)
  end
  if judge.whole then
    local ok, errors = judge.whole:validate(forms.object(members, names), self.depth)
    if not ok then
      validation.add(mistakes, kind, "body", errors, self.action)
    end
  end
  for _, one in ipairs(judge.fields or {}) do
    local value = members[one.name]
    if not value and one.required then
      note(mistakes, kind .. "/" .. one.name, "required", "is missing", self.action)
    elseif value and one.validator then
      local ok, errors = one.validator:validate(value, self.depth)
      if not ok then
        validation.add(mistakes, kind .. "/" .. one.name, "body", errors, self.action)
      end
    end
  end
  return mistakes
end

--- Judges one body. Returns the list of mistakes, or nothing where it is good.
local function check(self, kind, content, field, text)
  if #text > self.max_size then
    return note({}, kind, "size", "is larger than max_size", self.too_large)
  end
  local judge = judge_of(content, field)
  if not judge then
    return note({}, kind, "content_type", ("%s is not in the definition"):format(
      validation.media_type(field) or "no Content-Type"), self.unspecified)
  elseif self.action == "ignore" then
    return nil
  end
  local ok, errors = true, nil
  if judge.form then
    return check_form(self, kind, judge, field, text)
  elseif judge.json then
    ok, errors = judge.json:validate(text, self.depth)
  elseif judge.xml then
    ok, errors = judge.xml:validate(text, self.soap)
  end
  if ok then
    return nil
  end
  local mistakes = {}
  validation.add(mistakes, kind, "body", errors, self.action)
  return mistakes
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
    if not operation then
      return
    end
    local request = operation.request
    content, required = request and request.content, request and request.is_required
  end
  local text = ctx.request:body() or ""
  local mistakes
  if text ~= "" and not content then
    mistakes = note({}, "request", "content_type", "the operation has no body", self.unspecified)
  elseif text == "" then
    if not required and not (self.own and ctx.request.headers["Content-Type"]) then
      return
    end
    mistakes = note({}, "request", "required", "is missing", self.action)
  else
    mistakes = check(self, "request", content, ctx.request.headers["Content-Type"], text)
  end
  if mistakes and #mistakes > 0 then
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
    if not content or next(content.by_media) == nil then
      return
    end
  end
  local text = ctx.response:body() or ""
  local mistakes = check(self, "response", content, ctx.response.headers["Content-Type"], text)
  if mistakes and #mistakes > 0 then
    return conclude(self, ctx, RESPONSE, mistakes)
  end
end

M.outbound, M.on_error = answer, answer

return M
