/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/log.h"
#include "upstream/redis_internal.h"

#include <hiredis/hiredis.h>

enum { REDIS_SPARE_COMMANDS = 256, REDIS_ARGUMENTS = 64 };

// ---- commands ----------------------------------------------------------------------------------

struct moon_redis_command *redis_command_new(struct moon_redis *redis, int argc,
                                             const char *const *argv, const size_t *lens,
                                             moon_redis_fn *callback, void *owner)
{
    struct moon_redis_command *c = redis->spare;
    if (c != NULL) {
        redis->spare = (struct moon_redis_command *)(void *)c->link.next;
        redis->spare_count--;
    } else if ((c = malloc(sizeof(*c))) == NULL) {
        return NULL;
    }
    *c = (struct moon_redis_command){
        .redis = redis, .callback = callback, .owner = owner, .slot = -1};
    moon_list_init(&c->link);
    // hiredis 0.14 declares argv without const on its elements, and does not write to them
    int len = redisFormatCommandArgv(&c->bytes, argc, (const char **)(uintptr_t)argv, lens);
    if (len < 0) {
        free(c);
        return NULL;
    }
    c->len = (size_t)len;
    return c;
}

void redis_command_free(struct moon_redis_command *c)
{
    struct moon_redis *redis = c->redis;
    free(c->bytes);
    c->bytes = NULL;
    if (MOON_ASAN || redis->is_dead || redis->spare_count >= REDIS_SPARE_COMMANDS) {
        free(c);
        return;
    }
    c->link.next = (struct moon_list *)(void *)redis->spare;
    redis->spare = c;
    redis->spare_count++;
}

static void command_answer(struct moon_redis_command *c, enum moon_rc rc,
                           const struct moon_redis_reply *reply)
{
    moon_redis_fn *callback = c->callback;
    void *owner = c->owner;
    redis_command_free(c);
    if (callback != NULL)
        callback(owner, rc, reply);
}

// Sends again somewhere; what cannot be sent is answered.
static void command_again(struct moon_redis_command *c, struct redis_conn *conn)
{
    if (conn == NULL || redis_conn_send(conn, c) != MOON_AGAIN)
        command_answer(c, MOON_ERR_STORE, NULL);
}

// "*N $7 EVALSHA $40 <digest> rest" becomes "*N $4 EVAL $n <text> rest".
static bool command_reload(struct moon_redis_command *c)
{
    char head[64];
    size_t body = strlen(c->script->body), tail = c->len - c->rest;
    int n = snprintf(head, sizeof(head), "*%d\r\n$4\r\nEVAL\r\n$%zu\r\n", c->argc, body);
    char *bytes = malloc((size_t)n + body + 2 + tail);
    if (bytes == NULL)
        return false;
    memcpy(bytes, head, (size_t)n);
    memcpy(bytes + n, c->script->body, body);
    memcpy(bytes + (size_t)n + body, "\r\n", 2);
    memcpy(bytes + (size_t)n + body + 2, c->bytes + c->rest, tail);
    free(c->bytes);
    c->bytes = bytes;
    c->len = (size_t)n + body + 2 + tail;
    c->is_reloaded = true;
    c->redis->stats.reloads++;
    return true;
}

bool redis_is_unserved(const struct moon_redis_reply *reply)
{
    static const char *const words[] = {"LOADING ",     "MASTERDOWN ", "READONLY ",
                                        "CLUSTERDOWN ", "TRYAGAIN ",   "NOREPLICAS "};
    if (reply->type != MOON_REDIS_ERROR)
        return false;
    for (size_t i = 0; i < MOON_COUNT(words); i++) {
        if (moon_slice_starts(reply->text, moon_slice_text(words[i])))
            return true;
    }
    return false;
}

// @return true when the command went on its way again
static bool command_follow(struct moon_redis_command *c, struct moon_slice error)
{
    struct moon_redis *redis = c->redis;
    if (c->script != NULL && !c->is_reloaded && moon_slice_starts(error, MOON_S("NOSCRIPT"))) {
        if (!command_reload(c))
            return false;
        command_again(c, c->conn);
        return true;
    }
    if (redis->cluster == NULL || c->is_internal || c->redirects >= REDIS_REDIRECTS)
        return false;
    bool is_ask = false;
    struct redis_conn *conn = redis_cluster_redirect(redis->cluster, error, c->conn, &is_ask);
    if (conn == NULL)
        return false;
    c->redirects++;
    c->is_asking = is_ask;
    redis->stats.redirects++;
    command_again(c, conn);
    return true;
}

