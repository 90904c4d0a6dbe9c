/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/counters.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "shared/counters_cell.h"

static size_t counter_dirty_words(size_t cells)
{
    return (cells + COUNTER_RUN + 63) / 64;
}

struct moon_counters *moon_counters_new(struct moon_region *region, size_t cells)
{
    if (cells == 0 || cells > UINT32_MAX / 2) {
        moon_log_error("counters: %zu cells cannot be had", cells);
        return NULL;
    }
    size_t all = cells + COUNTER_RUN;
    struct moon_counters *counters = moon_region_carve(region, "counters", sizeof(*counters));
    if (counters == NULL)
        return NULL;
    counters->cells = cells;
    counters->dirty =
        moon_region_carve(region, "counters to flush", counter_dirty_words(cells) * 8);
    counters->table = moon_region_carve(region, "counter cells", all * sizeof(struct counter_cell));
    counters->wings =
        moon_region_carve(region, "counters shared by nodes", all * sizeof(struct counter_wing));
    if (counters->dirty == NULL || counters->table == NULL || counters->wings == NULL)
        return NULL;
    for (int i = 0; i < COUNTER_LOCKS; i++)
        moon_lock_init(&counters->locks[i]);
    return counters;
}

struct moon_counter_key moon_counter_key_seeded(uint64_t limit_hash, struct moon_slice key)
{
    uint64_t hash[2];
    moon_hash128(limit_hash, key, hash);
    return (struct moon_counter_key){.hi = hash[1], .lo = hash[0] | 1}; // odd: lo == 0 is free
}

struct moon_counter_key moon_counter_key(struct moon_slice limit, struct moon_slice key)
{
    return moon_counter_key_seeded(moon_hash(limit), key);
}

uint64_t moon_counters_evictions(const struct moon_counters *counters)
{
    return atomic_load_explicit(&counters->evictions, memory_order_relaxed);
}

uint64_t moon_counters_lost(const struct moon_counters *counters)
{
    return atomic_load_explicit(&counters->lost, memory_order_relaxed);
}

// ---- making cells ------------------------------------------------------------------------------

// Expired cells go before unused ones, so that runs stay short.
static const int64_t COUNTER_EXPIRED = INT64_MIN, COUNTER_UNUSED = INT64_MIN + 1;

struct counter_bid {
    struct counter_cell *cell;
    uint64_t lo;  // as seen; the claim fails when it has changed
    int64_t cost; // the lowest wins: COUNTER_EXPIRED, COUNTER_UNUSED, else minus the idle time
};

static int64_t counter_cost(const struct counter_cell *cell, uint64_t lo, uint64_t mark,
                            const int64_t now_us[2])
{
    if (lo == 0 || lo == mark) // a mark under the lock that we hold is a dead worker's
        return COUNTER_UNUSED;
    int64_t used = atomic_load_explicit(&cell->used, memory_order_relaxed);
    int64_t now = now_us[used & 1];
    if (atomic_load_explicit(&cell->expires_ms, memory_order_relaxed) <= now / 1000)
        return COUNTER_EXPIRED;
    return (used >> 1) - now; // the longest idle costs least
}

static struct counter_bid counter_best(struct counter_cell *run, uint64_t mark,
                                       const int64_t now_us[2])
{
    struct counter_bid best = {.cost = INT64_MAX};
    for (int i = 0; i < COUNTER_RUN; i++) {
        uint64_t lo = atomic_load_explicit(&run[i].lo, memory_order_acquire);
        if (lo != 0 && lo % 2 == 0 && lo != mark)
            continue; // being made by somebody else
        int64_t cost = counter_cost(&run[i], lo, mark, now_us);
        if (cost < best.cost)
            best = (struct counter_bid){.cell = &run[i], .lo = lo, .cost = cost};
        if (lo == 0)
            break; // a run ends at the first cell that was never used
    }
    return best;
}

static void counter_wing_reset(struct counter_wing *wing, uint64_t fresh,
                               const struct moon_shared_limit *shared)
{
    for (int i = 0; i < 2; i++) {
        atomic_store_explicit(&wing->sent[i], fresh, memory_order_relaxed);
        atomic_store_explicit(&wing->acked[i], fresh, memory_order_relaxed);
    }
    atomic_store_explicit(&wing->asked, fresh, memory_order_relaxed);
    wing->period_ms = shared->period_ms;
    wing->is_fixed = shared->is_fixed;
    size_t len = moon_min_size(shared->name.len, MOON_COUNTER_NAME_BYTES);
    memcpy(wing->name, shared->name.data, len);
    wing->name_len = (uint8_t)len;
}

