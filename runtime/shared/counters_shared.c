/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/counters_cell.h"

// A word changes by itself alone, so the order in which flusher and workers come does not matter:
//   words[]  what this node has counted; workers add
//   sent[]   how much of it was handed out for the store
//   acked[]  how much of it the store is known to have
//   others[] the store's total less acked[]: what the other nodes have counted

static struct counter_wing *shared_wing(const struct moon_counters *counters,
                                        const struct counter_cell *cell)
{
    return &counters->wings[cell - counters->table];
}

static void shared_mark(struct moon_counters *counters, size_t cell)
{
    uint64_t bit = UINT64_C(1) << (cell % 64);
    _Atomic uint64_t *word = &counters->dirty[cell / 64];
    if ((atomic_load_explicit(word, memory_order_relaxed) & bit) == 0)
        (void)atomic_fetch_or_explicit(word, bit, memory_order_release);
}

// One look at a cell.
struct shared_view {
    struct counter_moment at;
    uint64_t word;        // of this window, as read
    int64_t here, others; // this window
    int64_t before, before_others;
    int64_t acked; // of `here`
    bool is_known; // the store has spoken in this window
};

static struct shared_view shared_look(const struct counter_cell *cell,
                                      const struct counter_wing *wing,
                                      const struct moon_shared_limit *limit, int64_t now_ms)
{
    struct shared_view v = {.at = counter_moment(cell, now_ms, limit->period_ms)};
    int here = (int)(v.at.window & 1);
    v.word = atomic_load_explicit(&cell->words[here], memory_order_acquire);
    uint64_t last = atomic_load_explicit(&cell->words[!here], memory_order_acquire);
    uint64_t others = atomic_load_explicit(&cell->others[here], memory_order_acquire);
    uint64_t last_others = atomic_load_explicit(&cell->others[!here], memory_order_acquire);
    uint64_t acked = atomic_load_explicit(&wing->acked[here], memory_order_acquire);
    v.here = counter_count(v.word, v.at.window);
    v.others = counter_count(others, v.at.window);
    v.acked = counter_count(acked, v.at.window);
    v.is_known = counter_is_of(others, v.at.window);
    if (!limit->is_fixed) {
        v.before = counter_count(last, v.at.window - 1);
        v.before_others = counter_count(last_others, v.at.window - 1);
    }
    return v;
}

// What this node may count on top of what the store has acknowledged: its part of the rest, by its
// part of the calls so far, a fifth of it spread evenly. The parts of all nodes add up to the rest.
static int64_t shared_part(const struct moon_shared_limit *limit, const struct shared_view *v)
{
    double before = (double)(v->before + v->before_others) *
                    (double)(limit->period_ms - v->at.elapsed_ms) / (double)limit->period_ms;
    double rest = (double)limit->calls - (double)(v->acked + v->others) - before + 1e-6;
    if (rest < 1)
        return 0;
    double own = (double)(v->acked + v->before);
    double all = own + (double)(v->others + v->before_others);
    double nodes = (double)limit->nodes;
    double part = rest * (all > 0 ? (4 * nodes * own + all) / (5 * nodes * all) : 1 / nodes);
    return part < 1 ? 1 : (int64_t)part;
}

// No store: what it told in this window still holds; without that, this node's part of the limit.
static struct moon_limit_decision shared_judge_alone(const struct moon_shared_limit *limit,
                                                     const struct shared_view *v, int64_t amount)
{
    int64_t part = limit->calls / limit->nodes;
    return counter_judge(part > 0 ? part : 1, limit->period_ms, v->here, v->before,
                         v->at.elapsed_ms, amount, limit->is_fixed);
}

static struct moon_shared_decision shared_judge(const struct moon_shared_limit *limit,
                                                const struct shared_view *v, int64_t amount)
{
    struct moon_shared_decision s = {0};
    if (limit->is_store_down && !v->is_known && limit->nodes > 1) {
        s.limit = shared_judge_alone(limit, v, amount);
        return s;
    }
    s.limit =
        counter_judge(limit->calls, limit->period_ms, v->here + v->others,
                      v->before + v->before_others, v->at.elapsed_ms, amount, limit->is_fixed);
    if (limit->nodes <= 1 || !s.limit.is_allowed)
        return s;
    int64_t asked = amount > 0 ? amount : 1;
    int64_t part = shared_part(limit, v);
    int64_t taken = v->here - v->acked + asked;
    bool is_near = s.limit.remaining * 5 < limit->calls; // past 80 %
    if (taken > part && (is_near || limit->is_store_down)) {
        s.limit.is_allowed = false; // until the store tells what the others took
        s.limit.remaining = 0;
        s.limit.retry_after_ms = 1;
    }
    s.is_urgent = is_near || taken * 2 > part;
    return s;
}

