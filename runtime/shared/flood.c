/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/flood.h"

#include "base/hash.h"
#include "base/macros.h"

#include <math.h>
#include <stdatomic.h>

enum {
    FLOOD_CLIENTS = 1 << 16,
    FLOOD_RUN = 16,          // cells that an address may lie in
    FLOOD_WINDOW_MS = 5000,  // of an address
    FLOOD_HOLD_MS = 30000,   // a flood lasts that long after the rate was last above the threshold
    FLOOD_GAP_S = 3600,      // a longer silence is one of this length
    FLOOD_MEMORY_S = 1800,   // over which a site's mean is taken
    FLOOD_TELLER_MS = 15000, // silent that long, another takes over
    FLOOD_READER_MS = 3000,
    FLOOD_SLICE_MS = 300, // after so long the next part of the addresses is counted
    FLOOD_SLICES = 16,
    FLOOD_CLIENT_MEMORY = 500, // windows over which the callers' mean is taken
};

enum { FLOOD_BEING_MADE = 1 }; // a key that no address has

// What one worker at a time does.
struct flood_office {
    _Atomic uintptr_t holder;
    _Atomic int64_t used_ms;
};

struct flood_client {
    _Alignas(64) _Atomic uint64_t key; // 0: free
    _Atomic uint64_t window;           // number of the window (32 bits), requests in it (32)
    _Atomic uint32_t before;           // requests in the window before
    _Atomic uint32_t site;
    _Atomic int64_t boxed_until_ms; // 0: is in no box
    _Atomic int64_t used_ms;
    _Atomic double usual; // requests in a window while it is active; 0: nothing learnt
};

struct flood_site {
    _Alignas(64) _Atomic uint64_t key; // 0: free
    _Atomic int64_t second;            // that is counted now
    _Atomic uint32_t count, refused_count;
    _Atomic uint32_t before; // of the second before
    _Atomic int64_t flooded_until_ms;
    _Atomic int64_t began_ms;
    _Atomic double mean, deviation;               // requests per second
    _Atomic double learnt_s;                      // seconds that these were made of
    _Atomic double client_mean, client_deviation; // requests of an address in a window
    _Atomic double client_windows;
    _Atomic double hours[24]; // mean by hour of the day (UTC)
    _Atomic double threshold; // last computed
    _Atomic uint64_t held, refused;
    _Atomic uint32_t boxed;     // addresses in the box, at the last count
    _Atomic uint32_t counting;  // .. in the one that is under way
    struct flood_office teller; // of the gauges
};

struct moon_flood {
    struct flood_office reader; // of what other nodes tell
    _Atomic int64_t swept_ms;
    _Atomic uint32_t slice; // that is counted next
    struct flood_site sites[MOON_FLOOD_SITES];
    struct flood_client clients[FLOOD_CLIENTS + FLOOD_RUN];
};

/// How far past the usual is too far.
struct flood_factors {
    double site, client;
};

static const struct flood_factors flood_factors[] = {
    [MOON_FLOOD_LOW] = {5, 6}, [MOON_FLOOD_MEDIUM] = {3, 3}, [MOON_FLOOD_HIGH] = {1.7, 1.5}};

