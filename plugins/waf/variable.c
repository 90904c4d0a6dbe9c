// SPDX-License-Identifier: Apache-2.0
// Variables: what a target of a rule stands for in this transaction.
#include "waf/waf.h"

#include <stdio.h>
#include <time.h>

const struct waf_var_info waf_var_table[WAF_VARS] = {
#define VAR(name, shape, family, part) {#name, WAF_SHAPE_##shape, WAF_##family, WAF_##part},
#include "waf/variable.def"
#undef VAR
};

bool waf_var_find(struct waf_str name, enum waf_var *out)
{
    for (int i = 0; i < WAF_VARS; i++) {
        if (waf_ieq(waf_cstr(waf_var_table[i].name), name)) {
            *out = (enum waf_var)i;
            return true;
        }
    }
    return false;
}

struct waf_str waf_digits(struct waf_arena *a, long v)
{
    return waf_format_long(waf_alloc(a, WAF_DIGITS_MAX), v);
}

struct waf_str waf_request_header(const struct waf_tx *tx, const char *name)
{
    struct waf_str want = waf_cstr(name);
    for (uint32_t i = 0; i < tx->headers.n; i++) {
        const struct waf_header *h = WAF_AT(&tx->headers, struct waf_header, i);
        if (waf_ieq(h->name, want)) {
            return h->value;
        }
    }
    return (struct waf_str){NULL, 0};
}

// --- lists -----------------------------------------------------------------------

struct adder {
    struct waf_tx *tx;
    struct waf_vec vec;
    enum waf_var var;
};

static void add(struct adder *a, struct waf_str key, struct waf_text *text)
{
    struct waf_val *v = waf_push(&a->tx->arena, &a->vec, sizeof *v);
    *v = (struct waf_val){.var = a->var, .key = key, .text = text};
}

static void add_str(struct adder *a, struct waf_str key, struct waf_str value)
{
    add(a, key, waf_text_new(a->tx, value, waf_var_table[a->var].family));
}

static void add_one(struct adder *a, struct waf_str value)
{
    add_str(a, WAF_LIT(""), value);
}

static void add_optional(struct adder *a, struct waf_str s)
{
    if (s.p != NULL) {
        add_one(a, s);
    }
}

static void add_long(struct adder *a, long value)
{
    add_one(a, waf_digits(&a->tx->arena, value));
}

static void add_flag(struct adder *a, bool value)
{
    add_one(a, value ? WAF_LIT("1") : WAF_LIT("0"));
}

static void add_args(struct adder *a, bool query, bool body, bool json, bool names)
{
    waf_read_query(a->tx);
    for (uint32_t i = 0; i < a->tx->args.n; i++) {
        const struct waf_arg *g = WAF_AT(&a->tx->args, struct waf_arg, i);
        bool in = g->origin == WAF_FROM_QUERY ? query : g->origin == WAF_FROM_BODY ? body : json;
        bool is_apart = g->is_prose && !names; // ARGS_PROSE has it
        if (in && !is_apart) {
            add(a, g->name->s, names ? g->name : g->value);
        }
    }
}

static void add_prose(struct adder *a)
{
    waf_read_query(a->tx);
    for (uint32_t i = 0; i < a->tx->args.n; i++) {
        const struct waf_arg *g = WAF_AT(&a->tx->args, struct waf_arg, i);
        if (g->is_prose) {
            add(a, g->name->s, g->value);
        }
    }
}

static struct waf_text *header_name(struct adder *a, struct waf_header *h)
{
    if (h->name_text == NULL) {
        h->name_text = waf_text_new(a->tx, h->name, waf_var_table[a->var].family);
    }
    return h->name_text;
}

static struct waf_text *header_value(struct adder *a, struct waf_header *h)
{
    if (h->value_text == NULL) {
        h->value_text = waf_text_new(a->tx, h->value, waf_var_table[a->var].family);
    }
    return h->value_text;
}

static void add_headers(struct adder *a, const struct waf_vec *headers, bool names)
{
    for (uint32_t i = 0; i < headers->n; i++) {
        struct waf_header *h = WAF_AT(headers, struct waf_header, i);
        add(a, h->name, names ? header_name(a, h) : header_value(a, h));
    }
}

