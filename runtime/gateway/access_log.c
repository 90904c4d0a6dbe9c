/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/access_log.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/json_write.h"
#include "gateway/exchange.h"
#include "http/uri.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ACCESS_MILLION = 1000000,
    ACCESS_LINE_BYTES = 8192,
    ACCESS_FLUSH_BYTES = 32768,
    ACCESS_BUFFER_BYTES = 64 << 20, // the configuration's own ceiling is at most that
    ACCESS_PATH_BYTES = 1024,       // of a path or field in a line
    ACCESS_FIELD_BYTES = 512,       // of a field that the configuration names
};

// What carries credentials by its nature is never shown, whatever the configuration says.
static const struct moon_slice access_secret_fields[] = {
    {"authorization", 13}, {"proxy-authorization", 19},      {"cookie", 6}, {"set-cookie", 10},
    {"x-api-key", 9},      {"ocp-apim-subscription-key", 25}};
static const struct moon_slice access_secret_parameters[] = {{"subscription-key", 16},
                                                             {"access_token", 12},
                                                             {"api_key", 7},
                                                             {"apikey", 6},
                                                             {"client_secret", 13},
                                                             {"id_token", 8},
                                                             {"password", 8},
                                                             {"refresh_token", 13},
                                                             {"secret", 6},
                                                             {"sig", 3},
                                                             {"signature", 9},
                                                             {"token", 5}};

struct moon_access_log {
    int fd;
    struct moon_buf buf;
};

