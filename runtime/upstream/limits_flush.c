/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "upstream/limits_internal.h"

#include <inttypes.h>
#include <unistd.h>

enum {
    FLUSH_DELTAS = 1024,     // of one turn; what is left follows in the next
    FLUSH_DEADLINE_MS = 100, // nobody waits for these
    FLUSH_LEASE_MS = 500,
    FLUSH_WATCH_MS = 200, // how often the others look at the lease
    FLUSH_BEAT_MS = 1000,
    FLUSH_SKEW_MS = 20, // smaller differences are left alone
    FLUSH_SKEW_TELL_MS = 1000,
};

// A node says that it lives, learns how many do, and what time the store has.
static struct moon_redis_script flush_beat_script = {
    .body = "local t = redis.call('TIME')\n"
            "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
            "redis.call('ZADD', KEYS[1], now, ARGV[1])\n"
            "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])\n"
            "redis.call('PEXPIRE', KEYS[1], ARGV[2] * 10)\n"
            "return {redis.call('ZCARD', KEYS[1]), now}\n",
};

/// What is asked about one delta.
enum item_part { ITEM_COUNT, ITEM_KEEP, ITEM_PREVIOUS, ITEM_PARTS };

/// One delta under way.
struct limits_item {
    struct moon_limits *limits;
    struct limits_item *prev, *next;
    struct moon_counter_delta delta;
    struct moon_redis_command *commands[ITEM_PARTS]; // NULL: answered, or not asked
};

// ---- deltas ------------------------------------------------------------------------------------

static void item_free(struct limits_item *item)
{
    if (item->prev != NULL)
        item->prev->next = item->next;
    else
        item->limits->items = item->next;
    if (item->next != NULL)
        item->next->prev = item->prev;
    free(item);
}

static void item_answered(struct limits_item *item, enum item_part part)
{
    struct moon_limits *limits = item->limits;
    item->commands[part] = NULL;
    bool is_over = true;
    for (int i = 0; i < ITEM_PARTS; i++)
        is_over = is_over && item->commands[i] == NULL;
    if (is_over)
        item_free(item);
    limits->in_flight--;
    if (limits->in_flight == 0 && limits->is_flush_due)
        moon_task_post(limits->loop, &limits->flush);
}

static void item_counted(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    struct limits_item *item = owner;
    struct moon_counters *counters = item->limits->counters;
    int64_t total;
    if (rc == MOON_OK && moon_redis_integer(reply, &total))
        moon_counters_shared_told(counters, &item->delta, total);
    else if (rc == MOON_ERR_STORE)
        moon_counters_shared_unsent(counters, &item->delta);
    else
        moon_counters_shared_lost(counters, &item->delta);
    item_answered(item, ITEM_COUNT);
}

static void item_kept(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    (void)rc;
    (void)reply;
    item_answered(owner, ITEM_KEEP);
}

static void item_previous(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    struct limits_item *item = owner;
    int64_t total = 0;
    if (rc == MOON_OK && (reply->type == MOON_REDIS_NIL || moon_redis_integer(reply, &total)))
        moon_counters_shared_previous(item->limits->counters, &item->delta, total);
    item_answered(item, ITEM_PREVIOUS);
}

static bool item_send(struct limits_item *item, enum item_part part, int argc,
                      const char *const *argv, const size_t *lens)
{
    static moon_redis_fn *const callbacks[ITEM_PARTS] = {item_counted, item_kept, item_previous};
    struct moon_limits *limits = item->limits;
    if (moon_redis_command(limits->redis, argc, argv, lens, 1, FLUSH_DEADLINE_MS, callbacks[part],
                           item, &item->commands[part]) != MOON_AGAIN)
        return false;
    limits->in_flight++;
    return true;
}

// "prefix{id:key}:period:window"; a key may hold any byte.
static size_t item_key(const struct limits_item *item, int64_t window,
                       char into[2 * LIMITS_NAME_BYTES])
{
    const struct moon_limits *limits = item->limits;
    size_t at = limits->prefix_len;
    memcpy(into, limits->prefix, at);
    into[at++] = '{';
    memcpy(into + at, item->delta.name, item->delta.name_len);
    at += item->delta.name_len;
    int n = snprintf(into + at, LIMITS_NAME_BYTES, "}:%" PRId64 ":%" PRId64, item->delta.period_ms,
                     window);
    return at + (size_t)n;
}

