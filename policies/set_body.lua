-- SPDX-License-Identifier: Apache-2.0
--- Replaces the body of the request or the response.
local expression = require("moongate.expression")
local template = require("moongate.template")

local get, type = expression.get, type

local M = {
  name = "set_body",
  summary = "Replaces the body of the request or the response.",
  description = "In `inbound` and `backend` the request's, in `outbound` and `on_error` the "
    .. "response's. `Content-Length` is set, `Content-Encoding` removed.",
  sections = { "inbound", "backend", "outbound", "on_error" },
  azure = "set-body",
  differences = "Lua in templates instead of Liquid; or a text with `${…}`, a function of `ctx`, "
    .. "or a table sent as JSON. A "
    .. "function that reads the old body with `ctx.request:body()` does not consume it.",
  example = 'p.set_body { json = { ok = true } }',
}

M.schema = {
  type = "object", additionalProperties = false,
  order = { "value", "json", "template", "content_type", "needs_body" },
  properties = {
    value = {
      type = { "string", "function" },
      description = "The body: a text, with `${…}` where it depends on the request, or a function "
        .. "of `ctx`; a table that it gives is sent as JSON.",
    },
    json = { type = { "object", "array" }, description = "A table to send as JSON." },
    template = {
      type = "string",
      description = "A template: `{{ ctx.request.query.name }}` writes a value, escaped for "
        .. "`content_type` (JSON, XML and HTML, forms, CSV); `| raw`, `json`, `url`, `html`, "
        .. "`upper`, `lower`, `trim`, `length`, `base64` filter it. `{% if … %}`, `{% elsif … "
        .. "%}`, `{% else %}`, `{% for x in … %}`, `{% end %}`, `{# … #}`.",
    },
    content_type = { type = "string", description = "Media type; for JSON it is known." },
    needs_body = {
      type = "boolean", default = false,
      description = "The function reads the old body, which is then kept in memory instead of "
        .. "streaming.",
    },
  },
}

-- Here `{{ … }}` that is no named value is the template's own.
M.templates = { template = true }

function M.needs(conf, listing)
  local is_request = listing.section == "inbound" or listing.section == "backend"
  local keeps = conf.needs_body or false
  return { request_body = keeps, response_body = keeps and not is_request }
end

local function encode(value)
  return assert(require("moongate.json").encode(value))
end

function M.prepare(conf)
  local given = 0
  for _, name in ipairs({ "value", "json", "template" }) do
    given = given + (conf[name] ~= nil and 1 or 0)
  end
  if given ~= 1 then
    error("exactly one of value, json and template is needed", 0)
  end
  if conf.template then
    local render, err = template.compile(conf.template, conf.content_type)
    if not render then
      error("template: " .. err, 0)
    end
    return { value = render, content_type = conf.content_type }
  end
  if conf.json then
    return { value = encode(conf.json), content_type = conf.content_type or "application/json" }
  end
  return { value = expression.required(conf.value, "value"), content_type = conf.content_type }
end

local function replace(self, ctx, message)
  local body, media = get(self.value, ctx), self.content_type
  if type(body) == "table" then
    body, media = encode(body), media or "application/json"
  end
  message:set_body(body or "")
  message.headers["Content-Encoding"] = nil
  if media then
    message.headers["Content-Type"] = media
  end
end

function M.inbound(self, ctx)
  replace(self, ctx, ctx.request)
end

M.backend = M.inbound

function M.outbound(self, ctx)
  replace(self, ctx, ctx.response)
end

M.on_error = M.outbound

return M