static void add_pairs(struct adder *a, const struct waf_vec *pairs, bool names)
{
    for (uint32_t i = 0; i < pairs->n; i++) {
        const struct waf_arg *g = WAF_AT(pairs, struct waf_arg, i);
        add(a, g->name->s, names ? g->name : g->value);
    }
}

static void add_files(struct adder *a)
{
    struct waf_tx *tx = a->tx;
    long total = 0;
    for (uint32_t i = 0; i < tx->files.n; i++) {
        const struct waf_part_file *f = WAF_AT(&tx->files, struct waf_part_file, i);
        total += (long)f->size;
        if (a->var == WAF_VAR_FILES) {
            add(a, f->name->s, f->filename);
        } else if (a->var == WAF_VAR_FILES_NAMES) {
            add(a, f->name->s, f->name);
        } else if (a->var == WAF_VAR_FILES_SIZES) {
            add_str(a, f->name->s, waf_printf(&tx->arena, "%zu", f->size));
        }
    }
    if (a->var == WAF_VAR_FILES_COMBINED_SIZE) {
        add_long(a, total);
    }
}

static struct waf_str basename_of(struct waf_str path)
{
    size_t i = path.n;
    while (i > 0 && path.p[i - 1] != '/' && path.p[i - 1] != '\\') {
        i--;
    }
    return (struct waf_str){path.p + i, path.n - i};
}

static struct waf_str join3(struct waf_tx *tx, struct waf_str a, char sep, struct waf_str b)
{
    char *p = waf_alloc(&tx->arena, a.n + b.n + 2);
    memcpy(p, a.p, a.n);
    p[a.n] = sep;
    if (b.n != 0) {
        memcpy(p + a.n + 1, b.p, b.n);
    }
    return (struct waf_str){p, a.n + 1 + b.n};
}

static struct waf_str request_line(struct waf_tx *tx)
{
    struct waf_str two = join3(tx, tx->method, ' ', tx->uri_raw);
    return tx->protocol.n == 0 ? two : join3(tx, two, ' ', tx->protocol);
}

static void add_full_request(struct adder *a)
{
    struct waf_tx *tx = a->tx;
    struct waf_vec out = {0};
    struct waf_str line = request_line(tx);
    size_t total = line.n + 3 + tx->body_n;
    (void)out;
    for (uint32_t i = 0; i < tx->headers.n; i++) {
        const struct waf_header *h = WAF_AT(&tx->headers, struct waf_header, i);
        total += h->name.n + h->value.n + 3;
    }
    if (a->var == WAF_VAR_FULL_REQUEST_LENGTH) {
        add_long(a, (long)total);
        return;
    }
    char *p = waf_alloc(&tx->arena, total + 1), *d = p;
    d = (char *)mempcpy(d, line.p, line.n);
    *d++ = '\n';
    for (uint32_t i = 0; i < tx->headers.n; i++) {
        const struct waf_header *h = WAF_AT(&tx->headers, struct waf_header, i);
        d = (char *)mempcpy(d, h->name.p, h->name.n);
        *d++ = ':';
        *d++ = ' ';
        d = (char *)mempcpy(d, h->value.p, h->value.n);
        *d++ = '\n';
    }
    *d++ = '\n';
    if (tx->body_n != 0) {
        d = (char *)mempcpy(d, tx->body, tx->body_n);
    }
    add_one(a, (struct waf_str){p, (size_t)(d - p)});
}

static void add_args_size(struct adder *a)
{
    size_t total = 0;
    for (uint32_t i = 0; i < a->tx->args.n; i++) {
        const struct waf_arg *g = WAF_AT(&a->tx->args, struct waf_arg, i);
        total += g->name->s.n + g->value->s.n;
    }
    add_long(a, (long)total);
}

