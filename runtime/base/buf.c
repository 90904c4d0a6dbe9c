/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdarg.h>

/// Blocks of the usual sizes wait here for reuse, so that a steady load asks the allocator for none.
struct buf_block {
    struct buf_block *next;
};

struct buf_class {
    size_t bytes;
    size_t most; // blocks kept
    size_t count;
    struct buf_block *blocks;
};

static struct buf_class buf_classes[] = {
    {.bytes = MOON_BUF_BLOCK_BYTES, .most = 256},
    {.bytes = MOON_BUF_LARGE_BYTES, .most = 64},
};

static struct buf_class *buf_class_of(size_t bytes)
{
    for (size_t i = 0; i < MOON_COUNT(buf_classes); i++) {
        if (buf_classes[i].bytes == bytes)
            return &buf_classes[i];
    }
    return NULL;
}

static char *buf_block_get(size_t cap)
{
    struct buf_class *class = buf_class_of(cap);
    if (class == NULL || class->blocks == NULL)
        return malloc(cap);
    struct buf_block *block = class->blocks;
    class->blocks = block->next;
    class->count--;
    return (char *)block;
}

static void buf_block_put(char *data, size_t cap)
{
    struct buf_class *class = buf_class_of(cap);
    if (MOON_ASAN || data == NULL || class == NULL || class->count >= class->most) {
        free(data);
        return;
    }
    struct buf_block *block = (struct buf_block *)(void *)data;
    block->next = class->blocks;
    class->blocks = block;
    class->count++;
}

void moon_buf_init(struct moon_buf *buf, size_t ceiling)
{
    *buf = (struct moon_buf){.ceiling = ceiling};
}

void moon_buf_fini(struct moon_buf *buf)
{
    buf_block_put(buf->data, buf->cap);
    moon_buf_init(buf, buf->ceiling);
}

void moon_buf_relax(struct moon_buf *buf)
{
    if (moon_buf_len(buf) == 0)
        moon_buf_fini(buf);
}

static void buf_move_to_front(struct moon_buf *buf)
{
    if (buf->start == 0)
        return;
    size_t len = moon_buf_len(buf);
    if (len > 0)
        memmove(buf->data, buf->data + buf->start, len);
    buf->start = 0;
    buf->end = len;
}

static enum moon_rc buf_grow(struct moon_buf *buf, size_t need)
{
    if (need > buf->ceiling)
        return MOON_ERR_LIMIT;
    size_t cap = moon_max_size(buf->cap, MOON_BUF_BLOCK_BYTES);
    while (cap < need)
        cap *= 2;
    cap = moon_min_size(cap, buf->ceiling);
    char *data = buf_block_get(cap);
    if (data == NULL)
        return MOON_ERR_MEMORY;
    size_t len = moon_buf_len(buf);
    if (len > 0)
        memcpy(data, buf->data + buf->start, len);
    buf_block_put(buf->data, buf->cap);
    buf->data = data;
    buf->cap = cap;
    buf->start = 0;
    buf->end = len;
    return MOON_OK;
}

enum moon_rc moon_buf_reserve(struct moon_buf *buf, size_t want)
{
    if (want <= buf->cap - buf->end)
        return MOON_OK;
    size_t len = moon_buf_len(buf);
    if (want > buf->ceiling - moon_min_size(len, buf->ceiling))
        return MOON_ERR_LIMIT;
    if (len + want <= buf->cap) {
        buf_move_to_front(buf);
        return MOON_OK;
    }
    return buf_grow(buf, len + want);
}

enum moon_rc moon_buf_room(struct moon_buf *buf, size_t want, char **room, size_t *n)
{
    MOON_ASSERT(want > 0);
    size_t left = buf->ceiling - moon_min_size(moon_buf_len(buf), buf->ceiling);
    want = moon_min_size(want, left);
    if (want == 0)
        return MOON_ERR_LIMIT;
    // A half-full block is not grown for a larger wish: what is free now will do.
    if (buf->cap > 0 && buf->cap - moon_buf_len(buf) >= moon_max_size(buf->cap / 4, 1) &&
        want > buf->cap - buf->end) {
        buf_move_to_front(buf);
        want = moon_min_size(want, buf->cap - buf->end);
    }
    enum moon_rc rc = moon_buf_reserve(buf, want);
    if (rc != MOON_OK)
        return rc;
    *room = buf->data + buf->end;
    *n = moon_min_size(buf->cap - buf->end, left);
    return MOON_OK;
}

void moon_buf_wrote(struct moon_buf *buf, size_t n)
{
    MOON_ASSERT(n <= buf->cap - buf->end);
    buf->end += n;
}

void moon_buf_consume(struct moon_buf *buf, size_t n)
{
    MOON_ASSERT(n <= moon_buf_len(buf));
    buf->start += n;
    if (buf->start == buf->end)
        buf->start = buf->end = 0;
}

void moon_buf_clear(struct moon_buf *buf)
{
    buf->start = buf->end = 0;
}

enum moon_rc moon_buf_append(struct moon_buf *buf, struct moon_slice bytes)
{
    if (bytes.len == 0)
        return MOON_OK;
    enum moon_rc rc = moon_buf_reserve(buf, bytes.len);
    if (rc != MOON_OK)
        return rc;
    memcpy(buf->data + buf->end, bytes.data, bytes.len);
    buf->end += bytes.len;
    return MOON_OK;
}

enum moon_rc moon_buf_printf(struct moon_buf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0)
        return MOON_ERR_INTERNAL;
    enum moon_rc rc = moon_buf_reserve(buf, (size_t)n + 1);
    if (rc != MOON_OK)
        return rc;
    va_start(args, fmt);
    (void)vsnprintf(buf->data + buf->end, (size_t)n + 1, fmt, args);
    va_end(args);
    buf->end += (size_t)n;
    return MOON_OK;
}

void moon_buf_trim(void)
{
    for (size_t i = 0; i < MOON_COUNT(buf_classes); i++) {
        struct buf_class *class = &buf_classes[i];
        while (class->blocks != NULL) {
            struct buf_block *next = class->blocks->next;
            free(class->blocks);
            class->blocks = next;
        }
        class->count = 0;
    }
}
