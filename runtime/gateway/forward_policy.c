/* SPDX-License-Identifier: Apache-2.0 */

/// The call of the backend in the hands of a policy: ctx:forward. The policy waits for the head, looks
/// at it, and may call again; the body is left where it is until the exchange sends it on.

#include "base/clock.h"
#include "gateway/body.h"
#include "gateway/forward.h"

static const char *forward_section(const struct moon_exchange *x)
{
    if (x->step >= MOON_STEP_BACKEND && x->step <= MOON_STEP_AWAIT)
        return "backend";
    return x->step >= MOON_STEP_OUTBOUND ? "outbound" : "inbound";
}

void moon_forward_set_error(struct moon_exchange *x, enum moon_rc rc)
{
    x->ctx.error = (struct moon_ctx_error){
        .is_set = true,
        .status = moon_rc_status(rc),
        .source = MOON_S("gateway"),
        .reason = moon_forward_reason(rc),
        .message = moon_slice_text(moon_rc_text(rc)),
        .section = moon_slice_text(forward_section(x)),
    };
    if (rc == MOON_ERR_SINK && x->ctx.backend >= 0)
        x->ctx.error.status = x->generation->plan->backends[x->ctx.backend].sink_status;
}

void moon_forward_drop_response(struct moon_ctx *ctx)
{
    struct moon_exchange *x = MOON_CONTAINER_OF(ctx, struct moon_exchange, ctx);
    moon_forward_end_call(x);
    moon_call_init(&x->call, x->gateway->env.upstreams, &x->arena, &moon_exchange_call_events, x);
    moon_response_init(&x->response, &x->arena);
    x->ctx.response = NULL;
    x->is_answered = x->is_response_kept = x->is_collecting_response = false;
    moon_buf_clear(&x->response_body);
    moon_replaces_fini(&x->response_rewrites);
}

static void forward_timed_out(struct moon_timer *timer)
{
    moon_forward_ended(timer->owner, MOON_ERR_FIRST_BYTE_TIMEOUT);
}

enum moon_rc moon_forward_ctx(struct moon_ctx *ctx, int64_t timeout_ms)
{
    struct moon_exchange *x = MOON_CONTAINER_OF(ctx, struct moon_exchange, ctx);
    bool is_again = x->times.called != 0;
    bool is_body_gone = x->request.framing != MOON_FRAMING_NONE && !x->is_body_kept;
    moon_forward_drop_response(ctx);
    ctx->error.is_set = false;
    // What was streamed cannot be sent again: the policy should have kept it, and waited for its end.
    bool is_lost = (is_again || x->is_collecting) && is_body_gone;
    ctx->forward_rc = is_lost ? MOON_ERR_INTERNAL : moon_forward_start(x);
    if (!is_again)
        x->times.called =
            x->call.times.started_us != 0 ? x->call.times.started_us : moon_clock_us();
    if (ctx->forward_rc != MOON_OK) {
        moon_forward_set_error(x, ctx->forward_rc);
        return ctx->forward_rc;
    }
    x->is_forwarding = true;
    moon_timer_init(&x->forward_timer, x->gateway->env.loop, forward_timed_out, x);
    if (timeout_ms > 0)
        moon_timer_set(&x->forward_timer, timeout_ms);
    moon_body_pump_request(x);
    return MOON_AGAIN;
}

void moon_forward_ended(struct moon_exchange *x, enum moon_rc rc)
{
    if (rc == MOON_OK) {
        moon_timer_stop(&x->forward_timer);
        x->is_forwarding = false;
    } else {
        moon_forward_set_error(x, rc);
        moon_forward_end_call(x);
    }
    moon_ctx_forward_done(&x->ctx, rc);
}

bool moon_forward_is_refused(const struct moon_exchange *x)
{
    enum moon_rc rc = x->ctx.forward_rc;
    return rc != MOON_OK && !x->is_answered &&
           moon_slice_is(x->ctx.reply.reason, moon_forward_reason(rc));
}
