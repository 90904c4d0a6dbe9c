/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Backends at run time: the targets of a named backend, which of them is next, and the connections
/// kept open to each. Connection pools and health are found by the target's identity, so they
/// survive reloads; a backend belongs to one generation.
///
/// Thread: one worker.

#include "base/arena.h"
#include "base/buf.h"
#include "net/dns.h"
#include "net/stream.h"
#include "net/tls.h"
#include "shared/health.h"
#include "shared/metrics.h"
#include "upstream/conf.h"

struct moon_call;

/// Everything that calls need and that outlives generations. One per worker.
struct moon_upstreams {
    struct moon_loop *loop;
    struct moon_dns *dns;
    struct moon_healths *healths;
    struct moon_list pools;   // struct moon_pool
    struct moon_list groups;  // struct moon_group
    struct moon_list probers; // struct moon_prober, one a backend; newest last
    struct moon_timer lease;  // asks to be the one that probes
    bool is_prober;
    struct moon_metrics *metrics;   // NULL: none
    struct moon_list tls_clients;   // shared by equal settings
    struct moon_call *current_call; // whose callback runs; NULL once it has ended there
    uint64_t connects, reuses;      // for the metric upstream_reuse
};

void moon_upstreams_init(struct moon_upstreams *upstreams, struct moon_loop *loop,
                         struct moon_dns *dns, struct moon_healths *healths);

/// Closes all idle connections. Calls must have ended.
void moon_upstreams_fini(struct moon_upstreams *upstreams);

/// Lies in whoever waits for a connection of a full pool.
struct moon_waiter {
    struct moon_list link;
    void (*on_ready)(struct moon_waiter *waiter); // it is on the list no more
};

enum { MOON_UCONN_IN_BYTES = 65536 + 16384 }; // what one reads ahead, but for a longer head

/// A connection to a target. Between calls it waits in its pool and watches for the peer's close.
struct moon_uconn {
    struct moon_list link; // idle list of the pool
    struct moon_pool *pool;
    struct moon_stream *stream;
    struct moon_buf in;
    struct moon_call *call; // NULL while idle
    struct moon_ip ip;      // where it goes to, when that came from a name
    bool has_ip;
    uint64_t introduced; // the client that its PROXY header names; 0: none
    uint64_t calls;      // begun on it
    int64_t idle_since_ms, made_at_ms;
};

/// Connections of one target with one TLS profile; counted by the backends that use it.
struct moon_pool {
    struct moon_list link;
    struct moon_upstreams *upstreams;
    size_t users;
    char *identity;        // target and TLS profile
    struct moon_list idle; // newest first
    size_t idle_count;
    size_t open_count;
    size_t idle_max;
    size_t open_max; // 0: no limit
    uint64_t calls_max;
    int64_t idle_timeout_ms, lifetime_ms;
    struct moon_timer sweep;
    struct moon_list waiting; // struct moon_waiter: first in, first out
    size_t waiting_count;
    struct moon_task wake;      // hands connections to those that wait
    struct moon_list h2;        // struct moon_h2_conn: that take streams
    bool is_h2_connecting;      // others wait for it: they may share it
    bool is_h1_only;            // ALPN said so: `auto` asks no more
    size_t next_address;        // of a name's addresses, in turns
    uint64_t addresses;         // hash of the set that the name had last
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
    struct moon_list calls; // under way (struct moon_call's of_target)
    uint64_t key;           // of its identity, the same on every node: Maglev, affinity
    int64_t drain_until_ms; // removed by a reload: what it has ends by then; 0: not so
    int64_t current_weight; // smooth weighted round robin
};

/// The targets of a backend at one time; another set when its service name says so. Counted: calls
/// keep the set that they chose from.
struct moon_members {
    size_t users;
    struct moon_target *targets;
    size_t count;
    struct moon_arena arena; // confs of targets that DNS told of
    uint16_t *maglev;        // made when first needed
    size_t maglev_size;
};

/// Load of a named backend in this worker, whatever the generation.
struct moon_group {
    struct moon_list link;
    size_t users;
    char *name;
    size_t active, retrying;      // calls
    struct moon_circuit *circuit; // NULL: the table is full
};

