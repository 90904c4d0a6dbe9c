/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// One loaded configuration as C structs, read once out of the tables that lua/moongate/config.lua
/// returns (script/plan.c). Immutable; strings lie in the plan's arena and are NUL-terminated.

#include "moongate/act.h"

#include "base/arena.h"
#include "base/ip.h"
#include "net/tls.h"
#include "upstream/conf.h"

enum moon_section {
    MOON_SECTION_INBOUND,
    MOON_SECTION_BACKEND,
    MOON_SECTION_OUTBOUND,
    MOON_SECTION_ON_ERROR,
    MOON_SECTION_LOG,
    MOON_SECTION_MALFORMED, // of a request that the HTTP layer refuses: policies look at what came
    MOON_SECTION_COUNT,
};

/// Names of limits are those of the configuration; sizes in bytes, durations in milliseconds.
struct moon_limits_conf {
    size_t head_bytes, uri_bytes, header_count;
    int64_t body_bytes;         // -1: no limit
    size_t buffered_body_bytes; // what a policy may have in memory
    int64_t head_timeout_ms, body_timeout_ms, idle_timeout_ms, send_timeout_ms, linger_ms;
    int64_t send_rate;                // bytes a second that a client must read; 0: no limit
    int64_t tls_timeout_ms;           // for the handshake
    int64_t drain_timeout_ms;         // of a stopping worker
    uint64_t requests_per_connection; // 0: no limit
    size_t connections;               // of one worker
    uint32_t streams;                 // of one HTTP/2 connection, at the same time
    size_t connections_per_address;   // of one worker; 0: no limit
    size_t handshakes_per_address;    // of TLS, in ten seconds, on all workers; 0: no limit
    int64_t overload_lag_ms;          // of the loop; 0: no limit
    int64_t overload_memory_bytes;    // resident, of one worker; 0: no limit
    int64_t policy_cpu_ms;
    size_t policy_memory_bytes;
};

struct moon_listener_conf {
    struct moon_slice name;
    struct moon_slice place;   // for errors: "gateway.lua:7: listeners[2]"
    struct moon_slice address; // "0.0.0.0:8080", "unix:/run/x.sock"
    int backlog;
    int mode; // of a UNIX socket's file; 0: as the umask leaves it
    bool is_http2;
    bool is_management;
    bool has_proxy_protocol;
    bool keeps_escaped_slash; // in paths
    bool has_tls;
    struct moon_tls_server_conf tls;
    struct moon_slice hsts; // Strict-Transport-Security; empty: none
    int64_t warn_before_ms; // a certificate expires
};

enum moon_leaf_kind { MOON_LEAF_BACKEND, MOON_LEAF_REDIRECT, MOON_LEAF_REPLY, MOON_LEAF_NOT_FOUND };

/// Of responses (gateway/encode.h).
struct moon_compression_conf {
    bool is_on;
    bool has_gzip, has_brotli;
    int gzip_level, brotli_quality;
    size_t min_bytes;
    struct moon_slice *types; // media types; one '*' stands for anything
    size_t type_count;
};

struct moon_redirect_conf {
    struct moon_slice to;
    int status;
    bool keeps_path, keeps_query;
};

struct moon_reply_conf {
    int status;
    struct moon_slice body;
    struct moon_field *fields;
    size_t field_count;
};

/// What a policy does in a section, where it is done by C alone. The object belongs to Lua, and lives as
/// long as the plan.
struct moon_act {
    moon_act_fn *run;
    const void *object;
    struct moon_slice product; // only for callers with a key of it; empty: for all
    int instead; // registry reference of the Lua function of the chain from this policy on
};

/// Acts that stand before a section's Lua function.
struct moon_acts {
    const struct moon_act *list;
    size_t count;
};

