/* SPDX-License-Identifier: Apache-2.0 */

/// The head of a stored response as it comes from the second tier: what is taken for sound can be
/// unpacked, whole and within its bytes, and says what may stand in a response.

#include "gateway/cache.h"
#include "http/message.h"

static void fuzz_inside(struct moon_slice head, struct moon_slice part)
{
    MOON_ASSERT(part.len == 0 ||
                (part.data >= head.data && part.data + part.len <= head.data + head.len));
}

static void fuzz_unpack(struct moon_slice head)
{
    struct moon_arena arena;
    struct moon_response response;
    moon_arena_init(&arena, 1 << 20);
    moon_response_init(&response, &arena);
    if (moon_cache_unpack(head, &response)) {
        for (size_t i = 0; i < response.fields.count; i++) {
            const struct moon_field *field = &response.fields.items[i];
            fuzz_inside(head, field->name);
            fuzz_inside(head, field->value);
            MOON_ASSERT(moon_field_name_is_valid(field->name));
            MOON_ASSERT(moon_field_value_is_valid(field->value));
            MOON_ASSERT(response.fields.ids[i] == moon_field_id(field->name));
        }
    }
    moon_arena_reset(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moon_slice head = moon_slice((const char *)data, size);
    if (!moon_cache_head_is_sound(head))
        return 0;
    fuzz_inside(head, moon_cache_packed_vary(head));
    (void)moon_cache_is_comparable(head);
    fuzz_unpack(head);
    return 0;
}