struct moon_prober;  // probe.c
struct moon_auth;    // auth.c
struct moon_service; // discovery by SRV (service.c)

struct moon_backend {
    const struct moon_backend_conf *conf;
    struct moon_upstreams *upstreams;
    struct moon_members *members;
    struct moon_group *group;
    struct moon_service *service; // NULL: the targets are those of the configuration
    struct moon_prober *prober;
    struct moon_auth *auth; // NULL: no token is needed
    size_t target_count;    // of the configuration
};

/// @param error  text for people: which file or name is wrong
MUST_CHECK enum moon_rc moon_backend_new(struct moon_upstreams *upstreams,
                                         const struct moon_backend_conf *conf, char *error,
                                         size_t error_cap, struct moon_backend **out);
void moon_backend_free(struct moon_backend *backend); // accepts NULL

/// A newer configuration has these backends: calls of targets that it has no more end within
/// drain_ms.
void moon_backend_drain(struct moon_backend *backend, const struct moon_backend_conf *newer,
                        size_t count);

/// Builds a set of targets; their pools are found or made.
/// @param arena  where confs lie that DNS told of; taken on success. NULL: the configuration's
MUST_CHECK enum moon_rc moon_members_new(struct moon_backend *backend,
                                         const struct moon_target_conf *confs, size_t count,
                                         struct moon_arena *arena, char *error, size_t error_cap,
                                         struct moon_members **out);
void moon_members_release(struct moon_members *members); // accepts NULL

/// What a choice depends on.
struct moon_choice {
    uint64_t tried;    // a bit for each target to be passed over
    uint64_t hash;     // for MOON_BALANCE_HASH
    uint64_t affinity; // key of the target that the client's cookie names; 0: none
    bool is_forced;    // the one target, whatever its state (probes)
};

/// Chooses the next target, or NULL when none is usable: the group of the lowest priority that has
/// a usable member serves; where fewer than panic_percent of all members are usable, health is not
/// looked at, unless the probes say that every one is down.
struct moon_target *moon_backend_choose(struct moon_backend *backend,
                                        const struct moon_choice *choice);

/// A hash that every node agrees on.
uint64_t moon_balance_hash(struct moon_slice key);

/// Members that are out by passive marking, of `count`.
size_t moon_members_ejected(const struct moon_members *members, int64_t now_us);

/// Finds or makes the pool of a target. Counted: moon_pool_leave.
MUST_CHECK enum moon_rc moon_pool_acquire(struct moon_upstreams *upstreams,
                                          const struct moon_backend_conf *conf,
                                          const struct moon_target_conf *target, char *error,
                                          size_t error_cap, struct moon_pool **out);

/// One backend less. Idle connections are closed with the last; those in use finish.
void moon_pool_leave(struct moon_pool *pool);

/// True when a call may not make a connection now, and must wait its turn.
bool moon_pool_is_full(const struct moon_pool *pool);

/// Puts a caller on the list of those that wait, or takes it off.
void moon_pool_wait(struct moon_pool *pool, struct moon_waiter *waiter);
void moon_pool_stop_waiting(struct moon_pool *pool, struct moon_waiter *waiter);

/// Some room has come: those that wait try again, at the end of the turn.
void moon_pool_wake(struct moon_pool *pool);

/// HTTP/2 connections without streams are closed, the others after their last (call_h2.c).
void moon_h2_conn_close_idle(struct moon_pool *pool);

/// The name has these addresses now: idle connections to others are closed.
void moon_pool_forget_addresses(struct moon_pool *pool, const struct moon_dns_answer *answer);

/// Takes an idle connection; NULL when there is none. The caller owns it.
///
/// @param introduced  the client that its PROXY header must name; 0: none
struct moon_uconn *moon_pool_take(struct moon_pool *pool, uint64_t introduced);

/// Starts a new connection. @return MOON_OK (taken by the caller), or why it failed at once
MUST_CHECK enum moon_rc moon_pool_connect(struct moon_pool *pool, const struct sockaddr *address,
                                          socklen_t address_len, struct moon_uconn **out);

/// Gives it back for reuse.
void moon_pool_keep(struct moon_uconn *conn);

/// Closes it.
void moon_uconn_free(struct moon_uconn *conn); // accepts NULL
