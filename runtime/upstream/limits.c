/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "net/digest.h"
#include "upstream/limits_internal.h"

#include <errno.h>
#include <sys/eventfd.h>

static const char limits_hex[] = "0123456789abcdef";

static void limits_put_hex(const uint8_t *from, size_t n, char *into)
{
    for (size_t i = 0; i < n; i++) {
        into[2 * i] = limits_hex[from[i] >> 4];
        into[2 * i + 1] = limits_hex[from[i] & 15];
    }
}

const char *moon_limit_source_name(enum moon_limit_source source)
{
    static const char *const names[] = {"local", "shared", "exact", "cached", "store_down"};
    return names[source];
}

// ---- specs -------------------------------------------------------------------------------------

static uint64_t limits_hash(const struct moon_limit_spec *spec, char part)
{
    char text[MOON_LIMIT_ID_BYTES + 80];
    int n = snprintf(text, sizeof(text), "%c %d %d %lld %s", part, (int)spec->mode,
                     (int)spec->algorithm, (long long)spec->period_ms, spec->id);
    return moon_hash(moon_slice(text, (size_t)n));
}

static void limits_copy_id(struct moon_limit_spec *spec, struct moon_slice id)
{
    if (id.len <= MOON_LIMIT_ID_BYTES && moon_slice_copy_text(id, spec->id, sizeof(spec->id))) {
        spec->id_len = id.len;
        return;
    }
    uint8_t digest[MOON_DIGEST_BYTES];
    moon_digest_sha256(id, digest);
    limits_put_hex(digest, MOON_LIMIT_ID_BYTES / 2, spec->id);
    spec->id[MOON_LIMIT_ID_BYTES] = '\0';
    spec->id_len = MOON_LIMIT_ID_BYTES;
}

enum moon_rc moon_limit_spec_init(struct moon_limit_spec *spec, struct moon_slice id, int64_t calls,
                                  int64_t period_ms, int64_t burst, enum moon_limit_mode mode,
                                  enum moon_limit_algorithm algorithm,
                                  enum moon_store_down store_down)
{
    const int64_t most_calls = INT64_C(1) << 36, most_period_ms = INT64_C(400) * 86400 * 1000;
    if (period_ms == 0 && algorithm == MOON_ALGORITHM_FIXED_WINDOW)
        period_ms = MOON_LIMIT_FOREVER_MS;
    else if (period_ms < 1 || period_ms > most_period_ms)
        return MOON_ERR_CONFIG;
    if (calls < 1 || calls > most_calls || burst < 0 || burst > most_calls)
        return MOON_ERR_CONFIG;
    if (mode == MOON_MODE_SHARED && algorithm == MOON_ALGORITHM_TOKEN_BUCKET)
        return MOON_ERR_CONFIG;
    *spec = (struct moon_limit_spec){
        .calls = calls,
        .period_ms = period_ms,
        .burst = burst == 0 ? calls : burst,
        .mode = mode,
        .algorithm = algorithm,
        .store_down = store_down,
    };
    limits_copy_id(spec, id);
    spec->hash = limits_hash(spec, 'm');
    spec->fallback_hash = limits_hash(spec, 'f');
    return MOON_OK;
}

size_t limits_name(const struct moon_limit_spec *spec, struct moon_slice key, size_t most,
                   char into[LIMITS_NAME_BYTES])
{
    memcpy(into, spec->id, spec->id_len);
    into[spec->id_len] = ':';
    size_t at = spec->id_len + 1;
    if (at + key.len <= most && moon_slice_find(key, '}') == key.len) {
        if (key.len > 0)
            memcpy(into + at, key.data, key.len);
        return at + key.len;
    }
    uint8_t digest[MOON_DIGEST_BYTES];
    moon_digest_sha256(key, digest);
    into[at++] = '#';
    limits_put_hex(digest, MOON_DIGEST_BYTES, into + at);
    return at + (size_t)MOON_DIGEST_BYTES * 2;
}

// ---- board -------------------------------------------------------------------------------------

struct moon_limits_board *moon_limits_board_new(struct moon_region *region)
{
    struct moon_limits_board *board = moon_region_carve(region, "limits", sizeof(*board));
    if (board == NULL)
        return NULL;
    board->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (board->wake_fd == -1) {
        moon_log_error("limits: no descriptor to wake the flusher: %s", strerror(errno));
        return NULL;
    }
    uint8_t name[LIMITS_NODE_BYTES / 2];
    moon_random_bytes(name, sizeof(name));
    limits_put_hex(name, sizeof(name), board->node);
    atomic_store(&board->nodes, 1);
    return board;
}

int64_t limits_wall_ms(const struct moon_limits *limits)
{
    return moon_clock_wall_ms() +
           atomic_load_explicit(&limits->board->skew_ms, memory_order_relaxed);
}

// ---- life --------------------------------------------------------------------------------------

void moon_limits_options_init(struct moon_limits_options *conf)
{
    *conf = (struct moon_limits_options){
        .prefix = MOON_S("moongate:"), .flush_ms = 50, .deadline_ms = 25, .node_ttl_ms = 3000};
}

