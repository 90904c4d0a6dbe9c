/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/body.h"

#include "base/clock.h"
#include "base/log.h"
#include "gateway/encode.h"
#include "gateway/grpc.h"

// An answer as short as this, whose length is told, is sent when it is whole: its head alone is of no
// use to a client, and what a backend breaks off can be told as what it is.
enum { BODY_AWAITED_BYTES = 16384 };

static void body_ask_for(struct moon_exchange *x)
{
    if (x->request.expects_continue && !x->is_continue_sent) {
        x->is_continue_sent = true;
        x->ops->send_continue(x->peer);
    }
}

// One run of the request's body as the client sent it, counted against the limit.
static enum moon_rc body_read_raw(void *owner, struct moon_slice *data, bool *is_done)
{
    struct moon_exchange *x = owner;
    body_ask_for(x);
    enum moon_rc rc = x->ops->read_body(x->peer, data, is_done);
    if (rc != MOON_OK)
        return rc;
    x->request_bytes += (int64_t)data->len;
    int64_t most = x->ctx.leaf == NULL || x->is_tunnel ? -1 : x->ctx.leaf->limits.body_bytes;
    return most >= 0 && x->request_bytes > most ? MOON_ERR_BODY_TOO_LARGE : MOON_OK;
}

enum moon_rc moon_body_read_request(struct moon_exchange *x, struct moon_slice *data, bool *is_done)
{
    enum moon_rc rc = moon_replaces_read(&x->request_rewrites, body_read_raw, x, data, is_done);
    if (rc == MOON_OK)
        x->is_body_done = *is_done;
    return rc;
}

static void body_is_kept(struct moon_exchange *x)
{
    x->is_collecting = false;
    x->is_body_kept = true;
}

enum moon_rc moon_body_collect_request(struct moon_exchange *x)
{
    size_t ceiling = x->ctx.leaf->limits.buffered_body_bytes;
    x->request_body.ceiling = ceiling;
    if (x->request.content_length > (int64_t)ceiling)
        return MOON_ERR_BODY_TOO_LARGE;
    x->is_collecting = true;
    while (!x->is_body_done) {
        struct moon_slice data;
        bool is_done = false;
        enum moon_rc rc = moon_body_read_request(x, &data, &is_done);
        if (rc == MOON_OK)
            rc = moon_buf_append(&x->request_body, data);
        if (rc == MOON_ERR_LIMIT)
            rc = MOON_ERR_BODY_TOO_LARGE;
        if (rc == MOON_AGAIN)
            return rc;
        if (rc != MOON_OK) {
            x->is_collecting = false;
            return rc;
        }
    }
    body_is_kept(x);
    return MOON_OK;
}

enum moon_rc moon_body_ctx_request(struct moon_ctx *ctx, struct moon_slice *body)
{
    struct moon_exchange *x = MOON_CONTAINER_OF(ctx, struct moon_exchange, ctx);
    if (!x->is_body_kept) {
        if (x->is_called)
            return MOON_ERR_INTERNAL; // it has been streamed already
        if (x->is_client_gone)
            return MOON_ERR_CLIENT_CLOSED;
        enum moon_rc rc = moon_body_collect_request(x);
        if (rc != MOON_OK)
            return rc;
    }
    *body = moon_buf_slice(&x->request_body);
    return MOON_OK;
}

enum moon_rc moon_body_ctx_set_request(struct moon_ctx *ctx, struct moon_slice body)
{
    struct moon_exchange *x = MOON_CONTAINER_OF(ctx, struct moon_exchange, ctx);
    if (x->is_called)
        return MOON_ERR_INTERNAL;
    // What the client still sends is passed over by the session.
    moon_buf_clear(&x->request_body);
    x->request_body.ceiling = moon_max_size(x->request_body.ceiling, body.len);
    enum moon_rc rc = moon_buf_append(&x->request_body, body);
    if (rc == MOON_OK)
        body_is_kept(x);
    return rc;
}

// The next run of the answer: out of the store, or from the backend and on its way into the store.
static enum moon_rc body_read_answer(void *owner, struct moon_slice *data, bool *is_done)
{
    struct moon_exchange *x = owner;
    if (x->cache->is_serving)
        return moon_cache_read(x, data, is_done);
    enum moon_rc rc = moon_call_read(&x->call, data, is_done);
    if (rc == MOON_OK)
        moon_cache_on_body(x, *data, *is_done);
    return rc;
}