static double flood_get(_Atomic double *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void flood_set(_Atomic double *value, double to)
{
    atomic_store_explicit(value, to, memory_order_relaxed);
}

size_t moon_flood_bytes(void)
{
    return sizeof(struct moon_flood);
}

struct moon_flood *moon_flood_new(struct moon_region *region)
{
    return moon_region_carve(region, "flood", sizeof(struct moon_flood));
}

// @return the site's number; -1: there is none, and none is made or there is no room for it
static int flood_find_site(struct moon_flood *flood, uint64_t key, bool may_make)
{
    for (size_t i = 0; i < MOON_FLOOD_SITES; i++) {
        size_t at = (key + i) % MOON_FLOOD_SITES;
        uint64_t found = atomic_load(&flood->sites[at].key);
        if (found == 0 && !may_make)
            return -1;
        if (found == key ||
            (found == 0 &&
             (atomic_compare_exchange_strong(&flood->sites[at].key, &found, key) || found == key)))
            return (int)at;
    }
    return -1;
}

int moon_flood_site(struct moon_flood *flood, struct moon_slice name)
{
    return flood_find_site(flood, moon_hash(name) | 2, true);
}

// ---- what is usual at a site -------------------------------------------------------------------

static size_t flood_hour(int64_t wall_ms)
{
    return (size_t)((wall_ms / 3600000) % 24);
}

static double flood_threshold(struct flood_site *site, const struct moon_flood_conf *conf,
                              int64_t wall_ms)
{
    if (conf->threshold > 0)
        return conf->threshold;
    double usual = fmax(flood_get(&site->mean), flood_get(&site->hours[flood_hour(wall_ms)]));
    double factor = flood_factors[conf->sensitivity].site;
    return fmax(conf->minimum_rate,
                fmax(usual * factor, usual + 2 * factor * flood_get(&site->deviation)));
}

// One more second with so many requests.
static void flood_learn_second(struct flood_site *site, double count, int64_t wall_ms)
{
    double n = flood_get(&site->learnt_s) + 1;
    double weight = fmax(1 / n, 1.0 / FLOOD_MEMORY_S);
    double mean = flood_get(&site->mean);
    double deviation = flood_get(&site->deviation);
    _Atomic double *hour = &site->hours[flood_hour(wall_ms)];
    flood_set(&site->mean, mean + weight * (count - mean));
    flood_set(&site->deviation, deviation + weight * (fabs(count - mean) - deviation));
    flood_set(hour, flood_get(hour) + weight * (count - flood_get(hour)));
    flood_set(&site->learnt_s, n);
}

// Seconds without a request: the mean forgets at once what a loop would forget step by step.
static void flood_learn_silence(struct flood_site *site, int64_t seconds)
{
    double n = flood_get(&site->learnt_s);
    double s = (double)seconds;
    double kept = n < FLOOD_MEMORY_S ? n / (n + s) : pow(1 - 1.0 / FLOOD_MEMORY_S, s);
    double mean = flood_get(&site->mean);
    flood_set(&site->mean, mean * kept);
    flood_set(&site->deviation, flood_get(&site->deviation) * kept + mean * kept * (1 - kept));
    flood_set(&site->learnt_s, n + s);
}

static bool flood_is_on(struct flood_site *site, int64_t now_ms)
{
    return now_ms < atomic_load_explicit(&site->flooded_until_ms, memory_order_relaxed);
}

// The first request of a second closes the one before.
static void flood_turn(struct flood_site *site, int64_t second, int64_t now_ms, int64_t wall_ms)
{
    int64_t counted = atomic_load_explicit(&site->second, memory_order_relaxed);
    if (second <= counted || !atomic_compare_exchange_strong(&site->second, &counted, second))
        return;
    uint32_t count = atomic_exchange(&site->count, 0);
    uint32_t refused = atomic_exchange(&site->refused_count, 0);
    int64_t gap = counted == 0 ? 0 : second - counted - 1;
    atomic_store(&site->before, gap == 0 ? count : 0);
    if (counted == 0) {
        atomic_store(&site->began_ms, now_ms);
        return;
    }
    if (flood_is_on(site, now_ms))
        return;
    flood_learn_second(site, count > refused ? count - refused : 0, wall_ms);
    if (gap > 0)
        flood_learn_silence(site, gap < FLOOD_GAP_S ? gap : FLOOD_GAP_S);
}

static bool flood_has_learnt(struct flood_site *site, const struct moon_flood_conf *conf,
                             int64_t now_ms)
{
    return conf->threshold > 0 ||
           now_ms - atomic_load_explicit(&site->began_ms, memory_order_relaxed) >= conf->learn_ms;
}

// Counts a request at its site. @return whether the site is under flood
static bool flood_count(struct flood_site *site, const struct moon_flood_conf *conf, int64_t now_ms,
                        int64_t wall_ms)
{
    flood_turn(site, now_ms / 1000, now_ms, wall_ms);
    uint32_t here = atomic_fetch_add_explicit(&site->count, 1, memory_order_relaxed) + 1;
    double left = (double)(1000 - now_ms % 1000) / 1000;
    double rate = here + left * atomic_load_explicit(&site->before, memory_order_relaxed);
    double threshold = flood_threshold(site, conf, wall_ms);
    flood_set(&site->threshold, threshold);
    if (rate > threshold && flood_has_learnt(site, conf, now_ms))
        atomic_store_explicit(&site->flooded_until_ms, now_ms + FLOOD_HOLD_MS,
                              memory_order_relaxed);
    return flood_is_on(site, now_ms);
}

// ---- addresses ---------------------------------------------------------------------------------

static uint64_t flood_client_key(int site, const struct moon_ip *ip)
{
    uint8_t bytes[20];
    size_t kept = moon_ip_is_v4(ip) ? 16 : 8;
    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, ip->bytes, kept);
    memcpy(bytes + 16, &site, sizeof(site));
    return moon_hash(moon_slice((const char *)bytes, sizeof(bytes))) | 2;
}

