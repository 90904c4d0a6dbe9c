-- SPDX-License-Identifier: Apache-2.0
--- What an entry of `backends` may hold.

local f = require("moongate.config.fields")

local target = {
  oneOf = {
    f.str("URL of a target."),
    f.record("A target.", {
      { "url", f.str("`http://host:port/path`, `https://…`, or `unix:/path`."), true },
      { "weight", f.int("Share of requests relative to its fellows; 0 takes none.", 0,
        { maximum = 1000, default = 1 }) },
      { "priority", f.int("Targets of a higher number serve only while none lower is up.", 0,
        { maximum = 15, default = 0 }) },
      { "name", f.str("Name in logs and metrics; the address where left out.") },
      { "srv", f.bool("Whether the host is a service name: its SRV records are the targets.",
        false) },
    }),
  },
  description = "A URL, or a table with it.",
}

local health = f.record("Active probes, sent by one worker for all.", {
  { "path", f.str("Path that is asked for.",
    { pattern = "^/", expected = "a path that starts with \"/\"" }), true },
  { "method", f.enum("Method of the probe.", { "GET", "HEAD", "OPTIONS" }, "GET") },
  { "host", f.str("Host field of the probe; the target's where left out.") },
  { "interval", f.seconds("Between two probes.", { default = 10, minimum = 0.1 }) },
  { "timeout", f.seconds("Until a probe counts as failed.", { default = 2, minimum = 0.05 }) },
  { "healthy", f.int("Successes in a row that bring a target back.", 1, { default = 2 }) },
  { "unhealthy", f.int("Failures in a row that take a target out.", 1, { default = 3 }) },
  { "statuses", f.list("Statuses that count as success: single ones, or { from, to }.", {
    oneOf = {
      f.int("A status.", 100, { maximum = 599 }),
      f.list("From, to.", f.int("A status.", 100, { maximum = 599 }),
        { minItems = 2, maxItems = 2 }),
    },
  }, { default = { { 200, 399 } } }) },
  { "body", f.str("Text that the answer must hold within its first 16 KiB.") },
})

local outlier = f.record("Passive failure marking, from the traffic itself.", {
  { "failures", f.int("Failures in a row (connection, timeout, 502 to 504) that take a target out.",
    1, { default = 5 }) },
  { "eject", f.seconds("How long it stays out the first time; grows with each further time.",
    { default = 10 }) },
  { "max_eject", f.seconds("Longest time out.", { default = 300 }) },
  { "max_share", f.int("Percentage of the targets that may be out at once.", 0,
    { maximum = 100, default = 50 }) },
}, { default = {} })

local breaker = f.record("Circuit breaker: refuses early while a backend is failing.", {
  { "failures", f.int("Failures within the window that open it.", 1, { default = 10 }) },
  { "ratio", { type = "number", minimum = 0, maximum = 1, default = 0.5,
    description = "Share of failures in the window that opens it, once `failures` is reached." } },
  { "window", f.seconds("Length of the window.", { default = 10 }) },
  { "open", f.seconds("How long it stays open before a probe is let through.", { default = 5 }) },
  { "probes", f.int("Requests let through while half open.", 1, { default = 1 }) },
  { "statuses", f.list("Statuses that count as failures.",
    f.int("A status.", 400, { maximum = 599 }), { default = { 500, 502, 503, 504 } }) },
  { "retry_after", f.bool("Whether the backend's Retry-After is taken as the opening time.", true) },
})

local tls = f.record("TLS to the targets with `https`.", {
  { "verify", f.bool("Whether chain and name are verified.", true) },
  { "ca", f.str("File with the authorities that are trusted; the system's where left out.") },
  { "sni", f.str("Name asked for and verified; the target's host where left out.") },
  { "certificate", f.str("File with our client certificate.") },
  { "key", f.str("File with its key.") },
  { "min_version", f.enum("Oldest version accepted.", { "1.2", "1.3" }, "1.2") },
})

local auth = f.record("How the gateway authenticates itself to the backend.", {
  { "basic", f.record("Basic authentication.", {
    { "username", f.secret("User name."), true },
    { "password", f.secret("Password."), true },
  }) },
  { "headers", f.map("Header fields with secrets.", f.secret("Value.")) },
  { "query", f.map("Query parameters with secrets.", f.secret("Value.")) },
  { "oauth2", f.record("Client credentials (RFC 6749 §4.4), cached and refreshed.", {
    { "token_url", f.str("Where tokens are asked for."), true },
    { "client_id", f.secret("Client id."), true },
    { "client_secret", f.secret("Client secret."), true },
    { "scope", f.str("Scopes, separated by spaces.") },
    { "audience", f.str("Audience, where the server wants one.") },
  }) },
})

