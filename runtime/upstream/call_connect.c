/* SPDX-License-Identifier: Apache-2.0 */

/// From a target to a connection: an idle one, a place in the queue, or a new one. A name with
/// several addresses has them tried in turns, the next beginning while the one before is still
/// silent (RFC 8305), and the first that stands is taken.

#include "base/clock.h"
#include "base/hash.h"
#include "upstream/call_internal.h"

#include <netinet/in.h>
#include <sys/un.h>

enum {
    DIAL_ADDRESSES = 8,
    DIAL_STAGGER_MS = 250,
};

struct dial_try {
    struct call_dial *dial;
    struct moon_uconn *conn; // NULL: not begun, or failed
};

struct call_dial {
    struct moon_call *call;
    struct moon_ip addresses[DIAL_ADDRESSES];
    struct dial_try tries[DIAL_ADDRESSES];
    size_t count, next, pending;
    struct moon_timer stagger;
    enum moon_rc rc; // of the last that failed
};

static bool connect_is_h2(const struct moon_call *call)
{
    const struct moon_pool *pool = call->target->pool;
    enum moon_protocol protocol = call->backend->conf->protocol;
    if (call->is_upgrade_asked || protocol == MOON_PROTOCOL_HTTP1)
        return false;
    return protocol == MOON_PROTOCOL_H2 || (call->target->conf->is_tls && !pool->is_h1_only);
}

// The one that others wait for makes it, or has failed to.
static void connect_leader_done(struct moon_call *call)
{
    if (!call->is_h2_leader)
        return;
    call->is_h2_leader = false;
    call->target->pool->is_h2_connecting = false;
    moon_pool_wake(call->target->pool);
}

// What the peer agreed to speak; in clear HTTP/2 is known beforehand.
static enum moon_rc connect_transport(struct moon_call *call)
{
    struct moon_uconn *conn = call->conn;
    const struct moon_tls_info *tls = moon_stream_tls(conn->stream);
    bool is_h2 = tls != NULL && moon_slice_is(tls->alpn, MOON_S("h2"));
    if (tls == NULL)
        is_h2 = call->backend->conf->protocol == MOON_PROTOCOL_H2 && !call->is_upgrade_asked;
    else if (!is_h2)
        call->target->pool->is_h1_only = true;
    if (!is_h2) {
        if (tls != NULL && call->backend->conf->protocol == MOON_PROTOCOL_H2)
            return MOON_ERR_UPSTREAM_PROTOCOL;
        call_h1_bind(call, conn);
        return MOON_OK;
    }
    call->conn = NULL;
    return call_h2_begin(call, conn);
}

void call_connected(struct moon_call *call)
{
    call_end_connecting(call);
    enum moon_rc rc = connect_transport(call);
    connect_leader_done(call);
    if (rc == MOON_OK)
        rc = call->transport->send(call);
    if (rc != MOON_OK && rc != MOON_AGAIN)
        call_failed(call, call_stream_failure(rc));
    else if (rc == MOON_OK && call_has_body(call) && !call->is_body_sent)
        call->events->on_writable(call->owner);
}

static void connect_ready(void *owner)
{
    struct moon_call *call = owner;
    enum moon_rc rc = moon_stream_state(call->conn->stream);
    if (rc == MOON_OK)
        call_connected(call);
    else if (rc != MOON_AGAIN)
        call_failed(call, rc == MOON_ERR_TLS ? MOON_ERR_UPSTREAM_TLS : rc);
}

static const struct moon_stream_events connect_events = {connect_ready, connect_ready};

static void connect_begin(struct moon_call *call, struct moon_uconn *conn)
{
    call->conn = conn;
    conn->call = call;
    conn->calls++;
    moon_stream_set_owner(conn->stream, &connect_events, call);
    call->state = MOON_CALL_CONNECTING;
    call_arm(call, call->backend->conf->connect_ms, MOON_ERR_CONNECT_TIMEOUT);
}

