-- SPDX-License-Identifier: Apache-2.0
--- Replaces a text in the body.
local expression = require("moongate.expression")
local rewriting = require("moongate.rewriting")

local M = {
  name = "find_and_replace",
  summary = "Replaces a text in the body, wherever it stands.",
  description = "In `inbound` and `backend` the request's body, in `outbound` and `on_error` the "
    .. "response's. The text is taken literally, and replaced while the body passes: at most its own "
    .. "length less a byte is held back. The backend is asked for a body without `Content-Encoding`; "
    .. "one that has it is left as it is, and so is an answer to a range request (206). A changed "
    .. "body's `ETag` becomes weak.",
  sections = { "inbound", "backend", "outbound", "on_error" },
  azure = "find-and-replace",
  differences = "The body is not kept in memory; `from` has a greatest length.",
  example = 'p.find_and_replace { from = "notebook", to = "laptop" }',
}

M.schema = {
  type = "object", required = { "from", "to" }, additionalProperties = false,
  order = { "from", "to" },
  properties = {
    from = { type = { "string", "function" }, minLength = 1, maxLength = 1024,
      description = "What is looked for, at most 1024 bytes: a text, with `${…}`, or a function of "
        .. "`ctx`." },
    to = { type = { "string", "function" },
      description = "What stands there instead: a text, with `${…}`, or a function of `ctx`." },
  },
}

function M.needs(_, listing)
  return { response_text = listing.section ~= "inbound" and listing.section ~= "backend" }
end

function M.prepare(conf)
  return { from = expression.required(conf.from, "from"), to = expression.required(conf.to, "to") }
end

local function act(self, ctx, message, status)
  if not rewriting.is_readable(message, status) then
    return
  end
  local from = tostring(expression.get(self.from, ctx) or "")
  if from ~= "" then
    rewriting.replace(message, { { from, tostring(expression.get(self.to, ctx) or "") } })
  end
end

function M.inbound(self, ctx)
  act(self, ctx, ctx.request)
end

function M.outbound(self, ctx)
  act(self, ctx, ctx.response, ctx.response.status)
end

M.backend, M.on_error = M.inbound, M.outbound

return M
