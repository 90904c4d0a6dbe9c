/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/log.h"
#include "gateway/admission.h"
#include "gateway/body.h"
#include "gateway/client.h"
#include "gateway/session.h"
#include "http/h2.h"

#include <netinet/in.h>
#include <unistd.h>

enum {
    SESSION_IN_BYTES = 65536 + 16384, // read ahead of a slow backend, at most; or a longer head
    SESSION_READ_BYTES = 65536,
    SESSION_FAIR_READS = 4,
    SESSION_SKIP_BYTES = 65536, // of an unwanted body that are read to keep the connection
    SESSION_DRAIN_MS = 200, // that an idle one is kept when draining: a request may be on its way
};

static void session_process(struct moon_session *s);

static const struct moon_limits_conf *session_limits(const struct moon_session *s)
{
    return &s->gateway->generation->plan->limits;
}

// Those of the route that the request in progress has found.
static const struct moon_limits_conf *session_exchange_limits(const struct moon_session *s)
{
    const struct moon_leaf *leaf = s->exchange != NULL ? s->exchange->ctx.leaf : NULL;
    return leaf != NULL ? &leaf->limits : session_limits(s);
}

static void session_arm(struct moon_session *s, int64_t after_ms, enum moon_rc meaning)
{
    s->timeout_rc = meaning;
    moon_timer_set(&s->timer, after_ms);
}

static struct moon_reader_rule session_send_rule(const struct moon_session *s)
{
    return s->send_rule.timeout_ms > 0
               ? s->send_rule
               : (struct moon_reader_rule){session_limits(s)->send_timeout_ms,
                                           session_limits(s)->send_rate};
}

// What was written waits for the client to read it.
static void session_arm_send(struct moon_session *s)
{
    int64_t now_ms = moon_loop_now_ms(s->gateway->env.loop);
    struct moon_reader_rule rule = session_send_rule(s);
    moon_reader_wait(&s->reader, now_ms, moon_stream_bytes_read(s->stream));
    session_arm(s, moon_reader_due_ms(&s->reader, now_ms, &rule), MOON_ERR_SEND_TIMEOUT);
}

// @return false: the client does not read, or too slowly
static bool session_judge_reader(struct moon_session *s)
{
    struct moon_reader_rule rule = session_send_rule(s);
    enum moon_reader_state state =
        moon_reader_judge(&s->reader, moon_loop_now_ms(s->gateway->env.loop),
                          moon_stream_bytes_read(s->stream), &rule);
    if (state == MOON_READER_IS_SLOW)
        moon_log_info("client read less than send_rate client=%.*s", (int)s->client.ip_len,
                      s->client.ip_text);
    return state == MOON_READER_GOES_ON;
}

static bool session_awaits_reading(const struct moon_session *s)
{
    return moon_stream_queued(s->stream) > 0;
}

static void session_free(struct moon_session *s)
{
    struct moon_gateway *gateway = s->gateway;
    moon_timer_stop(&s->timer);
    moon_stream_free(s->stream);
    moon_generation_release(s->tls_generation);
    moon_buf_fini(&s->in);
    moon_h1_body_fini(&s->body);
    moon_list_remove(&s->link);
    gateway->session_count--;
    if (s->is_address_counted)
        moon_admission_leave(gateway, &s->client.peer_ip);
    if (gateway->env.slot != NULL)
        atomic_store_explicit(&gateway->env.slot->connections, (int64_t)gateway->session_count,
                              memory_order_relaxed);
    if (gateway->current_session == s)
        gateway->current_session = NULL;
    free(s);
    moon_gateway_settle(gateway);
}

// Ends the connection, once the client has read what waits for it. What it still sends is read for a
// while, so that a reset does not take the answer away from it (RFC 9112 §9.6).
static void session_close(struct moon_session *s)
{
    if (s->is_broken || (s->is_eof && !session_awaits_reading(s))) {
        session_free(s);
        return;
    }
    s->is_lingering = true;
    moon_buf_clear(&s->in);
    moon_stream_shutdown_write(s->stream);
    moon_stream_pause_reading(s->stream, false);
    if (session_awaits_reading(s))
        session_arm_send(s);
    else
        session_arm(s, session_limits(s)->linger_ms, MOON_OK);
}