// Connections that carry a PROXY header speak for one client.
static uint64_t connect_introduced(const struct moon_call *call)
{
    const struct moon_proxy_header *client = call->client;
    if (call->backend->conf->proxy_version == 0 || client == NULL || !client->has_addresses)
        return 0;
    uint64_t key = moon_hash(moon_slice((const char *)client->source.bytes, 16)) +
                   UINT64_C(0x9e3779b97f4a7c15) * (client->source_port + UINT64_C(1));
    return key == 0 ? 1 : key;
}

// The PROXY header, before anything else and before TLS. The gateway's own calls (probes) say that
// they are its own.
static enum moon_rc connect_introduce(struct moon_call *call, struct moon_uconn *conn)
{
    char text[MOON_PROXY_WRITE_BYTES];
    struct moon_proxy_header header = {.has_addresses = false};
    if (call->backend->conf->proxy_version == 0)
        return MOON_OK;
    if (call->client != NULL)
        header = *call->client;
    header.version = call->backend->conf->proxy_version;
    conn->introduced = connect_introduced(call);
    return moon_stream_preamble(conn->stream, moon_slice(text, moon_proxy_write(&header, text)));
}

static enum moon_rc connect_open(struct moon_call *call, const struct sockaddr *address,
                                 socklen_t len, struct moon_uconn **out)
{
    struct moon_uconn *conn;
    enum moon_rc rc = moon_pool_connect(call->target->pool, address, len, &conn);
    if (rc != MOON_OK)
        return rc;
    rc = connect_introduce(call, conn);
    if (rc != MOON_OK) {
        moon_uconn_free(conn);
        return rc;
    }
    *out = conn;
    return MOON_OK;
}

static enum moon_rc connect_ip(struct moon_call *call, const struct moon_ip *ip,
                               struct moon_uconn **conn)
{
    struct sockaddr_storage address = {0};
    socklen_t len;
    uint16_t port = htons((uint16_t)call->target->conf->port);
    if (moon_ip_is_v4(ip)) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = port};
        memcpy(&v4.sin_addr, ip->bytes + 12, 4);
        memcpy(&address, &v4, len = sizeof(v4));
    } else {
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = port};
        memcpy(&v6.sin6_addr, ip->bytes, 16);
        memcpy(&address, &v6, len = sizeof(v6));
    }
    return connect_open(call, (struct sockaddr *)&address, len, conn);
}

static enum moon_rc connect_unix(struct moon_call *call)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct moon_slice path = moon_slice_from(call->target->conf->host, 5);
    if (!moon_slice_copy_text(path, address.sun_path, sizeof(address.sun_path)))
        return MOON_ERR_CONNECT;
    struct moon_uconn *conn;
    enum moon_rc rc = connect_open(call, (struct sockaddr *)&address, sizeof(address), &conn);
    if (rc == MOON_OK)
        connect_begin(call, conn);
    return rc;
}

// Several addresses

static void dial_stop(struct call_dial *dial)
{
    moon_timer_stop(&dial->stagger);
    for (size_t i = 0; i < dial->count; i++) {
        moon_uconn_free(dial->tries[i].conn);
        dial->tries[i].conn = NULL;
    }
    dial->call->dial = NULL;
}

static void dial_ready(void *owner);

static const struct moon_stream_events dial_events = {dial_ready, dial_ready};

// Begins with the next address that does not fail at once. @return false when there is none
static bool dial_next(struct call_dial *dial)
{
    while (dial->next < dial->count) {
        size_t i = dial->next++;
        struct moon_uconn *conn;
        dial->rc = connect_ip(dial->call, &dial->addresses[i], &conn);
        if (dial->rc != MOON_OK)
            continue;
        conn->ip = dial->addresses[i];
        conn->has_ip = true;
        dial->tries[i] = (struct dial_try){dial, conn};
        dial->pending++;
        moon_stream_set_owner(conn->stream, &dial_events, &dial->tries[i]);
        if (dial->next < dial->count)
            moon_timer_set(&dial->stagger, DIAL_STAGGER_MS);
        return true;
    }
    return false;
}