struct moon_shared_decision moon_counters_shared(struct moon_counters *counters,
                                                 struct moon_counter_key key,
                                                 const struct moon_shared_limit *limit,
                                                 int64_t amount, enum moon_limit_how how,
                                                 int64_t now_wall_ms)
{
    struct counter_use use = {.clock = COUNTER_WALL,
                              .now_ms = now_wall_ms,
                              .now_us = now_wall_ms * 1000,
                              .shared = limit};
    for (;;) {
        struct counter_cell *cell = counter_get(counters, key, &use);
        struct shared_view v = shared_look(cell, shared_wing(counters, cell), limit, now_wall_ms);
        if (!counter_is(cell, key))
            continue;
        struct moon_shared_decision s = shared_judge(limit, &v, amount);
        if (amount == 0 || (!s.limit.is_allowed && how == MOON_LIMIT_TAKE)) {
            counter_stamp(cell, &use);
            return s;
        }
        if (!atomic_compare_exchange_strong_explicit(
                &cell->words[v.at.window & 1], &v.word,
                counter_word(v.word, v.at.window, v.here + amount), memory_order_acq_rel,
                memory_order_relaxed))
            continue;
        counter_touch(cell, &use, (v.at.window + 2) * limit->period_ms);
        shared_mark(counters, (size_t)(cell - counters->table));
        s.limit.mark.at = v.at.window;
        return s;
    }
}

void moon_counters_shared_give_back(struct moon_counters *counters, struct moon_counter_key key,
                                    int64_t amount, struct moon_limit_mark mark)
{
    const struct counter_cell *cell = counter_take_back(counters, key, amount, mark.at);
    if (cell != NULL)
        shared_mark(counters, (size_t)(cell - counters->table));
}

// ---- the flusher's side ------------------------------------------------------------------------

// Takes what one window has to tell. @return false when there is nothing
static bool shared_take(struct counter_cell *cell, struct counter_wing *wing, int64_t window,
                        struct moon_counter_delta *delta)
{
    int slot = (int)(window & 1);
    uint64_t word = atomic_load_explicit(&cell->words[slot], memory_order_acquire);
    uint64_t sent = atomic_load_explicit(&wing->sent[slot], memory_order_acquire);
    if (!counter_is_of(word, window))
        return false;
    int64_t count = counter_count(word, window);
    int64_t amount = count - counter_count(sent, window);
    if (amount == 0 || !counter_is(cell, delta->key))
        return false;
    if (!atomic_compare_exchange_strong(&wing->sent[slot], &sent,
                                        counter_word(sent, window, count)))
        return false; // another flusher took it
    delta->window = window;
    delta->amount = amount;
    return true;
}

// The first two flushes of a window ask for the window before as well: other nodes told late.
static bool shared_asks(struct counter_wing *wing, int64_t window)
{
    uint64_t asked = atomic_load(&wing->asked);
    int64_t times = counter_count(asked, window);
    return !wing->is_fixed && times < 2 &&
           atomic_compare_exchange_strong(&wing->asked, &asked,
                                          counter_word(asked, window, times + 1));
}

// Reads who the cell belongs to. @return false when it is nobody's, or changed hands meanwhile
static bool shared_identify(const struct counter_cell *cell, const struct counter_wing *wing,
                            struct moon_counter_delta *delta)
{
    delta->key.lo = atomic_load_explicit(&cell->lo, memory_order_acquire);
    delta->key.hi = atomic_load_explicit(&cell->hi, memory_order_relaxed);
    delta->period_ms = wing->period_ms;
    delta->name_len = moon_min_size(wing->name_len, MOON_COUNTER_NAME_BYTES);
    memcpy(delta->name, wing->name, delta->name_len);
    delta->name[delta->name_len] = '\0';
    atomic_thread_fence(memory_order_acquire);
    return delta->key.lo % 2 == 1 && delta->period_ms > 0 && delta->name_len > 0 &&
           counter_is(cell, delta->key);
}

