/* SPDX-License-Identifier: Apache-2.0 */

/// Dictionaries of structured fields: any bytes are read to the end or refused; what is taken lies in
/// the field, and reads the same when it stands alone.

#include "http/cache_control.h"
#include "http/structured.h"

static void fuzz_member(struct moon_slice field, const struct moon_structured_member *member)
{
    MOON_ASSERT(member->key.len > 0 && member->key.data >= field.data &&
                member->key.data + member->key.len <= field.data + field.len);
    if (member->value.data != NULL)
        MOON_ASSERT(member->value.data > member->key.data &&
                    member->value.data + member->value.len <= field.data + field.len);
    MOON_ASSERT(member->integer < INT64_C(1000000000000000) &&
                member->integer > INT64_C(-1000000000000000));
}

static void fuzz_targeted(struct moon_slice name, struct moon_slice value)
{
    struct moon_arena arena;
    struct moon_fields fields;
    struct moon_cache_control cc;
    const struct moon_cache_targets targets = {.names = {name}, .count = 1};
    moon_arena_init(&arena, 65536);
    moon_fields_init(&fields, &arena);
    if (moon_fields_add(&fields, name, value) == MOON_OK) {
        moon_cache_control_read_response(&cc, &fields, &targets);
        MOON_ASSERT(cc.max_age_s >= MOON_CC_ABSENT && cc.max_age_s <= INT64_C(2147483648));
        MOON_ASSERT(cc.stale_while_revalidate_s >= MOON_CC_ABSENT);
    }
    moon_arena_reset(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moon_slice field = moon_slice((const char *)data, size), rest = field;
    struct moon_structured_member member, again;
    size_t before = rest.len + 1;
    enum moon_rc rc;
    while ((rc = moon_structured_next(&rest, &member)) == MOON_OK) {
        MOON_ASSERT(rest.len < before);
        before = rest.len;
        fuzz_member(field, &member);
        const char *end = member.value.data != NULL ? member.value.data + member.value.len
                                                    : member.key.data + member.key.len;
        if (member.type == MOON_STRUCTURED_INTEGER || member.type == MOON_STRUCTURED_TOKEN) {
            struct moon_slice alone = moon_slice(member.key.data, (size_t)(end - member.key.data));
            MOON_ASSERT(moon_structured_next(&alone, &again) == MOON_OK);
            MOON_ASSERT(again.type == member.type && again.integer == member.integer);
        }
    }
    MOON_ASSERT(rc == MOON_EOF || rc == MOON_ERR_BAD_FIELD);
    fuzz_targeted(MOON_S("cdn-cache-control"), field);
    fuzz_targeted(MOON_S("surrogate-control"), field);
    return 0;
}
