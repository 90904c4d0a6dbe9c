/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The second tier of the cache: objects in Redis, for all nodes that share it, and the log by which
/// a purge reaches them. The first tier is each node's own store (shared/store.h).
///
/// Objects are bytes under a digest, each with the tags that it is purged by and the length that the
/// log was known to have when the object was asked for. A reader that knows of a later
/// purge of one of its tags does not take it. The log is a stream: each purge is added to it, and one
/// worker of each node reads it ten times a second. A node that was away reads what it missed before
/// it takes anything from the tier, and drops all it has where the log was cut meanwhile. A purge
/// that could not be added is tried until it is.
///
/// The store being slow or away costs a look-up its deadline at most, and nothing while the breaker
/// is open.
///
/// Thread: the worker that owns it. What is known of the log lies in the store, for all workers.

#include "shared/store.h"
#include "upstream/redis.h"

enum {
    MOON_CACHE_TIER_NAME_BYTES = 32,
    MOON_CACHE_TIER_TAGS = 8,
};

/// What objects are purged by: a digest of a kind ("tag", "key", "url") and a name, alike on all
/// nodes. All zero: everything.
struct moon_cache_tag {
    uint8_t bytes[16];
};

/// The tag in the node's own store.
uint64_t moon_cache_tag_hash(const struct moon_cache_tag *tag);

struct moon_cache_tier;
struct moon_cache_tier_query;

struct moon_cache_tier_object {
    struct moon_slice bytes; // lent: until the callback returns
    int64_t since_put_ms;    // how long ago it was put there, by the clock of the tier
    uint64_t position;       // of the log, when it was asked for
};

/// @param seat    borrowed while it lives
/// @param redis   borrowed likewise
/// @param url     of the store: another one has another log
/// @param prefix  of every key; copied
/// @param object_bytes  larger objects are not put there, and not taken
/// @return NULL when out of memory
struct moon_cache_tier *moon_cache_tier_new(struct moon_loop *loop, struct moon_redis *redis,
                                            struct moon_store_seat *seat, struct moon_slice url,
                                            struct moon_slice prefix, size_t object_bytes);

/// Queries under way are not called back. Accepts NULL.
void moon_cache_tier_free(struct moon_cache_tier *tier);

/// @param rc      MOON_OK; anything else: the tier could not be asked
/// @param object  NULL: there is none that may be used
typedef void moon_cache_tier_fn(void *owner, enum moon_rc rc,
                                const struct moon_cache_tier_object *object);

/// Looks an object up.
/// @return MOON_AGAIN (`callback` runs once, within the deadline), else: not asked
MUST_CHECK enum moon_rc moon_cache_tier_find(struct moon_cache_tier *tier,
                                             const uint8_t name[MOON_CACHE_TIER_NAME_BYTES],
                                             moon_cache_tier_fn *callback, void *owner,
                                             struct moon_cache_tier_query **query);

/// The callback will not be called; harmless on NULL.
void moon_cache_tier_cancel(struct moon_cache_tier_query *query);

/// How long the log is known to be: what is asked for from now on is newer than what it purges.
uint64_t moon_cache_tier_position(const struct moon_cache_tier *tier);

/// Puts an object there; nobody waits for it. @return false when it is too large or cannot be sent
///
/// @param parts     joined; borrowed
/// @param position  from when it was asked for
/// @param keep_ms   how long
bool moon_cache_tier_put(struct moon_cache_tier *tier,
                         const uint8_t name[MOON_CACHE_TIER_NAME_BYTES],
                         const struct moon_slice *parts, size_t count,
                         const struct moon_cache_tag *tags, size_t tag_count, uint64_t position,
                         int64_t keep_ms);
void moon_cache_tier_remove(struct moon_cache_tier *tier,
                            const uint8_t name[MOON_CACHE_TIER_NAME_BYTES]);

/// Purges on this node at once, and tells the others.
void moon_cache_tier_purge(struct moon_cache_tier *tier, const struct moon_cache_tag *tag);

/// Whether the log was read to its end within the last second.
bool moon_cache_tier_is_current(const struct moon_cache_tier *tier);

struct moon_cache_tier_status {
    uint64_t hits, misses, failures, puts; // of this worker
    uint64_t purges_pending;
};

void moon_cache_tier_status(const struct moon_cache_tier *tier,
                            struct moon_cache_tier_status *status);