// @return false when the store takes nothing now
static bool flush_item(struct moon_limits *limits, const struct moon_counter_delta *delta)
{
    char key[2 * LIMITS_NAME_BYTES], number[24], ttl[24];
    struct limits_item *item = malloc(sizeof(*item));
    if (item == NULL)
        return false;
    *item = (struct limits_item){.limits = limits, .next = limits->items, .delta = *delta};
    if (limits->items != NULL)
        limits->items->prev = item;
    limits->items = item;

    const char *add[] = {"INCRBY", key, number};
    const char *keep[] = {"PEXPIRE", key, ttl};
    const char *get[] = {"GET", key};
    size_t lens[3] = {6, item_key(item, delta->window, key)};
    lens[2] = (size_t)snprintf(number, sizeof(number), "%" PRId64, delta->amount);
    bool ok = item_send(item, ITEM_COUNT, 3, add, lens);
    if (ok) {
        lens[0] = 7;
        lens[2] = (size_t)snprintf(ttl, sizeof(ttl), "%" PRId64, 2 * delta->period_ms + 60 * 1000);
        (void)item_send(item, ITEM_KEEP, 3, keep, lens);
    }
    if (ok && delta->wants_previous) {
        lens[0] = 3;
        lens[1] = item_key(item, delta->window - 1, key);
        (void)item_send(item, ITEM_PREVIOUS, 2, get, lens);
    }
    if (!ok)
        item_free(item);
    return ok;
}

static void flush_now(struct moon_limits *limits)
{
    limits->is_flush_due = false;
    atomic_store(&limits->board->is_wake_pending, false); // before reading what it announces
    if (!moon_redis_is_up(limits->redis))
        return;
    struct moon_counter_delta delta;
    size_t at = 0, n = 0;
    while (n < FLUSH_DELTAS &&
           moon_counters_shared_next(limits->counters, &at, limits_wall_ms(limits), &delta)) {
        if (!flush_item(limits, &delta)) {
            moon_counters_shared_unsent(limits->counters, &delta);
            return;
        }
        n++;
    }
    limits->is_flush_due = n == FLUSH_DELTAS;
    if (n == 0)
        return;
    atomic_fetch_add_explicit(&limits->board->flushes, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&limits->board->deltas, n, memory_order_relaxed);
}

static void flush_task(struct moon_task *task)
{
    struct moon_limits *limits = task->owner;
    if (limits->is_flusher && limits->in_flight == 0)
        flush_now(limits);
    else
        limits->is_flush_due = true; // one round trip at a time: counts gather meanwhile
}

static void flush_woken(struct moon_io *io, int events)
{
    struct moon_limits *limits = io->owner;
    uint64_t count;
    (void)events;
    if (read(io->fd, &count, sizeof(count)) == (ssize_t)sizeof(count) || limits->is_flusher)
        moon_task_post(limits->loop, &limits->flush);
}

void limits_flush_soon(struct moon_limits *limits)
{
    const uint64_t one = 1;
    if (limits->is_flusher) {
        moon_task_post(limits->loop, &limits->flush);
    } else if (!atomic_exchange(&limits->board->is_wake_pending, true)) {
        if (write(limits->board->wake_fd, &one, sizeof(one)) != (ssize_t)sizeof(one))
            moon_log_warn("limits: the flusher cannot be woken; it comes at its next tick");
    }
}

// ---- heartbeats --------------------------------------------------------------------------------

static void flush_set_store(struct moon_limits *limits, bool is_up)
{
    if (atomic_exchange(&limits->board->is_store_up, is_up) == is_up)
        return;
    if (is_up)
        moon_log_info("limits: shared with the store, %" PRId64 " nodes",
                      atomic_load(&limits->board->nodes));
    else
        moon_log_warn("limits: the store does not answer; store_down applies");
}

static void flush_set_skew(struct moon_limits *limits, int64_t store_ms, int64_t sent_ms)
{
    int64_t now_ms = moon_clock_wall_ms();
    int64_t skew_ms = store_ms - (sent_ms + (now_ms - sent_ms) / 2);
    int64_t old_ms = atomic_load(&limits->board->skew_ms);
    if (llabs(skew_ms - old_ms) <= FLUSH_SKEW_MS + (now_ms - sent_ms))
        return;
    if (llabs(skew_ms) >= FLUSH_SKEW_TELL_MS)
        moon_log_warn("limits: the store's clock is %" PRId64 " ms off ours; windows follow it",
                      skew_ms);
    atomic_store(&limits->board->skew_ms, skew_ms);
}

static void flush_beaten(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    struct moon_limits *limits = owner;
    int64_t nodes, store_ms;
    limits->is_beating = false;
    limits->in_flight--;
    if (rc != MOON_OK || reply->type != MOON_REDIS_ARRAY || reply->count != 2 ||
        !moon_redis_integer(reply->elements[0], &nodes) ||
        !moon_redis_integer(reply->elements[1], &store_ms)) {
        if (rc == MOON_OK && reply->type == MOON_REDIS_ERROR)
            moon_log_warn("limits: the store refuses the heartbeat: " MOON_SLICE_FMT,
                          MOON_SLICE_ARG(reply->text));
        flush_set_store(limits, false);
        return;
    }
    atomic_store(&limits->board->nodes, nodes > 0 ? nodes : 1);
    flush_set_skew(limits, store_ms, limits->beat_wall_ms);
    bool was_up = atomic_load(&limits->board->is_store_up);
    flush_set_store(limits, true);
    if (!was_up || limits->is_flush_due)
        moon_task_post(limits->loop, &limits->flush);
}

