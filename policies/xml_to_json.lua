-- SPDX-License-Identifier: Apache-2.0
--- Makes a JSON body of an XML body.
local json = require("moongate.json")
local conversion = require("moongate.conversion")
local xml = require("moongate.xml")

local concat = table.concat

local M = {
  name = "xml_to_json",
  summary = "Makes a JSON body of an XML body.",
  description = "`javascript-friendly` gives what scripts like: elements are members, attributes "
    .. "members of the same name, repeated elements lists. `direct` keeps the structure: attributes "
    .. "begin with `@`, texts beside elements are `#text`, names keep their prefixes. All values are "
    .. "texts. Documents with a DTD are refused, so there are no entities. In `inbound` the request's "
    .. "body, in `outbound` and `on_error` the response's; it is kept in memory.",
  sections = { "inbound", "outbound", "on_error" },
  azure = "xml-to-json",
  differences = "Documents with a DTD are refused.",
  statuses = { ["400"] = "`XmlInvalid`, inbound", ["502"] = "`XmlInvalid`, outbound" },
  example = 'p.xml_to_json { kind = "direct", apply = "content-type-xml" }',
}

M.schema = {
  type = "object", required = { "kind", "apply" }, additionalProperties = false,
  order = { "kind", "apply", "consider_accept_header", "always_array_child_elements" },
  properties = {
    kind = { enum = { "javascript-friendly", "direct" }, description = "The form of the JSON." },
    apply = { enum = { "always", "content-type-xml" },
      description = "Whether every body is converted, or one with an XML media type." },
    consider_accept_header = { type = "boolean", default = true,
      description = "Converts responses only for clients whose `Accept` takes JSON." },
    always_array_child_elements = { type = "boolean", default = false,
      description = "Whether elements inside others are lists even when there is one." },
  },
}

function M.needs(_, listing)
  return { request_body = listing.section == "inbound",
    response_body = listing.section ~= "inbound" }
end

function M.prepare(conf)
  return { is_direct = conf.kind == "direct", always = conf.apply == "always",
    considers = conf.consider_accept_header ~= false,
    lists = conf.always_array_child_elements or false }
end

local function quote(text)
  return json.encode(text)
end

local function local_name(self, name)
  return self.is_direct and name or (name:gsub("^.*:", ""))
end

--- Adds a value to the members: those of one name are gathered at the place of the first, as JSON has
--- no name twice.
local function add(members, by_name, name, value)
  local member = by_name[name]
  if not member then
    member = { name = name }
    by_name[name] = member
    members[#members + 1] = member
  end
  member[#member + 1] = value
  return member
end

--- Attributes, elements and text as members, in order.
local function gather(self, element, value_of)
  local members, by_name, texts = {}, {}, {}
  local attributes = element.attributes
  for i = 1, #attributes, 2 do
    local name = attributes[i]
    if self.is_direct then
      name = "@" .. name
    elseif name:find("^xmlns") then
      name = nil
    end
    if name then
      add(members, by_name, local_name(self, name), quote(attributes[i + 1]))
    end
  end
  for i = 1, #element do
    local child = element[i]
    if type(child) == "string" then
      texts[#texts + 1] = child
    else
      add(members, by_name, local_name(self, child.name), value_of(self, child)).is_element = true
    end
  end
  local text = concat(texts)
  if #members > 0 and text:find("%S") then
    add(members, by_name, self.is_direct and "#text" or "value", quote(text))
  end
  return members, text
end

local function value_of(self, element)
  local members, text = gather(self, element, value_of)
  if #members == 0 then
    if text == "" then
      return self.is_direct and "null" or '""'
    end
    return quote(text)
  end
  local out = {}
  for i, member in ipairs(members) do
    local value = concat(member, ",")
    if #member > 1 or member.is_element and self.lists then
      value = "[" .. value .. "]"
    end
    out[i] = quote(member.name) .. ":" .. value
  end
  return "{" .. concat(out, ",") .. "}"
end

--- The JSON text for an XML text.
local function convert(self, text)
  local root, err = xml.decode(text)
  if not root then
    return nil, err
  end
  return "{" .. quote(local_name(self, root.name)) .. ":" .. value_of(self, root) .. "}"
end

conversion.install(M, {
  name = "xml_to_json", from = "xml", to = "json", content_type = "application/json",
  reason = "XmlInvalid", message = "the body is no XML that is taken", convert = convert,
})

return M
