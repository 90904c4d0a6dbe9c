/* SPDX-License-Identifier: Apache-2.0 */

/// HTTP/1.1 with a target: one call at a time on a connection of its own.

#include "base/clock.h"
#include "upstream/call_internal.h"

enum {
    H1_READ_BYTES = 65536,
    H1_FAIR_READS = 4, // of full buffers, before others have their turn
    H1_MAX_INTERIM = 16,
    H1_HEAD_BYTES = 65536, // where head_bytes is 0
};

static struct moon_h1_limits h1_limits(const struct moon_call *call)
{
    size_t most = call->backend->conf->head_bytes;
    most = most == 0 ? H1_HEAD_BYTES : most;
    return (struct moon_h1_limits){.head_bytes = most, .uri_bytes = most, .header_count = 256};
}

// Wraps data as the framing demands and writes it behind `head`.
static enum moon_rc h1_send(struct moon_call *call, struct moon_slice head, struct moon_slice data,
                            bool is_last)
{
    struct moon_h1_run run;
    bool is_chunked = call->request->framing == MOON_FRAMING_CHUNKED;
    enum moon_rc rc = moon_h1_run_init(&run, head, data, is_chunked, is_last, call->trailers);
    if (rc == MOON_OK && run.count > 0)
        rc = moon_stream_write(call->conn->stream, run.iov, run.count);
    moon_h1_run_fini(&run);
    return rc;
}

static enum moon_rc h1_send_head(struct moon_call *call)
{
    struct moon_buf head;
    moon_buf_init(&head, 1 << 20);
    struct moon_slice target;
    if (!call_target_path(call, &target))
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
        rc = h1_send(call, moon_buf_slice(&head), call->first_body, is_last);
        if (is_last && rc == MOON_OK)
            call_sent(call);
        else
            call_arm_send(call);
    }
    moon_buf_fini(&head);
    return rc;
}

static enum moon_rc h1_parse_head(struct moon_call *call, size_t head_len)
{
    struct moon_slice head;
    struct moon_slice raw = moon_slice(moon_buf_slice(&call->conn->in).data, head_len);
    if (!moon_arena_copy(call->arena, raw, &head))
        return MOON_ERR_MEMORY;
    moon_response_init(&call->response, call->arena);
    struct moon_h1_limits limits = h1_limits(call);
    enum moon_rc rc = moon_h1_parse_response(&call->response, head, call->request->method, &limits);
    if (rc == MOON_OK)
        moon_buf_consume(&call->conn->in, head_len);
    return rc;
}

// RFC 9110 §7.8: a server says what it switches to, and that must be what it was asked for.
static bool h1_is_switch_asked(const struct moon_call *call)
{
    return call->is_upgrade_asked &&
           moon_slice_is_nocase(moon_fields_joined(&call->response.fields, MOON_S("upgrade")),
                                moon_fields_joined(&call->request->fields, MOON_S("upgrade")));
}

// Reads heads until the final one is whole: interim answers are passed over (RFC 9110 §15.2).
static enum moon_rc h1_read_head(struct moon_call *call)
{
    struct moon_h1_limits limits = h1_limits(call);
    while (call->interims <= H1_MAX_INTERIM) {
        size_t head_len;
        enum moon_rc rc =
            moon_h1_scan(&call->scan, moon_buf_slice(&call->conn->in), &limits, &head_len);
        if (rc == MOON_AGAIN)
            return rc;
        if (rc == MOON_OK)
            rc = h1_parse_head(call, head_len);
        if (rc != MOON_OK)
            return rc == MOON_ERR_MEMORY ? rc : MOON_ERR_UPSTREAM_PROTOCOL;
        call->scan = (struct moon_h1_scan){.is_response = true};
        if (call->response.status == 101)
            return h1_is_switch_asked(call) ? MOON_OK : MOON_ERR_UPSTREAM_PROTOCOL;
        if (call->response.status >= 200)
            return MOON_OK;
        call->interims++;
        if (call->response.status != 100 && call->events->on_interim != NULL)
            call->events->on_interim(call->owner, &call->response);
    }
    return MOON_ERR_UPSTREAM_PROTOCOL;
}

// Nothing more can be read from the buffer: does more come, was that the end, or is it cut short?
static enum moon_rc h1_read_closed(struct moon_call *call)
{
    if (call->failure != MOON_OK)
        return call->failure;
    if (!call->is_closed)
        return MOON_AGAIN;
    return call->closed_rc == MOON_EOF ? moon_h1_body_eof(&call->body)
                                       : MOON_ERR_UPSTREAM_TRUNCATED;
}

static enum moon_rc h1_read(struct moon_call *call, struct moon_slice *data, bool *is_done)
{
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
            rc = h1_read_closed(call);
        if (rc == MOON_AGAIN)
            return rc;
        if (rc != MOON_OK)
            return rc;
    }
    *data = moon_slice(NULL, 0);
    *is_done = true;
    return MOON_OK;
}

static void h1_head_is_whole(struct moon_call *call)
{
    bool is_tunnel = call->response.status == 101;
    moon_h1_body_init(&call->body, is_tunnel ? MOON_FRAMING_CLOSE : call->response.framing,
                      call->response.content_length, &call->response.trailers, true);
    call_head_is_whole(call);
}

