/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/call.h"

#include "base/clock.h"
#include "base/log.h"

#include <netinet/in.h>
#include <sys/un.h>

enum {
    CALL_READ_BYTES = 65536,
    CALL_FAIR_READS = 4, // of full buffers, before others have their turn
    CALL_MAX_INTERIM = 16,
};

static const struct moon_h1_limits call_limits = {
    .head_bytes = 65536, .uri_bytes = 65536, .header_count = 256};

static enum moon_rc call_try(struct moon_call *call);
static void call_failed(struct moon_call *call, enum moon_rc rc);

static void call_arm(struct moon_call *call, int64_t after_ms, enum moon_rc meaning)
{
    int64_t now = moon_loop_now_ms(call->upstreams->loop);
    call->stage_deadline_ms = after_ms > 0 ? now + after_ms : INT64_MAX;
    call->timeout_rc = meaning;
    int64_t at = call->stage_deadline_ms < call->total_deadline_ms ? call->stage_deadline_ms
                                                                   : call->total_deadline_ms;
    if (at == INT64_MAX)
        moon_timer_stop(&call->timer);
    else
        moon_timer_set_at(&call->timer, at);
}

static void call_timeout(struct moon_timer *timer)
{
    struct moon_call *call = timer->owner;
    int64_t now = moon_loop_now_ms(call->upstreams->loop);
    bool is_waiting_for_owner = call->state == MOON_CALL_BODY && moon_buf_len(&call->conn->in) > 0;
    if (now >= call->total_deadline_ms) {
        call_failed(call, MOON_ERR_TOTAL_TIMEOUT);
    } else if (is_waiting_for_owner) {
        call_arm(call, call->backend->conf->idle_ms, call->timeout_rc);
    } else {
        call_failed(call, call->timeout_rc);
    }
}

void moon_call_init(struct moon_call *call, struct moon_upstreams *upstreams,
                    struct moon_arena *arena, const struct moon_call_events *events, void *owner)
{
    memset(call, 0, sizeof(*call));
    call->upstreams = upstreams;
    call->arena = arena;
    call->events = events;
    call->owner = owner;
    moon_timer_init(&call->timer, upstreams->loop, call_timeout, call);
}

static struct moon_health *call_health(const struct moon_call *call)
{
    return call->target->pool->health;
}

static void call_leave_target(struct moon_call *call)
{
    if (call->target == NULL)
        return;
    if (call_health(call) != NULL)
        atomic_fetch_sub_explicit(&call_health(call)->in_flight, 1, memory_order_relaxed);
    call->target = NULL;
}

static void call_enter_target(struct moon_call *call, struct moon_target *target)
{
    call->target = target;
    call->tries++;
    struct moon_health *health = call_health(call);
    if (health != NULL) {
        atomic_fetch_add_explicit(&health->in_flight, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&health->requests, 1, memory_order_relaxed);
    }
}

static void call_mark_failure(struct moon_call *call, enum moon_rc rc)
{
    struct moon_health *health = call->target == NULL ? NULL : call_health(call);
    const struct moon_outlier_conf *outlier = &call->backend->conf->outlier;
    if (health == NULL)
        return;
    atomic_fetch_add_explicit(&health->errors, 1, memory_order_relaxed);
    if (outlier->failures > 0 &&
        moon_health_failure(health, outlier->failures, outlier->ejection_ms, moon_clock_us(),
                            moon_rc_name(rc)))
        moon_log_warn("backend %.*s: target %.*s ejected: %s",
                      MOON_SLICE_ARG(call->backend->conf->name),
                      MOON_SLICE_ARG(call->target->conf->identity), moon_rc_text(rc));
}

static void call_drop_connection(struct moon_call *call)
{
    if (call->query != NULL)
        moon_dns_cancel(call->query);
    call->query = NULL;
    moon_uconn_free(call->conn);
    call->conn = NULL;
    call->used = 0;
    moon_h1_body_fini(&call->body);
}

static bool call_may_retry(const struct moon_call *call)
{
    if (call->was_written || call->has_response_bytes)
        return false;
    bool is_safe = !call->is_head_sent || call->is_retry_allowed ||
                   moon_method_is_idempotent(call->request->method);
    return is_safe;
}

// A kept connection that the peer closed meanwhile says nothing about the target's health.
static bool call_was_stale(const struct moon_call *call, enum moon_rc rc)
{
    return call->is_reused && !call->has_response_bytes &&
           (rc == MOON_ERR_UPSTREAM_CLOSED || rc == MOON_ERR_UPSTREAM_RESET);
}