static enum moon_rc body_read_response(struct moon_exchange *x, struct moon_slice *data,
                                       bool *is_done)
{
    return moon_replaces_read(&x->response_rewrites, body_read_answer, x, data, is_done);
}

enum moon_rc moon_body_collect_response(struct moon_exchange *x)
{
    x->response_body.ceiling = x->ctx.leaf->limits.buffered_body_bytes;
    x->is_collecting_response = true;
    for (;;) {
        struct moon_slice data = {NULL, 0};
        bool is_done = false;
        enum moon_rc rc = body_read_response(x, &data, &is_done);
        if (rc == MOON_OK)
            rc = moon_buf_append(&x->response_body, data);
        if (rc == MOON_AGAIN)
            return rc;
        if (rc != MOON_OK) {
            x->is_collecting_response = false;
            return rc == MOON_ERR_LIMIT ? MOON_ERR_UPSTREAM_PROTOCOL : rc;
        }
        if (is_done)
            break;
    }
    x->is_collecting_response = false;
    x->is_response_kept = true;
    return MOON_OK;
}

enum moon_rc moon_body_collect_more(struct moon_exchange *x)
{
    enum moon_rc rc = moon_body_collect_response(x);
    if (rc == MOON_AGAIN || x->ctx.cancel == NULL)
        return rc;
    if (rc == MOON_OK) {
        moon_ctx_body_ready(&x->ctx, false);
        return MOON_AGAIN; // the steps were run by that
    }
    x->ctx.cancel(x->ctx.op);
    x->ctx.cancel = NULL;
    moon_exchange_body_failed(x, rc);
    return MOON_AGAIN;
}

enum moon_rc moon_body_ctx_response(struct moon_ctx *ctx, struct moon_slice *body)
{
    struct moon_exchange *x = MOON_CONTAINER_OF(ctx, struct moon_exchange, ctx);
    if (!x->is_response_kept) {
        if ((!x->is_answered && !x->cache->is_serving) || x->is_head_sent)
            return MOON_ERR_INTERNAL;
        enum moon_rc rc = moon_body_collect_response(x);
        if (rc != MOON_OK)
            return rc;
    }
    *body = moon_buf_slice(&x->response_body);
    return MOON_OK;
}

enum moon_rc moon_body_ctx_set_response(struct moon_ctx *ctx, struct moon_slice body)
{
    struct moon_exchange *x = MOON_CONTAINER_OF(ctx, struct moon_exchange, ctx);
    if (x->is_head_sent)
        return MOON_ERR_INTERNAL;
    moon_buf_clear(&x->response_body);
    x->response_body.ceiling = moon_max_size(x->response_body.ceiling, body.len);
    enum moon_rc rc = moon_buf_append(&x->response_body, body);
    if (rc == MOON_OK)
        x->is_response_kept = true;
    return rc;
}

void moon_body_pump_request(struct moon_exchange *x)
{
    while (x->is_called && !x->is_body_kept && !x->is_body_done &&
           moon_call_is_writable(&x->call)) {
        struct moon_slice data;
        bool is_done = false;
        enum moon_rc rc = moon_body_read_request(x, &data, &is_done);
        if (rc == MOON_AGAIN)
            return;
        if (rc != MOON_OK) {
            moon_exchange_body_failed(x, rc);
            return;
        }
        if (moon_call_write(&x->call, data, is_done) == MOON_AGAIN)
            return;
    }
}

static bool body_is_bodiless(const struct moon_exchange *x)
{
    return !x->is_tunnel && moon_response_is_bodiless(x->request.client_method, x->response.status);
}

// A policy made HEAD of the client's method: the client awaits a body, and the backend sends none.
static bool body_is_withheld(const struct moon_exchange *x)
{
    return x->is_answered && !x->cache->is_serving && !x->is_tunnel && !body_is_bodiless(x) &&
           moon_response_is_bodiless(x->request.method, x->response.status);
}

static void body_frame(struct moon_exchange *x)
{
    if (body_is_bodiless(x)) {
        bool is_own = x->is_response_kept && !x->is_answered;
        if (is_own && x->response.status == 304) // of what is not here (RFC 9110 §8.6)
            x->response.content_length = -1;
        else if (is_own && x->request.client_method == MOON_METHOD_HEAD)
            x->response.content_length = (int64_t)moon_buf_len(&x->response_body);
        x->response.framing = MOON_FRAMING_NONE;
    } else if (x->is_grpc_error) {
        x->response.framing = MOON_FRAMING_NONE;
        x->response.content_length = -1;
    } else if (x->is_response_kept) {
        x->response.framing = MOON_FRAMING_LENGTH;
        x->response.content_length = (int64_t)moon_buf_len(&x->response_body);
    } else if (body_is_withheld(x)) {
        x->response.framing = MOON_FRAMING_LENGTH;
        x->response.content_length = 0;
    } else if (x->response.framing == MOON_FRAMING_CLOSE && !x->is_tunnel) {
        x->response.framing = MOON_FRAMING_CHUNKED;
    }
}

