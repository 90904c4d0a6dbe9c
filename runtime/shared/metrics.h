/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Metrics in shared memory: every worker adds to its own block, a scrape sums them up. Series are
/// made when a configuration is loaded or at first use, up to a cap; past it everything goes to the
/// series whose labels say "other". Nothing is ever removed while the process lives.

#include "base/buf.h"
#include "base/slice.h"
#include "shared/region.h"

struct moon_metrics;

enum moon_metric_kind { MOON_METRIC_COUNTER, MOON_METRIC_GAUGE, MOON_METRIC_HISTOGRAM };

/// @param workers  blocks; one more is kept for the supervisor
/// @param series   cap on series, all families together
/// @return NULL when there is no room (is logged)
struct moon_metrics *moon_metrics_new(struct moon_region *region, int workers, size_t series);

/// Bytes that moon_metrics_new takes out of the region.
size_t moon_metrics_bytes(int workers, size_t series);

/// Which worker's block this process adds to from now on; before, it is the supervisor's. The gauges
/// that an earlier holder of the block left are cleared, its counters go on.
void moon_metrics_bind(struct moon_metrics *metrics, int worker);

/// Finds or makes a series. Takes a lock: not for the hot path, keep the id.
///
/// @param family  "moongate_requests_total"; help text is kept from the first call; both copied
/// @param labels  `route="orders",status="2xx"` already escaped (moon_metrics_label); may be empty
/// @return its id (the family's overflow series past the cap); -1 where there is no room for the family,
///         its name has more than 95 bytes, or it is of another kind: adding to that does nothing
int moon_metrics_series(struct moon_metrics *metrics, enum moon_metric_kind kind,
                        const char *family, const char *help, struct moon_slice labels);

void moon_metrics_add(struct moon_metrics *metrics, int id, int64_t amount);
void moon_metrics_set(struct moon_metrics *metrics, int id,
                      int64_t value); // gauges; summed over workers

/// Histogram of durations: fixed buckets 0.5 ms to 60 s. @param us  microseconds
void moon_metrics_observe(struct moon_metrics *metrics, int id, int64_t us);

/// The sum of a counter or gauge over all workers; of a histogram, how many were observed.
int64_t moon_metrics_read(const struct moon_metrics *metrics, int id);

/// Appends `name="value"` with escaping, and a comma where needed.
MUST_CHECK enum moon_rc moon_metrics_label(struct moon_buf *into, const char *name,
                                           struct moon_slice value);

/// Writes all series in Prometheus' text format (version 0.0.4).
MUST_CHECK enum moon_rc moon_metrics_write(const struct moon_metrics *metrics,
                                           struct moon_buf *out);