void redis_command_done(struct moon_redis_command *c, enum moon_rc rc,
                        const struct moon_redis_reply *reply)
{
    if (rc == MOON_OK && reply->type == MOON_REDIS_ERROR && c->callback != NULL && !c->is_late) {
        if (command_follow(c, reply->text))
            return;
        if (!c->is_internal && redis_is_unserved(reply)) {
            if (c->redis->sentinel != NULL)
                redis_sentinel_doubt(c->redis->sentinel);
            moon_log_debug("redis: not served: " MOON_SLICE_FMT, MOON_SLICE_ARG(reply->text));
            rc = MOON_ERR_STORE;
        }
    }
    command_answer(c, rc, rc == MOON_OK ? reply : NULL);
}

void moon_redis_hear_late(struct moon_redis_command *command, moon_redis_fn *callback, void *owner)
{
    MOON_ASSERT(command->is_sent && command->callback == NULL);
    command->callback = callback;
    command->owner = owner;
    command->is_late = true;
}

void moon_redis_cancel(struct moon_redis_command *c)
{
    c->callback = NULL;
    if (c->is_sent)
        return; // its reply is dropped in its place
    if (c->is_waiting)
        c->conn->waiting_count--;
    moon_list_remove(&c->link);
    redis_command_free(c);
}

// ---- the store ---------------------------------------------------------------------------------

static void redis_on_down(void *owner, struct redis_conn *conn)
{
    struct moon_redis *redis = owner;
    (void)conn;
    if (redis->sentinel != NULL)
        redis_sentinel_doubt(redis->sentinel);
}

static const struct redis_conn_events redis_events = {.on_down = redis_on_down};

static enum moon_rc redis_start(struct moon_redis *redis)
{
    if (redis->conf.kind == MOON_REDIS_CLUSTER)
        return redis_cluster_new(redis, &redis->cluster);
    redis->conn = redis_conn_new(redis, &redis->conf.addresses[0], &redis_events);
    if (redis->conn == NULL)
        return MOON_ERR_MEMORY;
    if (redis->conf.kind == MOON_REDIS_SINGLE)
        return MOON_OK;
    redis->conn->is_master_wanted = true;
    moon_timer_stop(&redis->conn->retry); // until a Sentinel has named the master
    return redis_sentinel_new(redis, &redis->sentinel);
}

struct moon_redis *moon_redis_new(struct moon_loop *loop, struct moon_dns *dns,
                                  const struct moon_redis_conf *conf)
{
    MOON_ASSERT(conf->address_count > 0);
    struct moon_redis *redis = calloc(1, sizeof(*redis));
    if (redis == NULL)
        return NULL;
    redis->loop = loop;
    redis->dns = dns;
    redis->conf = *conf;
    redis->conns = 1; // ours
    if (conf->tls != NULL)
        moon_tls_client_acquire(conf->tls);
    if (redis_start(redis) != MOON_OK) {
        moon_redis_free(redis);
        return NULL;
    }
    return redis;
}

void redis_release(struct moon_redis *redis)
{
    if (--redis->conns > 0)
        return;
    while (redis->spare != NULL) {
        struct moon_redis_command *c = redis->spare;
        redis->spare = (struct moon_redis_command *)(void *)c->link.next;
        free(c);
    }
    if (redis->conf.tls != NULL)
        moon_tls_client_release(redis->conf.tls);
    free(redis);
}

void moon_redis_free(struct moon_redis *redis)
{
    if (redis == NULL || redis->is_dead)
        return;
    redis->is_dead = true;
    redis_sentinel_free(redis->sentinel);
    redis->sentinel = NULL;
    redis_cluster_free(redis->cluster);
    redis->cluster = NULL;
    redis_conn_free(redis->conn, false);
    redis->conn = NULL;
    redis_release(redis);
}

