/* SPDX-License-Identifier: Apache-2.0 */

/// HTTP/2 with a target: calls are streams on connections that they share. A connection belongs to
/// its pool; it lives for as long as it has streams, and for the pool's idle time behind that.

#include "base/clock.h"
#include "base/log.h"
#include "http/h2_client.h"
#include "upstream/call_internal.h"

enum {
    H2_HEAD_BYTES = 65536,
    H2_FIELDS = 256,
    H2_STREAM_WINDOW = 256 << 10,
    H2_CONNECTION_WINDOW = 8 << 20,
    H2_OUT_BYTES = 65536,
    H2_READ_BYTES = 65536,
    H2_FAIR_READS = 4,
};

struct moon_h2_conn {
    struct moon_list link; // of its pool
    struct moon_pool *pool;
    struct moon_uconn *conn;
    struct moon_h2c *h2;
    struct moon_list streams; // struct call_stream
    size_t stream_count;
    struct call_stream *current; // whose events are told; NULL once it has gone there
    struct moon_task flush;      // once a turn, for all streams
    struct moon_timer idle;
    bool is_busy;   // in an event of its own, which goes on with it
    bool is_broken; // takes no more streams
    bool is_dead;   // nothing travels any more
};

/// A call's place on it. Arena of the call.
struct call_stream {
    struct moon_h2c_stream h2;
    struct moon_list link;
    struct moon_h2_conn *conn;
    struct moon_call *call;
};

static void h2_conn_free(struct moon_h2_conn *h)
{
    MOON_ASSERT(h->stream_count == 0);
    moon_list_remove(&h->link);
    moon_task_cancel(&h->flush);
    moon_timer_stop(&h->idle);
    moon_h2c_free(h->h2);
    moon_uconn_free(h->conn);
    free(h);
}

static void h2_conn_idle(struct moon_timer *timer)
{
    h2_conn_free(timer->owner);
}

void moon_h2_conn_close_idle(struct moon_pool *pool)
{
    MOON_LIST_EACH(at, after, &pool->h2)
    {
        struct moon_h2_conn *h = MOON_LIST_ENTRY(at, struct moon_h2_conn, link);
        h->is_broken = true;
        if (h->stream_count == 0 && h->is_busy) // the call that ended there was its pool's last
            moon_timer_set(&h->idle, 0);
        else if (h->stream_count == 0)
            h2_conn_free(h);
    }
}

// Takes the stream from its call; what is not over is reset.
static void stream_leave(struct call_stream *stream)
{
    struct moon_h2_conn *h = stream->conn;
    if (h->current == stream)
        h->current = NULL;
    moon_h2c_leave(&stream->h2);
    moon_list_remove(&stream->link);
    stream->call->stream = NULL;
    h->stream_count--;
    if (h->stream_count == 0)
        moon_timer_set(&h->idle, h->is_broken ? 0 : h->pool->idle_timeout_ms);
    moon_task_post(h->pool->upstreams->loop, &h->flush);
    moon_pool_wake(h->pool);
}

static bool stream_was_refused(const struct call_stream *stream)
{
    enum { REFUSED_STREAM = 7 };
    return stream->h2.is_closed && stream->h2.close_code == REFUSED_STREAM;
}

static void stream_head(struct call_stream *stream)
{
    struct moon_call *call = stream->call;
    call->has_response_bytes = true;
    if (call->state != MOON_CALL_SENDING)
        return;
    if (stream->h2.head_rc != MOON_OK)
        call_failed(call, stream->h2.head_rc);
    else
        call_head_is_whole(call);
}

static void stream_interim(struct call_stream *stream)
{
    struct moon_call *call = stream->call;
    const struct moon_response *interim;
    while ((interim = moon_h2c_interim(&stream->h2)) != NULL) {
        if (call->state == MOON_CALL_SENDING && call->events->on_interim != NULL)
            call->events->on_interim(call->owner, interim);
    }
}

static void stream_writable(struct call_stream *stream)
{
    struct moon_call *call = stream->call;
    bool was_all = !call_has_body(call) || (!call->was_written && call->is_first_last);
    if (stream->h2.is_out_ended || was_all)
        call_sent(call);
    else if (!call->is_body_sent)
        call->events->on_writable(call->owner);
}

