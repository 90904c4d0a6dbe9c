-- SPDX-License-Identifier: Apache-2.0
--- Signs in at the backend with a name and a password.
local crypto = require("moongate.crypto")

local M = {
  name = "authentication_basic",
  summary = "Signs in at the backend with a name and a password (RFC 7617).",
  description = "The backend gets `Authorization: Basic …`; what the caller sent there is gone.",
  sections = { "inbound", "backend" },
  azure = "authentication-basic",
  differences = "The password may come from the environment or a file, and is shown nowhere.",
  example = 'p.authentication_basic { username = "gateway", password = { env = "ORDERS_PASS" } }',
}

M.schema = {
  type = "object", required = { "username", "password" }, additionalProperties = false,
  order = { "username", "password" },
  properties = {
    username = { type = "string", minLength = 1, secret = true,
      description = "The name; it has no colon." },
    password = { type = "string", secret = true, description = "The password." },
  },
}

function M.prepare(conf)
  if conf.username:find(":", 1, true) then
    error("username: a name has no colon", 0)
  elseif conf.username:find("%c") or conf.password:find("%c") then
    error("username and password have no control characters", 0)
  end
  return { value = "Basic " .. crypto.base64(conf.username .. ":" .. conf.password) }
end

function M.inbound(self, ctx)
  ctx.request.headers.Authorization = self.value
end

M.backend = M.inbound

return M
