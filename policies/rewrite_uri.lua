-- SPDX-License-Identifier: Apache-2.0
--- Changes path and query of the request to the backend.
local M = {
  name = "rewrite_uri",
  summary = "Changes path and query of the request to the backend; the client's URL stays as it is.",
  sections = { "inbound" },
  azure = "rewrite-uri",
  differences = "`replace_prefix` exchanges the beginning of the path instead of all of it. A "
    .. "parameter that the operation's path does not have takes its segment with it, so that one "
    .. "template serves a whole API: `/v2/orders/{id}` is `/v2/orders` where there is no `{id}`.",
  example = 'p.rewrite_uri { template = "/v2/orders/{id}?view=full" }',
}

M.schema = {
  type = "object", additionalProperties = false,
  order = { "template", "replace_prefix", "copy_unmatched_params" },
  properties = {
    template = {
      type = "string", pattern = "^/", expected = 'a path that starts with "/"',
      description = "The new path, and query if it has one; `{name}` stands for a path parameter.",
    },
    replace_prefix = {
      type = "object", required = { "from", "to" }, additionalProperties = false,
      order = { "from", "to" },
      properties = {
        from = { type = "string", pattern = "^/", description = "Beginning of the path." },
        to = { type = "string", pattern = "^/", description = "What stands there instead." },
      },
      description = "Exchanges the beginning of the path, at a segment's end.",
    },
    copy_unmatched_params = {
      type = "boolean", default = true,
      description = "Whether query parameters that the template does not set go along.",
    },
  },
}

--- "a{b}c" as alternating literals and names: { "a", "b", "c" }.
local function split(text)
  local parts, at = {}, 1
  for literal, name, after in text:gmatch("([^{]*){([^{}]*)}()") do
    parts[#parts + 1] = literal
    parts[#parts + 1] = name
    at = after
  end
  parts[#parts + 1] = text:sub(at)
  return parts
end

--- Path parameters that the template names: the load warns of those that no operation has.
function M.path_parameters(conf)
  local names = {}
  for name in (conf.template or ""):gmatch("{([^{}]*)}") do
    names[#names + 1] = name
  end
  return names
end

local function decode(text)
  return (text:gsub("%+", " "):gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

function M.prepare(conf)
  if (conf.template == nil) == (conf.replace_prefix == nil) then
    error("exactly one of template and replace_prefix is needed", 0)
  end
  local self = { drops_query = conf.copy_unmatched_params == false }
  if conf.replace_prefix then
    self.from = conf.replace_prefix.from:gsub("/+$", "")
    self.to = conf.replace_prefix.to:gsub("/+$", "")
    return self
  end
  local path, query = conf.template:match("^([^?]*)%??(.*)$")
  local parts = split(path)
  -- The runtime fills the path in; in plain Lua (specs without it) it is done here.
  local has_runtime, paths = pcall(require, "moongate.path")
  self.template = has_runtime and paths.template(parts, self.drops_query) or nil
  self.path, self.query = parts, {}
  for name, value in query:gmatch("([^=&]+)=?([^&]*)") do
    self.query[#self.query + 1] = { name = decode(name), parts = split(decode(value)) }
  end
  self.native = #self.query == 0 and { inbound = self.template } or nil
  return self
end

local function encode(c)
  return ("%%%02X"):format(c:byte())
end

local function fill(parts, params, is_path)
  if #parts == 1 then
    return parts[1]
  end
  local out, is_short = {}, false
  for i = 1, #parts do
    local part = parts[i]
    if i % 2 == 0 then
      local value = params[part] or ""
      is_short = is_short or value == ""
      part = is_path and value:gsub("[^%w%-._~!$&'()*+,;=:@]", encode) or value
    end
    out[i] = part
  end
  local text = table.concat(out)
  if is_path and is_short then
    text = text:gsub("/+", "/"):gsub("(.)/$", "%1")
  end
  return text
end

function M.inbound(self, ctx)
  local request = ctx.request
  if self.from then
    local path, from = request.path, self.from
    local after = path:sub(#from + 1, #from + 1)
    if path:sub(1, #from) == from and (after == "" or after == "/") then
      path = self.to .. path:sub(#from + 1)
      request.path = path == "" and "/" or path
    end
    if self.drops_query then
      request.query_string = ""
    end
    return
  end
  if self.template then
    self.template:apply(request)
  else
    request.path = fill(self.path, request.params, true)
  end
  if self.drops_query then
    request.query_string = ""
  end
  for i = 1, #self.query do
    local item = self.query[i]
    request.query[item.name] = fill(item.parts, request.params, false)
  end
end

return M
