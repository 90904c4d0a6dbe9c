-- SPDX-License-Identifier: Apache-2.0
--- Writes an API file from an OpenAPI definition.

local M = {}

local KEYWORDS = {}
for word in ("and break do else elseif end false for function goto if in local nil not or repeat "
  .. "return then true until while"):gmatch("%a+") do
  KEYWORDS[word] = true
end

local function key(name)
  return name:find("^[%a_][%w_]*$") and not KEYWORDS[name] and name or ("[%q]"):format(name)
end

local function quote(text)
  return (("%q"):format(text):gsub("\\\n", "\\n"):gsub("\r", "\\r"):gsub("%z", "\\0"))
end

--- One line out of what may be many.
local function line_of(text, most)
  text = text:gsub("[%z%c%s]+", " "):gsub("^ ", ""):gsub(" $", "")
  if #text > most then
    text = text:sub(1, most):gsub(" [^ ]*$", "") .. " …"
  end
  return text
end

--- "Swagger Petstore - v1" -> "swagger-petstore-v1"
function M.name_of(title)
  local name = title:lower():gsub("[^%w]+", "-"):gsub("^%-+", ""):gsub("%-+$", ""):sub(1, 60)
  return name ~= "" and name:gsub("%-+$", "") or "api"
end

local function add_operations(out, definition)
  out[#out + 1] = "  operations = {"
  local width = 0
  for _, one in ipairs(definition.operations) do
    width = math.max(width, #key(one.name))
  end
  width = math.min(width, 32)
  for _, one in ipairs(definition.operations) do
    local name = key(one.name)
    local text = ("    %s%s = { method = %s, path = %s"):format(name, (" "):rep(width - #name),
      quote(one.method), quote(one.path))
    if one.title then
      text = text .. ", title = " .. quote(line_of(one.title, 80))
    end
    out[#out + 1] = text .. " }," .. (one.deprecated and " -- deprecated" or "")
  end
  out[#out + 1] = "  },"
end

local function scheme_text(name, scheme)
  if scheme.type == "apiKey" then
    return ("%s: an API key in %s %s"):format(name, tostring(scheme["in"]), tostring(scheme.name))
  elseif scheme.type == "http" then
    return ("%s: %s"):format(name, tostring(scheme.scheme))
  end
  return ("%s: %s"):format(name, tostring(scheme.type))
end

--- What the definition says of authentication: told, as the keys to check with are not in it.
local function schemes_of(root)
  local out = {}
  local components = type(root.components) == "table" and root.components or {}
  local schemes = components.securitySchemes or root.securityDefinitions
  for name, scheme in pairs(type(schemes) == "table" and schemes or {}) do
    if type(scheme) == "table" then
      out[#out + 1] = line_of(scheme_text(tostring(name), scheme), 100)
    end
  end
  table.sort(out)
  return out
end

--- The file.
---@param definition moongate.Definition
---@param name string of API and backend
---@param path string of the definition, relative to the configuration
---@return string
function M.write(definition, name, path)
  local out = { "-- " .. line_of(("%s %s"):format(definition.title or name,
    definition.info_version or ""), 90) .. ".",
    "-- Requests are checked against " .. path .. "; `p.mock_response {}` answers with its examples.",
  }
  if definition.servers[1] then
    out[#out + 1] = "-- Backend, for gateway.lua: " .. name .. " = { targets = { "
      .. quote((definition.servers[1]:match("^%a[%w+.-]*://[^/]*") or "http://127.0.0.1:8081"))
      .. " } }"
  end
  local schemes = schemes_of(definition.root)
  if #schemes > 0 then
    out[#out + 1] = "-- Callers authenticate by " .. table.concat(schemes, "; ")
      .. ": see p.validate_jwt, `subscription`."
  end
  out[#out + 1] = "return {"
  out[#out + 1] = "  name = " .. quote(name) .. ","
  if definition.title then
    out[#out + 1] = "  title = " .. quote(line_of(definition.title, 80)) .. ","
  end
  if definition.info_version then
    out[#out + 1] = "  version = " .. quote(line_of(definition.info_version, 40)) .. ","
  end
  local base = definition.base_path ~= "" and definition.base_path or "/"
  if base:sub(1, 1) ~= "/" then
    base = "/" .. base
  end
  out[#out + 1] = ("  paths = { %s },"):format(quote((base:gsub("[*{}?#]", ""))))
  out[#out + 1] = "  backend = " .. quote(name) .. ","
  out[#out + 1] = "  openapi = " .. quote(path) .. ","
  out[#out + 1] = '  validation = { request = "prevent", response = "detect" },'
  add_operations(out, definition)
  out[#out + 1] = "}"
  return table.concat(out, "\n") .. "\n"
end

return M
