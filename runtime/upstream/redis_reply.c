/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/redis_internal.h"

#include <hiredis/read.h>

enum { REDIS_ARRAY_MOST = 1 << 20, REDIS_SPARE_BYTES = 64 * 1024 };

// The reader fills replies in through these. NULL makes it give up with REDIS_ERR_OOM, which ends
// the connection: a reply past the ceiling is refused like one that is no RESP.

static struct moon_redis_reply *reply_new(const redisReadTask *task, enum moon_redis_type type)
{
    struct redis_inbox *inbox = task->privdata;
    struct moon_redis_reply *reply = moon_arena_zalloc(&inbox->arena, sizeof(*reply));
    if (reply == NULL)
        return NULL;
    reply->type = type;
    if (task->parent != NULL) {
        struct moon_redis_reply *parent = task->parent->obj;
        parent->elements[task->idx] = reply;
    }
    return reply;
}

static void *reply_string(const redisReadTask *task, char *text, size_t len)
{
    struct redis_inbox *inbox = task->privdata;
    struct moon_redis_reply *reply =
        reply_new(task, task->type == REDIS_REPLY_ERROR ? MOON_REDIS_ERROR : MOON_REDIS_STRING);
    if (reply == NULL || !moon_arena_copy(&inbox->arena, moon_slice(text, len), &reply->text))
        return NULL;
    return reply;
}

static void *reply_array(const redisReadTask *task, int count)
{
    struct redis_inbox *inbox = task->privdata;
    struct moon_redis_reply *reply = reply_new(task, MOON_REDIS_ARRAY);
    if (reply == NULL || count < 0 || count > REDIS_ARRAY_MOST)
        return NULL;
    if (count > 0) {
        reply->elements =
            moon_arena_zalloc(&inbox->arena, (size_t)count * sizeof(*reply->elements));
        if (reply->elements == NULL)
            return NULL;
    }
    reply->count = (size_t)count;
    return reply;
}

static void *reply_integer(const redisReadTask *task, long long value)
{
    struct moon_redis_reply *reply = reply_new(task, MOON_REDIS_INTEGER);
    if (reply != NULL)
        reply->integer = value;
    return reply;
}

static void *reply_nil(const redisReadTask *task)
{
    return reply_new(task, MOON_REDIS_NIL);
}

static void reply_free(void *reply)
{
    (void)reply; // lies in the arena
}

static redisReplyObjectFunctions reply_functions = {
    .createString = reply_string,
    .createArray = reply_array,
    .createInteger = reply_integer,
    .createNil = reply_nil,
    .freeObject = reply_free,
};

enum moon_rc redis_inbox_init(struct redis_inbox *inbox, size_t ceiling)
{
    inbox->reader = redisReaderCreateWithFunctions(&reply_functions);
    if (inbox->reader == NULL)
        return MOON_ERR_MEMORY;
    inbox->reader->privdata = inbox;
    inbox->reader->maxbuf = REDIS_SPARE_BYTES;
    inbox->ceiling = ceiling;
    moon_arena_init(&inbox->arena, 4 * ceiling); // structs and copies on top of the bytes
    return MOON_OK;
}

void redis_inbox_fini(struct redis_inbox *inbox)
{
    if (inbox->reader != NULL)
        redisReaderFree(inbox->reader);
    inbox->reader = NULL;
    moon_arena_reset(&inbox->arena);
}

enum moon_rc redis_inbox_feed(struct redis_inbox *inbox, struct moon_slice bytes)
{
    if (inbox->reader->len - inbox->reader->pos + bytes.len > inbox->ceiling)
        return MOON_ERR_LIMIT;
    return redisReaderFeed(inbox->reader, bytes.data, bytes.len) == REDIS_OK ? MOON_OK
                                                                             : MOON_ERR_MEMORY;
}

enum moon_rc redis_inbox_next(struct redis_inbox *inbox, const struct moon_redis_reply **reply)
{
    void *next = NULL;
    if (inbox->reader->ridx == -1)
        moon_arena_reset(&inbox->arena); // between replies
    if (redisReaderGetReply(inbox->reader, &next) != REDIS_OK)
        return MOON_ERR_IO;
    if (next == NULL)
        return MOON_AGAIN;
    *reply = next;
    return MOON_OK;
}

bool moon_redis_integer(const struct moon_redis_reply *reply, int64_t *out)
{
    if (reply->type == MOON_REDIS_INTEGER) {
        *out = reply->integer;
        return true;
    }
    if (reply->type != MOON_REDIS_STRING)
        return false;
    bool is_negative = reply->text.len > 0 && reply->text.data[0] == '-';
    if (!moon_slice_number(is_negative ? moon_slice_from(reply->text, 1) : reply->text, out))
        return false;
    if (is_negative)
        *out = -*out;
    return true;
}
