/* SPDX-License-Identifier: Apache-2.0 */

/// What a hostile or broken Redis may send: the bytes arrive in pieces, replies are walked whole.
/// The first byte chooses the size of the pieces; the URL reader gets the same bytes.

#include "upstream/redis_internal.h"

static size_t fuzz_walk(const struct moon_redis_reply *reply)
{
    size_t bytes = reply->text.len;
    int64_t number;
    for (size_t i = 0; i < reply->text.len; i++)
        bytes += (unsigned char)reply->text.data[i] == 0;
    if (moon_redis_integer(reply, &number))
        bytes++;
    for (size_t i = 0; i < reply->count; i++) {
        MOON_ASSERT(reply->elements[i] != NULL);
        bytes += fuzz_walk(reply->elements[i]); // the reader bounds the depth
    }
    return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct redis_inbox inbox = {0};
    struct moon_redis_conf conf;
    char error[128];
    if (size == 0)
        return 0;
    moon_redis_conf_init(&conf);
    if (moon_redis_conf_url(&conf, moon_slice((const char *)data, size), error, sizeof(error)) ==
        MOON_OK)
        MOON_ASSERT(conf.address_count > 0);
    if (redis_inbox_init(&inbox, 65536) != MOON_OK)
        return 0;
    size_t piece = (size_t)data[0] + 1;
    enum moon_rc rc = MOON_AGAIN;
    for (size_t at = 1; at < size && rc == MOON_AGAIN; at += piece) {
        struct moon_slice bytes =
            moon_slice((const char *)data + at, moon_min_size(piece, size - at));
        if (redis_inbox_feed(&inbox, bytes) != MOON_OK)
            break;
        const struct moon_redis_reply *reply;
        while ((rc = redis_inbox_next(&inbox, &reply)) == MOON_OK)
            (void)fuzz_walk(reply);
    }
    redis_inbox_fini(&inbox);
    (void)redis_cluster_slot(moon_slice((const char *)data, size));
    return 0;
}