static void add_multipart(struct adder *a)
{
    const struct waf_multipart *m = &a->tx->multipart;
    switch ((int)a->var) {
#define FLAG(var, field)                                                                           \
    case WAF_VAR_MULTIPART_##var:                                                                  \
        add_flag(a, m->field);                                                                     \
        break
        FLAG(BOUNDARY_QUOTED, boundary_quoted);
        FLAG(BOUNDARY_WHITESPACE, boundary_whitespace);
        FLAG(CRLF_LF_LINES, crlf_lf_lines);
        FLAG(DATA_AFTER, data_after);
        FLAG(DATA_BEFORE, data_before);
        FLAG(FILE_LIMIT_EXCEEDED, file_limit_exceeded);
        FLAG(HEADER_FOLDING, header_folding);
        FLAG(INVALID_HEADER_FOLDING, invalid_header_folding);
        FLAG(INVALID_PART, invalid_part);
        FLAG(INVALID_QUOTING, invalid_quoting);
        FLAG(LF_LINE, lf_line);
        FLAG(MISSING_SEMICOLON, missing_semicolon);
#undef FLAG
    case WAF_VAR_MULTIPART_FILENAME:
        add_optional(a, m->filename);
        break;
    case WAF_VAR_MULTIPART_NAME:
        add_optional(a, m->name);
        break;
    case WAF_VAR_MULTIPART_UNMATCHED_BOUNDARY:
        add_long(a, m->unmatched);
        break;
    default: // MULTIPART_STRICT_ERROR
        add_flag(a, (a->tx->body_error && a->tx->processor == WAF_PROCESSOR_MULTIPART) ||
                        m->boundary_quoted || m->boundary_whitespace || m->data_before ||
                        m->data_after || m->header_folding || m->lf_line || m->missing_semicolon ||
                        m->invalid_quoting || m->invalid_part || m->invalid_header_folding ||
                        m->file_limit_exceeded);
    }
}

static void add_body(struct adder *a)
{
    struct waf_tx *tx = a->tx;
    bool filled = tx->processor == WAF_PROCESSOR_URLENCODED ||
                  (tx->force_body &&
                   (tx->processor == WAF_PROCESSOR_NONE || tx->processor == WAF_PROCESSOR_UNKNOWN));
    struct waf_str body = {tx->body, filled && tx->phase >= 2 ? tx->body_n : 0};
    if (a->var == WAF_VAR_REQUEST_BODY_LENGTH) {
        add_long(a, (long)(tx->phase >= 2 ? tx->body_n : 0));
    } else if (filled && tx->phase >= 2 && tx->body_n != 0) {
        add_one(a, body);
    }
}

static struct waf_str status_text(struct waf_tx *tx)
{
    return waf_digits(&tx->arena, tx->response_status);
}

static void add_response_header(struct adder *a, const char *name, bool bare)
{
    for (uint32_t i = 0; i < a->tx->response_headers.n; i++) {
        const struct waf_header *h = WAF_AT(&a->tx->response_headers, struct waf_header, i);
        if (waf_ieq(h->name, waf_cstr(name))) {
            struct waf_str v = h->value;
            const char *semi = bare ? memchr(v.p, ';', v.n) : NULL;
            add_one(a, semi == NULL ? v : (struct waf_str){v.p, (size_t)(semi - v.p)});
            return;
        }
    }
}

static struct waf_str server_name(struct waf_tx *tx)
{
    struct waf_str host = waf_request_header(tx, "Host");
    const char *colon = host.p == NULL ? NULL : memrchr(host.p, ':', host.n);
    return colon == NULL ? host : (struct waf_str){host.p, (size_t)(colon - host.p)};
}

// And of a multipart body.
static void build_of_response(struct adder *a)
{
    struct waf_tx *tx = a->tx;
    switch ((int)a->var) {
    case WAF_VAR_RESPONSE_BODY:
        if (tx->response_n != 0) {
            add_one(a, (struct waf_str){tx->response, tx->response_n});
        }
        break;
    case WAF_VAR_RESPONSE_CONTENT_LENGTH:
        add_response_header(a, "Content-Length", false);
        break;
    case WAF_VAR_RESPONSE_CONTENT_TYPE:
        add_response_header(a, "Content-Type", true);
        break;
    case WAF_VAR_RESPONSE_PROTOCOL:
        add_one(a, tx->response_protocol);
        break;
    case WAF_VAR_RESPONSE_STATUS:
        add_one(a, status_text(tx));
        break;
    case WAF_VAR_STATUS_LINE:
        add_one(a, join3(tx, tx->response_protocol, ' ', status_text(tx)));
        break;
    default:
        add_multipart(a);
    }
}

