/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The inside of upstream/redis*.c.

#include "base/arena.h"
#include "net/stream.h"
#include "upstream/redis.h"

struct redis_conn;
struct redisReader;

// ---- replies (redis_reply.c) -------------------------------------------------------------------

/// Replies in an arena: nothing is allocated in steady state.
struct redis_inbox {
    struct redisReader *reader;
    struct moon_arena arena; // of the reply being read
    size_t ceiling;
};

MUST_CHECK enum moon_rc redis_inbox_init(struct redis_inbox *inbox, size_t ceiling);
void redis_inbox_fini(struct redis_inbox *inbox);

/// @return MOON_OK, MOON_ERR_LIMIT, MOON_ERR_MEMORY
MUST_CHECK enum moon_rc redis_inbox_feed(struct redis_inbox *inbox, struct moon_slice bytes);

/// Takes the next whole reply; the one before is gone. @param reply lent: until the next call
/// @return MOON_OK, MOON_AGAIN, MOON_ERR_IO (is not RESP, or too large)
MUST_CHECK enum moon_rc redis_inbox_next(struct redis_inbox *inbox,
                                         const struct moon_redis_reply **reply);

// ---- commands (redis.c) ------------------------------------------------------------------------

enum { REDIS_REDIRECTS = 5 };

struct moon_redis_command {
    struct moon_list link; // of its connection: `waiting` or `sent`
    struct moon_redis *redis;
    struct redis_conn *conn;
    moon_redis_fn *callback; // NULL: answered, cancelled or late; the reply is dropped
    void *owner;
    char *bytes; // hiredis' memory
    size_t len;
    size_t rest; // of a script: where what follows the digest begins
    int argc;    // of a script
    struct moon_redis_script *script;
    int64_t deadline_ms;
    int slot; // of the Cluster; -1: none
    uint8_t redirects;
    bool is_asking;   // ASKING goes before it
    bool is_reloaded; // went out as EVAL after NOSCRIPT
    bool is_internal;
    bool is_waiting; // on its connection's list `waiting`, and counted there
    bool is_sent;
    bool is_unhurried; // nobody waits: MOON_REDIS_UNHURRIED
    bool is_late;      // past its deadline: `callback` only hears what came of it
};

/// Makes a command that is on no list yet. @return NULL when out of memory
struct moon_redis_command *redis_command_new(struct moon_redis *redis, int argc,
                                             const char *const *argv, const size_t *lens,
                                             moon_redis_fn *callback, void *owner);
void redis_command_free(struct moon_redis_command *command);

/// True for errors that say "not here, not now": the command was not carried out.
bool redis_is_unserved(const struct moon_redis_reply *reply);

/// What came of a command: redirects, script loads and the callback follow from it. Takes it.
void redis_command_done(struct moon_redis_command *command, enum moon_rc rc,
                        const struct moon_redis_reply *reply);

// ---- one connection (redis_conn.c) -------------------------------------------------------------

enum redis_state {
    REDIS_DOWN, // the backoff runs
    REDIS_RESOLVING,
    REDIS_CONNECTING, // TLS included
    REDIS_HANDSHAKE,  // AUTH, SELECT, ROLE
    REDIS_READY,
};

struct redis_conn_events {
    /// A connection has broken or could not be made; another follows by itself.
    void (*on_down)(void *owner, struct redis_conn *conn);
    /// Ready: commands flow.
    void (*on_ready)(void *owner, struct redis_conn *conn);
    /// A message that answers no command (SUBSCRIBE).
    void (*on_push)(void *owner, struct redis_conn *conn, const struct moon_redis_reply *reply);
};

struct redis_conn {
    struct moon_redis *redis;
    const struct redis_conn_events *events;
    struct moon_redis_address address;
    const char *user, *password;
    int database;
    bool is_master_wanted; // ROLE must say so (Sentinel)
    bool is_subscriber;    // replies after the handshake are pushes
    bool is_dead;          // freed inside a callback
    int busy;              // callbacks of ours on the stack
    enum redis_state state;
    struct moon_stream *stream;
    struct moon_dns_query *query;
    size_t next_address; // of the name's addresses
    struct moon_buf in;
    struct redis_inbox inbox;
    struct moon_list waiting; // not sent yet
    struct moon_list sent;    // in the order of their replies
    size_t waiting_count, sent_count;
    bool is_blocked;            // the stream took all it wants for now
    struct moon_timer deadline; // the earliest of the commands'
    struct moon_timer retry;    // connection: backoff, and the time it may take
    struct moon_timer probe;    // breaker
    struct moon_task flush;
    int64_t backoff_ms;
    uint32_t failures; // in a row
    bool is_open;      // breaker
    bool is_probing;
    uint32_t probe_failures; // in a row
    bool is_down_told;       // logged once
};

/// Starts connecting. @return NULL when out of memory
struct redis_conn *redis_conn_new(struct moon_redis *redis,
                                  const struct moon_redis_address *address,
                                  const struct redis_conn_events *events);
/// Commands under way are answered when `is_answered`. Accepts NULL.
void redis_conn_free(struct redis_conn *conn, bool is_answered);

/// Goes to another address at once (a new master).
void redis_conn_move(struct redis_conn *conn, const struct moon_redis_address *address);

/// Where the next attempt goes, while it is down; the backoff runs on.
void redis_conn_point(struct redis_conn *conn, const struct moon_redis_address *address);

/// Connects now when it is waiting to.
void redis_conn_wake(struct redis_conn *conn);

/// Takes a command, also on failure. @return MOON_AGAIN, or MOON_ERR_STORE: not taken
MUST_CHECK enum moon_rc redis_conn_send(struct redis_conn *conn,
                                        struct moon_redis_command *command);
bool redis_conn_takes(const struct redis_conn *conn);

// ---- who leads where (redis_sentinel.c, redis_cluster.c) ---------------------------------------

struct redis_sentinel;
struct redis_cluster;

struct moon_redis {
    struct moon_loop *loop;
    struct moon_dns *dns;
    struct moon_redis_conf conf;
    struct redis_conn *conn; // the one server, or the Sentinels' master; NULL with a Cluster
    struct redis_sentinel *sentinel;
    struct redis_cluster *cluster;
    struct moon_redis_stats stats;
    struct moon_redis_command *spare; // free commands, linked by link.next
    size_t spare_count;
    int conns; // that exist, plus one for the owner; the last one frees this
    bool is_dead;
};

/// One of `conns` is gone.
void redis_release(struct moon_redis *redis);

MUST_CHECK enum moon_rc redis_sentinel_new(struct moon_redis *redis, struct redis_sentinel **out);
void redis_sentinel_free(struct redis_sentinel *sentinel);

/// The master refused us or is gone: asks the Sentinels again.
void redis_sentinel_doubt(struct redis_sentinel *sentinel);

MUST_CHECK enum moon_rc redis_cluster_new(struct moon_redis *redis, struct redis_cluster **out);
void redis_cluster_free(struct redis_cluster *cluster);

/// Slot of a key, by its {tag} where it has one.
int redis_cluster_slot(struct moon_slice key);

/// @return the connection for a slot (-1: any), NULL when there is none
struct redis_conn *redis_cluster_conn(struct redis_cluster *cluster, int slot);
bool redis_cluster_is_up(const struct redis_cluster *cluster);

/// Reads "MOVED 3999 host:port" or "ASK ...". @return the node's connection, NULL when it is neither
struct redis_conn *redis_cluster_redirect(struct redis_cluster *cluster, struct moon_slice error,
                                          const struct redis_conn *from, bool *is_ask);
