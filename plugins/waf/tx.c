// SPDX-License-Identifier: Apache-2.0
// The life of a transaction: what the host tells, phase by phase.
#include "waf/waf.h"

#include <stdlib.h>
#include <time.h>

enum { ARENA_FIRST = 128 * 1024 };
static const size_t ARENA_LIMIT = (size_t)256 * 1024 * 1024;

static int64_t monotonic_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void tx_begin(struct waf_tx *tx, struct waf_ruleset *rules,
                     const struct waf_overlay *overlay)
{
    struct waf_arena arena = tx->arena;
    const struct waf_options *o = &rules->options;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    memset(tx, 0, offsetof(struct waf_tx, lists));
    tx->arena = arena;
    tx->arena.full = NULL;
    tx->rules = waf_ruleset_retain(rules);
    tx->overlay = overlay;
    tx->removed_now = overlay != NULL ? overlay->removed : NULL;
    tx->mode = (enum waf_mode)o->engine;
    tx->prefilter = waf_prefilter_enabled;
    tx->started_us = monotonic_us();
    tx->now_s = now.tv_sec;
    tx->request_body_access = o->request_body;
    tx->response_body_access = o->response_body;
    tx->request_limit = o->request_limit;
    tx->response_limit = o->response_limit;
    tx->nofiles_limit = o->request_nofiles_limit;
    tx->request_partial = o->request_partial;
    tx->highest_severity = 255;
    tx->keeper = &waf_process_keeper;
    tx->body_error_msg = WAF_LIT("");
    tx->watched = waf_zalloc(&tx->arena, sizeof *tx->watched * rules->watch_count);
    tx->cells = waf_zalloc(&tx->arena, sizeof *tx->cells * rules->slot_count);
    waf_transform_use_map(rules->unicode_map);
}

struct waf_tx *waf_tx_new(struct waf_ruleset *rules, const struct waf_overlay *overlay)
{
    struct waf_tx *tx = rules->pool;
    if (tx != NULL) {
        rules->pool = tx->next_free;
        waf_arena_reset(&tx->arena);
    } else {
        tx = calloc(1, sizeof *tx);
        if (tx == NULL) {
            return NULL;
        }
        waf_arena_init(&tx->arena, ARENA_FIRST, ARENA_LIMIT);
    }
    tx_begin(tx, rules, overlay);
    return tx;
}

void waf_tx_free(struct waf_tx *tx)
{
    if (tx == NULL) {
        return;
    }
    struct waf_ruleset *rules = tx->rules;
    if (!tx->body_borrowed) {
        free(tx->body);
    }
    free(tx->response);
    tx->body = tx->response = NULL;
    waf_arena_reset(&tx->arena);
    tx->next_free = rules->pool;
    rules->pool = tx;
    waf_ruleset_release(rules);
}

// Runs `body` with the arena's way out set: when memory runs out the transaction is marked, and
// what follows is not inspected.
#define GUARDED(tx, body)                                                                          \
    do {                                                                                           \
        if ((tx)->exhausted) {                                                                     \
            break;                                                                                 \
        }                                                                                          \
        (tx)->arena.full = &(tx)->full;                                                            \
        if (setjmp((tx)->full) == 0) {                                                             \
            body;                                                                                  \
        } else {                                                                                   \
            (tx)->exhausted = true;                                                                \
        }                                                                                          \
        (tx)->arena.full = NULL;                                                                   \
    } while (0)

static bool refuse(struct waf_tx *tx, int status, struct waf_str why)
{
    tx->verdict = (struct waf_verdict){.status = status, .reason = why};
    tx->intercepted = true;
    return true;
}

static bool verdict(struct waf_tx *tx, struct waf_verdict *out)
{
    // What could not be looked at to the end is not let through where rules are enforced.
    if (tx->exhausted && !tx->intercepted && tx->mode == WAF_MODE_PREVENTION && tx->phase <= 2) {
        refuse(tx, 403, WAF_LIT("the request could not be inspected within its limits"));
    }
    if (tx->intercepted && out != NULL) {
        *out = tx->verdict;
    }
    return tx->intercepted;
}