static void session_idle(struct moon_session *s)
{
    moon_buf_relax(&s->in);
    if (s->gateway->is_draining && s->requests > 0) {
        session_arm(s, SESSION_DRAIN_MS, MOON_EOF);
        return;
    }
    const struct moon_limits_conf *limits = session_limits(s);
    bool is_in_handshake = s->client.is_tls && s->client.tls == NULL;
    session_arm(s,
                is_in_handshake    ? limits->tls_timeout_ms
                : s->requests == 0 ? limits->head_timeout_ms
                : s->idle_ms > 0   ? s->idle_ms
                                   : limits->idle_timeout_ms,
                MOON_EOF);
}

// All that was to be said is said, and the client does not read it.
static void session_cut(struct moon_session *s)
{
    moon_log_info("%s client=%.*s", moon_rc_text(MOON_ERR_SEND_TIMEOUT), (int)s->client.ip_len,
                  s->client.ip_text);
    moon_stream_abort(s->stream);
    session_free(s);
}

// An answer that has begun is not read, or its request's body breaks.
static void session_break(struct moon_session *s)
{
    s->is_broken = true;
    moon_stream_abort(s->stream);
    moon_exchange_on_client_gone(s->exchange, s->timeout_rc);
}

static void session_timeout(struct moon_timer *timer)
{
    struct moon_session *s = timer->owner;
    bool is_idle = s->exchange == NULL && s->timeout_rc == MOON_EOF;
    if (s->timeout_rc == MOON_ERR_SEND_TIMEOUT && session_judge_reader(s)) {
        session_arm_send(s);
    } else if (s->timeout_rc == MOON_ERR_SEND_TIMEOUT && s->exchange == NULL) {
        session_cut(s);
    } else if (is_idle && s->gateway->is_draining && !s->is_lingering && !s->is_skipping) {
        session_close(s);
    } else if (s->is_lingering || s->is_skipping || is_idle) {
        session_free(s);
    } else if (s->exchange == NULL) {
        s->timeout_rc = MOON_ERR_HEAD_TIMEOUT;
        session_process(s);
    } else if (s->timeout_rc == MOON_ERR_SEND_TIMEOUT || s->is_head_written) {
        session_break(s);
    } else {
        s->is_keep_alive = false;
        moon_exchange_body_failed(s->exchange, MOON_ERR_BODY_TIMEOUT);
    }
}

static enum moon_rc session_read_body(void *peer, struct moon_slice *data, bool *is_done)
{
    struct moon_session *s = peer;
    if (s->body_used > 0) {
        moon_buf_consume(&s->in, s->body_used);
        s->body_used = 0;
    }
    moon_stream_pause_reading(s->stream, s->is_eof);
    while (!s->body.is_done) {
        size_t used = 0;
        enum moon_rc rc = moon_h1_body_next(&s->body, moon_buf_slice(&s->in), &used, data);
        if (rc == MOON_OK && data->len > 0) {
            s->body_used = used;
            *is_done = s->body.is_done;
            moon_timer_stop(&s->timer);
            return MOON_OK;
        }
        moon_buf_consume(&s->in, used);
        if (rc == MOON_AGAIN && s->is_eof && s->exchange->is_tunnel) {
            s->body.is_done = true; // what the client had to say
            break;
        }
        if (rc == MOON_AGAIN && s->is_eof)
            rc = MOON_ERR_CLIENT_CLOSED;
        if (rc == MOON_AGAIN && s->exchange->is_tunnel) {
            s->is_reading_body = true;
            return rc; // for as long as the backend's idle timeout
        }
        if (rc == MOON_AGAIN) {
            s->is_reading_body = true;
            session_arm(s, session_exchange_limits(s)->body_timeout_ms, MOON_ERR_BODY_TIMEOUT);
            return rc;
        }
        if (rc != MOON_OK) {
            s->is_keep_alive = false;
            return rc;
        }
    }
    moon_timer_stop(&s->timer);
    *data = moon_slice(NULL, 0);
    *is_done = true;
    return MOON_OK;
}

