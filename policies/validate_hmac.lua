-- SPDX-License-Identifier: Apache-2.0
--- Lets in requests that are signed with a shared secret.
local crypto = require("moongate.crypto")
local jwt = require("moongate.jwt")
local reply = require("moongate.reply")

local M = {
  name = "validate_hmac",
  summary = "Lets in requests that are signed with a shared secret.",
  description = "The signature is an HMAC over parts of the request, joined by `separator`. "
    .. "Signatures are compared in constant time; any of the keys may fit, so that keys can be "
    .. "changed. With a timestamp among the parts, an old signature is refused. Presets know "
    .. "how GitHub, Slack and Stripe sign what they send.",
  sections = { "inbound" },
  azure = "none: there it is a policy expression",
  differences = "A policy of its own.",
  statuses = { ["401"] = "`SignatureNotPresent`, `SignatureInvalid`, `SignatureExpired`; `status` "
    .. "changes it" },
  example = 'p.validate_hmac { preset = "github", keys = { { secret = { env = "HOOK_KEY" } } } }',
}

local PRESETS = {
  github = { header = "X-Hub-Signature-256", prefix = "sha256=", parts = { "body" } },
  slack = { header = "X-Slack-Signature", prefix = "v0=", separator = ":", max_age = 300,
    timestamp_header = "X-Slack-Request-Timestamp", parts = { "=v0", "timestamp", "body" } },
  stripe = { header = "Stripe-Signature", separator = ".", max_age = 300, list = true,
    parts = { "timestamp", "body" } },
}

M.schema = {
  type = "object", required = { "keys" }, additionalProperties = false,
  order = { "preset", "keys", "header", "prefix", "key_id_header", "algorithm", "encoding", "parts",
    "separator", "timestamp_header", "max_age", "status" },
  properties = {
    preset = { enum = { "github", "slack", "stripe" }, description = "How a known sender signs." },
    keys = {
      type = "array", minItems = 1, maxItems = 16, description = "Secrets, any of which may fit.",
      items = {
        type = "object", additionalProperties = false, required = { "secret" },
        order = { "id", "secret" }, description = "A key.",
        properties = {
          id = { type = "string", minLength = 1, description = "Its name in `key_id_header`." },
          secret = { type = "string", minLength = 16, secret = true, description = "The secret." },
        },
      },
    },
    header = { type = "string", minLength = 1, description = "Field that holds the signature; "
      .. "`X-Signature` where no preset says otherwise." },
    prefix = { type = "string", description = "Text before the signature in the field." },
    key_id_header = { type = "string", minLength = 1,
      description = "Field that names the key; to be signed it must be among the parts." },
    algorithm = { enum = { "sha256", "sha384", "sha512" }, default = "sha256",
      description = "Digest of the HMAC." },
    encoding = { enum = { "hex", "base64", "base64url" }, default = "hex",
      description = "How the signature is written." },
    parts = {
      type = "array", minItems = 1, maxItems = 32,
      description = "What is signed, in order: `method`, `path`, `query`, `host`, `timestamp`, "
        .. "`header:NAME` (empty where it is absent), `=TEXT` for a fixed text, `body` last.",
      items = { type = "string", minLength = 1, description = "A part." },
    },
    separator = { type = "string", description = "Text between the parts; a newline by default." },
    timestamp_header = { type = "string", minLength = 1,
      description = "Field with the time of the signature, in seconds since 1970." },
    max_age = { type = "number", exclusiveMinimum = 0,
      description = "Seconds that the timestamp may be away from now; 300 by default." },
    status = { type = "integer", minimum = 400, maximum = 599, default = 401,
      description = "Status of a refusal." },
  },
}

local READERS = {
  method = function(ctx) return ctx.request.method end,
  path = function(ctx) return ctx.request.path end,
  query = function(ctx) return ctx.request.query_string end,
  host = function(ctx) return ctx.request.host end,
  body = function(ctx) return ctx.request:body() end,
}

local function reader_of(part)
  local name = part:match("^header:(.+)$")
  if name then
    return function(ctx) return ctx.request.headers[name] end
  end
  local fixed = part:match("^=(.*)$")
  if fixed then
    return function() return fixed end
  end
  return READERS[part] or error(("parts: %q is none of those that can be signed"):format(part), 0)