static bool call_is_retried_on(enum moon_rc rc)
{
    switch ((int)rc) {
    case MOON_ERR_CONNECT:
    case MOON_ERR_REFUSED:
    case MOON_ERR_DNS:
    case MOON_ERR_CONNECT_TIMEOUT:
    case MOON_ERR_UPSTREAM_CLOSED:
    case MOON_ERR_UPSTREAM_RESET:
    case MOON_ERR_UPSTREAM_TLS:
        return true;
    default:
        return false;
    }
}

static void call_reset_try(struct moon_call *call)
{
    call_drop_connection(call);
    call_leave_target(call);
    call->is_head_sent = call->is_body_sent = call->is_send_broken = false;
    call->scan = (struct moon_h1_scan){.is_response = true};
}

// Goes on with another try, or tells the owner.
static void call_failed(struct moon_call *call, enum moon_rc rc)
{
    if (call->state == MOON_CALL_BODY || call->state == MOON_CALL_TUNNEL) {
        call_mark_failure(call, rc);
        call->failure = rc;
        call->state = MOON_CALL_FAILED;
        moon_timer_stop(&call->timer);
        call->events->on_body(call->owner);
        return;
    }
    bool was_stale = call_was_stale(call, rc);
    if (!was_stale)
        call_mark_failure(call, rc);
    bool is_again = call_may_retry(call) && call_is_retried_on(rc) &&
                    (was_stale || call->tries <= call->backend->conf->retries);
    if (is_again) {
        if (!was_stale && call->target != NULL)
            call->tried |= UINT64_C(1) << ((size_t)(call->target - call->backend->targets) & 63);
        call_reset_try(call);
        enum moon_rc next = call_try(call);
        if (next == MOON_OK)
            return;
        if (next != MOON_ERR_NO_TARGET)
            rc = next;
    }
    call->state = MOON_CALL_FAILED;
    call->failure = rc;
    moon_timer_stop(&call->timer);
    call_drop_connection(call);
    call->events->on_failed(call->owner, rc);
}

static bool call_has_body(const struct moon_call *call)
{
    return call->request->framing != MOON_FRAMING_NONE;
}

static void call_sent(struct moon_call *call)
{
    call->is_body_sent = true;
    call->times.sent_us = moon_clock_us();
    if (call->state == MOON_CALL_SENDING)
        call_arm(call, call->backend->conf->first_byte_ms, MOON_ERR_FIRST_BYTE_TIMEOUT);
}

// Wraps data as the framing demands and writes it behind `head`.
static enum moon_rc call_send(struct moon_call *call, struct moon_slice head,
                              struct moon_slice data, bool is_last)
{
    struct iovec iov[5];
    int n = 0;
    char line[20];
    bool is_chunked = call->request->framing == MOON_FRAMING_CHUNKED;
    struct moon_buf tail;
    moon_buf_init(&tail, 65536);
    if (head.len > 0)
        iov[n++] = (struct iovec){(void *)(uintptr_t)head.data, head.len};
    if (data.len > 0 && is_chunked)
        iov[n++] = (struct iovec){line, moon_h1_chunk_line(data.len, line)};
    if (data.len > 0)
        iov[n++] = (struct iovec){(void *)(uintptr_t)data.data, data.len};
    if (data.len > 0 && is_chunked)
        iov[n++] = (struct iovec){(void *)(uintptr_t)"\r\n", 2};
    if (is_last && is_chunked) {
        enum moon_rc rc = moon_h1_write_last_chunk(&tail, &call->request->trailers);
        if (rc != MOON_OK) {
            moon_buf_fini(&tail);
            return rc;
        }
        struct moon_slice bytes = moon_buf_slice(&tail);
        iov[n++] = (struct iovec){(void *)(uintptr_t)bytes.data, bytes.len};
    }
    enum moon_rc rc = n == 0 ? MOON_OK : moon_stream_write(call->conn->stream, iov, n);
    moon_buf_fini(&tail);
    return rc;
}

