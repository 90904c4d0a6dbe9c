/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "shared/store_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { STORE_EVICT_MOST = 256, STORE_CHAIN_MOST = 4096 };

static uint32_t store_shards_of(size_t bytes)
{
    size_t count = bytes / STORE_SHARD_BYTES;
    return count < 1 ? 1 : count > STORE_SHARDS ? STORE_SHARDS : (uint32_t)count;
}

static uint32_t store_power_of_two(size_t n)
{
    uint32_t p = 1;
    while (p < n && p < UINT32_C(1) << 31)
        p <<= 1;
    return p;
}

static size_t store_shard_bytes(size_t bytes)
{
    size_t top = (size_t)STORE_TOP_UNITS * STORE_UNIT;
    return bytes / store_shards_of(bytes) / top * top;
}

size_t moon_store_region_bytes(size_t bytes, int workers)
{
    size_t shards = store_shards_of(bytes), each = store_shard_bytes(bytes);
    size_t entries = each / STORE_ENTRY_EVERY;
    size_t index = entries * sizeof(struct store_entry) +
                   store_power_of_two(entries) * sizeof(uint32_t) + each / STORE_UNIT;
    return sizeof(struct moon_store) + shards * (sizeof(struct store_shard) + each + index + 1024) +
           (size_t)workers * STORE_PINS * sizeof(struct store_pin) + 65536;
}

static void shard_reset(struct store_shard *shard)
{
    store_memory_reset(shard);
    memset(shard->buckets, 0, (shard->bucket_mask + 1) * sizeof(*shard->buckets));
    shard->free_entries = shard->used_entries = 0;
    shard->head = shard->tail = shard->hand = 0;
    shard->objects = 0;
}

static bool shard_init(struct store_shard *shard, struct moon_region *region, size_t bytes)
{
    moon_lock_init(&shard->lock);
    shard->units = (uint32_t)(bytes / STORE_UNIT);
    shard->entry_count = (uint32_t)(bytes / STORE_ENTRY_EVERY);
    shard->bucket_mask = store_power_of_two(shard->entry_count) - 1;
    shard->memory = moon_region_carve(region, "cache objects", bytes);
    shard->orders = moon_region_carve(region, "cache blocks", shard->units);
    shard->entries =
        moon_region_carve(region, "cache entries", shard->entry_count * sizeof(*shard->entries));
    shard->buckets = moon_region_carve(region, "cache index",
                                       (shard->bucket_mask + 1) * sizeof(*shard->buckets));
    // Fresh pages are what shard_reset makes them; unwritten, they take no memory.
    return shard->memory != NULL && shard->orders != NULL && shard->entries != NULL &&
           shard->buckets != NULL;
}

