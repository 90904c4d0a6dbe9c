/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/log.h"
#include "upstream/redis_internal.h"

// Two connections to one Sentinel at a time: one asks who the master is, one listens for
// +switch-master. When either breaks, it goes on to the next Sentinel.

enum {
    SENTINEL_CALM_MS = 10000,  // asked again while the master answers
    SENTINEL_WORRY_MS = 250,   // and while it does not
    SENTINEL_ANSWER_MS = 1000, // a Sentinel's answer to one question
};

struct redis_sentinel {
    struct moon_redis *redis;
    struct redis_conn *asker, *listener;
    size_t next; // of the addresses
    struct moon_timer poll;
    bool is_asking;
    bool is_ignorant;     // the one that was asked does not know the master
    bool is_unknown_told; // which is in the log
};

static void sentinel_move(struct redis_sentinel *s, struct moon_slice host, struct moon_slice port)
{
    struct moon_redis_address address = {0};
    int64_t n;
    if (host.len == 0 || !moon_slice_copy_text(host, address.host, sizeof(address.host)) ||
        !moon_slice_number(port, &n) || n < 1 || n > 65535) {
        moon_log_warn("redis: a Sentinel names no usable address for master %s",
                      s->redis->conf.master_name);
        return;
    }
    address.port = (uint16_t)n;
    struct redis_conn *master = s->redis->conn;
    if (master->address.port != address.port || strcmp(master->address.host, address.host) != 0)
        moon_log_info("redis: master %s is at %s:%u", s->redis->conf.master_name, address.host,
                      address.port);
    redis_conn_move(master, &address);
}

static void sentinel_told(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    struct redis_sentinel *s = owner;
    s->is_asking = false;
    if (rc != MOON_OK)
        return;
    if (reply->type == MOON_REDIS_ARRAY && reply->count == 2) {
        s->is_unknown_told = false;
        sentinel_move(s, reply->elements[0]->text, reply->elements[1]->text);
    } else {
        if (!s->is_unknown_told)
            moon_log_warn("redis: a Sentinel knows no master named %s", s->redis->conf.master_name);
        s->is_unknown_told = s->is_ignorant = true;
    }
}

static void sentinel_send(struct redis_sentinel *s, struct redis_conn *conn, int argc,
                          const char *const *argv, moon_redis_fn *callback)
{
    struct moon_redis_command *c = redis_command_new(s->redis, argc, argv, NULL, callback, s);
    if (c == NULL)
        return;
    c->is_internal = true;
    c->deadline_ms = moon_clock_ms() + SENTINEL_ANSWER_MS;
    if (redis_conn_send(conn, c) != MOON_AGAIN)
        redis_command_free(c);
    else if (callback == sentinel_told)
        s->is_asking = true;
}

static void sentinel_ask(struct redis_sentinel *s)
{
    const char *argv[] = {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", s->redis->conf.master_name};
    if (s->asker->state == REDIS_READY && !s->is_asking)
        sentinel_send(s, s->asker, 3, argv, sentinel_told);
}

// One that was set up anew, or for another master, is no better than one that is down.
static void sentinel_pass_on(struct redis_sentinel *s)
{
    const struct moon_redis_conf *conf = &s->redis->conf;
    s->is_ignorant = false;
    redis_conn_move(s->asker, &conf->addresses[(s->next + 1) % conf->address_count]);
}

static void sentinel_poll(struct moon_timer *timer)
{
    struct redis_sentinel *s = timer->owner;
    bool is_calm = s->redis->conn->state == REDIS_READY;
    moon_timer_set(timer, is_calm ? SENTINEL_CALM_MS : SENTINEL_WORRY_MS);
    if (s->is_ignorant)
        sentinel_pass_on(s);
    else
        sentinel_ask(s);
}

void redis_sentinel_doubt(struct redis_sentinel *s)
{
    sentinel_ask(s);
    moon_timer_set(&s->poll, SENTINEL_WORRY_MS);
}

static void sentinel_subscribed(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    (void)owner;
    if (rc != MOON_OK || reply->type == MOON_REDIS_ERROR)
        moon_log_warn("redis: a Sentinel does not let us subscribe; it is polled");
}

static void sentinel_ready(void *owner, struct redis_conn *conn)
{
    struct redis_sentinel *s = ((struct moon_redis *)owner)->sentinel;
    static const char *const argv[] = {"SUBSCRIBE", "+switch-master"};
    if (s == NULL)
        return;
    if (conn == s->listener)
        sentinel_send(s, conn, 2, argv, sentinel_subscribed);
    else
        sentinel_ask(s);
}

static void sentinel_down(void *owner, struct redis_conn *conn)
{
    struct moon_redis *redis = owner;
    struct redis_sentinel *s = redis->sentinel;
    if (s == NULL)
        return;
    if (conn == s->asker) {
        s->is_asking = false;
        s->next = (s->next + 1) % redis->conf.address_count;
    }
    redis_conn_point(conn, &redis->conf.addresses[s->next]);
}

// ["message", "+switch-master", "name old-host old-port new-host new-port"]
static void sentinel_push(void *owner, struct redis_conn *conn,
                          const struct moon_redis_reply *reply)
{
    struct redis_sentinel *s = ((struct moon_redis *)owner)->sentinel;
    struct moon_slice words[5] = {{0}};
    (void)conn;
    if (s == NULL || reply->type != MOON_REDIS_ARRAY || reply->count != 3)
        return;
    struct moon_slice rest = reply->elements[2]->text;
    for (int i = 0; i < 5; i++) {
        size_t space = moon_slice_find(rest, ' ');
        words[i] = moon_slice(rest.data, space);
        rest = moon_slice_from(rest, space + 1);
    }
    if (moon_slice_is(words[0], moon_slice_text(s->redis->conf.master_name)))
        sentinel_move(s, words[3], words[4]);
}

static const struct redis_conn_events sentinel_events = {
    .on_ready = sentinel_ready,
    .on_down = sentinel_down,
    .on_push = sentinel_push,
};

static struct redis_conn *sentinel_connect(struct moon_redis *redis)
{
    struct redis_conn *conn = redis_conn_new(redis, &redis->conf.addresses[0], &sentinel_events);
    if (conn == NULL)
        return NULL;
    conn->user = redis->conf.sentinel_user;
    conn->password = redis->conf.sentinel_password;
    conn->database = 0;
    return conn;
}

enum moon_rc redis_sentinel_new(struct moon_redis *redis, struct redis_sentinel **out)
{
    struct redis_sentinel *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return MOON_ERR_MEMORY;
    s->redis = redis;
    moon_timer_init(&s->poll, redis->loop, sentinel_poll, s);
    s->asker = sentinel_connect(redis);
    s->listener = sentinel_connect(redis);
    if (s->asker == NULL || s->listener == NULL) {
        redis_sentinel_free(s);
        return MOON_ERR_MEMORY;
    }
    s->listener->is_subscriber = true;
    moon_timer_set(&s->poll, SENTINEL_WORRY_MS);
    *out = s;
    return MOON_OK;
}

void redis_sentinel_free(struct redis_sentinel *s)
{
    if (s == NULL)
        return;
    moon_timer_stop(&s->poll);
    redis_conn_free(s->asker, false);
    redis_conn_free(s->listener, false);
    free(s);
}
