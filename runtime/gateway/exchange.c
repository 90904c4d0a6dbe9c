/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/exchange.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "gateway/access_log.h"
#include "gateway/admission.h"
#include "gateway/body.h"
#include "gateway/encode.h"
#include "gateway/forward.h"
#include "gateway/grpc.h"
#include "gateway/malformed.h"
#include "gateway/management.h"
#include "gateway/max_forwards.h"
#include "gateway/rewrite.h"
#include "gateway/tunnel.h"
#include "script/async.h"

enum {
    EXCHANGE_ARENA_BYTES = 4 << 20,
    EXCHANGE_KEPT = 512,
};

enum step_next { STEP_MORE, STEP_WAIT, STEP_OVER };

typedef enum step_next step_fn(struct moon_exchange *x);

static void exchange_run(struct moon_exchange *x);

static enum step_next step_to(struct moon_exchange *x, enum moon_step step)
{
    x->step = step;
    return STEP_MORE;
}

// The gateway itself is why there is no answer from a backend: through on_error.
static enum step_next exchange_fail(struct moon_exchange *x, enum moon_rc rc)
{
    x->failure = rc;
    moon_forward_set_error(x, rc);
    return step_to(x, MOON_STEP_FAIL);
}

static void exchange_cancel_wait(struct moon_exchange *x)
{
    if (x->ctx.cancel != NULL)
        x->ctx.cancel(x->ctx.op);
    x->ctx.cancel = NULL;
}

// Runs a section, or goes on with it, and sends the exchange to the step that its result asks for.
static enum step_next exchange_section(struct moon_exchange *x, enum moon_section section,
                                       enum moon_step next)
{
    const enum moon_step step = x->step;
    if (x->ctx.cancel != NULL)
        return STEP_WAIT; // a policy waits, and what came is not for it
    enum moon_run run = x->ctx.push_results != NULL ? moon_script_resume(&x->ctx)
                                                    : moon_script_run(&x->ctx, section);
    if (x->step != step) { // the request's body broke while a policy called the backend
        exchange_cancel_wait(x);
        return STEP_MORE;
    }
    if (run != MOON_RUN_WAIT && x->ctx.body_rc != MOON_OK) { // a policy read it, and it broke
        enum moon_rc rc = x->ctx.body_rc;
        x->ctx.body_rc = MOON_OK;
        return exchange_fail(x, rc);
    }
    switch (run) {
    case MOON_RUN_DONE:
        return step_to(x, next);
    case MOON_RUN_WAIT:
        return STEP_WAIT;
    case MOON_RUN_CACHED:
        return step_to(x, MOON_STEP_OUTBOUND);
    case MOON_RUN_REPLY:
        if (!x->ctx.reply.is_refusal)
            return step_to(x, MOON_STEP_REPLY);
        if (section == MOON_SECTION_BACKEND && moon_forward_is_refused(x))
            return exchange_fail(x, x->ctx.forward_rc);
        x->failure = MOON_ERR_POLICY_REFUSED;
        return step_to(x, section == MOON_SECTION_ON_ERROR ? MOON_STEP_REPLY : MOON_STEP_FAIL);
    case MOON_RUN_ERROR:
        x->failure = x->ctx.error.status == 503 ? MOON_ERR_POLICY_BUDGET : MOON_ERR_POLICY;
        moon_log_error("policy %.*s%s%.*s failed in %.*s: %.*s request=%.*s",
                       MOON_SLICE_ARG(x->ctx.error.source),
                       x->ctx.error.where.len > 0 ? " at " : "", MOON_SLICE_ARG(x->ctx.error.where),
                       MOON_SLICE_ARG(x->ctx.error.section), MOON_SLICE_ARG(x->ctx.error.message),
                       MOON_SLICE_ARG(x->ctx.id));
        x->ctx.reply = (struct moon_reply){0};
        return step_to(x, MOON_STEP_FAIL);
    }
    return step_to(x, next);
}