// Of two cells, the one that is missed less: unboxed before boxed, then the longer unused.
static bool flood_is_lesser(struct flood_client *a, struct flood_client *b, int64_t now_ms)
{
    bool a_boxed = atomic_load_explicit(&a->boxed_until_ms, memory_order_relaxed) > now_ms;
    bool b_boxed = atomic_load_explicit(&b->boxed_until_ms, memory_order_relaxed) > now_ms;
    if (a_boxed != b_boxed)
        return b_boxed;
    return atomic_load_explicit(&a->used_ms, memory_order_relaxed) <
           atomic_load_explicit(&b->used_ms, memory_order_relaxed);
}

// Takes a cell for an address. @return NULL when another worker was faster
static struct flood_client *flood_take(struct flood_client *cell, uint64_t key, int site)
{
    uint64_t old = atomic_load(&cell->key);
    if (old == FLOOD_BEING_MADE ||
        !atomic_compare_exchange_strong(&cell->key, &old, FLOOD_BEING_MADE))
        return NULL;
    atomic_store(&cell->window, 0);
    atomic_store(&cell->before, 0);
    atomic_store(&cell->site, (uint32_t)site);
    atomic_store(&cell->boxed_until_ms, 0);
    flood_set(&cell->usual, 0);
    atomic_store(&cell->key, key);
    return cell;
}

// @return NULL where two workers want one cell: the request goes uncounted
static struct flood_client *flood_client(struct moon_flood *flood, int site,
                                         const struct moon_ip *ip, int64_t now_ms)
{
    uint64_t key = flood_client_key(site, ip);
    struct flood_client *run = &flood->clients[(key >> 16) % FLOOD_CLIENTS];
    struct flood_client *least = NULL;
    for (size_t i = 0; i < FLOOD_RUN; i++) {
        uint64_t found = atomic_load_explicit(&run[i].key, memory_order_acquire);
        if (found == key)
            return &run[i];
        if (found == 0) {
            least = &run[i];
            break;
        }
        if (found == FLOOD_BEING_MADE)
            continue; // and stays it where its maker has died
        if (least == NULL || flood_is_lesser(&run[i], least, now_ms))
            least = &run[i];
    }
    return least == NULL ? NULL : flood_take(least, key, site);
}

