/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/log.h"
#include "upstream/limits_internal.h"

#include <inttypes.h>

// The scripts decide and count in one step, and tell everything in one reply:
// {allowed, remaining, retry_after_ms, reset_ms, mark, now}. `now` (microseconds) may be given by the caller;
// 0 takes the server's. What is kept says when it ends; the key's expiry only cleans up.
// ARGV: calls, period_us, burst, amount, charge (1: counted even when refused), now
//
// A bucket is kept as its arrival time and, behind a space, what was given back in all, which is what
// marks are read by (shared/counters.c). Once something was given back it is kept for a minute more
// than it must, for the marks of calls under way.

static struct moon_redis_script exact_bucket_script = {
    .body = "local calls, period, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])\n"
            "local amount, now = tonumber(ARGV[4]), tonumber(ARGV[6])\n"
            "if now == 0 then local t = redis.call('TIME') now = t[1] * 1000000 + t[2] end\n"
            "local cost = period / calls\n"
            "local depth = cost * burst\n"
            "local kept, given = (redis.call('GET', KEYS[1]) or '0'):match('^(%S+) ?(%S*)')\n"
            "local tat = tonumber(kept)\n"
            "if tat < now then tat = now end\n"
            "local asked = cost * (amount > 0 and amount or 1)\n"
            "local over = tat + asked - now - depth\n"
            "local allowed = over <= 1\n"
            "if amount > 0 and (allowed or ARGV[5] == '1') then\n"
            "  tat = tat + cost * amount\n"
            "  local rest = math.ceil((tat - now) / 1000) + 1\n"
            "  kept = string.format('%.3f', tat)\n"
            "  if given ~= '' then kept, rest = kept .. ' ' .. given, rest + 60000 end\n"
            "  redis.call('SET', KEYS[1], kept, 'PX', rest)\n"
            "end\n"
            "local left = math.floor((depth - (tat - now) + 1) / cost)\n"
            "if left < 0 then left = 0 end\n"
            "return {allowed and 1 or 0, left, allowed and 0 or math.ceil(over / 1000),\n"
            "        math.ceil((tat - now) / 1000), math.floor(tat + (tonumber(given) or 0)),\n"
            "        math.floor(now)}\n",
};

// ARGV: calls, period_us, amount, mark, when it was taken, now
static struct moon_redis_script bucket_back_script = {
    .body = "local cost = tonumber(ARGV[2]) / tonumber(ARGV[1]) * tonumber(ARGV[3])\n"
            "local mark, taken, now = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])\n"
            "if now == 0 then local t = redis.call('TIME') now = t[1] * 1000000 + t[2] end\n"
            "local kept, given = (redis.call('GET', KEYS[1]) or '0'):match('^(%S+) ?(%S*)')\n"
            "local tat = tonumber(kept)\n"
            "given = tonumber(given) or 0\n"
            "local left = math.max(mark - given - now, cost - (now - taken))\n"
            "local back = math.min(cost, left, tat - now)\n"
            "if back <= 0 then return 0 end\n"
            "redis.call('SET', KEYS[1], string.format('%.3f %.3f', tat - back, given + back),\n"
            "           'PX', math.ceil((tat - back - now) / 1000) + 60001)\n"
            "return 1\n",
};

