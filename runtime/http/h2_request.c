/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"
#include "http/chars.h"
#include "http/h2_internal.h"
#include "http/target.h"
#include "http/uri.h"

// nghttp2 has checked what makes a message malformed (RFC 9113 §8.1.1): order, repeats and presence
// of pseudo-fields, lower case, fields of a connection, Content-Length against DATA. Here is what a
// gateway wants to know besides.

enum { REQUEST_FIELD_BYTES = 32 }; // that a field counts besides its own bytes (RFC 9113 §6.5.2)

static enum moon_rc request_pseudo(struct moon_h2_stream *stream, struct moon_slice name,
                                   struct moon_slice value)
{
    struct moon_request *request = stream->request;
    if (moon_slice_is(name, MOON_S(":method"))) {
        request->method_name = value;
        request->method = request->client_method = moon_method_parse(value);
    } else if (moon_slice_is(name, MOON_S(":path"))) {
        request->target = value;
    } else if (moon_slice_is(name, MOON_S(":authority"))) {
        request->authority = value;
    } else if (moon_slice_is(name, MOON_S(":scheme"))) {
        stream->scheme = value;
    } else if (moon_slice_is(name, MOON_S(":protocol"))) {
        stream->protocol = value;
    }
    return MOON_OK;
}

static enum moon_rc request_add(struct moon_fields *fields, struct moon_slice name,
                                struct moon_slice value)
{
    enum moon_field_id id = moon_field_id(name);
    struct moon_slice own = moon_field_name(id);
    struct moon_slice copy;
    if (id == MOON_FIELD_OTHER && !moon_arena_copy(fields->arena, name, &own))
        return MOON_ERR_MEMORY;
    if (!moon_arena_copy(fields->arena, value, &copy))
        return MOON_ERR_MEMORY;
    return moon_fields_add_known(fields, id, own, copy);
}

bool h2_request_field(struct moon_h2_stream *stream, struct moon_slice name,
                      struct moon_slice value)
{
    struct moon_request *request = stream->request;
    const struct moon_h2_limits *limits = &stream->h2->limits;
    stream->head_bytes += name.len + value.len + REQUEST_FIELD_BYTES;
    // What is too long is passed over, so that it can be answered; a bomb is not worth that.
    if (stream->head_bytes > 4 * limits->head_bytes)
        return false;
    if (request == NULL || stream->head_rc != MOON_OK)
        return true;
    if (stream->head_bytes > limits->head_bytes || request->fields.count >= limits->header_count) {
        stream->head_rc = MOON_ERR_HEAD_TOO_LARGE;
        return true;
    }
    if (name.len == 0 || name.data[0] != ':') {
        if (!moon_field_value_is_valid(value))
            return false;
        stream->head_rc = request_add(&request->fields, name, value);
        return true;
    }
    struct moon_slice copy;
    stream->head_rc = moon_arena_copy(request->fields.arena, value, &copy)
                          ? request_pseudo(stream, name, copy)
                          : MOON_ERR_MEMORY;
    return true;
}

bool h2_request_trailer(struct moon_h2_stream *stream, struct moon_slice name,
                        struct moon_slice value)
{
    struct moon_request *request = stream->request;
    const struct moon_h2_limits *limits = &stream->h2->limits;
    stream->head_bytes += name.len + value.len + REQUEST_FIELD_BYTES;
    if (stream->head_bytes > 2 * limits->head_bytes || !moon_field_value_is_valid(value))
        return false;
    if (request == NULL)
        return true;
    if ((moon_field_flags(moon_field_id(name)) & MOON_FIELD_NO_TRAILER) != 0)
        return true; // never merged, never forwarded (RFC 9110 §6.5.1)
    return request->trailers.count < limits->header_count &&
           request_add(&request->trailers, name, value) == MOON_OK;
}

