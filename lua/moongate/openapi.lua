-- SPDX-License-Identifier: Apache-2.0
--- OpenAPI definitions (2.0, 3.0, 3.1; JSON or YAML) as the gateway needs them: operations with
--- their parameters, bodies, responses, examples, and a validator for each schema.

local json = require("moongate.json")
--- A native module: loaded at its first use, so that plain Lua (unit specs) can do without.
local function native(module)
  return setmetatable({}, {
    __index = function(_, name)
      return require(module)[name]
    end,
  })
end

local jsonschema, yaml = native("moongate.jsonschema"), native("moongate.yaml")

local M = {}

local MAX_REFS = 32
local FORMS = { ["application/x-www-form-urlencoded"] = true, ["multipart/form-data"] = true }
local METHODS = { "get", "put", "post", "delete", "options", "head", "patch", "trace" }

---@class moongate.Definition
---@field version string "2.0", "3.0", "3.1"
---@field title? string
---@field description? string
---@field base_path string of the first server; "" where there is none
---@field servers string[]
---@field operations table[] by path and method
---@field by_name table<string, table>
---@field warnings string[]
local Definition = {}
Definition.__index = Definition

--- A text as JSON; what begins with a brace is JSON already.
---@param text string
---@return string? json
---@return string? err
function M.as_json(text)
  text = text:gsub("^\239\187\191", "")
  if text:find("^%s*{") then
    return text
  end
  return yaml.to_json(text)
end

local function is_object(value)
  return type(value) == "table" and #value == 0
end

local function text_of(value)
  return type(value) == "string" and value ~= "" and value or nil
end

-- Most tokens stand for themselves: one look tells, where definitions have tens of thousands of them.
local function unescape(token)
  if not token:find("[%%~]") then
    return token
  end
  return (token:gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end):gsub("~1", "/"):gsub("~0", "~"))
end

local function escape(token)
  token = tostring(token)
  if not token:find("[^%w_-]") then
    return token
  end
  return (token:gsub("~", "~0"):gsub("/", "~1"):gsub("[^%w%-._~!$&'()*+,;=:@/]",
    function(c)
      return ("%%%02X"):format(c:byte())
    end))
end

