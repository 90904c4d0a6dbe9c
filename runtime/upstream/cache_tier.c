/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/cache_tier.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"

#include <inttypes.h>

enum {
    TIER_PREFIX_BYTES = 64,
    TIER_KEY_BYTES = TIER_PREFIX_BYTES + 80,
    TIER_POLL_MS = 100,
    TIER_CURRENT_US = 1000 * 1000,
    TIER_BATCH = 1000,   // entries of the log read at once
    TIER_PENDING = 1024, // purges that could not be told yet; more become one of everything
    TIER_MAGIC = 0x6d677431,
};

static const char tier_hex[] = "0123456789abcdef";

// An object and how long it has still to live: what is over is the reader's clock's business no more.
static struct moon_redis_script tier_find_script = {
    .body = "return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}\n",
};

// The oldest entry there is, and what follows a position.
static struct moon_redis_script tier_read_script = {
    .body = "local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]\n"
            "if not first then return {'', {}} end\n"
            "return {first[1], redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', "
            "ARGV[2])}\n",
};

/// Stands before an object's bytes.
struct tier_header {
    uint32_t magic, tag_count;
    uint64_t position;
    int64_t keep_ms; // how long it was to live
    struct moon_cache_tag tags[MOON_CACHE_TIER_TAGS];
};

struct moon_cache_tier_query {
    struct moon_list link;
    struct moon_cache_tier *tier;
    struct moon_redis_command *command;
    moon_cache_tier_fn *callback;
    void *owner;
};

/// A purge until the log has it.
struct tier_purge {
    struct moon_list link;
    struct moon_cache_tier *tier;
    struct moon_cache_tag tag;
    struct moon_redis_command *command; // NULL: has to be sent
};

struct moon_cache_tier {
    struct moon_loop *loop;
    struct moon_redis *redis;
    struct moon_store *store;
    uint64_t name; // of the log; never 0
    char prefix[TIER_PREFIX_BYTES + 1];
    size_t object_bytes;
    struct moon_timer tick;
    struct moon_redis_command *reading;
    struct moon_list queries, purges;
    size_t purge_count;
    struct moon_cache_tier_status status;
};

uint64_t moon_cache_tag_hash(const struct moon_cache_tag *tag)
{
    static const struct moon_cache_tag everything;
    if (memcmp(tag, &everything, sizeof(*tag)) == 0)
        return 0;
    return moon_hash(moon_slice((const char *)tag->bytes, sizeof(tag->bytes)));
}

// ---- keys and commands -------------------------------------------------------------------------

static struct moon_slice tier_log_key(const struct moon_cache_tier *tier, char into[TIER_KEY_BYTES])
{
    int n = snprintf(into, TIER_KEY_BYTES, "%scache:purges", tier->prefix);
    return moon_slice(into, (size_t)n);
}

static struct moon_slice tier_key(const struct moon_cache_tier *tier, const uint8_t *name,
                                  char into[TIER_KEY_BYTES])
{
    int n = snprintf(into, TIER_KEY_BYTES, "%scache:o:", tier->prefix);
    size_t at = (size_t)n;
    for (size_t i = 0; i < MOON_CACHE_TIER_NAME_BYTES; i++) {
        into[at++] = tier_hex[name[i] >> 4];
        into[at++] = tier_hex[name[i] & 15];
    }
    return moon_slice(into, at);
}

static void tier_put_answered(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    (void)owner; // may be gone
    if (rc == MOON_OK && reply->type == MOON_REDIS_ERROR)
        moon_log_warn("cache: the second tier refuses: %.*s", MOON_SLICE_ARG(reply->text));
}

// "1526919030474-55" as one number: 44 bits of milliseconds, 20 of the count within one.
static bool tier_position(struct moon_slice id, uint64_t *position)
{
    int64_t ms, count;
    size_t dash = moon_slice_find(id, '-');
    if (!moon_slice_number(moon_slice(id.data, dash), &ms) ||
        !moon_slice_number(moon_slice_from(id, dash + 1), &count))
        return false;
    *position = (uint64_t)ms << 20 | (uint64_t)(count > 0xFFFFF ? 0xFFFFF : count);
    return true;
}