static void build_one(struct adder *a)
{
    struct waf_tx *tx = a->tx;
    switch ((int)a->var) {
    case WAF_VAR_ARGS_COMBINED_SIZE:
        waf_read_query(tx);
        add_args_size(a);
        break;
    case WAF_VAR_FILES_COMBINED_SIZE:
        add_files(a);
        break;
    case WAF_VAR_FULL_REQUEST:
    case WAF_VAR_FULL_REQUEST_LENGTH:
        add_full_request(a);
        break;
    case WAF_VAR_INBOUND_DATA_ERROR:
        add_flag(a, tx->body_over_limit);
        break;
    case WAF_VAR_OUTBOUND_DATA_ERROR:
        add_flag(a, tx->response_over_limit);
        break;
    case WAF_VAR_QUERY_STRING:
        if (tx->has_query) {
            add_one(a, tx->query);
        }
        break;
    case WAF_VAR_REMOTE_ADDR:
    case WAF_VAR_REMOTE_HOST:
    case WAF_VAR_USERAGENT_IP:
        add_one(a, tx->client);
        break;
    case WAF_VAR_REMOTE_PORT:
        add_long(a, tx->client_port);
        break;
    case WAF_VAR_REQBODY_ERROR:
    case WAF_VAR_REQBODY_PROCESSOR_ERROR:
        add_flag(a, tx->body_error);
        break;
    case WAF_VAR_REQBODY_ERROR_MSG:
    case WAF_VAR_REQBODY_PROCESSOR_ERROR_MSG:
        add_one(a, tx->body_error_msg);
        break;
    case WAF_VAR_REQUEST_BASENAME:
        add_one(a, basename_of(tx->path));
        break;
    case WAF_VAR_REQUEST_BODY:
    case WAF_VAR_REQUEST_BODY_LENGTH:
        add_body(a);
        break;
    case WAF_VAR_REQUEST_BODY_WHOLE: // ours: of any type
        if (tx->phase >= 2 && tx->body_n != 0) {
            add_one(a, (struct waf_str){tx->body, tx->body_n});
        }
        break;
    case WAF_VAR_REQUEST_FILENAME:
        add_one(a, tx->path);
        break;
    case WAF_VAR_REQUEST_LINE:
        add_one(a, request_line(tx));
        break;
    case WAF_VAR_REQUEST_METHOD:
        add_one(a, tx->method);
        break;
    case WAF_VAR_REQUEST_PROTOCOL:
        add_one(a, tx->protocol);
        break;
    case WAF_VAR_REQUEST_URI:
        add_one(a, tx->has_query ? join3(tx, tx->path, '?', tx->query) : tx->path);
        break;
    case WAF_VAR_REQUEST_URI_RAW:
        add_one(a, tx->uri_raw);
        break;
    case WAF_VAR_SERVER_ADDR:
        add_one(a, tx->server);
        break;
    case WAF_VAR_SERVER_NAME:
        add_optional(a, server_name(tx));
        break;
    case WAF_VAR_SERVER_PORT:
        add_long(a, tx->server_port);
        break;
    case WAF_VAR_UNIQUE_ID:
        add_one(a, tx->unique_id);
        break;
    case WAF_VAR_URLENCODED_ERROR:
        waf_read_query(tx);
        add_flag(a, tx->urlencoded_error);
        break;
    case WAF_VAR_AUTH_TYPE:
    case WAF_VAR_PATH_INFO:
    case WAF_VAR_REMOTE_USER:
        break; // the gateway has none
    default:
        build_of_response(a);
    }
}

static void build_xml(struct adder *a)
{
    struct waf_tx *tx = a->tx;
    if (!tx->xml_ok) {
        return;
    }
    if (a->var == WAF_VAR_XML) {
        add_str(a, WAF_LIT("/*"), tx->xml_text);
        return;
    }
    for (uint32_t i = 0; i < tx->xml_attributes.n; i++) {
        add_str(a, WAF_LIT("//@*"), *WAF_AT(&tx->xml_attributes, struct waf_str, i));
    }
}