struct moon_limits *moon_limits_new(struct moon_loop *loop, struct moon_redis *redis,
                                    struct moon_counters *counters, struct moon_limits_board *board,
                                    const struct moon_limits_options *conf)
{
    struct moon_limits *limits = calloc(1, sizeof(*limits));
    if (limits == NULL)
        return NULL;
    limits->loop = loop;
    limits->redis = redis;
    limits->counters = counters;
    limits->board = board;
    limits->conf = *conf;
    limits->prefix_len = moon_min_size(conf->prefix.len, LIMITS_PREFIX_BYTES);
    memcpy(limits->prefix, conf->prefix.data, limits->prefix_len);
    limits->conf.prefix = moon_slice(limits->prefix, limits->prefix_len);
    if (redis != NULL)
        limits_flush_init(limits);
    return limits;
}

void moon_limits_free(struct moon_limits *limits)
{
    if (limits == NULL)
        return;
    limits_exact_fini(limits);
    if (limits->redis != NULL)
        limits_flush_fini(limits);
    free(limits);
}

// ---- deciding ----------------------------------------------------------------------------------

static struct moon_limit_decision limits_here(struct moon_counters *counters,
                                              const struct moon_limit_spec *spec,
                                              struct moon_counter_key cell, int64_t calls,
                                              int64_t burst, int64_t amount,
                                              enum moon_limit_how how)
{
    switch (spec->algorithm) {
    case MOON_ALGORITHM_TOKEN_BUCKET:
        return moon_counters_gcra(counters, cell, calls, spec->period_ms, burst, amount, how,
                                  moon_clock_us());
    case MOON_ALGORITHM_SLIDING_WINDOW:
        return moon_counters_window(counters, cell, calls, spec->period_ms, amount, how,
                                    moon_clock_wall_ms());
    case MOON_ALGORITHM_FIXED_WINDOW:
        break;
    }
    return moon_counters_fixed(counters, cell, calls, spec->period_ms, amount, how,
                               moon_clock_wall_ms());
}

struct moon_limit_result moon_limits_local(struct moon_counters *counters,
                                           const struct moon_limit_spec *spec,
                                           struct moon_slice key, int64_t amount,
                                           enum moon_limit_how how)
{
    return (struct moon_limit_result){
        .decision = limits_here(counters, spec, moon_counter_key_seeded(spec->hash, key),
                                spec->calls, spec->burst, amount < 0 ? 0 : amount, how),
        .source = MOON_SOURCE_LOCAL,
    };
}

static void limits_give_back_here(struct moon_counters *counters,
                                  const struct moon_limit_spec *spec, struct moon_counter_key cell,
                                  int64_t calls, int64_t amount, struct moon_limit_mark mark)
{
    if (spec->algorithm == MOON_ALGORITHM_TOKEN_BUCKET)
        moon_counters_gcra_give_back(counters, cell, calls, spec->period_ms, amount, mark,
                                     moon_clock_us());
    else
        moon_counters_window_give_back(counters, cell, amount, mark);
}

void moon_limits_local_give_back(struct moon_counters *counters, const struct moon_limit_spec *spec,
                                 struct moon_slice key, int64_t amount,
                                 const struct moon_limit_result *given)
{
    limits_give_back_here(counters, spec, moon_counter_key_seeded(spec->hash, key), spec->calls,
                          amount, given->decision.mark);
}

static int64_t limits_part(int64_t whole, int64_t nodes)
{
    return whole / nodes > 0 ? whole / nodes : 1;
}

struct moon_limit_result limits_without_store(struct moon_limits *limits,
                                              const struct moon_limit_spec *spec,
                                              struct moon_counter_key cell, int64_t amount,
                                              enum moon_limit_how how)
{
    struct moon_limit_result r = {.source = MOON_SOURCE_STORE_DOWN};
    int64_t nodes = atomic_load_explicit(&limits->board->nodes, memory_order_relaxed);
    switch (spec->store_down) {
    case MOON_STORE_DOWN_ALLOW:
        r.decision = (struct moon_limit_decision){.is_allowed = true, .remaining = spec->calls};
        return r;
    case MOON_STORE_DOWN_DENY:
        r.decision = (struct moon_limit_decision){.retry_after_ms = 1000, .reset_ms = 1000};
        r.is_store_refusal = true;
        return r;
    case MOON_STORE_DOWN_LOCAL:
        break;
    }
    r.decision = limits_here(limits->counters, spec, cell, limits_part(spec->calls, nodes),
                             limits_part(spec->burst, nodes), amount, how);
    return r;
}