static enum moon_rc body_wrote(struct moon_exchange *x, enum moon_rc rc, size_t n, bool is_last)
{
    if (rc == MOON_OK || rc == MOON_AGAIN) {
        x->response_bytes += (int64_t)n;
        x->is_client_blocked = rc == MOON_AGAIN;
        x->is_response_done = is_last;
        return rc;
    }
    x->is_client_gone = true;
    if (x->failure == MOON_OK)
        x->failure = MOON_ERR_CLIENT_CLOSED;
    return rc;
}

bool moon_body_awaits_response(struct moon_exchange *x)
{
    int64_t length = x->call.response.content_length;
    bool is_streamed = x->is_answered && !x->is_response_kept && !x->cache->is_serving &&
                       !x->is_tunnel && !x->is_grpc && !x->ctx.leaf->is_streaming &&
                       !body_is_bodiless(x) && !body_is_withheld(x);
    return is_streamed && length > 0 && length <= BODY_AWAITED_BYTES &&
           moon_call_awaits(&x->call, length);
}

// What came with the head, and does not end there, may be known to break.
static enum moon_rc body_look(struct moon_exchange *x, enum moon_rc rc)
{
    enum moon_rc rest = moon_call_look(&x->call);
    return rest == MOON_OK || rest == MOON_AGAIN ? rc : rest;
}

enum moon_rc moon_body_send_head(struct moon_exchange *x)
{
    struct moon_slice data = {NULL, 0};
    bool is_last = false;
    body_frame(x);
    moon_encode_start(x);
    if (body_is_bodiless(x)) {
        is_last = true;
    } else if (x->is_response_kept) {
        data = moon_buf_slice(&x->response_body);
        is_last = true;
    } else if (x->is_answered || x->cache->is_serving) {
        enum moon_rc rc = body_read_response(x, &data, &is_last);
        bool is_open = rc == MOON_AGAIN || (rc == MOON_OK && !is_last);
        if (is_open && !x->cache->is_serving)
            rc = body_look(x, rc);
        if (rc != MOON_OK && rc != MOON_AGAIN)
            return rc; // broken before the client saw anything: a clean 502
        is_last = is_last && x->call.response.trailers.count == 0; // the pump sends them
        rc = moon_encode_run(x, &data, is_last);
        if (rc != MOON_OK)
            return rc;
        bool is_changed = x->compress != NULL || x->response_rewrites.count > 0;
        if (is_last && is_changed) { // all of it is here: its length can be told
            x->response.framing = MOON_FRAMING_LENGTH;
            x->response.content_length = (int64_t)data.len;
        }
    } else {
        is_last = true;
    }
    x->is_head_sent = true;
    return body_wrote(x, x->ops->write_head(x->peer, &x->response, data, is_last), data.len,
                      is_last);
}

// The answer broke off: the client's connection must not look whole.
void moon_body_cut(struct moon_exchange *x, enum moon_rc rc)
{
    x->failure = rc;
    moon_log_warn("response cut short: %s request=%.*s", moon_rc_text(rc),
                  MOON_SLICE_ARG(x->ctx.id));
    if (!moon_grpc_cut(x, rc))
        x->ops->abort(x->peer);
}

bool moon_body_pump_response(struct moon_exchange *x)
{
    while (!x->is_response_done && !x->is_client_blocked) {
        struct moon_slice data = {NULL, 0};
        bool is_done = false;
        enum moon_rc rc = body_read_response(x, &data, &is_done);
        if (rc == MOON_AGAIN)
            return false;
        if (rc == MOON_OK)
            rc = moon_encode_run(x, &data, is_done);
        if (rc != MOON_OK) {
            moon_body_cut(x, rc);
            return true;
        }
        const struct moon_fields *trailers =
            is_done && x->is_answered ? &x->call.response.trailers : NULL;
        rc = body_wrote(x, x->ops->write_body(x->peer, data, is_done, trailers), data.len, is_done);
        if (rc != MOON_OK && rc != MOON_AGAIN)
            return true;
    }
    return x->is_response_done;
}
