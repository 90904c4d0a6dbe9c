/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The shared store: commands to Redis over our own streams (TCP, TLS, UNIX), pipelined, each with a
/// deadline. hiredis formats commands and reads replies, nothing else. One server, a master that
/// Sentinels name, or a Cluster look alike from here.
///
/// Nobody waits past a deadline: a command that is late is answered with MOON_ERR_TIMEOUT, and its
/// reply, should it come, is dropped in its place in the pipeline. After some failures in a row the
/// breaker opens and commands are refused at once; a probe each second closes it again.
///
/// Thread: the worker that owns the loop.

#include "base/buf.h"
#include "net/dns.h"
#include "net/loop.h"
#include "net/tls.h"

struct moon_redis;
struct moon_redis_command;

enum moon_redis_kind { MOON_REDIS_SINGLE, MOON_REDIS_SENTINEL, MOON_REDIS_CLUSTER };

enum { MOON_REDIS_HOST_BYTES = 256, MOON_REDIS_ADDRESSES = 32 };

struct moon_redis_address {
    char host[MOON_REDIS_HOST_BYTES]; // name, address, or the path of a UNIX socket
    uint16_t port;                    // 0: UNIX socket
};

struct moon_redis_conf {
    enum moon_redis_kind kind;
    struct moon_redis_address addresses[MOON_REDIS_ADDRESSES]; // servers, Sentinels, or seeds
    size_t address_count;
    char user[128], password[512]; // empty: none
    int database;                  // 0 with a Cluster
    char master_name[128];         // Sentinel: which master
    char sentinel_user[128], sentinel_password[512];
    struct moon_tls_client *tls;         // NULL: plain. Counted: held while the moon_redis lives
    bool is_tls;                         // asked for by the URL; the caller then sets `tls`
    int64_t deadline_ms;                 // of a command that names none
    int64_t connect_ms;                  // for connection and handshake
    size_t queue_commands;               // sent or waiting, a connection
    size_t reply_bytes;                  // the longest reply taken
    uint32_t breaker_failures;           // in a row
    int64_t probe_ms;                    // while the breaker is open
    int64_t backoff_ms, backoff_most_ms; // between connections; doubled each time, with jitter
};

/// Fills in what holds where nothing is said: 25 ms, breaker after 5, a probe a second.
void moon_redis_conf_init(struct moon_redis_conf *conf);

/// Reads one URL into `conf`, on top of what is there; several, separated by commas, name Sentinels
/// or seeds: "redis://user:password@host:6379/2", "rediss://..." (TLS), "unix:/run/redis.sock?db=2",
/// "redis+sentinel://host:26379,host2/master-name/2", "redis+cluster://host:7000,host2:7001",
/// "rediss+sentinel://", "rediss+cluster://".
///
/// @param error  what is wrong; never holds the password
/// @return MOON_ERR_CONFIG
MUST_CHECK enum moon_rc moon_redis_conf_url(struct moon_redis_conf *conf, struct moon_slice url,
                                            char *error, size_t error_cap);

enum moon_redis_type {
    MOON_REDIS_STRING, // also a status
    MOON_REDIS_INTEGER,
    MOON_REDIS_ARRAY,
    MOON_REDIS_NIL,
    MOON_REDIS_ERROR, // text in `text`
};

struct moon_redis_reply {
    enum moon_redis_type type;
    struct moon_slice text;
    int64_t integer;
    struct moon_redis_reply **elements;
    size_t count;
};

/// An integer, also one that came as text. @return false when it is none
bool moon_redis_integer(const struct moon_redis_reply *reply, int64_t *out);

/// @param rc     MOON_OK: `reply` is there (it may be an error of the command's own);
///               MOON_ERR_STORE: certainly not carried out (not sent, or the server was not ready);
///               MOON_ERR_TIMEOUT, MOON_ERR_IO: sent, outcome unknown
/// @param reply  lent: until the callback returns
typedef void moon_redis_fn(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply);

/// Connects in the background, and for ever. @return NULL when out of memory
struct moon_redis *moon_redis_new(struct moon_loop *loop, struct moon_dns *dns,
                                  const struct moon_redis_conf *conf);

/// Accepts NULL. Commands under way are not called back. May be called from a callback.
void moon_redis_free(struct moon_redis *redis);

enum { MOON_REDIS_UNHURRIED = -1 };

/// Starts a command. What is started in one turn of the loop goes out in one write.
///
/// @param argv, lens   borrowed
/// @param key          which of argv is the key, for a Cluster; 0: none
/// @param deadline_ms  0: the configuration's. MOON_REDIS_UNHURRIED: the same, and nobody waits: goes out to a
///                     store that is late as well
/// @param command      for moon_redis_cancel; may be NULL
/// @return MOON_AGAIN (`callback` runs later, once), MOON_ERR_STORE (the breaker is open or the
///         queue full), MOON_ERR_MEMORY
MUST_CHECK enum moon_rc moon_redis_command(struct moon_redis *redis, int argc,
                                           const char *const *argv, const size_t *lens, int key,
                                           int64_t deadline_ms, moon_redis_fn *callback,
                                           void *owner, struct moon_redis_command **command);

/// A script of the server's. Lies in static memory; its digest is learnt from the server.
struct moon_redis_script {
    const char *body;
    char sha[41]; // empty: not known yet
    bool is_asked;
};

/// Runs a script with one key: EVALSHA; a server that does not know it gets the text, once.
/// @param argv  the arguments after the key
MUST_CHECK enum moon_rc moon_redis_eval(struct moon_redis *redis, struct moon_redis_script *script,
                                        struct moon_slice key, int argc, const char *const *argv,
                                        const size_t *lens, int64_t deadline_ms,
                                        moon_redis_fn *callback, void *owner,
                                        struct moon_redis_command **command);

/// The callback will not be called; a reply is dropped in its place. Not from inside the callback.
void moon_redis_cancel(struct moon_redis_command *command);

/// For a callback that is told MOON_ERR_TIMEOUT: the command is on its way all the same, and what comes of it
/// is told to `callback`, once: the reply, an error's too, or MOON_ERR_... when the connection ends before.
/// moon_redis_cancel still ends it.
void moon_redis_hear_late(struct moon_redis_command *command, moon_redis_fn *callback, void *owner);

/// Would a command be taken now? (For a Cluster: by any of its nodes.)
bool moon_redis_is_up(const struct moon_redis *redis);

struct moon_redis_stats {
    uint64_t commands, replies;
    uint64_t timeouts, late_replies; // late: dropped in their place
    uint64_t refused;                // breaker open or queue full
    uint64_t connects, disconnects, breaker_opens;
    uint64_t redirects, reloads; // MOVED and ASK; NOSCRIPT
};

const struct moon_redis_stats *moon_redis_stats(const struct moon_redis *redis);
