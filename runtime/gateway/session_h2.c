/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "gateway/admission.h"
#include "gateway/body.h"
#include "gateway/client.h"
#include "gateway/session.h"
#include "http/h2.h"

enum {
    H2_OUT_BYTES = 65536,                      // gathered for one write
    H2_OUT_CEILING = H2_OUT_BYTES + (1 << 20), // and what nghttp2 gives in one piece
    H2_READ_BYTES = 65536,
    H2_FAIR_READS = 4,
    H2_STREAM_WINDOW_BYTES = 128 << 10,
    H2_CONNECTION_WINDOW_BYTES = 1 << 20,
    H2_NOTICE_MS = 1000, // between the two steps of GOAWAY
    H2_STREAMS_KEPT = 256,
};

/// A connection in HTTP/2. Its bytes go out once a turn: at the end of the reading that caused
/// them, or of the loop's turn in which backends answered.
struct moon_h2_conn {
    struct moon_session *session;
    struct moon_h2 *h2;
    struct moon_list streams; // struct session_stream, all that are not freed
    size_t stream_count;
    struct moon_buf out;
    struct moon_task flush;
    uint64_t timer_mark;
    bool is_turning;  // in conn_turn: what comes up there is seen there
    bool is_blocked;  // the socket took no more: moon_stream's on_writable follows
    bool is_broken;   // reset
    bool is_draining; // the notice, or the final GOAWAY, was given
    bool is_killed;
};

struct session_stream {
    struct moon_h2_stream h2;
    struct moon_list link; // in the connection
    struct moon_h2_conn *conn;
    struct moon_exchange *exchange; // NULL: over
    struct moon_timer timer;
    enum moon_rc timeout_rc;
    struct moon_reader_rule send_rule; // as its route has it, with the answer's head
    struct moon_slow_reader reader;    // of the windows that it opens
    bool is_reading_body;
    bool is_held; // conn_handle uses it
};

static struct moon_list h2_kept = {&h2_kept, &h2_kept}; // unused struct session_stream
static size_t h2_kept_count;

static const struct moon_limits_conf *conn_limits(const struct moon_h2_conn *conn)
{
    return &conn->session->gateway->generation->plan->limits;
}

static void stream_free(struct session_stream *stream)
{
    struct moon_h2_conn *conn = stream->conn;
    moon_timer_stop(&stream->timer);
    moon_h2_fini_stream(&stream->h2);
    moon_list_remove(&stream->link);
    conn->stream_count--;
    if (MOON_ASAN || h2_kept_count >= H2_STREAMS_KEPT) {
        free(stream);
        return;
    }
    moon_list_push_front(&h2_kept, &stream->link);
    h2_kept_count++;
}

static void stream_settle(struct session_stream *stream)
{
    if (!stream->is_held && stream->exchange == NULL && stream->h2.is_closed)
        stream_free(stream);
}

static void conn_post(struct moon_h2_conn *conn)
{
    if (!conn->is_turning)
        moon_task_post(conn->session->gateway->env.loop, &conn->flush);
}

static size_t conn_room(const struct moon_h2_conn *conn)
{
    return conn->is_blocked || conn->is_killed ? 0 : H2_OUT_BYTES;
}

// Those of the route that the stream's request has found.
static const struct moon_limits_conf *stream_limits(const struct session_stream *stream)
{
    const struct moon_leaf *leaf = stream->exchange != NULL ? stream->exchange->ctx.leaf : NULL;
    return leaf != NULL ? &leaf->limits : conn_limits(stream->conn);
}

static void stream_arm(struct session_stream *stream, int64_t after_ms, enum moon_rc meaning)
{
    stream->timeout_rc = meaning;
    moon_timer_set(&stream->timer, after_ms);
}

static int64_t conn_now_ms(const struct moon_h2_conn *conn)
{
    return moon_loop_now_ms(conn->session->gateway->env.loop);
}