static enum step_next step_route(struct moon_exchange *x)
{
    enum moon_rc rc = moon_router_match(x->generation->router, &x->ctx);
    x->times.routed = x->times.inbound = x->ctx.ran_until_us = moon_clock_us();
    if (rc != MOON_OK)
        return exchange_fail(x, rc);
    const struct moon_limits_conf *limits = &x->ctx.leaf->limits;
    x->ctx.backend = x->ctx.leaf->backend;
    x->ctx.cpu_left_us = limits->policy_cpu_ms * 1000;
    if (limits->body_bytes >= 0 && x->request.content_length > limits->body_bytes)
        return exchange_fail(x, MOON_ERR_BODY_TOO_LARGE);
    return step_to(x, MOON_STEP_INBOUND);
}

static enum step_next step_inbound(struct moon_exchange *x)
{
    if (x->ctx.leaf->needs_request_body && !x->is_body_kept) {
        enum moon_rc rc = moon_body_collect_request(x);
        if (rc == MOON_AGAIN)
            return STEP_WAIT;
        if (rc != MOON_OK)
            return exchange_fail(x, rc);
    }
    bool has_chain = moon_leaf_runs(x->ctx.leaf, MOON_SECTION_INBOUND);
    if (has_chain && x->is_body_kept) // it may have taken long
        x->ctx.ran_until_us = moon_clock_us();
    enum step_next next = exchange_section(x, MOON_SECTION_INBOUND, MOON_STEP_ACT);
    if (next != STEP_WAIT && has_chain)
        x->times.inbound = x->ctx.ran_until_us;
    return next;
}

// A policy began to read the request's body and did not wait for its end (ctx:parallel): the backend is
// called with the whole of it.
static enum moon_rc exchange_end_collecting(struct moon_exchange *x)
{
    return x->is_collecting ? moon_body_collect_request(x) : MOON_OK;
}

// What the leaf does by itself, where no backend is called.
static enum step_next step_act(struct moon_exchange *x)
{
    const struct moon_leaf *leaf = x->ctx.leaf;
    bool is_ours = false;
    enum moon_rc rc = MOON_OK;
    switch (leaf->kind) {
    case MOON_LEAF_REDIRECT:
        if (!moon_forward_redirect(x))
            return exchange_fail(x, MOON_ERR_MEMORY);
        return step_to(x, MOON_STEP_REPLY);
    case MOON_LEAF_REPLY:
        if (!moon_forward_reply(x))
            return exchange_fail(x, MOON_ERR_MEMORY);
        return step_to(x, MOON_STEP_REPLY);
    case MOON_LEAF_NOT_FOUND:
        return exchange_fail(x, MOON_ERR_NO_OPERATION);
    case MOON_LEAF_BACKEND:
        rc = exchange_end_collecting(x);
        if (rc == MOON_AGAIN)
            return STEP_WAIT;
        if (rc == MOON_OK)
            rc = moon_max_forwards(x, &is_ours);
        break;
    }
    if (rc != MOON_OK)
        return exchange_fail(x, rc);
    return step_to(x, is_ours ? MOON_STEP_REPLY : MOON_STEP_BACKEND);
}

static enum step_next step_backend(struct moon_exchange *x)
{
    enum step_next next = exchange_section(x, MOON_SECTION_BACKEND, MOON_STEP_CALL);
    if (x->step != MOON_STEP_CALL)
        return next;
    if (x->is_answered) { // by ctx:forward
        moon_cache_on_response(x);
        return step_to(x, MOON_STEP_OUTBOUND);
    }
    if (x->ctx.forward_rc != MOON_OK && moon_cache_on_failure(x))
        return step_to(x, MOON_STEP_OUTBOUND);
    return x->ctx.forward_rc != MOON_OK ? exchange_fail(x, x->ctx.forward_rc) : next;
}

static enum step_next step_call(struct moon_exchange *x)
{
    enum moon_rc rc = exchange_end_collecting(x);
    if (rc == MOON_AGAIN)
        return STEP_WAIT;
    if (rc != MOON_OK)
        return exchange_fail(x, rc);
    rc = moon_forward_start(x);
    x->times.called = x->call.times.started_us;
    if (rc != MOON_OK && moon_cache_on_failure(x))
        return step_to(x, MOON_STEP_OUTBOUND);
    if (rc != MOON_OK)
        return exchange_fail(x, rc);
    return step_to(x, MOON_STEP_AWAIT);
}

static enum step_next step_await(struct moon_exchange *x)
{
    if (x->is_answered || x->is_from_cache)
        return step_to(x, MOON_STEP_OUTBOUND);
    moon_body_pump_request(x);
    return x->step == MOON_STEP_AWAIT ? STEP_WAIT : STEP_MORE; // the body may have broken
}

