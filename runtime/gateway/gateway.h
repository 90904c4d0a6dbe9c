/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A worker's gateway: the generation that new requests are served from, the listeners, and what
/// all exchanges share.
///
/// Thread: one worker.

#include "gateway/router.h"
#include "net/background.h"
#include "net/listener.h"
#include "script/script.h"

struct moon_access_log;

enum { MOON_GATEWAY_LISTENERS = 64 };

struct moon_sharing; // process/sharing.h

/// One loaded configuration, ready to serve. Counted: a request keeps the one it began with.
struct moon_generation {
    size_t users;
    uint32_t number;
    struct moon_script *script;
    const struct moon_plan *plan;
    struct moon_router *router;
    struct moon_backend **backends; // as in the plan, then its `disguises`; NULL: none
    size_t backend_count;
    struct moon_tls_server *tls[MOON_GATEWAY_LISTENERS]; // by listener; NULL: plain
    struct moon_sharing *sharing; // what it counts by, which its maker knows; NULL: nothing
    void (*on_free)(struct moon_generation *generation); // NULL: nobody asks
    struct moon_background *background; // frees it when its last user is gone; NULL: at once
    struct moon_job freeing;
};

/// Builds a generation off to the side; gives way (base/pace.h) where somebody waits.
/// @param error  text for people; heap; written on failure
MUST_CHECK enum moon_rc moon_generation_new(const struct moon_script_env *env,
                                            const struct moon_bundle *bundle, uint32_t number,
                                            struct moon_tls_tickets *tickets, char **error,
                                            struct moon_generation **out);
void moon_generation_acquire(struct moon_generation *generation);

/// The last one frees it, in the background where it has one. Accepts NULL.
void moon_generation_release(struct moon_generation *generation);

/// A listening socket that this worker accepts on.
struct moon_gateway_listener {
    struct moon_gateway *gateway;
    struct moon_acceptor *acceptor;
    int fd;    // -1: a free place
    int index; // in the plan; -1: the present generation has it no more
    bool is_management;
    char address[128];
};

/// Metrics that every exchange counts.
struct moon_gateway_metrics {
    int connections, active_connections, active_exchanges;
    int bytes_in, bytes_out, log_dropped;
    int policy_budget;
    int cache[8];        // by outcome (gateway/cache.h)
    int mirrors_dropped; // too many were under way
};

/// Why a connection was closed (gateway/admission.h).
enum moon_refusal {
    MOON_REFUSED_CONNECTIONS,
    MOON_REFUSED_ADDRESS,
    MOON_REFUSED_HANDSHAKES,
    MOON_REFUSED_PROXY_HEADER,
    MOON_REFUSED_HTTP2,
    MOON_REFUSAL_COUNT
};

/// Who was turned away since the last line about it, and how far behind the worker is.
struct moon_admission {
    uint64_t refused[MOON_REFUSAL_COUNT];
    struct moon_ip last_refused[MOON_REFUSAL_COUNT];
    int refused_series[MOON_REFUSAL_COUNT];
    int shed_series;
    uint64_t shed; // requests
    int64_t lag_us;
    int64_t longest_us[2]; // turn of the present ten seconds, and of those before
    int64_t longest_since_us;
    int turn_series;
    int64_t turned_at_us;
    uint32_t turn_requests; // begun in this turn of the loop
    bool is_turn_long;
    int64_t memory_bytes; // when limits.overload_memory_bytes is set
    bool is_memory_short;
    bool was_shedding;
};

struct moon_gateway {
    struct moon_script_env env;
    struct moon_generation *generation;
    struct moon_gateway_listener listeners[MOON_GATEWAY_LISTENERS];
    size_t listener_count;
    struct moon_access_log *access_log;
    struct moon_board *board;
    struct moon_tls_tickets *tickets;
    struct moon_gateway_metrics metrics;
    struct moon_admission admission;
    struct moon_list sessions; // all client connections
    struct moon_list proxied;  // connections whose PROXY header is awaited
    size_t session_count;
    struct moon_addresses *addresses;     // connections of each client address
    struct moon_session *current_session; // whose callback runs; NULL once it was freed there
    struct moon_list exchange_pool;
    size_t exchange_pool_count;
    struct moon_cache_state *cache_states; // unused ones
    size_t cache_state_count;
    struct moon_list renewals; // of the cache, in the background (cache_renew.c)
    size_t renewal_count;
    struct moon_list mirrors; // copies of requests under way (mirror.c)
    size_t mirror_count;
    uint64_t next_id;
    uint64_t id_salt;
    struct moon_errands errands; // of policies and mirrors
    bool is_draining;
    /// No session is left, and nothing is under way that was begun for one.
    void (*on_drained)(struct moon_gateway *gateway);
    /// Asks the supervisor to reload (management API). NULL where there is none.
    void (*request_reload)(struct moon_gateway *gateway);
    void *owner;
};

void moon_gateway_init(struct moon_gateway *gateway, const struct moon_script_env *env,
                       struct moon_board *board, struct moon_tls_tickets *tickets);

/// Ends everything at once.
void moon_gateway_fini(struct moon_gateway *gateway);

/// New requests are served from `generation` on. Takes the caller's reference.
void moon_gateway_flip(struct moon_gateway *gateway, struct moon_generation *generation);

/// Starts accepting on `fd` for listener `index` of the plan. The descriptor stays the caller's.
MUST_CHECK enum moon_rc moon_gateway_listen(struct moon_gateway *gateway, int index, int fd);

struct moon_gateway_socket {
    int fd;    // the caller's
    int index; // in the plan
};

/// After a flip: which socket is which listener of the new plan. Goes on accepting on descriptors
/// that it has, starts on new ones, and stops on those that are not named; connections that came in
/// on these end after their present request.
void moon_gateway_relisten(struct moon_gateway *gateway, const struct moon_gateway_socket *sockets,
                           size_t count);

/// Stops accepting; idle connections are closed, the others after their present request.
void moon_gateway_drain(struct moon_gateway *gateway);

/// A session is gone: tells `on_drained` where it was the last thing that is waited for.
void moon_gateway_settle(struct moon_gateway *gateway);

/// Says in the log what drain_timeout cuts off.
void moon_gateway_warn_undrained(const struct moon_gateway *gateway);

/// Accepts a connection that is there already (specs, socket hand-over). Takes `fd`.
void moon_gateway_accept(struct moon_gateway_listener *listener, int fd,
                         const struct sockaddr *peer);