static struct moon_reader_rule conn_send_rule(const struct moon_h2_conn *conn)
{
    return (struct moon_reader_rule){conn_limits(conn)->send_timeout_ms,
                                     conn_limits(conn)->send_rate};
}

// The streams of a connection share what it must read.
static struct moon_reader_rule stream_send_rule(const struct session_stream *stream)
{
    struct moon_reader_rule rule = stream->send_rule;
    rule.rate /= (int64_t)moon_max_size(stream->conn->stream_count, 1);
    return rule;
}

static void stream_arm_send(struct session_stream *stream)
{
    moon_reader_wait(&stream->reader, conn_now_ms(stream->conn), stream->h2.sent_bytes);
    stream_arm(stream,
               moon_reader_due_ms(&stream->reader, conn_now_ms(stream->conn), &stream->send_rule),
               MOON_ERR_SEND_TIMEOUT);
}

// Where the windows are open it is the connection that does not take it, which is judged by itself.
static bool stream_judge_reader(struct session_stream *stream)
{
    struct moon_reader_rule rule = stream_send_rule(stream);
    return moon_h2_has_window(&stream->h2) ||
           moon_reader_judge(&stream->reader, conn_now_ms(stream->conn), stream->h2.sent_bytes,
                             &rule) == MOON_READER_GOES_ON;
}

static void stream_cut(struct session_stream *stream)
{
    struct moon_h2_conn *conn = stream->conn;
    moon_log_info("HTTP/2 stream: %s client=%.*s", moon_rc_text(MOON_ERR_SEND_TIMEOUT),
                  (int)conn->session->client.ip_len, conn->session->client.ip_text);
    moon_h2_reset(&stream->h2, MOON_H2_CANCEL);
    conn_post(conn);
    if (stream->exchange != NULL)
        moon_exchange_on_client_gone(stream->exchange, MOON_ERR_SEND_TIMEOUT);
}

// What waited has gone. @return false: too slowly, and the stream was cut
static bool stream_stop_send(struct session_stream *stream)
{
    struct moon_reader_rule rule = stream_send_rule(stream);
    if (stream->timeout_rc == MOON_ERR_SEND_TIMEOUT)
        moon_timer_stop(&stream->timer);
    if (!stream->reader.is_waited_for ||
        !moon_reader_stop(&stream->reader, conn_now_ms(stream->conn), &rule) ||
        stream_judge_reader(stream))
        return true;
    stream_cut(stream);
    return false;
}

static void stream_timeout(struct moon_timer *timer)
{
    struct session_stream *stream = timer->owner;
    struct moon_h2_conn *conn = stream->conn;
    if (stream->timeout_rc == MOON_ERR_SEND_TIMEOUT) {
        if (stream_judge_reader(stream))
            stream_arm_send(stream);
        else
            stream_cut(stream);
    } else if (stream->exchange != NULL && stream->h2.is_answered) {
        moon_h2_reset(&stream->h2, MOON_H2_CANCEL);
        conn_post(conn);
        moon_exchange_on_client_gone(stream->exchange, stream->timeout_rc);
    } else if (stream->exchange != NULL) {
        stream->is_reading_body = false;
        moon_exchange_body_failed(stream->exchange, MOON_ERR_BODY_TIMEOUT);
    }
}

static enum moon_rc peer_read_body(void *peer, struct moon_slice *data, bool *is_done)
{
    struct session_stream *stream = peer;
    bool had_lent = stream->h2.lent > 0;
    enum moon_rc rc = moon_h2_read(&stream->h2, data, is_done);
    stream->is_reading_body = rc == MOON_AGAIN;
    if (rc == MOON_AGAIN && !stream->exchange->is_tunnel) {
        stream_arm(stream, stream_limits(stream)->body_timeout_ms, MOON_ERR_BODY_TIMEOUT);
    } else if (stream->timeout_rc == MOON_ERR_BODY_TIMEOUT) {
        moon_timer_stop(&stream->timer);
    }
    if (had_lent)
        conn_post(stream->conn); // the window opened
    return rc;
}

