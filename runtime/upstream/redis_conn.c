/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "upstream/redis_internal.h"

#include <netinet/in.h>
#include <sys/un.h>

enum { REDIS_IOVECS = 64, REDIS_PROBES_MOST = 3, REDIS_BROKEN_BACKOFF_MS = 1000 };

static void conn_start(struct redis_conn *conn);
static void conn_fail(struct redis_conn *conn, const char *why);

// A connection is destroyed by the outermost conn_leave only, which the analyser does not see.
// NOLINTBEGIN(clang-analyzer-unix.Malloc)

// ---- callbacks may free us: these two frame everything that runs them ---------------------------

static void conn_destroy(struct redis_conn *conn)
{
    struct moon_redis *redis = conn->redis;
    redis_inbox_fini(&conn->inbox);
    moon_buf_fini(&conn->in);
    free(conn);
    redis_release(redis);
}

static void conn_enter(struct redis_conn *conn)
{
    conn->busy++;
}

static void conn_leave(struct redis_conn *conn)
{
    if (--conn->busy == 0 && conn->is_dead)
        conn_destroy(conn);
}

// ---- names in the log --------------------------------------------------------------------------

static const char *conn_name(const struct redis_conn *conn)
{
    static char text[MOON_REDIS_HOST_BYTES + 8];
    if (conn->address.port == 0)
        (void)snprintf(text, sizeof(text), "%s", conn->address.host);
    else
        (void)snprintf(text, sizeof(text), "%s:%u", conn->address.host, conn->address.port);
    return text;
}

// ---- breaker -----------------------------------------------------------------------------------

static void conn_answer_waiting(struct redis_conn *conn);

static void conn_failed_once(struct redis_conn *conn, const char *why)
{
    conn->failures++;
    if (conn->is_open || conn->failures < conn->redis->conf.breaker_failures)
        return;
    conn->is_open = true;
    conn->probe_failures = 0;
    conn->redis->stats.breaker_opens++;
    moon_timer_set(&conn->probe, conn->redis->conf.probe_ms);
    moon_log_warn("redis %s: %u failures in a row (%s): commands are refused until a probe passes",
                  conn_name(conn), conn->failures, why);
    conn_answer_waiting(conn);
}

static void conn_succeeded(struct redis_conn *conn)
{
    conn->failures = 0;
    if (!conn->is_open)
        return;
    conn->is_open = false;
    moon_timer_stop(&conn->probe);
    moon_log_info("redis %s: answers again", conn_name(conn));
}

static void conn_probed(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    struct redis_conn *conn = owner;
    conn->is_probing = false;
    if (rc == MOON_OK && reply->type != MOON_REDIS_ERROR) {
        conn->probe_failures = 0;
        conn_succeeded(conn);
    } else if (rc == MOON_ERR_TIMEOUT) {
        conn->probe_failures++;
    }
}

static bool conn_push_internal(struct redis_conn *conn, struct moon_list *list, int argc,
                               const char *const *argv, moon_redis_fn *callback,
                               int64_t deadline_ms);

static void conn_probe(struct moon_timer *timer)
{
    struct redis_conn *conn = timer->owner;
    moon_timer_set(timer, conn->redis->conf.probe_ms);
    if (conn->state != REDIS_READY || conn->is_probing)
        return; // a new connection's handshake is a probe too
    if (conn->probe_failures >= REDIS_PROBES_MOST) {
        conn_fail(conn, "does not answer; connecting anew");
        return;
    }
    static const char *const ping[] = {"PING"};
    conn->is_probing = conn_push_internal(conn, &conn->waiting, 1, ping, conn_probed,
                                          conn->redis->conf.deadline_ms);
    moon_task_post(conn->redis->loop, &conn->flush);
}

// ---- deadlines ---------------------------------------------------------------------------------

static void conn_watch_deadline(struct redis_conn *conn, int64_t deadline_ms)
{
    if (!moon_timer_is_running(&conn->deadline) || deadline_ms < conn->deadline.deadline_ms)
        moon_timer_set_at(&conn->deadline, deadline_ms);
}