// RFC 9113 §8.3.1: :authority is the host; a Host beside it must say the same.
static enum moon_rc request_authority(struct moon_request *request)
{
    struct moon_authority authority;
    struct moon_fields *fields = &request->fields;
    const struct moon_field *host = moon_fields_find_id(fields, MOON_FIELD_HOST);
    size_t hosts = 0;
    for (size_t i = 0; i < fields->count; i++)
        hosts += fields->ids[i] == MOON_FIELD_HOST;
    if (hosts > 1)
        return MOON_ERR_BAD_HOST;
    if (request->authority.len == 0 && host != NULL)
        request->authority = host->value;
    if (request->authority.len == 0 || !moon_uri_parse_authority(request->authority, &authority))
        return MOON_ERR_BAD_HOST;
    if (host != NULL && !moon_slice_is_nocase(host->value, request->authority))
        return MOON_ERR_BAD_HOST;
    enum moon_rc rc = MOON_OK;
    if (host == NULL)
        rc = moon_fields_add_id(fields, MOON_FIELD_HOST, request->authority);
    return rc == MOON_OK ? moon_target_set_host(request, authority.host) : rc;
}

static enum moon_rc request_target(struct moon_h2_stream *stream)
{
    struct moon_request *request = stream->request;
    struct moon_slice target = request->target;
    bool is_extended = stream->protocol.len > 0;
    if (request->method == MOON_METHOD_CONNECT && !is_extended) {
        struct moon_authority authority;
        request->target_form = MOON_TARGET_AUTHORITY;
        request->target = request->authority;
        request->path_raw = MOON_S("");
        return moon_uri_parse_authority(request->authority, &authority) && authority.port != 0
                   ? MOON_OK
                   : MOON_ERR_BAD_TARGET;
    }
    if (target.len > stream->h2->limits.uri_bytes)
        return MOON_ERR_URI_TOO_LONG;
    const char *end = target.data + target.len;
    if (target.len == 0 || moon_find_invisible(target.data, end) != end ||
        moon_slice_find(target, '#') < target.len)
        return MOON_ERR_BAD_TARGET;
    if (moon_slice_is(target, MOON_S("*"))) {
        request->target_form = MOON_TARGET_ASTERISK;
        request->path_raw = target;
        return request->method == MOON_METHOD_OPTIONS ? MOON_OK : MOON_ERR_BAD_TARGET;
    }
    if (target.data[0] != '/')
        return MOON_ERR_BAD_TARGET;
    moon_target_split(request, target);
    return MOON_OK;
}

// Policies must be able to trust the scheme: it is the connection's.
static enum moon_rc request_scheme(struct moon_h2_stream *stream)
{
    struct moon_slice given = stream->scheme;
    bool is_tls = stream->h2->is_tls;
    stream->request->scheme = is_tls ? MOON_S("https") : MOON_S("http");
    if (given.len == 0 || moon_slice_is(given, MOON_S("http")))
        return MOON_OK; // CONNECT has none
    if (!moon_slice_is(given, MOON_S("https")))
        return MOON_ERR_BAD_TARGET;
    return is_tls ? MOON_OK : MOON_ERR_MISDIRECTED;
}

static enum moon_rc request_framing(struct moon_request *request, bool is_ended)
{
    const struct moon_field *length =
        moon_fields_find_id(&request->fields, MOON_FIELD_CONTENT_LENGTH);
    if (length != NULL) {
        request->framing = MOON_FRAMING_LENGTH;
        return moon_slice_number(length->value, &request->content_length) ? MOON_OK
                                                                          : MOON_ERR_BAD_LENGTH;
    }
    request->framing = is_ended ? MOON_FRAMING_NONE : MOON_FRAMING_CHUNKED;
    return MOON_OK;
}

static enum moon_rc request_expect(struct moon_request *request)
{
    const struct moon_field *expect = moon_fields_find_id(&request->fields, MOON_FIELD_EXPECT);
    if (expect == NULL)
        return MOON_OK;
    if (!moon_slice_is_nocase(expect->value, MOON_S("100-continue")))
        return MOON_ERR_EXPECTATION;
    request->expects_continue =
        request->framing == MOON_FRAMING_CHUNKED || request->content_length > 0;
    return MOON_OK;
}

static void request_te(struct moon_request *request)
{
    // nghttp2 lets nothing but "trailers" pass.
    request->wants_trailers = moon_fields_find_id(&request->fields, MOON_FIELD_TE) != NULL;
}