static struct moon_limit_result limits_shared(struct moon_limits *limits,
                                              const struct moon_limit_spec *spec,
                                              struct moon_slice key, int64_t amount,
                                              enum moon_limit_how how)
{
    char name[LIMITS_NAME_BYTES];
    struct moon_limits_board *board = limits->board;
    bool is_up = atomic_load_explicit(&board->is_store_up, memory_order_relaxed);
    struct moon_shared_limit shared = {
        .name = moon_slice(name, limits_name(spec, key, MOON_COUNTER_NAME_BYTES, name)),
        .calls = spec->calls,
        .period_ms = spec->period_ms,
        .nodes = atomic_load_explicit(&board->nodes, memory_order_relaxed),
        .is_fixed = spec->algorithm == MOON_ALGORITHM_FIXED_WINDOW,
        .is_store_down = !is_up,
    };
    // Without a store, and with a fixed answer for that, calls are still counted for its return.
    bool is_settled = !is_up && spec->store_down != MOON_STORE_DOWN_LOCAL;
    if (is_settled && spec->store_down == MOON_STORE_DOWN_ALLOW)
        how = MOON_LIMIT_CHARGE;
    if (is_settled && spec->store_down == MOON_STORE_DOWN_DENY)
        amount = 0;
    struct moon_shared_decision d =
        moon_counters_shared(limits->counters, moon_counter_key_seeded(spec->hash, key), &shared,
                             amount, how, limits_wall_ms(limits));
    if (d.is_urgent && is_up)
        limits_flush_soon(limits);
    if (is_settled)
        return limits_without_store(limits, spec, (struct moon_counter_key){0}, amount, how);
    return (struct moon_limit_result){
        .decision = d.limit, .source = is_up ? MOON_SOURCE_SHARED : MOON_SOURCE_STORE_DOWN};
}

enum moon_rc moon_limits_check(struct moon_limits *limits, const struct moon_limit_spec *spec,
                               struct moon_slice key, int64_t amount, enum moon_limit_how how,
                               moon_limits_fn *callback, void *owner,
                               struct moon_limit_result *result, struct moon_limits_query **query)
{
    if (amount < 0)
        amount = 0;
    if (limits->redis == NULL || spec->mode == MOON_MODE_LOCAL) {
        *result = moon_limits_local(limits->counters, spec, key, amount, how);
        return MOON_OK;
    }
    if (spec->mode == MOON_MODE_SHARED) {
        *result = limits_shared(limits, spec, key, amount, how);
        return MOON_OK;
    }
    struct moon_counter_key cell = moon_counter_key_seeded(spec->hash, key);
    int64_t blocked_ms = how == MOON_LIMIT_TAKE && amount > 0
                             ? moon_counters_blocked_ms(limits->counters, cell, moon_clock_us())
                             : 0;
    if (blocked_ms > 0) {
        atomic_fetch_add_explicit(&limits->board->cached, 1, memory_order_relaxed);
        *result = (struct moon_limit_result){
            .decision = {.retry_after_ms = blocked_ms, .reset_ms = spec->period_ms},
            .source = MOON_SOURCE_CACHED,
        };
        return MOON_OK;
    }
    if (limits_exact(limits, spec, key, cell, amount, how, callback, owner, query) == MOON_AGAIN)
        return MOON_AGAIN;
    *result = limits_without_store(limits, spec, moon_counter_key_seeded(spec->fallback_hash, key),
                                   amount, how);
    return MOON_OK;
}

void moon_limits_give_back(struct moon_limits *limits, const struct moon_limit_spec *spec,
                           struct moon_slice key, int64_t amount,
                           const struct moon_limit_result *given)
{
    if (given->source == MOON_SOURCE_LOCAL) {
        moon_limits_local_give_back(limits->counters, spec, key, amount, given);
    } else if (spec->mode == MOON_MODE_SHARED) {
        moon_counters_shared_give_back(limits->counters, moon_counter_key_seeded(spec->hash, key),
                                       amount, given->decision.mark);
    } else if (given->source == MOON_SOURCE_EXACT) {
        limits_exact_give_back(limits, spec, key, amount, given->decision.mark);
    } else if (spec->store_down == MOON_STORE_DOWN_LOCAL) {
        int64_t nodes = atomic_load_explicit(&limits->board->nodes, memory_order_relaxed);
        limits_give_back_here(limits->counters, spec,
                              moon_counter_key_seeded(spec->fallback_hash, key),
                              limits_part(spec->calls, nodes), amount, given->decision.mark);
    }
}

void moon_limits_status(const struct moon_limits *limits, struct moon_limits_status *status)
{
    struct moon_limits_board *board = limits->board;
    *status = (struct moon_limits_status){
        .is_store_down = limits->redis != NULL && !atomic_load(&board->is_store_up),
        .is_flusher = limits->is_flusher,
        .nodes = atomic_load(&board->nodes),
        .clock_skew_ms = atomic_load(&board->skew_ms),
        .flushes = atomic_load(&board->flushes),
        .deltas = atomic_load(&board->deltas),
        .lost = moon_counters_lost(limits->counters),
        .exact = atomic_load(&board->exact),
        .exact_failed = atomic_load(&board->exact_failed),
        .cached = atomic_load(&board->cached),
    };
}

struct moon_redis *moon_limits_redis(struct moon_limits *limits)
{
    return limits->redis;
}

bool moon_limits_has_store(const struct moon_limits *limits)
{
    return limits->redis != NULL;
}