static void run(struct waf_tx *tx, unsigned phase)
{
    if (tx->mode == WAF_MODE_OFF || (tx->intercepted && phase != 5)) {
        return;
    }
    waf_set_match_limit(tx->rules->options.match_limit);
    waf_transform_use_map(tx->rules->unicode_map);
    tx->limit_hit_us = 0;
    waf_run_phase(tx, phase);
}

void waf_tx_set_mode(struct waf_tx *tx, enum waf_mode mode)
{
    if (mode != WAF_MODE_AS_CONFIGURED) {
        tx->mode = mode;
    }
}

void waf_tx_set_var(struct waf_tx *tx, struct waf_str name, struct waf_str value)
{
    GUARDED(tx, waf_cell_set(tx, waf_cell_find(tx, name, true), waf_dup(&tx->arena, value)));
}

struct waf_str waf_tx_get_var(struct waf_tx *tx, struct waf_str name)
{
    struct waf_cell *c = waf_cell_find(tx, name, false);
    return c != NULL && c->is_set ? c->value : (struct waf_str){NULL, 0};
}

static long score(const struct waf_tx *tx, const int slots[2])
{
    for (int i = 0; i < 2; i++) {
        const struct waf_cell *c = &tx->cells[slots[i]];
        if (c->is_set) {
            return waf_to_long(c->value);
        }
    }
    return 0;
}

long waf_tx_inbound_score(const struct waf_tx *tx)
{
    return score(tx, tx->rules->inbound_scores);
}

long waf_tx_outbound_score(const struct waf_tx *tx)
{
    return score(tx, tx->rules->outbound_scores);
}

void *waf_tx_alloc(struct waf_tx *tx, size_t bytes)
{
    void *volatile p = NULL;
    GUARDED(tx, p = waf_alloc(&tx->arena, bytes));
    return p;
}

bool waf_tx_exhausted(const struct waf_tx *tx)
{
    return tx->exhausted;
}

void waf_tx_set_limits(struct waf_tx *tx, size_t request_bytes, bool partial, size_t response_bytes)
{
    if (request_bytes != 0) {
        tx->request_limit = tx->nofiles_limit = request_bytes;
        tx->request_partial = partial;
    }
    if (response_bytes != 0) {
        tx->response_limit = response_bytes;
    }
}

void waf_tx_connection(struct waf_tx *tx, struct waf_str client, int client_port,
                       struct waf_str server, int server_port)
{
    tx->client = client;
    tx->client_port = client_port;
    tx->server = WAF_LIT("");
    GUARDED(tx, tx->server = waf_dup(&tx->arena, server));
    tx->server_port = server_port;
}

void waf_tx_set_geo(struct waf_tx *tx, waf_geo_fn fn, void *arg)
{
    tx->geo = fn;
    tx->geo_arg = arg;
}

void waf_tx_set_keeper(struct waf_tx *tx, const struct waf_keeper *keeper, void *arg)
{
    tx->keeper = keeper;
    tx->keeper_arg = arg;
}

bool waf_tx_is_allowed(const struct waf_tx *tx)
{
    return tx->allowed_all;
}

bool waf_tx_stopped(const struct waf_tx *tx)
{
    return tx->intercepted;
}

void waf_tx_unique_id(struct waf_tx *tx, struct waf_str id)
{
    tx->unique_id = id;
}

// Splits the target: without scheme and authority, at the first '?', before a '#'.
static void split_target(struct waf_tx *tx)
{
    struct waf_str u = tx->uri_raw;
    ptrdiff_t scheme = u.n != 0 && u.p[0] != '/' ? waf_find(u, WAF_LIT("://")) : -1;
    if (scheme > 0 && memchr(u.p, '?', (size_t)scheme) == NULL) {
        size_t skip = (size_t)scheme + 3;
        while (skip < u.n && u.p[skip] != '/' && u.p[skip] != '?' && u.p[skip] != '#') {
            skip++;
        }
        u = (struct waf_str){u.p + skip, u.n - skip};
        if (u.n == 0) {
            u = WAF_LIT("/");
        }
    }
    const char *hash = u.n == 0 ? NULL : memchr(u.p, '#', u.n);
    if (hash != NULL) {
        u.n = (size_t)(hash - u.p);
    }
    const char *mark = u.n == 0 ? NULL : memchr(u.p, '?', u.n);
    tx->path = u;
    tx->query = WAF_LIT("");
    if (mark != NULL) {
        tx->has_query = true;
        tx->path.n = (size_t)(mark - u.p);
        tx->query = (struct waf_str){mark + 1, u.n - tx->path.n - 1};
    }
}