static void build_many(struct adder *a)
{
    struct waf_tx *tx = a->tx;
    switch ((int)a->var) {
    case WAF_VAR_ARGS:
        add_args(a, true, true, true, false);
        break;
    case WAF_VAR_ARGS_NAMES:
        add_args(a, true, true, true, true);
        break;
    case WAF_VAR_ARGS_GET:
        add_args(a, true, false, false, false);
        break;
    case WAF_VAR_ARGS_GET_NAMES:
        add_args(a, true, false, false, true);
        break;
    case WAF_VAR_ARGS_POST:
        add_args(a, false, true, false, false);
        break;
    case WAF_VAR_ARGS_POST_NAMES:
        add_args(a, false, true, false, true);
        break;
    case WAF_VAR_ARGS_PROSE:
        add_prose(a);
        break;
    case WAF_VAR_REQUEST_HEADERS:
        add_headers(a, &tx->headers, false);
        break;
    case WAF_VAR_REQUEST_HEADERS_NAMES:
        add_headers(a, &tx->headers, true);
        break;
    case WAF_VAR_RESPONSE_HEADERS:
        add_headers(a, &tx->response_headers, false);
        break;
    case WAF_VAR_RESPONSE_HEADERS_NAMES:
        add_headers(a, &tx->response_headers, true);
        break;
    case WAF_VAR_REQUEST_COOKIES:
        waf_read_cookies(tx);
        add_pairs(a, &tx->cookies, false);
        break;
    case WAF_VAR_REQUEST_COOKIES_NAMES:
        waf_read_cookies(tx);
        add_pairs(a, &tx->cookies, true);
        break;
    case WAF_VAR_MULTIPART_PART_HEADERS:
        add_pairs(a, &tx->part_headers, false);
        break;
    case WAF_VAR_XML:
    case WAF_VAR_XML_ATTRIBUTES:
        build_xml(a);
        break;
    default:
        add_files(a);
    }
}

struct waf_list *waf_list_make(struct waf_tx *tx, enum waf_var var)
{
    struct waf_list *list = &tx->lists[var];
    struct adder a = {.tx = tx, .var = var};
    if (waf_var_table[var].shape == WAF_SHAPE_ONE) {
        build_one(&a);
    } else {
        build_many(&a);
    }
    *list = (struct waf_list){.v = a.vec.items, .n = a.vec.n};
    tx->built[var / 64] |= UINT64_C(1) << (var % 64);
    return list;
}

void waf_vars_of_phases(struct waf_ruleset *rules)
{
    for (int i = 0; i < WAF_VARS; i++) {
        uint64_t bit = UINT64_C(1) << (i % 64);
        rules->body_vars[i / 64] |= waf_var_table[i].part == WAF_BODY ? bit : 0;
        rules->response_vars[i / 64] |= waf_var_table[i].family == WAF_RESPONSE ? bit : 0;
    }
}

void waf_forget_lists(struct waf_tx *tx, unsigned phase)
{
    const struct waf_ruleset *r = tx->rules;
    const uint64_t *anew = phase == 2 ? r->body_vars : r->response_vars;
    for (int i = 0; i < WAF_VAR_WORDS; i++) {
        tx->built[i] &= ~anew[i];
    }
    memset(tx->watched, 0, sizeof *tx->watched * r->watch_count);
}

// --- TX and the persistent collections ---------------------------------------------

struct waf_cell *waf_cell_find(struct waf_tx *tx, struct waf_str name, bool make)
{
    int slot = waf_slot_of(tx->rules, name);
    if (slot >= 0) {
        return &tx->cells[slot];
    }
    uint32_t hash = waf_ihash(name);
    for (uint32_t i = 0; i < tx->extra.n; i++) {
        struct waf_cell *c = WAF_AT(&tx->extra, struct waf_cell, i);
        if (c->hash == hash && waf_ieq(c->name, name)) {
            return c;
        }
    }
    if (!make) {
        return NULL;
    }
    struct waf_cell *c = waf_push(&tx->arena, &tx->extra, sizeof *c);
    *c = (struct waf_cell){.name = waf_dup(&tx->arena, name), .hash = hash};
    return c;
}