static void session_send_continue(void *peer)
{
    struct moon_session *s = peer;
    struct iovec iov = {(void *)(uintptr_t) "HTTP/1.1 100 Continue\r\n\r\n", 25};
    if (s->client_minor >= 1 && moon_stream_write(s->stream, &iov, 1) == MOON_ERR_IO)
        s->is_broken = true;
}

// Writes `head` and the framed data behind it.
static enum moon_rc session_write(struct moon_session *s, struct moon_slice head,
                                  struct moon_slice data, bool is_last,
                                  const struct moon_fields *trailers)
{
    struct moon_h1_run run;
    enum moon_rc rc = moon_h1_run_init(&run, head, data, s->is_chunked, is_last, trailers);
    if (rc == MOON_OK && run.count > 0)
        rc = moon_stream_write(s->stream, run.iov, run.count);
    moon_h1_run_fini(&run);
    if (rc == MOON_AGAIN)
        session_arm_send(s);
    else if (rc != MOON_OK)
        s->is_broken = true;
    return rc;
}

static void session_write_interim(void *peer, int status, const struct moon_fields *fields)
{
    struct moon_session *s = peer;
    struct moon_buf head;
    const struct moon_response response = {
        .status = status, .fields = *fields, .content_length = -1};
    if (s->client_minor == 0)
        return; // RFC 9110 §15.2
    moon_buf_init(&head, 65536);
    if (moon_h1_write_response(&head, &response, MOON_METHOD_GET, s->client_minor, true) ==
        MOON_OK) {
        struct moon_slice bytes = moon_buf_slice(&head);
        struct iovec iov = {(void *)(uintptr_t)bytes.data, bytes.len};
        enum moon_rc rc = moon_stream_write(s->stream, &iov, 1);
        s->is_broken = s->is_broken || (rc != MOON_OK && rc != MOON_AGAIN);
    }
    moon_buf_fini(&head);
}

static bool session_may_keep(const struct moon_session *s, const struct moon_exchange *x)
{
    const struct moon_limits_conf *limits = session_limits(s);
    bool is_body_out_of_the_way =
        x->is_body_done || s->body.is_done ||
        (s->body.framing == MOON_FRAMING_LENGTH && s->body.left <= SESSION_SKIP_BYTES &&
         !(x->request.expects_continue && !x->is_continue_sent));
    // Behind a client that has said all it will, the requests that it sent ahead are still answered.
    bool has_more = !s->is_eof || moon_buf_len(&s->in) > s->body_used;
    return s->is_keep_alive && has_more && !x->is_tunnel && !s->gateway->is_draining &&
           s->listener->index >= 0 && is_body_out_of_the_way &&
           (limits->requests_per_connection == 0 || s->requests < limits->requests_per_connection);
}

static enum moon_rc session_write_head(void *peer, const struct moon_response *response,
                                       struct moon_slice data, bool is_last)
{
    struct moon_session *s = peer;
    struct moon_buf head;
    bool is_chunked = response->framing == MOON_FRAMING_CHUNKED;
    if (is_chunked && s->client_minor == 0)
        s->is_keep_alive = false; // the end of the body is the end of the connection
    s->is_keep_alive = session_may_keep(s, s->exchange);
    s->is_chunked = is_chunked && s->client_minor >= 1;
    s->is_head_written = true;
    s->idle_ms = session_exchange_limits(s)->idle_timeout_ms;
    s->send_rule = (struct moon_reader_rule){session_exchange_limits(s)->send_timeout_ms,
                                             session_exchange_limits(s)->send_rate};
    if (s->exchange->is_tunnel)
        moon_h1_body_init(&s->body, MOON_FRAMING_CLOSE, -1, NULL, false);
    moon_buf_init(&head, 1 << 20);
    enum moon_rc rc = moon_h1_write_response(&head, response, s->exchange->request.client_method,
                                             s->client_minor, s->is_keep_alive);
    if (rc == MOON_OK)
        rc = session_write(s, moon_buf_slice(&head), data, is_last, NULL);
    else
        s->is_broken = true;
    moon_buf_fini(&head);
    return rc;
}

