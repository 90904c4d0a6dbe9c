/* SPDX-License-Identifier: Apache-2.0 */
#include "http/chars.h"
#include "http/h1.h"

enum { H1_TAIL_BYTES = 65536 }; // of the last chunk with its trailers

// Fields that the writers make themselves, or that belong to the other side's connection.
static const bool write_skips[MOON_FIELD_COUNT] = {
#define FIELD(id, name, flags)                                                                     \
    [MOON_FIELD_##id] = ((flags)&MOON_FIELD_HOP) != 0 ||                                           \
                        MOON_FIELD_##id == MOON_FIELD_CONTENT_LENGTH ||                            \
                        MOON_FIELD_##id == MOON_FIELD_HOST,
#include "http/fields.def"
#undef FIELD
};

// The lines that stand between the fields and the empty line.
struct write_tail {
    struct moon_slice framing; // name, or name and value
    struct moon_slice length;  // digits behind it
    struct moon_slice connection;
    struct moon_slice upgrade; // value of Upgrade; data NULL when there is none
};

// Most names and values are short: two copies that overlap are less than a call.
static inline char *put(char *at, struct moon_slice s)
{
    if (s.len > 16) {
        memcpy(at, s.data, s.len);
    } else if (s.len >= 8) {
        memcpy(at, s.data, 8);
        memcpy(at + s.len - 8, s.data + s.len - 8, 8);
    } else if (s.len >= 4) {
        memcpy(at, s.data, 4);
        memcpy(at + s.len - 4, s.data + s.len - 4, 4);
    } else if (s.len > 0) {
        at[0] = s.data[0];
        at[s.len / 2] = s.data[s.len / 2];
        at[s.len - 1] = s.data[s.len - 1];
    }
    return at + s.len;
}

static size_t fields_bytes(const struct moon_fields *fields)
{
    size_t total = 0;
    for (size_t i = 0; i < fields->count; i++) {
        if (!write_skips[fields->ids[i]]) {
            total += fields->items[i].name.len + fields->items[i].value.len + 4;
        }
    }
    return total;
}

static char *put_field(char *at, struct moon_slice name, struct moon_slice value)
{
    at = put(at, name);
    *at++ = ':';
    *at++ = ' ';
    at = put(at, value);
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

static char *put_fields(char *at, const struct moon_fields *fields)
{
    for (size_t i = 0; i < fields->count; i++) {
        if (!write_skips[fields->ids[i]]) {
            at = put_field(at, fields->items[i].name, fields->items[i].value);
        }
    }
    return at;
}

static size_t tail_bytes(const struct write_tail *tail)
{
    size_t total = tail->framing.len + tail->connection.len + 2;
    if (tail->length.len > 0) {
        total += tail->length.len + 2;
    }
    if (tail->upgrade.data != NULL) {
        total += sizeof("Upgrade: \r\n") - 1 + tail->upgrade.len;
    }
    return total;
}

static char *put_tail(char *at, const struct write_tail *tail)
{
    at = put(at, tail->framing);
    if (tail->length.len > 0) {
        at = put(at, tail->length);
        at = put(at, MOON_S("\r\n"));
    }
    at = put(at, tail->connection);
    if (tail->upgrade.data != NULL) {
        at = put_field(at, MOON_S("Upgrade"), tail->upgrade);
    }
    return put(at, MOON_S("\r\n"));
}

static void tail_set_length(struct write_tail *tail, int64_t length,
                            char digits[MOON_NUMBER_TEXT_BYTES])
{
    tail->framing = MOON_S("Content-Length: ");
    tail->length = moon_slice_of_number(digits, length);
}

static void tail_set_upgrade(struct write_tail *tail, const struct moon_fields *fields)
{
    const struct moon_field *upgrade = moon_fields_find_id(fields, MOON_FIELD_UPGRADE);
    if (upgrade == NULL) {
        return;
    }
    tail->upgrade =
        moon_slice(upgrade->value.data == NULL ? "" : upgrade->value.data, upgrade->value.len);
    tail->connection = MOON_S("Connection: upgrade\r\n");
}

static void request_tail(const struct moon_request *request, bool keep_alive,
                         struct write_tail *tail, char digits[MOON_NUMBER_TEXT_BYTES])
{
    if (request->framing == MOON_FRAMING_LENGTH) {
        tail_set_length(tail, request->content_length, digits);
    } else if (request->framing == MOON_FRAMING_CHUNKED) {
        tail->framing = MOON_S("Transfer-Encoding: chunked\r\n");
    }
    if (!keep_alive) {
        tail->connection = MOON_S("Connection: close\r\n");
    } else if (request->wants_trailers) {
        tail->connection = MOON_S("Connection: TE\r\nTE: trailers\r\n");
    }
    if (request->wants_upgrade) {
        tail_set_upgrade(tail, &request->fields);
    }
}

enum moon_rc moon_h1_write_request(struct moon_buf *out, const struct moon_request *request,
                                   struct moon_slice target, bool keep_alive)
{
    // A rewritten target may hold what a client wrote: it must not begin a line of its own.
    if (target.len == 0 ||
        moon_find_invisible(target.data, target.data + target.len) != target.data + target.len) {
        return MOON_ERR_BAD_TARGET;
    }
    char digits[MOON_NUMBER_TEXT_BYTES];
    struct write_tail tail = {.framing = {NULL, 0}};
    const struct moon_field *host = moon_fields_find_id(&request->fields, MOON_FIELD_HOST);
    struct moon_slice host_value = host != NULL ? host->value : request->authority;
    const struct moon_slice version = MOON_S(" HTTP/1.1\r\nHost: ");
    request_tail(request, keep_alive, &tail, digits);

    size_t total = request->method_name.len + 1 + target.len + version.len + host_value.len + 2 +
                   fields_bytes(&request->fields) + tail_bytes(&tail);
    enum moon_rc rc = moon_buf_reserve(out, total);
    if (rc != MOON_OK) {
        return rc;
    }
    char *at = out->data + out->end;
    at = put(at, request->method_name);
    *at++ = ' ';
    at = put(at, target);
    at = put(at, version);
    at = put(at, host_value);
    at = put(at, MOON_S("\r\n"));
    at = put_fields(at, &request->fields);
    at = put_tail(at, &tail);
    MOON_ASSERT(at == out->data + out->end + total);
    moon_buf_wrote(out, total);
    return MOON_OK;
}

// @return false where the body ends with the connection
static bool response_framing_line(const struct moon_response *response, enum moon_method method,
                                  int client_minor, struct write_tail *tail,
                                  char digits[MOON_NUMBER_TEXT_BYTES])
{
    int status = response->status;
    if (status < 200 || status == 204) {
        return true; // neither length nor coding (RFC 9110 §8.6, RFC 9112 §6.1)
    }
    bool is_bodiless = moon_response_is_bodiless(method, status);
    if (is_bodiless || response->framing == MOON_FRAMING_LENGTH) {
        bool is_tunnel = method == MOON_METHOD_CONNECT && status < 300;
        if (response->content_length >= 0 && !is_tunnel) {
            tail_set_length(tail, response->content_length, digits);
        }
        return true;
    }
    if (response->framing == MOON_FRAMING_NONE) {
        tail_set_length(tail, 0, digits);
        return true;
    }
    if (response->framing != MOON_FRAMING_CHUNKED || client_minor == 0) {
        return false;
    }
    tail->framing = MOON_S("Transfer-Encoding: chunked\r\n");
    return true;
}

static void response_tail(const struct moon_response *response, enum moon_method method,
                          int client_minor, bool keep_alive, struct write_tail *tail,
                          char digits[MOON_NUMBER_TEXT_BYTES])
{
    bool is_delimited = response_framing_line(response, method, client_minor, tail, digits);
    if (response->status == 101) {
        tail_set_upgrade(tail, &response->fields);
    }
    if (response->status < 200) {
        return;
    }
    if (!keep_alive || !is_delimited) {
        tail->connection = MOON_S("Connection: close\r\n");
    } else if (client_minor == 0) {
        tail->connection = MOON_S("Connection: keep-alive\r\n");
    }
}

enum moon_rc moon_h1_write_response(struct moon_buf *out, const struct moon_response *response,
                                    enum moon_method method, int client_minor, bool keep_alive)
{
    char digits[MOON_NUMBER_TEXT_BYTES];
    struct write_tail tail = {.framing = {NULL, 0}};
    int status = response->status;
    MOON_ASSERT(status >= 100 && status <= 999);
    struct moon_slice reason =
        response->reason.len > 0 ? response->reason : moon_status_reason(status);
    response_tail(response, method, client_minor, keep_alive, &tail, digits);

    size_t total = sizeof("HTTP/1.1 200 ") - 1 + reason.len + 2 + fields_bytes(&response->fields) +
                   tail_bytes(&tail);
    enum moon_rc rc = moon_buf_reserve(out, total);
    if (rc != MOON_OK) {
        return rc;
    }
    char *at = put(out->data + out->end, MOON_S("HTTP/1.1 "));
    *at++ = (char)('0' + status / 100);
    *at++ = (char)('0' + status / 10 % 10);
    *at++ = (char)('0' + status % 10);
    *at++ = ' ';
    at = put(at, reason);
    at = put(at, MOON_S("\r\n"));
    at = put_fields(at, &response->fields);
    at = put_tail(at, &tail);
    MOON_ASSERT(at == out->data + out->end + total);
    moon_buf_wrote(out, total);
    return MOON_OK;
}

size_t moon_h1_chunk_line(uint64_t len, char into[20])
{
    static const char hex[] = "0123456789abcdef";
    char digits[16];
    size_t count = 0;
    do {
        digits[count++] = hex[len & 15];
        len >>= 4;
    } while (len > 0);
    for (size_t i = 0; i < count; i++) {
        into[i] = digits[count - 1 - i];
    }
    into[count] = '\r';
    into[count + 1] = '\n';
    return count + 2;
}

enum moon_rc moon_h1_write_last_chunk(struct moon_buf *out, const struct moon_fields *trailers)
{
    size_t total = 5 + (trailers == NULL ? 0 : fields_bytes(trailers));
    enum moon_rc rc = moon_buf_reserve(out, total);
    if (rc != MOON_OK) {
        return rc;
    }
    char *at = put(out->data + out->end, MOON_S("0\r\n"));
    if (trailers != NULL) {
        at = put_fields(at, trailers);
    }
    (void)put(at, MOON_S("\r\n"));
    moon_buf_wrote(out, total);
    return MOON_OK;
}

static void run_add(struct moon_h1_run *run, struct moon_slice bytes)
{
    if (bytes.len > 0) {
        run->iov[run->count++] = (struct iovec){(void *)(uintptr_t)bytes.data, bytes.len};
    }
}

enum moon_rc moon_h1_run_init(struct moon_h1_run *run, struct moon_slice head,
                              struct moon_slice data, bool is_chunked, bool is_last,
                              const struct moon_fields *trailers)
{
    bool is_chunk = is_chunked && data.len > 0;
    run->count = 0;
    moon_buf_init(&run->tail, H1_TAIL_BYTES);
    run_add(run, head);
    if (is_chunk) {
        run_add(run, moon_slice(run->line, moon_h1_chunk_line(data.len, run->line)));
    }
    run_add(run, data);
    if (is_chunk) {
        run_add(run, MOON_S("\r\n"));
    }
    if (!is_last || !is_chunked) {
        return MOON_OK;
    }
    enum moon_rc rc = moon_h1_write_last_chunk(&run->tail, trailers);
    run_add(run, moon_buf_slice(&run->tail));
    return rc;
}

void moon_h1_run_fini(struct moon_h1_run *run)
{
    moon_buf_fini(&run->tail);
}
