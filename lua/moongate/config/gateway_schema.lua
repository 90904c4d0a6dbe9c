-- SPDX-License-Identifier: Apache-2.0
--- What `gateway.lua` may hold.

local f = require("moongate.config.fields")
local backend = require("moongate.config.backend_schema")

local cidr = f.str("A network: `10.0.0.0/8`, `::1/128`, or one address.")

local tls = f.record("TLS of the listener.", {
  { "certificates", f.list("Certificates; chosen by the name that the client asks for.",
    f.record("A certificate.", {
      { "certificate", f.str("PEM file with the certificate and its chain.") },
      { "key", f.str("PEM file with its key.") },
      { "development", f.bool("Instead of both: a self-signed certificate, made on the first start "
        .. "and kept in `$XDG_STATE_HOME/moongate` (`~/.local/state/moongate`).", false) },
      { "ocsp", f.str("File with an OCSP response to staple (DER).") },
    }), { minItems = 1 }), true },
  { "preset", f.enum("Versions and ciphers: modern (1.3), intermediate (1.2 and 1.3).",
    { "modern", "intermediate" }, "intermediate") },
  { "session_tickets", f.bool("Whether sessions may be resumed by tickets.", true) },
  { "hsts", f.int("`max-age` of Strict-Transport-Security in seconds, for answers that have none "
    .. "of their own; 0: not sent.", 0, { default = 31536000 }) },
  { "warn_before", f.int("Days before a certificate expires from which on the log warns, once a "
    .. "day.", 0, { default = 14 }) },
  { "client", f.record("Certificates of clients (mTLS).", {
    { "ca", f.str("File with the authorities whose certificates are accepted."), true },
    { "crl", f.str("File with their revocation list.") },
    { "mode", f.enum("Whether a client may come without one.", { "optional", "required" },
      "required") },
    { "depth", f.int("Longest chain.", 1, { default = 4 }) },
  }) },
})

local address = f.str("`IP:port`, `[IPv6]:port`, `:port` (all addresses, of both families), or "
  .. "`unix:/path`.")

local function listener(description)
  return f.record(description, {
    { "name", f.str("Name in logs and metrics.") },
    { "address", address, true },
    { "tls", tls },
    { "http2", f.bool("Whether HTTP/2 is spoken.", false) },
    { "proxy_protocol", f.bool("Whether trusted peers open with a PROXY header.", false) },
    { "escaped_slash", f.bool("Whether `%2F` in a path passes as it is, as names of packages and "
      .. "branches have it; without it, 400. Routes and backends must not take it for `/`.", false) },
    { "backlog", f.int("Length of the kernel's accept queue.", 1, { default = 4096 }) },
    { "mode", f.str("Permissions of a UNIX socket's file; what the umask leaves where left out.",
      { pattern = "^0?[0-7][0-7][0-7]$", expected = "permissions in octal, like \"660\"" }) },
  })
end

