/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/malformed.h"

#include "base/log.h"
#include "gateway/router.h"
#include "http/h1.h"
#include "http/target.h"

// Whether what was refused can be understood all the same, in one way. Where a line breaks the
// grammar, its parts are nobody's to name; servers that run rules refuse such requests before them.
static bool malformed_is_readable(enum moon_rc rc, const struct moon_request *seen)
{
    bool is_1_0 = seen->version_major == 1 && seen->version_minor == 0;
    const struct moon_field *host = moon_fields_find_id(&seen->fields, MOON_FIELD_HOST);
    bool has_host = host != NULL && host->value.len > 0;
    switch ((int)rc) {
    case MOON_ERR_BAD_VERSION:
    case MOON_ERR_BAD_LENGTH:
        return true;
    case MOON_ERR_BAD_TARGET:
        return seen->target.len > 0 && seen->target.data[0] == '/';
    case MOON_ERR_BAD_HOST:
        return has_host || (host != NULL && is_1_0);
    default:
        return false;
    }
}

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

// The fields of an HTTP/2 head lie in the request already: its grammar was kept.
static void malformed_inspect_h2(struct moon_exchange *x, enum moon_rc rc)
{
    struct moon_request *request = &x->request;
    struct moon_fields *fields = &request->fields;
    const struct moon_field *host = moon_fields_find_id(fields, MOON_FIELD_HOST);
    if (host == NULL && request->authority.len > 0 &&
        moon_fields_add_id(fields, MOON_FIELD_HOST, request->authority) != MOON_OK)
        return;
    moon_target_glimpse(request, request->authority);
    if (malformed_is_readable(rc, request))
        malformed_run(x, request);
}

void moon_malformed_inspect(struct moon_exchange *x, enum moon_rc rc, struct moon_slice head)
{
    if (!x->generation->plan->inspects_malformed)
        return;
    if (x->request.version_major == 2)
        malformed_inspect_h2(x, rc);
    if (head.len == 0)
        return;
    struct moon_request *glimpse = moon_arena_alloc(&x->arena, sizeof(*glimpse));
    if (glimpse == NULL)
        return;
    moon_request_init(glimpse, &x->arena);
    moon_h1_glimpse(glimpse, head);
    if (malformed_is_readable(rc, glimpse))
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
