/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The few types that every part shares, plugins included: a borrowed run of bytes, a header field.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// A run of bytes that somebody else owns; not NUL-terminated. `data` may be NULL where `len` is 0.
struct moon_slice {
    const char *data;
    size_t len;
};

/// One header or trailer field. Names keep the case they arrived in.
struct moon_field {
    struct moon_slice name;
    struct moon_slice value;
};

#if defined(__GNUC__)
#define MUST_CHECK __attribute__((warn_unused_result))
#define MOON_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define MOON_EXPORT __attribute__((visibility("default")))
#define MOON_LIKELY(x) __builtin_expect(!!(x), 1)
#define MOON_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define MOON_NOINLINE __attribute__((noinline)) // what is seldom met, out of what is met often
#define MOON_COLD __attribute__((noinline, cold))
#define MOON_FLATTEN __attribute__((flatten)) // with what it calls in it, other files' too (LTO)
#define MOON_NORETURN __attribute__((noreturn))
#define MOON_FALLTHROUGH __attribute__((fallthrough))
#else
#error "Moongate is built with gcc or clang"
#endif
