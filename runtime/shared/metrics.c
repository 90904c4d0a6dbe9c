/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/metrics.h"

#include "base/hash.h"
#include "base/log.h"
#include "shared/lock.h"

#include <inttypes.h>
#include <stdatomic.h>

enum {
    METRIC_FAMILIES = 256,
    METRIC_LABEL_BYTES = 256, // longer label sets go to the overflow series
    METRIC_BUCKETS = 16,
    METRIC_CELLS = METRIC_BUCKETS + 2, // of a histogram: buckets, +Inf, sum
    METRIC_NONE = -1,
};

static const int64_t metric_bounds_us[METRIC_BUCKETS] = {
    500,    1000,   2500,    5000,    10000,   25000,    50000,    100000,
    250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000,
};

static const char *const metric_bounds_text[METRIC_BUCKETS] = {
    "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1",
    "0.25",   "0.5",   "1",      "2.5",   "5",    "10",    "30",   "60",
};

struct metric_family {
    enum moon_metric_kind kind;
    char name[96];
    char help[160];
    int first, last; // its series, in the order they were made; METRIC_NONE: none yet
    int overflow;    // series with the labels `overflow="other"`
};

struct metric_series {
    int family;
    int cell; // first of its cells in every block
    int next; // of the same family
    uint64_t hash;
    char labels[METRIC_LABEL_BYTES];
};

// Cells of each worker lie apart. A process writes its own block only, so adding is a plain store.
struct moon_metrics {
    struct moon_lock lock; // held to make a series
    int workers;
    int series_cap, cell_cap;
    int family_count;         // under the lock
    _Atomic int series_count; // published after the series is whole
    int cell_count;           // under the lock
    _Atomic bool is_full_told;
    size_t stride; // cells from one block to the next; a whole number of cache lines
    int *index;    // open table of series by hash; value is series + 1
    size_t index_mask;
    struct metric_family families[METRIC_FAMILIES];
    struct metric_series *series;
    _Atomic int64_t *cells;
};

static int metric_worker = -1; // of this process; -1: the supervisor's block, the last one

static size_t metric_index_size(size_t series)
{
    size_t size = 16;
    while (size < 2 * series)
        size *= 2;
    return size;
}

// One overflow series a family comes on top of the cap.
static size_t metric_series_room(size_t series)
{
    return series + METRIC_FAMILIES;
}

// A histogram takes 18 cells, a counter one; with a mix, a third of the worst case is ample, and
// what does not fit goes to the overflow series, for which cells are kept back.
static size_t metric_cell_room(size_t series)
{
    size_t cells = series * METRIC_CELLS / 3 + METRIC_FAMILIES * METRIC_CELLS;
    return (cells + 7) / 8 * 8;
}

size_t moon_metrics_bytes(int workers, size_t series)
{
    return sizeof(struct moon_metrics) +
           metric_index_size(metric_series_room(series)) * sizeof(int) +
           metric_series_room(series) * sizeof(struct metric_series) +
           metric_cell_room(series) * sizeof(int64_t) * ((size_t)workers + 1) + 4 * 64;
}

struct moon_metrics *moon_metrics_new(struct moon_region *region, int workers, size_t series)
{
    MOON_ASSERT(workers >= 0);
    if (series > 1000000) {
        moon_log_error("metrics: %zu series are too many", series);
        return NULL;
    }
    size_t index_size = metric_index_size(metric_series_room(series));
    size_t stride = metric_cell_room(series);
    struct moon_metrics *m = moon_region_carve(region, "metrics", sizeof(*m));
    if (m == NULL)
        return NULL;
    m->index = moon_region_carve(region, "metrics index", index_size * sizeof(int));
    m->series = moon_region_carve(region, "metrics series",
                                  metric_series_room(series) * sizeof(struct metric_series));
    m->cells = moon_region_carve(region, "metrics blocks",
                                 stride * sizeof(int64_t) * ((size_t)workers + 1));
    if (m->index == NULL || m->series == NULL || m->cells == NULL)
        return NULL;
    moon_lock_init(&m->lock);
    m->workers = workers;
    m->series_cap = (int)series;
    m->cell_cap = (int)(stride - METRIC_FAMILIES * METRIC_CELLS);
    m->stride = stride;
    m->index_mask = index_size - 1;
    return m;
}

