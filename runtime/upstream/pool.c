/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"
#include "base/log.h"
#include "upstream/probe.h"

enum { POOL_LOOK_AFTER_MS = 1000 }; // idle for so long: the socket is worth a look

static void pool_release(struct moon_pool *pool);

static void uconn_idle_readable(void *owner)
{
    // Nothing may come on an idle connection: it is the peer's close, or an answer to nothing.
    moon_uconn_free(owner);
}

static void uconn_idle_writable(void *owner)
{
    (void)owner;
}

static const struct moon_stream_events uconn_idle_events = {uconn_idle_readable,
                                                            uconn_idle_writable};

// Idle connections are newest first, so the oldest are at the end.
static void pool_sweep(struct moon_timer *timer)
{
    struct moon_pool *pool = timer->owner;
    int64_t now = moon_loop_now_ms(pool->upstreams->loop);
    while (!moon_list_is_empty(&pool->idle)) {
        struct moon_uconn *oldest = MOON_LIST_ENTRY(pool->idle.prev, struct moon_uconn, link);
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the successor is taken before the element is freed
        int64_t expires = oldest->idle_since_ms + pool->idle_timeout_ms;
        if (expires > now) {
            moon_timer_set_at(&pool->sweep, expires);
            return;
        }
        moon_uconn_free(oldest);
    }
}

// Closed by its peer, or answered out of turn. The loop knows where it saw that in this turn; who has
// been idle for long may have been left since the turn began, as most are closed for being idle.
static bool pool_is_stale(const struct moon_pool *pool, struct moon_uconn *conn)
{
    int64_t idle_ms = moon_loop_now_ms(pool->upstreams->loop) - conn->idle_since_ms;
    return moon_stream_is_due(conn->stream) ||
           (idle_ms >= POOL_LOOK_AFTER_MS && moon_stream_has_ended(conn->stream));
}

struct moon_uconn *moon_pool_take(struct moon_pool *pool, uint64_t introduced)
{
    MOON_LIST_EACH(at, after, &pool->idle)
    {
        struct moon_uconn *conn = MOON_LIST_ENTRY(at, struct moon_uconn, link);
        if (conn->introduced != introduced)
            continue; // it speaks for somebody else
        if (pool_is_stale(pool, conn)) {
            moon_uconn_free(conn);
            continue;
        }
        moon_list_remove(&conn->link);
        pool->idle_count--;
        pool->upstreams->reuses++;
        return conn;
    }
    bool is_full = pool->open_max > 0 && pool->open_count >= pool->open_max;
    if (is_full && !moon_list_is_empty(&pool->idle)) // the oldest gives up its place
        moon_uconn_free(MOON_LIST_ENTRY(pool->idle.prev, struct moon_uconn, link));
    return NULL;
}

enum moon_rc moon_pool_connect(struct moon_pool *pool, const struct sockaddr *address,
                               socklen_t address_len, struct moon_uconn **out)
{
    struct moon_uconn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL)
        return MOON_ERR_MEMORY;
    moon_list_init(&conn->link);
    moon_buf_init(&conn->in, MOON_UCONN_IN_BYTES);
    enum moon_rc rc =
        moon_stream_connect(pool->upstreams->loop, address, address_len, pool->tls,
                            pool->server_name, &uconn_idle_events, conn, &conn->stream);
    if (rc != MOON_OK) {
        free(conn);
        return rc;
    }
    conn->pool = pool;
    conn->made_at_ms = moon_loop_now_ms(pool->upstreams->loop);
    pool->open_count++;
    pool->users++; // a connection keeps its pool
    pool->upstreams->connects++;
    if (pool->health != NULL)
        moon_health_connected(pool->health);
    *out = conn;
    return MOON_OK;
}

bool moon_pool_is_full(const struct moon_pool *pool)
{
    return pool->waiting_count > 0 || (pool->open_max > 0 && pool->open_count >= pool->open_max);
}

void moon_pool_wait(struct moon_pool *pool, struct moon_waiter *waiter)
{
    moon_list_push_back(&pool->waiting, &waiter->link);
    pool->waiting_count++;
}

void moon_pool_stop_waiting(struct moon_pool *pool, struct moon_waiter *waiter)
{
    moon_list_remove(&waiter->link);
    pool->waiting_count--;
}

