-- SPDX-License-Identifier: Apache-2.0
--- Replaces the body of the request or the response.
local expression = require("moongate.expression")

local get, type = expression.get, type

local M = {
  name = "set_body",
  summary = "Replaces the body of the request or the response.",
  description = "In `inbound` and `backend` the request's, in `outbound` and `on_error` the "
    .. "response's. `Content-Length` is set, `Content-Encoding` removed.",
  sections = { "inbound", "backend", "outbound", "on_error" },
  azure = "set-body",
  differences = "No Liquid: a text with `${…}`, a function of `ctx`, or a table sent as JSON. A "
    .. "function that reads the old body with `ctx.request:body()` does not consume it.",
  example = 'p.set_body { json = { ok = true } }',
}

M.schema = {
  type = "object", additionalProperties = false, order = { "value", "json", "content_type", "needs" },
  properties = {
    value = {
      type = { "string", "function" },
      description = "The body: a text, with `${…}` where it depends on the request, or a function "
        .. "of `ctx`; a table that it gives is sent as JSON.",
    },
    json = { type = { "object", "array" }, description = "A table to send as JSON." },
    content_type = { type = "string", description = "Media type; for JSON it is known." },
    needs_body = {
      type = "boolean", default = false,
      description = "The function reads the old body, which is then kept in memory instead of "
        .. "streaming.",
    },
  },
}
M.schema.order[4] = "needs_body"

function M.needs(conf)
  local keeps = conf.needs_body or false
  return { request_body = keeps, response_body = keeps }
end

local function encode(value)
  return assert(require("moongate.json").encode(value))
end

function M.prepare(conf)
  if (conf.value == nil) == (conf.json == nil) then
    error("exactly one of value and json is needed", 0)
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