static enum moon_rc call_send_head(struct moon_call *call)
{
    struct moon_buf head;
    moon_buf_init(&head, 1 << 20);
    struct moon_slice parts[2] = {call->target->conf->path, call->target_path};
    struct moon_slice target = call->target_path;
    if (parts[0].len > 0 && !moon_arena_join(call->arena, parts, 2, &target))
        return MOON_ERR_MEMORY;
    const struct moon_request *request = call->request;
    struct moon_request to_target; // without a Host field it gets the target's own name
    if (moon_fields_find_id(&request->fields, MOON_FIELD_HOST) == NULL) {
        to_target = *request;
        to_target.authority = call->target->conf->authority;
        request = &to_target;
    }
    enum moon_rc rc = moon_h1_write_request(&head, request, target, true);
    if (rc == MOON_OK) {
        call->is_head_sent = true;
        bool is_last = !call_has_body(call) || call->is_first_last;
        call->state = MOON_CALL_SENDING;
        call_arm(call, call->backend->conf->send_ms, MOON_ERR_UPSTREAM_SEND_TIMEOUT);
        rc = call_send(call, moon_buf_slice(&head), call->first_body, is_last);
        if (is_last && rc == MOON_OK)
            call_sent(call);
    }
    moon_buf_fini(&head);
    return rc;
}

static enum moon_rc call_stream_failure(enum moon_rc rc)
{
    switch ((int)rc) {
    case MOON_EOF:
        return MOON_ERR_UPSTREAM_CLOSED;
    case MOON_ERR_IO:
        return MOON_ERR_UPSTREAM_RESET;
    case MOON_ERR_TLS:
        return MOON_ERR_UPSTREAM_TLS;
    default:
        return rc;
    }
}

// The connection stands: send the request.
static void call_connected(struct moon_call *call)
{
    call->times.connected_us = moon_clock_us();
    enum moon_rc rc = call_send_head(call);
    if (rc == MOON_ERR_IO || rc == MOON_ERR_TLS) {
        call_failed(call, call_stream_failure(rc));
    } else if (rc != MOON_OK && rc != MOON_AGAIN) {
        call_failed(call, rc);
    } else if (rc == MOON_OK && call_has_body(call) && !call->is_body_sent) {
        call->events->on_writable(call->owner);
    }
}

static void call_writable(void *owner)
{
    struct moon_call *call = owner;
    if (call->state == MOON_CALL_CONNECTING) {
        enum moon_rc rc = moon_stream_state(call->conn->stream);
        if (rc == MOON_OK)
            call_connected(call);
        else if (rc != MOON_AGAIN)
            call_failed(call, rc == MOON_ERR_TLS ? MOON_ERR_UPSTREAM_TLS : rc);
        return;
    }
    if (moon_stream_queued(call->conn->stream) > 0)
        return;
    bool was_all = !call_has_body(call) || (!call->was_written && call->is_first_last);
    if (was_all && !call->is_body_sent)
        call_sent(call);
    else if (!call->is_body_sent)
        call->events->on_writable(call->owner);
    else if (call->state == MOON_CALL_SENDING)
        call_sent(call);
    else if (call->state == MOON_CALL_TUNNEL)
        call->events->on_writable(call->owner);
}

static bool call_is_error_status(int status)
{
    return status == 502 || status == 503 || status == 504;
}

static void call_count_answer(struct moon_call *call)
{
    if (call_health(call) == NULL)
        return;
    if (call_is_error_status(call->response.status))
        call_mark_failure(call, MOON_ERR_UPSTREAM_PROTOCOL);
    else
        moon_health_success(call_health(call));
}

static enum moon_rc call_parse_head(struct moon_call *call, size_t head_len)
{
    struct moon_slice head;
    struct moon_slice raw = moon_slice(moon_buf_slice(&call->conn->in).data, head_len);
    if (!moon_arena_copy(call->arena, raw, &head))
        return MOON_ERR_MEMORY;
    moon_response_init(&call->response, call->arena);
    enum moon_rc rc = moon_h1_parse_response(&call->response, head, call->request->method,
                                             &call_limits);
    if (rc == MOON_OK)
        moon_buf_consume(&call->conn->in, head_len);
    return rc;
}

// Reads heads until the final one is whole: interim answers are passed over (RFC 9110 §15.2).
static enum moon_rc call_read_head(struct moon_call *call)
{
    for (int interim = 0; interim < CALL_MAX_INTERIM; interim++) {
        size_t head_len;
        enum moon_rc rc = moon_h1_scan(&call->scan, moon_buf_slice(&call->conn->in), &call_limits,
                                       &head_len);
        if (rc == MOON_AGAIN)
            return rc;
        if (rc == MOON_OK)
            rc = call_parse_head(call, head_len);
        if (rc != MOON_OK)
            return rc == MOON_ERR_MEMORY ? rc : MOON_ERR_UPSTREAM_PROTOCOL;
        call->scan = (struct moon_h1_scan){.is_response = true};
        if (call->response.status == 101)
            return call->is_upgrade_asked ? MOON_OK : MOON_ERR_UPSTREAM_PROTOCOL;
        if (call->response.status >= 200)
            return MOON_OK;
    }
    return MOON_ERR_UPSTREAM_PROTOCOL;
}