// At the end of the turn, so that whoever gave a connection back is done with it.
static void pool_wake(struct moon_task *task)
{
    struct moon_pool *pool = task->owner;
    for (size_t most = pool->waiting_count; most > 0 && pool->waiting_count > 0; most--) {
        size_t before = pool->waiting_count;
        bool has_room = pool->open_max == 0 || pool->open_count < pool->open_max;
        bool has_conn = !moon_list_is_empty(&pool->idle) || !moon_list_is_empty(&pool->h2);
        if (!has_conn && !has_room)
            return;
        struct moon_waiter *first = MOON_LIST_ENTRY(pool->waiting.next, struct moon_waiter, link);
        moon_pool_stop_waiting(pool, first);
        pool->users++;
        first->on_ready(first);
        if (pool->users == 1) {
            pool_release(pool);
            return;
        }
        pool->users--;
        if (pool->waiting_count >= before)
            return; // it took its place again: there is room for nobody
    }
}

void moon_pool_wake(struct moon_pool *pool)
{
    if (pool->waiting_count > 0)
        moon_task_post(pool->upstreams->loop, &pool->wake);
}

static bool pool_has_address(const struct moon_dns_answer *answer, const struct moon_ip *ip)
{
    for (size_t i = 0; i < answer->count; i++) {
        if (memcmp(answer->addresses[i].bytes, ip->bytes, sizeof(ip->bytes)) == 0)
            return true;
    }
    return false;
}

void moon_pool_forget_addresses(struct moon_pool *pool, const struct moon_dns_answer *answer)
{
    uint64_t set = answer->count;
    for (size_t i = 0; i < answer->count; i++) // whatever their order
        set += moon_hash(moon_slice((const char *)answer->addresses[i].bytes,
                                    sizeof(answer->addresses[i].bytes)));
    if (set == pool->addresses)
        return;
    pool->addresses = set;
    MOON_LIST_EACH(at, after, &pool->idle)
    {
        struct moon_uconn *conn = MOON_LIST_ENTRY(at, struct moon_uconn, link);
        if (conn->has_ip && !pool_has_address(answer, &conn->ip))
            moon_uconn_free(conn);
    }
}

void moon_pool_keep(struct moon_uconn *conn)
{
    struct moon_pool *pool = conn->pool;
    conn->call = NULL;
    int64_t now = moon_loop_now_ms(pool->upstreams->loop);
    bool is_old = (pool->calls_max > 0 && conn->calls >= pool->calls_max) ||
                  (pool->lifetime_ms > 0 && now - conn->made_at_ms >= pool->lifetime_ms);
    bool is_wanted = pool->idle_count < pool->idle_max || pool->waiting_count > 0;
    if (!is_wanted || is_old || moon_buf_len(&conn->in) > 0) {
        moon_uconn_free(conn);
        return;
    }
    moon_stream_set_owner(conn->stream, &uconn_idle_events, conn);
    moon_stream_pause_reading(conn->stream, false);
    moon_buf_relax(&conn->in);
    conn->idle_since_ms = now;
    moon_list_push_front(&pool->idle, &conn->link);
    pool->idle_count++;
    if (!moon_timer_is_running(&pool->sweep))
        moon_timer_set(&pool->sweep, pool->idle_timeout_ms);
    moon_pool_wake(pool);
}

static void pool_release(struct moon_pool *pool)
{
    if (--pool->users > 0)
        return;
    moon_timer_stop(&pool->sweep);
    moon_task_cancel(&pool->wake);
    moon_list_remove(&pool->link);
    moon_tls_client_release(pool->tls);
    free(pool->identity);
    free(pool->server_name);
    free(pool);
}

void moon_uconn_free(struct moon_uconn *conn)
{
    if (conn == NULL)
        return;
    struct moon_pool *pool = conn->pool;
    if (conn->link.next != &conn->link) {
        moon_list_remove(&conn->link);
        pool->idle_count--;
    }
    moon_stream_free(conn->stream);
    moon_buf_fini(&conn->in);
    if (pool->health != NULL)
        moon_health_disconnected(pool->health);
    pool->open_count--;
    free(conn);
    moon_pool_wake(pool);
    pool_release(pool);
}

static struct moon_pool *pool_find(struct moon_upstreams *upstreams, const char *identity)
{
    MOON_LIST_EACH(at, after, &upstreams->pools)
    {
        struct moon_pool *pool = MOON_LIST_ENTRY(at, struct moon_pool, link);
        if (strcmp(pool->identity, identity) == 0)
            return pool;
    }
    return NULL;
}

static enum moon_rc pool_tls_new(const struct moon_backend_conf *conf, char *error,
                                 size_t error_cap, struct moon_tls_client **out)
{
    const struct moon_backend_tls_conf *tls = &conf->tls;
    struct moon_tls_client_conf client = {
        .is_verified = tls->is_verified,
        .ca = tls->ca.len > 0 ? tls->ca.data : NULL,
        .certificate = tls->certificate.len > 0 ? tls->certificate.data : NULL,
        .key = tls->key.len > 0 ? tls->key.data : NULL,
        .server_name = tls->server_name.len > 0 ? tls->server_name.data : NULL,
        .is_http2 = conf->protocol != MOON_PROTOCOL_HTTP1,
        .minimum = moon_slice_is(tls->min_version, MOON_S("1.3")) ? "TLSv1.3" : NULL,
    };
    return moon_tls_client_new(&client, error, error_cap, out);
}