// ---- reading the log ---------------------------------------------------------------------------

static void tier_ask(struct moon_cache_tier *tier);

// The log does not reach back to what we know: what was purged in between, nobody can say.
static void tier_lost(struct moon_cache_tier *tier, struct moon_store_log *log, uint64_t first)
{
    atomic_store(&log->floor, first);
    moon_store_purge(tier->store, 0);
    moon_log_warn("cache: purges of other nodes were missed; everything is dropped");
}

static bool tier_apply(struct moon_cache_tier *tier, const struct moon_redis_reply *entry,
                       uint64_t *position)
{
    struct moon_cache_tag tag;
    if (entry->type != MOON_REDIS_ARRAY || entry->count != 2 ||
        !tier_position(entry->elements[0]->text, position))
        return false;
    const struct moon_redis_reply *pairs = entry->elements[1];
    if (pairs->type != MOON_REDIS_ARRAY || pairs->count < 2 ||
        pairs->elements[1]->text.len != sizeof(tag))
        return true; // none of ours: passed over
    memcpy(&tag, pairs->elements[1]->text.data, sizeof(tag));
    moon_store_purge_logged(tier->store, moon_cache_tag_hash(&tag), *position);
    return true;
}

static void tier_read(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    struct moon_cache_tier *tier = owner;
    struct moon_store_log *log = moon_store_log(tier->store);
    tier->reading = NULL;
    if (rc != MOON_OK || reply->type != MOON_REDIS_ARRAY || reply->count != 2 ||
        reply->elements[1]->type != MOON_REDIS_ARRAY) {
        if (rc == MOON_OK && reply->type == MOON_REDIS_ERROR)
            moon_log_warn("cache: the log of purges cannot be read: %.*s",
                          MOON_SLICE_ARG(reply->text));
        return;
    }
    const struct moon_redis_reply *entries = reply->elements[1];
    uint64_t known = atomic_load(&log->position), first = 0, position = known;
    bool has_first = tier_position(reply->elements[0]->text, &first);
    if (atomic_load(&log->read_us) == 0)
        atomic_store(&log->floor, first); // what was cut off before we came
    else if (known != 0 && (!has_first || first > known))
        tier_lost(tier, log, first);
    if (!has_first)
        position = 0;
    for (size_t i = 0; i < entries->count; i++) {
        if (!tier_apply(tier, entries->elements[i], &position))
            return;
    }
    moon_store_log_read(tier->store, position);
    if (entries->count < TIER_BATCH)
        atomic_store(&log->read_us, moon_clock_real_us());
    else
        tier_ask(tier);
}

static void tier_ask(struct moon_cache_tier *tier)
{
    char key[TIER_KEY_BYTES], id[48], count[16];
    uint64_t position = atomic_load(&moon_store_log(tier->store)->position);
    int n = snprintf(id, sizeof(id), "%" PRIu64 "-%" PRIu64, position >> 20, position & 0xFFFFF);
    int m = snprintf(count, sizeof(count), "%d", TIER_BATCH);
    const char *argv[] = {id, count};
    const size_t lens[] = {(size_t)n, (size_t)m};
    if (tier->reading != NULL)
        return;
    if (moon_redis_eval(tier->redis, &tier_read_script, tier_log_key(tier, key), 2, argv, lens, 0,
                        tier_read, tier, &tier->reading) != MOON_AGAIN)
        tier->reading = NULL;
}

// ---- purging -----------------------------------------------------------------------------------

static void purge_free(struct tier_purge *purge)
{
    moon_list_remove(&purge->link);
    purge->tier->purge_count--;
    free(purge);
}