bool moon_counters_shared_next(struct moon_counters *counters, size_t *at, int64_t now_wall_ms,
                               struct moon_counter_delta *delta)
{
    size_t all = counters->cells + COUNTER_RUN;
    for (size_t w = *at / 64; w * 64 < all; w++) {
        uint64_t left = atomic_load_explicit(&counters->dirty[w], memory_order_acquire);
        if (*at > w * 64)
            left &= ~UINT64_C(0) << (*at % 64);
        for (; left != 0; left &= left - 1) {
            size_t index = w * 64 + (size_t)__builtin_ctzll(left);
            uint64_t bit = left & (~left + 1);
            struct counter_cell *cell = &counters->table[index];
            struct counter_wing *wing = &counters->wings[index];
            // Cleared before the cell is read: what is counted from now on marks it again.
            (void)atomic_fetch_and(&counters->dirty[w], ~bit);
            if (!shared_identify(cell, wing, delta))
                continue;
            delta->cell = index;
            int64_t window = now_wall_ms / delta->period_ms;
            *at = index;
            for (int64_t of = window - 1; of <= window + 1; of++) {
                if (!shared_take(cell, wing, of, delta))
                    continue;
                shared_mark(counters, index); // there may be more, of a later window
                delta->wants_previous = shared_asks(wing, of);
                return true;
            }
        }
    }
    *at = all;
    return false;
}

// Changes one word of a cell that must still be the delta's. `window` is the word's new window.
static bool shared_swap(const struct counter_cell *cell, struct moon_counter_key key,
                        _Atomic uint64_t *word, int64_t window, int64_t (*count)(int64_t, int64_t),
                        int64_t amount, int64_t *result)
{
    for (;;) {
        uint64_t old = atomic_load_explicit(word, memory_order_acquire);
        if (!counter_is(cell, key))
            return false;
        *result = count(counter_count(old, window), amount);
        if (atomic_compare_exchange_strong(word, &old, counter_word(old, window, *result)))
            return true;
    }
}

static int64_t shared_sum(int64_t old, int64_t amount)
{
    return old + amount;
}

static int64_t shared_set(int64_t old, int64_t amount)
{
    (void)old;
    return amount;
}

void moon_counters_shared_told(struct moon_counters *counters,
                               const struct moon_counter_delta *delta, int64_t total)
{
    struct counter_cell *cell = &counters->table[delta->cell];
    struct counter_wing *wing = &counters->wings[delta->cell];
    int slot = (int)(delta->window & 1);
    // An answer for a window whose slot serves a later one by now is of no use.
    uint64_t word = atomic_load_explicit(&cell->words[slot], memory_order_acquire);
    if (!counter_is_of(word, delta->window))
        return;
    int64_t acked, others;
    if (shared_swap(cell, delta->key, &wing->acked[slot], delta->window, shared_sum, delta->amount,
                    &acked))
        (void)shared_swap(cell, delta->key, &cell->others[slot], delta->window, shared_set,
                          total - acked, &others);
}

void moon_counters_shared_previous(struct moon_counters *counters,
                                   const struct moon_counter_delta *delta, int64_t total)
{
    struct counter_cell *cell = &counters->table[delta->cell];
    struct counter_wing *wing = &counters->wings[delta->cell];
    int64_t window = delta->window - 1;
    int slot = (int)(window & 1);
    uint64_t word = atomic_load_explicit(&cell->words[slot], memory_order_acquire);
    if (counter_count(word, window + 2) > 0)
        return;
    int64_t acked =
        counter_count(atomic_load_explicit(&wing->acked[slot], memory_order_acquire), window);
    int64_t others;
    (void)shared_swap(cell, delta->key, &cell->others[slot], window, shared_set, total - acked,
                      &others);
}

void moon_counters_shared_unsent(struct moon_counters *counters,
                                 const struct moon_counter_delta *delta)
{
    struct counter_cell *cell = &counters->table[delta->cell];
    _Atomic uint64_t *sent = &counters->wings[delta->cell].sent[delta->window & 1];
    uint64_t old = atomic_load_explicit(sent, memory_order_acquire);
    if (!counter_is_of(old, delta->window))
        return;
    int64_t count;
    if (shared_swap(cell, delta->key, sent, delta->window, shared_sum, -delta->amount, &count))
        shared_mark(counters, delta->cell);
}

void moon_counters_shared_lost(struct moon_counters *counters,
                               const struct moon_counter_delta *delta)
{
    int64_t amount = delta->amount < 0 ? -delta->amount : delta->amount;
    (void)atomic_fetch_add_explicit(&counters->lost, (uint64_t)amount, memory_order_relaxed);
}
