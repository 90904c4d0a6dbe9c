-- SPDX-License-Identifier: Apache-2.0
--- Shows the backend a client certificate.
local M = {
  name = "authentication_certificate",
  summary = "Shows the backend a client certificate.",
  description = "In place of the one that the backend's `tls` names, where it names any. The "
    .. "backend's connections with this certificate are kept apart from its others; health, "
    .. "breaker and limits are shared. Of several the last counts, whichever backend is chosen "
    .. "then. A backend that speaks plain HTTP is shown nothing.",
  sections = { "inbound", "backend" },
  azure = "authentication-certificate",
  differences = "The certificate is a file that is read at load, not an entry of a store; "
    .. "`ctx.http` shows its backend's own certificate, or what its `tls` says.",
  example = [[p.authentication_certificate {
  certificate = "certs/gateway.pem", key = "certs/gateway.key",
}]],
}

M.schema = {
  type = "object", required = { "certificate", "key" }, additionalProperties = false,
  order = { "certificate", "key" },
  properties = {
    certificate = { type = "string", minLength = 1,
      description = "PEM file with the certificate, intermediates behind it." },
    key = { type = "string", minLength = 1, description = "PEM file with its key." },
  },
}

--- The number of a certificate in the plan, which has each pair once.
local function register(plan, certificate, key)
  local list = plan.client_certificates or {}
  plan.client_certificates = list
  for i, one in ipairs(list) do
    if one.certificate == certificate and one.key == key then
      return i
    end
  end
  list[#list + 1] = { certificate = certificate, key = key }
  return #list
end

function M.prepare(conf, env)
  return { number = register(env.plan, conf.certificate, conf.key) }
end

function M.inbound(self, ctx)
  ctx.client_certificate = self.number
end

M.backend = M.inbound

return M