return f.record("A named backend: where requests are sent.", {
  { "targets", f.list("Targets.", target) },
  { "sink", f.record("A dead end on purpose: no target, one answer, and a log line that says so.", {
    { "status", f.int("Status of the answer.", 200, { maximum = 599, default = 404 }) },
  }) },
  { "balance", f.enum("How a target is chosen.",
    { "round_robin", "least_requests", "random", "hash" }, "round_robin") },
  { "hash", f.record("What `balance = \"hash\"` hashes (Maglev).", {
    { "on", f.enum("Part of the request.", { "client_ip", "header", "cookie", "path", "host", "query" },
      "client_ip") },
    { "name", f.str("Name of the header, cookie or query parameter.") },
  }) },
  { "affinity", f.record("A cookie that keeps a client on its target.", {
    { "cookie", f.str("Name of the cookie.", { default = "moongate_affinity" }) },
    { "ttl", f.seconds("Lifetime; 0: the browser's session.", { default = 0 }) },
  }) },
  { "slow_start", f.seconds("Time in which a target that comes back gets its full share.",
    { default = 0 }) },
  { "panic", f.int("Percentage of usable targets below which health is not looked at, lest the rest "
    .. "be overrun; 0: never.", 0, { maximum = 100, default = 50 }) },
  { "drain", f.seconds("What a removed target has left to finish its requests; 0: their own "
    .. "deadlines.", { default = 0 }) },
  { "split", f.list("Backends that share the requests instead of targets of its own (canary).",
    f.record("A share.", {
      { "backend", f.str("Its name."), true },
      { "weight", f.int("Share relative to its fellows.", 0, { maximum = 1000000, default = 1 }) },
    }), { minItems = 1 }) },
  { "mirror", f.record("A copy of requests goes to another backend; its answer is dropped.", {
    { "backend", f.str("Its name."), true },
    { "percent", { type = "number", minimum = 0, maximum = 100, default = 100,
      description = "Share of the requests." } },
    { "body_bytes", f.bytes("Requests with a longer body are not copied.", { default = 65536 }) },
  }) },
  { "protocol", f.enum("Protocol spoken to the targets.", { "http1", "h2", "auto" }, "http1") },
  { "retries", f.int("Further attempts, on other targets first, where nothing was sent or the "
    .. "method is idempotent.", 0, { maximum = 10, default = 1 }) },
  { "retry", f.record("When attempts are repeated.", {
    { "on", f.list("Causes: connect, reset, timeout, or a status.", {
      oneOf = {
        f.enum("A cause.", { "connect", "reset", "timeout" }),
        f.int("A status.", 400, { maximum = 599 }),
      },
    }, { default = { "connect", "reset" } }) },
    { "budget", f.int("Percentage of the requests in flight that may be retries.", 0,
      { maximum = 100, default = 20 }) },
    { "backoff", f.seconds("Wait before the second attempt; doubles, with jitter.",
      { default = 0.025 }) },
    { "max_backoff", f.seconds("Longest wait.", { default = 0.25 }) },
    { "try_timeout", f.seconds("Longest time of one attempt; 0: only the total counts.",
      { default = 0 }) },
    { "idempotency_key", f.bool("Whether a request with Idempotency-Key may be repeated.", false) },
  }) },
  { "timeout", f.record("Deadlines of a call.", {
    { "connect", f.seconds("Until connected, TLS included.", { default = 5 }) },
    { "send", f.seconds("Longest silence while the request is sent.", { default = 30 }) },
    { "first_byte", f.seconds("From the end of the request to the response's head.",
      { default = 60 }) },
    { "idle", f.seconds("Longest silence within the response.", { default = 60 }) },
    { "total", f.seconds("The whole call; 0: no limit, for streams.", { default = 300 }) },
  }, { default = {} }) },
  { "keepalive", f.record("Connections kept for reuse, per worker.", {
    { "idle", f.int("Most idle connections per target.", 0, { default = 64 }) },
    { "idle_timeout", f.seconds("How long one may be idle; keep it below the backend's.",
      { default = 4 }) },
    { "requests", f.int("Requests after which one is closed; 0: no limit.", 0, { default = 10000 }) },
    { "lifetime", f.seconds("Age at which one is closed; 0: no limit.", { default = 0 }) },
  }, { default = {} }) },
  { "limits", f.record("Ceilings, beyond which requests wait or get 503.", {
    { "connections", f.int("Connections to one target, per worker; 0: no limit.", 0,
      { default = 1024 }) },
    { "requests", f.int("Requests in flight, per worker; 0: no limit.", 0, { default = 0 }) },
    { "pending", f.int("Requests that may wait for a connection.", 0, { default = 1024 }) },
    { "pending_timeout", f.seconds("How long they wait.", { default = 5 }) },
    { "head_bytes", f.bytes("Longest response head; 0: the default.",
      { default = 65536, maximum = f.MOST_HEAD_BYTES }) },
  }, { default = {} }) },
  { "health", health },
  { "outlier", outlier },
  { "breaker", breaker },
  { "tls", tls },
  { "auth", auth },
  { "dns", f.record("How names are resolved.", {
    { "family", f.enum("Address family.", { "auto", "ipv4", "ipv6" }, "auto") },
  }, { default = {} }) },
  { "host", f.str('Host field sent: "target" (the target\'s), "client" (the client\'s), or a name.',
    { default = "client" }) },
  { "proxy_protocol", f.enum("PROXY header sent first, before TLS: who the client is. A connection then "
    .. "serves one client, by HTTP/1.1.", { "off", "v1", "v2" }, "off") },
})