static void call_head_is_whole(struct moon_call *call)
{
    bool is_tunnel = call->response.status == 101;
    call->times.head_us = moon_clock_us();
    call->state = is_tunnel ? MOON_CALL_TUNNEL : MOON_CALL_BODY;
    call_count_answer(call);
    moon_h1_body_init(&call->body, is_tunnel ? MOON_FRAMING_CLOSE : call->response.framing,
                      call->response.content_length, &call->response.trailers, true);
    call_arm(call, call->backend->conf->idle_ms, MOON_ERR_TIMEOUT);
    call->events->on_head(call->owner);
}

// May end the call, and free what it lies in.
static void call_progress(struct moon_call *call)
{
    if (call->state == MOON_CALL_SENDING) {
        enum moon_rc rc = call_read_head(call);
        if (rc == MOON_OK)
            call_head_is_whole(call);
        else if (rc != MOON_AGAIN)
            call_failed(call, rc);
    } else if (call->state == MOON_CALL_BODY || call->state == MOON_CALL_TUNNEL) {
        call->events->on_body(call->owner);
    }
}

static void call_closed(struct moon_call *call, enum moon_rc rc)
{
    if (call->state == MOON_CALL_BODY || call->state == MOON_CALL_TUNNEL) {
        call->is_closed = true;
        call->closed_rc = rc;
        call->events->on_body(call->owner);
        return;
    }
    call_failed(call, call_stream_failure(rc));
}

static void call_extend_idle(struct moon_call *call)
{
    int64_t idle_ms = call->backend->conf->idle_ms;
    if (call->state == MOON_CALL_BODY || call->state == MOON_CALL_TUNNEL)
        call_arm(call, idle_ms, MOON_ERR_TIMEOUT);
}

// @return true when more may wait in the socket and the call goes on
static bool call_read_once(struct moon_call *call)
{
    struct moon_upstreams *upstreams = call->upstreams;
    struct moon_uconn *conn = call->conn;
    size_t n = 0;
    enum moon_rc rc = moon_stream_read(conn->stream, &conn->in, CALL_READ_BYTES, &n);
    if (rc == MOON_AGAIN)
        return false;
    if (rc != MOON_OK) {
        moon_stream_pause_reading(conn->stream, true);
        if (rc != MOON_ERR_LIMIT)
            call_closed(call, rc); // what came before the end is the owner's first
        return false;
    }
    call->has_response_bytes = true;
    call_extend_idle(call);
    call_progress(call);
    // The owner may have ended the call, and be gone with it.
    return upstreams->current_call == call && call->conn == conn && n >= MOON_BUF_BLOCK_BYTES / 2;
}

static void call_readable(void *owner)
{
    struct moon_call *call = owner;
    if (call->state == MOON_CALL_CONNECTING) {
        call_writable(call);
        return;
    }
    struct moon_upstreams *upstreams = call->upstreams;
    struct moon_call *outer = upstreams->current_call;
    upstreams->current_call = call;
    int reads = 0;
    while (call_read_once(call) && ++reads < CALL_FAIR_READS) {
    }
    upstreams->current_call = outer;
}

static const struct moon_stream_events call_stream_events = {call_readable, call_writable};

static enum moon_rc call_use(struct moon_call *call, struct moon_uconn *conn, bool is_reused)
{
    call->conn = conn;
    call->is_reused = is_reused;
    conn->call = call;
    conn->calls++;
    moon_stream_set_owner(conn->stream, &call_stream_events, call);
    if (!is_reused) {
        call->state = MOON_CALL_CONNECTING;
        call_arm(call, call->backend->conf->connect_ms, MOON_ERR_CONNECT_TIMEOUT);
        return MOON_OK;
    }
    call->times.connected_us = moon_clock_us();
    enum moon_rc rc = call_send_head(call);
    return rc == MOON_AGAIN ? MOON_OK : rc;
}

static enum moon_rc call_connect_ip(struct moon_call *call, const struct moon_ip *ip)
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
    struct moon_uconn *conn;
    enum moon_rc rc =
        moon_pool_connect(call->target->pool, (struct sockaddr *)&address, len, &conn);
    return rc == MOON_OK ? call_use(call, conn, false) : rc;
}