// A finished window of an address, for its own baseline and the one of all callers.
static void flood_learn_client(struct flood_site *site, struct flood_client *client, double count)
{
    double own = flood_get(&client->usual);
    flood_set(&client->usual, own == 0 ? count : own + 0.2 * (count - own));
    double n = flood_get(&site->client_windows) + 1;
    double weight = fmax(1 / n, 1.0 / FLOOD_CLIENT_MEMORY);
    double mean = flood_get(&site->client_mean);
    double deviation = flood_get(&site->client_deviation);
    flood_set(&site->client_mean, mean + weight * (count - mean));
    flood_set(&site->client_deviation, deviation + weight * (fabs(count - mean) - deviation));
    flood_set(&site->client_windows, n);
}

// Counts a request of an address. @return requests in the last five seconds, about
static double flood_count_client(struct flood_site *site, struct flood_client *client,
                                 int64_t now_ms, bool is_flooded)
{
    uint32_t window = (uint32_t)(now_ms / FLOOD_WINDOW_MS);
    uint64_t word = atomic_load_explicit(&client->window, memory_order_relaxed);
    for (;;) {
        uint32_t of = (uint32_t)(word >> 32), count = (uint32_t)word;
        uint64_t next = of == window ? word + 1 : ((uint64_t)window << 32) | 1;
        if (!atomic_compare_exchange_weak(&client->window, &word, next))
            continue;
        if (of != window) {
            atomic_store(&client->before, window - of == 1 ? count : 0);
            if (count > 0 && !is_flooded)
                flood_learn_client(site, client, count);
        }
        double left = 1 - (double)(now_ms % FLOOD_WINDOW_MS) / FLOOD_WINDOW_MS;
        return (double)(uint32_t)next +
               left * atomic_load_explicit(&client->before, memory_order_relaxed);
    }
}

// What an address may do in five seconds while its site is under flood. Its own baseline counts up
// to ten times the general one, so that nobody can train himself to any height.
static double flood_allowance(struct flood_site *site, struct flood_client *client,
                              const struct moon_flood_conf *conf, bool is_suspect)
{
    double general = flood_get(&site->client_mean) + 2 * flood_get(&site->client_deviation);
    double least = conf->minimum_client * FLOOD_WINDOW_MS / 1000;
    double own = fmin(flood_get(&client->usual), fmax(least, 10 * general));
    double factor = flood_factors[conf->sensitivity].client;
    double allowed = fmax(least, factor * fmax(own, general));
    return is_suspect ? allowed / 3 : allowed;
}

enum moon_flood_verdict moon_flood_check(struct moon_flood *flood, int number,
                                         const struct moon_flood_conf *conf,
                                         const struct moon_ip *ip, bool is_suspect, int64_t now_ms,
                                         int64_t wall_ms, int64_t *retry_ms)
{
    struct flood_site *site = &flood->sites[number];
    bool is_flooded = flood_count(site, conf, now_ms, wall_ms);
    struct flood_client *client = flood_client(flood, number, ip, now_ms);
    if (client == NULL)
        return MOON_FLOOD_PASS;
    atomic_store_explicit(&client->used_ms, now_ms, memory_order_relaxed);
    int64_t boxed_until = atomic_load_explicit(&client->boxed_until_ms, memory_order_relaxed);
    if (boxed_until > now_ms) {
        atomic_fetch_add_explicit(&site->refused_count, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&site->refused, 1, memory_order_relaxed);
        *retry_ms = boxed_until - now_ms;
        return MOON_FLOOD_BOXED;
    }
    double rate = flood_count_client(site, client, now_ms, is_flooded);
    if (!is_flooded || rate <= flood_allowance(site, client, conf, is_suspect))
        return MOON_FLOOD_PASS;
    atomic_store(&client->boxed_until_ms, now_ms + conf->penalty_ms);
    atomic_fetch_add_explicit(&site->refused_count, 1, memory_order_relaxed);
    atomic_fetch_add(&site->held, 1);
    atomic_fetch_add(&site->refused, 1);
    *retry_ms = conf->penalty_ms;
    return MOON_FLOOD_HELD;
}