static void dial_ready(void *owner)
{
    struct dial_try *one = owner;
    struct call_dial *dial = one->dial;
    struct moon_call *call = dial->call;
    struct moon_uconn *conn = one->conn;
    enum moon_rc rc = moon_stream_state(conn->stream);
    if (rc == MOON_AGAIN)
        return;
    one->conn = NULL;
    if (rc == MOON_OK) {
        dial_stop(dial);
        connect_begin(call, conn);
        call_connected(call);
        return;
    }
    moon_uconn_free(conn);
    dial->pending--;
    dial->rc = rc;
    if (!dial_next(dial) && dial->pending == 0)
        call_failed(call, rc == MOON_ERR_TLS ? MOON_ERR_UPSTREAM_TLS : dial->rc);
}

static void dial_stagger(struct moon_timer *timer)
{
    (void)dial_next(timer->owner);
}

static bool dial_is_wanted(enum moon_family family, const struct moon_ip *ip)
{
    return family == MOON_FAMILY_ANY || (family == MOON_FAMILY_V4) == moon_ip_is_v4(ip);
}

// Addresses in turns, so that all of them get connections; the families alternate.
static void dial_fill(struct call_dial *dial, const struct moon_dns_answer *answer, size_t start,
                      enum moon_family family)
{
    bool wants_v4 = moon_ip_is_v4(&answer->addresses[start % answer->count]);
    bool taken[MOON_DNS_ADDRESSES] = {false};
    for (int misses = 0; dial->count < DIAL_ADDRESSES && misses < 2; wants_v4 = !wants_v4) {
        size_t k = 0;
        for (; k < answer->count; k++) {
            size_t i = (start + k) % answer->count;
            const struct moon_ip *ip = &answer->addresses[i];
            if (taken[i] || moon_ip_is_v4(ip) != wants_v4 || !dial_is_wanted(family, ip))
                continue;
            taken[i] = true;
            dial->addresses[dial->count++] = *ip;
            break;
        }
        misses = k == answer->count ? misses + 1 : 0;
    }
}

static enum moon_rc connect_answer(struct moon_call *call, const struct moon_dns_answer *answer)
{
    struct moon_pool *pool = call->target->pool;
    if (answer->count == 0)
        return MOON_ERR_DNS;
    moon_pool_forget_addresses(pool, answer);
    struct call_dial *dial = moon_arena_zalloc(call->arena, sizeof(*dial));
    if (dial == NULL)
        return MOON_ERR_MEMORY;
    dial->call = call;
    moon_timer_init(&dial->stagger, call->upstreams->loop, dial_stagger, dial);
    dial_fill(dial, answer, pool->next_address++, call->backend->conf->family);
    if (dial->count == 0)
        return MOON_ERR_DNS;
    call->state = MOON_CALL_CONNECTING;
    call->dial = dial;
    call_arm(call, call->backend->conf->connect_ms, MOON_ERR_CONNECT_TIMEOUT);
    if (dial_next(dial))
        return MOON_OK;
    call->dial = NULL;
    return dial->rc;
}

static void connect_resolved(void *owner, const struct moon_dns_answer *answer)
{
    struct moon_call *call = owner;
    call->query = NULL;
    enum moon_rc rc = answer->rc;
    if (rc == MOON_OK)
        rc = connect_answer(call, answer);
    if (rc != MOON_OK)
        call_failed(call, rc);
}

static enum moon_rc connect_name(struct moon_call *call)
{
    struct moon_dns_answer answer;
    call->state = MOON_CALL_RESOLVING;
    call_arm(call, call->backend->conf->connect_ms, MOON_ERR_CONNECT_TIMEOUT);
    enum moon_rc rc = moon_dns_resolve(call->upstreams->dns, call->target->conf->host,
                                       connect_resolved, call, &answer, &call->query);
    if (rc == MOON_AGAIN)
        return MOON_OK;
    return rc == MOON_OK ? connect_answer(call, &answer) : rc;
}

