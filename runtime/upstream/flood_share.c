/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/flood_share.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    SHARE_KEY_BYTES = 128,
    SHARE_ID_BYTES = 48,
    SHARE_POLL_MS = 500,
    SHARE_BATCH = 500,               // entries read at once
    SHARE_PENALTY_MAX_MS = 86400000, // a longer one is nobody's
};

struct moon_flood_share {
    struct moon_redis *redis;
    struct moon_flood *flood;
    const void *asker;
    struct moon_timer tick;
    struct moon_redis_command *reading; // NULL: none under way
    char key[SHARE_KEY_BYTES];
    char after[SHARE_ID_BYTES]; // "(ID": what was heard last
};

static void share_told(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    (void)owner; // may be gone
    if (rc == MOON_OK && reply->type == MOON_REDIS_ERROR)
        moon_log_warn("flood: the store refuses: %.*s", MOON_SLICE_ARG(reply->text));
}

void moon_flood_share_tell(struct moon_flood_share *share, struct moon_slice site,
                           const struct moon_ip *ip, int64_t penalty_ms)
{
    char address[MOON_IP_TEXT_BYTES], penalty[24];
    (void)moon_ip_format(ip, address);
    (void)snprintf(penalty, sizeof(penalty), "%" PRId64, penalty_ms);
    const char *argv[] = {"XADD", share->key, "MAXLEN", "~",     "65536", "*",
                          "site", site.data,  "ip",     address, "ms",    penalty};
    size_t lens[MOON_COUNT(argv)];
    for (size_t i = 0; i < MOON_COUNT(argv); i++)
        lens[i] = argv[i] == site.data ? site.len : strlen(argv[i]);
    enum moon_rc rc = moon_redis_command(share->redis, (int)MOON_COUNT(argv), argv, lens, 1, 0,
                                         share_told, NULL, NULL);
    if (rc != MOON_AGAIN)
        moon_log_debug("flood: the store is down; an address is not told to other nodes");
}

// Fields and values of an entry, in the order that share_tell gives them.
static bool share_apply(struct moon_flood_share *share, struct moon_slice id,
                        const struct moon_redis_reply *pairs)
{
    struct moon_ip ip;
    int64_t told_ms, penalty_ms;
    if (pairs->type != MOON_REDIS_ARRAY || pairs->count < 6 ||
        !moon_slice_number(moon_slice(id.data, moon_slice_find(id, '-')), &told_ms) ||
        !moon_ip_parse(pairs->elements[3]->text, &ip) ||
        !moon_redis_integer(pairs->elements[5], &penalty_ms) || penalty_ms <= 0 ||
        penalty_ms > SHARE_PENALTY_MAX_MS)
        return false;
    // By the store's clock and ours: seconds between them matter little beside a penalty.
    int64_t age_ms = moon_clock_wall_ms() - told_ms;
    int64_t left_ms = age_ms > 0 ? penalty_ms - age_ms : penalty_ms;
    if (left_ms > 0)
        moon_flood_hold(share->flood, pairs->elements[1]->text, &ip, moon_clock_ms(), left_ms);
    return true;
}

static void share_ask(struct moon_flood_share *share);

static void share_heard(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    struct moon_flood_share *share = owner;
    share->reading = NULL;
    if (rc != MOON_OK || reply->type != MOON_REDIS_ARRAY)
        return;
    for (size_t i = 0; i < reply->count; i++) {
        const struct moon_redis_reply *entry = reply->elements[i];
        if (entry->type != MOON_REDIS_ARRAY || entry->count != 2 ||
            entry->elements[0]->text.len + 2 > sizeof(share->after))
            return;
        struct moon_slice id = entry->elements[0]->text;
        (void)snprintf(share->after, sizeof(share->after), "(%.*s", MOON_SLICE_ARG(id));
        if (!share_apply(share, id, entry->elements[1]))
            moon_log_debug("flood: the store holds what no node of ours has told");
    }
    if (reply->count == SHARE_BATCH)
        share_ask(share);
}

static void share_ask(struct moon_flood_share *share)
{
    const char *argv[] = {"XRANGE", share->key, share->after, "+", "COUNT", "500"};
    size_t lens[MOON_COUNT(argv)];
    for (size_t i = 0; i < MOON_COUNT(argv); i++)
        lens[i] = strlen(argv[i]);
    if (moon_redis_command(share->redis, (int)MOON_COUNT(argv), argv, lens, 1, 0, share_heard,
                           share, &share->reading) != MOON_AGAIN)
        share->reading = NULL;
}

static void share_tick(struct moon_timer *timer)
{
    struct moon_flood_share *share = timer->owner;
    moon_timer_set(timer, SHARE_POLL_MS);
    if (share->reading == NULL && moon_flood_is_reader(share->flood, share->asker, moon_clock_ms()))
        share_ask(share);
}

struct moon_flood_share *moon_flood_share_new(struct moon_loop *loop, struct moon_redis *redis,
                                              struct moon_flood *flood, const void *asker,
                                              struct moon_slice prefix)
{
    struct moon_flood_share *share = calloc(1, sizeof(*share));
    if (share == NULL)
        return NULL;
    share->redis = redis;
    share->flood = flood;
    share->asker = asker;
    (void)snprintf(share->key, sizeof(share->key), "%.*sflood", (int)moon_min_size(prefix.len, 64),
                   prefix.data);
    (void)snprintf(share->after, sizeof(share->after), "-"); // from the start
    moon_timer_init(&share->tick, loop, share_tick, share);
    moon_timer_set(&share->tick, 1);
    return share;
}

void moon_flood_share_free(struct moon_flood_share *share)
{
    if (share == NULL)
        return;
    moon_timer_stop(&share->tick);
    if (share->reading != NULL)
        moon_redis_cancel(share->reading);
    free(share);
}