static enum moon_rc session_write_body(void *peer, struct moon_slice data, bool is_last,
                                       const struct moon_fields *trailers)
{
    struct moon_session *s = peer;
    enum moon_rc rc = session_write(s, moon_slice(NULL, 0), data, is_last, trailers);
    if (is_last && s->exchange->is_tunnel)
        moon_stream_shutdown_write(s->stream);
    return rc;
}

static void session_abort(void *peer)
{
    struct moon_session *s = peer;
    s->is_keep_alive = false;
    s->is_broken = true;
    moon_stream_abort(s->stream);
}

// Passes over the rest of a request body. @return true when it is out of the way
static bool session_skip_body(struct moon_session *s)
{
    if (s->body_used > 0)
        moon_buf_consume(&s->in, s->body_used);
    s->body_used = 0;
    while (!s->body.is_done) {
        struct moon_slice data;
        size_t used = 0;
        enum moon_rc rc = moon_h1_body_next(&s->body, moon_buf_slice(&s->in), &used, &data);
        moon_buf_consume(&s->in, used);
        if (rc == MOON_AGAIN)
            return false;
        if (rc != MOON_OK) {
            s->is_keep_alive = false;
            return true;
        }
    }
    return true;
}

static void session_finished(void *peer)
{
    struct moon_session *s = peer;
    s->exchange = NULL;
    s->is_reading_body = false;
    moon_stream_pause_reading(s->stream, s->is_eof);
    s->is_skipping = !session_skip_body(s);
    moon_timer_stop(&s->timer);
    if (!s->is_processing)
        session_process(s);
}

static const struct moon_peer_ops session_peer_ops = {
    .read_body = session_read_body,
    .send_continue = session_send_continue,
    .write_interim = session_write_interim,
    .write_head = session_write_head,
    .write_body = session_write_body,
    .abort = session_abort,
    .finished = session_finished,
};

// @param head  written: the copy that lives as long as the exchange
static enum moon_rc session_parse(struct moon_session *s, struct moon_exchange *x, size_t head_len,
                                  struct moon_slice *head)
{
    const struct moon_limits_conf *limits = session_limits(s);
    struct moon_h1_limits h1 = {limits->head_bytes, limits->uri_bytes, limits->header_count};
    if (!moon_arena_copy(&x->arena, moon_slice(moon_buf_slice(&s->in).data, head_len), head))
        return MOON_ERR_MEMORY;
    enum moon_rc rc = moon_h1_parse_request(&x->request, *head, &h1, s->client.is_tls);
    moon_buf_consume(&s->in, head_len);
    moon_buf_relax(&s->in); // while the backend works, a connection without a body holds no block
    return rc;
}

// What has come of a head that was refused before its end.
static struct moon_slice session_refused_head(struct moon_session *s, struct moon_exchange *x)
{
    struct moon_slice head = {NULL, 0}, came = moon_buf_slice(&s->in);
    came.len = moon_min_size(came.len, session_limits(s)->head_bytes);
    return moon_arena_copy(&x->arena, came, &head) ? head : moon_slice(NULL, 0);
}

