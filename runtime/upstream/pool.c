/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/upstream.h"

#include "base/log.h"

enum { UCONN_IN_BYTES = 65536 + 16384 };

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
        int64_t expires = oldest->idle_since_ms + pool->idle_timeout_ms;
        if (expires > now) {
            moon_timer_set_at(&pool->sweep, expires);
            return;
        }
        moon_uconn_free(oldest);
    }
}

struct moon_uconn *moon_pool_take(struct moon_pool *pool)
{
    if (moon_list_is_empty(&pool->idle))
        return NULL;
    struct moon_uconn *conn = MOON_LIST_ENTRY(pool->idle.next, struct moon_uconn, link);
    moon_list_remove(&conn->link);
    pool->idle_count--;
    pool->upstreams->reuses++;
    return conn;
}

enum moon_rc moon_pool_connect(struct moon_pool *pool, const struct sockaddr *address,
                               socklen_t address_len, struct moon_uconn **out)
{
    struct moon_uconn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL)
        return MOON_ERR_MEMORY;
    moon_list_init(&conn->link);
    moon_buf_init(&conn->in, UCONN_IN_BYTES);
    enum moon_rc rc =
        moon_stream_connect(pool->upstreams->loop, address, address_len, pool->tls,
                            pool->server_name, &uconn_idle_events, conn, &conn->stream);
    if (rc != MOON_OK) {
        free(conn);
        return rc;
    }
    conn->pool = pool;
    pool->open_count++;
    pool->users++; // a connection keeps its pool
    pool->upstreams->connects++;
    if (pool->health != NULL)
        atomic_fetch_add_explicit(&pool->health->connections, 1, memory_order_relaxed);
    *out = conn;
    return MOON_OK;
}

void moon_pool_keep(struct moon_uconn *conn)
{
    struct moon_pool *pool = conn->pool;
    conn->call = NULL;
    if (pool->idle_count >= pool->idle_max || moon_buf_len(&conn->in) > 0) {
        moon_uconn_free(conn);
        return;
    }
    moon_stream_set_owner(conn->stream, &uconn_idle_events, conn);
    moon_stream_pause_reading(conn->stream, false);
    moon_buf_relax(&conn->in);
    conn->idle_since_ms = moon_loop_now_ms(pool->upstreams->loop);
    moon_list_push_front(&pool->idle, &conn->link);
    pool->idle_count++;
    if (!moon_timer_is_running(&pool->sweep))
        moon_timer_set(&pool->sweep, pool->idle_timeout_ms);
}

static void pool_release(struct moon_pool *pool)
{
    if (--pool->users > 0)
        return;
    moon_timer_stop(&pool->sweep);
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
        atomic_fetch_sub_explicit(&pool->health->connections, 1, memory_order_relaxed);
    pool->open_count--;
    free(conn);
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
    };
    return moon_tls_client_new(&client, error, error_cap, out);
}

// The identity of a pool: target, protocol and every TLS setting that changes who is trusted.
static char *pool_identity(const struct moon_backend_conf *conf,
                           const struct moon_target_conf *target)
{
    const struct moon_backend_tls_conf *tls = &conf->tls;
    struct moon_buf text;
    moon_buf_init(&text, 65536);
    enum moon_rc rc = moon_buf_printf(
        &text, "%.*s|%d|%d|%.*s|%.*s|%.*s", MOON_SLICE_ARG(target->identity), (int)conf->protocol,
        target->is_tls ? tls->is_verified : 0, MOON_SLICE_ARG(tls->ca),
        MOON_SLICE_ARG(tls->certificate), MOON_SLICE_ARG(tls->server_name));
    char *copy =
        rc == MOON_OK ? strndup(moon_buf_slice(&text).data, moon_buf_len(&text)) : NULL;
    moon_buf_fini(&text);
    return copy;
}

static enum moon_rc pool_new(struct moon_upstreams *upstreams,
                             const struct moon_backend_conf *conf,
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
    moon_timer_init(&pool->sweep, upstreams->loop, pool_sweep, pool);
    moon_list_push_back(&upstreams->pools, &pool->link);
    *out = pool;
    return MOON_OK;
}

static enum moon_rc pool_acquire(struct moon_upstreams *upstreams,
                                 const struct moon_backend_conf *conf,
                                 const struct moon_target_conf *target, char *error,
                                 size_t error_cap, struct moon_pool **out)
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
    *out = pool;
    return MOON_OK;
}

static enum moon_rc backend_add_target(struct moon_backend *backend,
                                       const struct moon_target_conf *conf, char *error,
                                       size_t error_cap)
{
    struct moon_target *target = &backend->targets[backend->target_count];
    enum moon_rc rc = pool_acquire(backend->upstreams, backend->conf, conf, error, error_cap,
                                   &target->pool);
    if (rc != MOON_OK)
        return rc;
    target->conf = conf;
    target->is_unix = moon_slice_starts(conf->host, MOON_S("unix:"));
    target->is_literal = !target->is_unix && moon_ip_parse(conf->host, &target->ip);
    backend->target_count++;
    return MOON_OK;
}

enum moon_rc moon_backend_new(struct moon_upstreams *upstreams,
                              const struct moon_backend_conf *conf, char *error, size_t error_cap,
                              struct moon_backend **out)
{
    struct moon_backend *backend = calloc(1, sizeof(*backend));
    if (backend == NULL)
        return MOON_ERR_MEMORY;
    backend->conf = conf;
    backend->upstreams = upstreams;
    enum moon_rc rc = MOON_ERR_MEMORY;
    backend->targets = calloc(conf->target_count + 1, sizeof(*backend->targets));
    if (backend->targets == NULL)
        goto fail;
    for (size_t i = 0; i < conf->target_count; i++) {
        rc = backend_add_target(backend, &conf->targets[i], error, error_cap);
        if (rc != MOON_OK)
            goto fail;
    }
    *out = backend;
    return MOON_OK;
fail:
    moon_backend_free(backend);
    return rc;
}

void moon_backend_free(struct moon_backend *backend)
{
    if (backend == NULL)
        return;
    for (size_t i = 0; i < backend->target_count; i++) {
        struct moon_pool *pool = backend->targets[i].pool;
        if (pool->users == pool->open_count + 1) {
            // The last backend that uses it: what is idle will not be used again.
            pool->idle_max = 0;
            MOON_LIST_EACH(at, after, &pool->idle)
            moon_uconn_free(MOON_LIST_ENTRY(at, struct moon_uconn, link));
        }
        pool_release(pool);
    }
    free(backend->targets);
    free(backend);
}

void moon_upstreams_init(struct moon_upstreams *upstreams, struct moon_loop *loop,
                         struct moon_dns *dns, struct moon_healths *healths)
{
    *upstreams = (struct moon_upstreams){.loop = loop, .dns = dns, .healths = healths};
    moon_list_init(&upstreams->pools);
    moon_list_init(&upstreams->tls_clients);
}

void moon_upstreams_fini(struct moon_upstreams *upstreams)
{
    if (!moon_list_is_empty(&upstreams->pools))
        moon_log_warn("upstream: connections are still in use at exit");
}