local limits = f.record("What one client, connection or request may use.", {
  { "head_bytes", f.bytes("Longest request head; beyond it 431.",
    { minimum = 256, default = 32768, maximum = f.MOST_HEAD_BYTES }) },
  { "header_count", f.int("Most header fields; beyond it 431.", 1, { default = 128 }) },
  { "uri_bytes", f.bytes("Longest request target; beyond it 414.", { minimum = 16, default = 8192 }) },
  { "body_bytes", f.bytes("Longest request body; beyond it 413. 0: no limit.",
    { default = 0 }) },
  { "head_timeout", f.seconds("Until a request's head is complete; then 408.", { default = 10 }) },
  { "body_timeout", f.seconds("Longest silence while a body is read; then 408.",
    { default = 30 }) },
  { "idle_timeout", f.seconds("How long a kept-alive connection may be silent.",
    { default = 75 }) },
  { "send_timeout", f.seconds("Longest silence of a client that does not read.",
    { default = 30 }) },
  { "send_rate", f.bytes("Bytes a second that a client reads at least of an answer that waits for it, "
    .. "on average over `send_timeout` of such waiting; 0: no limit.",
    { default = 150, unit = "bytes/s", maximum = 1073741824 }) },
  { "tls_timeout", f.seconds("Until a TLS handshake is complete.", { default = 10 }) },
  { "drain_timeout", f.seconds("Until a stopping worker closes what is still open, and drops what "
    .. "policies and mirrors still send.",
    { default = 30 }) },
  { "requests_per_connection", f.int("Requests after which a connection is closed; 0: no limit.",
    0, { default = 10000 }) },
  { "connections", f.int("Client connections, per worker; idle ones make room for new ones.", 1,
    { default = 16384 }) },
  { "connections_per_address", f.int("Client connections of one address (IPv6: of one /64), per worker; "
    .. "0: no limit.", 0, { default = 0 }) },
  { "handshakes_per_address", f.int("TLS handshakes of one address (IPv6: of one /64) in ten "
    .. "seconds; 0: no limit.", 0, { default = 0 }) },
  { "overload_lag", f.seconds("How far a worker's loop may fall behind; beyond it some requests, "
    .. "at twice as much all, get 503 with Retry-After. 0: never.", { default = 0.5 }) },
  { "overload_memory_bytes", f.bytes("Resident memory of a worker beyond which requests get 503. "
    .. "0: no limit.", { default = 0 }) },
  { "streams", f.int("Concurrent HTTP/2 streams of a connection.", 1, { default = 128 }) },
  { "policy_cpu", f.seconds("CPU time that the policies of one request may use; then 503.",
    { default = 0.1 }) },
  { "policy_memory_bytes", f.bytes("Memory that policies may hold; then 503.",
    { default = 67108864 }) },
  { "policy_body_bytes", f.bytes("Longest body kept for a policy that reads it; then 413.",
    { default = 1048576 }) },
}, { default = {} })

local field_name = f.str("A name.", { pattern = "^[%w!#$%%&'*+.^_`|~-]+$",
  expected = "the name of a header field" })

local log_path = 'File (below the configuration, or absolute), "-" for standard output.'

local access_log = {
  oneOf = {
    f.bool("Whether requests are logged."),
    f.record("The access log.", {
      { "enabled", f.bool("Whether requests are logged.", true) },
      { "path", f.str(log_path, { default = "-" }) },
      { "sample", { type = "number", minimum = 0, maximum = 1, default = 1,
        description = "Share of the successful requests (below 400) that is logged, each with "
          .. "`sample`; failures always are." } },
      { "request_headers", f.list("Request header fields to log, as policies left them; those that "
        .. "carry credentials show `***`.", field_name, { default = {}, maxItems = 32 }) },
      { "response_headers", f.list("Response header fields to log.", field_name,
        { default = {}, maxItems = 32 }) },
      { "query", f.bool("Whether the query is logged. Keys, tokens, passwords and signatures show "
        .. "`***`.", true) },
      { "redact", f.list("Further header fields and query parameters whose values are hidden.",
        f.str("A name."), { default = {} }) },
      { "buffer_bytes", f.bytes("Memory of a worker for lines that the logger has not taken; beyond "
        .. "it lines are dropped, and counted by `moongate_access_log_dropped_total`.",
        { minimum = 65536, maximum = 67108864, default = 1048576 }) },
    }),
  },
  default = {}, description = "The access log, one JSON object a line; `false`: none.",
}

local redirect = f.record("Sends the client elsewhere. Policies of `inbound` run before, of "
  .. "`outbound` none.", {
  { "to", f.str("URL; path and query of the request are appended as said below.",
    { check = function(to)
      return not to:find("[%c%s]") and (to:find("^/") ~= nil or to:find("^%a[%w+.-]*://[^/?#]") ~= nil)
    end, expected = "a URL with its scheme, or an absolute path" }), true },
  { "status", f.enum("Status.", { 301, 302, 303, 307, 308 }, 302) },
  { "keep_path", f.bool("Whether the request's path is appended.", true) },
  { "keep_query", f.bool("Whether the request's query is appended.", true) },
})

