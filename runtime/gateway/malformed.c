/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/malformed.h"

#include "base/log.h"
#include "gateway/router.h"
#include "http/h1.h"

static void malformed_run(struct moon_exchange *x, struct moon_request *seen)
{
    struct moon_ctx_error error =
        x->ctx.error; // that of the refusal, which a policy's must not replace
    x->ctx.request = seen;
    if (moon_router_match(x->generation->router, &x->ctx) == MOON_OK) {
        x->ctx.cpu_left_us = x->ctx.leaf->limits.policy_cpu_ms * 1000;
        if (moon_script_run(&x->ctx, MOON_SECTION_MALFORMED) != MOON_RUN_DONE)
            moon_log_warn("a policy failed to look at a malformed request: %.*s request=%.*s",
                          MOON_SLICE_ARG(x->ctx.error.message), MOON_SLICE_ARG(x->ctx.id));
    }
    x->ctx.leaf = NULL;
    x->ctx.request = &x->request;
    x->ctx.error = error;
}

void moon_malformed_inspect(struct moon_exchange *x, struct moon_slice head)
{
    if (head.len == 0 || !x->generation->plan->inspects_malformed)
        return;
    struct moon_request *glimpse = moon_arena_alloc(&x->arena, sizeof(*glimpse));
    if (glimpse == NULL)
        return;
    moon_request_init(glimpse, &x->arena);
    moon_h1_glimpse(glimpse, head);
    malformed_run(x, glimpse);
}

void moon_malformed_inspect_tunnel(struct moon_exchange *x)
{
    if (!x->generation->plan->inspects_malformed)
        return;
    x->request.path = MOON_S("/"); // it has none, and is routed by one
    malformed_run(x, &x->request);
    x->request.path = MOON_S("");
}
