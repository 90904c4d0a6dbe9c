/* SPDX-License-Identifier: Apache-2.0 */
#include "http/chars.h"
#include "http/h1.h"

enum {
    H1_SIZE_DIGITS = 16,        // of a chunk, leading zeros included
    H1_CHUNK_LINE_BYTES = 1024, // size and extensions
    H1_TRAILER_BYTES = 8192,    // all trailer lines, the empty one included
    H1_TRAILER_COUNT = 100,
};

// Of the chunked coding (RFC 9112 §7.1).
enum chunk_state {
    CHUNK_FIRST_DIGIT,
    CHUNK_DIGITS,
    CHUNK_BEFORE_SEMICOLON, // white space was seen: only ';' may follow
    CHUNK_EXT_START,
    CHUNK_EXT_NAME,
    CHUNK_EXT_BEFORE_EQUALS, // white space behind a name
    CHUNK_EXT_VALUE_START,
    CHUNK_EXT_TOKEN,
    CHUNK_EXT_QUOTED,
    CHUNK_EXT_ESCAPED,
    CHUNK_EXT_QUOTED_END,
    CHUNK_LINE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER,
    CHUNK_BAD, // stays: what follows an error is never read as a body
};

void moon_h1_body_init(struct moon_h1_body *body, enum moon_framing framing, int64_t content_length,
                       struct moon_fields *trailers, bool is_response)
{
    *body =
        (struct moon_h1_body){.framing = framing, .trailers = trailers, .is_response = is_response};
    moon_buf_init(&body->trailer_line, H1_TRAILER_BYTES);
    if (framing == MOON_FRAMING_LENGTH) {
        MOON_ASSERT(content_length >= 0);
        body->left = (uint64_t)content_length;
        body->is_done = content_length == 0;
    }
    if (framing == MOON_FRAMING_NONE) {
        body->is_done = true;
    }
}

void moon_h1_body_fini(struct moon_h1_body *body)
{
    moon_buf_fini(&body->trailer_line);
}

static enum moon_rc body_refuse(const struct moon_h1_body *body, enum moon_rc rc)
{
    return body->is_response && rc != MOON_ERR_MEMORY ? MOON_ERR_UPSTREAM_PROTOCOL : rc;
}

static enum chunk_state chunk_digit(struct moon_h1_body *body, char c)
{
    int digit = moon_char_hex(c);
    if (digit < 0 || body->left > (uint64_t)INT64_MAX >> 4 ||
        body->extension_bytes > H1_SIZE_DIGITS) {
        return CHUNK_BAD;
    }
    body->left = body->left << 4 | (uint64_t)digit;
    return CHUNK_DIGITS;
}

// What may follow a size, a name or a value: the next extension, white space before it, the end.
static enum chunk_state chunk_after(char c, enum chunk_state on_space)
{
    if (c == '\r') {
        return CHUNK_LINE_LF;
    }
    if (c == ';') {
        return CHUNK_EXT_START;
    }
    return c == ' ' || c == '\t' ? on_space : CHUNK_BAD;
}

static bool chunk_is_space(char c)
{
    return c == ' ' || c == '\t';
}

static enum chunk_state chunk_ext_step(enum chunk_state state, char c)
{
    bool is_token = moon_char_is(c, MOON_CHAR_TOKEN);
    switch ((int)state) {
    case CHUNK_BEFORE_SEMICOLON:
        return c == ';' ? CHUNK_EXT_START : chunk_is_space(c) ? state : CHUNK_BAD;
    case CHUNK_EXT_START:
        return is_token ? CHUNK_EXT_NAME : chunk_is_space(c) ? state : CHUNK_BAD;
    case CHUNK_EXT_NAME:
        if (is_token) {
            return state;
        }
        return c == '=' ? CHUNK_EXT_VALUE_START : chunk_after(c, CHUNK_EXT_BEFORE_EQUALS);
    case CHUNK_EXT_BEFORE_EQUALS:
        if (c == '=') {
            return CHUNK_EXT_VALUE_START;
        }
        return c == ';' ? CHUNK_EXT_START : chunk_is_space(c) ? state : CHUNK_BAD;
    case CHUNK_EXT_VALUE_START:
        if (c == '"') {
            return CHUNK_EXT_QUOTED;
        }
        return is_token ? CHUNK_EXT_TOKEN : chunk_is_space(c) ? state : CHUNK_BAD;
    case CHUNK_EXT_TOKEN:
        return is_token ? state : chunk_after(c, CHUNK_BEFORE_SEMICOLON);
    case CHUNK_EXT_QUOTED:
        if (c == '"') {
            return CHUNK_EXT_QUOTED_END;
        }
        return moon_char_is_control(c) ? CHUNK_BAD : c == '\\' ? CHUNK_EXT_ESCAPED : state;
    case CHUNK_EXT_ESCAPED:
        return moon_char_is_control(c) ? CHUNK_BAD : CHUNK_EXT_QUOTED;
    case CHUNK_EXT_QUOTED_END:
        return chunk_after(c, CHUNK_BEFORE_SEMICOLON);
    default:
        return CHUNK_BAD;
    }
}

