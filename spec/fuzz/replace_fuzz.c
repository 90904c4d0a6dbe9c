/* SPDX-License-Identifier: Apache-2.0 */

/// Texts replaced in bodies: the same comes out wherever the runs end, and nothing that was looked for
/// is left where the new text cannot make it.

#include "http/replace.h"

enum { FUZZ_ARENA_BYTES = 1 << 20, FUZZ_OUT_BYTES = 1 << 24 };

struct fuzz_body {
    struct moon_slice text;
    size_t at, step;
};

static enum moon_rc fuzz_read(void *owner, struct moon_slice *data, bool *is_done)
{
    struct fuzz_body *body = owner;
    size_t n = moon_min_size(body->step, body->text.len - body->at);
    *data = moon_slice_from(moon_slice(body->text.data, body->at + n), body->at);
    body->at += n;
    *is_done = body->at == body->text.len;
    return MOON_OK;
}

static void fuzz_run(const struct moon_replace_rule *rules, size_t count, struct moon_slice text,
                     size_t step, struct moon_buf *out)
{
    struct moon_arena arena;
    struct moon_replaces all = {.count = 0};
    struct fuzz_body body = {text, 0, step};
    bool is_done = false;
    moon_arena_init(&arena, FUZZ_ARENA_BYTES);
    moon_buf_init(out, FUZZ_OUT_BYTES);
    enum moon_rc rc = moon_replaces_add(&all, &arena, rules, count);
    if (rc == MOON_OK)
        rc = moon_replaces_add(&all, &arena, rules, 1);
    MOON_ASSERT(rc == MOON_OK);
    while (!is_done) {
        struct moon_slice data;
        rc = moon_replaces_read(&all, fuzz_read, &body, &data, &is_done);
        MOON_ASSERT(rc == MOON_OK && (data.len > 0 || is_done));
        rc = moon_buf_append(out, data);
        MOON_ASSERT(rc == MOON_OK);
    }
    moon_replaces_fini(&all);
    moon_arena_reset(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    // Lengths of two texts and of the runs, whether they are links; the texts; the body.
    if (size < 4)
        return 0;
    size_t first = 1 + data[0] % 8u, second = 1 + data[1] % 8u, step = 1 + data[2] % 16u;
    if (size < 4 + first + second || size > 65536)
        return 0;
    const char *at = (const char *)data + 4;
    const struct moon_replace_rule rules[2] = {
        {moon_slice(at, first), MOON_S("<*>"), (data[3] & 1) != 0},
        {moon_slice(at + first, second), MOON_S(""), (data[3] & 1) != 0}};
    struct moon_slice text = moon_slice(at + first + second, size - 4 - first - second);
    struct moon_buf whole, parts;
    fuzz_run(rules, 2, text, text.len + 1, &whole);
    fuzz_run(rules, 2, text, step, &parts);
    MOON_ASSERT(moon_slice_is(moon_buf_slice(&whole), moon_buf_slice(&parts)));
    moon_buf_fini(&whole);
    moon_buf_fini(&parts);
    return 0;
}