static void purge_told(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    struct tier_purge *purge = owner;
    uint64_t position;
    purge->command = NULL;
    if (rc == MOON_OK && reply->type == MOON_REDIS_STRING &&
        tier_position(reply->text, &position)) {
        moon_store_note_logged(purge->tier->store, moon_cache_tag_hash(&purge->tag), position);
        purge_free(purge);
    } else if (rc == MOON_OK && reply->type == MOON_REDIS_ERROR) {
        moon_log_warn("cache: a purge cannot be told to other nodes: %.*s",
                      MOON_SLICE_ARG(reply->text));
    }
}

static void purge_send(struct tier_purge *purge)
{
    char key[TIER_KEY_BYTES];
    struct moon_slice log = tier_log_key(purge->tier, key);
    const char *argv[] = {"XADD",   log.data, "MAXLEN", "~",
                          "100000", "*",      "t",      (const char *)purge->tag.bytes};
    const size_t lens[] = {4, log.len, 6, 1, 6, 1, 1, sizeof(purge->tag.bytes)};
    if (purge->command != NULL)
        return;
    if (moon_redis_command(purge->tier->redis, (int)MOON_COUNT(argv), argv, lens, 1, 0, purge_told,
                           purge, &purge->command) != MOON_AGAIN)
        purge->command = NULL;
}

static void tier_send_purges(struct moon_cache_tier *tier)
{
    MOON_LIST_EACH(at, after, &tier->purges)
    purge_send(MOON_LIST_ENTRY(at, struct tier_purge, link));
}

// Too many to remember: one of everything says as much, and more.
static void tier_fold_purges(struct moon_cache_tier *tier, struct moon_cache_tag *tag)
{
    MOON_LIST_EACH(at, after, &tier->purges)
    {
        struct tier_purge *purge = MOON_LIST_ENTRY(at, struct tier_purge, link);
        if (purge->command == NULL)
            purge_free(purge);
    }
    *tag = (struct moon_cache_tag){{0}};
    moon_store_purge(tier->store, 0);
    moon_log_warn("cache: too many purges wait to be told to other nodes; they become one of all");
}

void moon_cache_tier_purge(struct moon_cache_tier *tier, const struct moon_cache_tag *given)
{
    struct moon_cache_tag tag = *given;
    moon_store_purge(tier->store, moon_cache_tag_hash(&tag));
    if (tier->purge_count >= TIER_PENDING)
        tier_fold_purges(tier, &tag);
    struct tier_purge *purge = calloc(1, sizeof(*purge));
    if (purge == NULL) {
        moon_log_error("cache: no memory to tell a purge to other nodes");
        return;
    }
    purge->tier = tier;
    purge->tag = tag;
    moon_list_push_back(&tier->purges, &purge->link);
    tier->purge_count++;
    purge_send(purge);
}

static void tier_tick(struct moon_timer *timer)
{
    struct moon_cache_tier *tier = timer->owner;
    struct moon_store_log *log = moon_store_log(tier->store);
    int64_t now = moon_clock_real_us(), asked = atomic_load(&log->asked_us);
    moon_timer_set(timer, TIER_POLL_MS / 2);
    tier_send_purges(tier);
    if (atomic_load(&log->name) != tier->name)
        return; // a newer configuration has another store
    // One worker of the node asks, whichever comes first.
    if (now - asked >= (int64_t)TIER_POLL_MS * 1000 &&
        atomic_compare_exchange_strong(&log->asked_us, &asked, now))
        tier_ask(tier);
}

// ---- objects -----------------------------------------------------------------------------------

uint64_t moon_cache_tier_position(const struct moon_cache_tier *tier)
{
    return atomic_load(&moon_store_log(tier->store)->reached);
}

bool moon_cache_tier_is_current(const struct moon_cache_tier *tier)
{
    struct moon_store_log *log = moon_store_log(tier->store);
    int64_t read_us = atomic_load(&log->read_us);
    return read_us != 0 && atomic_load(&log->name) == tier->name &&
           moon_clock_real_us() - read_us < TIER_CURRENT_US;
}