// A window of its own for each key: fixed ones begin with the first call, sliding ones at
// multiples of the period. Kept as a hash: w (start of the window), c (its count), p (the one before).
static struct moon_redis_script exact_window_script = {
    .body =
        "local calls, period, sliding = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'\n"
        "local amount, now = tonumber(ARGV[4]), tonumber(ARGV[6])\n"
        "if now == 0 then local t = redis.call('TIME') now = t[1] * 1000000 + t[2] end\n"
        "local kept = redis.call('HMGET', KEYS[1], 'w', 'c', 'p')\n"
        "local start, here, before = tonumber(kept[1]), tonumber(kept[2]), tonumber(kept[3])\n"
        "local fresh = sliding and now - now % period or now\n"
        "if not start then\n"
        "  start, here, before = fresh, 0, 0\n"
        "elseif now >= start + 2 * period then\n"
        "  start, here, before = fresh, 0, 0\n"
        "elseif now >= start + period then\n"
        "  start, here, before = sliding and start + period or fresh, 0, sliding and here or 0\n"
        "end\n"
        "local rest = start + period - now\n"
        "if rest > period then rest = period end\n"
        "local asked = amount > 0 and amount or 1\n"
        "local used = here + before * rest / period\n"
        "local allowed = used + asked <= calls + 1e-6\n"
        "if amount > 0 and (allowed or ARGV[5] == '1') then\n"
        "  here = here + amount\n"
        "  used = used + amount\n"
        "  redis.call('HSET', KEYS[1], 'w', string.format('%.0f', start), 'c', here, 'p', before)\n"
        "  redis.call('PEXPIRE', KEYS[1], math.ceil((rest + period) / 1000) + 1)\n"
        "end\n"
        "local left = math.floor(calls - used + 1e-6)\n"
        "if left < 0 then left = 0 end\n"
        "local retry = 0\n"
        "if not allowed then\n"
        "  local over = used + asked - calls\n"
        "  if asked > calls or not sliding then\n"
        "    retry = rest\n"
        "  elseif over <= before * rest / period then\n"
        "    retry = over / before * period\n"
        "  else\n"
        "    retry = rest\n"
        "    if here + asked > calls then retry = rest + (here + asked - calls) / here * period "
        "end\n"
        "  end\n"
        "  retry = math.ceil(retry / 1000) + 1\n"
        "end\n"
        "local reset = 0\n"
        "if here > 0 then reset = sliding and rest + period or rest\n"
        "elseif before > 0 then reset = rest end\n"
        "return {allowed and 1 or 0, left, retry, math.ceil(reset / 1000), start, "
        "math.floor(now)}\n",
};

// Out of the window that the mark names, if that is still kept: this one or the one before.
static struct moon_redis_script window_back_script = {
    .body = "local period, amount = tonumber(ARGV[2]), tonumber(ARGV[3])\n"
            "local mark = tonumber(ARGV[4])\n"
            "local start = tonumber(redis.call('HGET', KEYS[1], 'w'))\n"
            "local field = start == mark and 'c' or start == mark + period and 'p'\n"
            "if not field then return 0 end\n"
            "local count = tonumber(redis.call('HGET', KEYS[1], field)) - amount\n"
            "redis.call('HSET', KEYS[1], field, count < 0 and 0 or count)\n"
            "return 1\n",
};

// How long a refusal is believed without asking again.
#define EXACT_TRUSTED_US INT64_C(1000000)

struct moon_limits_query {
    struct moon_limits *limits;
    struct moon_limits_query *prev, *next;
    struct moon_limit_spec spec; // whose limit it is may be gone by then
    struct moon_counter_key cell, fallback;
    int64_t amount;
    enum moon_limit_how how;
    moon_limits_fn *callback; // NULL: nobody waits
    void *owner;
    struct moon_redis_command *command;
    struct moon_limit_result given; // what was decided without the store, whose answer is late
    size_t key_len;
    char key[];
};

static void query_free(struct moon_limits_query *q)
{
    if (q->prev != NULL)
        q->prev->next = q->next;
    else
        q->limits->queries = q->next;
    if (q->next != NULL)
        q->next->prev = q->prev;
    free(q);
}

static bool exact_read(const struct moon_redis_reply *reply, struct moon_limit_decision *d)
{
    int64_t numbers[6];
    if (reply->type != MOON_REDIS_ARRAY || reply->count != MOON_COUNT(numbers))
        return false;
    for (size_t i = 0; i < MOON_COUNT(numbers); i++) {
        if (!moon_redis_integer(reply->elements[i], &numbers[i]) || numbers[i] < 0)
            return false;
    }
    *d = (struct moon_limit_decision){.is_allowed = numbers[0] == 1,
                                      .remaining = numbers[1],
                                      .retry_after_ms = numbers[2],
                                      .reset_ms = numbers[3],
                                      .mark = {numbers[4], numbers[5]}};
    return true;
}