static void stream_closed(struct call_stream *stream)
{
    struct moon_call *call = stream->call;
    if (call->state == MOON_CALL_BODY) {
        call->is_closed = true;
        call->events->on_body(call->owner); // reads the end, or how it broke
        return;
    }
    if (stream_was_refused(stream)) {
        call->is_head_sent = false;         // RFC 9113 §8.7: it was not processed
        call->is_reused = call->tries == 1; // says nothing about the target
    }
    call_failed(call, MOON_ERR_UPSTREAM_RESET);
}

static void stream_tell(struct moon_h2_conn *h, struct call_stream *stream, unsigned events)
{
    struct moon_upstreams *upstreams = h->pool->upstreams;
    struct moon_call *outer = upstreams->current_call;
    upstreams->current_call = stream->call;
    h->current = stream;
    if ((events & MOON_H2C_WRITABLE) != 0)
        stream_writable(stream);
    if (h->current == stream && (events & MOON_H2C_INTERIM) != 0)
        stream_interim(stream);
    if (h->current == stream && (events & MOON_H2C_HEAD) != 0)
        stream_head(stream);
    bool is_body = (events & (MOON_H2C_BODY | MOON_H2C_HEAD)) == MOON_H2C_BODY;
    if (h->current == stream && is_body && stream->call->state == MOON_CALL_BODY) {
        call_arm(stream->call, stream->call->backend->conf->idle_ms,
                 MOON_ERR_UPSTREAM_IDLE_TIMEOUT);
        stream->call->events->on_body(stream->call->owner);
    }
    bool is_over = h->current == stream && (events & MOON_H2C_CLOSED) != 0;
    if (is_over && !(stream->h2.is_in_ended && stream->h2.is_head_whole))
        stream_closed(stream);
    h->current = NULL;
    upstreams->current_call = outer;
}

static void h2_conn_dispatch(struct moon_h2_conn *h)
{
    struct moon_h2c_stream *next;
    unsigned events;
    while ((next = moon_h2c_next(h->h2, &events)) != NULL)
        stream_tell(h, MOON_CONTAINER_OF(next, struct call_stream, h2), events);
}

// The connection is gone: every stream's call fails, or is tried elsewhere.
static void h2_conn_break(struct moon_h2_conn *h, enum moon_rc rc)
{
    h->is_broken = h->is_dead = true;
    moon_stream_pause_reading(h->conn->stream, true);
    while (!moon_list_is_empty(&h->streams)) {
        struct call_stream *stream = MOON_LIST_ENTRY(h->streams.next, struct call_stream, link);
        struct moon_call *call = stream->call;
        moon_list_remove(&stream->link);
        stream->h2.is_closed = call->is_closed = true;
        if (call->state == MOON_CALL_BODY)
            call->events->on_body(call->owner);
        else
            call_failed(call, call_stream_failure(rc));
    }
    if (h->stream_count == 0)
        moon_timer_set(&h->idle, 0);
}

static void h2_conn_send(struct moon_h2_conn *h)
{
    struct moon_buf out;
    moon_buf_init(&out, 4 * H2_OUT_BYTES);
    enum moon_rc rc = MOON_OK;
    while (rc == MOON_OK && moon_stream_queued(h->conn->stream) == 0) {
        moon_buf_clear(&out);
        rc = moon_h2c_produce(h->h2, &out, H2_OUT_BYTES);
        if (rc != MOON_OK || moon_buf_len(&out) == 0)
            break;
        struct moon_slice bytes = moon_buf_slice(&out);
        struct iovec iov = {(void *)(uintptr_t)bytes.data, bytes.len};
        rc = moon_stream_write(h->conn->stream, &iov, 1);
    }
    moon_buf_fini(&out);
    if (rc != MOON_OK && rc != MOON_AGAIN)
        h2_conn_break(h, rc);
}

static void h2_conn_move(struct moon_h2_conn *h)
{
    if (h->is_dead)
        return;
    h2_conn_send(h);
    if (h->is_dead)
        return;
    h2_conn_dispatch(h);
    if (moon_h2c_is_broken(h->h2)) {
        h2_conn_break(h, MOON_ERR_UPSTREAM_PROTOCOL);
    } else if (!moon_h2c_is_open(h->h2)) {
        h->is_broken = true;
        if (h->stream_count == 0)
            moon_timer_set(&h->idle, 0);
    }
}

