/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Keyed hashing for tables that hold what peers send (SipHash-1-3), and the unkeyed finaliser for
/// spreading small integers. One random key per process tree, made before the fork, so that workers
/// agree on hashes in shared memory.

#include "base/slice.h"

/// Draws the key; called once by the first process. Without it the key is fixed (specs, fuzzers).
void moon_hash_seed(void);

uint64_t moon_hash(struct moon_slice bytes);

/// 128 bits, for tables that keep the hash instead of the key. `seed` separates what must not meet.
void moon_hash128(uint64_t seed, struct moon_slice bytes, uint64_t out[2]);

/// The same of a list of texts. Lists that differ, in where a text ends too, have hashes that differ; a
/// text whose data is NULL is not an empty one.
void moon_hash128_list(uint64_t seed, const struct moon_slice *texts, size_t count,
                       uint64_t out[2]);

static inline uint64_t moon_hash_mix(uint64_t x)
{
    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    x *= UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ (x >> 33);
}

/// Random bytes from the kernel.
void moon_random_bytes(void *into, size_t n);

/// A fast per-process generator, for jitter and balancing; never for secrets.
uint64_t moon_random_fast(void);

/// Fixes the fast generator's sequence. Specs only.
void moon_random_seed(uint64_t seed);
