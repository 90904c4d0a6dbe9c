-- SPDX-License-Identifier: Apache-2.0
--- Transforms an XML body by a stylesheet.
local expression = require("moongate.expression")
local reply = require("moongate.reply")
local xml = require("moongate.xml")

local M = {
  name = "xslt",
  summary = "Transforms an XML body by an XSLT 1.0 stylesheet.",
  description = "The stylesheet is compiled when it is loaded. It reads and writes nothing outside: no "
    .. "files, no network, no documents but the body; depth, steps and size are bounded. Documents "
    .. "with a DTD are refused. In `inbound` the request's body, in `outbound` the response's; it is "
    .. "kept in memory.",
  sections = { "inbound", "outbound", "on_error" },
  azure = "xsl-transform",
  differences = "The stylesheet may be a file; parameters are texts, never expressions of XPath.",
  statuses = { ["400"] = "`XslTransformFailed`, inbound", ["502"] = "`XslTransformFailed`, outbound" },
  example = 'p.xslt { file = "orders.xsl", parameters = { user = "${ctx.user and ctx.user.id}" } }',
}

M.schema = {
  type = "object", additionalProperties = false,
  order = { "stylesheet", "file", "parameters", "content_type" },
  properties = {
    stylesheet = { type = "string", minLength = 1, description = "The stylesheet itself." },
    file = { type = "string", minLength = 1,
      description = "Or its file, below the configuration directory." },
    parameters = { type = "object",
      additionalProperties = { type = { "string", "function" },
        description = "A text, with `${…}`, or a function of `ctx`." },
      description = "Parameters of the stylesheet." },
    content_type = { type = "string", minLength = 1,
      description = "Media type of the result. Default: what the stylesheet's output says." },
  },
}

function M.needs(_, listing)
  return { request_body = listing.section == "inbound",
    response_body = listing.section ~= "inbound" }
end

function M.prepare(conf, env)
  if (conf.stylesheet == nil) == (conf.file == nil) then
    error("exactly one of stylesheet and file is needed", 0)
  end
  local text, err = conf.stylesheet
  if conf.file then
    text, err = env.source.read(conf.file)
    if not text then
      error(("file %s cannot be read: %s"):format(conf.file, err or "not found"), 0)
    end
  end
  local sheet
  sheet, err = xml.stylesheet(text)
  if not sheet then
    error("stylesheet: " .. err, 0)
  end
  local names, values = {}, {}
  for name, value in pairs(conf.parameters or {}) do
    names[#names + 1] = name
    values[#names] = expression.required(value, "parameters." .. name)
  end
  return { sheet = sheet, names = names, values = values, content_type = conf.content_type }
end

local function act(self, ctx, message, status)
  local parameters = {}
  for i = 1, #self.names do
    local value = expression.get(self.values[i], ctx)
    parameters[self.names[i]] = value == nil and "" or tostring(value)
  end
  local text, media = self.sheet:transform(message:body(), parameters)
  if not text then
    ctx.log:warning("xslt: " .. media)
    return reply.refuse(status, "XslTransformFailed", "the body cannot be transformed")
  end
  message:set_body(text)
  message.headers["Content-Type"] = self.content_type or media
  message.headers["ETag"] = nil
end

function M.inbound(self, ctx)
  return act(self, ctx, ctx.request, 400)
end

function M.outbound(self, ctx)
  return act(self, ctx, ctx.response, 502)
end

M.on_error = M.outbound

return M