void waf_cell_set(struct waf_tx *tx, struct waf_cell *cell, struct waf_str value)
{
    (void)tx;
    cell->value = value;
    cell->text = NULL;
    cell->is_set = value.p != NULL;
    cell->has_number = false;
}

static void add_cell(struct adder *a, struct waf_str name, struct waf_cell *c)
{
    if (!c->is_set) {
        return;
    }
    if (c->text == NULL) {
        c->text = waf_text_new(a->tx, c->value, WAF_REQUEST);
    }
    add(a, name, c->text);
}

static void values_tx(struct adder *a, const struct waf_target *t)
{
    struct waf_tx *tx = a->tx;
    if (t->slot >= 0) {
        add_cell(a, tx->rules->slot_names[t->slot], &tx->cells[t->slot]);
        return;
    }
    uint32_t n = t->key_re != NULL ? t->slot_count : t->key.p == NULL ? tx->rules->slot_count : 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = t->key_re != NULL ? t->slots[i] : i;
        add_cell(a, tx->rules->slot_names[slot], &tx->cells[slot]);
    }
    for (uint32_t i = 0; i < tx->extra.n; i++) {
        struct waf_cell *c = WAF_AT(&tx->extra, struct waf_cell, i);
        if (c->is_set &&
            (t->key.p == NULL || (t->key_re != NULL ? waf_re_match(tx, t->key_re, c->name)
                                                    : waf_ieq(t->key, c->name)))) {
            add_cell(a, c->name, c);
        }
    }
}

static void values_store(struct adder *a, const struct waf_target *t)
{
    struct waf_tx *tx = a->tx;
    int which = waf_store_index(t->var);
    struct waf_record *r = waf_record_of(tx, t->var);
    long fact;
    if (r == NULL) { // no rule has opened it
        return;
    }
    if (t->key.p != NULL && waf_ieq(t->key, WAF_LIT("KEY"))) {
        add_str(a, t->key, tx->stores[which].key);
        return;
    }
    if (t->key.p != NULL && t->key_re == NULL && waf_record_fact(r, t->key, tx, &fact)) {
        add_str(a, t->key, waf_digits(&tx->arena, fact));
        return;
    }
    struct waf_str name, value;
    for (size_t i = 0; i < waf_record_count(r); i++) {
        if (!waf_record_at(r, i, tx->now_s, &name, &value)) {
            continue;
        }
        if (t->key.p == NULL ||
            (t->key_re != NULL ? waf_re_match(tx, t->key_re, name) : waf_ieq(t->key, name))) {
            add_str(a, waf_dup(&tx->arena, name), waf_dup(&tx->arena, value));
        }
    }
}

// Names of what waf_place has, as GEO's keys.
static const char *const geo_keys[] = {"COUNTRY_CODE", "COUNTRY_CONTINENT", "CITY"};

bool waf_geo_has(struct waf_str key)
{
    for (size_t i = 0; i < sizeof geo_keys / sizeof geo_keys[0]; i++) {
        if (waf_ieq(key, waf_cstr(geo_keys[i]))) {
            return true;
        }
    }
    return false;
}

static void values_geo(struct adder *a, const struct waf_target *t)
{
    const struct waf_place *p = a->tx->place;
    for (size_t i = 0; i < sizeof geo_keys / sizeof geo_keys[0] && p != NULL; i++) {
        const char *const values[] = {p->country, p->continent, p->city};
        struct waf_str key = waf_cstr(geo_keys[i]), value = waf_cstr(values[i]);
        if (value.n != 0 &&
            (t->key.p == NULL ||
             (t->key_re != NULL ? waf_re_match(a->tx, t->key_re, key) : waf_ieq(t->key, key)))) {
            add_str(a, key, value);
        }
    }
}