// The identity of a pool: target, protocol, PROXY header and every TLS setting that changes who is trusted.
static char *pool_identity(const struct moon_backend_conf *conf,
                           const struct moon_target_conf *target)
{
    const struct moon_backend_tls_conf *tls = &conf->tls;
    struct moon_buf text;
    moon_buf_init(&text, 65536);
    enum moon_rc rc = moon_buf_printf(
        &text, "%.*s|%d|%d|%d|%.*s|%.*s|%.*s|%.*s", MOON_SLICE_ARG(target->identity),
        (int)conf->protocol, conf->proxy_version, target->is_tls ? tls->is_verified : 0,
        MOON_SLICE_ARG(tls->ca), MOON_SLICE_ARG(tls->certificate), MOON_SLICE_ARG(tls->server_name),
        MOON_SLICE_ARG(tls->min_version));
    // NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): its length is 0 where it is NULL
    char *copy = rc == MOON_OK ? strndup(moon_buf_slice(&text).data, moon_buf_len(&text)) : NULL;
    moon_buf_fini(&text);
    return copy;
}

static enum moon_rc pool_new(struct moon_upstreams *upstreams, const struct moon_backend_conf *conf,
                             const struct moon_target_conf *target, char *identity, char *error,
                             size_t error_cap, struct moon_pool **out)
{
    struct moon_pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL)
        return MOON_ERR_MEMORY;
    if (target->is_tls) {
        enum moon_rc rc = pool_tls_new(conf, error, error_cap, &pool->tls);
        if (rc != MOON_OK) {
            free(pool);
            return rc;
        }
    }
    pool->upstreams = upstreams;
    pool->identity = identity;
    pool->server_name = strndup(target->host.data, target->host.len);
    pool->health = moon_health_get(upstreams->healths, target->identity);
    moon_list_init(&pool->idle);
    moon_list_init(&pool->waiting);
    moon_list_init(&pool->h2);
    moon_task_init(&pool->wake, pool_wake, pool);
    moon_timer_init(&pool->sweep, upstreams->loop, pool_sweep, pool);
    moon_list_push_back(&upstreams->pools, &pool->link);
    *out = pool;
    return MOON_OK;
}

enum moon_rc moon_pool_acquire(struct moon_upstreams *upstreams,
                               const struct moon_backend_conf *conf,
                               const struct moon_target_conf *target, char *error, size_t error_cap,
                               struct moon_pool **out)
{
    char *identity = pool_identity(conf, target);
    if (identity == NULL)
        return MOON_ERR_MEMORY;
    struct moon_pool *pool = pool_find(upstreams, identity);
    if (pool != NULL) {
        free(identity);
    } else {
        enum moon_rc rc = pool_new(upstreams, conf, target, identity, error, error_cap, &pool);
        if (rc != MOON_OK) {
            free(identity);
            return rc;
        }
    }
    pool->users++;
    pool->idle_max = conf->idle_connections;
    pool->idle_timeout_ms = conf->idle_timeout_ms;
    pool->open_max = conf->max_connections;
    pool->calls_max = conf->max_calls;
    pool->lifetime_ms = conf->lifetime_ms;
    *out = pool;
    return MOON_OK;
}

void moon_pool_leave(struct moon_pool *pool)
{
    if (pool->users == pool->open_count + 1) {
        // The last backend that uses it: what is idle will not be used again.
        pool->idle_max = 0;
        MOON_LIST_EACH(at, after, &pool->idle)
        moon_uconn_free(MOON_LIST_ENTRY(at, struct moon_uconn, link));
        moon_h2_conn_close_idle(pool);
    }
    pool_release(pool);
}

void moon_upstreams_init(struct moon_upstreams *upstreams, struct moon_loop *loop,
                         struct moon_dns *dns, struct moon_healths *healths)
{
    *upstreams = (struct moon_upstreams){.loop = loop, .dns = dns, .healths = healths};
    moon_list_init(&upstreams->pools);
    moon_list_init(&upstreams->groups);
    moon_list_init(&upstreams->probers);
    moon_timer_init(&upstreams->lease, loop, moon_probe_lease, upstreams);
    moon_list_init(&upstreams->tls_clients);
}

void moon_upstreams_fini(struct moon_upstreams *upstreams)
{
    moon_timer_stop(&upstreams->lease);
    if (!moon_list_is_empty(&upstreams->pools))
        moon_log_warn("upstream: connections are still in use at exit");
}