// May end the call, and free what it lies in.
static void h1_progress(struct moon_call *call)
{
    if (call->state == MOON_CALL_SENDING) {
        enum moon_rc rc = h1_read_head(call);
        if (rc == MOON_OK)
            h1_head_is_whole(call);
        else if (rc != MOON_AGAIN)
            call_failed(call, rc);
    } else if (call->state == MOON_CALL_BODY || call->state == MOON_CALL_TUNNEL) {
        call->events->on_body(call->owner);
    }
}

static void h1_closed(struct moon_call *call, enum moon_rc rc)
{
    if (call->state == MOON_CALL_BODY || call->state == MOON_CALL_TUNNEL) {
        call->is_closed = true;
        call->closed_rc = rc;
        call->events->on_body(call->owner);
        return;
    }
    call_failed(call, call_stream_failure(rc));
}

// @return true when more may wait in the socket and the call goes on
static bool h1_read_once(struct moon_call *call)
{
    struct moon_upstreams *upstreams = call->upstreams;
    struct moon_uconn *conn = call->conn;
    size_t n = 0;
    enum moon_rc rc = moon_stream_read(conn->stream, &conn->in, H1_READ_BYTES, &n);
    if (rc == MOON_AGAIN)
        return false;
    if (rc != MOON_OK) {
        moon_stream_pause_reading(conn->stream, true);
        if (rc != MOON_ERR_LIMIT)
            h1_closed(call, rc); // what came before the end is the owner's first
        return false;
    }
    call->has_response_bytes = true;
    if (call->state == MOON_CALL_BODY || call->state == MOON_CALL_TUNNEL)
        call_arm(call, call->backend->conf->idle_ms, MOON_ERR_UPSTREAM_IDLE_TIMEOUT);
    h1_progress(call);
    // The owner may have ended the call, and be gone with it.
    return upstreams->current_call == call && call->conn == conn && n >= MOON_BUF_BLOCK_BYTES / 2;
}

static void h1_readable(void *owner)
{
    struct moon_call *call = owner;
    struct moon_upstreams *upstreams = call->upstreams;
    struct moon_call *outer = upstreams->current_call;
    upstreams->current_call = call;
    int reads = 0;
    while (h1_read_once(call) && ++reads < H1_FAIR_READS) {
    }
    upstreams->current_call = outer;
}

static void h1_writable(void *owner)
{
    struct moon_call *call = owner;
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

static const struct moon_stream_events h1_stream_events = {h1_readable, h1_writable};

void call_h1_bind(struct moon_call *call, struct moon_uconn *conn)
{
    call->conn = conn;
    call->transport = &call_h1;
    call->scan = (struct moon_h1_scan){.is_response = true};
    conn->call = call;
    conn->in.ceiling =
        moon_max_size(MOON_UCONN_IN_BYTES, h1_limits(call).head_bytes + MOON_BUF_BLOCK_BYTES);
    moon_stream_set_owner(conn->stream, &h1_stream_events, call);
}

static enum moon_rc h1_write(struct moon_call *call, struct moon_slice data, bool is_last)
{
    return h1_send(call, moon_slice(NULL, 0), data, is_last);
}

static size_t h1_unsent(const struct moon_call *call)
{
    return moon_stream_queued(call->conn->stream);
}

static size_t h1_unread(const struct moon_call *call)
{
    return moon_buf_len(&call->conn->in);
}

static enum moon_rc h1_look(struct moon_call *call)
{
    struct moon_slice rest = moon_slice_from(moon_buf_slice(&call->conn->in), call->used);
    enum moon_rc rc = moon_h1_body_look(&call->body, rest);
    bool has_ended = rc == MOON_AGAIN && call->body.framing != MOON_FRAMING_CLOSE &&
                     (call->is_closed || moon_stream_has_ended(call->conn->stream));
    return has_ended ? MOON_ERR_UPSTREAM_TRUNCATED : rc;
}

// Whole both ways, wanted by both sides, and nothing left over.
static bool h1_keep(struct moon_call *call)
{
    struct moon_uconn *conn = call->conn;
    if (call->used > 0) {
        moon_buf_consume(&conn->in, call->used);
        call->used = 0;
    }
    bool is_reusable = call->state == MOON_CALL_BODY && call->body.is_done && call->is_body_sent &&
                       !call->is_send_broken && !call->is_closed && call->response.is_keep_alive &&
                       call->response.framing != MOON_FRAMING_CLOSE &&
                       moon_stream_queued(conn->stream) == 0 && moon_buf_len(&conn->in) == 0;
    if (!is_reusable)
        return false;
    call->conn = NULL;
    moon_h1_body_fini(&call->body);
    moon_pool_keep(conn);
    return true;
}

static void h1_drop(struct moon_call *call)
{
    moon_uconn_free(call->conn);
    call->conn = NULL;
    moon_h1_body_fini(&call->body);
}

const struct call_transport call_h1 = {
    .send = h1_send_head,
    .write = h1_write,
    .read = h1_read,
    .unsent = h1_unsent,
    .unread = h1_unread,
    .look = h1_look,
    .keep = h1_keep,
    .drop = h1_drop,
};