// RFC 9113 §8.2.3: the pieces of Cookie become one field again.
static enum moon_rc request_cookies(struct moon_request *request)
{
    enum { MOST_PIECES = 64 };
    struct moon_fields *fields = &request->fields;
    struct moon_slice parts[2 * MOST_PIECES], joined;
    size_t n = 0, first = 0;
    for (size_t i = 0; i < fields->count; i++) {
        if (fields->ids[i] != MOON_FIELD_COOKIE)
            continue;
        if (n + 2 > sizeof(parts) / sizeof(parts[0]))
            return MOON_ERR_HEAD_TOO_LARGE;
        if (n == 0)
            first = i;
        else
            parts[n++] = MOON_S("; ");
        parts[n++] = fields->items[i].value;
    }
    if (n <= 1)
        return MOON_OK;
    if (!moon_arena_join(fields->arena, parts, n, &joined))
        return MOON_ERR_MEMORY;
    size_t kept = first + 1;
    fields->items[first].value = joined;
    for (size_t i = kept; i < fields->count; i++) {
        if (fields->ids[i] == MOON_FIELD_COOKIE)
            continue;
        fields->items[kept] = fields->items[i];
        fields->ids[kept++] = fields->ids[i];
    }
    fields->count = kept;
    return MOON_OK;
}

// Sec-WebSocket-Key (RFC 6455 §4.1), which HTTP/2 does without: 16 random bytes in base64.
static enum moon_rc request_websocket_key(struct moon_request *request)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t random[18] = {0};
    char text[24];
    struct moon_slice key;
    moon_random_bytes(random, 16);
    for (size_t i = 0; i < 6; i++) {
        uint32_t three =
            (uint32_t)random[3 * i] << 16 | (uint32_t)random[3 * i + 1] << 8 | random[3 * i + 2];
        for (size_t k = 0; k < 4; k++)
            text[4 * i + k] = alphabet[three >> (18 - 6 * k) & 63];
    }
    text[22] = text[23] = '=';
    if (!moon_arena_copy(request->fields.arena, moon_slice(text, sizeof(text)), &key))
        return MOON_ERR_MEMORY;
    return moon_fields_set(&request->fields, MOON_S("Sec-WebSocket-Key"), key);
}

// RFC 8441: an extended CONNECT for "websocket" is what HTTP/1.1 calls an upgrade, and is handled as
// one from here on. No other protocol is known here.
static enum moon_rc request_upgrade(struct moon_h2_stream *stream)
{
    struct moon_request *request = stream->request;
    if (stream->protocol.len == 0)
        return MOON_OK;
    if (!moon_slice_is(stream->protocol, MOON_S("websocket")))
        return MOON_ERR_METHOD;
    request->method = request->client_method = MOON_METHOD_GET;
    request->method_name = MOON_S("GET");
    request->framing = MOON_FRAMING_NONE;
    request->content_length = -1;
    request->expects_continue = false;
    request->wants_upgrade = true;
    enum moon_rc rc = moon_fields_set(&request->fields, MOON_S("Upgrade"), MOON_S("websocket"));
    return rc == MOON_OK ? request_websocket_key(request) : rc;
}

void h2_request_complete(struct moon_h2_stream *stream, bool is_ended)
{
    struct moon_request *request = stream->request;
    if (request == NULL || stream->head_rc != MOON_OK)
        return;
    request->version_major = 2;
    request->version_minor = 0;
    request->is_keep_alive = true;
    request_te(request);
    enum moon_rc rc = request_scheme(stream);
    if (rc == MOON_OK)
        rc = request_target(stream);
    if (rc == MOON_OK)
        rc = request_authority(request);
    if (rc == MOON_OK)
        rc = request_framing(request, is_ended);
    if (rc == MOON_OK)
        rc = request_expect(request);
    if (rc == MOON_OK)
        rc = request_cookies(request);
    if (rc == MOON_OK)
        rc = request_upgrade(stream);
    if (rc == MOON_OK)
        rc = moon_target_set_path(request);
    stream->head_rc = rc;
}