static void session_start_exchange(struct moon_session *s, enum moon_rc scanned, size_t head_len)
{
    s->client.listener = s->listener->index; // a reload may have moved it
    struct moon_exchange *x = moon_exchange_new(s->gateway, &s->client, &session_peer_ops, s);
    if (x == NULL) {
        s->is_broken = true;
        return;
    }
    s->exchange = x;
    s->requests++;
    s->is_head_written = false;
    s->is_keep_alive = false;
    s->client_minor = 1;
    moon_timer_stop(&s->timer);
    struct moon_slice head = {NULL, 0};
    enum moon_rc rc = scanned == MOON_OK ? session_parse(s, x, head_len, &head) : scanned;
    if (rc == MOON_OK) {
        s->is_keep_alive = x->request.is_keep_alive;
        s->client_minor = x->request.version_minor;
        moon_h1_body_init(&s->body, x->request.framing, x->request.content_length,
                          &x->request.trailers, false);
        if (s->client.is_trusted_proxy)
            moon_client_forwarded(x);
        moon_exchange_start(x);
    } else {
        if (scanned != MOON_OK)
            head = session_refused_head(s, x);
        if (moon_slice_starts(head, MOON_S("HEAD ")))
            x->request.client_method =
                MOON_METHOD_HEAD; // its answer has no body, whatever is wrong
        moon_buf_clear(&s->in);
        moon_h1_body_init(&s->body, MOON_FRAMING_NONE, 0, NULL, false);
        moon_exchange_refuse(x, rc, head);
    }
}

// @return false when there is no whole head yet
static bool session_next_request(struct moon_session *s)
{
    size_t head_len = 0;
    const struct moon_limits_conf *limits = session_limits(s);
    struct moon_h1_limits h1 = {limits->head_bytes, limits->uri_bytes, limits->header_count};
    s->in.ceiling = moon_max_size(SESSION_IN_BYTES, limits->head_bytes + MOON_BUF_BLOCK_BYTES);
    if (s->scan.at == 0)
        moon_buf_consume(&s->in, moon_h1_skip_empty_lines(moon_buf_slice(&s->in)));
    if (moon_buf_len(&s->in) == 0)
        return false;
    enum moon_rc rc = moon_h1_scan(&s->scan, moon_buf_slice(&s->in), &h1, &head_len);
    if (rc == MOON_AGAIN && s->timeout_rc == MOON_ERR_HEAD_TIMEOUT &&
        !moon_timer_is_running(&s->timer))
        rc = MOON_ERR_HEAD_TIMEOUT;
    if (rc == MOON_AGAIN)
        return false;
    s->scan = (struct moon_h1_scan){0};
    session_start_exchange(s, rc, head_len);
    return true;
}

// Starts requests one after another for as long as they are there, end at once, and the client reads
// their answers: those wait in memory.
static void session_process(struct moon_session *s)
{
    s->is_processing = true;
    while (s->exchange == NULL && !s->is_broken) {
        if (s->is_skipping)
            s->is_skipping = !session_skip_body(s);
        if (s->is_skipping)
            break;
        if (s->requests > 0 && !s->is_keep_alive)
            break;
        if (session_awaits_reading(s) || !session_next_request(s))
            break;
    }
    s->is_processing = false;
    if (s->exchange != NULL)
        return;
    if (s->is_broken) {
        session_free(s);
    } else if (s->requests > 0 && !s->is_keep_alive) {
        session_close(s);
    } else if (session_awaits_reading(s)) {
        if (!moon_timer_is_running(&s->timer) || s->timeout_rc != MOON_ERR_SEND_TIMEOUT)
            session_arm_send(s);
    } else if (s->is_eof) {
        session_close(s);
    } else if (moon_buf_len(&s->in) == 0 && !s->is_skipping) {
        session_idle(s);
    } else if (!moon_timer_is_running(&s->timer) || s->timeout_rc != MOON_ERR_HEAD_TIMEOUT) {
        session_arm(s, session_limits(s)->head_timeout_ms, MOON_ERR_HEAD_TIMEOUT);
    }
}

