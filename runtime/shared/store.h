/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The object store in shared memory behind the response cache and ctx.cache.
///
/// An object is a head and a body under a 128-bit key; several variants may share a key. Memory is
/// cut into shards, each with its lock, its index, a buddy allocator (blocks of 512 bytes to 64 KiB)
/// and a SIEVE queue. A reader pins an object and sends its bytes out of shared memory; a pinned
/// object is not reused. Pins are noted per worker, so that those of a killed one are given back
/// when its successor takes the seat. A small object may be copied instead, under the lock that was
/// taken to find it.
///
/// A worker that is killed inside a shard's lock may have left it torn: the next one to take the
/// lock drops the whole shard (counted) and leaves its memory alone for a minute, since others may
/// still send out of it; whoever reads a dropped object finds out by moon_store_is_intact.
///
/// Tags are generation numbers: an object keeps those that held when it was stored, and a purge is
/// one increment. Flights make one caller fill what many miss: the others are woken through an
/// eventfd per worker when the filler is done or dead.

#include "base/slice.h"
#include "shared/region.h"

#include <stdatomic.h>

struct moon_store;
struct moon_store_seat;

enum {
    MOON_STORE_TAGS = 10,
    MOON_STORE_FACTS = 96,
    MOON_STORE_VARIANTS = 32, // of one key; the oldest goes
    MOON_STORE_WORKERS = 256,
    MOON_STORE_ROOM_BYTES = 1024, // head and body of an object that is copied
};

/// Makes the store out of the region. Call before workers are forked: eventfds are inherited.
///
/// @param bytes  of objects, from 1 MiB on. @return NULL when there is no room (is logged)
struct moon_store *moon_store_new(struct moon_region *region, size_t bytes, int workers);

/// Bytes of a region that moon_store_new takes.
size_t moon_store_region_bytes(size_t bytes, int workers);

/// Closes the eventfds. Process: the one that made it, and only when no worker is left.
void moon_store_close(struct moon_store *store); // accepts NULL

/// Takes a worker's place; what a dead holder of it pinned or was filling is given back.
/// @return NULL when out of memory
struct moon_store_seat *moon_store_seat_new(struct moon_store *store, int worker);
void moon_store_seat_free(struct moon_store_seat *seat); // accepts NULL

struct moon_store_key {
    uint64_t hi, lo;
};

struct moon_store_tag {
    uint32_t cell, generation;
};

/// What is known of an object without reading its bytes.
struct moon_store_info {
    int64_t stamp_ms;      // of several that match, the newest is taken
    int64_t keep_until_ms; // worthless from then on
    uint64_t variant;      // an object with the same key and variant replaces this one
    struct moon_store_tag tags[MOON_STORE_TAGS];
    uint32_t tag_count;
    bool is_marker; // says that there is no object (hit-for-miss)
    _Alignas(8) unsigned char facts[MOON_STORE_FACTS]; // the caller's
};

/// A pinned object, or a copy of one. Lies in the owner's struct.
struct moon_store_object {
    struct moon_store_seat *seat; // NULL: none, and nothing else is set
    struct moon_slice head;       // lent: until the release, or for as long as the room is there
    struct moon_slice first;      // of the body, behind the head. Lent likewise
    uint64_t body_bytes;
    int64_t stamp_ms;
    _Alignas(8) unsigned char facts[MOON_STORE_FACTS];
    bool is_copied;
    uint32_t shard, epoch, pin, first_extent; // of a pinned one
};

/// Gives the object to another owner.
static inline struct moon_store_object moon_store_move(struct moon_store_object *from)
{
    struct moon_store_object object = *from;
    from->seat = NULL;
    return object;
}

/// Whether the object answers the present request. Called under a lock: no allocation, no waiting.
typedef bool moon_store_match_fn(const struct moon_store_info *info, struct moon_slice head,
                                 void *arg);

enum moon_store_found { MOON_STORE_NONE, MOON_STORE_MARKER, MOON_STORE_OTHER, MOON_STORE_OBJECT };

/// Finds, and pins or copies.
///
/// @param match  NULL: any
/// @param room   MOON_STORE_ROOM_BYTES, where a small object is copied to; NULL: it is pinned always
/// @return MOON_STORE_OBJECT, MOON_STORE_MARKER, MOON_STORE_OTHER (the key has other variants) or
///         MOON_STORE_NONE
enum moon_store_found moon_store_find(struct moon_store_seat *seat, struct moon_store_key key,
                                      int64_t now_ms, moon_store_match_fn *match, void *arg,
                                      char *room, struct moon_store_object *out);

/// Gives a pin back; harmless on none.
void moon_store_release(struct moon_store_object *object);