local function sorted_names(map)
  local names = {}
  for name in pairs(map or {}) do
    names[#names + 1] = tostring(name)
  end
  table.sort(names)
  return names
end

--- A place in a document: the value, the document's URI and the pointer to it.
local function child(place, ...)
  local value, pointer = place.value, place.pointer
  for i = 1, select("#", ...) do
    local key = select(i, ...)
    value = type(value) == "table" and value[key] or nil
    pointer = pointer .. "/" .. escape(type(key) == "number" and key - 1 or key)
  end
  return value ~= nil and value ~= json.null
    and { value = value, uri = place.uri, pointer = pointer } or nil
end

--- "specs/a.yaml" and "../b.yaml" -> "b.yaml". Nil: it leads out of the directory, or to the net.
local function relative(base, target)
  if target:find("^%a[%w+.-]*:") or target:sub(1, 1) == "/" then
    return nil
  end
  local parts = {}
  for part in ((base:match("^(.*/)") or "") .. target):gmatch("[^/]+") do
    if part == ".." then
      if not table.remove(parts) then
        return nil
      end
    elseif part ~= "." then
      parts[#parts + 1] = part
    end
  end
  return table.concat(parts, "/")
end

--- A document by its path, read once.
function Definition:document(path)
  local known = self.documents[path]
  if known ~= nil then
    return known or nil
  end
  self.documents[path] = false
  local text = self.read(path)
  local as_json, err
  if text then
    as_json, err = M.as_json(text)
  end
  local value
  if as_json then
    value, err = json.decode(as_json, { depth = 250 })
  end
  if value == nil then
    self:warn(("%s: %s"):format(path, err or "cannot be read"))
    return nil
  end
  self.documents[path], self.texts[path] = value, as_json
  return value
end

function Definition:warn(message)
  if not self.warned[message] and #self.warnings < 200 then
    self.warned[message] = true
    self.warnings[#self.warnings + 1] = message
  end
end

--- Where a reference leads.
function Definition:refer(place, reference)
  local key = place.uri .. " " .. reference
  local target = self.referred[key] or self:find_target(place, reference)
  self.referred[key] = target
  return target
end

function Definition:find_target(place, reference)
  local file, fragment = reference:match("^([^#]*)#?(.*)$")
  local uri = place.uri
  if file ~= "" then
    uri = relative(place.uri, unescape(file))
    if not uri then
      self:warn(("%s%s: only files of the configuration are read, not %s"):format(place.uri,
        place.pointer, reference))
      return nil
    end
  end
  local target = { value = self:document(uri), uri = uri, pointer = "" }
  for token in fragment:gmatch("/([^/]*)") do
    local key = unescape(token)
    local value = type(target.value) == "table" and target.value or {}
    if value[key] == nil and tonumber(key) then
      key = tonumber(key) + 1
    end
    target = child(target, key)
    if not target then
      break
    end
  end
  if not target or target.value == nil then
    self:warn(("%s#%s: there is nothing at %s"):format(place.uri, place.pointer, reference))
    return nil
  end
  return target
end

--- Follows `$ref`s; nil where they lead nowhere or in a circle.
function Definition:resolve(place)
  for _ = 1, MAX_REFS do
    local reference = place and type(place.value) == "table" and place.value["$ref"]
    if type(reference) ~= "string" then
      return place
    end
    place = self:refer(place, reference)
  end
  self:warn("references in a circle")
  return nil
end

--- The types that a schema's values may have, as far as is needed to read a parameter's text.
function Definition:kinds(place, into, depth)
  into = into or {}
  place = self:resolve(place)
  if not place or (depth or 0) > 6 or not is_object(place.value) then
    return into
  end
  local kind = place.value.type
  for _, name in ipairs(type(kind) == "table" and kind or { kind }) do
    into[name] = true
  end
  into.null = into.null or place.value.nullable == true and self.version == "3.0" or nil
  for _, keyword in ipairs({ "allOf", "anyOf", "oneOf" }) do
    for i in ipairs(type(place.value[keyword]) == "table" and place.value[keyword] or {}) do
      self:kinds(child(place, keyword, i), into, (depth or 0) + 1)
    end
  end
  return into
end

--- How a text becomes a value of the schema: what `parameters.lua` and `forms.lua` go by.
---@param place table? of the schema
---@param into table with name, style, explode, media
function Definition:shape(place, into)
  into.kinds = place and self:kinds(place) or {}
  into.item_kinds, into.member_kinds, into.member_items = {}, {}, {}
  place = self:resolve(place)
  if not place or not is_object(place.value) then
    return into
  end
  local items = child(place, "items")
  into.item_kinds = items and self:kinds(items) or {}
  local properties = place.value.properties
  for _, name in ipairs(is_object(properties or 0) and sorted_names(properties) or {}) do
    local member = child(place, "properties", name)
    local kinds = member and self:kinds(member) or {}
    local inner = kinds.array and child(self:resolve(member), "items")
    into.member_kinds[name] = kinds
    into.member_items[name] = kinds.array and (inner and self:kinds(inner) or {}) or nil
  end
  local rest = place.value.additionalProperties
  if rest == true or is_object(rest or 0) then -- where it is said: else every query would be part of it
    into.rest_kinds = is_object(rest) and self:kinds(child(place, "additionalProperties")) or {}
  end
  return into
end

local DEFAULT_STYLES = { path = "simple", header = "simple", query = "form", cookie = "form" }
local COLLECTIONS = { csv = "form", ssv = "spaceDelimited", pipes = "pipeDelimited",
  multi = "form" }

--- One parameter, ready for `parameters.lua`.
function Definition:parameter(place)
  place = self:resolve(place)
  local value = place and place.value
  if not is_object(value) or not text_of(value.name) or not text_of(value["in"]) then
    return nil
  end
  local schema = child(place, "schema")
  local media
  if self.version == "2.0" then
    schema = place
  elseif not schema and is_object(value.content or 0) then
    media = sorted_names(value.content)[1]
    schema = media and child(place, "content", media, "schema")
  end
  local style = text_of(value.style) or DEFAULT_STYLES[value["in"]]
  local explode = value.explode
  if self.version == "2.0" then
    style = value["in"] == "query" and COLLECTIONS[value.collectionFormat or "csv"] or style
    explode = value.collectionFormat == "multi"
    style = value["in"] == "formData" and COLLECTIONS[value.collectionFormat or "csv"] or style
  elseif explode == nil then
    explode = style == "form"
  end
  return self:shape(schema, {
    name = value.name, place = value["in"], required = value.required == true,
    description = text_of(value.description), style = style, explode = explode, media = media,
    schema = schema, allow_empty = value["in"] == "query" and value.allowEmptyValue == true,
  })
end

--- Parameters of an operation over those of its path.
function Definition:parameters(item, operation)
  local list, index = {}, {}
  for _, owner in ipairs({ item, operation }) do
    for i in ipairs(type(owner.value.parameters) == "table" and owner.value.parameters or {}) do
      local one = self:parameter(child(owner, "parameters", i))
      if one then
        local key = one.place .. " " .. one.name
        index[key] = index[key] or #list + 1
        list[index[key]] = one
      end
    end
  end
  return list
end

--- Media types of a `content`: where the schema and the examples are.
function Definition:content(place)
  local out = {}
  local content = place and child(place, "content")
  for _, media in ipairs(content and is_object(content.value) and sorted_names(content.value)
    or {}) do
    local one = child(content, media)
    local name = media:lower():gsub("%s*;.*", "")
    local examples = self:examples_of(one)
    out[name] = { schema = child(one, "schema"), example = examples[1] and examples[1].value,
      examples = examples, form = self:form(name, one) }
  end
  return out
end

--- What the fields of a form are; nil for other media types.
---@param media string
---@param place table the media type object
---@return table<string, table>? shapes by name
function Definition:form(media, place)
  local schema = FORMS[media] and self:resolve(child(place, "schema"))
  if not schema or not is_object(schema.value) then
    return nil
  end
  local shapes = {}
  local properties = schema.value.properties
  for _, name in ipairs(is_object(properties or 0) and sorted_names(properties) or {}) do
    local encoding = self:resolve(child(place, "encoding", name))
    encoding = encoding and is_object(encoding.value) and encoding.value or {}
    local style = text_of(encoding.style)
    local member = child(schema, "properties", name)
    local shape = self:shape(member, { name = name, style = style or "form",
      content_type = text_of(encoding.contentType) })
    shape.explode = encoding.explode == nil and shape.style == "form" or encoding.explode == true
    if shape.kinds.object and not style then
      shape.media = "application/json"
    end
    local resolved = self:resolve(member)
    local format = resolved and is_object(resolved.value) and resolved.value.format
    shape.is_file = format == "binary"
    shapes[name] = shape
  end
  return shapes
end

--- The examples of a media type, { name?, value } in order of their names; `example` has none.
function Definition:examples_of(media)
  if media.value.example ~= nil then
    return { { value = media.value.example } }
  end
  local list, examples = {}, media.value.examples
  for _, name in ipairs(is_object(examples or 0) and sorted_names(examples) or {}) do
    local one = self:resolve(child(media, "examples", name))
    if one and is_object(one.value) and one.value.value ~= nil then
      list[#list + 1] = { name = name, value = one.value.value }
    end
  end
  return list
end

local function list_of(...)
  for i = 1, select("#", ...) do
    local list = select(i, ...)
    if type(list) == "table" and #list > 0 then
      return list
    end
  end
  return { "application/json" }
end

function Definition:body(operation, parameters)
  if self.version ~= "2.0" then
    local place = self:resolve(child(operation, "requestBody"))
    return place and is_object(place.value)
      and { required = place.value.required == true, content = self:content(place) } or nil
  end
  for _, one in ipairs(parameters) do
    if one.place == "body" then
      local body = { required = one.required, content = {} }
      for _, media in ipairs(list_of(operation.value.consumes, self.root.consumes)) do
        body.content[media:lower():gsub("%s*;.*", "")] = { schema = child(one.schema, "schema") }
      end
      return body
    end
  end
  return self:form_body(operation, parameters)
end

--- The fields of a form in a definition of 2.0: each has its own schema.
function Definition:form_body(operation, parameters)
  local shapes, fields, required, has_file = {}, {}, false, false
  for _, one in ipairs(parameters) do
    if one.place == "formData" then
      one.is_file = one.kinds.file
      shapes[one.name], fields[#fields + 1] = one, one
      required, has_file = required or one.required, has_file or one.is_file
    end
  end
  if #fields == 0 then
    return nil
  end
  local one, content = { form = shapes, fields = fields }, {}
  for _, media in ipairs(list_of(operation.value.consumes, self.root.consumes)) do
    local name = media:lower():gsub("%s*;.*", "")
    content[name] = FORMS[name] and one or nil
  end
  if not next(content) then
    content[has_file and "multipart/form-data" or "application/x-www-form-urlencoded"] = one
  end
  return { required = required, content = content }
end

function Definition:response(place, operation)
  place = self:resolve(place)
  if not place or not is_object(place.value) then
    return nil
  end
  local out = { description = text_of(place.value.description), headers = {}, content = {} }
  local headers = place.value.headers
  for _, name in ipairs(is_object(headers or 0) and sorted_names(headers) or {}) do
    local one = self:resolve(child(place, "headers", name))
    if one and is_object(one.value) then
      local schema = self.version == "2.0" and one or child(one, "schema")
      local media
      if not schema and is_object(one.value.content or 0) then
        media = sorted_names(one.value.content)[1]
        schema = media and child(one, "content", media, "schema")
      end
      out.headers[name:lower()] = self:shape(schema, { name = name, place = "header", style = "simple",
        explode = one.value.explode == true, required = one.value.required == true, media = media,
        schema = schema })
    end
  end
  if self.version ~= "2.0" then
    out.content = self:content(place)
    return out
  end
  if place.value.schema or place.value.examples then
    for _, media in ipairs(list_of(operation.value.produces, self.root.produces)) do
      out.content[media:lower()] = { schema = child(place, "schema"),
        example = (place.value.examples or {})[media] }
    end
  end
  return out
end

function Definition:responses(operation)
  local out = {}
  local responses = operation.value.responses
  for _, status in ipairs(is_object(responses or 0) and sorted_names(responses) or {}) do
    if status == "default" or status:find("^%d[%dxX][%dxX]$") then
      local key = type(responses[status]) ~= "nil" and status or tonumber(status)
      out[status:upper():gsub("DEFAULT", "default")] =
        self:response(child(operation, "responses", key), operation)
    end
  end
  return out
end

--- A path that the router takes. @return path, and whether something was lost
local function route_path(path)
  local lost, names = false, {}
  local out = path:gsub("[?#].*$", function()
    lost = true
    return ""
  end):gsub("[^/]+", function(segment)
    if not segment:find("[{}]") then
      return nil
    end
    local name = segment:match("^{([^{}]+)}$")
    lost = lost or not name
    name = (name or segment:match("{([^{}]+)}") or "value"):gsub("[^%w_-]", "_")
    if not name:find("^[%a_]") then
      name = "p_" .. name
    end
    while names[name] do
      name = name .. "_2"
    end
    names[name] = true
    return "{" .. name .. "}"
  end)
  out = out:gsub("//+", "/")
  return out:sub(1, 1) == "/" and out or "/" .. out, lost
end

local function operation_name(value, method, path)
  local name = text_of(value.operationId) or method .. " " .. path
  name = name:gsub("[^%w]+", "_"):gsub("^_+", ""):gsub("_+$", "")
  if name == "" or name:find("^%d") then
    name = "op_" .. name
  end
  return #name > 80 and name:sub(1, 80) or name
end

function Definition:add_operation(item, path, method)
  local place = child(item, method)
  if not place or not is_object(place.value) then
    return
  end
  local value = place.value
  local name = operation_name(value, method, path)
  local unique, n = name, 1
  while self.by_name[unique] do
    n = n + 1
    unique = name .. "_" .. n
  end
  local routed, lost = route_path(path)
  local shape = method .. " " .. routed:gsub("{[^}]*}", "{}")
  if self.shapes[shape] then
    self:warn(("%s %s: the same path as %s, left out"):format(method:upper(), path,
      self.shapes[shape]))
    return
  elseif lost then
    self:warn(("%s %s: a parameter that is part of a segment takes the whole of it: %s"):format(
      method:upper(), path, routed))
  end
  self.shapes[shape] = path
  local parameters = self:parameters(item, place)
  local operation = {
    name = unique, id = text_of(value.operationId), method = method:upper(), path = routed,
    title = text_of(value.summary), description = text_of(value.description),
    deprecated = value.deprecated == true, parameters = parameters,
    body = self:body(place, parameters), responses = self:responses(place),
  }
  self.by_name[unique] = operation
  self.operations[#self.operations + 1] = operation
end

local function base_path_of(url)
  local path = url:gsub("^%a[%w+.-]*://[^/]*", ""):gsub("{[^}]*}", ""):gsub("[?#].*$", "")
  return (path:gsub("/+$", ""):gsub("//+", "/"))
end

function Definition:read_servers()
  local root = self.root
  self.servers = {}
  if self.version == "2.0" then
    local base = text_of(root.basePath) or ""
    self.base_path = base_path_of(base)
    if text_of(root.host) then
      local scheme = type(root.schemes) == "table" and root.schemes[1] or "https"
      self.servers[1] = ("%s://%s%s"):format(scheme, root.host, base)
    end
    return
  end
  for _, server in ipairs(type(root.servers) == "table" and root.servers or {}) do
    local url = type(server) == "table" and text_of(server.url)
    if url then
      for name, variable in pairs(is_object(server.variables or 0) and server.variables or {}) do
        if type(variable) == "table" and type(variable.default) == "string" then
          local value = variable.default:gsub("%%", "%%%%")
          url = url:gsub("{" .. name:gsub("%W", "%%%0") .. "}", value)
        end
      end
      self.servers[#self.servers + 1] = url
    end
  end
  self.base_path = base_path_of(self.servers[1] or "")
end

--- The operations of a path.
function Definition:read_path(place, template)
  local item = self:resolve(place)
  if template:sub(1, 1) ~= "/" or not item or not is_object(item.value) then
    self:warn(('paths: %s: expected a path that starts with "/", of operations by method; left out')
      :format(template))
    return
  end
  for _, method in ipairs(METHODS) do
    if item.value[method] ~= nil and not is_object(item.value[method]) then
      self:warn(("%s %s: expected an operation; left out"):format(method:upper(), template))
    end
    self:add_operation(item, template, method)
  end
end

--- Reads a definition.
---@param path string relative to the configuration
---@param read fun(path: string): string?, string?
---@return moongate.Definition?
---@return string? err
function M.read(path, read)
  local self = setmetatable({ read = read, path = path, documents = {}, texts = {}, warnings = {},
    warned = {}, referred = {}, operations = {}, by_name = {}, shapes = {}, validators = {} },
    Definition)
  local root = self:document(path)
  if not root then
    return nil, self.warnings[1]
  end
  if not is_object(root) then
    return nil, ("%s: expected an OpenAPI definition, got %s"):format(path,
      type(root) == "userdata" and "nothing" or "a " .. type(root))
  end
  self.root = root
  local version = tostring(root.swagger or root.openapi or "")
  self.version = version:match("^(2%.0)") or version:match("^2$") and "2.0"
    or version:match("^(3%.[01])")
  if not self.version then
    return nil, ("%s: expected `openapi: 3.0`, `openapi: 3.1` or `swagger: \"2.0\"`, got %q"):format(
      path, version)
  end
  local info = is_object(root.info or 0) and root.info or {}
  self.title, self.description = text_of(info.title), text_of(info.description)
  self.info_version = info.version and info.version ~= json.null and tostring(info.version) or nil
  self:read_servers()
  local top = { value = root, uri = path, pointer = "" }
  local paths = root.paths
  if paths ~= nil and not is_object(paths) then
    self:warn(("%s: paths: expected an object of operations by path, so there are none"):format(path))
  end
  for _, template in ipairs(sorted_names(is_object(paths or 0) and paths)) do
    if template:sub(1, 2) ~= "x-" then
      self:read_path(child(top, "paths", template), template)
    end
  end
  return self
end

--- The set that a document's schemas are compiled in, with their formats asserted or not.
function Definition:set_of(uri, formats)
  local key = formats and uri .. " formats" or uri
  local set = self.sets and self.sets[key]
  if not set then
    local draft = self.version == "3.1" and "openapi-3.1" or "openapi-3.0"
    local text = self.texts[uri]
    set = jsonschema.set({ draft = draft, definition = true, formats = formats,
      resolve = function(wanted)
        local path = wanted:match("^file:///(.*)$")
        if path and self:document(path) then
          return self.texts[path]
        end
      end })
    local ok, err = set:add("file:///" .. uri, text)
    if not ok then
      return nil, err
    end
    self.sets = self.sets or {}
    self.sets[key] = set
  end
  return set, key
end

--- The validator of a schema's place.
---@param place table
---@param direction "request"|"response"
---@param formats boolean  whether `format` is asserted
---@return table? schema
---@return string? err
function Definition:validator(place, direction, formats)
  local key = ("%s#%s %s%s"):format(place.uri, place.pointer, direction, formats and " formats" or "")
  local known = self.validators[key]
  if known then
    return known
  end
  local set, set_key = self:set_of(place.uri, formats)
  if not set then
    return nil, set_key
  end
  local err
  known, err = set:compile("#" .. place.pointer, direction)
  if not known then
    self.sets[set_key] = nil -- a set with a broken schema compiles nothing any more
    return nil, err
  end
  self.validators[key] = known
  return known
end

local function forget_content(content)
  for _, one in pairs(content) do
    one.schema, one.example, one.examples, one.form, one.fields = nil, nil, nil, nil, nil
  end
end

--- Lets go of the documents, once everything is compiled: what is left is small.
function Definition:release()
  self.documents, self.texts, self.root, self.sets, self.validators = {}, {}, nil, nil, {}
  for _, operation in ipairs(self.operations) do
    for _, parameter in ipairs(operation.parameters) do
      parameter.schema = nil
    end
    forget_content(operation.body and operation.body.content or {})
    for _, response in pairs(operation.responses) do
      forget_content(response.content)
      for _, header in pairs(response.headers) do
        header.schema = nil
      end
    end
  end
end

local SAMPLES = { string = "string", integer = 0, number = 0, boolean = true,
  ["date-time"] = "2024-01-01T00:00:00Z", date = "2024-01-01", uuid =
  "00000000-0000-4000-8000-000000000000", uri = "https://example.test/", email =
  "user@example.test", ipv4 = "192.0.2.1", ipv6 = "2001:db8::1" }

local function sample_text(value)
  local text = SAMPLES[value.format] or "string"
  local least = tonumber(value.minLength) or 0
  if #text < least then
    text = text .. ("x"):rep(math.min(least, 1000) - #text)
  end
  local most = tonumber(value.maxLength)
  return most and #text > most and text:sub(1, most) or text
end

--- A value that a schema describes; nil where it is too deep or a circle.
---@param place table?
---@param depth? integer
function Definition:sample(place, depth)
  depth = depth or 0
  place = place and self:resolve(place)
  local value = place and place.value
  if not is_object(value) or depth > 8 then
    return nil
  end
  if value.example ~= nil then
    return value.example
  elseif type(value.examples) == "table" and value.examples[1] ~= nil then
    return value.examples[1]
  elseif value.default ~= nil then
    return value.default
  elseif value.const ~= nil then
    return value.const
  elseif type(value.enum) == "table" then
    return value.enum[1]
  end
  local out = {}
  for i in ipairs(type(value.allOf) == "table" and value.allOf or {}) do
    local part = self:sample(child(place, "allOf", i), depth + 1)
    if type(part) ~= "table" then
      break
    else
      for name, one in pairs(part) do
        out[name] = one
      end
    end
  end
  for _, keyword in ipairs({ "oneOf", "anyOf" }) do
    if type(value[keyword]) == "table" and value[keyword][1] ~= nil then
      return self:sample(child(place, keyword, 1), depth + 1)
    end
  end
  local kind = type(value.type) == "table" and value.type[1] or value.type
  if kind == "array" then
    return json.array({ self:sample(child(place, "items"), depth + 1) })
  elseif kind == "object" or is_object(value.properties or 0) or next(out) ~= nil then
    for _, name in ipairs(sorted_names(is_object(value.properties or 0) and value.properties)) do
      out[name] = self:sample(child(place, "properties", name), depth + 1)
    end
    return out
  elseif kind == "string" then
    return sample_text(value)
  elseif kind == "null" then
    return json.null
  elseif kind == "integer" or kind == "number" then
    return tonumber(value.minimum) or 0
  end
  return SAMPLES[kind]
end

--- Examples of an operation, as `mock_response` takes them: by status, by media type.
function M.examples(operation)
  local out
  for status, response in pairs(operation.responses) do
    for media, one in pairs(response.content) do
      if one.example ~= nil and status:find("^%d%d%d$") then
        out = out or {}
        out[status] = out[status] or {}
        out[status][media] = one.example
      end
    end
  end
  return out
end

return M