static enum step_next step_outbound(struct moon_exchange *x)
{
    if (x->ctx.leaf->needs_response_body && !x->is_response_kept && !x->is_tunnel) {
        enum moon_rc rc = moon_body_collect_response(x);
        if (rc == MOON_AGAIN)
            return STEP_WAIT;
        if (x->is_called) // the policies waited for the backend
            x->times.answered = moon_clock_us();
        if (rc != MOON_OK)
            return exchange_fail(x, rc);
    }
    bool has_chain = moon_leaf_runs(x->ctx.leaf, MOON_SECTION_OUTBOUND);
    enum step_next next = exchange_section(x, MOON_SECTION_OUTBOUND, MOON_STEP_RESPOND);
    if (next != STEP_WAIT && has_chain)
        x->times.outbound = x->ctx.ran_until_us;
    return next;
}

// The answer is ours: a policy's reply or what the leaf says.
static enum step_next step_reply(struct moon_exchange *x)
{
    moon_forward_end_call(x);
    if (!moon_forward_take_reply(x))
        return exchange_fail(x, MOON_ERR_MEMORY);
    x->times.outbound = moon_clock_us();
    return step_to(x, MOON_STEP_RESPOND);
}

static enum step_next step_fail(struct moon_exchange *x)
{
    moon_forward_end_call(x);
    moon_forward_log_failure(x);
    bool has_chain = x->ctx.leaf != NULL && moon_leaf_runs(x->ctx.leaf, MOON_SECTION_ON_ERROR);
    bool is_unseen = x->is_client_gone && x->failure != MOON_ERR_CLIENT_CLOSED;
    if (!has_chain || is_unseen)
        x->is_failed_in_on_error = true;
    // on_error sees the answer that would be given, and may change its fields.
    moon_forward_default_error(x);
    if (x->is_failed_in_on_error)
        return step_to(x, MOON_STEP_RESPOND);
    x->is_failed_in_on_error = true; // what fails there ends there
    return step_to(x, MOON_STEP_ON_ERROR);
}

static enum step_next step_on_error(struct moon_exchange *x)
{
    x->ctx.is_budget_spent = x->failure == MOON_ERR_POLICY_BUDGET;
    enum step_next next = exchange_section(x, MOON_SECTION_ON_ERROR, MOON_STEP_RESPOND);
    if (next == STEP_WAIT && x->is_client_gone) { // nobody waits with it
        exchange_cancel_wait(x);
        next = step_to(x, MOON_STEP_LOG);
    }
    if (next != STEP_WAIT)
        x->times.outbound = moon_clock_us();
    return next;
}

static enum step_next step_respond(struct moon_exchange *x)
{
    if (x->is_client_gone)
        return step_to(x, MOON_STEP_LOG);
    enum moon_rc rc = MOON_OK;
    if (x->is_collecting_response && !x->is_response_kept) // as of the request's
        rc = moon_body_collect_response(x);
    if (rc == MOON_AGAIN || (rc == MOON_OK && moon_body_awaits_response(x)))
        return STEP_WAIT;
    if (rc != MOON_OK)
        return exchange_fail(x, rc);
    moon_grpc_map_response(x);
    moon_forward_secure(x);
    rc = moon_body_send_head(x);
    if (rc == MOON_AGAIN && !x->is_head_sent)
        return STEP_WAIT;
    if (rc != MOON_OK && rc != MOON_AGAIN && !x->is_head_sent)
        return exchange_fail(x, rc);
    return step_to(x, MOON_STEP_PUMP);
}

static enum step_next step_pump(struct moon_exchange *x)
{
    if (x->is_tunnel && !x->is_client_gone)
        moon_body_pump_request(x);
    if (x->step != MOON_STEP_PUMP)
        return STEP_MORE; // what the client sends broke
    if (!x->is_client_gone && !x->is_response_done && !moon_body_pump_response(x))
        return STEP_WAIT;
    if (x->is_tunnel && !x->is_client_gone && !moon_tunnel_is_over(x))
        return STEP_WAIT; // one side has ended
    return step_to(x, MOON_STEP_LOG);
}