// The first bytes tell the protocol (ALPN told it before). @return true when it is HTTP/1.x
static bool session_is_h1(struct moon_session *s)
{
    int index = s->listener->index;
    bool has_h2 = index >= 0 && s->gateway->generation->plan->listeners[index].is_http2;
    enum moon_rc rc = MOON_ERR_H2_PROTOCOL;
    if (has_h2 && s->client.is_tls) {
        rc = s->client.tls != NULL && moon_slice_is(s->client.tls->alpn, MOON_S("h2"))
                 ? MOON_OK
                 : MOON_ERR_H2_PROTOCOL;
    } else if (has_h2) {
        rc = moon_h2_match_preface(moon_buf_slice(&s->in));
    }
    if (rc == MOON_AGAIN)
        return false;
    s->is_protocol_known = true;
    if (rc == MOON_OK)
        moon_session_h2_take(s);
    return rc != MOON_OK;
}

static void session_got_bytes(struct moon_session *s)
{
    if (!s->is_protocol_known && !session_is_h1(s))
        return;
    if (s->is_lingering) {
        moon_buf_clear(&s->in);
    } else if (s->exchange == NULL) {
        session_process(s);
    } else if (s->is_reading_body) {
        s->is_reading_body = false;
        moon_exchange_on_request_body(s->exchange);
    }
}

static void session_got_end(struct moon_session *s, enum moon_rc rc)
{
    moon_stream_pause_reading(s->stream, true);
    s->is_eof = true;
    if (rc != MOON_EOF)
        s->is_broken = true;
    if (s->exchange == NULL && session_awaits_reading(s))
        return; // session_writable goes on
    if (s->is_lingering || (s->exchange == NULL && moon_buf_len(&s->in) == 0)) {
        session_free(s);
    } else if (s->exchange == NULL) {
        session_process(s);
    } else if (s->is_broken) {
        moon_exchange_on_client_gone(s->exchange, MOON_ERR_CLIENT_CLOSED);
    } else if (s->is_reading_body && s->exchange->is_tunnel) {
        s->is_reading_body = false;
        moon_exchange_on_request_body(s->exchange);
    } else if (s->is_reading_body) {
        // The body was cut: nobody is there to read an answer that explains it.
        s->is_broken = true;
        moon_exchange_on_client_gone(s->exchange, MOON_ERR_CLIENT_CLOSED);
    }
}

static bool session_is_alive(const struct moon_gateway *gateway, const struct moon_session *s)
{
    return gateway->current_session == s;
}

static void session_readable(void *owner)
{
    struct moon_session *s = owner;
    struct moon_gateway *gateway = s->gateway;
    struct moon_session *outer = gateway->current_session;
    gateway->current_session = s;
    if (s->client.is_tls && s->client.tls == NULL) {
        s->client.tls = moon_stream_tls(s->stream);
        s->client.stream = s->stream;
        if (s->client.tls != NULL && s->exchange == NULL)
            session_idle(s); // the handshake is over
    }
    for (int reads = 0; reads < SESSION_FAIR_READS; reads++) {
        size_t n = 0;
        if (s->body_used > 0) {
            // Part of `in` is lent to the exchange, so it must stay where it is.
            moon_stream_pause_reading(s->stream, true);
            break;
        }
        enum moon_rc rc = moon_stream_read(
            s->stream, &s->in, s->exchange != NULL ? SESSION_READ_BYTES : MOON_BUF_BLOCK_BYTES, &n);
        if (rc == MOON_AGAIN)
            break;
        if (rc == MOON_ERR_LIMIT) {
            moon_stream_pause_reading(s->stream, true);
            break;
        }
        if (rc != MOON_OK) {
            session_got_end(s, rc);
            break;
        }
        session_got_bytes(s);
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the successor is taken before the element is freed
        if (!session_is_alive(gateway, s) || s->h2 != NULL || n < MOON_BUF_BLOCK_BYTES)
            break;
    }
    gateway->current_session = outer;
}

