/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What the configuration says about backends, as C structs. Made by script/plan_backend.c once per
/// generation; strings live as long as the generation. Durations in milliseconds.

#include "base/slice.h"

enum moon_balance {
    MOON_BALANCE_ROUND_ROBIN,
    MOON_BALANCE_LEAST_REQUESTS,
    MOON_BALANCE_RANDOM,
    MOON_BALANCE_HASH,
};

enum moon_protocol { MOON_PROTOCOL_HTTP1, MOON_PROTOCOL_H2, MOON_PROTOCOL_AUTO };

enum moon_hash_on {
    MOON_HASH_ADDRESS,
    MOON_HASH_HEADER,
    MOON_HASH_COOKIE,
    MOON_HASH_PATH,
    MOON_HASH_HOST,
    MOON_HASH_QUERY,
};

/// What the request's Host becomes on its way to a target.
enum moon_host_mode { MOON_HOST_TARGET, MOON_HOST_PRESERVE, MOON_HOST_FIXED };

struct moon_target_conf {
    struct moon_slice url;       // as configured
    struct moon_slice identity;  // "http://127.0.0.1:9101": health and pools are found by it
    struct moon_slice authority; // for Host: port left out where it is the scheme's own
    struct moon_slice host;      // name or address to connect to; "unix:PATH" has a NUL behind it
    struct moon_slice path; // prefix of every request's path; empty, or "/base" without a final '/'
    int port;
    bool is_tls;
    bool is_srv;  // `host` is a service name: its SRV records are the targets
    int weight;   // 0: drained, only clients that hold its cookie come
    int priority; // 0 is used first; others only when all of the lower ones are down
};

struct moon_status_range {
    int from, to;
};

/// True when one of the ranges holds the status.
static inline bool moon_status_is_in(const struct moon_status_range *ranges, size_t count,
                                     int status)
{
    for (size_t i = 0; i < count; i++) {
        if (status >= ranges[i].from && status <= ranges[i].to)
            return true;
    }
    return false;
}

struct moon_probe_conf {
    struct moon_slice path;         // empty: no active probes
    struct moon_slice method, host; // host empty: the target's own
    int64_t interval_ms, timeout_ms;
    const struct moon_status_range *statuses; // those that count as success
    size_t status_count;
    struct moon_slice body;    // must be in the first 16 KiB of the answer; empty: not looked at
    uint32_t passes, failures; // thresholds
};

struct moon_outlier_conf {
    uint32_t failures;       // consecutive; 0: off
    int64_t ejection_ms;     // grows with each ejection in a row
    int64_t max_ejection_ms; // 0: ten times ejection_ms
    int max_ejected_percent; // of the members; one may always go where there are others
};

struct moon_retry_conf {
    bool on_connect, on_reset, on_timeout;
    const struct moon_status_range *statuses;
    size_t status_count;
    int budget_percent; // of the calls under way that may be further tries; 0: none at all
    int64_t backoff_ms, max_backoff_ms;
    int64_t try_ms;             // longest time until a try has its head; 0: only the total counts
    bool takes_idempotency_key; // such a request may be sent again whatever its method
};

/// For backends that no configuration names.
static const struct moon_retry_conf moon_retry_defaults = {.on_connect = true,
                                                           .on_reset = true,
                                                           .budget_percent = 20,
                                                           .backoff_ms = 25,
                                                           .max_backoff_ms = 250};

/// Opens after `failures` within the window when they are at least `ratio_permille` of the calls.
struct moon_breaker_conf {
    bool is_on;
    uint32_t failures;
    uint32_t ratio_permille;
    int64_t window_ms, open_ms;
    uint32_t probes;                          // let through while half open; all must pass
    const struct moon_status_range *statuses; // those that count as failure
    size_t status_count;
    bool takes_retry_after; // the target's Retry-After is how long it stays open
};

struct moon_affinity_conf {
    struct moon_slice cookie; // name; empty: off
    int64_t ttl_ms;           // 0: the browser's session
};

/// What tells the backend who we are. Values are secrets.
struct moon_auth_conf {
    const struct moon_field *fields; // "Authorization" of `basic` among them
    size_t field_count;
    struct moon_slice query;                   // "name=value&..." percent-encoded; empty: none
    struct moon_slice token_url;               // OAuth2 client credentials; empty: none
    struct moon_slice token_basic, token_body; // Authorization and form of the token request
};

/// A share of the requests goes to another backend: instead (split) or as a copy (mirror).
struct moon_split_conf {
    struct moon_slice name;
    int backend; // index in the plan
    int weight;
};

struct moon_mirror_conf {
    struct moon_slice name; // empty: off
    int backend;            // index in the plan
    double percent;
    size_t body_bytes; // requests with a longer body, or one that streams, are not copied
};

enum moon_family { MOON_FAMILY_ANY, MOON_FAMILY_V4, MOON_FAMILY_V6 };

struct moon_backend_tls_conf {
    bool is_verified;
    struct moon_slice min_version;                       // "1.2", "1.3"
    struct moon_slice ca, certificate, key, server_name; // files; empty: none. NUL-terminated
};

struct moon_backend_conf {
    struct moon_slice name;
    struct moon_slice place; // for errors: "gateway.lua:12: backends.orders"
    int sink_status;         // not 0: a dead end that answers so
    enum moon_balance balance;
    enum moon_protocol protocol;
    enum moon_hash_on hash_on;
    struct moon_slice hash_name; // of the header or cookie
    enum moon_host_mode host_mode;
    struct moon_slice host_fixed;
    int64_t connect_ms, send_ms, first_byte_ms, idle_ms, total_ms;
    int retries;             // further tries after the first
    int proxy_version;       // of the PROXY header sent first: 1 or 2; 0: none
    bool is_forwarded;       // add X-Forwarded-*, Forwarded and Via
    size_t idle_connections; // kept per worker and target
    int64_t idle_timeout_ms;
    uint64_t max_calls;  // of one connection; 0: no limit
    int64_t lifetime_ms; // of one connection; 0: no limit
    int64_t slow_start_ms;
    int panic_percent;      // of usable members below which health is not looked at; 0: off
    size_t max_requests;    // in flight, this worker; 0: no limit
    size_t max_connections; // this worker and target; 0: no limit
    size_t max_pending;     // calls that wait for a connection, this worker and target
    int64_t pending_ms;     // how long one waits
    size_t head_bytes;      // of a response; 0: 64 KiB
    int64_t drain_ms;       // what a removed target has left to finish; 0: its calls' own deadlines
    enum moon_family family;
    struct moon_probe_conf probe;
    struct moon_outlier_conf outlier;
    struct moon_retry_conf retry;
    struct moon_breaker_conf breaker;
    struct moon_affinity_conf affinity;
    struct moon_auth_conf auth;
    struct moon_mirror_conf mirror;
    const struct moon_split_conf *splits; // it has no targets of its own then
    size_t split_count;
    struct moon_backend_tls_conf tls;
    struct moon_target_conf *targets;
    size_t target_count;
};
