-- SPDX-License-Identifier: Apache-2.0
--- Lets in who brings a certificate that is trusted and listed.
local clock = require("moongate.clock")
local reply = require("moongate.reply")

local M = {
  name = "validate_client_certificate",
  summary = "Lets in who brings a certificate that is trusted and listed.",
  description = "The listener asks for the certificate and verifies its chain, its revocation list "
    .. "and its purpose (`tls.client`); here a route requires one, and says whose. Of `identities` "
    .. "one must fit, and of that one every field.",
  sections = { "inbound" },
  azure = "validate-client-certificate",
  differences = "Thumbprints are SHA-256. Status 403. Revocation: the listener's `crl`.",
  statuses = { ["403"] = "`ClientCertificateNotPresent`, `ClientCertificateNotTrusted`, "
    .. "`ClientCertificateExpired`, `ClientCertificateIdentityNotAllowed`; `status` changes it" },
  example = [[p.validate_client_certificate {
  identities = { { common_name = "orders-client", issuer = "CN=Contoso CA,O=Contoso" } },
}]],
}

local function text(description)
  return { type = "string", minLength = 1, description = description }
end

M.schema = {
  type = "object", additionalProperties = false,
  order = { "validate_trust", "validate_not_before", "validate_not_after", "identities", "status" },
  properties = {
    validate_trust = { type = "boolean", default = true,
      description = "Whether the chain must lead to the listener's authorities." },
    validate_not_before = { type = "boolean", default = true,
      description = "Whether the certificate must be valid already." },
    validate_not_after = { type = "boolean", default = true,
      description = "Whether it must be valid still." },
    identities = {
      type = "array", minItems = 1, description = "Whose certificates are let in.",
      items = {
        type = "object", additionalProperties = false, description = "One of them.",
        order = { "thumbprint", "serial_number", "common_name", "subject", "dns_name", "issuer" },
        properties = {
          thumbprint = text("SHA-256 of the certificate in hexadecimal; colons may stand in it."),
          serial_number = text("Serial number in hexadecimal."),
          common_name = text("Common name (CN) of the subject."),
          subject = text("The subject, as RFC 2253 writes it."),
          dns_name = text("A DNS name of the certificate."),
          issuer = text("The issuer, as RFC 2253 writes it."),
        },
      },
    },
    status = { type = "integer", minimum = 400, maximum = 599, default = 403,
      description = "Status of a refusal." },
  },
}

--- Hexadecimal as it is compared: lower case, no colons, no leading zeros.
local function hex(value)
  return value and (value:lower():gsub("[: ]", ""):gsub("^0+(.)", "%1")) or nil
end

function M.prepare(conf)
  local self = {
    trust = conf.validate_trust ~= false, not_before = conf.validate_not_before ~= false,
    not_after = conf.validate_not_after ~= false, status = conf.status or 403,
  }
  if conf.identities then
    self.identities = {}
    for i, given in ipairs(conf.identities) do
      if not next(given) then
        error(("identities[%d]: at least one field is needed"):format(i), 0)
      end
      self.identities[i] = {
        thumbprint = hex(given.thumbprint), serial = hex(given.serial_number),
        common_name = given.common_name, subject = given.subject, issuer = given.issuer,
        dns_name = given.dns_name and given.dns_name:lower(),
      }
    end
  end
  return self
end

local function has_name(names, wanted)
  for name in (names or ""):lower():gmatch("[^,%s]+") do
    if name == wanted then
      return true
    end
  end
  return false
end

local function fits(identity, certificate)
  return (not identity.thumbprint or identity.thumbprint == hex(certificate.fingerprint))
    and (not identity.serial or identity.serial == hex(certificate.serial))
    and (not identity.common_name or identity.common_name == certificate.common_name)
    and (not identity.subject or identity.subject == certificate.subject)
    and (not identity.issuer or identity.issuer == certificate.issuer)
    and (not identity.dns_name or has_name(certificate.dns_names, identity.dns_name))
end

local function is_listed(self, certificate)
  if not self.identities then
    return true
  end
  for i = 1, #self.identities do
    if fits(self.identities[i], certificate) then
      return true
    end
  end
  return false
end

--- Whether the certificate is valid now. Times are texts of ISO 8601, compared to the second.
local function is_current(self, certificate)
  local now = os.date("!%Y-%m-%dT%H:%M:%S", math.floor(clock.now()))
  local from, till = certificate.not_before or "", certificate.not_after or ""
  return (not self.not_before or from ~= "" and from:sub(1, 19) <= now)
    and (not self.not_after or till:sub(1, 19) >= now)
end

function M.inbound(self, ctx)
  local tls = ctx.request.tls
  local certificate = tls and tls.client
  if not certificate then
    return reply.refuse(self.status, "ClientCertificateNotPresent", "a certificate is required")
  end
  if self.trust and not certificate.verified then
    return reply.refuse(self.status, "ClientCertificateNotTrusted",
      "the certificate is not trusted")
  end
  if not is_current(self, certificate) then
    return reply.refuse(self.status, "ClientCertificateExpired",
      "the certificate is not valid now")
  end
  if not is_listed(self, certificate) then
    return reply.refuse(self.status, "ClientCertificateIdentityNotAllowed",
      "the certificate is not one of those allowed")
  end
end

return M