void waf_tx_request_line(struct waf_tx *tx, struct waf_str method, struct waf_str uri,
                         struct waf_str protocol)
{
    tx->method = method;
    tx->uri_raw = uri;
    tx->protocol = protocol;
    split_target(tx);
}

static void header_add(struct waf_tx *tx, struct waf_vec *to, struct waf_str name,
                       struct waf_str value)
{
    const struct waf_header h = {.name = name, .value = value};
    if (to->n < to->cap && !tx->exhausted) {
        ((struct waf_header *)to->items)[to->n++] = h;
        return;
    }
    GUARDED(tx, *(struct waf_header *)waf_push(&tx->arena, to, sizeof h) = h);
}

void waf_tx_request_header(struct waf_tx *tx, struct waf_str name, struct waf_str value)
{
    header_add(tx, &tx->headers, name, value);
}

static bool starts(struct waf_str s, struct waf_str with)
{
    return s.n >= with.n && waf_ieq((struct waf_str){s.p, with.n}, with);
}

static void choose_processor(struct waf_tx *tx)
{
    struct waf_str type = waf_request_header(tx, "Content-Type");
    if (type.p == NULL) {
        return;
    }
    if (starts(type, WAF_LIT("application/x-www-form-urlencoded"))) {
        tx->processor = WAF_PROCESSOR_URLENCODED;
        tx->processor_name = WAF_LIT("URLENCODED");
    } else if (starts(type, WAF_LIT("multipart/form-data"))) {
        tx->processor = WAF_PROCESSOR_MULTIPART;
        tx->processor_name = WAF_LIT("MULTIPART");
    }
}

static void phase_request_headers(struct waf_tx *tx)
{
    const struct waf_options *o = &tx->rules->options;
    tx->query_is_unread = true;
    if (o->values || tx->query.n >= o->arguments_limit) {
        waf_read_query(tx); // too many arguments are an error that rules see elsewhere
    }
    if (o->values) {
        waf_context_request(tx);
    }
    choose_processor(tx);
    run(tx, 1);
}

bool waf_tx_request_headers(struct waf_tx *tx, struct waf_verdict *out)
{
    if (tx->mode != WAF_MODE_OFF) {
        GUARDED(tx, phase_request_headers(tx));
    }
    return verdict(tx, out);
}

bool waf_tx_wants_request_body(const struct waf_tx *tx)
{
    return tx->request_body_access && tx->mode != WAF_MODE_OFF && !tx->intercepted &&
           !tx->allowed_all && !tx->allowed_request;
}

void waf_tx_ignore_request_body(struct waf_tx *tx)
{
    tx->request_body_access = false;
}

static bool over_request_limit(struct waf_tx *tx)
{
    tx->body_over_limit = true;
    if (tx->request_partial || tx->mode != WAF_MODE_PREVENTION) {
        return false;
    }
    return refuse(tx, 413, WAF_LIT("request body is larger than SecRequestBodyLimit"));
}

// Appends up to `limit`. @return false: no memory
static bool keep(char **p, size_t *n, size_t *cap, struct waf_str bytes, size_t limit)
{
    size_t room = limit > *n ? limit - *n : 0, add = bytes.n < room ? bytes.n : room;
    if (*n + add > *cap) {
        size_t more = (*n + add) * 2 < 4096 ? 4096 : (*n + add) * 2;
        char *bigger = realloc(*p, more);
        if (bigger == NULL) {
            return false;
        }
        *p = bigger;
        *cap = more;
    }
    if (add != 0) {
        memcpy(*p + *n, bytes.p, add);
        *n += add;
    }
    return true;
}