// Nothing that lies there is believed before it has been looked at.
static bool tier_open(const struct moon_cache_tier *tier, const struct moon_redis_reply *reply,
                      struct moon_cache_tier_object *object)
{
    struct tier_header header;
    int64_t left_ms;
    if (reply->type != MOON_REDIS_ARRAY || reply->count != 2 ||
        reply->elements[0]->type != MOON_REDIS_STRING ||
        !moon_redis_integer(reply->elements[1], &left_ms))
        return false;
    struct moon_slice bytes = reply->elements[0]->text;
    if (bytes.len < sizeof(header) || bytes.len > sizeof(header) + tier->object_bytes)
        return false;
    memcpy(&header, bytes.data, sizeof(header));
    if (header.magic != TIER_MAGIC || header.tag_count > MOON_CACHE_TIER_TAGS || left_ms < 0 ||
        left_ms > header.keep_ms ||
        header.position < atomic_load(&moon_store_log(tier->store)->floor))
        return false;
    for (size_t i = 0; i < header.tag_count; i++) {
        if (moon_store_is_purged_since(tier->store, moon_cache_tag_hash(&header.tags[i]),
                                       header.position))
            return false;
    }
    object->bytes = moon_slice_from(bytes, sizeof(header));
    object->since_put_ms = header.keep_ms - left_ms;
    object->position = header.position;
    return !moon_store_is_purged_since(tier->store, 0, header.position);
}

static void tier_found(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    struct moon_cache_tier_query *query = owner;
    struct moon_cache_tier *tier = query->tier;
    struct moon_cache_tier_object object;
    moon_list_remove(&query->link);
    if (rc == MOON_OK && reply->type == MOON_REDIS_ERROR)
        rc = MOON_ERR_STORE;
    bool is_there = rc == MOON_OK && tier_open(tier, reply, &object);
    if (rc != MOON_OK)
        tier->status.failures++;
    else if (is_there)
        tier->status.hits++;
    else
        tier->status.misses++;
    query->callback(query->owner, rc, is_there ? &object : NULL);
    free(query);
}

enum moon_rc moon_cache_tier_find(struct moon_cache_tier *tier,
                                  const uint8_t name[MOON_CACHE_TIER_NAME_BYTES],
                                  moon_cache_tier_fn *callback, void *owner,
                                  struct moon_cache_tier_query **out)
{
    char key[TIER_KEY_BYTES];
    if (!moon_cache_tier_is_current(tier)) // purges may have been missed
        return MOON_ERR_STORE;
    struct moon_cache_tier_query *query = calloc(1, sizeof(*query));
    if (query == NULL)
        return MOON_ERR_MEMORY;
    query->tier = tier;
    query->callback = callback;
    query->owner = owner;
    moon_list_push_back(&tier->queries, &query->link);
    enum moon_rc rc = moon_redis_eval(tier->redis, &tier_find_script, tier_key(tier, name, key), 0,
                                      NULL, NULL, 0, tier_found, query, &query->command);
    if (rc == MOON_AGAIN) {
        *out = query;
        return rc;
    }
    moon_list_remove(&query->link);
    free(query);
    tier->status.failures++;
    return rc;
}

void moon_cache_tier_cancel(struct moon_cache_tier_query *query)
{
    if (query == NULL)
        return;
    moon_redis_cancel(query->command);
    moon_list_remove(&query->link);
    free(query);
}

bool moon_cache_tier_put(struct moon_cache_tier *tier,
                         const uint8_t name[MOON_CACHE_TIER_NAME_BYTES],
                         const struct moon_slice *parts, size_t count,
                         const struct moon_cache_tag *tags, size_t tag_count, uint64_t position,
                         int64_t keep_ms)
{
    char key[TIER_KEY_BYTES], keep[24];
    struct tier_header header = {TIER_MAGIC, (uint32_t)tag_count, position, keep_ms, {{{0}}}};
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += parts[i].len;
    if (keep_ms < 1 || total > tier->object_bytes || tag_count > MOON_CACHE_TIER_TAGS ||
        !moon_redis_is_up(tier->redis))
        return false;
    char *bytes = malloc(sizeof(header) + total);
    if (bytes == NULL)
        return false;
    if (tag_count > 0)
        memcpy(header.tags, tags, tag_count * sizeof(*tags));
    memcpy(bytes, &header, sizeof(header));
    char *at = bytes + sizeof(header);
    for (size_t i = 0; i < count; i++) {
        memcpy(at, parts[i].data, parts[i].len);
        at += parts[i].len;
    }
    struct moon_slice where = tier_key(tier, name, key);
    int n = snprintf(keep, sizeof(keep), "%" PRId64, keep_ms);
    const char *argv[] = {"SET", where.data, bytes, "PX", keep};
    const size_t lens[] = {3, where.len, sizeof(header) + total, 2, (size_t)n};
    bool is_sent = moon_redis_command(tier->redis, (int)MOON_COUNT(argv), argv, lens, 1, 0,
                                      tier_put_answered, NULL, NULL) == MOON_AGAIN;
    free(bytes);
    tier->status.puts += is_sent ? 1 : 0;
    return is_sent;
}