static enum moon_rc call_connect_unix(struct moon_call *call)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct moon_slice path = moon_slice_from(call->target->conf->host, 5);
    if (!moon_slice_copy_text(path, address.sun_path, sizeof(address.sun_path)))
        return MOON_ERR_CONNECT;
    struct moon_uconn *conn;
    enum moon_rc rc = moon_pool_connect(call->target->pool, (struct sockaddr *)&address,
                                        sizeof(address), &conn);
    return rc == MOON_OK ? call_use(call, conn, false) : rc;
}

static void call_resolved(void *owner, const struct moon_dns_answer *answer)
{
    struct moon_call *call = owner;
    call->query = NULL;
    enum moon_rc rc = answer->rc;
    if (rc == MOON_OK && answer->count == 0)
        rc = MOON_ERR_DNS;
    if (rc == MOON_OK)
        rc = call_connect_ip(call, &answer->addresses[moon_clock_us() % (int64_t)answer->count]);
    if (rc != MOON_OK)
        call_failed(call, rc);
}

static enum moon_rc call_connect(struct moon_call *call)
{
    struct moon_dns_answer answer;
    if (call->target->is_unix)
        return call_connect_unix(call);
    if (call->target->is_literal)
        return call_connect_ip(call, &call->target->ip);
    call->state = MOON_CALL_RESOLVING;
    call_arm(call, call->backend->conf->connect_ms, MOON_ERR_CONNECT_TIMEOUT);
    enum moon_rc rc = moon_dns_resolve(call->upstreams->dns, call->target->conf->host,
                                       call_resolved, call, &answer, &call->query);
    if (rc == MOON_AGAIN)
        return MOON_OK;
    if (rc == MOON_OK && answer.count > 0)
        return call_connect_ip(call, &answer.addresses[0]);
    return rc == MOON_OK ? MOON_ERR_DNS : rc;
}

static enum moon_rc call_try_target(struct moon_call *call, struct moon_target *target)
{
    call_enter_target(call, target);
    // After a stale connection a fresh one is made: the others may be as old.
    struct moon_uconn *conn = call->tries > 1 ? NULL : moon_pool_take(target->pool);
    return conn != NULL ? call_use(call, conn, true) : call_connect(call);
}

// Tries target after target for as long as they fail at once. @return why none was left
static enum moon_rc call_try(struct moon_call *call)
{
    enum moon_rc rc = MOON_ERR_NO_TARGET;
    for (;;) {
        struct moon_target *target = moon_backend_choose(call->backend, call->tried, call->hash);
        if (target == NULL)
            return rc;
        rc = call_try_target(call, target);
        if (rc == MOON_OK)
            return rc;
        rc = call_stream_failure(rc);
        bool was_stale = call_was_stale(call, rc);
        if (!was_stale) {
            call_mark_failure(call, rc);
            call->tried |= UINT64_C(1) << ((size_t)(target - call->backend->targets) & 63);
        }
        bool is_again = call_may_retry(call) && call_is_retried_on(rc) &&
                        (was_stale || call->tries <= call->backend->conf->retries);
        call_reset_try(call);
        if (!is_again)
            return rc;
    }
}

static size_t call_backend_in_flight(const struct moon_backend *backend)
{
    int64_t sum = 0;
    for (size_t i = 0; i < backend->target_count; i++) {
        const struct moon_health *health = backend->targets[i].pool->health;
        if (health != NULL)
            sum += atomic_load_explicit(&health->in_flight, memory_order_relaxed);
    }
    return sum > 0 ? (size_t)sum : 0;
}

enum moon_rc moon_call_start(struct moon_call *call, struct moon_backend *backend,
                             const struct moon_request *request, struct moon_slice path,
                             struct moon_slice first_body, bool is_first_last)
{
    const struct moon_backend_conf *conf = backend->conf;
    call->backend = backend;
    call->request = request;
    call->target_path = path;
    call->first_body = first_body;
    call->is_first_last = is_first_last;
    call->times.started_us = moon_clock_us();
    call->total_deadline_ms =
        conf->total_ms > 0 ? moon_loop_now_ms(call->upstreams->loop) + conf->total_ms : INT64_MAX;
    call->scan = (struct moon_h1_scan){.is_response = true};
    if (conf->max_requests > 0 && call_backend_in_flight(backend) >= conf->max_requests)
        return MOON_ERR_OVERLOAD;
    enum moon_rc rc = call_try(call);
    if (rc != MOON_OK) {
        call->state = MOON_CALL_FAILED;
        call->failure = rc;
        moon_timer_stop(&call->timer);
    }
    return rc;
}