// Answers what has waited too long for its reply; the place in the pipeline stays.
static void conn_expire_sent(struct redis_conn *conn, int64_t now_ms, int64_t *next_ms)
{
    const struct moon_stream *stream = conn->stream;
    MOON_LIST_EACH(link, after, &conn->sent)
    {
        struct moon_redis_command *c = MOON_LIST_ENTRY(link, struct moon_redis_command, link);
        if (c->callback == NULL || c->is_late)
            continue;
        if (c->deadline_ms > now_ms) {
            *next_ms = c->deadline_ms < *next_ms ? c->deadline_ms : *next_ms;
            continue;
        }
        moon_redis_fn *callback = c->callback;
        c->callback = NULL;
        conn->redis->stats.timeouts++;
        callback(c->owner, MOON_ERR_TIMEOUT, NULL);
        if (conn->is_dead || conn->stream != stream)
            return; // the list is gone
    }
}

static void conn_expire_waiting(struct redis_conn *conn, int64_t now_ms, int64_t *next_ms)
{
    struct moon_list late;
    moon_list_init(&late);
    MOON_LIST_EACH(link, after, &conn->waiting)
    {
        struct moon_redis_command *c = MOON_LIST_ENTRY(link, struct moon_redis_command, link);
        if (c->deadline_ms > now_ms) {
            *next_ms = c->deadline_ms < *next_ms ? c->deadline_ms : *next_ms;
            continue;
        }
        moon_list_remove(link);
        moon_list_push_back(&late, link);
        c->is_waiting = false;
        conn->waiting_count--;
    }
    while (!moon_list_is_empty(&late)) { // a callback may cancel, and so free, another one
        struct moon_redis_command *c = MOON_LIST_ENTRY(late.next, struct moon_redis_command, link);
        moon_list_remove(&c->link);
        conn->redis->stats.timeouts++;
        redis_command_done(c, MOON_ERR_STORE, NULL);
    }
}

static void conn_expire(struct moon_timer *timer)
{
    struct redis_conn *conn = timer->owner;
    int64_t now_ms = moon_loop_now_ms(conn->redis->loop), next_ms = INT64_MAX;
    uint64_t timeouts = conn->redis->stats.timeouts;
    conn_enter(conn);
    conn_expire_waiting(conn, now_ms, &next_ms);
    if (!conn->is_dead)
        conn_expire_sent(conn, now_ms, &next_ms);
    // However many commands were late together, it is one failure: a batch is one attempt.
    if (!conn->is_dead && conn->redis->stats.timeouts != timeouts)
        conn_failed_once(conn, "no answer before the deadline");
    if (!conn->is_dead && next_ms != INT64_MAX)
        conn_watch_deadline(conn, next_ms);
    conn_leave(conn);
}

// ---- sending -----------------------------------------------------------------------------------

static bool conn_push_internal(struct redis_conn *conn, struct moon_list *list, int argc,
                               const char *const *argv, moon_redis_fn *callback,
                               int64_t deadline_ms)
{
    struct moon_redis_command *c = redis_command_new(conn->redis, argc, argv, NULL, callback, conn);
    if (c == NULL)
        return false;
    c->is_internal = true;
    c->conn = conn;
    c->deadline_ms = moon_clock_ms() + deadline_ms;
    moon_list_push_back(list, &c->link);
    if (list == &conn->waiting) {
        c->is_waiting = true;
        conn->waiting_count++;
    }
    conn_watch_deadline(conn, c->deadline_ms);
    return true;
}

static void conn_move_sent(struct redis_conn *conn, struct moon_redis_command *c)
{
    moon_list_remove(&c->link);
    moon_list_push_back(&conn->sent, &c->link);
    conn->waiting_count -= c->is_waiting;
    c->is_waiting = false;
    c->is_sent = true;
    conn->sent_count++;
}