static void flush_beat(struct moon_limits *limits)
{
    char key[LIMITS_NAME_BYTES], ttl[24];
    int64_t now_ms = moon_clock_ms();
    bool is_up = atomic_load(&limits->board->is_store_up);
    if (!moon_redis_is_up(limits->redis)) {
        flush_set_store(limits, false);
        return;
    }
    if (limits->is_beating || (is_up && now_ms - limits->beat_ms < FLUSH_BEAT_MS))
        return;
    size_t key_len =
        (size_t)snprintf(key, sizeof(key), "%.*snodes", (int)limits->prefix_len, limits->prefix);
    const char *argv[] = {limits->board->node, ttl};
    size_t lens[] = {strlen(limits->board->node),
                     (size_t)snprintf(ttl, sizeof(ttl), "%" PRId64, limits->conf.node_ttl_ms)};
    limits->beat_ms = now_ms;
    limits->beat_wall_ms = moon_clock_wall_ms();
    if (moon_redis_eval(limits->redis, &flush_beat_script, moon_slice(key, key_len), 2, argv, lens,
                        FLUSH_DEADLINE_MS, flush_beaten, limits, &limits->beat) != MOON_AGAIN)
        return;
    limits->is_beating = true;
    limits->in_flight++;
}

// ---- the lease ---------------------------------------------------------------------------------

// Holds or takes the lease. @return true when this worker is the flusher
static bool flush_lease(struct moon_limits *limits)
{
    struct moon_limits_board *board = limits->board;
    int64_t now_us = moon_clock_real_us();
    uint64_t owner = atomic_load(&board->lease_owner);
    bool is_free = owner == 0 || atomic_load(&board->lease_until_us) < now_us;
    if (owner != limits->token &&
        (!is_free || !atomic_compare_exchange_strong(&board->lease_owner, &owner, limits->token)))
        return false;
    atomic_store(&board->lease_until_us, now_us + FLUSH_LEASE_MS * 1000);
    return true;
}

static void flush_tick(struct moon_timer *timer)
{
    struct moon_limits *limits = timer->owner;
    bool is_flusher = flush_lease(limits);
    if (is_flusher != limits->is_flusher) {
        limits->is_flusher = is_flusher;
        moon_io_watch(&limits->wake, is_flusher ? MOON_IO_READ : 0);
        if (is_flusher)
            moon_log_debug("limits: this worker tells the store");
    }
    int64_t after_ms = FLUSH_WATCH_MS;
    if (is_flusher) {
        flush_beat(limits);
        moon_task_post(limits->loop, &limits->flush);
        after_ms = limits->conf.flush_ms;
    }
    moon_timer_set(timer, after_ms);
}

void limits_flush_init(struct moon_limits *limits)
{
    do
        moon_random_bytes(&limits->token, sizeof(limits->token));
    while (limits->token == 0);
    limits->beat_ms = INT64_MIN / 2;
    moon_timer_init(&limits->tick, limits->loop, flush_tick, limits);
    moon_task_init(&limits->flush, flush_task, limits);
    moon_io_init(&limits->wake, limits->loop, limits->board->wake_fd, flush_woken, limits);
    moon_timer_set(&limits->tick, 0);
}

static void flush_give_lease_back(struct moon_limits *limits)
{
    uint64_t token = limits->token;
    (void)atomic_compare_exchange_strong(&limits->board->lease_owner, &token, 0);
    limits->is_flusher = false;
}

static void flush_stop(struct moon_limits *limits)
{
    moon_timer_stop(&limits->tick);
    moon_task_cancel(&limits->flush);
    moon_io_watch(&limits->wake, 0);
    flush_give_lease_back(limits);
}

void moon_limits_set_telling(struct moon_limits *limits, bool is_telling)
{
    if (limits->redis == NULL || is_telling == moon_timer_is_running(&limits->tick))
        return;
    if (is_telling)
        moon_timer_set(&limits->tick, 0);
    else
        flush_stop(limits);
}

void limits_flush_fini(struct moon_limits *limits)
{
    flush_stop(limits);
    moon_io_stop(&limits->wake);
    if (limits->is_beating)
        moon_redis_cancel(limits->beat);
    while (limits->items != NULL) { // what is under way counts as sent
        struct limits_item *item = limits->items;
        for (int i = 0; i < ITEM_PARTS; i++) {
            if (item->commands[i] != NULL)
                moon_redis_cancel(item->commands[i]);
        }
        item_free(item);
    }
}