static struct waf_str rule_field(struct waf_tx *tx, struct waf_str key)
{
    const struct waf_rule *r = tx->rule;
    if (r == NULL) {
        return (struct waf_str){NULL, 0};
    }
    if (waf_ieq(key, WAF_LIT("id"))) {
        return waf_printf(&tx->arena, "%d", r->id);
    }
    if (waf_ieq(key, WAF_LIT("msg"))) {
        return r->msg != NULL ? r->msg_text : WAF_LIT(""); // as written: it may name itself
    }
    if (waf_ieq(key, WAF_LIT("logdata"))) {
        return r->logdata != NULL ? r->logdata_text : WAF_LIT("");
    }
    if (waf_ieq(key, WAF_LIT("severity"))) {
        return r->severity < 0 ? (struct waf_str){NULL, 0}
                               : waf_printf(&tx->arena, "%d", r->severity);
    }
    if (waf_ieq(key, WAF_LIT("rev"))) {
        return r->rev;
    }
    return waf_ieq(key, WAF_LIT("ver")) ? r->ver : (struct waf_str){NULL, 0};
}

static void values_time(struct adder *a)
{
    time_t now = (time_t)a->tx->now_s;
    struct tm t;
    localtime_r(&now, &t);
    switch ((int)a->var) {
    case WAF_VAR_TIME:
        add_one(a, waf_printf(&a->tx->arena, "%02d:%02d:%02d", t.tm_hour, t.tm_min, t.tm_sec));
        break;
    case WAF_VAR_TIME_DAY:
        add_long(a, t.tm_mday);
        break;
    case WAF_VAR_TIME_EPOCH:
        add_long(a, (long)a->tx->now_s);
        break;
    case WAF_VAR_TIME_HOUR:
        add_long(a, t.tm_hour);
        break;
    case WAF_VAR_TIME_MIN:
        add_long(a, t.tm_min);
        break;
    case WAF_VAR_TIME_MON:
        add_long(a, t.tm_mon + 1);
        break;
    case WAF_VAR_TIME_SEC:
        add_long(a, t.tm_sec);
        break;
    case WAF_VAR_TIME_WDAY:
        add_long(a, t.tm_wday);
        break;
    case WAF_VAR_TIME_YEAR:
        add_long(a, t.tm_year + 1900);
        break;
    default:
        break;
    }
}

static void values_dynamic(struct adder *a, const struct waf_target *t)
{
    struct waf_tx *tx = a->tx;
    struct timespec ts;
    switch ((int)t->var) {
    case WAF_VAR_DURATION:
        clock_gettime(CLOCK_MONOTONIC, &ts);
        add_long(a, (long)(ts.tv_sec * 1000000 + ts.tv_nsec / 1000 - tx->started_us));
        break;
    case WAF_VAR_HIGHEST_SEVERITY:
        add_long(a, tx->highest_severity);
        break;
    case WAF_VAR_MATCHED_VAR:
        if (tx->matched.text != NULL) {
            add(a, WAF_LIT(""), tx->matched.text);
        }
        break;
    case WAF_VAR_MATCHED_VAR_NAME:
        if (tx->matched.text != NULL) {
            add_one(a, waf_val_name(tx, &tx->matched));
        }
        break;
    case WAF_VAR_MATCHED_VARS:
    case WAF_VAR_MATCHED_VARS_NAMES:
        for (uint32_t i = 0; i < tx->matched_all.n; i++) {
            struct waf_val *v = WAF_AT(&tx->matched_all, struct waf_val, i);
            struct waf_str name = waf_val_name(tx, v);
            if (t->key.p != NULL &&
                !(t->key_re != NULL ? waf_re_match(tx, t->key_re, name) : waf_ieq(name, t->key))) {
                continue;
            }
            if (t->var == WAF_VAR_MATCHED_VARS) {
                add(a, name, v->text);
            } else {
                add_str(a, name, name);
            }
        }
        break;
    case WAF_VAR_REQBODY_PROCESSOR:
        if (tx->processor != WAF_PROCESSOR_NONE) {
            add_one(a, tx->processor_name);
        } else {
            add_one(a, WAF_LIT(""));
        }
        break;
    case WAF_VAR_RULE:
        if (t->key.p != NULL && rule_field(tx, t->key).p != NULL) {
            add_str(a, t->key, rule_field(tx, t->key));
        }
        break;
    case WAF_VAR_WEBAPPID:
        add_one(a, tx->rules->options.web_app);
        break;
    case WAF_VAR_ENV:
    case WAF_VAR_SESSIONID:
    case WAF_VAR_USERID:
        break;
    default:
        values_time(a);
    }
}

// --- targets -----------------------------------------------------------------------