// ASKING takes a place in the pipeline of its own.
static bool conn_add_asking(struct redis_conn *conn, struct iovec *at)
{
    static char text[] = "*1\r\n$6\r\nASKING\r\n";
    static const char *const argv[] = {"ASKING"};
    if (!conn_push_internal(conn, &conn->sent, 1, argv, NULL, 0))
        return false;
    conn->sent_count++;
    *at = (struct iovec){.iov_base = text, .iov_len = sizeof(text) - 1};
    return true;
}

// Writes one batch. @return false when the connection is gone or takes no more
static bool conn_write_batch(struct redis_conn *conn, struct moon_list *from)
{
    struct iovec iov[REDIS_IOVECS];
    int n = 0;
    while (!moon_list_is_empty(from) && n + 2 <= REDIS_IOVECS) {
        struct moon_redis_command *c = MOON_LIST_ENTRY(from->next, struct moon_redis_command, link);
        if (c->is_asking) {
            if (!conn_add_asking(conn, &iov[n]))
                break;
            n++;
        }
        iov[n++] = (struct iovec){.iov_base = c->bytes, .iov_len = c->len};
        conn_move_sent(conn, c);
    }
    if (n == 0)
        return false;
    enum moon_rc rc = moon_stream_write(conn->stream, iov, n);
    if (rc == MOON_AGAIN) {
        conn->is_blocked = true;
        return false;
    }
    if (rc != MOON_OK) {
        conn_fail(conn, moon_rc_text(rc));
        return false;
    }
    return true;
}

static void conn_flush(struct moon_task *task)
{
    struct redis_conn *conn = task->owner;
    conn_enter(conn);
    while (!conn->is_dead && conn->state == REDIS_READY && !conn->is_blocked &&
           !moon_list_is_empty(&conn->waiting)) {
        if (!conn_write_batch(conn, &conn->waiting))
            break;
    }
    conn_leave(conn);
}

bool redis_conn_takes(const struct redis_conn *conn)
{
    bool is_known_down = conn->state == REDIS_DOWN && conn->is_down_told;
    return !conn->is_open && !conn->is_dead && !is_known_down &&
           conn->waiting_count + conn->sent_count < conn->redis->conf.queue_commands;
}

// The breaker spares whoever would wait in vain.
static bool conn_takes_unhurried(const struct redis_conn *conn)
{
    return conn->state == REDIS_READY && !conn->is_dead &&
           conn->waiting_count + conn->sent_count < conn->redis->conf.queue_commands;
}

enum moon_rc redis_conn_send(struct redis_conn *conn, struct moon_redis_command *command)
{
    if (!redis_conn_takes(conn) && !(command->is_unhurried && conn_takes_unhurried(conn))) {
        conn->redis->stats.refused++;
        return MOON_ERR_STORE;
    }
    command->conn = conn;
    command->is_sent = false;
    command->is_waiting = true;
    moon_list_push_back(&conn->waiting, &command->link);
    conn->waiting_count++;
    conn_watch_deadline(conn, command->deadline_ms);
    moon_task_post(conn->redis->loop, &conn->flush);
    return MOON_AGAIN;
}

// ---- receiving ---------------------------------------------------------------------------------

static void conn_take_reply(struct redis_conn *conn, const struct moon_redis_reply *reply)
{
    if (moon_list_is_empty(&conn->sent)) {
        if (conn->is_subscriber)
            conn->events->on_push(conn->redis, conn, reply);
        else
            conn_fail(conn, "sent a reply that nobody asked for");
        return;
    }
    struct moon_redis_command *c =
        MOON_LIST_ENTRY(conn->sent.next, struct moon_redis_command, link);
    moon_list_remove(&c->link);
    conn->sent_count--;
    conn->redis->stats.replies++;
    if (c->callback == NULL || c->is_late)
        conn->redis->stats.late_replies += !c->is_internal;
    if (c->callback == NULL) {
        redis_command_free(c);
    } else if (c->is_internal || c->is_late) {
        redis_command_done(c, MOON_OK, reply);
    } else if (redis_is_unserved(reply)) {
        redis_command_done(c, MOON_OK, reply);
        if (!conn->is_dead)
            conn_failed_once(conn, "is not ready to serve");
    } else {
        conn->failures = 0;
        redis_command_done(c, MOON_OK, reply);
    }
}