static enum moon_rc connect_new(struct moon_call *call)
{
    struct moon_uconn *conn;
    if (call->target->is_unix)
        return connect_unix(call);
    if (!call->target->is_literal)
        return connect_name(call);
    enum moon_rc rc = connect_ip(call, &call->target->ip, &conn);
    if (rc == MOON_OK)
        connect_begin(call, conn);
    return rc;
}

static enum moon_rc connect_reuse(struct moon_call *call, struct moon_uconn *conn)
{
    call->is_reused = true;
    conn->calls++;
    call_end_connecting(call);
    call_h1_bind(call, conn);
    enum moon_rc rc = call->transport->send(call);
    return rc == MOON_AGAIN ? MOON_OK : rc;
}

static enum moon_rc connect_now(struct moon_call *call)
{
    struct moon_pool *pool = call->target->pool;
    // After a stale connection a fresh one is made: the others may be as old.
    bool is_full = pool->open_max > 0 && pool->open_count >= pool->open_max;
    struct moon_uconn *conn =
        call->tries > 1 && !is_full ? NULL : moon_pool_take(pool, connect_introduced(call));
    call->is_reused = false;
    if (conn == NULL && connect_is_h2(call) && !pool->is_h2_connecting)
        call->is_h2_leader = pool->is_h2_connecting = true;
    return conn != NULL ? connect_reuse(call, conn) : connect_new(call);
}

static enum moon_rc connect_h2(struct moon_call *call)
{
    call_end_connecting(call);
    enum moon_rc rc = call->transport->send(call);
    return rc == MOON_AGAIN ? MOON_OK : rc;
}

static void connect_turn(struct moon_waiter *waiter)
{
    struct moon_call *call = MOON_CONTAINER_OF(waiter, struct moon_call, waiter);
    struct moon_pool *pool = call->target->pool;
    bool is_full = pool->open_max > 0 && pool->open_count >= pool->open_max;
    enum moon_rc rc;
    call->is_queued = false;
    if (connect_is_h2(call) && call_h2_take(call)) {
        rc = connect_h2(call);
    } else if (pool->is_h2_connecting || (is_full && moon_list_is_empty(&pool->idle))) {
        moon_list_push_front(&pool->waiting, &waiter->link); // its place was the first
        pool->waiting_count++;
        call->is_queued = true;
        return;
    } else {
        rc = connect_now(call);
    }
    if (rc != MOON_OK)
        call_failed(call, call_stream_failure(rc));
}

static enum moon_rc connect_queue(struct moon_call *call, int64_t most_ms, enum moon_rc meaning)
{
    call->state = MOON_CALL_PENDING;
    call->is_queued = true;
    call->waiter.on_ready = connect_turn;
    moon_pool_wait(call->target->pool, &call->waiter);
    call_arm(call, most_ms, meaning);
    return MOON_OK;
}

enum moon_rc call_take_connection(struct moon_call *call)
{
    const struct moon_backend_conf *conf = call->backend->conf;
    struct moon_pool *pool = call->target->pool;
    if (connect_is_h2(call) && call_h2_take(call))
        return connect_h2(call);
    if (connect_is_h2(call) && pool->is_h2_connecting)
        return connect_queue(call, conf->connect_ms, MOON_ERR_CONNECT_TIMEOUT);
    if (!moon_pool_is_full(pool) || (pool->waiting_count == 0 && !moon_list_is_empty(&pool->idle)))
        return connect_now(call);
    if (pool->waiting_count >= conf->max_pending)
        return MOON_ERR_QUEUE_FULL;
    return connect_queue(call, conf->pending_ms, MOON_ERR_QUEUE_TIMEOUT);
}

void call_stop_connecting(struct moon_call *call)
{
    if (call->query != NULL)
        moon_dns_cancel(call->query);
    call->query = NULL;
    if (call->dial != NULL)
        dial_stop(call->dial);
    connect_leader_done(call);
    if (call->is_queued)
        moon_pool_stop_waiting(call->target->pool, &call->waiter);
    call->is_queued = false;
}
