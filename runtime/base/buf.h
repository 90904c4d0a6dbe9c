/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A byte queue: appended at the end, consumed at the front, born with a ceiling. An empty buffer
/// can drop its memory, so that idle connections hold none; blocks of the usual size wait in a
/// per-process free list.

#include "base/result.h"
#include "base/slice.h"

enum {
    MOON_BUF_BLOCK_BYTES = 16384, // what a connection's buffer takes at first
    MOON_BUF_LARGE_BYTES = 65536, // and while a large body passes through
};

struct moon_buf {
    char *data;
    size_t start; // first byte not consumed; start <= end
    size_t end;   // first free byte; end <= cap
    size_t cap;
    size_t ceiling; // cap never passes it
};

void moon_buf_init(struct moon_buf *buf, size_t ceiling);
void moon_buf_fini(struct moon_buf *buf);

/// Frees the memory of an empty buffer; does nothing while bytes are left.
void moon_buf_relax(struct moon_buf *buf);

static inline size_t moon_buf_len(const struct moon_buf *buf)
{
    return buf->end - buf->start;
}

/// What has not been consumed. Lent: until the buffer changes.
static inline struct moon_slice moon_buf_slice(const struct moon_buf *buf)
{
    return moon_slice(buf->data == NULL ? NULL : buf->data + buf->start, moon_buf_len(buf));
}

/// Makes room for `want` more bytes, moving or growing. @return MOON_ERR_LIMIT, MOON_ERR_MEMORY
MUST_CHECK enum moon_rc moon_buf_reserve(struct moon_buf *buf, size_t want);

/// Room for at least one byte, up to `want`, without passing the ceiling.
/// @param room  first free byte and how many fit; written on MOON_OK only
MUST_CHECK enum moon_rc moon_buf_room(struct moon_buf *buf, size_t want, char **room, size_t *n);

/// `n` bytes were written into the room.
void moon_buf_wrote(struct moon_buf *buf, size_t n);
void moon_buf_consume(struct moon_buf *buf, size_t n);
void moon_buf_clear(struct moon_buf *buf);

MUST_CHECK enum moon_rc moon_buf_append(struct moon_buf *buf, struct moon_slice bytes);
MUST_CHECK enum moon_rc moon_buf_printf(struct moon_buf *buf, const char *fmt, ...)
    MOON_PRINTF(2, 3);

/// Frees the blocks kept for reuse.
void moon_buf_trim(void);