// Takes all whole replies. `stream` tells whether a callback has closed the connection.
static void conn_take_replies(struct redis_conn *conn, const struct moon_stream *stream)
{
    while (!conn->is_dead && conn->stream == stream && stream != NULL) {
        const struct moon_redis_reply *reply;
        enum moon_rc rc = redis_inbox_next(&conn->inbox, &reply);
        if (rc == MOON_AGAIN)
            return;
        if (rc != MOON_OK) {
            conn_fail(conn, "sent what is no RESP2, or too large a reply");
            return;
        }
        conn_take_reply(conn, reply);
    }
}

static void conn_connected(struct redis_conn *conn);

static void conn_readable(void *owner)
{
    struct redis_conn *conn = owner;
    if (conn->state == REDIS_CONNECTING) {
        conn_connected(conn);
        return;
    }
    conn_enter(conn);
    while (!conn->is_dead && conn->stream != NULL) {
        size_t n = 0;
        enum moon_rc rc = moon_stream_read(conn->stream, &conn->in, MOON_BUF_BLOCK_BYTES, &n);
        if (rc == MOON_AGAIN)
            break;
        if (rc == MOON_OK)
            rc = redis_inbox_feed(&conn->inbox, moon_buf_slice(&conn->in));
        if (rc != MOON_OK) {
            conn_fail(conn, moon_rc_text(rc));
            break;
        }
        moon_buf_clear(&conn->in);
        conn_take_replies(conn, conn->stream);
    }
    if (!conn->is_dead)
        moon_buf_relax(&conn->in);
    conn_leave(conn);
}

static void conn_writable(void *owner)
{
    struct redis_conn *conn = owner;
    if (conn->state == REDIS_CONNECTING) {
        conn_connected(conn);
        return;
    }
    conn->is_blocked = false;
    moon_task_post(conn->redis->loop, &conn->flush);
}

static const struct moon_stream_events conn_stream_events = {
    .on_readable = conn_readable,
    .on_writable = conn_writable,
};

// ---- handshake ---------------------------------------------------------------------------------

static void conn_ready(struct redis_conn *conn)
{
    conn->state = REDIS_READY;
    conn->backoff_ms = conn->redis->conf.backoff_ms;
    moon_timer_stop(&conn->retry);
    if (conn->is_down_told)
        moon_log_info("redis %s: connected", conn_name(conn));
    conn->is_down_told = false;
    conn_succeeded(conn);
    moon_task_post(conn->redis->loop, &conn->flush);
    if (conn->events->on_ready != NULL)
        conn->events->on_ready(conn->redis, conn);
}

// One reply of the handshake; PING's, the last, makes it ready.
static void conn_greeted(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    struct redis_conn *conn = owner;
    char why[160];
    if (conn->state != REDIS_HANDSHAKE)
        return;
    if (rc != MOON_OK) {
        conn_fail(conn, "does not answer the handshake");
    } else if (reply->type == MOON_REDIS_ERROR) {
        (void)snprintf(why, sizeof(why), "refuses us: " MOON_SLICE_FMT,
                       (int)moon_min_size(reply->text.len, 120), reply->text.data);
        conn_fail(conn, why);
    } else if (reply->type == MOON_REDIS_ARRAY && // ROLE
               (reply->count == 0 || !moon_slice_is(reply->elements[0]->text, MOON_S("master")))) {
        conn_fail(conn, "is not the master");
        if (conn->redis->sentinel != NULL)
            redis_sentinel_doubt(conn->redis->sentinel);
    } else if (moon_slice_is(reply->text, MOON_S("PONG"))) {
        conn_ready(conn);
    }
}

