/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Small things every file may use: assertions that stay in release builds, array sizes, min/max,
/// container_of, sanitizer detection.

#include "moongate/types.h"

#include "base/banned.h"

#include <stddef.h>

#define MOON_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define MOON_CONTAINER_OF(ptr, type, member)                                                       \
    ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#if defined(__SANITIZE_ADDRESS__)
#define MOON_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MOON_ASAN 1
#endif
#endif
#ifndef MOON_ASAN
#define MOON_ASAN 0
#endif

/// A broken invariant of ours: ends the process, in every build. Never used on what a peer sends.
#define MOON_ASSERT(cond)                                                                          \
    do {                                                                                           \
        if (MOON_UNLIKELY(!(cond)))                                                                \
            moon_assert_failed(#cond, __FILE__, __LINE__);                                         \
    } while (0)

void moon_assert_failed(const char *cond, const char *file, int line) MOON_NORETURN;

static inline size_t moon_min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t moon_max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}
