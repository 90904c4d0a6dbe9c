/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/rewrite.h"

struct rewrite_source {
    struct moon_slice whole;
};

static enum moon_rc rewrite_read_whole(void *owner, struct moon_slice *data, bool *is_done)
{
    struct rewrite_source *source = owner;
    *data = source->whole;
    *is_done = true;
    return MOON_OK;
}

// Replaces in a body that is here whole.
static enum moon_rc rewrite_kept(struct moon_exchange *x, struct moon_buf *body,
                                 const struct moon_replace_rule *rules, size_t count)
{
    struct rewrite_source source = {moon_buf_slice(body)};
    struct moon_replaces all = {.count = 0};
    struct moon_buf out;
    bool is_done = false;
    moon_buf_init(&out, moon_max_size(body->ceiling, x->ctx.leaf->limits.buffered_body_bytes));
    enum moon_rc rc = moon_replaces_add(&all, &x->arena, rules, count);
    while (rc == MOON_OK && !is_done) {
        struct moon_slice data;
        rc = moon_replaces_read(&all, rewrite_read_whole, &source, &data, &is_done);
        if (rc == MOON_OK)
            rc = moon_buf_append(&out, data);
    }
    moon_replaces_fini(&all);
    if (rc != MOON_OK) {
        moon_buf_fini(&out);
        return rc == MOON_ERR_LIMIT ? MOON_ERR_BODY_TOO_LARGE : rc;
    }
    moon_buf_fini(body);
    *body = out;
    return MOON_OK;
}

// How long it becomes is known when it is over.
static void rewrite_forget_length(enum moon_framing *framing, int64_t *content_length)
{
    if (*framing == MOON_FRAMING_LENGTH)
        *framing = MOON_FRAMING_CHUNKED;
    *content_length = -1;
}

enum moon_rc moon_rewrite_ctx_request(struct moon_ctx *ctx, const struct moon_replace_rule *rules,
                                      size_t count)
{
    struct moon_exchange *x = MOON_CONTAINER_OF(ctx, struct moon_exchange, ctx);
    if (x->is_called)
        return MOON_ERR_INTERNAL; // it has been sent already
    if (x->is_body_kept)
        return rewrite_kept(x, &x->request_body, rules, count);
    if (x->request.framing == MOON_FRAMING_NONE)
        return MOON_OK;
    enum moon_rc rc = moon_replaces_add(&x->request_rewrites, &x->arena, rules, count);
    if (rc == MOON_OK)
        rewrite_forget_length(&x->request.framing, &x->request.content_length);
    return rc;
}

enum moon_rc moon_rewrite_ctx_response(struct moon_ctx *ctx, const struct moon_replace_rule *rules,
                                       size_t count)
{
    struct moon_exchange *x = MOON_CONTAINER_OF(ctx, struct moon_exchange, ctx);
    if (x->is_head_sent)
        return MOON_ERR_INTERNAL;
    if (x->is_tunnel)
        return MOON_OK;
    if (x->is_response_kept)
        return rewrite_kept(x, &x->response_body, rules, count);
    if (!x->is_answered && !x->cache->is_serving)
        return MOON_ERR_INTERNAL;
    enum moon_rc rc = moon_replaces_add(&x->response_rewrites, &x->arena, rules, count);
    if (rc == MOON_OK)
        rewrite_forget_length(&x->response.framing, &x->response.content_length);
    return rc;
}
