/* SPDX-License-Identifier: Apache-2.0 */

/// A request head: the answer does not depend on how the bytes arrive, and what is accepted is
/// written so that it reads back as the same request with the same framing.

#include "base/arena.h"
#include "http/h1.h"

enum { FUZZ_ARENA_BYTES = 1 << 20 };

static const struct moon_h1_limits fuzz_limits = {8192, 2048, 64};

// Feeds in steps of `step` bytes; every call sees a block of its own, so that ASan sees overruns.
static enum moon_rc fuzz_scan(const uint8_t *data, size_t size, size_t step, size_t *head_len)
{
    struct moon_h1_scan scan = {.at = 0};
    for (size_t len = moon_min_size(step, size);; len = moon_min_size(len + step, size)) {
        char *copy = malloc(len + (len == 0));
        memcpy(copy, data, len);
        enum moon_rc rc = moon_h1_scan(&scan, moon_slice(copy, len), &fuzz_limits, head_len);
        free(copy);
        if (rc != MOON_AGAIN || len == size)
            return rc;
    }
}

// What comes of a head that arrives so: the scan's answer, or the parser's.
static enum moon_rc fuzz_answer(const uint8_t *data, size_t size, size_t step, size_t *head_len)
{
    struct moon_arena arena;
    struct moon_request request;
    enum moon_rc rc = fuzz_scan(data, size, step, head_len);
    if (rc != MOON_OK) {
        *head_len = 0;
        return rc;
    }
    moon_arena_init(&arena, FUZZ_ARENA_BYTES);
    moon_request_init(&request, &arena);
    rc = moon_h1_parse_request(&request, moon_slice((const char *)data, *head_len), &fuzz_limits,
                               true);
    moon_arena_reset(&arena);
    if (rc != MOON_OK)
        *head_len = 0;
    return rc;
}

static void fuzz_check_fields(const struct moon_fields *fields)
{
    for (size_t i = 0; i < fields->count; i++) {
        MOON_ASSERT(moon_field_name_is_valid(fields->items[i].name));
        MOON_ASSERT(moon_field_value_is_valid(fields->items[i].value));
        MOON_ASSERT(fields->ids[i] == moon_field_id(fields->items[i].name));
    }
}

static void fuzz_write_again(struct moon_arena *arena, struct moon_request *request)
{
    struct moon_buf out;
    moon_buf_init(&out, FUZZ_ARENA_BYTES);
    moon_fields_remove_hop_by_hop(&request->fields);
    request->wants_upgrade = false;
    enum moon_rc rc = moon_h1_write_request(&out, request, request->target, request->is_keep_alive);
    MOON_ASSERT(rc == MOON_OK);

    struct moon_request again;
    struct moon_h1_scan scan = {.at = 0};
    const struct moon_h1_limits wide = {FUZZ_ARENA_BYTES, FUZZ_ARENA_BYTES, 1000};
    size_t head_len = 0;
    moon_request_init(&again, arena);
    rc = moon_h1_scan(&scan, moon_buf_slice(&out), &wide, &head_len);
    MOON_ASSERT(rc == MOON_OK && head_len == moon_buf_len(&out));
    rc = moon_h1_parse_request(&again, moon_buf_slice(&out), &wide, true);
    if (request->authority.len > 0) { // HTTP/1.0 may leave Host out; 1.1, which we write, may not
        MOON_ASSERT(rc == MOON_OK);
        MOON_ASSERT(again.framing == request->framing);
        MOON_ASSERT(again.content_length == request->content_length);
        MOON_ASSERT(again.is_keep_alive == request->is_keep_alive);
        MOON_ASSERT(moon_slice_is(again.method_name, request->method_name));
        MOON_ASSERT(moon_slice_is(again.path, request->path));
        MOON_ASSERT(moon_slice_is(again.query, request->query));
        MOON_ASSERT(moon_slice_is(again.host, request->host));
    }
    moon_buf_fini(&out);
}

// What is read of a refused head points into it.
static void fuzz_glimpse(const uint8_t *data, size_t size)
{
    struct moon_arena arena;
    struct moon_request request;
    struct moon_slice head = {NULL, 0};
    moon_arena_init(&arena, FUZZ_ARENA_BYTES);
    moon_request_init(&request, &arena);
    MOON_ASSERT(moon_arena_copy(&arena, moon_slice((const char *)data, size), &head));
    moon_h1_glimpse(&request, head);
    MOON_ASSERT(request.line.len + request.target.len <= 2 * size);
    moon_arena_reset(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t head_len = 0, other_len = 0;
    size_t skipped = moon_h1_skip_empty_lines(moon_slice((const char *)data, size));
    data += skipped;
    size -= skipped;
    enum moon_rc rc = fuzz_answer(data, size, size + 1, &head_len);
    MOON_ASSERT(fuzz_answer(data, size, 1, &other_len) == rc && other_len == head_len);
    MOON_ASSERT(fuzz_answer(data, size, 7, &other_len) == rc && other_len == head_len);
    if (rc != MOON_OK) {
        fuzz_glimpse(data, size);
        return 0;
    }

    struct moon_arena arena;
    struct moon_request request;
    moon_arena_init(&arena, FUZZ_ARENA_BYTES);
    moon_request_init(&request, &arena);
    struct moon_slice head = {NULL, 0};
    MOON_ASSERT(moon_arena_copy(&arena, moon_slice((const char *)data, head_len), &head));
    if (moon_h1_parse_request(&request, head, &fuzz_limits, true) == MOON_OK) {
        fuzz_check_fields(&request.fields);
        fuzz_write_again(&arena, &request);
    }
    moon_arena_reset(&arena);
    return 0;
}