static bool conn_greet(struct redis_conn *conn, struct moon_list *greetings)
{
    const int64_t limit_ms = conn->redis->conf.connect_ms;
    char database[16];
    bool ok = true;
    if (conn->password != NULL && conn->password[0] != '\0') {
        const char *argv[] = {"AUTH", conn->user, conn->password};
        if (conn->user == NULL || conn->user[0] == '\0') {
            argv[1] = conn->password;
            ok = ok && conn_push_internal(conn, greetings, 2, argv, conn_greeted, limit_ms);
        } else {
            ok = ok && conn_push_internal(conn, greetings, 3, argv, conn_greeted, limit_ms);
        }
    }
    if (conn->database != 0) {
        (void)snprintf(database, sizeof(database), "%d", conn->database);
        const char *argv[] = {"SELECT", database};
        ok = ok && conn_push_internal(conn, greetings, 2, argv, conn_greeted, limit_ms);
    }
    if (conn->is_master_wanted) {
        static const char *const argv[] = {"ROLE"};
        ok = ok && conn_push_internal(conn, greetings, 1, argv, conn_greeted, limit_ms);
    }
    static const char *const argv[] = {"PING"};
    ok = ok && conn_push_internal(conn, greetings, 1, argv, conn_greeted, limit_ms);
    return ok;
}

// The stream has something to say about connecting.
static void conn_connected(struct redis_conn *conn)
{
    enum moon_rc rc = moon_stream_state(conn->stream);
    if (rc == MOON_AGAIN)
        return;
    if (rc != MOON_OK) {
        conn_fail(conn, moon_rc_text(rc));
        return;
    }
    conn->redis->stats.connects++;
    conn->state = REDIS_HANDSHAKE;
    conn->is_blocked = false;
    struct moon_list greetings;
    moon_list_init(&greetings);
    bool ok = conn_greet(conn, &greetings);
    conn_enter(conn);
    if (ok)
        (void)conn_write_batch(conn, &greetings);
    while (!moon_list_is_empty(&greetings)) {
        struct moon_redis_command *c =
            MOON_LIST_ENTRY(greetings.next, struct moon_redis_command, link);
        moon_list_remove(&c->link);
        redis_command_free(c);
    }
    if (!ok)
        conn_fail(conn, moon_rc_text(MOON_ERR_MEMORY));
    conn_leave(conn);
}

// ---- connecting --------------------------------------------------------------------------------

static void conn_close(struct redis_conn *conn)
{
    if (conn->query != NULL)
        moon_dns_cancel(conn->query);
    conn->query = NULL;
    if (conn->stream != NULL)
        conn->redis->stats.disconnects++;
    moon_stream_free(conn->stream);
    conn->stream = NULL;
    moon_buf_clear(&conn->in);
    conn->is_blocked = conn->is_probing = false;
    conn->state = REDIS_DOWN;
}

// Once the store has been freed by a callback, the rest goes without an answer.
static void conn_answer_list(struct redis_conn *conn, struct moon_list *list, enum moon_rc rc)
{
    while (!moon_list_is_empty(list)) {
        struct moon_redis_command *c = MOON_LIST_ENTRY(list->next, struct moon_redis_command, link);
        moon_list_remove(&c->link);
        if (conn->is_dead)
            redis_command_free(c);
        else
            redis_command_done(c, rc, NULL);
    }
}

static void conn_take_list(struct moon_list *into, struct moon_list *from, size_t *count)
{
    moon_list_init(into);
    while (!moon_list_is_empty(from)) {
        struct moon_list *link = from->next;
        moon_list_remove(link);
        moon_list_push_back(into, link);
        MOON_LIST_ENTRY(link, struct moon_redis_command, link)->is_waiting = false;
    }
    *count = 0;
}

static void conn_answer_waiting(struct redis_conn *conn)
{
    struct moon_list waiting;
    conn_take_list(&waiting, &conn->waiting, &conn->waiting_count);
    conn_answer_list(conn, &waiting, MOON_ERR_STORE);
}