bool moon_call_is_writable(const struct moon_call *call)
{
    bool is_open = call->state == MOON_CALL_SENDING || call->state == MOON_CALL_BODY ||
                   call->state == MOON_CALL_TUNNEL;
    return is_open && call->is_head_sent &&
           (call->is_send_broken || moon_stream_queued(call->conn->stream) == 0);
}

enum moon_rc moon_call_write(struct moon_call *call, struct moon_slice data, bool is_last)
{
    call->was_written = true;
    call->first_body = moon_slice(NULL, 0);
    if (call->is_send_broken || call->conn == NULL)
        return MOON_OK; // the answer, or the reason why there is none, comes by reading
    enum moon_rc rc = call_send(call, moon_slice(NULL, 0), data, is_last);
    if (rc == MOON_ERR_IO || rc == MOON_ERR_TLS) {
        call->is_send_broken = true;
        return MOON_OK;
    }
    if (is_last && call->state != MOON_CALL_TUNNEL) {
        call->is_body_sent = true;
        if (rc == MOON_OK)
            call_sent(call);
    } else if (call->state == MOON_CALL_SENDING) {
        call_arm(call, call->backend->conf->send_ms, MOON_ERR_UPSTREAM_SEND_TIMEOUT);
    }
    return rc;
}

// Nothing more can be read from the buffer: does more come, was that the end, or is it cut short?
static enum moon_rc call_read_closed(struct moon_call *call)
{
    if (call->failure != MOON_OK)
        return call->failure;
    if (!call->is_closed)
        return MOON_AGAIN;
    return call->closed_rc == MOON_EOF ? moon_h1_body_eof(&call->body)
                                       : MOON_ERR_UPSTREAM_TRUNCATED;
}

enum moon_rc moon_call_read(struct moon_call *call, struct moon_slice *data, bool *is_done)
{
    if (call->conn == NULL)
        return call->failure != MOON_OK ? call->failure : MOON_AGAIN;
    struct moon_buf *in = &call->conn->in;
    if (call->used > 0) {
        moon_buf_consume(in, call->used);
        call->used = 0;
        moon_stream_pause_reading(call->conn->stream, false);
    }
    while (!call->body.is_done) {
        size_t used = 0;
        enum moon_rc rc = moon_h1_body_next(&call->body, moon_buf_slice(in), &used, data);
        if (rc == MOON_OK && (data->len > 0 || call->body.is_done)) {
            call->used = used;
            call->body_bytes += data->len;
            *is_done = call->body.is_done;
            return MOON_OK;
        }
        moon_buf_consume(in, used);
        if (rc == MOON_AGAIN)
            rc = call_read_closed(call);
        if (rc == MOON_AGAIN)
            return rc;
        if (rc != MOON_OK) {
            call->failure = rc;
            call->state = MOON_CALL_FAILED;
            return rc;
        }
    }
    *data = moon_slice(NULL, 0);
    *is_done = true;
    return MOON_OK;
}

// Whole both ways, wanted by both sides, and nothing left over.
static bool call_is_reusable(const struct moon_call *call)
{
    return call->state == MOON_CALL_BODY && call->body.is_done && call->is_body_sent &&
           !call->is_send_broken && !call->is_closed && call->response.is_keep_alive &&
           call->response.framing != MOON_FRAMING_CLOSE &&
           moon_stream_queued(call->conn->stream) == 0 && moon_buf_len(&call->conn->in) == 0;
}

void moon_call_end(struct moon_call *call)
{
    if (call->upstreams->current_call == call)
        call->upstreams->current_call = NULL;
    moon_timer_stop(&call->timer);
    if (call->conn != NULL && call->used > 0) {
        moon_buf_consume(&call->conn->in, call->used);
        call->used = 0;
    }
    if (call->conn != NULL && call_is_reusable(call)) {
        struct moon_uconn *conn = call->conn;
        call->conn = NULL;
        moon_h1_body_fini(&call->body);
        moon_pool_keep(conn);
    } else if (call->conn != NULL || call->query != NULL) {
        call_drop_connection(call);
    }
    call_leave_target(call);
    call->state = MOON_CALL_IDLE;
}
