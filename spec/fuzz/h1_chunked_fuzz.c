/* SPDX-License-Identifier: Apache-2.0 */

/// A chunked body: payload, trailers and answer do not depend on how the bytes arrive; what is
/// accepted is written again and reads back the same.

#include "base/arena.h"
#include "http/h1.h"

enum { FUZZ_ARENA_BYTES = 1 << 20 };

struct fuzz_body {
    enum moon_rc rc;
    size_t used;
    struct moon_buf data;
    struct moon_arena arena;
    struct moon_fields trailers;
};

static void fuzz_append(struct moon_buf *buf, struct moon_slice bytes)
{
    enum moon_rc rc = moon_buf_append(buf, bytes);
    MOON_ASSERT(rc == MOON_OK);
}

// All runs of one piece, which lies in a block of its own.
static bool fuzz_feed(struct fuzz_body *out, struct moon_h1_body *body, const char *from, size_t n)
{
    char *copy = malloc(n + (n == 0));
    memcpy(copy, from, n);
    struct moon_slice left = moon_slice(copy, n);
    do {
        size_t used = 0;
        struct moon_slice data;
        out->rc = moon_h1_body_next(body, left, &used, &data);
        if (out->rc != MOON_OK && out->rc != MOON_AGAIN)
            break;
        MOON_ASSERT(used <= left.len && data.len <= used);
        if (out->rc == MOON_OK)
            fuzz_append(&out->data, data);
        out->used += used;
        left = moon_slice_from(left, used);
    } while (out->rc == MOON_OK && !body->is_done);
    free(copy);
    return out->rc == MOON_AGAIN;
}

static void fuzz_read(struct fuzz_body *out, struct moon_slice in, size_t step)
{
    struct moon_h1_body body;
    *out = (struct fuzz_body){.rc = MOON_AGAIN};
    moon_buf_init(&out->data, FUZZ_ARENA_BYTES);
    moon_arena_init(&out->arena, FUZZ_ARENA_BYTES);
    moon_fields_init(&out->trailers, &out->arena);
    moon_h1_body_init(&body, MOON_FRAMING_CHUNKED, -1, &out->trailers, false);
    for (size_t at = 0; at < in.len; at += step) {
        if (!fuzz_feed(out, &body, in.data + at, moon_min_size(step, in.len - at)))
            break;
    }
    MOON_ASSERT((out->rc == MOON_OK) == body.is_done);
    moon_h1_body_fini(&body);
}

static void fuzz_free(struct fuzz_body *out)
{
    moon_buf_fini(&out->data);
    moon_arena_reset(&out->arena);
}

static void fuzz_check_same(const struct fuzz_body *a, const struct fuzz_body *b)
{
    MOON_ASSERT(a->rc == b->rc);
    MOON_ASSERT(moon_slice_is(moon_buf_slice(&a->data), moon_buf_slice(&b->data)));
    if (a->rc != MOON_OK)
        return;
    MOON_ASSERT(a->trailers.count == b->trailers.count);
    for (size_t i = 0; i < a->trailers.count; i++) {
        MOON_ASSERT(moon_slice_is(a->trailers.items[i].name, b->trailers.items[i].name));
        MOON_ASSERT(moon_slice_is(a->trailers.items[i].value, b->trailers.items[i].value));
    }
}

static void fuzz_write_again(const struct fuzz_body *whole)
{
    struct moon_buf out;
    struct fuzz_body again;
    char line[20];
    moon_buf_init(&out, 2 * FUZZ_ARENA_BYTES);
    struct moon_slice data = moon_buf_slice(&whole->data);
    if (data.len > 0) {
        fuzz_append(&out, moon_slice(line, moon_h1_chunk_line(data.len, line)));
        fuzz_append(&out, data);
        fuzz_append(&out, MOON_S("\r\n"));
    }
    enum moon_rc rc = moon_h1_write_last_chunk(&out, &whole->trailers);
    MOON_ASSERT(rc == MOON_OK);
    fuzz_read(&again, moon_buf_slice(&out), moon_buf_len(&out));
    fuzz_check_same(whole, &again);
    fuzz_free(&again);
    moon_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t steps[] = {1, 3, 16};
    struct moon_slice in = moon_slice((const char *)data, size);
    struct fuzz_body whole;
    fuzz_read(&whole, in, size + 1);
    for (size_t i = 0; i < MOON_COUNT(steps); i++) {
        struct fuzz_body split;
        fuzz_read(&split, in, steps[i]);
        fuzz_check_same(&whole, &split);
        MOON_ASSERT(whole.rc != MOON_OK || whole.used == split.used);
        fuzz_free(&split);
    }
    if (whole.rc == MOON_OK)
        fuzz_write_again(&whole);
    fuzz_free(&whole);
    return 0;
}
