-- SPDX-License-Identifier: Apache-2.0
--- Writes `docs/configuration.md` and `docs/policies.md` from the schemas, so that the reference is
--- what the checker checks.

local api_schema = require("moongate.config.api_schema")
local gateway_schema = require("moongate.config.gateway_schema")
local listings = require("moongate.config.listings")
local near = require("moongate.near")
local schema = require("moongate.schema")

local M = {}

local function cell(text)
  return (tostring(text or ""):gsub("|", "\\|"):gsub("\n", " "))
end

local show_default

local function show_table(value)
  if next(value) == nil then
    return "{}"
  end
  local parts = {}
  for i = 1, #value do
    parts[i] = show_default(value[i])
  end
  for _, name in ipairs(near.keys(value)) do
    parts[#parts + 1] = ("%s = %s"):format(name, show_default(value[name]))
  end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

function show_default(value)
  if type(value) == "table" then
    return show_table(value)
  end
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

--- The record within a schema, if there is one to describe below: itself, in a list, a map, a
--- choice.
local function inner_record(def)
  if def.is_policies then
    return nil
  elseif def.properties then
    return def
  elseif def.items then
    return inner_record(def.items)
  elseif type(def.additionalProperties) == "table" then
    return inner_record(def.additionalProperties)
  end
  for _, branch in ipairs(def.oneOf or def.anyOf or {}) do
    local hit = inner_record(branch)
    if hit then
      return hit
    end
  end
  return nil
end

local function kind_of(def)
  if def.is_policies then
    return "policies"
  elseif def.type == "array" and def.items then
    return "list of " .. kind_of(def.items)
  elseif def.type == "object" and type(def.additionalProperties) == "table" then
    return "table of " .. kind_of(def.additionalProperties)
  elseif def.oneOf or def.anyOf then
    local parts, seen = {}, {}
    for _, branch in ipairs(def.oneOf or def.anyOf) do
      local text = kind_of(branch)
      if not seen[text] then
        seen[text] = true
        parts[#parts + 1] = text
      end
    end
    return table.concat(parts, " or ")
  elseif def.expected and def.type == "policy" then
    return "policy"
  end
  local text = schema.expected(def):gsub("^non%-empty ", "")
  return def.secret and "secret" or text
end

local function is_required(def, name)
  for _, one in ipairs(def.required or {}) do
    if one == name then
      return true
    end
  end
  return false
end

local function fields_of(def)
  return def.order or near.keys(def.properties)
end

--- The table of a record's fields.
local function write_fields(out, def)
  out[#out + 1] = "| Field | Type | Default | |"
  out[#out + 1] = "|---|---|---|---|"
  for _, name in ipairs(fields_of(def)) do
    local field = def.properties[name]
    local default = field.default
    local text = ""
    if is_required(def, name) then
      text = "required"
    elseif default ~= nil and not (type(default) == "table" and next(default) == nil) then
      text = "`" .. cell(show_default(default)) .. "`"
    end
    out[#out + 1] = ("| `%s` | %s | %s | %s |"):format(name, cell(kind_of(field)), text,
      cell(field.description))
  end
  out[#out + 1] = ""
end

local PER = {
  object = "<name>",
}

local function write_record(out, path, def, level)
  write_fields(out, def)
  for _, name in ipairs(fields_of(def)) do
    local field = def.properties[name]
    local inner = inner_record(field)
    if inner then
      local at = path == "" and name or path .. "." .. name
      if field.type == "array" then
        at = at .. "[]"
      elseif type(field.additionalProperties) == "table" then
        at = at .. "." .. PER.object
        if field.additionalProperties.type == "array" then
          at = at .. "[]"
        end
      end
      out[#out + 1] = ("%s `%s`"):format(("#"):rep(math.min(level, 6)), at)
      out[#out + 1] = ""
      out[#out + 1] = inner.description or field.description or ""
      out[#out + 1] = ""
      write_record(out, at, inner, level + 1)
    end
  end
end

--- `docs/configuration.md`.
---@return string
function M.configuration()
  local out = {
    "# Configuration", "",
    "Made from the schemas by `moongate.docs`; do not edit.", "",
    "A directory: `gateway.lua` first, one file per API in `apis/`, your own policies in `policies/`, "
      .. "modules that they share in `lib/`. All of it is Lua, run in a sandbox when it is loaded. "
      .. "Durations are in seconds and sizes in bytes. `{{name}}` in any text stands for a named "
      .. "value. Where a field takes a secret, it may be a text, `{ env = \"NAME\" }` or "
      .. "`{ file = \"path\" }`.", "",
    "Field `policies`: four lists, `inbound`, `backend`, `outbound` and `on_error`, of policies "
      .. "(`docs/policies.md`), functions of `ctx`, and `base`, which marks where the outer scopes' "
      .. "policies run. Without `base` they run first (`inbound`, `backend`) or last (`outbound`, "
      .. "`on_error`). Scopes, outermost first: gateway, site, route, product, API, operation.", "",
    "## `gateway.lua`", "",
  }
  write_record(out, "", gateway_schema, 3)
  out[#out + 1] = "## `apis/*.lua`"
  out[#out + 1] = ""
  write_record(out, "", api_schema, 3)
  while out[#out] == "" do
    out[#out] = nil
  end
  return table.concat(out, "\n") .. "\n"
end

local function write_statuses(out, statuses)
  if not statuses then
    return
  end
  out[#out + 1] = "Answers:"
  out[#out + 1] = ""
  for _, status in ipairs(near.keys(statuses)) do
    out[#out + 1] = ("- %s: %s"):format(status, statuses[status])
  end
  out[#out + 1] = ""
end

local function sections_of(module)
  local listable, follows = {}, {}
  local named
  if module.sections then
    named = {}
    for _, section in ipairs(module.sections) do
      named[section] = true
    end
  end
  for _, section in ipairs(listings.SECTIONS) do
    if type(module[section]) == "function" then
      if not named or named[section] then
        listable[#listable + 1] = "`" .. section .. "`"
      else
        follows[#follows + 1] = "`" .. section .. "`"
      end
    end
  end
  local text = "Stands in: " .. table.concat(listable, ", ")
  if #follows > 0 then
    text = text .. "; acts in " .. table.concat(follows, ", ") .. " too"
  end
  return text .. "."
end

local function write_policy(out, name, module)
  local function paragraph(text)
    out[#out + 1] = text
    out[#out + 1] = ""
  end
  paragraph(("## `%s`"):format(name))
  paragraph(module.summary or "")
  if module.description then
    paragraph(module.description)
  end
  paragraph(sections_of(module) .. (module.azure and (" In API Management: `%s`."):format(
    module.azure) or ""))
  if module.differences then
    paragraph("Differs: " .. module.differences)
  end
  write_statuses(out, module.statuses)
  if module.example then
    paragraph("```lua\n" .. module.example .. "\n```")
  end
  if module.schema and module.schema.properties and next(module.schema.properties) then
    write_record(out, "", module.schema, 3)
  end
end

--- `docs/policies.md`.
---@param modules table<string, table> the built-in policies by name
---@return string
function M.policies(modules)
  local out = {
    "# Policies", "",
    "Made from the policies' schemas by `moongate.docs`; do not edit.", "",
    "Every policy takes these, beside its own options:", "",
    "| Field | Type | |", "|---|---|---|",
  }
  for _, field in ipairs(listings.common_fields) do
    out[#out + 1] = ("| `%s` | %s | %s |"):format(field[1], cell(field[2]), cell(field[3]))
  end
  out[#out + 1] = ""
  for _, name in ipairs(near.keys(modules)) do
    write_policy(out, name, modules[name])
  end
  while out[#out] == "" do
    out[#out] = nil
  end
  return table.concat(out, "\n") .. "\n"
end

local function load_all(names, load)
  local modules = {}
  for _, name in ipairs(names) do
    modules[name] = load("policies." .. name)
  end
  return modules
end

local function list(names, load, is_json)
  local modules, rows = load_all(names, load), {}
  table.sort(names)
  for i, name in ipairs(names) do
    rows[i] = is_json and { name = name, summary = modules[name].summary }
      or ("%-28s %s"):format(name, modules[name].summary or "")
  end
  return is_json and require("moongate.json").encode(rows) or table.concat(rows, "\n")
end

--- A schema without the functions that check what a schema cannot say.
local function without_functions(value)
  if type(value) ~= "table" then
    return value
  end
  local out = {}
  for key, one in pairs(value) do
    if type(one) ~= "function" then
      out[key] = without_functions(one)
    end
  end
  return out
end

local function show(names, load, name, is_json)
  for _, one in ipairs(names) do
    if one == name then
      local module = load("policies." .. name)
      if is_json then
        return require("moongate.json").encode({ name = name, summary = module.summary,
          description = module.description, schema = without_functions(module.schema),
          statuses = module.statuses,
          sections = module.sections, azure = module.azure, differences = module.differences,
          example = module.example })
      end
      local out = {}
      write_policy(out, name, module)
      return (table.concat(out, "\n"):gsub("\n+$", ""))
    end
  end
  local hit = near.find(name, names)
  return nil, ("there is no policy %q%s"):format(name,
    hit and ("; did you mean %q?"):format(hit) or "")
end

--- What `moongate policy` and `moongate docs` write.
---@param what "list"|"show"|"policies"|"configuration"
---@param name string of the policy to show
---@param names string[] the built-in policies
---@param load fun(name: string): table gives the module "policies.NAME"
---@param is_json boolean
---@return string? text
---@return string? err
function M.document(what, name, names, load, is_json)
  if what == "list" then
    return list(names, load, is_json)
  elseif what == "show" then
    return show(names, load, name, is_json)
  elseif what == "policies" then
    return M.policies(load_all(names, load))
  end
  return M.configuration()
end

return M