// Fills a claimed cell and publishes its key.
static void counter_open(struct moon_counters *counters, struct counter_cell *cell,
                         struct moon_counter_key key, const struct counter_use *use)
{
    uint64_t old = atomic_load_explicit(&cell->words[0], memory_order_relaxed);
    uint64_t fresh = (old + (UINT64_C(1) << 60)) & COUNTER_GENERATION_MASK;
    for (int i = 0; i < 2; i++) {
        atomic_store_explicit(&cell->words[i], fresh, memory_order_release);
        atomic_store_explicit(&cell->others[i], fresh, memory_order_release);
    }
    if (use->shared != NULL)
        counter_wing_reset(&counters->wings[cell - counters->table], fresh, use->shared);
    counter_touch(cell, use, use->now_ms + 1000); // the caller knows better, soon
    atomic_store_explicit(&cell->hi, key.hi, memory_order_relaxed);
    atomic_store_explicit(&cell->lo, key.lo, memory_order_release);
}

struct counter_cell *counter_make(struct moon_counters *counters, struct moon_counter_key key,
                                  const struct counter_use *use)
{
    size_t home = counter_home(counters, key);
    size_t lock = home % COUNTER_LOCKS;
    uint64_t mark = 2 * (lock + 1);
    int64_t apart_us = moon_clock_wall_ms() * 1000 - moon_clock_us();
    int64_t now_us[2] = {use->now_us, use->now_us};
    if (use->clock == COUNTER_MONOTONIC)
        now_us[COUNTER_WALL] += apart_us;
    else
        now_us[COUNTER_MONOTONIC] -= apart_us;

    if (!moon_lock_take(&counters->locks[lock]))
        moon_log_warn("counters: a worker died while it made a cell; the cell is used again");
    struct counter_cell *made = counter_find(counters, key);
    if (made != NULL && atomic_load(&made->expires_ms) + 3600000 <= use->now_ms) {
        atomic_store(&made->lo, mark);
        counter_open(counters, made, key, use);
    }
    while (made == NULL) {
        // Another lock's holder may win the cell we chose; every turn one of us gets on.
        struct counter_bid best = counter_best(&counters->table[home], mark, now_us);
        if (best.cell == NULL)
            continue;
        if (!atomic_compare_exchange_strong(&best.cell->lo, &best.lo, mark))
            continue;
        if (best.cost > COUNTER_UNUSED)
            atomic_fetch_add_explicit(&counters->evictions, 1, memory_order_relaxed);
        counter_open(counters, best.cell, key, use);
        made = best.cell;
    }
    moon_lock_give(&counters->locks[lock]);
    return made;
}

// ---- GCRA --------------------------------------------------------------------------------------

// The word holds the theoretical arrival time in 1/64 microseconds: rates up to millions a second
// stay exact to a percent, and 60 bits last for centuries.
enum { COUNTER_TICKS_PER_US = 64 };

static int64_t counter_ticks_to_ms(int64_t ticks)
{
    const int64_t per_ms = 1000 * COUNTER_TICKS_PER_US;
    return ticks <= 0 ? 0 : (ticks + per_ms - 1) / per_ms;
}

static double counter_per_call(int64_t calls, int64_t period_ms)
{
    double ticks = (double)period_ms * 1000 * COUNTER_TICKS_PER_US / (double)calls;
    return ticks < 1 ? 1 : ticks;
}

// Judges one amount against the arrival time; `*next` is the arrival time if it is counted.
static struct moon_limit_decision counter_gcra(int64_t tat, int64_t now, double per_call,
                                               int64_t burst, int64_t amount, int64_t *next)
{
    const int64_t far = INT64_C(1) << 58; // sums of it stay below the recycling number
    int64_t start = tat > now ? tat : now;
    double exact_cost = per_call * (double)amount;
    int64_t cost = exact_cost < (double)far ? (int64_t)exact_cost : far;
    double exact_depth = per_call * (double)burst + 0.999;
    int64_t depth = exact_depth < (double)far ? (int64_t)exact_depth : far;
    int64_t asked = amount > 0 ? cost : (int64_t)per_call;
    struct moon_limit_decision d = {.is_allowed = start - now <= depth - asked};
    *next = start + cost < 2 * far ? start + cost : 2 * far;
    int64_t level = (d.is_allowed ? *next : start) - now;
    d.remaining = level >= depth ? 0 : (int64_t)((double)(depth - level) / per_call);
    if (d.remaining > burst)
        d.remaining = burst;
    d.retry_after_ms = d.is_allowed ? 0 : counter_ticks_to_ms(start + asked - now - depth);
    d.reset_ms = counter_ticks_to_ms(level);
    return d;
}