static void h2_conn_flush(struct moon_task *task)
{
    struct moon_h2_conn *h = task->owner;
    h->is_busy = true;
    h2_conn_move(h);
    h->is_busy = false;
}

static void h2_conn_receive(struct moon_h2_conn *h)
{
    for (int reads = 0; reads < H2_FAIR_READS && !h->is_dead; reads++) {
        size_t n = 0;
        enum moon_rc rc = moon_stream_read(h->conn->stream, &h->conn->in, H2_READ_BYTES, &n);
        if (rc == MOON_AGAIN)
            break;
        if (rc == MOON_OK) {
            rc = moon_h2c_receive(h->h2, moon_buf_slice(&h->conn->in));
            moon_buf_clear(&h->conn->in);
        }
        h2_conn_dispatch(h);
        if (rc != MOON_OK) {
            h2_conn_break(h, rc);
            return;
        }
        if (n < H2_READ_BYTES / 4)
            break;
    }
    moon_buf_relax(&h->conn->in);
    moon_task_post(h->pool->upstreams->loop, &h->flush);
}

static void h2_conn_readable(void *owner)
{
    struct moon_h2_conn *h = owner;
    h->is_busy = true;
    h2_conn_receive(h);
    h->is_busy = false;
}

static void h2_conn_writable(void *owner)
{
    struct moon_h2_conn *h = owner;
    moon_task_post(h->pool->upstreams->loop, &h->flush);
}

static const struct moon_stream_events h2_conn_events = {h2_conn_readable, h2_conn_writable};

static enum moon_rc h2_conn_new(struct moon_uconn *conn, size_t head_bytes,
                                struct moon_h2_conn **out)
{
    struct moon_h2_conn *h = calloc(1, sizeof(*h));
    if (h == NULL)
        return MOON_ERR_MEMORY;
    struct moon_h2c_limits limits = {.head_bytes = head_bytes > 0 ? head_bytes : H2_HEAD_BYTES,
                                     .header_count = H2_FIELDS,
                                     .stream_window_bytes = H2_STREAM_WINDOW,
                                     .connection_window_bytes = H2_CONNECTION_WINDOW};
    enum moon_rc rc = moon_h2c_new(&limits, &h->h2);
    if (rc != MOON_OK) {
        free(h);
        return rc;
    }
    h->pool = conn->pool;
    h->conn = conn;
    conn->call = NULL;
    moon_list_init(&h->streams);
    moon_task_init(&h->flush, h2_conn_flush, h);
    moon_timer_init(&h->idle, h->pool->upstreams->loop, h2_conn_idle, h);
    moon_list_push_front(&h->pool->h2, &h->link);
    moon_stream_set_owner(conn->stream, &h2_conn_events, h);
    *out = h;
    return MOON_OK;
}

static bool h2_conn_has_room(const struct moon_h2_conn *h)
{
    const struct moon_pool *pool = h->pool;
    int64_t age = moon_loop_now_ms(pool->upstreams->loop) - h->conn->made_at_ms;
    bool is_old = (pool->calls_max > 0 && h->conn->calls >= pool->calls_max) ||
                  (pool->lifetime_ms > 0 && age >= pool->lifetime_ms);
    return !h->is_broken && !is_old && moon_h2c_room(h->h2) > 0;
}

static bool h2_conn_join(struct moon_h2_conn *h, struct moon_call *call)
{
    struct call_stream *stream = moon_arena_zalloc(call->arena, sizeof(*stream));
    if (stream == NULL)
        return false;
    stream->conn = h;
    stream->call = call;
    call->stream = stream;
    call->transport = &call_h2;
    h->conn->calls++;
    h->stream_count++;
    moon_list_push_back(&h->streams, &stream->link);
    moon_list_init(&stream->h2.link);
    stream->h2.h2 = h->h2;
    stream->h2.is_closed = true; // until the request goes out
    moon_timer_stop(&h->idle);
    return true;
}