// The store has decided after all. Where it has counted, the call counts there and nowhere else; where the call
// was refused meanwhile, not there either.
static void exact_late(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    struct moon_limits_query *q = owner;
    struct moon_limit_decision late;
    struct moon_slice key = moon_slice(q->key, q->key_len);
    bool is_charge = q->how == MOON_LIMIT_CHARGE;
    if (rc == MOON_OK && exact_read(reply, &late) && (late.is_allowed || is_charge)) {
        if (q->given.decision.is_allowed || is_charge)
            moon_limits_give_back(q->limits, &q->spec, key, q->amount, &q->given);
        else
            limits_exact_give_back(q->limits, &q->spec, key, q->amount, late.mark);
    }
    query_free(q);
}

static void exact_decided(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    struct moon_limits_query *q = owner;
    struct moon_limits *limits = q->limits;
    struct moon_limit_result result = {.source = MOON_SOURCE_EXACT};
    if (rc == MOON_OK && exact_read(reply, &result.decision)) {
        // Nobody can be let through before then, unless something is given back: the answer holds
        // for every worker, and is asked for again now and then.
        int64_t now_us = moon_clock_us();
        if (!result.decision.is_allowed && q->amount == 1 && result.decision.retry_after_ms > 1)
            moon_counters_block(limits->counters, q->cell,
                                now_us + (result.decision.retry_after_ms - 1) * 1000,
                                now_us + EXACT_TRUSTED_US, now_us);
    } else {
        if (rc == MOON_OK)
            moon_log_warn("limits: the store answers a script with " MOON_SLICE_FMT,
                          MOON_SLICE_ARG(reply->text));
        atomic_fetch_add_explicit(&limits->board->exact_failed, 1, memory_order_relaxed);
        result = limits_without_store(limits, &q->spec, q->fallback, q->amount, q->how);
    }
    moon_limits_fn *callback = q->callback;
    void *callback_owner = q->owner;
    if (rc == MOON_ERR_TIMEOUT && q->amount > 0) {
        q->given = result;
        moon_redis_hear_late(q->command, exact_late, q);
    } else {
        query_free(q);
    }
    if (callback != NULL)
        callback(callback_owner, &result);
}

// "prefix{id:key}:period:kind"; a key may hold any byte.
static size_t exact_key(const struct moon_limits *limits, const struct moon_limit_spec *spec,
                        struct moon_slice key, char into[2 * LIMITS_NAME_BYTES])
{
    size_t at = limits->prefix_len;
    memcpy(into, limits->prefix, at);
    into[at++] = '{';
    at += limits_name(spec, key, 200, into + at);
    int n = snprintf(into + at, LIMITS_NAME_BYTES, "}:%" PRId64 ":%d", spec->period_ms,
                     (int)spec->algorithm);
    return at + (size_t)n;
}

// Microseconds by the caller's clock; 0: the store's.
static int64_t exact_now(const struct moon_limits *limits)
{
    return limits->conf.is_time_given ? moon_clock_wall_ms() * 1000 : 0;
}

enum { EXACT_ARGUMENTS = 6 };

// The numbers of a script, as text.
struct exact_arguments {
    char numbers[EXACT_ARGUMENTS][24];
    const char *argv[EXACT_ARGUMENTS];
    size_t lens[EXACT_ARGUMENTS];
};

static void exact_arguments_write(struct exact_arguments *a, const int64_t *values, size_t n)
{
    MOON_ASSERT(n <= EXACT_ARGUMENTS);
    for (size_t i = 0; i < n; i++) {
        a->lens[i] = (size_t)snprintf(a->numbers[i], sizeof(a->numbers[i]), "%" PRId64, values[i]);
        a->argv[i] = a->numbers[i];
    }
}

