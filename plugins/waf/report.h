// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What fired in one exchange, as text for the log.
#include "waf/engine.h"

struct waf_report {
    const char *mode;
    int status;         // of the answer; 0: not known
    const char *action; // borrowed; NULL: the engine's own, "block" or "log"
    int64_t wall_ms;
};

/// One JSON line: rules, matched bytes (secrets taken out), score. `newline`: with one at its end.
/// @return lent until the next report; empty when there is no memory
struct waf_str waf_report_json(struct waf_tx *tx, const struct waf_report *r, bool newline);
/// A line per fired rule, in ModSecurity's error-log form. As above.
struct waf_str waf_report_modsecurity(struct waf_tx *tx, const struct waf_report *r);
void waf_report_fini(void); ///< gives back the memory of the last report
