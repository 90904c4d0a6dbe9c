/* SPDX-License-Identifier: Apache-2.0 */

/// Certificates that are about to expire: a gauge by listener, and a line in the log once a day. One
/// worker does it for all; the gauge of one that is replaced goes with it.

#include "base/clock.h"
#include "base/log.h"
#include "process/worker.h"

enum { CERTIFICATES_WARN_MS = 86400000 };

static int certificates_series(struct moon_worker *worker, struct moon_slice listener)
{
    struct moon_buf labels;
    moon_buf_init(&labels, 4096);
    int series = -1;
    if (moon_metrics_label(&labels, "listener", listener) == MOON_OK)
        series = moon_metrics_series(
            worker->env.metrics, MOON_METRIC_GAUGE, "moongate_certificate_expires_seconds",
            "Until the first certificate of a listener expires.", moon_buf_slice(&labels));
    moon_buf_fini(&labels);
    return series;
}

static void certificates_warn(struct moon_slice listener, const char *path, int64_t left_s)
{
    if (left_s < 0)
        moon_log_error("certificate has expired listener=%.*s file=%s", MOON_SLICE_ARG(listener),
                       path);
    else
        moon_log_warn("certificate expires in_days=%lld listener=%.*s file=%s",
                      (long long)(left_s / 86400), MOON_SLICE_ARG(listener), path);
}

void moon_worker_watch_certificates(struct moon_worker *worker)
{
    const struct moon_generation *generation = worker->gateway.generation;
    int64_t now_ms = moon_clock_wall_ms();
    if (worker->number != 0)
        return;
    bool is_due = generation->number != worker->warned_generation ||
                  now_ms - worker->warned_wall_ms >= CERTIFICATES_WARN_MS;
    for (size_t i = 0; i < generation->plan->listener_count; i++) {
        const struct moon_listener_conf *conf = &generation->plan->listeners[i];
        const char *path;
        if (generation->tls[i] == NULL)
            continue;
        int64_t left_s = moon_tls_server_expires_in_s(generation->tls[i], &path);
        struct moon_slice name = conf->name.len > 0 ? conf->name : conf->address;
        int series = certificates_series(worker, name);
        if (series >= 0)
            moon_metrics_set(worker->env.metrics, series, left_s);
        if (is_due && left_s * 1000 < conf->warn_before_ms)
            certificates_warn(name, path, left_s);
    }
    if (!is_due)
        return;
    worker->warned_generation = generation->number;
    worker->warned_wall_ms = now_ms;
}
