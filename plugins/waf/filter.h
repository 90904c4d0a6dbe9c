// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Tells in one pass over a value which operators can match it.
///
/// Built at load from the needs of all operators. The pass runs one automaton over all literals
/// and gathers which byte sets and marks occur; operators whose need is met are the candidates.
#include "waf/need.h"

struct waf_filter;

/// What one pass over a value found.
struct waf_facts {
    unsigned marks;          // WAF_MARK_*
    const uint64_t *allowed; // bit per operator: it may match. Arena, or shared
};

struct waf_filter_builder;

struct waf_filter_builder *waf_filter_begin(void);
/// Adds an operator; its bit is the number of those added before. Copied.
void waf_filter_add(struct waf_filter_builder *b, const struct waf_need *need);
/// Takes `b`. Never NULL.
struct waf_filter *waf_filter_finish(struct waf_filter_builder *b);
void waf_filter_free(struct waf_filter *f); // accepts NULL

unsigned waf_filter_words(const struct waf_filter *f); // length of waf_facts.allowed
size_t waf_filter_memory(const struct waf_filter *f);
const uint64_t *waf_filter_everything(const struct waf_filter *f); // all bits set
const uint64_t *waf_filter_nothing(const struct waf_filter *f);

/// `f` is written to (counters of the pass), so one thread at a time.
void waf_filter_scan(struct waf_filter *f, struct waf_arena *a, struct waf_str value,
                     struct waf_facts *out);