struct moon_access_log *moon_access_log_new(int fd)
{
    struct moon_access_log *log = calloc(1, sizeof(*log));
    struct stat st;
    if (log == NULL)
        return NULL;
    log->fd = fd;
    moon_buf_init(&log->buf, ACCESS_BUFFER_BYTES);
    if (fd != -1 && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
        (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return log;
}

void moon_access_log_flush(struct moon_access_log *log)
{
    while (moon_buf_len(&log->buf) > 0) {
        struct moon_slice bytes = moon_buf_slice(&log->buf);
        ssize_t n = write(log->fd, bytes.data, bytes.len);
        if (n == -1 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        moon_buf_consume(&log->buf, (size_t)n);
    }
}

void moon_access_log_free(struct moon_access_log *log)
{
    if (log == NULL)
        return;
    if (log->fd != -1) {
        moon_access_log_flush(log);
        (void)close(log->fd);
    }
    moon_buf_fini(&log->buf);
    free(log);
}

static int64_t access_phase(int64_t from, int64_t to)
{
    return from > 0 && to > from ? to - from : 0;
}

// A phase that was not reached ends where it began, so that the phases add up to the total.
static void access_settle(struct moon_exchange_times *t)
{
    int64_t *stages[] = {&t->head,      &t->routed,   &t->inbound,  &t->called,
                         &t->connected, &t->answered, &t->outbound, &t->ended};
    int64_t last = t->started;
    for (size_t i = 0; i < MOON_COUNT(stages); i++) {
        if (*stages[i] < last)
            *stages[i] = last;
        if (*stages[i] > t->ended)
            *stages[i] = t->ended;
        last = *stages[i];
    }
}

static void access_phases(struct moon_json *json, const struct moon_exchange_times *t)
{
    moon_json_object_at(json, "phases_us");
    moon_json_number(json, "read", access_phase(t->started, t->head));
    moon_json_number(json, "route", access_phase(t->head, t->routed));
    moon_json_number(json, "inbound", access_phase(t->routed, t->inbound));
    moon_json_number(json, "prepare", access_phase(t->inbound, t->called));
    moon_json_number(json, "connect", access_phase(t->called, t->connected));
    moon_json_number(json, "backend", access_phase(t->connected, t->answered));
    moon_json_number(json, "outbound", access_phase(t->answered, t->outbound));
    moon_json_number(json, "send", access_phase(t->outbound, t->ended));
    moon_json_end(json);
    moon_json_number(json, "duration_us", access_phase(t->started, t->ended));
}

static struct moon_slice access_cut(struct moon_slice s)
{
    return moon_slice(s.data, moon_min_size(s.len, ACCESS_PATH_BYTES));
}

static void access_text(struct moon_json *json, const char *name, struct moon_slice value)
{
    if (value.len > 0)
        moon_json_text(json, name, access_cut(value));
}

static bool access_is_in(struct moon_slice name, const struct moon_slice *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (moon_slice_is_nocase(name, names[i]))
            return true;
    }
    return false;
}

static bool access_is_redacted(const struct moon_exchange *x, struct moon_slice name)
{
    const struct moon_access_log_conf *conf = &x->generation->plan->access_log;
    return access_is_in(name, conf->redacted, conf->redacted_count);
}

static bool access_is_secret_parameter(struct moon_exchange *x, struct moon_slice name)
{
    const struct moon_leaf *leaf = x->ctx.leaf;
    name = moon_uri_decode(&x->arena, name, true);
    return access_is_in(name, access_secret_parameters, MOON_COUNT(access_secret_parameters)) ||
           (leaf != NULL && moon_slice_is_nocase(name, leaf->subscription_query)) ||
           access_is_redacted(x, name);
}

// The value in front of the rest of a query. @param rest  moved behind it and its '&'
static struct moon_slice access_next_parameter(struct moon_slice *rest, struct moon_slice *name)
{
    size_t end = moon_slice_find(*rest, '&');
    struct moon_slice pair = moon_slice(rest->data, end);
    *name = moon_slice(pair.data, moon_slice_find(pair, '='));
    *rest = moon_slice_from(*rest, end + 1);
    return moon_slice_from(pair, name->len + 1);
}

// Values of a query are shown; those of secrets are not.
static struct moon_slice access_query(struct moon_exchange *x)
{
    static const char hidden[] = "***";
    struct moon_slice query = x->original_query, rest = query, name;
    size_t secrets = 0, len = 0;
    if (!x->generation->plan->access_log.has_query)
        return moon_slice(NULL, 0);
    while (rest.len > 0) {
        struct moon_slice value = access_next_parameter(&rest, &name);
        secrets += value.len > 0 && access_is_secret_parameter(x, name);
    }
    if (secrets == 0)
        return query;
    char *shown = moon_arena_alloc(&x->arena, query.len + secrets * (sizeof(hidden) - 1));
    if (shown == NULL)
        return moon_slice(NULL, 0);
    for (rest = query; rest.len > 0;) {
        const char *from = rest.data;
        struct moon_slice value = access_next_parameter(&rest, &name);
        bool is_hidden = value.len > 0 && access_is_secret_parameter(x, name);
        const char *until = is_hidden      ? value.data
                            : rest.len > 0 ? rest.data
                                           : query.data + query.len;
        memcpy(shown + len, from, (size_t)(until - from));
        len += (size_t)(until - from);
        if (is_hidden) {
            memcpy(shown + len, hidden, sizeof(hidden) - 1);
            len += sizeof(hidden) - 1;
            if (rest.len > 0)
                shown[len++] = '&';
        }
    }
    return moon_slice(shown, len);
}

static void access_fields(struct moon_json *json, const char *member, const struct moon_exchange *x,
                          const struct moon_fields *fields, const struct moon_slice *names,
                          size_t count)
{
    const struct moon_leaf *leaf = x->ctx.leaf;
    if (count == 0)
        return;
    moon_json_object_at(json, member);
    for (size_t i = 0; i < count; i++) {
        const struct moon_field *field = moon_fields_find(fields, names[i]);
        if (field == NULL)
            continue;
        bool is_secret =
            access_is_in(names[i], access_secret_fields, MOON_COUNT(access_secret_fields)) ||
            (leaf != NULL && moon_slice_is_nocase(names[i], leaf->subscription_header)) ||
            access_is_redacted(x, names[i]);
        struct moon_slice shown =
            moon_slice(field->value.data, moon_min_size(field->value.len, ACCESS_FIELD_BYTES));
        moon_json_text(json, names[i].data, is_secret ? MOON_S("***") : shown);
    }
    moon_json_end(json);
}

static void access_request(struct moon_json *json, struct moon_exchange *x)
{
    const struct moon_request *request = &x->request;
    access_text(json, "method", request->method_name);
    access_text(json, "scheme", request->scheme);
    access_text(json, "host", request->host);
    access_text(json, "path", x->original_path);
    access_text(json, "query", access_query(x));
    if (request->version_major > 0) {
        char version[8] = {(char)('0' + request->version_major % 10), '.',
                           (char)('0' + request->version_minor % 10)};
        moon_json_text(json, "version", moon_slice(version, request->version_major == 2 ? 1 : 3));
    }
    const struct moon_field *agent = moon_fields_find_id(&request->fields, MOON_FIELD_USER_AGENT);
    if (agent != NULL)
        access_text(json, "user_agent", agent->value);
}

static void access_place(struct moon_json *json, const struct moon_exchange *x)
{
    const struct moon_leaf *leaf = x->ctx.leaf;
    if (leaf == NULL)
        return;
    access_text(json, "site", leaf->site);
    access_text(json, "route", leaf->route);
    access_text(json, "api", leaf->api);
    access_text(json, "operation", leaf->operation);
    if (x->ctx.subscription != NULL) {
        access_text(json, "subscription", x->ctx.subscription->id);
        access_text(json, "product", x->ctx.subscription->product);
    }
    if (x->ctx.backend >= 0)
        access_text(json, "backend", x->generation->plan->backends[x->ctx.backend].name);
    access_text(json, "target", x->target);
    if (x->cache->outcome < MOON_CACHE_OUTCOMES)
        access_text(json, "cache", moon_slice_text(moon_cache_outcome_names[x->cache->outcome]));
    if (x->call_tries > 1)
        moon_json_number(json, "tries", x->call_tries);
}

static void access_outcome(struct moon_json *json, const struct moon_exchange *x)
{
    if (x->failure == MOON_OK)
        return;
    bool is_policy = x->failure == MOON_ERR_POLICY_REFUSED || x->failure == MOON_ERR_POLICY ||
                     x->failure == MOON_ERR_POLICY_BUDGET;
    moon_json_text(json, "error", moon_slice_text(moon_rc_name(x->failure)));
    access_text(json, "reason", x->ctx.error.reason);
    if (is_policy) {
        access_text(json, "policy", x->ctx.error.source);
        access_text(json, "section", x->ctx.error.section);
        access_text(json, "where", x->ctx.error.where);
    }
}

static void access_write_line(struct moon_access_log *log, struct moon_exchange *x)
{
    const struct moon_access_log_conf *conf = &x->generation->plan->access_log;
    char line[ACCESS_LINE_BYTES];
    char when[MOON_CLOCK_TEXT_BYTES];
    struct moon_json json;
    moon_json_init(&json, line, sizeof(line) - 1);
    moon_json_object(&json);
    int64_t wall = moon_clock_wall_ms() - (x->times.ended - x->times.started) / 1000;
    moon_json_text(&json, "time", moon_slice(when, moon_clock_iso(wall, when)));
    moon_json_text(&json, "id", x->ctx.id);
    moon_json_text(&json, "client", moon_slice(x->client->ip_text, x->client->ip_len));
    access_request(&json, x);
    moon_json_number(&json, "status", x->is_head_sent ? x->response.status : 0);
    access_outcome(&json, x);
    access_place(&json, x);
    moon_json_number(&json, "request_bytes", x->request_bytes);
    moon_json_number(&json, "response_bytes", x->response_bytes);
    access_phases(&json, &x->times);
    if (x->ctx.lua_us > 0)
        moon_json_number(&json, "lua_us", x->ctx.lua_us);
    moon_json_number(&json, "generation", x->generation->number);
    if (conf->sample_millionths < ACCESS_MILLION)
        moon_json_real(&json, "sample", (double)conf->sample_millionths / ACCESS_MILLION);
    // Last: what does not fit into the line is left out.
    access_fields(&json, "request_headers", x, &x->request.fields, conf->request_fields,
                  conf->request_field_count);
    access_fields(&json, "response_headers", x, &x->response.fields, conf->response_fields,
                  conf->response_field_count);
    moon_json_end(&json);
    size_t len = moon_json_len(&json);
    line[len++] = '\n';
    if (moon_buf_len(&log->buf) + len > conf->buffer_bytes ||
        moon_buf_append(&log->buf, moon_slice(line, len)) != MOON_OK)
        moon_metrics_add(x->gateway->env.metrics, x->gateway->metrics.log_dropped, 1);
    if (moon_buf_len(&log->buf) >= ACCESS_FLUSH_BYTES)
        moon_access_log_flush(log);
}

static struct moon_slice access_or(struct moon_slice value, struct moon_slice other)
{
    return value.len > 0 ? value : other;
}

static int access_series(const struct moon_exchange *x, enum moon_metric_kind kind,
                         const char *family, const char *help, int status_class)
{
    const struct moon_leaf *leaf = x->ctx.leaf;
    struct moon_buf labels;
    char text[4] = {(char)('0' + status_class), 'x', 'x'};
    moon_buf_init(&labels, 4096);
    struct moon_slice none = MOON_S("-");
    bool is_made =
        moon_metrics_label(&labels, "site", leaf == NULL ? none : access_or(leaf->site, none)) ==
            MOON_OK &&
        moon_metrics_label(&labels, "route", leaf == NULL ? none : access_or(leaf->route, none)) ==
            MOON_OK &&
        moon_metrics_label(&labels, "api", leaf == NULL ? none : access_or(leaf->api, none)) ==
            MOON_OK &&
        moon_metrics_label(&labels, "operation",
                           leaf == NULL ? none : access_or(leaf->operation, none)) == MOON_OK;
    if (is_made && status_class >= 0)
        is_made =
            moon_metrics_label(&labels, "status",
                               status_class == 0 ? MOON_S("none") : moon_slice(text, 3)) == MOON_OK;
    int id = moon_metrics_series(x->gateway->env.metrics, kind, family, help,
                                 is_made ? moon_buf_slice(&labels) : moon_slice("", 0));
    moon_buf_fini(&labels);
    return id;
}

// Series are made at a leaf's first request and remembered there.
static void access_count(struct moon_exchange *x)
{
    struct moon_metrics *metrics = x->gateway->env.metrics;
    int status = x->is_head_sent ? x->response.status : 0;
    int class = status / 100;
    struct moon_leaf unrouted, *leaf = &unrouted;
    if (x->ctx.leaf == NULL)
        unrouted = (struct moon_leaf){0};
    else
        leaf = &moon_script_plan_mutable(x->generation->script)->leaves[x->ctx.leaf->id - 1];
    if (leaf->metric_requests[class] == 0) {
        leaf->metric_requests[class] =
            access_series(x, MOON_METRIC_COUNTER, "moongate_requests_total",
                          "Requests by place and class of status.", class) +
            1;
    }
    if (leaf->metric_latency == 0) {
        leaf->metric_latency =
            access_series(x, MOON_METRIC_HISTOGRAM, "moongate_request_duration_seconds",
                          "From the first byte of the request to the last of the response.", -1) +
            1;
    }
    moon_metrics_add(metrics, leaf->metric_requests[class] - 1, 1);
    moon_metrics_observe(metrics, leaf->metric_latency - 1, x->times.ended - x->times.started);
    moon_metrics_add(metrics, x->gateway->metrics.bytes_in, x->request_bytes);
    moon_cache_count(x);
    moon_metrics_add(metrics, x->gateway->metrics.bytes_out, x->response_bytes);
}

static bool access_is_wanted(const struct moon_exchange *x)
{
    uint32_t sample = x->generation->plan->access_log.sample_millionths;
    bool is_good = x->failure == MOON_OK && x->is_head_sent && x->response.status < 400;
    if (x->ctx.leaf != NULL && !x->ctx.leaf->has_access_log)
        return false;
    return sample >= ACCESS_MILLION || !is_good || moon_random_fast() % ACCESS_MILLION < sample;
}

static void access_tell_board(struct moon_board_slot *slot)
{
    if (slot != NULL) // this worker's own
        moon_board_add(&slot->requests, 1);
}

void moon_access_log_exchange(struct moon_exchange *x)
{
    access_tell_board(x->gateway->env.slot);
    access_settle(&x->times);
    access_count(x);
    struct moon_access_log *log = x->gateway->access_log;
    if (log != NULL && log->fd != -1 && access_is_wanted(x))
        access_write_line(log, x);
}