static void conn_back_off(struct redis_conn *conn)
{
    const struct moon_redis_conf *conf = &conn->redis->conf;
    int64_t wait_ms =
        conn->backoff_ms / 2 + (int64_t)(moon_random_fast() % (uint64_t)(conn->backoff_ms + 1));
    conn->backoff_ms =
        conn->backoff_ms * 2 < conf->backoff_most_ms ? conn->backoff_ms * 2 : conf->backoff_most_ms;
    moon_timer_set(&conn->retry, wait_ms);
}

static void conn_fail(struct redis_conn *conn, const char *why)
{
    struct moon_list sent;
    conn_enter(conn);
    if (!conn->is_down_told && !conn->is_dead)
        moon_log_warn("redis %s: %s", conn_name(conn), why);
    conn->is_down_told = true;
    conn_close(conn);
    redis_inbox_fini(&conn->inbox);
    if (redis_inbox_init(&conn->inbox, conn->redis->conf.reply_bytes) != MOON_OK)
        moon_log_error("redis %s: out of memory", conn_name(conn));
    conn_back_off(conn);
    conn_take_list(&sent, &conn->sent, &conn->sent_count);
    conn_failed_once(conn, why);
    conn_answer_list(conn, &sent, MOON_ERR_IO); // MOON_ERR_TIMEOUT: its answer may still come
    conn_answer_waiting(conn);
    if (!conn->is_dead && conn->events->on_down != NULL)
        conn->events->on_down(conn->redis, conn);
    conn_leave(conn);
}

static socklen_t conn_sockaddr(const struct moon_ip *ip, uint16_t port,
                               struct sockaddr_storage *into)
{
    memset(into, 0, sizeof(*into));
    if (moon_ip_is_v4(ip)) {
        struct sockaddr_in *in = (struct sockaddr_in *)into;
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        memcpy(&in->sin_addr, ip->bytes + 12, 4);
        return sizeof(*in);
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)into;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    memcpy(&in6->sin6_addr, ip->bytes, 16);
    return sizeof(*in6);
}

static void conn_connect(struct redis_conn *conn, const struct sockaddr *address, socklen_t len)
{
    conn->state = REDIS_CONNECTING;
    enum moon_rc rc =
        moon_stream_connect(conn->redis->loop, address, len, conn->redis->conf.tls,
                            conn->address.host, &conn_stream_events, conn, &conn->stream);
    if (rc != MOON_OK) {
        conn->stream = NULL;
        conn_fail(conn, moon_rc_text(rc));
    }
}

static void conn_resolved(void *owner, const struct moon_dns_answer *answer)
{
    struct redis_conn *conn = owner;
    struct sockaddr_storage address;
    conn->query = NULL;
    if (answer->rc != MOON_OK || answer->count == 0) {
        conn_fail(conn, moon_rc_text(MOON_ERR_DNS));
        return;
    }
    const struct moon_ip *ip = &answer->addresses[conn->next_address++ % answer->count];
    socklen_t len = conn_sockaddr(ip, conn->address.port, &address);
    conn_connect(conn, (struct sockaddr *)&address, len);
}

static void conn_start_unix(struct redis_conn *conn)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!moon_slice_copy_text(moon_slice_text(conn->address.host), address.sun_path,
                              sizeof(address.sun_path))) {
        conn_fail(conn, "the socket's path is too long");
        return;
    }
    conn_connect(conn, (struct sockaddr *)&address, sizeof(address));
}

static void conn_start(struct redis_conn *conn)
{
    moon_timer_set(&conn->retry, conn->redis->conf.connect_ms);
    if (conn->address.port == 0) {
        conn_start_unix(conn);
        return;
    }
    conn->state = REDIS_RESOLVING;
    struct moon_dns_answer answer;
    enum moon_rc rc = moon_dns_resolve(conn->redis->dns, moon_slice_text(conn->address.host),
                                       conn_resolved, conn, &answer, &conn->query);
    if (rc == MOON_AGAIN)
        return;
    if (rc != MOON_OK)
        answer = (struct moon_dns_answer){.rc = rc};
    conn_resolved(conn, &answer);
}