static enum step_next step_log(struct moon_exchange *x)
{
    x->times.ended = moon_clock_us();
    moon_forward_end_call(x);
    if (x->ctx.is_background)
        return step_to(x, MOON_STEP_END); // no client, no line
    if (x->ctx.leaf != NULL && moon_leaf_runs(x->ctx.leaf, MOON_SECTION_LOG)) {
        // A log policy may look, not wait: the client has its answer already.
        if (moon_script_run(&x->ctx, MOON_SECTION_LOG) == MOON_RUN_WAIT)
            moon_log_warn("a policy waits in its log section, which it cannot");
    }
    moon_access_log_exchange(x);
    return step_to(x, MOON_STEP_END);
}

static enum step_next step_end(struct moon_exchange *x)
{
    (void)x;
    return STEP_OVER;
}

static step_fn *const exchange_steps[] = {
#define STEP(name, function) function,
#include "gateway/steps.def"
#undef STEP
};

static void exchange_free(struct moon_exchange *x)
{
    struct moon_gateway *gateway = x->gateway;
    if (x->deadline.loop != NULL)
        moon_timer_stop(&x->deadline);
    moon_forward_end_call(x);
    moon_cache_end(x);
    moon_ctx_fini(&x->ctx);
    moon_encode_end(x);
    moon_replaces_fini(&x->request_rewrites);
    moon_replaces_fini(&x->response_rewrites);
    moon_buf_fini(&x->request_body);
    moon_buf_fini(&x->response_body);
    moon_arena_reset(&x->arena);
    moon_generation_release(x->generation);
    if (gateway->env.slot != NULL)
        moon_board_add(&gateway->env.slot->exchanges, -1);
    if (MOON_ASAN || gateway->exchange_pool_count >= EXCHANGE_KEPT) {
        free(x);
        return;
    }
    moon_list_push_front(&gateway->exchange_pool, &x->link);
    gateway->exchange_pool_count++;
}

static void exchange_run(struct moon_exchange *x)
{
    if (x->is_running)
        return;
    x->is_running = true;
    enum step_next next;
    do {
        next = exchange_steps[x->step](x);
    } while (next == STEP_MORE);
    x->is_running = false;
    if (next == STEP_OVER) {
        const struct moon_peer_ops *ops = x->ops;
        void *peer = x->peer;
        exchange_free(x);
        ops->finished(peer);
    }
}

static void exchange_resume(struct moon_ctx *ctx)
{
    exchange_run(MOON_CONTAINER_OF(ctx, struct moon_exchange, ctx));
}

static void exchange_count_bytes(const struct moon_ctx *ctx, int64_t *request, int64_t *response)
{
    const struct moon_exchange *x = MOON_CONTAINER_OF(ctx, struct moon_exchange, ctx);
    *request = x->request_bytes;
    *response = x->response_bytes;
}

static const struct moon_ctx_ops exchange_ctx_ops = {
    .request_body = moon_body_ctx_request,
    .response_body = moon_body_ctx_response,
    .set_request_body = moon_body_ctx_set_request,
    .set_response_body = moon_body_ctx_set_response,
    .replace_request = moon_rewrite_ctx_request,
    .replace_response = moon_rewrite_ctx_response,
    .forward = moon_forward_ctx,
    .count_bytes = exchange_count_bytes,
    .drop_response = moon_forward_drop_response,
    .resume = exchange_resume,
    .cache_lookup = moon_cache_lookup,
    .cache_cancel = moon_cache_cancel,
};

static void exchange_on_head(void *owner)
{
    struct moon_exchange *x = owner;
    x->is_answered = true;
    x->times.answered = x->call.times.head_us;
    moon_forward_take_response(x);
    enum moon_rc rc = moon_tunnel_take_response(x);
    if (x->is_forwarding) {
        moon_forward_ended(x, rc);
        return;
    }
    if (rc != MOON_OK)
        (void)exchange_fail(x, rc);
    else
        moon_cache_on_response(x);
    exchange_run(x);
}

static void exchange_on_call_body(void *owner)
{
    struct moon_exchange *x = owner;
    if (x->is_collecting_response) {
        if (moon_body_collect_more(x) == MOON_AGAIN)
            return;
    }
    exchange_run(x);
}

static void exchange_on_call_writable(void *owner)
{
    moon_body_pump_request(owner);
}