/// Where a request can end up: host, path pattern and method, and what is done there.
struct moon_leaf {
    int id;                               // 1-based, as in the plan
    struct moon_slice host, path, method; // patterns
    const int *listeners;                 // indices; NULL: all
    size_t listener_count;
    const int *networks; // indices into moon_plan.networks; NULL: from anywhere
    size_t network_count;
    enum moon_leaf_kind kind;
    struct moon_redirect_conf redirect;
    struct moon_reply_conf reply;
    int backend; // index, or -1
    struct moon_slice site, route, api, operation;
    struct moon_acts acts[MOON_SECTION_COUNT];
    int chains[MOON_SECTION_COUNT]; // registry references of the Lua functions that follow; 0: none
    bool needs_request_body, needs_response_body;
    bool
        wants_plain_response; // policies read the answer's text: the backend is asked for no coding
    bool has_access_log;
    bool is_streaming; // bodies go on as they come, however short
    bool requires_subscription;
    struct moon_slice subscription_header, subscription_query;
    struct moon_limits_conf limits;
    int metric_requests[6]; // series by status class, made at load; [0]: no answer
    struct moon_compression_conf compression;
    int metric_latency;
    int api_ref, operation_ref; // as in moon_subscription
};

/// Whether policies act in a section of the leaf.
static inline bool moon_leaf_runs(const struct moon_leaf *leaf, enum moon_section section)
{
    return leaf->acts[section].count > 0 || leaf->chains[section] != 0;
}

/// What is logged of requests, and what of them is hidden.
struct moon_access_log_conf {
    struct moon_slice path;     // "-": standard output; empty: off
    uint32_t sample_millionths; // of the successful requests
    bool has_query;
    struct moon_slice *request_fields, *response_fields; // names
    size_t request_field_count, response_field_count;
    struct moon_slice *redacted; // fields and query parameters, beside those that always are
    size_t redacted_count;
    size_t buffer_bytes;
};

enum { MOON_SUBSCRIPTION_KEYS = 8 };

struct moon_subscription {
    struct moon_slice id, product, api, name, state;
    uint8_t keys[MOON_SUBSCRIPTION_KEYS][32]; // SHA-256
    size_t key_count;
    int fact_ref, product_ref;     // Lua tables made at first use (script/ctx.c); 0: none yet
    const struct moon_slice *apis; // of the product; empty: all
    size_t api_count;
};

struct moon_network_conf {
    struct moon_slice name;
    struct moon_ipset *set;
};

enum moon_via { MOON_VIA_1_0, MOON_VIA_1_1, MOON_VIA_2, MOON_VIA_COUNT };

struct moon_plan {
    struct moon_arena arena;
    struct moon_slice name, region, dir;
    struct moon_slice via[MOON_VIA_COUNT]; // what the gateway adds to Via, by the version that came
    int workers;                           // 0: as many as cores
    bool is_in_process;                    // workers = 0
    struct moon_slice user;
    struct moon_access_log_conf access_log;
    struct moon_slice error_log, error_log_level;
    struct moon_slice dns_servers; // "127.0.0.1:5353,..."; empty: /etc/resolv.conf
    int64_t dns_min_ttl_ms, dns_max_ttl_ms;
    struct moon_slice redis_url;
    struct moon_slice redis_user, redis_password, redis_prefix, redis_sentinel_password;
    int64_t redis_timeout_ms, redis_connect_ms;
    struct moon_tls_client_conf redis_tls;
    struct moon_limits_conf limits;
    struct moon_listener_conf *listeners;
    size_t listener_count;
    struct moon_network_conf *networks;
    size_t network_count;
    struct moon_ipset *trusted_proxies; // NULL: none
    bool trusts_unix;                   // who comes over a UNIX socket is a trusted proxy
    struct moon_backend_conf *backends;
    size_t backend_count;
    /// One for each backend and client certificate that a policy brings: the backend's own settings but
    /// for that. Those of certificate `n` (from 0 on) begin at n * backend_count.
    struct moon_backend_conf *disguises;
    size_t certificate_count;
    struct moon_leaf *leaves;
    size_t leaf_count;
    bool inspects_malformed; // a leaf has a chain for malformed requests
    struct moon_subscription *subscriptions;
    size_t subscription_count;
    uint32_t *key_slots;   // 1-based numbers of keys; 0: free
    size_t key_slot_count; // a power of two
    size_t shared_counters, shared_cache_bytes, shared_cache_object_bytes;
    bool has_shared_values; // values of policies are kept in Redis as well
    bool is_cache_asking;   // without Redis no answer is given that may have been purged elsewhere
    int deployment_ref;
};