// The backoff is over, or connecting has taken too long.
static void conn_retry(struct moon_timer *timer)
{
    struct redis_conn *conn = timer->owner;
    if (conn->state == REDIS_DOWN)
        conn_start(conn);
    else
        conn_fail(conn, "cannot be connected to in time");
}

struct redis_conn *redis_conn_new(struct moon_redis *redis,
                                  const struct moon_redis_address *address,
                                  const struct redis_conn_events *events)
{
    struct redis_conn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL)
        return NULL;
    if (redis_inbox_init(&conn->inbox, redis->conf.reply_bytes) != MOON_OK) {
        free(conn);
        return NULL;
    }
    conn->redis = redis;
    conn->events = events;
    conn->address = *address;
    conn->user = redis->conf.user;
    conn->password = redis->conf.password;
    conn->database = redis->conf.database;
    conn->backoff_ms = redis->conf.backoff_ms;
    redis->conns++;
    moon_list_init(&conn->waiting);
    moon_list_init(&conn->sent);
    moon_buf_init(&conn->in, 4 * MOON_BUF_BLOCK_BYTES);
    moon_timer_init(&conn->deadline, redis->loop, conn_expire, conn);
    moon_timer_init(&conn->retry, redis->loop, conn_retry, conn);
    moon_timer_init(&conn->probe, redis->loop, conn_probe, conn);
    moon_task_init(&conn->flush, conn_flush, conn);
    moon_timer_set(&conn->retry, 0);
    return conn;
}

void redis_conn_free(struct redis_conn *conn, bool is_answered)
{
    if (conn == NULL || conn->is_dead)
        return;
    struct moon_list all;
    conn->is_dead = true;
    conn_close(conn);
    moon_timer_stop(&conn->deadline);
    moon_timer_stop(&conn->retry);
    moon_timer_stop(&conn->probe);
    moon_task_cancel(&conn->flush);
    conn_enter(conn);
    for (int i = 0; i < 2; i++) {
        conn_take_list(&all, i == 0 ? &conn->sent : &conn->waiting,
                       i == 0 ? &conn->sent_count : &conn->waiting_count);
        while (!moon_list_is_empty(&all)) {
            struct moon_redis_command *c =
                MOON_LIST_ENTRY(all.next, struct moon_redis_command, link);
            moon_list_remove(&c->link);
            if (is_answered)
                redis_command_done(c, i == 0 ? MOON_ERR_IO : MOON_ERR_STORE, NULL);
            else
                redis_command_free(c);
        }
    }
    conn_leave(conn);
}

void redis_conn_move(struct redis_conn *conn, const struct moon_redis_address *address)
{
    bool is_same =
        conn->address.port == address->port && strcmp(conn->address.host, address->host) == 0;
    if (is_same) { // the backoff runs on: a dead master must not be tried without pause
        if (!moon_timer_is_running(&conn->retry))
            redis_conn_wake(conn);
        return;
    }
    conn->address = *address;
    conn->next_address = 0;
    if (conn->state != REDIS_DOWN)
        conn_fail(conn, "is not used any more: another one is");
    redis_conn_wake(conn);
}

void redis_conn_point(struct redis_conn *conn, const struct moon_redis_address *address)
{
    MOON_ASSERT(conn->state == REDIS_DOWN);
    conn->address = *address;
    conn->next_address = 0;
}

void redis_conn_wake(struct redis_conn *conn)
{
    if (conn->state != REDIS_DOWN || conn->is_dead)
        return;
    conn->backoff_ms = conn->redis->conf.backoff_ms;
    moon_timer_set(&conn->retry, 0);
}
// NOLINTEND(clang-analyzer-unix.Malloc)
