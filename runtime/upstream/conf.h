/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What the configuration says about backends, as C structs. Made by script/load.c once per
/// generation; strings live as long as the generation. Durations in milliseconds.

#include "base/slice.h"

enum moon_balance {
    MOON_BALANCE_ROUND_ROBIN,
    MOON_BALANCE_LEAST_REQUESTS,
    MOON_BALANCE_RANDOM,
    MOON_BALANCE_HASH,
};

enum moon_protocol { MOON_PROTOCOL_HTTP1, MOON_PROTOCOL_H2, MOON_PROTOCOL_AUTO };

enum moon_hash_on { MOON_HASH_ADDRESS, MOON_HASH_HEADER, MOON_HASH_COOKIE, MOON_HASH_PATH };

/// What the request's Host becomes on its way to a target.
enum moon_host_mode { MOON_HOST_TARGET, MOON_HOST_PRESERVE, MOON_HOST_FIXED };

struct moon_target_conf {
    struct moon_slice url;       // as configured
    struct moon_slice identity;  // "http://127.0.0.1:9101": health and pools are found by it
    struct moon_slice authority; // for Host: port left out where it is the scheme's own
    struct moon_slice host;      // name or address to connect to; "unix:PATH" has a NUL behind it
    struct moon_slice path;      // prefix of every request's path; empty, or "/base" without a final '/'
    int port;
    bool is_tls;
    int weight;   // >= 1
    int priority; // 0 is used first; others only when all of the lower ones are down
};

struct moon_probe_conf {
    struct moon_slice path; // empty: no active probes
    int64_t interval_ms, timeout_ms;
    int status_from, status_to;
    struct moon_slice body; // must be in the first 16 KiB of the answer; empty: not looked at
    uint32_t passes, failures; // thresholds
};

struct moon_outlier_conf {
    uint32_t failures;        // consecutive; 0: off
    int64_t ejection_ms;      // grows with each ejection in a row
    int max_ejected_percent;  // of the members
};

struct moon_backend_tls_conf {
    bool is_verified;
    struct moon_slice ca, certificate, key, server_name; // files; empty: none. NUL-terminated
};

struct moon_backend_conf {
    struct moon_slice name;
    int sink_status; // not 0: a dead end that answers so
    enum moon_balance balance;
    enum moon_protocol protocol;
    enum moon_hash_on hash_on;
    struct moon_slice hash_name; // of the header or cookie
    enum moon_host_mode host_mode;
    struct moon_slice host_fixed;
    int64_t connect_ms, send_ms, first_byte_ms, idle_ms, total_ms;
    int retries; // further tries after the first
    bool is_forwarded; // add X-Forwarded-*, Forwarded and Via
    size_t idle_connections; // kept per worker and target
    int64_t idle_timeout_ms;
    int64_t slow_start_ms;
    size_t max_requests;    // in flight, this node; 0: no limit
    size_t max_connections; // this worker and target; 0: no limit
    struct moon_probe_conf probe;
    struct moon_outlier_conf outlier;
    struct moon_backend_tls_conf tls;
    struct moon_target_conf *targets;
    size_t target_count;
};
