/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/places.h"

#include "base/log.h"
#include "upstream/limits_internal.h"

#include <inttypes.h>

// A node that is not heard of for so long is dead to its limits; so it is to its places.
static int64_t place_ttl_ms(const struct moon_place *place)
{
    return place->limits->conf.node_ttl_ms;
}

// A sorted set: who holds a place, by when that ends. ARGV: who, for how long (ms), places.
static struct moon_redis_script place_take_script = {
    .body = "local t = redis.call('TIME')\n"
            "local now, ttl = t[1] * 1000 + math.floor(t[2] / 1000), tonumber(ARGV[2])\n"
            "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)\n"
            "if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3])\n"
            "  and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end\n"
            "redis.call('ZADD', KEYS[1], now + ttl, ARGV[1])\n"
            "redis.call('PEXPIRE', KEYS[1], ttl + 1000)\n"
            "return 1\n",
};

// Who holds a place goes on doing so, whatever became of the set in between (a fail-over).
static struct moon_redis_script place_renew_script = {
    .body = "local t = redis.call('TIME')\n"
            "local now, ttl = t[1] * 1000 + math.floor(t[2] / 1000), tonumber(ARGV[2])\n"
            "redis.call('ZADD', KEYS[1], now + ttl, ARGV[1])\n"
            "redis.call('PEXPIRE', KEYS[1], ttl + 1000)\n"
            "return 1\n",
};

// "prefix{places:name}"
static size_t place_key(const struct moon_place *place, char into[2 * LIMITS_NAME_BYTES])
{
    static const struct moon_limit_spec spec = {.id = "places", .id_len = 6};
    const struct moon_limits *limits = place->limits;
    size_t at = limits->prefix_len;
    memcpy(into, limits->prefix, at);
    into[at++] = '{';
    at += limits_name(&spec, place->name, 200, into + at);
    into[at++] = '}';
    return at;
}

static enum moon_rc place_eval(struct moon_place *place, struct moon_redis_script *script, int max,
                               moon_redis_fn *callback, void *owner,
                               struct moon_redis_command **command)
{
    char name[2 * LIMITS_NAME_BYTES], ttl[24], places[16];
    (void)snprintf(ttl, sizeof(ttl), "%" PRId64, place_ttl_ms(place));
    (void)snprintf(places, sizeof(places), "%d", max);
    const char *argv[] = {place->id.data, ttl, places};
    const size_t lens[] = {place->id.len, strlen(ttl), strlen(places)};
    size_t len = place_key(place, name);
    return moon_redis_eval(moon_limits_redis(place->limits), script, moon_slice(name, len),
                           (int)MOON_COUNT(argv), argv, lens, place->limits->conf.deadline_ms,
                           callback, owner, command);
}

// What comes of a renewal or of giving back: should it be lost, the place's time runs out.
static void place_ignore(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    (void)owner;
    (void)rc;
    (void)reply;
}

static void place_renew(struct moon_timer *timer)
{
    struct moon_place *place = timer->owner;
    enum moon_rc rc = place_eval(place, &place_renew_script, 0, place_ignore, NULL, NULL);
    if (rc != MOON_AGAIN)
        moon_log_debug("places: not renewed: %s", moon_rc_text(rc));
    moon_timer_set(&place->renew, place_ttl_ms(place) / 3);
}

static void place_answered(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    struct moon_place *place = owner;
    enum moon_place_answer answer = MOON_PLACE_UNKNOWN;
    int64_t taken = 0;
    place->command = NULL;
    if (rc == MOON_OK && reply->type == MOON_REDIS_INTEGER && moon_redis_integer(reply, &taken))
        answer = taken == 1 ? MOON_PLACE_HELD : MOON_PLACE_FULL;
    else if (rc == MOON_OK)
        moon_log_warn("places: the store answers a script with " MOON_SLICE_FMT,
                      MOON_SLICE_ARG(reply->text));
    if (answer == MOON_PLACE_HELD)
        moon_timer_set(&place->renew, place_ttl_ms(place) / 3);
    if (answer == MOON_PLACE_FULL)
        place->is_asked = false;
    place->callback(place->owner, answer);
}

enum moon_rc moon_place_take(struct moon_place *place, struct moon_limits *limits,
                             struct moon_loop *loop, struct moon_slice name, struct moon_slice id,
                             int max, moon_place_fn *callback, void *owner)
{
    *place = (struct moon_place){
        .limits = limits, .name = name, .id = id, .callback = callback, .owner = owner};
    moon_timer_init(&place->renew, loop, place_renew, place);
    enum moon_rc rc =
        place_eval(place, &place_take_script, max, place_answered, place, &place->command);
    place->is_asked = rc == MOON_AGAIN;
    return rc == MOON_AGAIN ? MOON_AGAIN : MOON_ERR_STORE;
}

void moon_place_give(struct moon_place *place)
{
    char name[2 * LIMITS_NAME_BYTES];
    if (place->command != NULL)
        moon_redis_cancel(place->command);
    place->command = NULL;
    if (!place->is_asked)
        return;
    moon_timer_stop(&place->renew);
    place->is_asked = false;
    size_t len = place_key(place, name);
    const char *argv[] = {"ZREM", name, place->id.data};
    const size_t lens[] = {4, len, place->id.len};
    if (moon_redis_command(moon_limits_redis(place->limits), (int)MOON_COUNT(argv), argv, lens, 1,
                           0, place_ignore, NULL, NULL) != MOON_AGAIN)
        moon_log_debug("places: not given back: it comes free by itself");
}
