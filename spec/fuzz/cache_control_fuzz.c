/* SPDX-License-Identifier: Apache-2.0 */

/// Cache-Control: any bytes give numbers in their ranges; what a field says twice it says once; and
/// the decisions that are made of it hold together.

#include "http/freshness.h"

static void fuzz_check(const struct moon_cache_control *cc)
{
    const int64_t numbers[] = {cc->max_age_s, cc->s_maxage_s, cc->stale_while_revalidate_s,
                               cc->stale_if_error_s, cc->min_fresh_s};
    for (size_t i = 0; i < MOON_COUNT(numbers); i++)
        MOON_ASSERT(numbers[i] >= MOON_CC_ABSENT && numbers[i] <= INT64_C(2147483648));
    MOON_ASSERT(cc->max_stale_s >= MOON_CC_ABSENT);
}

static void fuzz_reuse(const struct moon_cache_control *cc, struct moon_slice value)
{
    struct moon_arena arena;
    struct moon_response response;
    struct moon_freshness fresh;
    const struct moon_freshness_conf conf = {.ttl_ms = -1, .is_heuristic = true};
    moon_arena_init(&arena, 65536);
    moon_response_init(&response, &arena);
    response.status = 200;
    if (moon_fields_add_id(&response.fields, MOON_FIELD_CACHE_CONTROL, value) == MOON_OK) {
        int64_t now = INT64_C(1700000000000);
        moon_freshness_read(&fresh, &response, cc, &conf, now, now);
        MOON_ASSERT(fresh.lifetime_ms >= 0 && fresh.age_ms >= 0);
        enum moon_reuse reuse = moon_freshness_reuse(&fresh, cc, now + 1000);
        if (reuse == MOON_REUSE_FRESH)
            MOON_ASSERT(moon_freshness_left_ms(&fresh, now + 1000) > 0);
        if ((fresh.flags & MOON_FRESH_NO_CACHE) != 0)
            MOON_ASSERT(reuse == MOON_REUSE_VALIDATE);
        (void)moon_cache_control_names(&response.fields, MOON_S("x"));
    }
    moon_arena_reset(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moon_slice value = moon_slice((const char *)data, size);
    struct moon_slice rest = value, name, argument;
    struct moon_cache_control once, twice;
    bool is_quoted;
    size_t before = rest.len;
    while (moon_cache_control_next(&rest, &name, &argument, &is_quoted)) {
        MOON_ASSERT(rest.len < before);
        before = rest.len;
    }
    moon_cache_control_init(&once);
    moon_cache_control_add(&once, value);
    twice = once;
    moon_cache_control_add(&twice, value);
    MOON_ASSERT(once.flags == twice.flags && once.max_age_s == twice.max_age_s &&
                once.s_maxage_s == twice.s_maxage_s && once.max_stale_s == twice.max_stale_s);
    fuzz_check(&once);
    fuzz_reuse(&once, value);
    return 0;
}
