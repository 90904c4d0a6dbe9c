-- SPDX-License-Identifier: Apache-2.0
--- Makes an XML body of a JSON body.
local conversion = require("moongate.conversion")
local xml = require("moongate.xml")

local concat = table.concat

local M = {
  name = "json_to_xml",
  summary = "Makes an XML body of a JSON body.",
  description = "Members become elements in their order, lists repeated elements, `null` an empty "
    .. "element. A document has one root: where the JSON has not one member with one value, it is "
    .. "wrapped in `Document`. What cannot stand in a name is written as `_xHHHH_`. In `inbound` the "
    .. "request's body, in `outbound` and `on_error` the response's; it is kept in memory.",
  sections = { "inbound", "outbound", "on_error" },
  azure = "json-to-xml",
  differences = "Dates stay as they are written. Names with the separator become prefixed names only "
    .. "where the prefix is declared.",
  statuses = { ["400"] = "`JsonInvalid`, inbound", ["502"] = "`JsonInvalid`, outbound" },
  example = 'p.json_to_xml { apply = "content-type-json", attribute_block_name = "#attrs" }',
}

M.schema = {
  type = "object", required = { "apply" }, additionalProperties = false,
  order = { "apply", "consider_accept_header", "namespace_separator", "namespace_prefix",
    "attribute_block_name" },
  properties = {
    apply = { enum = { "always", "content-type-json" },
      description = "Whether every body is converted, or one with a JSON media type." },
    consider_accept_header = { type = "boolean", default = true,
      description = "Converts responses only for clients whose `Accept` takes XML." },
    namespace_separator = { type = "string", minLength = 1, maxLength = 1, default = "_",
      description = "What stands between prefix and name in JSON." },
    namespace_prefix = { type = "string", minLength = 1, maxLength = 32,
      description = "Members of this name, or beginning with it and the separator, declare "
        .. "namespaces: `xmlns`." },
    attribute_block_name = { type = "string", minLength = 1, maxLength = 64,
      description = "Members of an object of this name are attributes." },
  },
}

function M.needs(_, listing)
  return { request_body = listing.section == "inbound",
    response_body = listing.section ~= "inbound" }
end

function M.prepare(conf)
  return { always = conf.apply == "always", considers = conf.consider_accept_header ~= false,
    separator = conf.namespace_separator or "_", prefix = conf.namespace_prefix,
    attributes = conf.attribute_block_name }
end

-- What a reader of XML would change or not take: line ends, and in attributes all other spaces.
local ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["\r"] = "&#13;" }
local IN_ATTRIBUTES = { ["\n"] = "&#10;", ["\t"] = "&#9;" }
local NO_CHARACTER = "\239\191\189"

local function escape(text)
  return (text:gsub('[&<>"\r]', ESCAPES):gsub("[%z\1-\8\11\12\14-\31]", NO_CHARACTER)
    :gsub("\239\191[\190\191]", NO_CHARACTER))
end

-- Beyond ASCII: what a name may have (XML 1.0, 2.3), and what it may not begin with.
local NAME_RANGES = { 0xC0, 0xD6, 0xD8, 0xF6, 0xF8, 0x37D, 0x37F, 0x1FFF, 0x200C, 0x200D, 0x203F, 0x2040,
  0x2070, 0x218F, 0x2C00, 0x2FEF, 0x3001, 0xD7FF, 0xF900, 0xFDCF, 0xFDF0, 0xFFFD, 0x10000, 0xEFFFF,
  0xB7, 0xB7 }
local NOT_FIRST = { 0x300, 0x36F, 0x203F, 0x2040, 0xB7, 0xB7 }

local function is_in(ranges, code)
  for i = 1, #ranges, 2 do
    if code >= ranges[i] and code <= ranges[i + 1] then
      return true
    end
  end
  return false
end

local function code_of(bytes)
  local first = bytes:byte()
  local code = first < 0xE0 and first - 0xC0 or first < 0xF0 and first - 0xE0 or first - 0xF0
  for i = 2, #bytes do
    code = code * 64 + bytes:byte(i) - 0x80
  end
  return code
end

local function escaped(code)
  return ("_x%04X_"):format(code)
end