void moon_flood_hold(struct moon_flood *flood, struct moon_slice name, const struct moon_ip *ip,
                     int64_t now_ms, int64_t penalty_ms)
{
    int number = flood_find_site(flood, moon_hash(name) | 2, false);
    struct flood_client *client = number == -1 ? NULL : flood_client(flood, number, ip, now_ms);
    if (client == NULL)
        return;
    int64_t until_ms = now_ms + penalty_ms;
    int64_t before = atomic_load(&client->boxed_until_ms);
    atomic_store_explicit(&client->used_ms, now_ms, memory_order_relaxed);
    while (before < until_ms &&
           !atomic_compare_exchange_weak(&client->boxed_until_ms, &before, until_ms))
        continue;
}

void moon_flood_sweep(struct moon_flood *flood, int64_t now_ms)
{
    int64_t before = atomic_load_explicit(&flood->swept_ms, memory_order_relaxed);
    if (now_ms - before < FLOOD_SLICE_MS ||
        !atomic_compare_exchange_strong(&flood->swept_ms, &before, now_ms))
        return;
    enum { CELLS = MOON_COUNT(flood->clients), PART = (CELLS + FLOOD_SLICES - 1) / FLOOD_SLICES };
    uint32_t slice = atomic_load(&flood->slice) % FLOOD_SLICES;
    size_t end = moon_min_size((size_t)(slice + 1) * PART, CELLS);
    for (size_t i = (size_t)slice * PART; i < end; i++) {
        struct flood_client *client = &flood->clients[i];
        if (atomic_load_explicit(&client->boxed_until_ms, memory_order_relaxed) > now_ms) {
            uint32_t site = atomic_load_explicit(&client->site, memory_order_relaxed);
            atomic_fetch_add(&flood->sites[site % MOON_FLOOD_SITES].counting, 1);
        }
    }
    atomic_store(&flood->slice, (slice + 1) % FLOOD_SLICES);
    for (size_t i = 0; slice + 1 == FLOOD_SLICES && i < MOON_FLOOD_SITES; i++)
        atomic_store(&flood->sites[i].boxed, atomic_exchange(&flood->sites[i].counting, 0));
}

void moon_flood_read(struct moon_flood *flood, int number, int64_t now_ms,
                     struct moon_flood_report *out)
{
    struct flood_site *site = &flood->sites[number];
    *out = (struct moon_flood_report){
        .rate = atomic_load(&site->before),
        .usual = flood_get(&site->mean),
        .threshold = flood_get(&site->threshold),
        .client_usual = flood_get(&site->client_mean) * 1000 / FLOOD_WINDOW_MS,
        .learnt_ms = now_ms - atomic_load(&site->began_ms),
        .is_flooded = flood_is_on(site, now_ms),
        .held = atomic_load(&site->held),
        .refused = atomic_load(&site->refused),
        .boxed = atomic_load(&site->boxed),
    };
}

// Whether the asker holds the office, or gets it: from nobody, or from one who was silent for `ms`.
static bool office_is_held(struct flood_office *office, const void *asker, int64_t now_ms,
                           int64_t ms)
{
    uintptr_t holder = atomic_load(&office->holder);
    if (holder != (uintptr_t)asker) {
        if (holder != 0 && now_ms - atomic_load(&office->used_ms) < ms)
            return false;
        if (!atomic_compare_exchange_strong(&office->holder, &holder, (uintptr_t)asker))
            return false;
    }
    atomic_store(&office->used_ms, now_ms);
    return true;
}

bool moon_flood_is_reader(struct moon_flood *flood, const void *asker, int64_t now_ms)
{
    return office_is_held(&flood->reader, asker, now_ms, FLOOD_READER_MS);
}

bool moon_flood_is_teller(struct moon_flood *flood, int number, const void *asker, int64_t now_ms)
{
    return office_is_held(&flood->sites[number].teller, asker, now_ms, FLOOD_TELLER_MS);
}
