/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Memory that lives as long as an exchange: bumped out of chunks, given back all at once. Chunks
/// come from a per-process free list, so a steady load allocates nothing. Under AddressSanitizer
/// each allocation is a block of its own, so that an overrun is seen.
///
/// Thread: one worker. An arena is never shared.

#include "base/slice.h"

struct moon_arena_chunk;

struct moon_arena {
    struct moon_arena_chunk *chunks; // newest first
    char *at;                        // next free byte of the newest chunk
    char *end;
    size_t used_bytes; // handed out so far; 0 <= used_bytes <= ceiling_bytes
    size_t ceiling_bytes;
};

/// @param ceiling_bytes  moon_arena_alloc answers NULL past it
void moon_arena_init(struct moon_arena *arena, size_t ceiling_bytes);

/// Gives everything back; the arena can be used again.
void moon_arena_reset(struct moon_arena *arena);

/// @return `size` bytes aligned for any type, not cleared; NULL past the ceiling or out of memory
MUST_CHECK void *moon_arena_alloc(struct moon_arena *arena, size_t size);

/// The same, cleared.
MUST_CHECK void *moon_arena_zalloc(struct moon_arena *arena, size_t size);

/// Copies bytes and adds a NUL that the length does not count. Arena. @return false when full
MUST_CHECK bool moon_arena_copy(struct moon_arena *arena, struct moon_slice from,
                                struct moon_slice *out);

/// Joins up to `count` slices into one. Arena. @return false when full
MUST_CHECK bool moon_arena_join(struct moon_arena *arena, const struct moon_slice *parts,
                                size_t count, struct moon_slice *out);

/// Formats as printf does. Arena. @return an empty slice when full
struct moon_slice moon_arena_printf(struct moon_arena *arena, const char *fmt, ...)
    MOON_PRINTF(2, 3);

/// Frees the chunks kept for reuse (before the process ends, for leak checkers).
void moon_arena_trim(void);