end

local DEFAULT_PARTS = { "method", "path", "query", "timestamp", "body" }

local function parts_of(conf)
  local preset = PRESETS[conf.preset] or {}
  if conf.parts or preset.parts then
    return conf.parts or preset.parts, preset
  end
  if conf.timestamp_header then
    return DEFAULT_PARTS, preset
  end
  return { "method", "path", "query", "body" }, preset
end

function M.needs(conf)
  for _, part in ipairs((parts_of(conf))) do
    if part == "body" then
      return { request_body = true }
    end
  end
  return {}
end

function M.prepare(conf)
  local parts, preset = parts_of(conf)
  local self = {
    header = conf.header or preset.header or "X-Signature", list = preset.list,
    prefix = conf.prefix or preset.prefix or "", algorithm = conf.algorithm or "sha256",
    separator = conf.separator or preset.separator or "\n", status = conf.status or 401,
    timestamp_header = conf.timestamp_header or preset.timestamp_header,
    max_age = conf.max_age or preset.max_age or 300, key_id_header = conf.key_id_header,
    keys = conf.keys, readers = {}, decode = crypto["from_" .. (conf.encoding or "hex")],
  }
  for i, part in ipairs(parts) do
    if part == "body" and i < #parts then
      error("parts: body must be the last one, as it may hold the separator", 0)
    elseif part == "timestamp" then
      if not self.timestamp_header and not self.list then
        error("timestamp is signed, so timestamp_header is needed", 0)
      end
      self.readers[i] = false
    else
      self.readers[i] = reader_of(part)
    end
  end
  return self
end

--- The signatures and the timestamp that the request brings.
local function read_signatures(self, ctx)
  local field = ctx.request.headers[self.header]
  if not field or field == "" then
    return nil
  end
  if self.list then -- t=1492774577,v1=5257a8…,v1=…
    local found = {}
    for value in field:gmatch("v1=(%x+)") do
      found[#found + 1] = #found < 8 and value or nil
    end
    return found, field:match("t=(%d+)")
  end
  if field:sub(1, #self.prefix) ~= self.prefix then
    return nil
  end
  local timestamp = self.timestamp_header and ctx.request.headers[self.timestamp_header]
  return { field:sub(#self.prefix + 1) }, timestamp
end

--- Whether the time that was signed is near enough. True where no time is signed.
local function is_fresh(self, timestamp)
  if not self.timestamp_header and not self.list then
    return true
  end
  local at = timestamp and #timestamp <= 15 and timestamp:find("^%d+$") and tonumber(timestamp)
  return at ~= nil and at ~= false and math.abs(jwt.now() - at) <= self.max_age
end

local function signed_text(self, ctx, timestamp)
  local pieces = {}
  for i = 1, #self.readers do
    local reader = self.readers[i]
    pieces[i] = (reader and reader(ctx) or not reader and timestamp) or ""
  end
  return table.concat(pieces, self.separator)
end

local function is_signed(self, ctx, signatures, text)
  local id = self.key_id_header and ctx.request.headers[self.key_id_header]
  for _, key in ipairs(self.keys) do
    if not self.key_id_header or key.id == id then
      local wanted = crypto.hmac(self.algorithm, key.secret, text)
      for _, signature in ipairs(signatures) do
        local given = self.decode(signature)
        if given and crypto.equal(given, wanted) then
          return true
        end
      end
    end
  end
  return false
end

function M.inbound(self, ctx)
  local signatures, timestamp = read_signatures(self, ctx)
  if not signatures or #signatures == 0 then
    return reply.refuse(self.status, "SignatureNotPresent", "a signature is required")
  end
  if not is_fresh(self, timestamp) then
    return reply.refuse(self.status, "SignatureExpired", "the signature's time is not near enough")
  end
  if not is_signed(self, ctx, signatures, signed_text(self, ctx, timestamp)) then
    return reply.refuse(self.status, "SignatureInvalid", "the signature does not fit")
  end
end

return M
