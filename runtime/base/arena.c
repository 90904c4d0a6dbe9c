/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <stdalign.h>
#include <stdarg.h>

enum {
    ARENA_CHUNK_BYTES = 4096,
    ARENA_KEPT_CHUNKS = 1024, // at most 4 MiB wait for reuse
};

struct moon_arena_chunk {
    struct moon_arena_chunk *next;
    size_t bytes; // of the whole chunk, this header included
    alignas(max_align_t) char data[];
};

static struct moon_arena_chunk *arena_kept;
static size_t arena_kept_count;

static struct moon_arena_chunk *arena_chunk_new(size_t bytes)
{
    struct moon_arena_chunk *chunk = arena_kept;
    if (bytes == ARENA_CHUNK_BYTES && chunk != NULL) {
        arena_kept = chunk->next;
        arena_kept_count--;
        return chunk;
    }
    chunk = malloc(bytes);
    if (chunk != NULL)
        chunk->bytes = bytes;
    return chunk;
}

static void arena_chunk_free(struct moon_arena_chunk *chunk)
{
    if (MOON_ASAN || chunk->bytes != ARENA_CHUNK_BYTES || arena_kept_count >= ARENA_KEPT_CHUNKS) {
        free(chunk);
        return;
    }
    chunk->next = arena_kept;
    arena_kept = chunk;
    arena_kept_count++;
}

void moon_arena_init(struct moon_arena *arena, size_t ceiling_bytes)
{
    *arena = (struct moon_arena){.ceiling_bytes = ceiling_bytes};
}

void moon_arena_reset(struct moon_arena *arena)
{
    struct moon_arena_chunk *chunk = arena->chunks;
    while (chunk != NULL) {
        struct moon_arena_chunk *next = chunk->next;
        arena_chunk_free(chunk);
        chunk = next;
    }
    moon_arena_init(arena, arena->ceiling_bytes);
}

static void *arena_grow(struct moon_arena *arena, size_t size)
{
    size_t header = offsetof(struct moon_arena_chunk, data);
    bool is_own_block = MOON_ASAN || size > (ARENA_CHUNK_BYTES - header) / 2;
    struct moon_arena_chunk *chunk =
        arena_chunk_new(is_own_block ? header + size : ARENA_CHUNK_BYTES);
    if (chunk == NULL)
        return NULL;
    if (is_own_block && arena->chunks != NULL) {
        // The current chunk stays the newest, so that its rest is not lost.
        chunk->next = arena->chunks->next;
        arena->chunks->next = chunk;
        return chunk->data;
    }
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    arena->at = chunk->data + size;
    arena->end = (char *)chunk + chunk->bytes;
    return chunk->data;
}

void *moon_arena_alloc(struct moon_arena *arena, size_t size)
{
    size_t align = alignof(max_align_t);
    if (size > arena->ceiling_bytes - arena->used_bytes)
        return NULL;
    size_t rounded = MOON_ASAN ? size : (size + align - 1) & ~(align - 1);
    arena->used_bytes += size;
    if (!MOON_ASAN && rounded <= (size_t)(arena->end - arena->at)) {
        void *p = arena->at;
        arena->at += rounded;
        return p;
    }
    return arena_grow(arena, rounded);
}

void *moon_arena_zalloc(struct moon_arena *arena, size_t size)
{
    void *p = moon_arena_alloc(arena, size);
    if (p != NULL)
        memset(p, 0, size);
    return p;
}

bool moon_arena_copy(struct moon_arena *arena, struct moon_slice from, struct moon_slice *out)
{
    return moon_arena_join(arena, &from, 1, out);
}

bool moon_arena_join(struct moon_arena *arena, const struct moon_slice *parts, size_t count,
                     struct moon_slice *out)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += parts[i].len;
    char *joined = moon_arena_alloc(arena, total + 1);
    if (joined == NULL)
        return false;
    char *at = joined;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len > 0)
            memcpy(at, parts[i].data, parts[i].len);
        at += parts[i].len;
    }
    *at = '\0';
    *out = moon_slice(joined, total);
    return true;
}

struct moon_slice moon_arena_printf(struct moon_arena *arena, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    struct moon_slice out = {NULL, 0};
    if (n < 0)
        return out;
    struct moon_slice whole = moon_slice(text, moon_min_size((size_t)n, sizeof(text) - 1));
    if (!moon_arena_copy(arena, whole, &out))
        return moon_slice(NULL, 0);
    return out;
}

void moon_arena_trim(void)
{
    while (arena_kept != NULL) {
        struct moon_arena_chunk *next = arena_kept->next;
        free(arena_kept);
        arena_kept = next;
    }
    arena_kept_count = 0;
}
