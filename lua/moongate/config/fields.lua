-- SPDX-License-Identifier: Apache-2.0
--- Short words to write schemas with. Every field carries its description: the reference is made
--- from it. Durations are in seconds and sizes in bytes, as the reader writes them.

local header_fields = require("moongate.header_fields")

local M = {}

local function with(def, more)
  for key, value in pairs(more or {}) do
    def[key] = value
  end
  return def
end

function M.str(description, more)
  return with({ type = "string", minLength = 1, description = description }, more)
end

function M.method(description)
  return M.str(description, { pattern = "^[%u*][%u-]*$", expected = "a method in capitals, or \"*\"" })
end

function M.bool(description, default)
  return { type = "boolean", description = description, default = default }
end

local INT_MAX = 2147483647 -- what the runtime counts with; past it a limit would be another one

function M.int(description, minimum, more)
  return with({ type = "integer", minimum = minimum or 0, ceiling = INT_MAX, description = description },
    more)
end

function M.seconds(description, more)
  return with({
    type = "number", minimum = 0, maximum = 31622400, unit = "s", description = description,
  }, more)
end

function M.bytes(description, more)
  return with({ type = "integer", minimum = 0, unit = "bytes", description = description }, more)
end

function M.enum(description, values, default)
  return { enum = values, description = description, default = default }
end

--- What a head may be allowed to have at most: longer ones fit in no buffer behind the parser.
M.MOST_HEAD_BYTES = 524288

M.COMPRESSED_TYPES = { "text/*", "application/json", "application/*+json", "application/javascript",
  "application/xml", "application/*+xml", "application/graphql-response+json", "image/svg+xml" }

function M.list(description, items, more)
  return with({ type = "array", items = items, description = description }, more)
end

--- A secret: the text itself, or where to take it from. Never shown.
function M.secret(description, more)
  return with({ type = "string", minLength = 1, secret = true, description = description }, more)
end

--- A table with known fields, given as a list of { name, schema } so that the reference keeps the
--- order. A third element `true` makes the field required.
function M.record(description, fields, more)
  local properties, order, required = {}, {}, {}
  for i, field in ipairs(fields) do
    properties[field[1]] = field[2]
    order[i] = field[1]
    if field[3] then
      required[#required + 1] = field[1]
    end
  end
  return with({
    type = "object",
    properties = properties,
    order = order,
    required = required,
    additionalProperties = false,
    description = description,
  }, more)
end

--- A table from names that the user chooses to values of one kind.
function M.map(description, value, more)
  return with({
    type = "object",
    additionalProperties = value,
    propertyNames = "^[%w_][%w_.-]*$",
    nameExpected = "a name of letters, digits, '_', '.', '-'",
    description = description,
  }, more)
end

--- The value of a header field.
function M.field_value(description)
  return { type = "string", description = description, check = header_fields.is_value,
    expected = "a text without line ends and control characters" }
end

--- A check: header fields that an answer may be given.
function M.are_not_of_connection(headers)
  for name in pairs(headers) do
    if header_fields.of_connection[name:lower()] then
      return false, ("fields other than %s, which are the connection's own"):format(name)
    end
  end
  return true
end

--- Four lists of policies.
function M.policies(description)
  local function section(name, when)
    local item = { type = "policy", expected = "a policy (p.name { ... }), base, or a function" }
    return { name, M.list(when, item) }
  end
  return M.record(description, {
    section("inbound", "Before the backend is called."),
    section("backend", "Around the call of the backend."),
    section("outbound", "On the response, before it goes to the client."),
    section("on_error", "When a policy refused or failed, or no backend could answer."),
  }, { is_policies = true,
    expected = "a table of lists by section: inbound, backend, outbound, on_error" })
end

--- Compression of responses; the innermost scope that says something counts, as a whole.
function M.compression()
  return { oneOf = {
    M.bool("Whether responses are compressed; `true`: with the defaults below."),
    M.record("Compression of responses.", {
      { "codings", M.list("Codings, by what the client prefers, then in this order.",
        M.enum("A coding.", { "br", "gzip" }), { minItems = 1, default = { "br", "gzip" } }) },
      { "gzip_level", M.int("Effort of gzip.", 1, { maximum = 9, default = 5 }) },
      { "brotli_quality", M.int("Effort of Brotli.", 0, { maximum = 11, default = 4 }) },
      { "min_bytes", M.bytes("Shorter bodies go as they are.", { default = 1024 }) },
      { "types", M.list("Media types; one `*` in each stands for anything.", M.str("A media type."),
        { default = M.COMPRESSED_TYPES }) },
    }),
  }, description = "Compression of responses for clients that take it; off where nothing is said. "
    .. "Never of what is encoded already, of event streams, or against `no-transform`." }
end

--- Limits that a narrower scope may override.
function M.scoped_limits(description)
  return M.record(description, {
    { "body_bytes", M.bytes("Longest request body; beyond it 413. 0: no limit.") },
    { "body_timeout", M.seconds("Longest silence while a request body is read; then 408.") },
    { "send_timeout", M.seconds("Longest silence of a client that does not read its response.") },
    { "send_rate", M.bytes("Bytes a second that a client reads at least of an answer that waits for "
      .. "it; 0: no limit.", { unit = "bytes/s", maximum = 1073741824 }) },
    { "idle_timeout", M.seconds("How long a kept-alive client connection may be silent.") },
    { "policy_cpu", M.seconds("CPU time that the policies of one request may use; then 503.") },
    { "policy_memory_bytes", M.bytes("Memory that policies may hold; then 503.") },
    { "policy_body_bytes", M.bytes("Longest body kept for a policy that reads it; then 413.") },
  })
end

return M