struct moon_limit_decision moon_counters_gcra(struct moon_counters *counters,
                                              struct moon_counter_key key, int64_t calls,
                                              int64_t period_ms, int64_t burst, int64_t amount,
                                              enum moon_limit_how how, int64_t now_us)
{
    struct counter_use use = {
        .clock = COUNTER_MONOTONIC, .now_ms = now_us / 1000, .now_us = now_us};
    double per_call = counter_per_call(calls, period_ms);
    int64_t now = now_us * COUNTER_TICKS_PER_US;
    for (;;) {
        struct counter_cell *cell = counter_get(counters, key, &use);
        uint64_t given_back = atomic_load_explicit(&cell->others[0], memory_order_acquire);
        uint64_t word = atomic_load_explicit(&cell->words[0], memory_order_acquire);
        if (!counter_is(cell, key))
            continue;
        int64_t next;
        struct moon_limit_decision d = counter_gcra((int64_t)(word & ~COUNTER_GENERATION_MASK), now,
                                                    per_call, burst, amount, &next);
        if (amount == 0 || (!d.is_allowed && how == MOON_LIMIT_TAKE)) {
            counter_stamp(cell, &use);
            return d;
        }
        if (!atomic_compare_exchange_strong_explicit(
                &cell->words[0], &word, (word & COUNTER_GENERATION_MASK) | (uint64_t)next,
                memory_order_acq_rel, memory_order_relaxed))
            continue;
        counter_touch(cell, &use, next / (1000 * COUNTER_TICKS_PER_US) + 1);
        d.mark = (struct moon_limit_mark){(int64_t)((uint64_t)next + given_back), now_us};
        return d;
    }
}

// What a call has left in the bucket is at least its cost less what leaks in the time since it was
// counted, and at least what lies below its mark, less what anybody gave back since. Giving back happens
// under a lock, and changes the arrival time before the sum: a call that is counted in between finds less
// below its mark, never more.
void moon_counters_gcra_give_back(struct moon_counters *counters, struct moon_counter_key key,
                                  int64_t calls, int64_t period_ms, int64_t amount,
                                  struct moon_limit_mark mark, int64_t now_us)
{
    struct counter_cell *cell = counter_find(counters, key);
    if (cell == NULL)
        return;
    int64_t now = now_us * COUNTER_TICKS_PER_US;
    int64_t cost = (int64_t)(counter_per_call(calls, period_ms) * (double)amount);
    struct moon_lock *lock = &counters->locks[counter_home(counters, key) % COUNTER_LOCKS];
    if (!moon_lock_take(lock))
        moon_log_warn("counters: a worker died while it gave a call back");
    for (;;) {
        uint64_t word = atomic_load_explicit(&cell->words[0], memory_order_acquire);
        if (!counter_is(cell, key))
            break;
        int64_t below = (int64_t)((uint64_t)mark.at - atomic_load(&cell->others[0])) - now;
        int64_t unleaked = cost - (now_us - mark.taken_us) * COUNTER_TICKS_PER_US;
        int64_t level = (int64_t)(word & ~COUNTER_GENERATION_MASK) - now;
        int64_t back = below > unleaked ? below : unleaked;
        back = back < cost ? back : cost;
        back = back < level ? back : level;
        if (back <= 0)
            break;
        if (atomic_compare_exchange_strong(&cell->words[0], &word, word - (uint64_t)back)) {
            atomic_fetch_add(&cell->others[0], (uint64_t)back);
            break;
        }
    }
    moon_lock_give(lock);
}

void moon_counters_block(struct moon_counters *counters, struct moon_counter_key key,
                         int64_t until_us, int64_t trusted_us, int64_t now_us)
{
    struct counter_use use = {
        .clock = COUNTER_MONOTONIC, .now_ms = now_us / 1000, .now_us = now_us};
    if (until_us == 0 && counter_find(counters, key) == NULL)
        return;
    for (;;) {
        struct counter_cell *cell = counter_get(counters, key, &use);
        uint64_t word = atomic_load_explicit(&cell->words[0], memory_order_acquire);
        if (!counter_is(cell, key))
            continue;
        if (!atomic_compare_exchange_strong(&cell->words[0], &word,
                                            (word & COUNTER_GENERATION_MASK) | (uint64_t)until_us))
            continue;
        atomic_store(&cell->words[1], (word & COUNTER_GENERATION_MASK) | (uint64_t)trusted_us);
        counter_touch(cell, &use, until_us / 1000 + 1);
        return;
    }
}

int64_t moon_counters_blocked_ms(struct moon_counters *counters, struct moon_counter_key key,
                                 int64_t now_us)
{
    struct counter_cell *cell = counter_find(counters, key);
    if (cell == NULL)
        return 0;
    uint64_t word = atomic_load_explicit(&cell->words[0], memory_order_acquire);
    uint64_t trusted = atomic_load_explicit(&cell->words[1], memory_order_acquire);
    int64_t until_us = (int64_t)(word & ~COUNTER_GENERATION_MASK);
    int64_t trusted_us = (int64_t)(trusted & ~COUNTER_GENERATION_MASK);
    if (!counter_is(cell, key) || until_us <= now_us || trusted_us <= now_us)
        return 0;
    return (until_us - now_us + 999) / 1000;
}
