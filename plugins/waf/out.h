// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The text of a log line: grows up to a bound, and keeps its memory from one line to the next.
#include "waf/arena.h"

struct waf_out {
    char *p;
    size_t n, cap; // n <= cap
    size_t max;    // what would make it longer is left out
    bool failed;   // no memory: the text is not whole
};

void waf_out_init(struct waf_out *o, size_t max); ///< of an empty or a used one; keeps its memory
void waf_out_fini(struct waf_out *o);
void waf_out_put(struct waf_out *o, struct waf_str s);
void waf_out_number(struct waf_out *o, long v);
/// At most `max` bytes of `s`: those that would break a line or its quotes become \xHH.
void waf_out_escaped(struct waf_out *o, struct waf_str s, size_t max);
/// At most `max` bytes of `s` as a JSON string. Bytes above 0x7e may be no UTF-8: they become \u00XX.
void waf_out_json(struct waf_out *o, struct waf_str s, size_t max);
void waf_out_time(struct waf_out *o, int64_t wall_ms, const char *format);
