-- SPDX-License-Identifier: Apache-2.0
--- Replaces a text in the body.
local expression = require("moongate.expression")

local M = {
  name = "find_and_replace",
  summary = "Replaces a text in the body, wherever it stands.",
  description = "In `inbound` and `backend` the request's body, in `outbound` and `on_error` the "
    .. "response's. The text is taken literally. The body is kept in memory, up to the route's "
    .. "`buffered_body_bytes`; a body with a `Content-Encoding` is left as it is.",
  sections = { "inbound", "backend", "outbound", "on_error" },
  azure = "find-and-replace",
  example = 'p.find_and_replace { from = "notebook", to = "laptop" }',
}

M.schema = {
  type = "object", required = { "from", "to" }, additionalProperties = false,
  order = { "from", "to" },
  properties = {
    from = { type = { "string", "function" }, minLength = 1,
      description = "What is looked for: a text, with `${…}`, or a function of `ctx`." },
    to = { type = { "string", "function" },
      description = "What stands there instead: a text, with `${…}`, or a function of `ctx`." },
  },
}

function M.needs(_, listing)
  local is_request = listing.section == "inbound" or listing.section == "backend"
  return { request_body = is_request, response_body = not is_request }
end

function M.prepare(conf)
  return { from = expression.required(conf.from, "from"), to = expression.required(conf.to, "to") }
end

--- Literal replacement.
local function replace(body, from, to)
  local at = body:find(from, 1, true)
  if not at then
    return nil
  end
  local out, n, last = {}, 0, 1
  while at do
    out[n + 1], out[n + 2] = body:sub(last, at - 1), to
    n, last = n + 2, at + #from
    at = body:find(from, last, true)
  end
  out[n + 1] = body:sub(last)
  return table.concat(out)
end

local function act(self, ctx, message)
  local coding = message.headers["Content-Encoding"]
  if coding and coding:lower() ~= "identity" then
    return
  end
  local from = tostring(expression.get(self.from, ctx) or "")
  if from == "" then
    return
  end
  local body = replace(message:body(), from, tostring(expression.get(self.to, ctx) or ""))
  if body then
    message:set_body(body)
    message.headers["ETag"], message.headers["Content-MD5"] = nil, nil
    message.headers["Digest"], message.headers["Content-Digest"] = nil, nil
  end
end

function M.inbound(self, ctx)
  act(self, ctx, ctx.request)
end

function M.outbound(self, ctx)
  act(self, ctx, ctx.response)
end

M.backend, M.on_error = M.inbound, M.outbound

return M
