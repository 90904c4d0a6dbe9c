/* SPDX-License-Identifier: Apache-2.0 */

/// The JSON reader: events nest, strings decode to UTF-8, and what is accepted is accepted again
/// when it is written from its events.

#include "base/buf.h"
#include "base/json_read.h"
#include "base/utf8.h"

enum { FUZZ_BYTES = 1 << 22, FUZZ_DEPTH = 64 };

static void fuzz_put(struct moon_buf *out, struct moon_slice bytes)
{
    enum moon_rc rc = moon_buf_append(out, bytes);
    MOON_ASSERT(rc == MOON_OK);
}

static void fuzz_put_event(struct moon_buf *out, enum moon_json_event event, struct moon_slice raw)
{
    static const char *const text[] = {
        [MOON_JSON_READ_OBJECT] = "{",  [MOON_JSON_READ_OBJECT_END] = "}",
        [MOON_JSON_READ_ARRAY] = "[",   [MOON_JSON_READ_ARRAY_END] = "]",
        [MOON_JSON_READ_TRUE] = "true", [MOON_JSON_READ_FALSE] = "false",
        [MOON_JSON_READ_NULL] = "null",
    };
    bool is_string = event == MOON_JSON_READ_KEY || event == MOON_JSON_READ_STRING;
    bool is_end = event == MOON_JSON_READ_OBJECT_END || event == MOON_JSON_READ_ARRAY_END;
    struct moon_slice written = moon_buf_slice(out);
    char last = written.len > 0 ? written.data[written.len - 1] : '[';
    if (!is_end && last != '[' && last != '{' && last != ':')
        fuzz_put(out, MOON_S(","));
    if (is_string)
        fuzz_put(out, MOON_S("\""));
    fuzz_put(out, is_string || event == MOON_JSON_READ_NUMBER ? raw : moon_slice_text(text[event]));
    if (is_string)
        fuzz_put(out, MOON_S("\""));
    if (event == MOON_JSON_READ_KEY)
        fuzz_put(out, MOON_S(":"));
}

static void fuzz_check_string(struct moon_slice raw)
{
    struct moon_arena arena;
    struct moon_slice text;
    moon_arena_init(&arena, FUZZ_BYTES);
    MOON_ASSERT(moon_json_read_text(&arena, raw, &text));
    MOON_ASSERT(moon_utf8_is_valid(text) && text.len <= raw.len);
    moon_arena_reset(&arena);
}

static bool fuzz_read(struct moon_slice in, struct moon_buf *out)
{
    struct moon_json_reader reader;
    moon_json_read_init(&reader, in, FUZZ_DEPTH);
    for (;;) {
        struct moon_slice raw = {NULL, 0};
        enum moon_json_event event = moon_json_read_next(&reader, &raw);
        MOON_ASSERT(reader.at <= in.len && reader.depth <= FUZZ_DEPTH);
        if (event == MOON_JSON_READ_ERROR || event == MOON_JSON_READ_END) {
            MOON_ASSERT(event == MOON_JSON_READ_ERROR || reader.depth == 0);
            return event == MOON_JSON_READ_END;
        }
        if (event == MOON_JSON_READ_KEY || event == MOON_JSON_READ_STRING)
            fuzz_check_string(raw);
        fuzz_put_event(out, event, raw);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moon_slice in = moon_slice((const char *)data, size);
    struct moon_buf out, again;
    moon_buf_init(&out, FUZZ_BYTES);
    moon_buf_init(&again, FUZZ_BYTES);
    if (fuzz_read(in, &out)) {
        MOON_ASSERT(fuzz_read(moon_buf_slice(&out), &again));
        MOON_ASSERT(moon_slice_is(moon_buf_slice(&out), moon_buf_slice(&again)));
        MOON_ASSERT(moon_json_read_is_valid(in, FUZZ_DEPTH, NULL));
    }
    moon_buf_fini(&out);
    moon_buf_fini(&again);
    return 0;
}