// One byte of a chunk's line, or of the CRLF behind its data.
static enum chunk_state chunk_step(struct moon_h1_body *body, char c)
{
    enum chunk_state state = (enum chunk_state)body->state;
    if (++body->extension_bytes > H1_CHUNK_LINE_BYTES) {
        return CHUNK_BAD;
    }
    switch ((int)state) {
    case CHUNK_FIRST_DIGIT:
        return chunk_digit(body, c);
    case CHUNK_DIGITS:
        if (moon_char_is(c, MOON_CHAR_HEX)) {
            return chunk_digit(body, c);
        }
        return chunk_after(c, CHUNK_BEFORE_SEMICOLON);
    case CHUNK_LINE_LF:
        if (c != '\n') {
            return CHUNK_BAD;
        }
        return body->left == 0 ? CHUNK_TRAILER : CHUNK_DATA;
    case CHUNK_DATA_CR:
        return c == '\r' ? CHUNK_DATA_LF : CHUNK_BAD;
    case CHUNK_DATA_LF:
        body->extension_bytes = 0;
        return c == '\n' ? CHUNK_FIRST_DIGIT : CHUNK_BAD;
    default:
        return chunk_ext_step(state, c);
    }
}

// Fields that frame, route or authenticate a message may not come behind it; they are dropped
// (RFC 9110 §6.5.1), never merged.
static enum moon_rc trailer_add(struct moon_fields *trailers, struct moon_slice name,
                                struct moon_slice value)
{
    enum moon_field_id id = moon_field_id(name);
    if (moon_field_flags(id) & (MOON_FIELD_NO_TRAILER | MOON_FIELD_HOP)) {
        return MOON_OK;
    }
    struct moon_slice kept;
    struct moon_slice parts[] = {name, value};
    if (!moon_arena_join(trailers->arena, parts, 2, &kept)) {
        return MOON_ERR_MEMORY;
    }
    return moon_fields_add_known(trailers, id, moon_slice(kept.data, name.len),
                                 moon_slice(kept.data + name.len, value.len));
}

// A whole line with its LF.
static enum moon_rc trailer_parse(struct moon_h1_body *body, struct moon_slice line)
{
    if (line.data == NULL || line.len < 2 || line.data[line.len - 2] != '\r') {
        return MOON_ERR_BAD_TRAILER;
    }
    line.len -= 2;
    if (line.len == 0) {
        body->is_done = true;
        return MOON_OK;
    }
    const char *end = line.data + line.len;
    const char *colon = moon_find_no_token(line.data, end);
    if (colon == line.data || colon == end || *colon != ':' ||
        moon_find_control(colon, end) != end) {
        return MOON_ERR_BAD_TRAILER;
    }
    if (++body->trailer_count > H1_TRAILER_COUNT) {
        return MOON_ERR_HEAD_TOO_LARGE;
    }
    if (body->trailers == NULL) {
        return MOON_OK;
    }
    struct moon_slice name = moon_slice(line.data, (size_t)(colon - line.data));
    struct moon_slice value = moon_slice(colon + 1, (size_t)(end - colon - 1));
    return trailer_add(body->trailers, name, moon_slice_trim(value));
}