struct moon_store *moon_store_new(struct moon_region *region, size_t bytes, int workers)
{
    MOON_ASSERT(workers >= 1 && workers <= MOON_STORE_WORKERS);
    struct moon_store *store = moon_region_carve(region, "cache", sizeof(*store));
    if (store == NULL)
        return NULL;
    store->shard_count = store_shards_of(bytes);
    size_t each = store_shard_bytes(bytes);
    store->bytes = each * store->shard_count;
    store->workers = workers;
    store->shards =
        moon_region_carve(region, "cache shards", store->shard_count * sizeof(*store->shards));
    store->pins = moon_region_carve(region, "cache pins",
                                    (size_t)workers * STORE_PINS * sizeof(*store->pins));
    if (store->shards == NULL || store->pins == NULL)
        return NULL;
    for (uint32_t i = 0; i < store->shard_count; i++) {
        if (!shard_init(&store->shards[i], region, each))
            return NULL;
    }
    for (int i = 0; i < workers; i++) {
        store->events[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (store->events[i] == -1)
            moon_log_warn("cache: no eventfd for worker %d: %m", i);
    }
    return store;
}

void moon_store_close(struct moon_store *store)
{
    for (int i = 0; store != NULL && i < store->workers; i++) {
        if (store->events[i] != -1)
            (void)close(store->events[i]);
        store->events[i] = -1;
    }
}

// ---- locking -----------------------------------------------------------------------------------

// Its last holder died inside: nothing in it can be believed. Its bytes may still be on their way
// out elsewhere, so they are left alone for a while.
static void shard_drop(struct moon_store *store, struct store_shard *shard)
{
    atomic_fetch_add(&shard->epoch, 1);
    atomic_fetch_add(&store->dropped, 1);
    memset(shard->buckets, 0, (shard->bucket_mask + 1) * sizeof(*shard->buckets));
    memset(shard->flights, 0, sizeof(shard->flights));
    shard->quarantine_until_us = moon_clock_real_us() + STORE_QUARANTINE_US;
    moon_log_error("cache: a worker died in a shard; its objects were dropped");
}

// @return false when the shard is of no use now; it is locked either way
static bool shard_lock(struct moon_store *store, struct store_shard *shard)
{
    if (MOON_UNLIKELY(!moon_lock_take(&shard->lock)))
        shard_drop(store, shard);
    if (MOON_LIKELY(shard->quarantine_until_us == 0))
        return true;
    if (moon_clock_real_us() < shard->quarantine_until_us)
        return false;
    shard_reset(shard);
    shard->quarantine_until_us = 0;
    return true;
}

static void shard_unlock(struct store_shard *shard)
{
    moon_lock_give(&shard->lock);
}

static uint32_t shard_of(const struct moon_store *store, struct moon_store_key key)
{
    return (uint32_t)(((key.hi >> 32) * store->shard_count) >> 32);
}

// ---- entries -----------------------------------------------------------------------------------

static uint32_t *entry_bucket(struct store_shard *shard, struct moon_store_key key)
{
    return &shard->buckets[key.lo & shard->bucket_mask];
}

static void queue_unlink(struct store_shard *shard, uint32_t index)
{
    struct store_entry *e = &shard->entries[index - 1];
    if (shard->hand == index)
        shard->hand = e->prev;
    if (e->prev != 0)
        shard->entries[e->prev - 1].next = e->next;
    else
        shard->head = e->next;
    if (e->next != 0)
        shard->entries[e->next - 1].prev = e->prev;
    else
        shard->tail = e->prev;
    e->prev = e->next = 0;
}

static void queue_push(struct store_shard *shard, uint32_t index)
{
    struct store_entry *e = &shard->entries[index - 1];
    e->prev = 0;
    e->next = shard->head;
    if (shard->head != 0)
        shard->entries[shard->head - 1].prev = index;
    shard->head = index;
    if (shard->tail == 0)
        shard->tail = index;
}

static void entry_free(struct store_shard *shard, uint32_t index)
{
    struct store_entry *e = &shard->entries[index - 1];
    for (uint32_t block = e->extent; block != 0;) {
        uint32_t next = store_extent_at(shard, block)->next;
        store_memory_give(shard, block);
        block = next;
    }
    e->extent = 0;
    e->state = STORE_FREE;
    e->chain = shard->free_entries;
    shard->free_entries = index;
}

// Takes it out of the index; its memory goes when the last pin does.
static void entry_kill(struct store_shard *shard, uint32_t index)
{
    struct store_entry *e = &shard->entries[index - 1];
    uint32_t *link = entry_bucket(shard, e->key);
    while (*link != 0 && *link != index)
        link = &shard->entries[*link - 1].chain;
    if (*link == index)
        *link = e->chain;
    queue_unlink(shard, index);
    shard->objects--;
    e->state = STORE_DEAD;
    if (e->pins == 0)
        entry_free(shard, index);
}

// SIEVE: the hand goes from the oldest on, spares once what was used, and takes the first other.
static bool shard_evict(struct moon_store *store, struct store_shard *shard)
{
    uint32_t at = shard->hand != 0 ? shard->hand : shard->tail;
    for (int steps = 0; at != 0 && steps < STORE_EVICT_MOST; steps++) {
        struct store_entry *e = &shard->entries[at - 1];
        uint32_t before = e->prev != 0 ? e->prev : shard->tail;
        if (!e->is_visited && e->pins == 0) {
            shard->hand = e->prev;
            entry_kill(shard, at);
            atomic_fetch_add_explicit(&store->evictions, 1, memory_order_relaxed);
            return true;
        }
        e->is_visited = false;
        at = before;
    }
    shard->hand = at;
    return false;
}

static uint32_t shard_take_block(struct moon_store *store, struct store_shard *shard,
                                 unsigned order)
{
    for (int tries = 0; tries < STORE_EVICT_MOST; tries++) {
        uint32_t block = store_memory_take(shard, order);
        if (block != STORE_NO_BLOCK || !shard_evict(store, shard)) {
            if (block != STORE_NO_BLOCK) {
                struct store_extent *extent = store_extent_at(shard, block);
                extent->next = 0;
                extent->used = 0;
                extent->cap = (uint32_t)(((size_t)STORE_UNIT << order) - sizeof(*extent));
            }
            return block;
        }
    }
    return STORE_NO_BLOCK;
}

static uint32_t shard_take_entry(struct moon_store *store, struct store_shard *shard)
{
    bool is_fresh = shard->free_entries == 0 && shard->used_entries < shard->entry_count;
    if (!is_fresh && shard->free_entries == 0 && !shard_evict(store, shard))
        return 0;
    uint32_t index = is_fresh ? ++shard->used_entries : shard->free_entries;
    if (index == 0)
        return 0;
    struct store_entry *e = &shard->entries[index - 1];
    if (!is_fresh)
        shard->free_entries = e->chain;
    memset(e, 0, sizeof(*e));
    return index;
}

static bool entry_is_good(const struct moon_store *store, const struct store_entry *e,
                          int64_t now_ms)
{
    if (now_ms >= e->info.keep_until_ms)
        return false;
    for (uint32_t i = 0; i < e->info.tag_count; i++) {
        const struct moon_store_tag *tag = &e->info.tags[i];
        if (atomic_load_explicit(&store->tags[tag->cell], memory_order_relaxed) != tag->generation)
            return false;
    }
    return true;
}

// ---- pins --------------------------------------------------------------------------------------

static struct store_pin *seat_pin(const struct moon_store_seat *seat, uint32_t pin)
{
    return &seat->store->pins[(size_t)seat->worker * STORE_PINS + pin];
}

// Under the shard's lock.
static bool seat_take_pin(struct moon_store_seat *seat, uint32_t shard_index, uint32_t entry,
                          uint32_t *pin)
{
    struct store_shard *shard = &seat->store->shards[shard_index];
    if (seat->free_pin_count == 0)
        return false;
    *pin = seat->free_pins[--seat->free_pin_count];
    *seat_pin(seat, *pin) =
        (struct store_pin){entry, (uint16_t)shard_index, (uint16_t)atomic_load(&shard->epoch)};
    shard->entries[entry - 1].pins++;
    return true;
}

// Under the shard's lock; an entry that was no object yet, or is none any more, goes with its last pin.
static void seat_give_pin(struct moon_store *store, struct store_pin *pin)
{
    struct store_shard *shard = &store->shards[pin->shard];
    struct store_entry *e = &shard->entries[pin->entry - 1];
    bool is_of_now = pin->epoch == (uint16_t)atomic_load(&shard->epoch);
    if (is_of_now && e->pins > 0 && --e->pins == 0 && e->state != STORE_LIVE)
        entry_free(shard, pin->entry);
    *pin = (struct store_pin){0};
}

struct moon_store *moon_store_of(const struct moon_store_seat *seat)
{
    return seat->store;
}

static void seat_wake(const struct moon_store *store, const struct store_flight *flight)
{
    for (int worker = 0; worker < store->workers; worker++) {
        uint64_t one = 1;
        bool is_waiting = (flight->waiters[worker / 64] >> (worker % 64) & 1) != 0;
        if (is_waiting && store->events[worker] != -1)
            (void)!write(store->events[worker], &one, sizeof(one)); // full: it is awake already
    }
}

// What a dead worker has left: pins, half-written objects, flights that others wait for.
static void seat_clean(struct moon_store *store, int worker)
{
    for (uint32_t i = 0; i < store->shard_count; i++) {
        struct store_shard *shard = &store->shards[i];
        struct store_flight ended = {0};
        (void)shard_lock(store, shard);
        for (uint32_t k = 0; k < STORE_PINS; k++) {
            struct store_pin *pin = &store->pins[(size_t)worker * STORE_PINS + k];
            if (pin->entry != 0 && pin->shard == i)
                seat_give_pin(store, pin);
        }
        for (int k = 0; k < STORE_FLIGHTS; k++) {
            struct store_flight *flight = &shard->flights[k];
            if (flight->pid != 0 && flight->worker == worker) {
                for (size_t w = 0; w < MOON_COUNT(ended.waiters); w++)
                    ended.waiters[w] |= flight->waiters[w];
                flight->pid = 0;
            }
        }
        shard_unlock(shard);
        seat_wake(store, &ended);
    }
}

struct moon_store_seat *moon_store_seat_new(struct moon_store *store, int worker)
{
    MOON_ASSERT(worker >= 0 && worker < store->workers);
    struct moon_store_seat *seat = calloc(1, sizeof(*seat));
    if (seat == NULL)
        return NULL;
    seat->free_pins = calloc(STORE_PINS, sizeof(*seat->free_pins));
    if (seat->free_pins == NULL) {
        free(seat);
        return NULL;
    }
    seat->store = store;
    seat->worker = worker;
    seat->pid = (int)getpid();
    seat_clean(store, worker);
    for (uint32_t i = 0; i < STORE_PINS; i++)
        seat->free_pins[i] = STORE_PINS - 1 - i;
    seat->free_pin_count = STORE_PINS;
    return seat;
}

void moon_store_seat_free(struct moon_store_seat *seat)
{
    if (seat == NULL)
        return;
    seat_clean(seat->store, seat->worker);
    free(seat->free_pins);
    free(seat);
}

int moon_store_seat_fd(const struct moon_store_seat *seat)
{
    return seat->store->events[seat->worker];
}

void moon_store_seat_clear(struct moon_store_seat *seat)
{
    uint64_t count;
    (void)!read(moon_store_seat_fd(seat), &count, sizeof(count)); // empty: nothing to clear
}

// ---- reading -----------------------------------------------------------------------------------

static struct moon_slice entry_head(const struct store_shard *shard, const struct store_entry *e)
{
    if (e->extent == 0)
        return moon_slice(NULL, 0);
    return moon_slice(store_extent_bytes(store_extent_at(shard, e->extent)), e->head_bytes);
}

static bool key_is(struct moon_store_key a, struct moon_store_key b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

static void object_fill(struct store_shard *shard, uint32_t index, struct moon_store_object *out)
{
    const struct store_entry *e = &shard->entries[index - 1];
    struct store_extent *first = store_extent_at(shard, e->extent);
    out->head = entry_head(shard, e);
    out->first = moon_slice(store_extent_bytes(first) + e->head_bytes, first->used - e->head_bytes);
    out->body_bytes = e->body_bytes;
    out->stamp_ms = e->info.stamp_ms;
    memcpy(out->facts, e->info.facts, sizeof(out->facts));
    out->is_copied = false;
    out->first_extent = e->extent;
    out->epoch = atomic_load_explicit(&shard->epoch, memory_order_relaxed);
}

// What lies in one block and fits: the lock is held already, and a pin would cost it a second time.
static bool object_copy(struct moon_store_object *object, char *room)
{
    size_t bytes = object->head.len + object->first.len;
    if (room == NULL || object->head.data == NULL || bytes > MOON_STORE_ROOM_BYTES ||
        object->first.len != object->body_bytes)
        return false;
    memcpy(room, object->head.data, bytes);
    object->head.data = room;
    object->first.data = room + object->head.len;
    object->is_copied = true;
    return true;
}

enum moon_store_found moon_store_find(struct moon_store_seat *seat, struct moon_store_key key,
                                      int64_t now_ms, moon_store_match_fn *match, void *arg,
                                      char *room, struct moon_store_object *out)
{
    struct moon_store *store = seat->store;
    uint32_t number = shard_of(store, key);
    struct store_shard *shard = &store->shards[number];
    enum moon_store_found found = MOON_STORE_NONE;
    uint32_t best = 0;
    out->seat = NULL;
    if (!shard_lock(store, shard)) {
        shard_unlock(shard);
        return found;
    }
    int steps = 0;
    for (uint32_t at = *entry_bucket(shard, key), next; at != 0 && steps++ < STORE_CHAIN_MOST;
         at = next) {
        struct store_entry *e = &shard->entries[at - 1];
        next = e->chain;
        if (!key_is(e->key, key))
            continue;
        if (!entry_is_good(store, e, now_ms)) {
            entry_kill(shard, at);
            continue;
        }
        if (e->info.is_marker)
            found = found < MOON_STORE_MARKER ? MOON_STORE_MARKER : found;
        else if (match != NULL && !match(&e->info, entry_head(shard, e), arg))
            found = found < MOON_STORE_OTHER ? MOON_STORE_OTHER : found;
        else if (best == 0 || e->info.stamp_ms > shard->entries[best - 1].info.stamp_ms)
            best = at;
    }
    if (best != 0) {
        object_fill(shard, best, out);
        if (object_copy(out, room) || seat_take_pin(seat, number, best, &out->pin)) {
            shard->entries[best - 1].is_visited = true;
            out->shard = number;
            out->seat = seat;
            found = MOON_STORE_OBJECT;
        }
    }
    shard_unlock(shard);
    return found;
}

static void seat_release(struct moon_store_seat *seat, uint32_t shard_index, uint32_t pin)
{
    struct store_shard *shard = &seat->store->shards[shard_index];
    (void)shard_lock(seat->store, shard);
    seat_give_pin(seat->store, seat_pin(seat, pin));
    shard_unlock(shard);
    seat->free_pins[seat->free_pin_count++] = pin;
}

void moon_store_release(struct moon_store_object *object)
{
    if (object->seat != NULL && !object->is_copied)
        seat_release(object->seat, object->shard, object->pin);
    object->seat = NULL;
}

bool moon_store_is_intact(const struct moon_store_object *object)
{
    const struct store_shard *shard = &object->seat->store->shards[object->shard];
    return object->is_copied ||
           atomic_load_explicit(&shard->epoch, memory_order_relaxed) == object->epoch;
}

void moon_store_rewind(const struct moon_store_object *object, struct moon_store_cursor *cursor)
{
    if (object->is_copied)
        *cursor = (struct moon_store_cursor){0, 0};
    else
        *cursor = (struct moon_store_cursor){object->first_extent, (uint32_t)object->head.len};
}

struct moon_slice moon_store_next(const struct moon_store_object *object,
                                  struct moon_store_cursor *cursor, uint64_t most)
{
    const struct store_shard *shard = &object->seat->store->shards[object->shard];
    if (object->is_copied) {
        struct moon_slice run = moon_slice_from(object->first, cursor->used);
        run.len = run.len > most ? (size_t)most : run.len;
        cursor->used += (uint32_t)run.len;
        return run;
    }
    while (cursor->extent != 0 && most > 0) {
        struct store_extent *extent = store_extent_at(shard, cursor->extent);
        if (cursor->used < extent->used) {
            size_t n = extent->used - cursor->used;
            n = n > most ? (size_t)most : n;
            struct moon_slice run = moon_slice(store_extent_bytes(extent) + cursor->used, n);
            cursor->used += (uint32_t)n;
            return run;
        }
        *cursor = (struct moon_store_cursor){extent->next, 0};
    }
    return moon_slice(NULL, 0);
}

void moon_store_skip(const struct moon_store_object *object, struct moon_store_cursor *cursor,
                     uint64_t bytes)
{
    while (bytes > 0) {
        struct moon_slice run = moon_store_next(object, cursor, bytes);
        if (run.len == 0)
            return;
        bytes -= run.len;
    }
}

// ---- writing -----------------------------------------------------------------------------------

uint64_t moon_store_small_bytes(const struct moon_store *store)
{
    return store->bytes / 100;
}

// Large objects are refused until they are asked for again.
static bool shard_admits(struct moon_store *store, struct store_shard *shard,
                         struct moon_store_key key, uint64_t bytes)
{
    uint64_t *ghost = &shard->ghosts[key.lo >> 32 & (STORE_GHOSTS - 1)];
    if (bytes > (uint64_t)shard->units * STORE_UNIT / 4) {
        atomic_fetch_add_explicit(&store->refused, 1, memory_order_relaxed);
        return false;
    }
    if (bytes <= moon_store_small_bytes(store) || *ghost == (key.hi ^ key.lo))
        return true;
    *ghost = key.hi ^ key.lo;
    atomic_fetch_add_explicit(&store->refused, 1, memory_order_relaxed);
    return false;
}

bool moon_store_begin(struct moon_store_seat *seat, struct moon_store_key key,
                      struct moon_slice head, int64_t expected_body, struct moon_store_writer *out)
{
    struct moon_store *store = seat->store;
    uint32_t number = shard_of(store, key);
    struct store_shard *shard = &store->shards[number];
    uint64_t total = head.len + (uint64_t)(expected_body > 0 ? expected_body : 0);
    size_t top = ((size_t)STORE_UNIT << (STORE_ORDERS - 1)) - sizeof(struct store_extent);
    *out = (struct moon_store_writer){0};
    if (head.len > top)
        return false;
    uint64_t first = total + (expected_body < 0 ? 4096 : 0);
    unsigned order =
        store_memory_order((first > top ? top : (size_t)first) + sizeof(struct store_extent));
    bool is_good = shard_lock(store, shard) && shard_admits(store, shard, key, total);
    uint32_t index = is_good ? shard_take_entry(store, shard) : 0;
    if (index != 0) {
        struct store_entry *e = &shard->entries[index - 1];
        e->key = key;
        e->state = STORE_FILLING;
        e->extent = e->last_extent = shard_take_block(store, shard, order);
        e->head_bytes = (uint32_t)head.len;
        if (e->extent == STORE_NO_BLOCK || !seat_take_pin(seat, number, index, &out->pin)) {
            entry_free(shard, index);
            index = 0;
        } else {
            out->epoch = atomic_load(&shard->epoch);
            out->last_extent = e->extent;
        }
    }
    shard_unlock(shard);
    if (index == 0)
        return false;
    struct store_extent *extent = store_extent_at(shard, out->last_extent);
    memcpy(store_extent_bytes(extent), head.data, head.len);
    extent->used = (uint32_t)head.len;
    out->seat = seat;
    out->key = key;
    out->shard = number;
    out->entry = index;
    return true;
}

// Another block, twice as large as the last where there is room for it.
static bool writer_grow(struct moon_store_writer *w, size_t wanted)
{
    struct moon_store *store = w->seat->store;
    struct store_shard *shard = &store->shards[w->shard];
    struct store_entry *e = &shard->entries[w->entry - 1];
    bool is_good = shard_lock(store, shard) && atomic_load(&shard->epoch) == w->epoch &&
                   shard_admits(store, shard, w->key, w->body_bytes + wanted);
    uint32_t block = STORE_NO_BLOCK;
    if (is_good) {
        size_t last = store_extent_at(shard, w->last_extent)->cap + sizeof(struct store_extent);
        size_t size = moon_max_size(last * 2, wanted + sizeof(struct store_extent));
        unsigned order = store_memory_order(size);
        if (order >= STORE_ORDERS)
            order = STORE_ORDERS - 1;
        do {
            block = shard_take_block(store, shard, order);
        } while (block == STORE_NO_BLOCK && order-- > 3);
    }
    if (block != STORE_NO_BLOCK) {
        store_extent_at(shard, w->last_extent)->next = block;
        e->last_extent = w->last_extent = block;
    }
    shard_unlock(shard);
    return block != STORE_NO_BLOCK;
}

bool moon_store_write(struct moon_store_writer *w, struct moon_slice data)
{
    const struct store_shard *shard = &w->seat->store->shards[w->shard];
    while (data.len > 0) {
        if (atomic_load_explicit(&shard->epoch, memory_order_relaxed) != w->epoch) {
            moon_store_abort(w);
            return false;
        }
        struct store_extent *extent = store_extent_at(shard, w->last_extent);
        size_t n = moon_min_size(extent->cap - extent->used, data.len);
        if (n == 0) {
            if (!writer_grow(w, data.len)) {
                moon_store_abort(w);
                return false;
            }
            continue;
        }
        memcpy(store_extent_bytes(extent) + extent->used, data.data, n);
        extent->used += (uint32_t)n;
        w->body_bytes += n;
        data = moon_slice_from(data, n);
    }
    return true;
}

// Takes out what the new object replaces: the same variant, markers, and the oldest of too many.
static void shard_replace(struct store_shard *shard, struct moon_store_key key, uint64_t variant,
                          bool is_marker)
{
    uint32_t oldest = 0;
    int count = 0, steps = 0;
    for (uint32_t at = *entry_bucket(shard, key), next; at != 0 && steps++ < STORE_CHAIN_MOST;
         at = next) {
        struct store_entry *e = &shard->entries[at - 1];
        next = e->chain;
        if (!key_is(e->key, key))
            continue;
        if (e->info.is_marker || (!is_marker && e->info.variant == variant)) {
            entry_kill(shard, at);
            continue;
        }
        count++;
        if (oldest == 0 || e->info.stamp_ms < shard->entries[oldest - 1].info.stamp_ms)
            oldest = at;
    }
    if (count >= MOON_STORE_VARIANTS)
        entry_kill(shard, oldest);
}

static void shard_publish(struct store_shard *shard, uint32_t index,
                          const struct moon_store_info *info, uint64_t body_bytes)
{
    struct store_entry *e = &shard->entries[index - 1];
    shard_replace(shard, e->key, info->variant, info->is_marker);
    e->info = *info;
    e->body_bytes = body_bytes;
    e->state = STORE_LIVE;
    uint32_t *bucket = entry_bucket(shard, e->key);
    e->chain = *bucket;
    *bucket = index;
    queue_push(shard, index);
    shard->objects++;
}

bool moon_store_commit(struct moon_store_writer *w, const struct moon_store_info *info)
{
    struct moon_store_seat *seat = w->seat;
    struct store_shard *shard = &seat->store->shards[w->shard];
    bool is_good = shard_lock(seat->store, shard) && atomic_load(&shard->epoch) == w->epoch;
    if (is_good)
        shard_publish(shard, w->entry, info, w->body_bytes);
    seat_give_pin(seat->store, seat_pin(seat, w->pin));
    shard_unlock(shard);
    seat->free_pins[seat->free_pin_count++] = w->pin;
    w->seat = NULL;
    return is_good;
}

void moon_store_abort(struct moon_store_writer *w)
{
    if (w->seat == NULL)
        return;
    seat_release(w->seat, w->shard, w->pin);
    w->seat = NULL;
}

void moon_store_mark(struct moon_store_seat *seat, struct moon_store_key key,
                     const struct moon_store_info *info)
{
    struct store_shard *shard = &seat->store->shards[shard_of(seat->store, key)];
    if (shard_lock(seat->store, shard)) {
        uint32_t index = shard_take_entry(seat->store, shard);
        if (index != 0) {
            shard->entries[index - 1].key = key;
            shard_publish(shard, index, info, 0);
        }
    }
    shard_unlock(shard);
}

void moon_store_remove(struct moon_store_seat *seat, struct moon_store_key key)
{
    struct store_shard *shard = &seat->store->shards[shard_of(seat->store, key)];
    if (shard_lock(seat->store, shard)) {
        for (uint32_t at = *entry_bucket(shard, key), next; at != 0; at = next) {
            next = shard->entries[at - 1].chain;
            if (key_is(shard->entries[at - 1].key, key))
                entry_kill(shard, at);
        }
    }
    shard_unlock(shard);
}

struct moon_store_tag moon_store_tag(const struct moon_store *store, uint64_t hash)
{
    uint32_t cell = (uint32_t)(hash % STORE_TAG_CELLS);
    return (struct moon_store_tag){cell,
                                   atomic_load_explicit(&store->tags[cell], memory_order_relaxed)};
}

void moon_store_purge(struct moon_store *store, uint64_t hash)
{
    atomic_fetch_add(&store->tags[hash % STORE_TAG_CELLS], 1);
}

void moon_store_figures(const struct moon_store *store, struct moon_store_figures *out)
{
    *out = (struct moon_store_figures){
        .bytes = store->bytes,
        .evictions = atomic_load(&store->evictions),
        .dropped_shards = atomic_load(&store->dropped),
        .refused = atomic_load(&store->refused),
    };
    for (uint32_t i = 0; i < store->shard_count; i++) {
        out->used_bytes += store->shards[i].used_bytes; // torn reads are harmless
        out->objects += store->shards[i].objects;
    }
}

// ---- flights -----------------------------------------------------------------------------------

static bool flight_is_dead(const struct store_flight *flight)
{
    return kill(flight->pid, 0) == -1 && errno == ESRCH;
}

enum moon_flight moon_store_flight_begin(struct moon_store_seat *seat, struct moon_store_key key,
                                         bool is_waiting)
{
    struct store_shard *shard = &seat->store->shards[shard_of(seat->store, key)];
    struct store_flight *place = NULL;
    enum moon_flight result = MOON_FLIGHT_FULL;
    if (!shard_lock(seat->store, shard)) {
        shard_unlock(shard);
        return result;
    }
    for (int i = 0; i < STORE_FLIGHTS; i++) {
        struct store_flight *flight = &shard->flights[i];
        if (flight->pid == 0) {
            place = place == NULL ? flight : place;
        } else if (key_is(flight->key, key)) {
            bool is_ours = flight->pid == seat->pid && flight->worker == seat->worker;
            if (!is_ours && flight_is_dead(flight)) {
                place = flight;
                break;
            }
            if (is_waiting)
                flight->waiters[seat->worker / 64] |= UINT64_C(1) << (seat->worker % 64);
            result = MOON_FLIGHT_WAIT;
            place = NULL;
            break;
        }
    }
    if (result != MOON_FLIGHT_WAIT && place != NULL) {
        // Those who wait for a dead filler's flight wait for ours now.
        bool is_taken_over = place->pid != 0;
        place->key = key;
        place->pid = seat->pid;
        place->worker = seat->worker;
        if (!is_taken_over)
            memset(place->waiters, 0, sizeof(place->waiters));
        result = MOON_FLIGHT_OURS;
    }
    shard_unlock(shard);
    return result;
}

void moon_store_flight_end(struct moon_store_seat *seat, struct moon_store_key key)
{
    struct store_shard *shard = &seat->store->shards[shard_of(seat->store, key)];
    struct store_flight ended = {0};
    (void)shard_lock(seat->store, shard);
    for (int i = 0; i < STORE_FLIGHTS; i++) {
        struct store_flight *flight = &shard->flights[i];
        if (flight->pid == seat->pid && flight->worker == seat->worker &&
            key_is(flight->key, key)) {
            ended = *flight;
            flight->pid = 0;
            break;
        }
    }
    shard_unlock(shard);
    seat_wake(seat->store, &ended);
}
