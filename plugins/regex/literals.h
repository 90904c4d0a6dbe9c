/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A set of literals that are looked for all at once, without regard to the case of ASCII letters:
/// an automaton (Aho-Corasick) with one step for each byte of the subject. Built once, then only
/// read.

#include "moongate/types.h"

struct literals;

/// Builds a set of `count` literals, none of them empty; they are copied. The number of a literal is
/// its place, from 0.
///
/// @return NULL for want of memory, or past 16 million transitions
struct literals *regex_literals_new(const struct moon_slice *texts, size_t count);
void regex_literals_free(struct literals *set); // accepts NULL

/// Called for each occurrence, in the order in which they end. False: enough.
typedef bool (*regex_literals_found_fn)(void *arg, uint32_t number);

/// Finds all literals in the subject.
void regex_literals_scan(const struct literals *set, struct moon_slice subject,
                         regex_literals_found_fn found, void *arg);

/// True when any literal occurs.
bool regex_literals_test(const struct literals *set, struct moon_slice subject);