static void peer_send_continue(void *peer)
{
    struct session_stream *stream = peer;
    moon_h2_write_interim(&stream->h2, 100, NULL);
    conn_post(stream->conn);
}

static void peer_write_interim(void *peer, int status, const struct moon_fields *fields)
{
    struct session_stream *stream = peer;
    moon_h2_write_interim(&stream->h2, status, fields);
    conn_post(stream->conn);
}

static enum moon_rc stream_wrote(struct session_stream *stream, enum moon_rc rc)
{
    if (rc == MOON_AGAIN)
        stream_arm_send(stream);
    else if (stream->timeout_rc == MOON_ERR_SEND_TIMEOUT)
        moon_timer_stop(&stream->timer);
    if (rc != MOON_OK && rc != MOON_AGAIN && rc != MOON_ERR_IO)
        moon_h2_reset(&stream->h2, MOON_H2_INTERNAL_ERROR);
    conn_post(stream->conn);
    return rc == MOON_OK || rc == MOON_AGAIN ? rc : MOON_ERR_IO;
}

// RFC 8441 §5: what HTTP/1.1 tells with 101 is a plain 200 here, without the fields of the handshake.
static void stream_accept_tunnel(struct moon_response *response)
{
    response->status = 200;
    (void)moon_fields_remove_id(&response->fields, MOON_FIELD_UPGRADE);
    (void)moon_fields_remove(&response->fields, MOON_S("Sec-WebSocket-Accept"));
}

static enum moon_rc peer_write_head(void *peer, const struct moon_response *response,
                                    struct moon_slice data, bool is_last)
{
    struct session_stream *stream = peer;
    struct moon_h2_conn *conn = stream->conn;
    struct moon_response tunnel = *response;
    const struct moon_limits_conf *limits = stream_limits(stream);
    stream->send_rule = (struct moon_reader_rule){limits->send_timeout_ms, limits->send_rate};
    if (response->status == 101)
        stream_accept_tunnel(&tunnel);
    return stream_wrote(stream, moon_h2_write_head(&stream->h2, &tunnel, data, is_last, &conn->out,
                                                   conn_room(conn)));
}

static enum moon_rc peer_write_body(void *peer, struct moon_slice data, bool is_last,
                                    const struct moon_fields *trailers)
{
    struct session_stream *stream = peer;
    struct moon_h2_conn *conn = stream->conn;
    return stream_wrote(stream, moon_h2_write_body(&stream->h2, data, is_last, trailers, &conn->out,
                                                   conn_room(conn)));
}

static void peer_abort(void *peer)
{
    struct session_stream *stream = peer;
    moon_h2_reset(&stream->h2, MOON_H2_INTERNAL_ERROR);
    conn_post(stream->conn);
}

static void peer_finished(void *peer)
{
    struct session_stream *stream = peer;
    stream->exchange = NULL;
    stream->is_reading_body = false;
    if (stream->timeout_rc != MOON_ERR_SEND_TIMEOUT)
        moon_timer_stop(&stream->timer);
    // An answer that came before the whole of the body: the rest is not wanted (RFC 9113 §8.1).
    if (!stream->h2.is_closed && !stream->h2.is_in_ended && stream->h2.is_out_ended)
        moon_h2_reset(&stream->h2, MOON_H2_NO_ERROR);
    else if (!stream->h2.is_closed && !stream->h2.is_answered)
        moon_h2_reset(&stream->h2, MOON_H2_INTERNAL_ERROR);
    moon_h2_leave(&stream->h2);
    conn_post(stream->conn);
    stream_settle(stream);
}

static const struct moon_peer_ops peer_ops = {
    .read_body = peer_read_body,
    .send_continue = peer_send_continue,
    .write_interim = peer_write_interim,
    .write_head = peer_write_head,
    .write_body = peer_write_body,
    .abort = peer_abort,
    .finished = peer_finished,
};

