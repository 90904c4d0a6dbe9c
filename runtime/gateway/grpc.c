/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/grpc.h"

#include "gateway/body.h"

enum { GRPC_MESSAGE_BYTES = 512, GRPC_LONGEST_MS = 1000 * 3600 * 24 };

enum grpc_status { // of those that a gateway gives
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_UNAUTHENTICATED = 16,
};

// As in gRPC's own table for proxies ("http-grpc-status-mapping"), but where the gateway knows more
// than the number says: what was too much, and what took too long.
static enum grpc_status grpc_status_of(int http)
{
    switch (http) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
    case 405:
    case 501:
        return GRPC_UNIMPLEMENTED;
    case 408:
    case 504:
        return GRPC_DEADLINE_EXCEEDED;
    case 413:
    case 429:
    case 431:
        return GRPC_RESOURCE_EXHAUSTED;
    case 422:
        return GRPC_INVALID_ARGUMENT;
    case 499:
        return GRPC_CANCELLED;
    case 500:
        return GRPC_INTERNAL;
    case 502:
    case 503:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

// "100m": a number of at most eight digits and a unit. @return 0 where there is none
static int64_t grpc_timeout_ms(struct moon_slice text)
{
    int64_t number;
    if (text.len < 2 || text.len > 9 ||
        !moon_slice_number(moon_slice(text.data, text.len - 1), &number))
        return 0;
    int64_t ms;
    switch (text.data[text.len - 1]) {
    case 'H':
        ms = number * 3600 * 1000;
        break;
    case 'M':
        ms = number * 60 * 1000;
        break;
    case 'S':
        ms = number * 1000;
        break;
    case 'm':
        ms = number;
        break;
    case 'u':
        ms = number / 1000;
        break;
    case 'n':
        ms = number / 1000000;
        break;
    default:
        return 0;
    }
    if (ms > GRPC_LONGEST_MS)
        return 0;
    return ms > 0 ? ms : 1;
}

static void grpc_deadline(struct moon_timer *timer)
{
    struct moon_exchange *x = timer->owner;
    moon_exchange_on_deadline(x);
}

void moon_grpc_start(struct moon_exchange *x)
{
    const struct moon_fields *fields = &x->request.fields;
    const struct moon_field *type = moon_fields_find_id(fields, MOON_FIELD_CONTENT_TYPE);
    static const char grpc[] = "application/grpc", web[] = "application/grpc-web";
    if (type == NULL || !moon_slice_starts_nocase(type->value, moon_slice_text(grpc)))
        return;
    char next = type->value.len > sizeof(grpc) - 1 ? type->value.data[sizeof(grpc) - 1] : ';';
    x->is_grpc_web = moon_slice_starts_nocase(type->value, moon_slice_text(web));
    x->is_grpc = x->is_grpc_web || next == '+' || next == ';' || next == ' ';
    if (!x->is_grpc)
        return;
    const struct moon_field *timeout = moon_fields_find(fields, MOON_S("grpc-timeout"));
    int64_t ms = timeout == NULL ? 0 : grpc_timeout_ms(timeout->value);
    if (ms == 0)
        return;
    moon_timer_init(&x->deadline, x->gateway->env.loop, grpc_deadline, x);
    moon_timer_set(&x->deadline, ms);
}

// Percent-encoded but for visible ASCII and spaces.
static struct moon_slice grpc_encode(struct moon_slice text, char into[GRPC_MESSAGE_BYTES])
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;
    for (size_t i = 0; i < text.len && n + 3 <= GRPC_MESSAGE_BYTES; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c >= 0x20 && c <= 0x7e && c != '%') {
            into[n++] = (char)c;
            continue;
        }
        into[n++] = '%';
        into[n++] = hex[c >> 4];
        into[n++] = hex[c & 15];
    }
    return moon_slice(into, n);
}

static enum moon_rc grpc_add_status(struct moon_exchange *x, struct moon_fields *fields, int http,
                                    struct moon_slice text)
{
    char encoded[GRPC_MESSAGE_BYTES];
    struct moon_slice message;
    struct moon_slice status = moon_arena_printf(&x->arena, "%d", (int)grpc_status_of(http));
    if (status.len == 0 || !moon_arena_copy(&x->arena, grpc_encode(text, encoded), &message))
        return MOON_ERR_MEMORY;
    enum moon_rc rc = moon_fields_set(fields, MOON_S("grpc-status"), status);
    return rc == MOON_OK && message.len > 0
               ? moon_fields_set(fields, MOON_S("grpc-message"), message)
               : rc;
}

// A client of gRPC-Web takes an answer for gRPC-Web only: in the form that it has sent.
static struct moon_slice grpc_media_type(const struct moon_exchange *x)
{
    const struct moon_field *type =
        moon_fields_find_id(&x->request.fields, MOON_FIELD_CONTENT_TYPE);
    if (!x->is_grpc_web || type == NULL)
        return MOON_S("application/grpc");
    return moon_slice_trim(moon_slice(type->value.data, moon_slice_find(type->value, ';')));
}

void moon_grpc_map_response(struct moon_exchange *x)
{
    struct moon_response *response = &x->response;
    struct moon_fields *fields = &response->fields;
    if (!x->is_grpc || x->is_answered || response->status < 400 ||
        moon_fields_find(fields, MOON_S("grpc-status")) != NULL)
        return;
    bool is_refusal = x->failure == MOON_ERR_POLICY_REFUSED && x->ctx.error.message.len > 0;
    struct moon_slice text = is_refusal                    ? x->ctx.error.message
                             : x->ctx.error.reason.len > 0 ? x->ctx.error.reason
                                                           : moon_status_reason(response->status);
    if (grpc_add_status(x, fields, response->status, text) != MOON_OK ||
        moon_fields_set(fields, MOON_S("Content-Type"), grpc_media_type(x)) != MOON_OK)
        return; // short of memory: the client maps the HTTP status itself
    response->status = 200;
    moon_buf_clear(&x->response_body);
    x->is_grpc_error = true;
}

bool moon_grpc_cut(struct moon_exchange *x, enum moon_rc rc)
{
    struct moon_fields trailers;
    // Trailers of gRPC-Web are a message, for which there is no place within one that is cut.
    if (!x->is_grpc || x->is_grpc_web || x->request.version_major != 2)
        return false;
    moon_fields_init(&trailers, &x->arena);
    if (grpc_add_status(x, &trailers, moon_rc_status(rc), moon_slice_text(moon_rc_text(rc))) !=
        MOON_OK)
        return false;
    rc = x->ops->write_body(x->peer, moon_slice(NULL, 0), true, &trailers);
    return rc == MOON_OK || rc == MOON_AGAIN;
}
