/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/max_forwards.h"

static bool forwards_is_shown(enum moon_field_id id)
{
    return id != MOON_FIELD_OTHER && (moon_field_flags(id) & MOON_FIELD_SECRET) == 0;
}

// TRACE gets back what came (RFC 9110 §9.3.8), less what may be a secret: fields that are one, and
// those that we do not know.
static enum moon_rc forwards_reflect(struct moon_exchange *x)
{
    const struct moon_fields *fields = &x->request.fields;
    struct moon_slice target = x->request.target;
    const char *version = x->request.version_major == 2   ? "2"
                          : x->request.version_minor == 0 ? "1.0"
                                                          : "1.1";
    struct moon_buf text;
    moon_buf_init(&text, 1 << 20);
    enum moon_rc rc =
        moon_buf_printf(&text, "TRACE %.*s HTTP/%s\r\n", MOON_SLICE_ARG(target), version);
    for (size_t i = 0; rc == MOON_OK && i < fields->count; i++) {
        if (forwards_is_shown((enum moon_field_id)fields->ids[i]))
            rc = moon_buf_printf(&text, "%.*s: %.*s\r\n", MOON_SLICE_ARG(fields->items[i].name),
                                 MOON_SLICE_ARG(fields->items[i].value));
    }
    if (rc == MOON_OK && !moon_arena_copy(&x->arena, moon_buf_slice(&text), &x->ctx.reply.body))
        rc = MOON_ERR_MEMORY;
    moon_buf_fini(&text);
    return rc != MOON_OK ? rc
                         : moon_fields_add(&x->ctx.reply.fields, MOON_S("Content-Type"),
                                           MOON_S("message/http"));
}

enum moon_rc moon_max_forwards(struct moon_exchange *x, bool *is_ours)
{
    struct moon_fields *fields = &x->request.fields;
    enum moon_method method = x->request.method;
    *is_ours = false;
    if (method != MOON_METHOD_OPTIONS && method != MOON_METHOD_TRACE)
        return MOON_OK;
    const struct moon_field *field = moon_fields_find_id(fields, MOON_FIELD_MAX_FORWARDS);
    int64_t left = 0;
    if (field == NULL)
        return MOON_OK;
    struct moon_slice all =
        moon_fields_joined(fields, MOON_S("Max-Forwards")); // a list is no number
    if (!moon_slice_number(all, &left))
        return MOON_ERR_BAD_FIELD;
    if (left > 0) {
        struct moon_slice less = moon_arena_printf(&x->arena, "%lld", (long long)left - 1);
        return less.len == 0 ? MOON_ERR_MEMORY
                             : moon_fields_set(fields, MOON_S("Max-Forwards"), less);
    }
    *is_ours = true;
    x->ctx.reply = (struct moon_reply){.status = 200};
    moon_fields_init(&x->ctx.reply.fields, &x->arena);
    return method == MOON_METHOD_TRACE ? forwards_reflect(x) : MOON_OK;
}