static struct session_stream *stream_get(void)
{
    if (h2_kept_count == 0)
        return calloc(1, sizeof(struct session_stream));
    struct session_stream *stream = MOON_LIST_ENTRY(h2_kept.next, struct session_stream, link);
    moon_list_remove(&stream->link);
    h2_kept_count--;
    memset(stream, 0, sizeof(*stream));
    return stream;
}

static struct moon_h2_stream *conn_open(void *owner)
{
    struct moon_h2_conn *conn = owner;
    struct moon_session *s = conn->session;
    struct session_stream *stream = stream_get();
    if (stream == NULL)
        return NULL;
    s->client.listener = s->listener->index; // a reload may have moved it
    stream->exchange = moon_exchange_new(s->gateway, &s->client, &peer_ops, stream);
    if (stream->exchange == NULL) {
        free(stream);
        return NULL;
    }
    stream->conn = conn;
    stream->h2.request = &stream->exchange->request;
    moon_timer_init(&stream->timer, s->gateway->env.loop, stream_timeout, stream);
    moon_list_push_back(&conn->streams, &stream->link);
    conn->stream_count++;
    s->requests++;
    return &stream->h2;
}

static void stream_start(struct session_stream *stream)
{
    struct moon_exchange *x = stream->exchange;
    if (stream->h2.head_rc != MOON_OK) {
        moon_exchange_refuse(x, stream->h2.head_rc, moon_slice(NULL, 0));
        return;
    }
    if (stream->conn->session->client.is_trusted_proxy)
        moon_client_forwarded(x);
    moon_exchange_start(x);
}

// The client reset the stream, or sent what made nghttp2 do so.
static void stream_closed(struct session_stream *stream)
{
    struct moon_exchange *x = stream->exchange;
    if (x == NULL || x->is_response_done)
        return; // what is left of it goes on by itself
    if (stream->h2.is_reset_by_us) {
        struct moon_slice why = moon_h2_complaint(&stream->h2);
        moon_log_info("malformed HTTP/2 request%s%.*s client=%.*s request=%.*s",
                      why.len > 0 ? ": " : "", MOON_SLICE_ARG(why), (int)x->client->ip_len,
                      x->client->ip_text, MOON_SLICE_ARG(x->ctx.id));
    }
    moon_exchange_on_client_gone(x, stream->h2.is_reset_by_us ? MOON_ERR_H2_PROTOCOL
                                                              : MOON_ERR_CLIENT_CLOSED);
}

static void conn_handle(struct session_stream *stream, unsigned events)
{
    stream->is_held = true;
    // What is reset at once is not begun.
    if ((events & MOON_H2_HEAD) != 0 && (events & MOON_H2_CLOSED) == 0)
        stream_start(stream);
    if ((events & MOON_H2_BODY) != 0 && stream->exchange != NULL && stream->is_reading_body) {
        stream->is_reading_body = false;
        moon_exchange_on_request_body(stream->exchange);
    }
    if ((events & MOON_H2_WRITABLE) != 0) {
        if (!stream_stop_send(stream))
            events &= (unsigned)MOON_H2_CLOSED;
        else if (stream->exchange != NULL)
            moon_exchange_on_writable(stream->exchange);
        else if (!stream->h2.is_in_ended && stream->h2.is_out_ended)
            moon_h2_reset(&stream->h2, MOON_H2_NO_ERROR);
    }
    if ((events & MOON_H2_CLOSED) != 0)
        stream_closed(stream);
    stream->is_held = false;
    stream_settle(stream);
}

static void conn_free(struct moon_h2_conn *conn)
{
    MOON_LIST_EACH(at, after, &conn->streams)
    stream_free(MOON_LIST_ENTRY(at, struct session_stream, link));
    moon_task_cancel(&conn->flush);
    moon_h2_free(conn->h2);
    moon_buf_fini(&conn->out);
    conn->session->h2 = NULL;
    free(conn);
}

