/* SPDX-License-Identifier: Apache-2.0 */

/// A response head: the answer does not depend on how the bytes arrive, and what is accepted is
/// written so that it reads back with the same status and framing.

#include "base/arena.h"
#include "http/h1.h"

enum { FUZZ_ARENA_BYTES = 1 << 20 };

static const struct moon_h1_limits fuzz_limits = {8192, 2048, 64};

static enum moon_rc fuzz_scan(const uint8_t *data, size_t size, size_t step, size_t *head_len)
{
    struct moon_h1_scan scan = {.is_response = true};
    for (size_t len = moon_min_size(step, size);; len = moon_min_size(len + step, size)) {
        char *copy = malloc(len + (len == 0));
        memcpy(copy, data, len);
        enum moon_rc rc = moon_h1_scan(&scan, moon_slice(copy, len), &fuzz_limits, head_len);
        free(copy);
        if (rc != MOON_AGAIN || len == size)
            return rc;
    }
}

static void fuzz_write_again(struct moon_arena *arena, struct moon_response *response,
                             enum moon_method method)
{
    struct moon_buf out;
    struct moon_response again;
    const struct moon_h1_limits wide = {FUZZ_ARENA_BYTES, FUZZ_ARENA_BYTES, 1000};
    moon_buf_init(&out, FUZZ_ARENA_BYTES);
    moon_fields_remove_hop_by_hop(&response->fields);
    enum moon_rc rc = moon_h1_write_response(&out, response, method, 1, response->is_keep_alive);
    MOON_ASSERT(rc == MOON_OK);
    moon_response_init(&again, arena);
    rc = moon_h1_parse_response(&again, moon_buf_slice(&out), method, &wide);
    MOON_ASSERT(rc == MOON_OK);
    MOON_ASSERT(again.status == response->status);
    MOON_ASSERT(again.framing == response->framing);
    if (response->framing != MOON_FRAMING_NONE)
        MOON_ASSERT(again.content_length == response->content_length);
    moon_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum moon_method methods[] = {MOON_METHOD_GET, MOON_METHOD_HEAD,
                                               MOON_METHOD_CONNECT};
    size_t head_len = 0, other_len = 0;
    enum moon_rc rc = fuzz_scan(data, size, size + 1, &head_len);
    MOON_ASSERT(fuzz_scan(data, size, 1, &other_len) == rc && other_len == head_len);
    if (rc != MOON_OK)
        return 0;
    for (size_t i = 0; i < MOON_COUNT(methods); i++) {
        struct moon_arena arena;
        struct moon_response response;
        struct moon_slice head = {NULL, 0};
        moon_arena_init(&arena, FUZZ_ARENA_BYTES);
        moon_response_init(&response, &arena);
        MOON_ASSERT(moon_arena_copy(&arena, moon_slice((const char *)data, head_len), &head));
        rc = moon_h1_parse_response(&response, head, methods[i], &fuzz_limits);
        MOON_ASSERT(rc == MOON_OK || rc == MOON_ERR_UPSTREAM_PROTOCOL);
        if (rc == MOON_OK)
            fuzz_write_again(&arena, &response, methods[i]);
        moon_arena_reset(&arena);
    }
    return 0;
}