/// False when the shard was dropped: what was lent may change any moment.
bool moon_store_is_intact(const struct moon_store_object *object);

/// Where a reader of the body is.
struct moon_store_cursor {
    uint32_t extent; // 0: at the end, or in a copy
    uint32_t used;   // of it
};

void moon_store_rewind(const struct moon_store_object *object, struct moon_store_cursor *cursor);

/// The next run of the body. Lent: until the release. Empty at the end.
struct moon_slice moon_store_next(const struct moon_store_object *object,
                                  struct moon_store_cursor *cursor, uint64_t most);
void moon_store_skip(const struct moon_store_object *object, struct moon_store_cursor *cursor,
                     uint64_t bytes);

/// Bytes up to which an object is kept when it is seen for the first time.
uint64_t moon_store_small_bytes(const struct moon_store *store);

/// An object being written. Lies in the owner's struct; zeroed: none.
struct moon_store_writer {
    struct moon_store_seat *seat; // NULL: none
    struct moon_store_key key;
    uint64_t body_bytes;
    uint32_t shard, entry, epoch, pin;
    uint32_t last_extent;
    bool is_admitted; // seen before: may be large
};

/// Begins an object.
///
/// @param head           copied
/// @param expected_body  -1: not known
/// @return false when it is too large at first sight, or there is no room
bool moon_store_begin(struct moon_store_seat *seat, struct moon_store_key key,
                      struct moon_slice head, int64_t expected_body, struct moon_store_writer *out);

/// @return false when it has grown too large: the writer is ended
bool moon_store_write(struct moon_store_writer *writer, struct moon_slice data);

/// Publishes; ends the writer. @return false when the shard was dropped meanwhile
bool moon_store_commit(struct moon_store_writer *writer, const struct moon_store_info *info);
void moon_store_abort(struct moon_store_writer *writer); // harmless on none

/// Remembers that the key's answers are not stored.
void moon_store_mark(struct moon_store_seat *seat, struct moon_store_key key,
                     const struct moon_store_info *info);
void moon_store_remove(struct moon_store_seat *seat, struct moon_store_key key);

/// The tag as it is now.
struct moon_store_tag moon_store_tag(const struct moon_store *store, uint64_t hash);

/// Everything stored under the tag is gone. O(1).
void moon_store_purge(struct moon_store *store, uint64_t hash);

// ---- purges of other nodes (store_log.c) -------------------------------------------------------
//
// Nodes that share a second tier keep a log of purges there (upstream/cache_tier.h). What this node
// has read of it is known to all its workers. A position is a number that grows along the log.

/// Purges what is stored under the tag, unless the log's entry is known already.
void moon_store_purge_logged(struct moon_store *store, uint64_t hash, uint64_t position);

/// Notes an entry that this node has written, and whose purge is done.
void moon_store_note_logged(struct moon_store *store, uint64_t hash, uint64_t position);

/// Whether the tag was purged behind that position of the log.
bool moon_store_is_purged_since(const struct moon_store *store, uint64_t hash, uint64_t position);

struct moon_store_log {
    _Atomic uint64_t name;     // which log: hash of the store and its prefix
    _Atomic uint64_t position; // read up to here
    _Atomic uint64_t
        reached; // it is known to be as long as this: what is asked for from now on is newer
    _Atomic uint64_t floor;   // what was stored before it may have been purged, as far as we know
    _Atomic int64_t asked_us; // when a worker last asked for more
    _Atomic int64_t read_us;  // when it was last read to the end; 0: never
};

/// Notes how far the log has been read.
void moon_store_log_read(struct moon_store *store, uint64_t position);

/// Borrowed: as long as the store.
struct moon_store_log *moon_store_log(struct moon_store *store);

// ---- flights -----------------------------------------------------------------------------------

enum moon_flight {
    MOON_FLIGHT_OURS, // fill it, then moon_store_flight_end
    MOON_FLIGHT_WAIT, // another does: the seat's eventfd tells when to look again
    MOON_FLIGHT_FULL, // go on without
};

/// @param is_waiting  whether this worker wants to be woken
enum moon_flight moon_store_flight_begin(struct moon_store_seat *seat, struct moon_store_key key,
                                         bool is_waiting);
void moon_store_flight_end(struct moon_store_seat *seat, struct moon_store_key key);

/// Readable when a flight ended that this worker waits for.
int moon_store_seat_fd(const struct moon_store_seat *seat);
void moon_store_seat_clear(struct moon_store_seat *seat);
struct moon_store *moon_store_of(const struct moon_store_seat *seat);

struct moon_store_figures {
    uint64_t bytes, used_bytes, objects;
    uint64_t evictions, dropped_shards, refused;
};

void moon_store_figures(const struct moon_store *store, struct moon_store_figures *out);