// Ends all exchanges: nobody is there any more.
static void conn_cancel(struct moon_h2_conn *conn, enum moon_rc rc)
{
    conn->is_turning = true; // nothing is sent
    for (bool is_again = true; is_again;) {
        is_again = false;
        MOON_LIST_EACH(at, after, &conn->streams)
        {
            struct session_stream *stream = MOON_LIST_ENTRY(at, struct session_stream, link);
            if (stream->exchange == NULL)
                continue;
            moon_exchange_on_client_gone(stream->exchange, rc);
            is_again = true; // the list may have changed
            break;
        }
    }
    conn->is_turning = false;
}

// Logs why we ended the connection.
static void conn_tell_failure(const struct moon_h2_conn *conn)
{
    const struct moon_session *s = conn->session;
    moon_log_warn("HTTP/2 connection ended: %s client=%.*s", moon_h2_failure(conn->h2),
                  (int)s->client.ip_len, s->client.ip_text);
    moon_admission_refuse(s->gateway, MOON_REFUSED_HTTP2, &s->client.peer_ip);
}

static void conn_close(struct moon_h2_conn *conn, enum moon_rc rc)
{
    struct moon_session *s = conn->session;
    s->is_broken = s->is_broken || conn->is_broken;
    if (moon_h2_failure(conn->h2) != NULL)
        conn_tell_failure(conn);
    conn_cancel(conn, rc);
    conn_free(conn);
    if (s->is_broken)
        moon_session_free(s);
    else
        moon_session_linger(s);
}

// @param mark  what must stay as it is for the time to run on
static void conn_arm(struct moon_h2_conn *conn, int64_t after_ms, enum moon_rc meaning,
                     uint64_t mark)
{
    struct moon_session *s = conn->session;
    if (s->timeout_rc == meaning && conn->timer_mark == mark && moon_timer_is_running(&s->timer))
        return;
    s->timeout_rc = meaning;
    conn->timer_mark = mark;
    moon_timer_set(&s->timer, after_ms);
}

static void conn_set_timer(struct moon_h2_conn *conn)
{
    struct moon_session *s = conn->session;
    const struct moon_limits_conf *limits = conn_limits(conn);
    struct moon_reader_rule rule = conn_send_rule(conn);
    if (conn->is_blocked)
        conn_arm(conn, moon_reader_due_ms(&s->reader, conn_now_ms(conn), &rule),
                 MOON_ERR_SEND_TIMEOUT, (uint64_t)s->reader.since_ms);
    else if (conn->is_draining && conn->stream_count > 0)
        conn_arm(conn, H2_NOTICE_MS, MOON_ERR_CANCELLED, 0);
    else if (moon_h2_is_within_frame(conn->h2) || s->requests == 0)
        conn_arm(conn, limits->head_timeout_ms, MOON_ERR_HEAD_TIMEOUT, moon_h2_frames(conn->h2));
    else if (conn->stream_count == 0)
        conn_arm(conn, limits->idle_timeout_ms, MOON_EOF, s->requests);
    else
        moon_timer_stop(&s->timer);
}

// Writes what there is. @return false when the connection is broken
static bool conn_write(struct moon_h2_conn *conn)
{
    struct moon_slice out = moon_buf_slice(&conn->out);
    struct iovec iov = {(void *)(uintptr_t)out.data, out.len};
    if (out.len == 0)
        return true;
    enum moon_rc rc = moon_stream_write(conn->session->stream, &iov, 1);
    moon_buf_clear(&conn->out);
    conn->is_blocked = rc == MOON_AGAIN;
    if (conn->is_blocked)
        moon_reader_wait(&conn->session->reader, conn_now_ms(conn),
                         moon_stream_bytes_read(conn->session->stream));
    conn->is_broken = rc != MOON_OK && rc != MOON_AGAIN;
    return !conn->is_broken;
}