void moon_cache_tier_remove(struct moon_cache_tier *tier,
                            const uint8_t name[MOON_CACHE_TIER_NAME_BYTES])
{
    char key[TIER_KEY_BYTES];
    struct moon_slice where = tier_key(tier, name, key);
    const char *argv[] = {"DEL", where.data};
    const size_t lens[] = {3, where.len};
    if (moon_redis_command(tier->redis, 2, argv, lens, 1, 0, tier_put_answered, NULL, NULL) !=
        MOON_AGAIN)
        tier->status.failures++;
}

// ---- life --------------------------------------------------------------------------------------

// Another store than before: nothing that is known of its log holds.
static void tier_begin_log(struct moon_cache_tier *tier)
{
    struct moon_store_log *log = moon_store_log(tier->store);
    uint64_t before = atomic_load(&log->name);
    if (before != tier->name && atomic_compare_exchange_strong(&log->name, &before, tier->name) &&
        before != 0) {
        atomic_store(&log->position, 0);
        atomic_store(&log->reached, 0);
        atomic_store(&log->read_us, 0);
        moon_store_purge(tier->store, 0);
    }
}

struct moon_cache_tier *moon_cache_tier_new(struct moon_loop *loop, struct moon_redis *redis,
                                            struct moon_store_seat *seat, struct moon_slice url,
                                            struct moon_slice prefix, size_t object_bytes)
{
    struct moon_cache_tier *tier = calloc(1, sizeof(*tier));
    if (tier == NULL)
        return NULL;
    tier->loop = loop;
    tier->redis = redis;
    tier->store = moon_store_of(seat);
    tier->object_bytes = object_bytes;
    tier->name = (moon_hash(url) * 31 + moon_hash(prefix)) | 1;
    memcpy(tier->prefix, prefix.data, moon_min_size(prefix.len, TIER_PREFIX_BYTES));
    moon_list_init(&tier->queries);
    moon_list_init(&tier->purges);
    tier_begin_log(tier);
    moon_timer_init(&tier->tick, loop, tier_tick, tier);
    moon_timer_set(&tier->tick, 1);
    return tier;
}

void moon_cache_tier_free(struct moon_cache_tier *tier)
{
    if (tier == NULL)
        return;
    moon_timer_stop(&tier->tick);
    if (tier->reading != NULL)
        moon_redis_cancel(tier->reading);
    MOON_LIST_EACH(at, after, &tier->queries)
    moon_cache_tier_cancel(MOON_LIST_ENTRY(at, struct moon_cache_tier_query, link));
    if (tier->purge_count > 0)
        moon_log_warn("cache: %zu purges were not told to other nodes", tier->purge_count);
    MOON_LIST_EACH(at, after, &tier->purges)
    {
        struct tier_purge *purge = MOON_LIST_ENTRY(at, struct tier_purge, link);
        if (purge->command != NULL)
            moon_redis_cancel(purge->command);
        purge_free(purge);
    }
    free(tier);
}

void moon_cache_tier_status(const struct moon_cache_tier *tier,
                            struct moon_cache_tier_status *status)
{
    *status = tier->status;
    status->purges_pending = tier->purge_count;
}