--- A name that XML takes.
local function name_of(text)
  local name = text:gsub("[%z\1-,/;-@%[-^`{-\127]", function(c)
    return escaped(c:byte())
  end):gsub("[\194-\244][\128-\191]*", function(bytes)
    local code = code_of(bytes)
    return not is_in(NAME_RANGES, code) and escaped(code) or nil
  end)
  local first = name:match("^[\194-\244][\128-\191]*")
  if first and is_in(NOT_FIRST, code_of(first)) then
    return escaped(code_of(first)) .. name:sub(#first + 1)
  elseif name == "" or name:find("^[%d.-]") then
    return escaped(text:byte() or 0) .. name:sub(2)
  end
  return name
end

local Writer = {}
Writer.__index = Writer

--- `a_b` is `a:b` where `a` is declared; a colon of the name's own is none else.
function Writer:qualified(text, scope)
  local at = text:find(self.separator, 2, true)
  local left = at and text:sub(1, at - 1)
  if left and scope[left] then
    return name_of(left) .. ":" .. name_of(text:sub(at + 1))
  end
  return (name_of(text):gsub(":", "_x003A_"))
end

local function scalar(value)
  if value == xml.null then
    return ""
  end
  return escape(tostring(value))
end

--- An attribute; of one name the last counts, as an element has none twice.
local function set_attribute(given, name, value)
  local at = given[name] or #given + 1
  given[name] = at
  given[at] = name .. '="' .. scalar(value):gsub("[\n\t]", IN_ATTRIBUTES) .. '"'
end

--- Declarations and attributes of an object, and what is left of it.
function Writer:split(object, scope)
  local rest, given, own = {}, {}, nil
  for i = 1, #object, 2 do
    local name, value = object[i], object[i + 1]
    local declared = self.prefix and (name == self.prefix and ""
      or name:sub(1, #self.prefix + 1) == self.prefix .. self.separator
      and name:sub(#self.prefix + 2))
    if declared and type(value) == "string" then
      own = own or setmetatable({}, { __index = scope })
      own[declared] = true
      set_attribute(given, declared == "" and "xmlns" or "xmlns:" .. name_of(declared), value)
    elseif name == self.attributes and type(value) == "table" and value.kind == "object" then
      given[0] = value -- no name is a number
    else
      rest[#rest + 1], rest[#rest + 2] = name, value
    end
  end
  own = own or scope
  local block = given[0] or {}
  for i = 1, #block, 2 do
    if type(block[i + 1]) ~= "table" then
      set_attribute(given, self:qualified(block[i], own), block[i + 1])
    end
  end
  return rest, given, own
end

function Writer:element(name, value, scope)
  local out = self.out
  if type(value) ~= "table" then
    local text, tag = scalar(value), self:qualified(name, scope)
    out[#out + 1] = text == "" and "<" .. tag .. " />" or concat({ "<", tag, ">", text, "</", tag, ">" })
  elseif value.kind == "array" then
    for i = 1, #value do
      local item = value[i]
      if type(item) == "table" and item.kind == "array" then
        item = { kind = "object", name, item }
      end
      self:element(name, item, scope)
    end
  else
    local rest, given, own = self:split(value, scope)
    local tag = self:qualified(name, own)
    out[#out + 1] = "<" .. tag .. (#given > 0 and " " .. concat(given, " ") or "")
    if #rest == 0 then
      out[#out + 1] = " />"
      return
    end
    out[#out + 1] = ">"
    for i = 1, #rest, 2 do
      if rest[i] == "#text" and type(rest[i + 1]) ~= "table" then
        out[#out + 1] = scalar(rest[i + 1])
      else
        self:element(rest[i], rest[i + 1], own)
      end
    end
    out[#out + 1] = "</" .. tag .. ">"
  end
end

--- The XML text for a JSON text.
local function convert(self, text)
  local value, err = xml.json(text)
  if value == nil then
    return nil, err
  end
  local writer = setmetatable({ separator = self.separator, prefix = self.prefix,
    attributes = self.attributes, out = { '<?xml version="1.0" encoding="utf-8"?>' } }, Writer)
  local inner = type(value) == "table" and value.kind == "object" and #value == 2 and value[2]
  if inner ~= false and inner ~= nil and not (type(inner) == "table" and inner.kind == "array") then
    writer:element(value[1], inner, {})
  elseif type(value) == "table" and value.kind == "array" then
    writer:element("Document", { kind = "object", "item", value }, {})
  else
    writer:element("Document", value, {})
  end
  return concat(writer.out)
end
M.convert = convert

conversion.install(M, {
  name = "json_to_xml", from = "json", to = "xml", content_type = "application/xml; charset=utf-8",
  reason = "JsonInvalid", message = "the body is no JSON", convert = convert,
})

return M
