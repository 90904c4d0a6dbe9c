/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Work that goes on although no exchange waits for it: requests and events that policies send, copies
/// for mirrors. A worker that ends gives it its drain time.
///
/// Thread: the worker that owns it.

#include "base/macros.h"

#include <stddef.h>

struct moon_errands {
    size_t count;                 // under way
    void (*on_done)(void *owner); // the last one is over; NULL: nobody asks
    void *owner;
};

static inline void moon_errand_begin(struct moon_errands *errands)
{
    errands->count++;
}

static inline void moon_errand_end(struct moon_errands *errands)
{
    MOON_ASSERT(errands->count > 0);
    if (--errands->count == 0 && errands->on_done != NULL)
        errands->on_done(errands->owner);
}
