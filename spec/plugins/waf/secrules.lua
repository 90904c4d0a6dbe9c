-- SPDX-License-Identifier: Apache-2.0
--- For specs of SecLang: rules given as text, run on one request.
local engine = require("engine")

local M = {}

M.HEAD = "SecRuleEngine On\nSecRequestBodyAccess On\nSecResponseBodyAccess On\n"

function M.rules_of(text)
  return assert(engine.load({ { name = "spec.conf", text = M.HEAD .. text } }))
end

function M.request(parts)
  local req = { method = "GET", uri = "/", headers = { { "Host", "h" } }, body = "" }
  for k, v in pairs(parts or {}) do
    req[k] = v
  end
  return req
end

--- Runs it; the answer, where one is let through, is HTML that holds a secret.
function M.run(text, parts, opt)
  return engine.run(M.rules_of(text), M.request(parts), function()
    return 200, { { "Content-Type", "text/html" } }, "<p>secret</p>"
  end, opt)
end

function M.form(body)
  return { method = "POST", body = body,
    headers = { { "Host", "h" }, { "Content-Type", "application/x-www-form-urlencoded" } } }
end

function M.json(body)
  return { method = "POST", body = body, headers = { { "Content-Type", "application/json" } } }
end

return M