// Events to exchanges, their answers to the socket, until there is nothing more to do now.
static void conn_run(struct moon_h2_conn *conn)
{
    for (bool is_more = true; is_more;) {
        struct moon_h2_stream *h2;
        unsigned events;
        while ((h2 = moon_h2_next(conn->h2, &events)) != NULL)
            conn_handle(MOON_CONTAINER_OF(h2, struct session_stream, h2), events);
        if (conn->is_blocked)
            return;
        // What was made before a failure goes out; moon_h2_is_open tells it afterwards.
        if (moon_h2_produce(conn->h2, &conn->out, H2_OUT_BYTES) != MOON_OK)
            break;
        is_more = moon_h2_has_events(conn->h2);
        if (moon_buf_len(&conn->out) >= H2_OUT_BYTES) {
            if (!conn_write(conn))
                return;
            is_more = true;
        }
    }
    (void)conn_write(conn);
}

static void conn_begin_drain(struct moon_h2_conn *conn)
{
    conn->is_draining = true;
    if (conn->stream_count == 0)
        moon_h2_go_away(conn->h2);
    else
        moon_h2_notice(conn->h2);
    conn_post(conn); // at the end of this turn of the loop
}

// May free the session.
static void conn_turn(struct moon_h2_conn *conn)
{
    struct moon_session *s = conn->session;
    if (conn->is_turning)
        return;
    conn->is_turning = true;
    conn_run(conn);
    conn->is_turning = false;
    if (conn->stream_count == 0)
        moon_buf_relax(&conn->out); // an idle connection holds no buffer
    const struct moon_limits_conf *limits = conn_limits(conn);
    if (limits->requests_per_connection > 0 && s->requests >= limits->requests_per_connection &&
        !conn->is_draining)
        conn_begin_drain(conn);
    if (conn->is_broken || !moon_h2_is_open(conn->h2))
        conn_close(conn, MOON_ERR_CLIENT_CLOSED);
    else
        conn_set_timer(conn);
}

static void conn_flush(struct moon_task *task)
{
    conn_turn(task->owner);
}

// @return false: the client does not read the connection, or too slowly
static bool conn_judge_reader(struct moon_h2_conn *conn)
{
    struct moon_reader_rule rule = conn_send_rule(conn);
    struct moon_session *s = conn->session;
    return moon_reader_judge(&s->reader, conn_now_ms(conn), moon_stream_bytes_read(s->stream),
                             &rule) == MOON_READER_GOES_ON;
}

static void conn_cut(struct moon_h2_conn *conn)
{
    moon_log_info("HTTP/2 connection: %s client=%.*s", moon_rc_text(MOON_ERR_SEND_TIMEOUT),
                  (int)conn->session->client.ip_len, conn->session->client.ip_text);
    conn->is_broken = true;
    moon_stream_abort(conn->session->stream);
    conn_close(conn, MOON_ERR_SEND_TIMEOUT);
}

static void conn_timeout(struct moon_timer *timer)
{
    struct moon_session *s = timer->owner;
    struct moon_h2_conn *conn = s->h2;
    switch ((int)s->timeout_rc) {
    case MOON_ERR_SEND_TIMEOUT:
        if (conn_judge_reader(conn))
            conn_set_timer(conn);
        else
            conn_cut(conn);
        return;
    case MOON_ERR_HEAD_TIMEOUT:
        moon_log_info("HTTP/2 frame, header block or first request did not arrive in head_timeout "
                      "client=%.*s",
                      (int)s->client.ip_len, s->client.ip_text);
        break;
    default:
        break;
    }
    conn->is_draining = true;
    moon_h2_go_away(conn->h2);
    if (s->timeout_rc == MOON_ERR_HEAD_TIMEOUT)
        moon_h2_stop(conn->h2);
    s->timeout_rc = MOON_OK;
    conn_turn(conn);
}