bool call_h2_take(struct moon_call *call)
{
    MOON_LIST_EACH(at, after, &call->target->pool->h2)
    {
        struct moon_h2_conn *h = MOON_LIST_ENTRY(at, struct moon_h2_conn, link);
        if (h->stream_count == 0 && !h->is_busy)
            moon_stream_hasten(
                h->conn->stream); // an end, or GOAWAY: before a request is lost there
        if (!h2_conn_has_room(h))
            continue;
        call->is_reused = h->conn->calls > 0 && call->tries == 1;
        return h2_conn_join(h, call);
    }
    return false;
}

enum moon_rc call_h2_begin(struct moon_call *call, struct moon_uconn *conn)
{
    struct moon_h2_conn *h;
    enum moon_rc rc = h2_conn_new(conn, call->backend->conf->head_bytes, &h);
    if (rc != MOON_OK) {
        moon_uconn_free(conn);
        return rc;
    }
    conn->calls = 0;
    return h2_conn_join(h, call) ? MOON_OK : MOON_ERR_MEMORY;
}

// What the call offers to the six functions of a transport

static enum moon_rc h2_send(struct moon_call *call)
{
    struct call_stream *stream = call->stream;
    const struct moon_target_conf *conf = call->target->conf;
    struct moon_slice path;
    if (!call_target_path(call, &path))
        return MOON_ERR_MEMORY;
    const struct moon_field *host = moon_fields_find_id(&call->request->fields, MOON_FIELD_HOST);
    struct moon_request request = *call->request;
    bool is_last = !call_has_body(call) || call->is_first_last;
    request.scheme = conf->is_tls ? MOON_S("https") : MOON_S("http");
    call->is_head_sent = true;
    call->state = MOON_CALL_SENDING;
    enum moon_rc rc = moon_h2c_request(stream->conn->h2, &stream->h2, &call->response, call->arena,
                                       &request, host != NULL ? host->value : conf->authority, path,
                                       call->first_body, is_last);
    if (rc != MOON_OK) {
        stream->h2.is_closed = true;
        return rc;
    }
    stream->h2.trailers = call->trailers;
    moon_task_post(call->upstreams->loop, &stream->conn->flush);
    if (!call_has_body(call))
        call_sent(call);
    else
        call_arm_send(call);
    return MOON_AGAIN; // on_writable asks for more
}

static enum moon_rc h2_write(struct moon_call *call, struct moon_slice data, bool is_last)
{
    struct call_stream *stream = call->stream;
    enum moon_rc rc = moon_h2c_write(&stream->h2, data, is_last, is_last ? call->trailers : NULL);
    moon_task_post(call->upstreams->loop, &stream->conn->flush);
    return rc;
}

static enum moon_rc h2_read(struct moon_call *call, struct moon_slice *data, bool *is_done)
{
    if (call->failure != MOON_OK)
        return call->failure;
    struct call_stream *stream = call->stream;
    bool was_lent = stream->h2.lent > 0;
    enum moon_rc rc = moon_h2c_read(&stream->h2, data, is_done);
    if (was_lent && !stream->conn->is_dead)
        moon_task_post(call->upstreams->loop, &stream->conn->flush); // the window opens
    if (rc == MOON_OK)
        call->body_bytes += data->len;
    return rc;
}

static size_t h2_unsent(const struct moon_call *call)
{
    return moon_buf_len(&call->stream->h2.out);
}

static size_t h2_unread(const struct moon_call *call)
{
    return moon_buf_len(&call->stream->h2.in);
}

static enum moon_rc h2_look(struct moon_call *call)
{
    const struct call_stream *stream = call->stream;
    if (stream->h2.is_in_ended)
        return MOON_OK;
    bool has_ended = stream->h2.is_closed || moon_stream_has_ended(stream->conn->conn->stream);
    return has_ended ? MOON_ERR_UPSTREAM_TRUNCATED : MOON_AGAIN;
}

static void h2_drop(struct moon_call *call)
{
    stream_leave(call->stream);
}

static bool h2_keep(struct moon_call *call)
{
    h2_drop(call);
    return true;
}

const struct call_transport call_h2 = {
    .send = h2_send,
    .write = h2_write,
    .read = h2_read,
    .unsent = h2_unsent,
    .unread = h2_unread,
    .look = h2_look,
    .keep = h2_keep,
    .drop = h2_drop,
};