enum moon_rc limits_exact(struct moon_limits *limits, const struct moon_limit_spec *spec,
                          struct moon_slice key, struct moon_counter_key cell, int64_t amount,
                          enum moon_limit_how how, moon_limits_fn *callback, void *owner,
                          struct moon_limits_query **query)
{
    char name[2 * LIMITS_NAME_BYTES];
    struct exact_arguments a;
    bool is_bucket = spec->algorithm == MOON_ALGORITHM_TOKEN_BUCKET;
    const int64_t values[] = {
        spec->calls,
        spec->period_ms * 1000,
        is_bucket ? spec->burst : spec->algorithm == MOON_ALGORITHM_SLIDING_WINDOW,
        amount,
        how == MOON_LIMIT_CHARGE,
        exact_now(limits),
    };
    exact_arguments_write(&a, values, MOON_COUNT(values));
    size_t len = exact_key(limits, spec, key, name);

    struct moon_limits_query *q = calloc(1, sizeof(*q) + key.len);
    if (q == NULL)
        return MOON_ERR_STORE;
    *q = (struct moon_limits_query){.limits = limits,
                                    .next = limits->queries,
                                    .spec = *spec,
                                    .cell = cell,
                                    .fallback = moon_counter_key_seeded(spec->fallback_hash, key),
                                    .amount = amount,
                                    .how = how,
                                    .callback = callback,
                                    .owner = owner,
                                    .key_len = key.len};
    if (key.len > 0)
        memcpy(q->key, key.data, key.len);
    enum moon_rc rc =
        moon_redis_eval(limits->redis, is_bucket ? &exact_bucket_script : &exact_window_script,
                        moon_slice(name, len), (int)MOON_COUNT(values), a.argv, a.lens,
                        limits->conf.deadline_ms, exact_decided, q, &q->command);
    if (rc != MOON_AGAIN) {
        free(q);
        return MOON_ERR_STORE;
    }
    if (q->next != NULL)
        q->next->prev = q;
    limits->queries = q;
    atomic_fetch_add_explicit(&limits->board->exact, 1, memory_order_relaxed);
    if (query != NULL)
        *query = q;
    return MOON_AGAIN;
}

// What comes of giving back: should it be lost, the call stays counted.
static void exact_ignore(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    (void)owner;
    (void)rc;
    (void)reply;
}

void limits_exact_give_back(struct moon_limits *limits, const struct moon_limit_spec *spec,
                            struct moon_slice key, int64_t amount, struct moon_limit_mark mark)
{
    bool is_bucket = spec->algorithm == MOON_ALGORITHM_TOKEN_BUCKET;
    const int64_t values[] = {spec->calls, spec->period_ms * 1000, amount,
                              mark.at,     mark.taken_us,          exact_now(limits)};
    char name[2 * LIMITS_NAME_BYTES];
    struct exact_arguments a;
    exact_arguments_write(&a, values, MOON_COUNT(values));
    size_t len = exact_key(limits, spec, key, name);
    if (moon_redis_eval(limits->redis, is_bucket ? &bucket_back_script : &window_back_script,
                        moon_slice(name, len), (int)MOON_COUNT(values), a.argv, a.lens,
                        MOON_REDIS_UNHURRIED, exact_ignore, NULL, NULL) != MOON_AGAIN)
        moon_log_debug("limits: a call was not given back, the store is down");
    moon_counters_block(limits->counters, moon_counter_key_seeded(spec->hash, key), 0, 0,
                        moon_clock_us());
}

void moon_limits_cancel(struct moon_limits_query *q)
{
    moon_redis_cancel(q->command);
    query_free(q);
}

void limits_exact_fini(struct moon_limits *limits)
{
    while (limits->queries != NULL)
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the successor is taken before the element is freed
        moon_limits_cancel(limits->queries);
}