local reply = f.record("Answers by itself. Policies of `inbound` run before, of `outbound` "
  .. "none.", {
  { "status", f.int("Status.", 200, { maximum = 599, default = 200 }) },
  { "headers", f.map("Header fields.", f.field_value("Value."), { check = f.are_not_of_connection }) },
  { "body", { type = "string", description = "Body." } },
})

local route = f.record("A route: exactly one of `apis`, `backend`, `redirect`, `reply`.", {
  { "path", f.str("Pattern: literals, `{param}`, a last segment `*` for the rest. The most "
    .. "specific pattern wins at every segment, in whatever order they are listed.",
    { pattern = "^/", expected = "a path that starts with \"/\"" }), true },
  { "name", f.str("Name in logs and metrics; the path where left out.") },
  { "methods", f.list("Methods that it takes; all where left out.", f.method("A method."),
    { minItems = 1 }) },
  { "apis", { oneOf = {
    { type = "boolean", expected = "true" }, f.list("Names.", f.str("An API.")) },
    description = "`true`: every API with a path below this pattern; or a list of their names." } },
  { "backend", f.str("Backend that serves it.") },
  { "redirect", redirect },
  { "reply", reply },
  { "networks", f.list("Only clients of these `networks`; for others the route does not exist.",
    f.str("A name from `networks`."), { minItems = 1 }) },
  { "policies", f.policies("Policies of this route.") },
  { "limits", f.scoped_limits("Limits of this route.") },
  { "compression", f.compression() },
  { "access_log", f.bool("Whether its requests are in the access log.") },
  { "streaming", f.bool("Bodies go on as they come; a policy that keeps one is then a load error.") },
})

local site = f.record("A site: what is served under some hosts.", {
  { "name", f.str("Name in logs and metrics; the first host where left out.") },
  { "hosts", f.list("Hosts: exact names, `*.example.com`, or `*` for any. On another listener a "
    .. "host may be another site's.", f.str("A host."),
    { minItems = 1 }), true },
  { "routes", f.list("Routes.", route, { minItems = 1 }), true },
  { "listeners", f.list("Names of the listeners that it is served on; all where left out.",
    f.str("A listener."), { minItems = 1 }) },
  { "policies", f.policies("Policies of this site.") },
  { "limits", f.scoped_limits("Limits of this site.") },
  { "compression", f.compression() },
  { "access_log", f.bool("Whether its requests are in the access log.") },
})

local redis = f.record("The Redis that nodes share limits, quotas and cache through.", {
  { "url", f.str("`redis://host:port/db`, `rediss://…` (TLS), or `unix:/path`; of Sentinels also "
    .. "`redis+sentinel://host,host/master/db`, of a Cluster `redis+cluster://host,host`."), true },
  { "username", f.secret("User (ACL).") },
  { "password", f.secret("Password.") },
  { "tls", f.record("TLS of the connection.", {
    { "ca", f.str("File with the authorities that are trusted.") },
    { "sni", f.str("Name asked for and verified.") },
    { "certificate", f.str("File with our certificate.") },
    { "key", f.str("File with its key.") },
    { "verify", f.bool("Whether chain and name are verified.", true) },
  }) },
  { "timeout", f.seconds("Deadline of every command.", { default = 0.025, minimum = 0.001 }) },
  { "connect_timeout", f.seconds("Deadline of connecting.", { default = 1 }) },
  { "prefix", f.str("What every key starts with.", { default = "moongate:" }) },
  { "sentinel", f.record("Asks Sentinels who is the master; of `url` the scheme, the credentials and "
    .. "the database are taken.", {
    { "master", f.str("Name of the master."), true },
    { "addresses", f.list("Sentinels, `host:port`.", f.str("An address."), { minItems = 1 }), true },
    { "password", f.secret("Password of the sentinels.") },
  }) },
  { "cluster", f.bool("Whether it is a Redis Cluster; `url` names one or more of its nodes.", false) },
})

local product = f.record("A product: APIs that one key opens, and what its holders get.", {
  { "title", f.str("Name for people.") },
  { "description", f.str("What it offers.") },
  { "apis", f.list("Names of its APIs.", f.str("An API.")), true },
  { "policies", f.policies("Policies of calls made with a key of this product.") },
})