static enum moon_rc redis_dispatch(struct moon_redis *redis, struct moon_redis_command *c,
                                   int64_t deadline_ms, struct moon_redis_command **command)
{
    struct redis_conn *conn =
        redis->cluster != NULL ? redis_cluster_conn(redis->cluster, c->slot) : redis->conn;
    // From now, not from the start of this turn: what the turn has done so far is not Redis' fault.
    c->is_unhurried = deadline_ms == MOON_REDIS_UNHURRIED;
    c->deadline_ms = moon_clock_ms() + (deadline_ms > 0 ? deadline_ms : redis->conf.deadline_ms);
    enum moon_rc rc = conn == NULL ? MOON_ERR_STORE : redis_conn_send(conn, c);
    if (rc != MOON_AGAIN) {
        redis_command_free(c);
        return rc;
    }
    redis->stats.commands++;
    if (command != NULL)
        *command = c;
    return rc;
}

enum moon_rc moon_redis_command(struct moon_redis *redis, int argc, const char *const *argv,
                                const size_t *lens, int key, int64_t deadline_ms,
                                moon_redis_fn *callback, void *owner,
                                struct moon_redis_command **command)
{
    MOON_ASSERT(!redis->is_dead && callback != NULL);
    struct moon_redis_command *c = redis_command_new(redis, argc, argv, lens, callback, owner);
    if (c == NULL)
        return MOON_ERR_MEMORY;
    if (redis->cluster != NULL && key > 0 && key < argc)
        c->slot =
            redis_cluster_slot(moon_slice(argv[key], lens == NULL ? strlen(argv[key]) : lens[key]));
    return redis_dispatch(redis, c, deadline_ms, command);
}

// ---- scripts -----------------------------------------------------------------------------------

static void script_learnt(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    struct moon_redis_script *script = owner;
    script->is_asked = false;
    if (rc == MOON_OK && reply->type == MOON_REDIS_STRING && reply->text.len == 40)
        memcpy(script->sha, reply->text.data, 40); // its last byte is NUL from the start
}

static void script_ask(struct moon_redis *redis, struct moon_redis_script *script)
{
    const char *argv[] = {"SCRIPT", "LOAD", script->body};
    const size_t lens[] = {6, 4, strlen(script->body)};
    script->is_asked = true;
    if (moon_redis_command(redis, 3, argv, lens, 0, 1000, script_learnt, script, NULL) !=
        MOON_AGAIN)
        script->is_asked = false;
}

enum moon_rc moon_redis_eval(struct moon_redis *redis, struct moon_redis_script *script,
                             struct moon_slice key, int argc, const char *const *argv,
                             const size_t *lens, int64_t deadline_ms, moon_redis_fn *callback,
                             void *owner, struct moon_redis_command **command)
{
    MOON_ASSERT(argc >= 0 && argc + 4 <= REDIS_ARGUMENTS && !redis->is_dead);
    bool is_known = script->sha[0] != '\0';
    const char *all[REDIS_ARGUMENTS] = {is_known ? "EVALSHA" : "EVAL",
                                        is_known ? script->sha : script->body, "1", key.data};
    size_t all_lens[REDIS_ARGUMENTS] = {strlen(all[0]), strlen(all[1]), 1, key.len};
    for (int i = 0; i < argc; i++) {
        all[4 + i] = argv[i];
        all_lens[4 + i] = lens[i];
    }
    struct moon_redis_command *c =
        redis_command_new(redis, argc + 4, all, all_lens, callback, owner);
    if (c == NULL)
        return MOON_ERR_MEMORY;
    if (is_known) {
        char head[32];
        c->script = script;
        c->argc = argc + 4;
        c->rest = (size_t)snprintf(head, sizeof(head), "*%d\r\n", c->argc) +
                  sizeof("$7\r\nEVALSHA\r\n$40\r\n") - 1 + 40 + 2;
    }
    if (redis->cluster != NULL)
        c->slot = redis_cluster_slot(key);
    enum moon_rc rc = redis_dispatch(redis, c, deadline_ms, command);
    if (rc == MOON_AGAIN && !is_known && !script->is_asked)
        script_ask(redis, script);
    return rc;
}

bool moon_redis_is_up(const struct moon_redis *redis)
{
    if (redis->cluster != NULL)
        return redis_cluster_is_up(redis->cluster);
    return redis->conn != NULL && redis_conn_takes(redis->conn);
}

const struct moon_redis_stats *moon_redis_stats(const struct moon_redis *redis)
{
    return &redis->stats;
}