// Takes one line, or keeps the beginning of one until the rest has come.
static enum moon_rc trailer_next(struct moon_h1_body *body, struct moon_slice in, size_t *used)
{
    size_t window = moon_min_size(in.len, H1_TRAILER_BYTES - body->trailer_bytes);
    size_t newline = moon_slice_find(moon_slice(in.data, window), '\n');
    bool is_whole = newline < window;
    size_t n = is_whole ? newline + 1 : window;
    body->trailer_bytes += n;
    *used += n;
    if (!is_whole && body->trailer_bytes >= H1_TRAILER_BYTES) {
        return MOON_ERR_HEAD_TOO_LARGE;
    }
    struct moon_slice line = moon_slice(in.data, n);
    if (!is_whole || moon_buf_len(&body->trailer_line) > 0) {
        enum moon_rc rc = moon_buf_append(&body->trailer_line, line);
        if (rc != MOON_OK) {
            return rc;
        }
        line = moon_buf_slice(&body->trailer_line);
    }
    if (!is_whole) {
        return MOON_AGAIN;
    }
    enum moon_rc rc = trailer_parse(body, line);
    moon_buf_clear(&body->trailer_line);
    return rc;
}

static struct moon_slice body_take(struct moon_h1_body *body, struct moon_slice in)
{
    size_t n = body->left < in.len ? (size_t)body->left : in.len;
    body->left -= n;
    body->total += n;
    return moon_slice(in.data, n);
}

static enum moon_rc chunked_next(struct moon_h1_body *body, struct moon_slice in, size_t *used,
                                 struct moon_slice *data)
{
    size_t at = 0;
    enum moon_rc rc = MOON_AGAIN;
    while (at < in.len && !body->is_done) {
        if (body->state == CHUNK_DATA) {
            *data = body_take(body, moon_slice_from(in, at));
            at += data->len;
            if (body->left == 0) {
                body->state = CHUNK_DATA_CR;
            }
            rc = MOON_OK;
            break;
        }
        if (body->state == CHUNK_TRAILER) {
            rc = trailer_next(body, moon_slice_from(in, at), &at);
            if (rc != MOON_OK) {
                break;
            }
            rc = body->is_done ? MOON_OK : MOON_AGAIN;
            continue;
        }
        body->state = (int)chunk_step(body, in.data[at++]);
        if (body->state == CHUNK_BAD) {
            return body_refuse(body, MOON_ERR_BAD_CHUNK);
        }
    }
    *used = at;
    if (rc == MOON_AGAIN || (rc == MOON_OK && !body->is_done)) {
        return rc;
    }
    moon_buf_fini(&body->trailer_line); // it is over: an idle connection holds no memory for it
    if (rc == MOON_OK) {
        return rc;
    }
    body->state = CHUNK_BAD;
    return body_refuse(body, rc);
}

enum moon_rc moon_h1_body_next(struct moon_h1_body *body, struct moon_slice in, size_t *used,
                               struct moon_slice *data)
{
    *used = 0;
    *data = moon_slice(in.data, 0);
    if (body->is_done) {
        return MOON_OK;
    }
    if (in.len == 0) {
        return MOON_AGAIN;
    }
    switch (body->framing) {
    case MOON_FRAMING_NONE:
        return MOON_OK;
    case MOON_FRAMING_LENGTH:
        *data = body_take(body, in);
        body->is_done = body->left == 0;
        break;
    case MOON_FRAMING_CLOSE:
        *data = in;
        body->total += in.len;
        break;
    case MOON_FRAMING_CHUNKED:
        return chunked_next(body, in, used, data);
    }
    *used = data->len;
    return MOON_OK;
}

enum moon_rc moon_h1_body_look(const struct moon_h1_body *body, struct moon_slice in)
{
    struct moon_h1_body ahead = *body;
    ahead.trailers = NULL;
    moon_buf_init(&ahead.trailer_line, H1_TRAILER_BYTES);
    enum moon_rc rc = moon_buf_append(&ahead.trailer_line, moon_buf_slice(&body->trailer_line));
    while (rc == MOON_OK && !ahead.is_done) {
        struct moon_slice data;
        size_t used = 0;
        rc = moon_h1_body_next(&ahead, in, &used, &data);
        in = moon_slice_from(in, used);
    }
    moon_h1_body_fini(&ahead);
    return rc;
}

enum moon_rc moon_h1_body_eof(struct moon_h1_body *body)
{
    if (body->framing == MOON_FRAMING_CLOSE) {
        body->is_done = true;
    }
    if (body->is_done) {
        return MOON_OK;
    }
    return body->is_response ? MOON_ERR_UPSTREAM_TRUNCATED : MOON_ERR_CLIENT_CLOSED;
}
