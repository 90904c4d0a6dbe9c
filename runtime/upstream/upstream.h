/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Backends at run time: the targets of a named backend, which of them is next, and the connections
/// kept open to each. Connection pools and health are found by the target's identity, so they
/// survive reloads; a backend belongs to one generation.
///
/// Thread: one worker.

#include "base/buf.h"
#include "net/dns.h"
#include "net/stream.h"
#include "net/tls.h"
#include "shared/health.h"
#include "upstream/conf.h"

struct moon_call;

/// Everything that calls need and that outlives generations. One per worker.
struct moon_upstreams {
    struct moon_loop *loop;
    struct moon_dns *dns;
    struct moon_healths *healths;
    struct moon_list pools;       // struct moon_pool
    struct moon_list tls_clients; // shared by equal settings
    struct moon_call *current_call; // whose callback runs; NULL once it has ended there
    uint64_t connects, reuses;    // for the metric upstream_reuse
};

void moon_upstreams_init(struct moon_upstreams *upstreams, struct moon_loop *loop,
                         struct moon_dns *dns, struct moon_healths *healths);

/// Closes all idle connections. Calls must have ended.
void moon_upstreams_fini(struct moon_upstreams *upstreams);

/// A connection to a target. Between calls it waits in its pool and watches for the peer's close.
struct moon_uconn {
    struct moon_list link; // idle list of the pool
    struct moon_pool *pool;
    struct moon_stream *stream;
    struct moon_buf in;
    struct moon_call *call; // NULL while idle
    uint64_t calls;         // begun on it
    int64_t idle_since_ms;
};

/// Connections of one target with one TLS profile; counted by the backends that use it.
struct moon_pool {
    struct moon_list link;
    struct moon_upstreams *upstreams;
    size_t users;
    char *identity; // target and TLS profile
    struct moon_list idle; // newest first
    size_t idle_count;
    size_t open_count;
    size_t idle_max;
    int64_t idle_timeout_ms;
    struct moon_timer sweep;
    struct moon_health *health; // NULL when the table is full
    struct moon_tls_client *tls;
    char *server_name;
};

struct moon_target {
    const struct moon_target_conf *conf;
    struct moon_pool *pool;
    struct moon_ip ip; // of a literal address
    bool is_literal;
    bool is_unix;
    int current_weight; // smooth weighted round robin
};

struct moon_backend {
    const struct moon_backend_conf *conf;
    struct moon_upstreams *upstreams;
    struct moon_target *targets;
    size_t target_count;
};

/// @param error  text for people: which file or name is wrong
MUST_CHECK enum moon_rc moon_backend_new(struct moon_upstreams *upstreams,
                                         const struct moon_backend_conf *conf, char *error,
                                         size_t error_cap, struct moon_backend **out);
void moon_backend_free(struct moon_backend *backend); // accepts NULL

/// Chooses the next target, or NULL when none is usable. `tried` has a bit for each target to be
/// passed over. When all members are ejected, the least bad one is used (panic mode): passive
/// marking alone never closes a backend.
///
/// @param hash  for MOON_BALANCE_HASH
struct moon_target *moon_backend_choose(struct moon_backend *backend, uint64_t tried,
                                        uint64_t hash);

/// Takes an idle connection; NULL when there is none. The caller owns it.
struct moon_uconn *moon_pool_take(struct moon_pool *pool);

/// Starts a new connection. @return MOON_OK (taken by the caller), or why it failed at once
MUST_CHECK enum moon_rc moon_pool_connect(struct moon_pool *pool, const struct sockaddr *address,
                                          socklen_t address_len, struct moon_uconn **out);

/// Gives it back for reuse.
void moon_pool_keep(struct moon_uconn *conn);

/// Closes it.
void moon_uconn_free(struct moon_uconn *conn); // accepts NULL
