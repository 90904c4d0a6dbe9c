/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/counters_cell.h"

struct counter_moment counter_moment(const struct counter_cell *cell, int64_t now_ms,
                                     int64_t period_ms)
{
    if (now_ms < 0)
        now_ms = 0;
    struct counter_moment at = {.window = now_ms / period_ms, .elapsed_ms = now_ms % period_ms};
    uint64_t next = atomic_load_explicit(&cell->words[(at.window + 1) & 1], memory_order_relaxed);
    if (MOON_UNLIKELY(counter_count(next, at.window + 1) > 0))
        return (struct counter_moment){.window = at.window + 1, .elapsed_ms = 0};
    return at;
}

// Milliseconds until `over` fewer calls of the window before weigh in, when `before` still do.
static int64_t counter_fade_ms(double over, double before, int64_t period_ms)
{
    double share = over / before;
    double wait = share >= 1 ? (double)period_ms : share * (double)period_ms;
    return (int64_t)wait + 1;
}

// When `amount` more would be allowed, nothing else happening.
static int64_t counter_retry_ms(int64_t calls, int64_t period_ms, int64_t here, int64_t before,
                                int64_t elapsed_ms, int64_t amount, bool is_fixed)
{
    int64_t rest_ms = period_ms - elapsed_ms;
    if (is_fixed || amount > calls)
        return rest_ms;
    double weighed = (double)before * (double)rest_ms / (double)period_ms;
    double over = (double)here + weighed + (double)amount - (double)calls;
    if (over <= weighed) { // before this window ends
        int64_t wait = counter_fade_ms(over, (double)before, period_ms);
        return wait < rest_ms ? wait : rest_ms;
    }
    double next_over = (double)here + (double)amount - (double)calls;
    return rest_ms + (next_over <= 0 ? 0 : counter_fade_ms(next_over, (double)here, period_ms));
}

struct moon_limit_decision counter_judge(int64_t calls, int64_t period_ms, int64_t here,
                                         int64_t before, int64_t elapsed_ms, int64_t amount,
                                         bool is_fixed)
{
    const double hair = 1e-6; // what dividing may lose
    int64_t rest_ms = period_ms - elapsed_ms;
    double used = (double)here;
    if (before > 0)
        used += (double)before * (double)rest_ms / (double)period_ms;
    int64_t asked = amount > 0 ? amount : 1;
    struct moon_limit_decision d = {.is_allowed = used + (double)asked <= (double)calls + hair};
    if (d.is_allowed)
        used += (double)amount;
    double left = (double)calls - used + hair;
    d.remaining = left > 0 ? (int64_t)left : 0;
    if (!d.is_allowed)
        d.retry_after_ms =
            counter_retry_ms(calls, period_ms, here, before, elapsed_ms, asked, is_fixed);
    if (here > 0 || (d.is_allowed && amount > 0))
        d.reset_ms = is_fixed ? rest_ms : rest_ms + period_ms;
    else if (before > 0)
        d.reset_ms = rest_ms;
    return d;
}

static struct moon_limit_decision counter_window(struct moon_counters *counters,
                                                 struct moon_counter_key key, int64_t calls,
                                                 int64_t period_ms, int64_t amount,
                                                 enum moon_limit_how how, int64_t now_ms,
                                                 bool is_fixed)
{
    struct counter_use use = {.clock = COUNTER_WALL, .now_ms = now_ms, .now_us = now_ms * 1000};
    for (;;) {
        struct counter_cell *cell = counter_get(counters, key, &use);
        struct counter_moment at = counter_moment(cell, now_ms, period_ms);
        int here = (int)(at.window & 1);
        uint64_t word = atomic_load_explicit(&cell->words[here], memory_order_acquire);
        uint64_t last = atomic_load_explicit(&cell->words[!here], memory_order_acquire);
        if (!counter_is(cell, key))
            continue;
        int64_t count = counter_count(word, at.window);
        struct moon_limit_decision d = counter_judge(
            calls, period_ms, count, is_fixed ? 0 : counter_count(last, at.window - 1),
            at.elapsed_ms, amount, is_fixed);
        if (amount == 0 || (!d.is_allowed && how == MOON_LIMIT_TAKE)) {
            counter_stamp(cell, &use);
            return d;
        }
        if (!atomic_compare_exchange_strong_explicit(&cell->words[here], &word,
                                                     counter_word(word, at.window, count + amount),
                                                     memory_order_acq_rel, memory_order_relaxed))
            continue;
        counter_touch(cell, &use, (at.window + 2) * period_ms);
        d.mark.at = at.window;
        return d;
    }
}

struct counter_cell *counter_take_back(struct moon_counters *counters, struct moon_counter_key key,
                                       int64_t amount, int64_t window)
{
    struct counter_cell *cell = counter_find(counters, key);
    if (cell == NULL)
        return NULL;
    for (;;) {
        _Atomic uint64_t *from = &cell->words[window & 1];
        uint64_t word = atomic_load_explicit(from, memory_order_acquire);
        if (!counter_is(cell, key) || !counter_is_of(word, window))
            return NULL;
        uint64_t less = counter_word(word, window, counter_count(word, window) - amount);
        if (atomic_compare_exchange_strong(from, &word, less))
            return cell;
    }
}

void moon_counters_window_give_back(struct moon_counters *counters, struct moon_counter_key key,
                                    int64_t amount, struct moon_limit_mark mark)
{
    (void)counter_take_back(counters, key, amount, mark.at);
}

struct moon_limit_decision moon_counters_window(struct moon_counters *counters,
                                                struct moon_counter_key key, int64_t calls,
                                                int64_t period_ms, int64_t amount,
                                                enum moon_limit_how how, int64_t now_wall_ms)
{
    return counter_window(counters, key, calls, period_ms, amount, how, now_wall_ms, false);
}

struct moon_limit_decision moon_counters_fixed(struct moon_counters *counters,
                                               struct moon_counter_key key, int64_t calls,
                                               int64_t period_ms, int64_t amount,
                                               enum moon_limit_how how, int64_t now_wall_ms)
{
    return counter_window(counters, key, calls, period_ms, amount, how, now_wall_ms, true);
}

int64_t moon_counters_add(struct moon_counters *counters, struct moon_counter_key key,
                          int64_t amount, int64_t window_ms, int64_t now_wall_ms)
{
    struct counter_use use = {
        .clock = COUNTER_WALL, .now_ms = now_wall_ms, .now_us = now_wall_ms * 1000};
    for (;;) {
        struct counter_cell *cell = counter_get(counters, key, &use);
        struct counter_moment at = counter_moment(cell, now_wall_ms, window_ms);
        _Atomic uint64_t *into = &cell->words[at.window & 1];
        uint64_t word = atomic_load_explicit(into, memory_order_acquire);
        if (!counter_is(cell, key))
            continue;
        int64_t total;
        if (__builtin_add_overflow(counter_count(word, at.window), amount, &total))
            total = amount < 0 ? 0 : COUNTER_COUNT_MAX;
        uint64_t next = counter_word(word, at.window, total);
        if (!atomic_compare_exchange_strong_explicit(into, &word, next, memory_order_acq_rel,
                                                     memory_order_relaxed))
            continue;
        counter_touch(cell, &use, (at.window + 1) * window_ms);
        return counter_count(next, at.window);
    }
}