bool waf_tx_request_body(struct waf_tx *tx, struct waf_str bytes, struct waf_verdict *out)
{
    tx->body_seen += bytes.n;
    if (!waf_tx_wants_request_body(tx) || tx->body_borrowed) {
        return verdict(tx, out);
    }
    if (!keep(&tx->body, &tx->body_n, &tx->body_cap, bytes, tx->request_limit)) {
        tx->exhausted = true;
    }
    if (tx->body_seen > tx->request_limit) {
        over_request_limit(tx);
    }
    return verdict(tx, out);
}

bool waf_tx_request_body_whole(struct waf_tx *tx, struct waf_str body, struct waf_verdict *out)
{
    if (!waf_tx_wants_request_body(tx) || tx->body != NULL) {
        return verdict(tx, out);
    }
    tx->body_seen = body.n;
    tx->body = (char *)(uintptr_t)body.p; // read only from here on
    tx->body_borrowed = true;
    tx->body_n = body.n < tx->request_limit ? body.n : tx->request_limit;
    if (body.n > tx->request_limit) {
        over_request_limit(tx);
    }
    return verdict(tx, out);
}

static size_t last_segment(const char *p, size_t n)
{
    while (n > 1 && p[n - 1] != '/') {
        n--;
    }
    return n;
}

// httpd maps the request between phases 1 and 2: from then on the path is decoded once (but for an
// encoded slash), its dot segments are resolved and double slashes merged.
static void map_path(struct waf_tx *tx)
{
    struct waf_str in = tx->path;
    if (in.n == 0 || (memchr(in.p, '%', in.n) == NULL && memchr(in.p, '.', in.n) == NULL &&
                      memmem(in.p, in.n, "//", 2) == NULL)) {
        return;
    }
    char *buf = waf_alloc(&tx->arena, in.n + 1), *d = buf, *out;
    bool odd = false;
    for (size_t i = 0; i < in.n; i++) {
        int hi = in.p[i] == '%' && i + 2 < in.n ? waf_hex((unsigned char)in.p[i + 1]) : -1;
        int lo = hi >= 0 ? waf_hex((unsigned char)in.p[i + 2]) : -1;
        int c = hi * 16 + lo;
        if (lo >= 0 && c != '/') {
            *d++ = (char)c;
            i += 2;
        } else {
            *d++ = in.p[i];
        }
        odd |= in.p[i] == '%' || in.p[i] == '.' || (in.p[i] == '/' && i > 0 && in.p[i - 1] == '/');
    }
    struct waf_str s = {buf, (size_t)(d - buf)};
    odd |= s.n != in.n;
    if (!odd || s.n == 0 || s.p[0] != '/') {
        tx->path = s;
        return;
    }
    out = waf_alloc(&tx->arena, s.n + 1);
    size_t n = 1;
    out[0] = '/';
    for (size_t i = 1; i < s.n;) {
        size_t start = i;
        while (i < s.n && s.p[i] != '/') {
            i++;
        }
        size_t len = i - start, whole = i < s.n ? len + 1 : len;
        i++;
        if (len == 0 || (len == 1 && s.p[start] == '.')) {
            continue;
        }
        if (len == 2 && s.p[start] == '.' && s.p[start + 1] == '.') {
            n = n > 1 ? last_segment(out, n - 1) : 1;
            continue;
        }
        memcpy(out + n, s.p + start, whole);
        n += whole;
    }
    tx->path = (struct waf_str){out, n};
}

static void phase_request_body(struct waf_tx *tx)
{
    tx->phase = 2;
    map_path(tx);
    if (waf_tx_wants_request_body(tx)) {
        bool files = tx->processor == WAF_PROCESSOR_MULTIPART;
        if (!files && tx->body_n > tx->nofiles_limit) {
            waf_body_error(tx, "Request body excluding files is bigger than the maximum expected.");
            if (tx->mode == WAF_MODE_PREVENTION && !tx->request_partial) {
                refuse(tx, 413, WAF_LIT("request body is larger than SecRequestBodyNoFilesLimit"));
                return;
            }
            tx->body_n = tx->nofiles_limit;
        }
        waf_body_process(tx);
    }
    waf_forget_lists(tx, 2);
    run(tx, 2);
}