static void session_writable(void *owner)
{
    struct moon_session *s = owner;
    struct moon_reader_rule rule = session_send_rule(s);
    if (session_awaits_reading(s))
        return;
    if (s->reader.is_waited_for &&
        moon_reader_stop(&s->reader, moon_loop_now_ms(s->gateway->env.loop), &rule) &&
        !session_judge_reader(s)) {
        s->timeout_rc = MOON_ERR_SEND_TIMEOUT;
        if (s->exchange != NULL)
            session_break(s);
        else
            session_cut(s);
        return;
    }
    if (s->exchange != NULL) {
        if (s->timeout_rc == MOON_ERR_SEND_TIMEOUT)
            moon_timer_stop(&s->timer);
        moon_exchange_on_writable(s->exchange);
    } else if (s->is_lingering) {
        session_close(s);
    } else {
        moon_stream_pause_reading(s->stream, s->is_eof);
        session_process(s);
    }
}

static const struct moon_stream_events session_events = {session_readable, session_writable};

static void session_set_client(struct moon_session *s, const struct sockaddr *peer)
{
    moon_client_init(&s->client, moon_stream_fd(s->stream), peer);
    s->client.listener = s->listener->index;
    s->client.is_trusted_proxy = moon_client_is_trusted(s->gateway->generation->plan, peer);
}

struct moon_session *moon_session_new(struct moon_gateway_listener *listener, int fd,
                                      const struct sockaddr *peer)
{
    struct moon_gateway *gateway = listener->gateway;
    struct moon_generation *generation = gateway->generation;
    struct moon_session *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        (void)close(fd);
        return NULL;
    }
    s->gateway = gateway;
    s->listener = listener;
    struct moon_tls_server *tls = generation->tls[listener->index];
    if (!listener->is_management &&
        !moon_admission_enter(gateway, peer, tls != NULL, &s->is_address_counted)) {
        (void)close(fd);
        free(s);
        return NULL;
    }
    s->stream = moon_stream_accept(gateway->env.loop, fd, tls, &session_events, s);
    if (s->stream == NULL) {
        uint16_t port;
        struct moon_ip ip = moon_ip_from_sockaddr(peer, &port);
        if (s->is_address_counted)
            moon_admission_leave(gateway, &ip);
        free(s);
        return NULL;
    }
    if (tls != NULL) {
        s->tls_generation = generation;
        moon_generation_acquire(generation);
        s->client.is_tls = true;
    }
    moon_buf_init(&s->in, SESSION_IN_BYTES);
    moon_timer_init(&s->timer, gateway->env.loop, session_timeout, s);
    session_set_client(s, peer);
    moon_list_push_back(&gateway->sessions, &s->link);
    gateway->session_count++;
    if (gateway->env.slot != NULL)
        atomic_store_explicit(&gateway->env.slot->connections, (int64_t)gateway->session_count,
                              memory_order_relaxed);
    moon_metrics_add(gateway->env.metrics, gateway->metrics.connections, 1);
    session_idle(s);
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the successor is taken before the element is freed
    return s;
}

void moon_session_free(struct moon_session *s)
{
    session_free(s);
}

void moon_session_linger(struct moon_session *s)
{
    moon_stream_set_owner(s->stream, &session_events, s);
    moon_timer_stop(&s->timer);
    moon_timer_init(&s->timer, s->gateway->env.loop, session_timeout, s);
    session_close(s);
}

void moon_session_kill(struct moon_session *s)
{
    if (s->h2 != NULL) {
        moon_session_h2_kill(s);
        return;
    }
    s->is_broken = true;
    if (s->exchange != NULL)
        moon_exchange_on_client_gone(s->exchange, MOON_ERR_CANCELLED);
    else
        session_free(s);
}

void moon_session_drain(struct moon_session *s)
{
    if (s->h2 != NULL)
        moon_session_h2_drain(s);
    else if (s->exchange == NULL && !s->is_lingering && moon_buf_len(&s->in) == 0 &&
             s->requests > 0 && !session_awaits_reading(s))
        session_idle(s);
}