static _Atomic int64_t *metric_block(const struct moon_metrics *m, int worker)
{
    if (worker < 0 || worker >= m->workers)
        worker = m->workers;
    return m->cells + (size_t)worker * m->stride;
}

static inline void metric_cell_add(_Atomic int64_t *cell, int64_t amount)
{
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

void moon_metrics_bind(struct moon_metrics *m, int worker)
{
    MOON_ASSERT(worker < m->workers);
    metric_worker = worker;
    _Atomic int64_t *block = metric_block(m, worker);
    int count = atomic_load_explicit(&m->series_count, memory_order_acquire);
    for (int i = 0; i < count; i++) {
        if (m->families[m->series[i].family].kind == MOON_METRIC_GAUGE)
            atomic_store_explicit(&block[m->series[i].cell], 0, memory_order_relaxed);
    }
}

static int metric_find_family(const struct moon_metrics *m, const char *name)
{
    for (int i = 0; i < m->family_count; i++) {
        if (strcmp(m->families[i].name, name) == 0)
            return i;
    }
    return METRIC_NONE;
}

// Configurations name families, too, and reloads bring others. @return METRIC_NONE: there is no room
static int metric_make_family(struct moon_metrics *m, enum moon_metric_kind kind, const char *name,
                              const char *help)
{
    if (m->family_count == METRIC_FAMILIES || strlen(name) >= sizeof(m->families[0].name))
        return METRIC_NONE;
    struct metric_family *family = &m->families[m->family_count];
    family->kind = kind;
    (void)snprintf(family->name, sizeof(family->name), "%s", name);
    (void)snprintf(family->help, sizeof(family->help), "%s", help == NULL ? "" : help);
    family->first = family->last = family->overflow = METRIC_NONE;
    return m->family_count++;
}

static uint64_t metric_hash(int family, struct moon_slice labels)
{
    return moon_hash_mix(moon_hash(labels) + (uint64_t)family);
}

static size_t metric_find(const struct moon_metrics *m, int family, uint64_t hash,
                          struct moon_slice labels)
{
    size_t at = hash & m->index_mask;
    while (m->index[at] != 0) {
        const struct metric_series *s = &m->series[m->index[at] - 1];
        if (s->hash == hash && s->family == family &&
            moon_slice_is(moon_slice_text(s->labels), labels))
            break;
        at = (at + 1) & m->index_mask;
    }
    return at;
}

// The count is published last, so a worker that dies in here leaves at most an unused row.
static int metric_make(struct moon_metrics *m, int family, struct moon_slice labels)
{
    struct metric_family *f = &m->families[family];
    int id = atomic_load(&m->series_count);
    struct metric_series *s = &m->series[id];
    s->family = family;
    s->hash = metric_hash(family, labels);
    s->next = METRIC_NONE;
    s->cell = m->cell_count;
    memcpy(s->labels, labels.data, labels.len);
    s->labels[labels.len] = '\0';
    m->cell_count += f->kind == MOON_METRIC_HISTOGRAM ? METRIC_CELLS : 1;
    m->index[metric_find(m, family, s->hash, labels)] = id + 1;
    if (f->last == METRIC_NONE)
        f->first = id;
    else
        m->series[f->last].next = id;
    f->last = id;
    atomic_store_explicit(&m->series_count, id + 1, memory_order_release);
    return id;
}

static int metric_overflow(struct moon_metrics *m, int family)
{
    if (!atomic_exchange(&m->is_full_told, true))
        moon_log_warn("metrics: the cap of %d series is reached; %s and others go on under "
                      "overflow=\"other\"",
                      m->series_cap, m->families[family].name);
    if (m->families[family].overflow == METRIC_NONE)
        m->families[family].overflow = metric_make(m, family, MOON_S("overflow=\"other\""));
    return m->families[family].overflow;
}

// After a death under the lock: what the dead process began is either published or not reachable
// from an index that is built again from the published series.
static void metric_repair(struct moon_metrics *m)
{
    int count = atomic_load(&m->series_count);
    memset(m->index, 0, (m->index_mask + 1) * sizeof(int));
    for (int i = 0; i < m->family_count; i++)
        m->families[i].first = m->families[i].last = m->families[i].overflow = METRIC_NONE;
    for (int i = 0; i < count; i++) {
        struct metric_series *s = &m->series[i];
        struct metric_family *f = &m->families[s->family];
        struct moon_slice labels = moon_slice_text(s->labels);
        m->index[metric_find(m, s->family, s->hash, labels)] = i + 1;
        s->next = METRIC_NONE;
        if (f->last == METRIC_NONE)
            f->first = i;
        else
            m->series[f->last].next = i;
        f->last = i;
        if (moon_slice_is(labels, MOON_S("overflow=\"other\"")))
            f->overflow = i;
    }
}

// The series of a family, made when it is not there yet.
static int metric_get(struct moon_metrics *m, int family, struct moon_slice labels)
{
    int id = m->index[metric_find(m, family, metric_hash(family, labels), labels)] - 1;
    if (id == METRIC_NONE) {
        bool fits = labels.len < METRIC_LABEL_BYTES &&
                    atomic_load(&m->series_count) < m->series_cap &&
                    m->cell_count + METRIC_CELLS <= m->cell_cap;
        id = fits ? metric_make(m, family, labels) : metric_overflow(m, family);
    }
    return id;
}

int moon_metrics_series(struct moon_metrics *m, enum moon_metric_kind kind, const char *name,
                        const char *help, struct moon_slice labels)
{
    int id = METRIC_NONE;
    if (!moon_lock_take(&m->lock))
        metric_repair(m);
    int family = metric_find_family(m, name);
    if (family == METRIC_NONE)
        family = metric_make_family(m, kind, name, help);
    if (family != METRIC_NONE && m->families[family].kind == kind)
        id = metric_get(m, family, labels);
    moon_lock_give(&m->lock);
    return id;
}

void moon_metrics_add(struct moon_metrics *m, int id, int64_t amount)
{
    if (MOON_UNLIKELY(id < 0))
        return;
    metric_cell_add(&metric_block(m, metric_worker)[m->series[id].cell], amount);
}

void moon_metrics_set(struct moon_metrics *m, int id, int64_t value)
{
    if (MOON_UNLIKELY(id < 0))
        return;
    atomic_store_explicit(&metric_block(m, metric_worker)[m->series[id].cell], value,
                          memory_order_relaxed);
}

void moon_metrics_observe(struct moon_metrics *m, int id, int64_t us)
{
    if (MOON_UNLIKELY(id < 0))
        return;
    _Atomic int64_t *cells = &metric_block(m, metric_worker)[m->series[id].cell];
    int bucket = 0;
    while (bucket < METRIC_BUCKETS && us > metric_bounds_us[bucket])
        bucket++;
    metric_cell_add(&cells[bucket], 1);
    metric_cell_add(&cells[METRIC_BUCKETS + 1], us);
}

static int64_t metric_sum(const struct moon_metrics *m, int cell)
{
    int64_t sum = 0;
    for (int w = 0; w <= m->workers; w++)
        sum += atomic_load_explicit(&m->cells[(size_t)w * m->stride + (size_t)cell],
                                    memory_order_relaxed);
    return sum;
}

int64_t moon_metrics_read(const struct moon_metrics *m, int id)
{
    if (id < 0)
        return 0;
    const struct metric_series *s = &m->series[id];
    if (m->families[s->family].kind != MOON_METRIC_HISTOGRAM)
        return metric_sum(m, s->cell);
    int64_t count = 0;
    for (int i = 0; i <= METRIC_BUCKETS; i++)
        count += metric_sum(m, s->cell + i);
    return count;
}

enum moon_rc moon_metrics_label(struct moon_buf *into, const char *name, struct moon_slice value)
{
    enum moon_rc rc = moon_buf_printf(into, "%s%s=\"", moon_buf_len(into) > 0 ? "," : "", name);
    for (size_t i = 0; rc == MOON_OK && i < value.len; i++) {
        const char *c = &value.data[i];
        switch (*c) {
        case '"':
            rc = moon_buf_append(into, MOON_S("\\\""));
            break;
        case '\\':
            rc = moon_buf_append(into, MOON_S("\\\\"));
            break;
        case '\n':
            rc = moon_buf_append(into, MOON_S("\\n"));
            break;
        default: // a NUL would cut the labels short
            rc = moon_buf_append(into, *c == '\0' ? MOON_S("?") : moon_slice(c, 1));
        }
    }
    return rc == MOON_OK ? moon_buf_append(into, MOON_S("\"")) : rc;
}

static enum moon_rc metric_write_histogram(const struct moon_metrics *m, const char *name,
                                           const struct metric_series *s, struct moon_buf *out)
{
    const char *comma = s->labels[0] == '\0' ? "" : ",";
    int64_t count = 0;
    enum moon_rc rc = MOON_OK;
    for (int i = 0; rc == MOON_OK && i <= METRIC_BUCKETS; i++) {
        count += metric_sum(m, s->cell + i);
        rc = moon_buf_printf(out, "%s_bucket{%s%sle=\"%s\"} %" PRId64 "\n", name, s->labels, comma,
                             i < METRIC_BUCKETS ? metric_bounds_text[i] : "+Inf", count);
    }
    if (rc != MOON_OK)
        return rc;
    bool is_bare = s->labels[0] == '\0';
    const char *open = is_bare ? "" : "{", *close = is_bare ? "" : "}";
    int64_t us = metric_sum(m, s->cell + METRIC_BUCKETS + 1);
    return moon_buf_printf(
        out, "%s_sum%s%s%s %" PRId64 ".%06" PRId64 "\n%s_count%s%s%s %" PRId64 "\n", name, open,
        s->labels, close, us / 1000000, us % 1000000, name, open, s->labels, close, count);
}

static enum moon_rc metric_write_family(const struct moon_metrics *m, const struct metric_family *f,
                                        int count, struct moon_buf *out)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    enum moon_rc rc = MOON_OK;
    if (f->help[0] != '\0')
        rc = moon_buf_printf(out, "# HELP %s %s\n", f->name, f->help);
    if (rc == MOON_OK)
        rc = moon_buf_printf(out, "# TYPE %s %s\n", f->name, kinds[f->kind]);
    for (int id = f->first; rc == MOON_OK && id != METRIC_NONE && id < count;
         id = m->series[id].next) {
        const struct metric_series *s = &m->series[id];
        bool is_bare = s->labels[0] == '\0';
        if (f->kind == MOON_METRIC_HISTOGRAM)
            rc = metric_write_histogram(m, f->name, s, out);
        else
            rc = moon_buf_printf(out, "%s%s%s%s %" PRId64 "\n", f->name, is_bare ? "" : "{",
                                 s->labels, is_bare ? "" : "}", metric_sum(m, s->cell));
    }
    return rc;
}

enum moon_rc moon_metrics_write(const struct moon_metrics *m, struct moon_buf *out)
{
    int count = atomic_load_explicit(&m->series_count, memory_order_acquire);
    enum moon_rc rc = MOON_OK;
    for (int i = 0; rc == MOON_OK && i < METRIC_FAMILIES && m->families[i].name[0] != '\0'; i++) {
        if (m->families[i].first != METRIC_NONE)
            rc = metric_write_family(m, &m->families[i], count, out);
    }
    return rc;
}