bool waf_tx_request_body_end(struct waf_tx *tx, struct waf_verdict *out)
{
    if (tx->mode != WAF_MODE_OFF) {
        GUARDED(tx, phase_request_body(tx));
    }
    return verdict(tx, out);
}

void waf_tx_response_line(struct waf_tx *tx, int status, struct waf_str protocol)
{
    tx->response_status = status;
    tx->response_protocol = protocol;
}

void waf_tx_response_header(struct waf_tx *tx, struct waf_str name, struct waf_str value)
{
    header_add(tx, &tx->response_headers, name, value);
}

// True when the body's type is one of SecResponseBodyMimeType.
static bool inspects_type(const struct waf_tx *tx)
{
    const struct waf_options *o = &tx->rules->options;
    struct waf_str type = {NULL, 0};
    for (uint32_t i = 0; i < tx->response_headers.n; i++) {
        const struct waf_header *h = WAF_AT(&tx->response_headers, struct waf_header, i);
        if (waf_ieq(h->name, WAF_LIT("Content-Type"))) {
            type = h->value;
        }
    }
    size_t n = 0;
    while (n < type.n && type.p[n] != ';' && type.p[n] != ' ') {
        n++;
    }
    type.n = n;
    for (unsigned i = 0; i < o->mime_count; i++) {
        if (waf_ieq(o->mime_types[i], type) ||
            (type.p == NULL && waf_ieq(o->mime_types[i], WAF_LIT("null")))) {
            return true;
        }
    }
    return false;
}

static void phase_response_headers(struct waf_tx *tx)
{
    waf_forget_lists(tx, 3);
    tx->inspects_response = inspects_type(tx);
    run(tx, 3);
}

bool waf_tx_response_headers(struct waf_tx *tx, struct waf_verdict *out)
{
    const volatile bool before = tx->intercepted;
    if (tx->mode != WAF_MODE_OFF) {
        GUARDED(tx, phase_response_headers(tx));
    }
    return !before && verdict(tx, out);
}

bool waf_tx_wants_response_body(const struct waf_tx *tx)
{
    return tx->response_body_access && tx->inspects_response && tx->mode != WAF_MODE_OFF &&
           !tx->intercepted && !tx->allowed_all;
}

bool waf_tx_response_body(struct waf_tx *tx, struct waf_str bytes, struct waf_verdict *out)
{
    if (!waf_tx_wants_response_body(tx)) {
        return verdict(tx, out);
    }
    bool over = bytes.n > tx->response_limit || tx->response_n > tx->response_limit - bytes.n;
    if (!keep(&tx->response, &tx->response_n, &tx->response_cap, bytes, tx->response_limit)) {
        tx->exhausted = true;
    }
    if (over) {
        tx->response_over_limit = true;
        if (!tx->rules->options.response_partial && tx->mode == WAF_MODE_PREVENTION) {
            refuse(tx, 500, WAF_LIT("response body is larger than SecResponseBodyLimit"));
        }
    }
    return verdict(tx, out);
}

static void phase_response_body(struct waf_tx *tx)
{
    waf_forget_lists(tx, 4);
    run(tx, 4);
}

bool waf_tx_response_body_end(struct waf_tx *tx, struct waf_verdict *out)
{
    const volatile bool before = tx->intercepted;
    if (tx->mode != WAF_MODE_OFF) {
        GUARDED(tx, phase_response_body(tx));
    }
    return !before && verdict(tx, out);
}

void waf_tx_logging(struct waf_tx *tx, int status)
{
    if (status != 0 && status != tx->response_status) {
        tx->response_status = status;
        waf_forget_lists(tx, WAF_PHASES);
    }
    if (tx->mode != WAF_MODE_OFF && tx->rules->programs[5].n != 0) {
        GUARDED(tx, run(tx, 5));
    }
    for (int i = 0; i < WAF_STORES; i++) {
        if (tx->stores[i].record != NULL) {
            waf_record_close(tx, tx->stores[i].record);
        }
    }
}