static void exchange_on_call_failed(void *owner, enum moon_rc rc)
{
    struct moon_exchange *x = owner;
    if (x->is_forwarding) {
        moon_forward_ended(x, rc);
        return;
    }
    if (moon_cache_on_failure(x))
        x->step = MOON_STEP_OUTBOUND;
    else
        (void)exchange_fail(x, rc);
    exchange_run(x);
}

// Interim answers go on (RFC 9110 §15.2), 100 excepted, which the gateway gives itself. Without their
// fields, as what policies will do to those of the final answer is not known yet; but Early Hints
// (RFC 8297) are their links.
static void exchange_on_interim(void *owner, const struct moon_response *response)
{
    struct moon_exchange *x = owner;
    const struct moon_fields *fields = &response->fields;
    struct moon_fields links;
    int status = response->status;
    if (x->is_head_sent || x->is_client_gone)
        return;
    moon_fields_init(&links, &x->arena);
    for (size_t i = 0; status == 103 && i < fields->count; i++) {
        if (moon_slice_is_nocase(fields->items[i].name, MOON_S("link")) &&
            moon_fields_add(&links, fields->items[i].name, fields->items[i].value) != MOON_OK)
            return;
    }
    if (status != 103 || links.count > 0)
        x->ops->write_interim(x->peer, status, &links);
}

const struct moon_call_events moon_exchange_call_events = {
    .on_head = exchange_on_head,
    .on_body = exchange_on_call_body,
    .on_writable = exchange_on_call_writable,
    .on_failed = exchange_on_call_failed,
    .on_interim = exchange_on_interim,
};

// Two numbers of which the first is new each time; the second tells more apart than one has room for.
static void exchange_make_id(struct moon_exchange *x)
{
    struct moon_gateway *gateway = x->gateway;
    uint64_t first =
        moon_hash_mix(gateway->id_salt + gateway->next_id++ * UINT64_C(0x9e3779b97f4a7c15));
    moon_hex_of_number(x->id, first);
    moon_hex_of_number(x->id + 16, moon_hash_mix(first ^ (uint64_t)x->times.started));
    x->id[32] = '\0';
    x->ctx.id = moon_slice(x->id, 32);
}

// Of the client's listener; a renewal's may be one of an older plan.
static bool exchange_keeps_escaped_slash(const struct moon_plan *plan,
                                         const struct moon_client *client)
{
    return client->listener >= 0 && (size_t)client->listener < plan->listener_count &&
           plan->listeners[client->listener].keeps_escaped_slash;
}

struct moon_exchange *moon_exchange_new(struct moon_gateway *gateway,
                                        const struct moon_client *client,
                                        const struct moon_peer_ops *ops, void *peer)
{
    struct moon_exchange *x;
    if (!moon_list_is_empty(&gateway->exchange_pool)) {
        x = MOON_LIST_ENTRY(gateway->exchange_pool.next, struct moon_exchange, link);
        moon_list_remove(&x->link);
        gateway->exchange_pool_count--;
    } else {
        x = malloc(sizeof(*x));
        if (x == NULL)
            return NULL;
    }
    // What stands before `ops` is set whole by what follows.
    memset(&x->ops, 0, sizeof(*x) - offsetof(struct moon_exchange, ops));
    moon_list_init(&x->link);
    x->gateway = gateway;
    x->generation = gateway->generation;
    moon_generation_acquire(x->generation);
    moon_arena_init(&x->arena, EXCHANGE_ARENA_BYTES);
    moon_request_init(&x->request, &x->arena);
    moon_response_init(&x->response, &x->arena);
    moon_ctx_init(&x->ctx, x->generation->script, &exchange_ctx_ops, &x->arena);
    moon_call_init(&x->call, gateway->env.upstreams, &x->arena, &moon_exchange_call_events, x);
    x->cache = moon_cache_none;
    moon_buf_init(&x->request_body, x->generation->plan->limits.buffered_body_bytes);
    moon_buf_init(&x->response_body, x->generation->plan->limits.buffered_body_bytes);
    x->ops = ops;
    x->peer = peer;
    x->client = client;
    x->request.keeps_escaped_slash = exchange_keeps_escaped_slash(x->generation->plan, client);
    x->ctx.client = client;
    x->ctx.request = &x->request;
    x->times.started = x->times.head = moon_loop_now_us(gateway->env.loop);
    x->ctx.started_us = x->times.started;
    exchange_make_id(x);
    if (gateway->env.slot != NULL)
        moon_board_add(&gateway->env.slot->exchanges, 1);
    return x;
}

