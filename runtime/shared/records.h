/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Small records by name, seen by all workers and kept over reloads: the persistent collections of the
/// WAF's rules.
///
/// Memory is cut into shards, each with its lock; a name has the places of one run in its shard, and
/// where all of them are taken the one unused for longest makes room. A worker that is killed inside
/// a lock may have torn one record: the shard is emptied.
///
/// Process: any.

#include "base/slice.h"
#include "shared/region.h"

enum { MOON_RECORD_BYTES = 992 };

struct moon_records;

/// @return NULL when there is no room (is logged)
struct moon_records *moon_records_new(struct moon_region *region);

/// Bytes that it takes out of the region.
size_t moon_records_bytes(void);

/// Copies a record.
///
/// @param into  MOON_RECORD_BYTES
/// @return its length; 0: there is none, or its time is over
size_t moon_records_read(struct moon_records *records, struct moon_slice name, int64_t now_s,
                         char *into);

/// Makes of what a record holds what it is to hold. Called under a lock: nothing is allocated or
/// waited for, and no record asked for.
///
/// @param bytes      room for MOON_RECORD_BYTES
/// @param len        of what is there; 0: nothing
/// @param expires_s  when the record is worthless; to be set
/// @return the new length; 0: it goes
typedef size_t moon_record_change_fn(void *arg, char *bytes, size_t len, int64_t *expires_s);

void moon_records_change(struct moon_records *records, struct moon_slice name, int64_t now_s,
                         moon_record_change_fn *change, void *arg);
