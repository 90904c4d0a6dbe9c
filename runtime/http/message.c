/* SPDX-License-Identifier: Apache-2.0 */
#include "http/message.h"

static const struct moon_slice method_names[] = {
    [MOON_METHOD_OTHER] = {NULL, 0},        [MOON_METHOD_GET] = {"GET", 3},
    [MOON_METHOD_HEAD] = {"HEAD", 4},       [MOON_METHOD_POST] = {"POST", 4},
    [MOON_METHOD_PUT] = {"PUT", 3},         [MOON_METHOD_DELETE] = {"DELETE", 6},
    [MOON_METHOD_CONNECT] = {"CONNECT", 7}, [MOON_METHOD_OPTIONS] = {"OPTIONS", 7},
    [MOON_METHOD_TRACE] = {"TRACE", 5},     [MOON_METHOD_PATCH] = {"PATCH", 5},
};

void moon_request_init(struct moon_request *request, struct moon_arena *arena)
{
    *request = (struct moon_request){.content_length = -1};
    moon_fields_init(&request->fields, arena);
    moon_fields_init(&request->trailers, arena);
}

void moon_response_init(struct moon_response *response, struct moon_arena *arena)
{
    *response = (struct moon_response){.content_length = -1};
    moon_fields_init(&response->fields, arena);
    moon_fields_init(&response->trailers, arena);
}

// The first letter leaves at most three names; methods are case-sensitive (RFC 9110 §9.1).
enum moon_method moon_method_parse(struct moon_slice name)
{
    if (name.len == 0) {
        return MOON_METHOD_OTHER;
    }
    for (int method = MOON_METHOD_GET; method <= MOON_METHOD_PATCH; method++) {
        if (method_names[method].data[0] == name.data[0] &&
            moon_slice_is(method_names[method], name)) {
            return (enum moon_method)method;
        }
    }
    return MOON_METHOD_OTHER;
}

bool moon_method_is_safe(enum moon_method method)
{
    return method == MOON_METHOD_GET || method == MOON_METHOD_HEAD ||
           method == MOON_METHOD_OPTIONS || method == MOON_METHOD_TRACE;
}

bool moon_method_is_idempotent(enum moon_method method)
{
    return moon_method_is_safe(method) || method == MOON_METHOD_PUT || method == MOON_METHOD_DELETE;
}

struct moon_slice moon_status_reason(int status)
{
    switch (status) {
#define REASON(code, text)                                                                         \
    case code:                                                                                     \
        return MOON_S(text);
#include "http/reasons.def"
#undef REASON
    default: // any other number is a legal status, too
        return moon_slice(NULL, 0);
    }
}

bool moon_response_is_bodiless(enum moon_method method, int status)
{
    if (method == MOON_METHOD_HEAD || status < 200 || status == 204 || status == 304) {
        return true;
    }
    return method == MOON_METHOD_CONNECT && status < 300;
}

// A client may name any field in Connection. Only those that mean something between two hops, or
// that we do not know, are taken out for it: else it could strip what the gateway relies on
// (Host, Authorization, X-Forwarded-For) from what the backend gets.
static void fields_remove_named(struct moon_fields *fields, struct moon_slice list)
{
    struct moon_slice name;
    while (moon_slice_next_element(&list, &name)) {
        if (moon_field_id(name) == MOON_FIELD_OTHER) {
            (void)moon_fields_remove(fields, name);
        }
    }
}

void moon_fields_remove_hop_by_hop(struct moon_fields *fields)
{
    // Downwards: lines that move up past `i` are seen twice, and none is missed.
    for (size_t i = fields->count; i-- > 0;) {
        if (i < fields->count && fields->ids[i] == MOON_FIELD_CONNECTION) {
            fields_remove_named(fields, fields->items[i].value);
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < fields->count; i++) {
        if (moon_field_flags((enum moon_field_id)fields->ids[i]) & MOON_FIELD_HOP) {
            continue;
        }
        fields->items[kept] = fields->items[i];
        fields->ids[kept++] = fields->ids[i];
    }
    fields->count = kept;
}