static bool key_matches(struct waf_tx *tx, const struct waf_target *t, const struct waf_val *v)
{
    if (t->key_re != NULL) {
        return waf_re_match(tx, t->key_re, v->key);
    }
    return waf_ieq(v->key, t->key);
}

// Most rules about header fields name the one: the list of all is not made for them.
static void values_header(struct adder *a, const struct waf_target *t)
{
    for (uint32_t i = 0; i < a->tx->headers.n; i++) {
        struct waf_header *h = WAF_AT(&a->tx->headers, struct waf_header, i);
        if (t->key_re != NULL ? waf_re_match(a->tx, t->key_re, h->name)
                              : waf_ieq(h->name, t->key)) {
            add(a, h->name, header_value(a, h));
        }
    }
}

struct waf_span waf_target_values(struct waf_tx *tx, const struct waf_target *t)
{
    enum waf_shape shape = waf_var_table[t->var].shape;
    struct adder a = {.tx = tx, .var = t->var};
    if (t->var == WAF_VAR_REQUEST_HEADERS && t->key.p != NULL) {
        values_header(&a, t);
    } else if (shape <= WAF_SHAPE_MANY) {
        const struct waf_list *list = waf_list_of(tx, t->var);
        if (t->key.p == NULL || t->var == WAF_VAR_XML || t->var == WAF_VAR_XML_ATTRIBUTES) {
            return (struct waf_span){list->v, list->n};
        }
        uint32_t first = UINT32_MAX;
        for (uint32_t i = 0; i < list->n; i++) {
            if (!key_matches(tx, t, &list->v[i])) {
                continue;
            }
            if (first == UINT32_MAX) {
                first = i;
            }
            struct waf_val *v = waf_push(&tx->arena, &a.vec, sizeof *v);
            *v = list->v[i];
        }
    } else if (t->var == WAF_VAR_TX) {
        values_tx(&a, t);
    } else if (t->var == WAF_VAR_GEO) {
        values_geo(&a, t);
    } else if (shape == WAF_SHAPE_STORE) {
        values_store(&a, t);
    } else {
        values_dynamic(&a, t);
    }
    return (struct waf_span){a.vec.items, a.vec.n};
}

uint32_t waf_target_count(struct waf_tx *tx, const struct waf_target *t)
{
    if (t->var == WAF_VAR_TX && t->slot >= 0) {
        return tx->cells[t->slot].is_set ? 1 : 0;
    }
    if (t->var == WAF_VAR_REQUEST_HEADERS && t->key.p != NULL && t->key_re == NULL) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < tx->headers.n; i++) {
            n += waf_ieq(WAF_AT(&tx->headers, struct waf_header, i)->name, t->key);
        }
        return n;
    }
    if (waf_var_table[t->var].shape <= WAF_SHAPE_MANY && t->key.p != NULL && t->key_re == NULL) {
        const struct waf_list *list = waf_list_of(tx, t->var);
        uint32_t n = 0;
        for (uint32_t i = 0; i < list->n; i++) {
            n += key_matches(tx, t, &list->v[i]);
        }
        return n;
    }
    return waf_target_values(tx, t).n;
}

bool waf_target_covers(const struct waf_target *t, const struct waf_val *v)
{
    if (t->var != v->var) {
        return false;
    }
    if (t->key.p == NULL || t->var == WAF_VAR_XML || t->var == WAF_VAR_XML_ATTRIBUTES) {
        return true;
    }
    return key_matches(NULL, t, v);
}

struct waf_str waf_val_name(struct waf_tx *tx, const struct waf_val *v)
{
    const char *var = v->var == WAF_VAR_XML_ATTRIBUTES ? "XML" : waf_var_table[v->var].name;
    if (v->is_count || (v->key.n == 0 && waf_var_table[v->var].shape != WAF_SHAPE_MANY)) {
        return waf_cstr(var);
    }
    if (v->var == WAF_VAR_XML || v->var == WAF_VAR_XML_ATTRIBUTES) {
        return WAF_LIT("XML");
    }
    if (v->var == WAF_VAR_MATCHED_VARS) {
        return v->key;
    }
    return join3(tx, waf_cstr(var), ':', v->key);
}