void moon_exchange_start(struct moon_exchange *x)
{
    x->times.head = moon_loop_now_us(x->gateway->env.loop);
    x->original_path = x->request.path;
    x->original_query = x->request.query;
    x->is_body_done = x->request.framing == MOON_FRAMING_NONE;
    moon_tunnel_check_request(x);
    moon_grpc_start(x);
    x->step = MOON_STEP_ROUTE;
    if (x->request.method == MOON_METHOD_CONNECT) {
        (void)exchange_fail(x, MOON_ERR_TUNNEL); // nor a way into the network behind it
        moon_malformed_inspect_tunnel(x);
    } else if (!moon_management_is(x) && moon_admission_sheds(x->gateway)) {
        (void)exchange_fail(x, MOON_ERR_OVERLOAD);
    } else if (moon_management_is(x) && moon_management_answer(x)) {
        x->step = MOON_STEP_REPLY;
    }
    exchange_run(x);
}

void moon_exchange_refuse(struct moon_exchange *x, enum moon_rc rc, struct moon_slice head)
{
    x->times.head = moon_clock_us();
    x->is_body_done = true;
    (void)exchange_fail(x, rc);
    moon_malformed_inspect(x, rc, head);
    exchange_run(x);
}

void moon_exchange_on_request_body(struct moon_exchange *x)
{
    if (x->is_collecting) {
        enum moon_rc rc = moon_body_collect_request(x);
        if (rc == MOON_AGAIN)
            return;
        if (rc != MOON_OK) {
            exchange_cancel_wait(x);
            (void)exchange_fail(x, rc);
            exchange_run(x);
        } else if (x->ctx.cancel != NULL) {
            moon_ctx_body_ready(&x->ctx, true); // a policy waits for it
        } else {
            exchange_run(x);
        }
    } else if (x->step == MOON_STEP_CALL) {
        exchange_run(x);
    } else if (x->is_tunnel) {
        exchange_run(x);
    } else if (x->is_called) {
        moon_body_pump_request(x);
    }
}

void moon_exchange_on_writable(struct moon_exchange *x)
{
    x->is_client_blocked = false;
    if (x->step == MOON_STEP_PUMP)
        exchange_run(x);
}

void moon_exchange_on_client_gone(struct moon_exchange *x, enum moon_rc rc)
{
    x->is_client_gone = true;
    if (x->failure == MOON_OK)
        x->failure = rc;
    exchange_cancel_wait(x);
    // on_error is told of who leaves before there is an answer.
    if (rc == MOON_ERR_CLIENT_CLOSED && x->step < MOON_STEP_FAIL && !x->is_running &&
        !x->is_head_sent && x->failure == rc)
        (void)exchange_fail(x, rc);
    else
        x->step = MOON_STEP_LOG;
    exchange_run(x);
}

// Whatever waits is not gone on with. An answer that has begun cannot become another one: it is cut.
static void exchange_break(struct moon_exchange *x, enum moon_rc rc)
{
    exchange_cancel_wait(x);
    if (!x->is_head_sent) {
        (void)exchange_fail(x, rc);
    } else {
        moon_body_cut(x, rc);
        x->step = MOON_STEP_LOG;
    }
    exchange_run(x);
}

void moon_exchange_body_failed(struct moon_exchange *x, enum moon_rc rc)
{
    exchange_break(x, rc);
}

void moon_exchange_on_deadline(struct moon_exchange *x)
{
    if (x->step >= MOON_STEP_LOG || (x->failure != MOON_OK && !x->is_head_sent))
        return; // the answer is being made
    exchange_break(x, MOON_ERR_TOTAL_TIMEOUT);
}

void moon_exchange_trim(struct moon_gateway *gateway)
{
    MOON_LIST_EACH(at, after, &gateway->exchange_pool)
    free(MOON_LIST_ENTRY(at, struct moon_exchange, link));
    moon_list_init(&gateway->exchange_pool);
    gateway->exchange_pool_count = 0;
    moon_cache_trim(gateway);
}