local subscription = f.record("A subscription: keys, and what they open.", {
  { "id", f.str("Its id, in logs and metrics."), true },
  { "name", f.str("Name for people.") },
  { "product", f.str("Product that the keys open.") },
  { "api", f.str("API that the keys open; without product and api they open all.") },
  { "keys", f.list("The keys: two let one be replaced while the other serves.",
    f.secret("A key.", { minLength = 8 }), { minItems = 1, maxItems = 8 }), true },
  { "state", f.enum("Only active ones are let in.", { "active", "suspended", "cancelled" },
    "active") },
})

return f.record("The gateway: `gateway.lua`.", {
  { "name", f.str("Name of the gateway, in logs, metrics and `Via`.", { default = "moongate" }) },
  { "region", f.str("Where it stands; `ctx.deployment.region`.") },
  { "workers", {
    oneOf = {
      f.enum("One per core that the process may use.", { "auto" }),
      f.int("That many; 0: one within the calling process.", 0, { maximum = 1024 }),
    },
    default = "auto", description = "Worker processes.",
  } },
  { "user", f.str("User that workers run as, where started as root.") },
  { "listeners", f.list("Where clients connect.", listener("A listener."), { minItems = 1 }), true },
  { "management", listener("The listener of the management API, `/metrics`, `/health`.") },
  { "networks", f.map("Named lists of networks.", f.list("Networks.", cidr), { default = {} }) },
  { "trusted_proxies", f.list("Networks whose X-Forwarded-For or PROXY header is believed; `unix:` for "
    .. "who comes over a UNIX socket.", f.str("A network, or `unix:`."), { default = {} }) },
  { "limits", limits },
  { "compression", f.compression() },
  { "access_log", access_log },
  { "error_log", f.record("The log of what happens to the gateway itself.", {
    { "path", f.str('File, or "-" for standard error.', { default = "-" }) },
    { "level", f.enum("Least severity that is written.",
      { "debug", "info", "notice", "warning", "error" }, "info") },
  }, { default = {} }) },
  { "redis", redis },
  { "dns", f.record("How names of backends are resolved.", {
    { "servers", f.list("Name servers, `address` or `address:port`; those of /etc/resolv.conf where "
      .. "left out.", f.str("A server."), { minItems = 1 }) },
    { "min_ttl", f.seconds("Floor of a name's time to live.", { default = 1 }) },
    { "max_ttl", f.seconds("Ceiling of a name's time to live.", { default = 300, minimum = 1 }) },
  }, { default = {} }) },
  { "cache", f.record("The store of cached responses and values, in memory shared by the workers.", {
    { "bytes", f.bytes("Its size; changed by a restart, not by a reload.",
      { default = 67108864, minimum = 1048576 }) },
    { "store", { enum = { "local", "redis" }, default = "local", description = "Where responses and "
      .. "values of policies are kept: `local`, in this memory; `redis`, there as well, for all nodes "
      .. "that share the Redis." } },
    { "when_cut_off", { enum = { "serve", "ask" }, default = "serve", description = "What a node does "
      .. "with what it has while it has been without the Redis for a second and cannot know what others "
      .. "purge: `serve`, or `ask` the backend first." } },
    { "object_bytes", f.bytes("Larger ones are not put in Redis.",
      { default = 1048576, minimum = 1024, maximum = 16777216 }) },
  }, { default = {} }) },
  { "geoip", f.record("MMDB files.", {
    { "country", f.str("File with countries.") },
    { "asn", f.str("File with autonomous systems.") },
  }) },
  { "named_values", f.map("Values that `{{name}}` stands for in any text. Those from the "
    .. "environment or a file are secret: they are never shown.",
    { type = "string", secret = true, description = "Text, `{ env = \"NAME\" }` or "
      .. "`{ file = \"path\" }`." }, { default = {} }) },
  { "backends", f.map("Backends by name.", backend) },
  { "sites", f.list("Sites.", site), true },
  { "products", f.map("Products by name.", product) },
  { "subscriptions", f.list("Subscriptions.", subscription, { default = {} }) },
  { "policies", f.policies("The outermost scope: policies of every request.") },
})