// @return false when there is nothing to go on with
static bool conn_receive(struct moon_h2_conn *conn)
{
    struct moon_session *s = conn->session;
    enum moon_rc rc = moon_h2_receive(conn->h2, moon_buf_slice(&s->in));
    moon_buf_clear(&s->in);
    return rc == MOON_OK;
}

static void conn_readable(void *owner)
{
    struct moon_session *s = owner;
    struct moon_h2_conn *conn = s->h2;
    for (int reads = 0; reads < H2_FAIR_READS; reads++) {
        size_t n = 0;
        enum moon_rc rc = moon_stream_read(s->stream, &s->in,
                                           reads == 0 ? MOON_BUF_BLOCK_BYTES : H2_READ_BYTES, &n);
        if (rc == MOON_AGAIN)
            break;
        if (rc != MOON_OK) {
            // The client sends no more: nothing can be acknowledged any more, so this is the end.
            conn->is_broken = true;
            break;
        }
        if (!conn_receive(conn) || n < MOON_BUF_BLOCK_BYTES)
            break;
    }
    moon_buf_relax(&s->in);
    conn_turn(conn);
}

static void conn_writable(void *owner)
{
    struct moon_session *s = owner;
    struct moon_h2_conn *conn = s->h2;
    struct moon_reader_rule rule = conn_send_rule(conn);
    if (moon_stream_queued(s->stream) > 0)
        return;
    conn->is_blocked = false;
    if (s->reader.is_waited_for && moon_reader_stop(&s->reader, conn_now_ms(conn), &rule) &&
        !conn_judge_reader(conn))
        conn_cut(conn);
    else
        conn_turn(conn);
}

static const struct moon_stream_events conn_events = {conn_readable, conn_writable};

void moon_session_h2_take(struct moon_session *s)
{
    const struct moon_limits_conf *limits = &s->gateway->generation->plan->limits;
    const struct moon_h2_limits h2_limits = {
        .head_bytes = limits->head_bytes,
        .uri_bytes = limits->uri_bytes,
        .header_count = limits->header_count,
        .streams = limits->streams,
        .stream_window_bytes = H2_STREAM_WINDOW_BYTES,
        .connection_window_bytes = H2_CONNECTION_WINDOW_BYTES,
    };
    struct moon_h2_conn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL ||
        moon_h2_new(&h2_limits, s->client.is_tls, conn_open, conn, &conn->h2) != MOON_OK) {
        free(conn);
        s->is_broken = true;
        moon_session_free(s);
        return;
    }
    conn->session = s;
    moon_list_init(&conn->streams);
    moon_buf_init(&conn->out, H2_OUT_CEILING);
    moon_task_init(&conn->flush, conn_flush, conn);
    s->h2 = conn;
    moon_timer_stop(&s->timer);
    moon_timer_init(&s->timer, s->gateway->env.loop, conn_timeout, s);
    moon_stream_set_owner(s->stream, &conn_events, s);
    if (moon_buf_len(&s->in) > 0)
        (void)conn_receive(conn);
    conn_turn(conn);
}

void moon_session_h2_kill(struct moon_session *s)
{
    s->h2->is_broken = s->h2->is_killed = true;
    conn_close(s->h2, MOON_ERR_CANCELLED);
}

void moon_session_h2_drain(struct moon_session *s)
{
    struct moon_h2_conn *conn = s->h2;
    if (conn->is_draining)
        return;
    conn_begin_drain(conn);
}

bool moon_session_h2_yield(struct moon_session *s)
{
    struct moon_h2_conn *conn = s->h2;
    if (conn->stream_count > 0 || s->requests == 0 || conn->is_turning || conn->is_draining)
        return false;
    conn->is_draining = conn->is_turning = true;
    moon_h2_go_away(conn->h2);
    conn_run(conn);
    conn->is_turning = false;
    conn->is_broken = true; // no lingering: its place is wanted now
    conn_close(conn, MOON_ERR_CANCELLED);
    return true;
}
