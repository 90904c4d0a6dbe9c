/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/records.h"

#include "base/hash.h"
#include "shared/lock.h"

#include <string.h>

enum {
    RECORDS_SHARDS = 64,
    RECORDS_PLACES = 512, // of a shard
    RECORDS_RUN = 8,      // places that a name may have
};

struct record {
    uint64_t name[2]; // hashed, with the gateway's secret
    int64_t expires_s;
    uint32_t used; // the shard's clock when it was last asked for
    uint32_t len;  // 0: free
    char bytes[MOON_RECORD_BYTES];
};

struct records_shard {
    struct moon_lock lock;
    uint32_t clock;
    struct record places[RECORDS_PLACES];
};

struct moon_records {
    struct records_shard shards[RECORDS_SHARDS];
};

size_t moon_records_bytes(void)
{
    return sizeof(struct moon_records);
}

struct moon_records *moon_records_new(struct moon_region *region)
{
    struct moon_records *records =
        moon_region_carve(region, "records", sizeof(struct moon_records));
    for (size_t i = 0; records != NULL && i < RECORDS_SHARDS; i++)
        moon_lock_init(&records->shards[i].lock);
    return records;
}

// Takes the lock of the name's shard. @return the shard
static struct records_shard *records_enter(struct moon_records *records, const uint64_t name[2])
{
    struct records_shard *shard = &records->shards[name[0] % RECORDS_SHARDS];
    if (!moon_lock_take(&shard->lock)) {
        for (size_t i = 0; i < RECORDS_PLACES; i++)
            shard->places[i].len = 0;
    }
    shard->clock++;
    return shard;
}

static struct record *records_run(struct records_shard *shard, const uint64_t name[2])
{
    return &shard->places[name[1] % (RECORDS_PLACES / RECORDS_RUN) * RECORDS_RUN];
}

static struct record *records_find(struct records_shard *shard, const uint64_t name[2],
                                   int64_t now_s)
{
    struct record *run = records_run(shard, name);
    for (size_t i = 0; i < RECORDS_RUN; i++) {
        if (run[i].len != 0 && run[i].expires_s <= now_s)
            run[i].len = 0;
        if (run[i].len != 0 && memcmp(run[i].name, name, sizeof(run[i].name)) == 0) {
            run[i].used = shard->clock;
            return &run[i];
        }
    }
    return NULL;
}

// A free place of the run, or the one that was not asked for longest.
static struct record *records_room(struct records_shard *shard, const uint64_t name[2])
{
    struct record *run = records_run(shard, name), *oldest = run;
    for (size_t i = 0; i < RECORDS_RUN; i++) {
        if (run[i].len == 0)
            return &run[i];
        if (shard->clock - run[i].used > shard->clock - oldest->used)
            oldest = &run[i];
    }
    oldest->len = 0;
    return oldest;
}

size_t moon_records_read(struct moon_records *records, struct moon_slice name, int64_t now_s,
                         char *into)
{
    uint64_t hashed[2];
    size_t len = 0;
    moon_hash128(0, name, hashed);
    struct records_shard *shard = records_enter(records, hashed);
    const struct record *found = records_find(shard, hashed, now_s);
    if (found != NULL) {
        len = found->len;
        memcpy(into, found->bytes, len);
    }
    moon_lock_give(&shard->lock);
    return len;
}

void moon_records_change(struct moon_records *records, struct moon_slice name, int64_t now_s,
                         moon_record_change_fn *change, void *arg)
{
    uint64_t hashed[2];
    moon_hash128(0, name, hashed);
    struct records_shard *shard = records_enter(records, hashed);
    struct record *record = records_find(shard, hashed, now_s);
    if (record == NULL)
        record = records_room(shard, hashed);
    size_t len = change(arg, record->bytes, record->len, &record->expires_s);
    MOON_ASSERT(len <= MOON_RECORD_BYTES);
    memcpy(record->name, hashed, sizeof(record->name));
    record->used = shard->clock;
    record->len = (uint32_t)len;
    moon_lock_give(&shard->lock);
}
