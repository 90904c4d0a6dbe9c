// SPDX-License-Identifier: Apache-2.0
// What fired, and ModSecurity's way to write it down.
#include "waf/waf.h"

#include <stdio.h>

enum { FIRED_MAX = 4096, LOGDATA_MAX = 1024, LINE_MAX_BYTES = 16 * 1024 };

static const char *const severities[] = {"EMERGENCY", "ALERT",  "CRITICAL", "ERROR",
                                         "WARNING",   "NOTICE", "INFO",     "DEBUG"};

void waf_fire(struct waf_tx *tx, const struct waf_rule *rule, struct waf_str message, bool denied)
{
    if (tx->fired.n >= FIRED_MAX) {
        return;
    }
    struct waf_fired *f = waf_alloc(&tx->arena, sizeof *f);
    *f = (struct waf_fired){.id = rule->id,
                            .phase = (int)tx->phase,
                            .severity = rule->severity,
                            .line = rule->line,
                            .denied = denied,
                            .file = rule->file,
                            .tags = rule->tags,
                            .tag_count = rule->tag_count,
                            .message = message,
                            .ver = rule->ver,
                            .rev = rule->rev,
                            .maturity = rule->maturity,
                            .accuracy = rule->accuracy,
                            .status = tx->verdict.status};
    if (rule->msg != NULL) {
        f->msg = waf_expand(tx, rule->msg);
    }
    if (rule->logdata != NULL) {
        f->logdata = waf_expand(tx, rule->logdata);
    }
    if (tx->matched.text != NULL && rule->target_count != 0) {
        f->variable = waf_val_name(tx, &tx->matched);
        f->value = tx->matched.text->s;
    }
    *(struct waf_fired **)waf_push(&tx->arena, &tx->fired, sizeof(struct waf_fired *)) = f;
}

size_t waf_tx_fired_count(const struct waf_tx *tx)
{
    return tx->fired.n;
}

const struct waf_fired *waf_tx_fired(const struct waf_tx *tx, size_t i)
{
    return ((struct waf_fired **)tx->fired.items)[i];
}

struct line {
    char *p;
    size_t n;
};

static void put(struct line *l, const char *s)
{
    size_t n = strlen(s);
    if (l->n + n < LINE_MAX_BYTES) {
        memcpy(l->p + l->n, s, n);
        l->n += n;
    }
}

// Bytes that would break the line or its quotes become \xHH.
static void put_escaped(struct line *l, struct waf_str s, size_t max)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < s.n && i < max && l->n + 8 < LINE_MAX_BYTES; i++) {
        unsigned char c = (unsigned char)s.p[i];
        char *d = l->p + l->n;
        if (c == '\\') {
            d[0] = d[1] = '\\';
            l->n += 2;
        } else if (c < 32 || c >= 127 || c == '"') {
            d[0] = '\\';
            d[1] = 'x';
            d[2] = digits[c >> 4];
            d[3] = digits[c & 15];
            l->n += 4;
        } else {
            d[0] = (char)c;
            l->n++;
        }
    }
}

struct waf_str waf_escape(struct waf_tx *tx, struct waf_str s, size_t max)
{
    size_t n = s.n < max ? s.n : max;
    struct line l = {waf_alloc(&tx->arena, n * 4 + 9), 0};
    put_escaped(&l, s, n);
    l.p[l.n] = '\0';
    return (struct waf_str){l.p, l.n};
}

static void put_field(struct line *l, const char *name, struct waf_str value)
{
    if (value.p == NULL) {
        return;
    }
    put(l, " [");
    put(l, name);
    put(l, " \"");
    put_escaped(l, value, LOGDATA_MAX);
    put(l, "\"]");
}

static void put_number(struct line *l, const char *name, long value)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%ld", value);
    put_field(l, name, (struct waf_str){text, (size_t)n});
}

struct waf_str waf_tx_error_log(struct waf_tx *tx, size_t i)
{
    const struct waf_fired *f = waf_tx_fired(tx, i);
    char head[96];
    jmp_buf full;
    if (setjmp(full) != 0) {
        tx->arena.full = NULL;
        return WAF_LIT("ModSecurity: Warning. (no memory for the line)");
    }
    tx->arena.full = &full;
    struct line l = {waf_alloc(&tx->arena, LINE_MAX_BYTES), 0};
    tx->arena.full = NULL;
    put(&l, "[client ");
    put_escaped(&l, tx->client, 64);
    if (f->denied) {
        (void)snprintf(head, sizeof head, "] ModSecurity: Access denied with code %d (phase %d). ",
                       f->status, f->phase);
    } else {
        (void)snprintf(head, sizeof head, "] ModSecurity: Warning. ");
    }
    put(&l, head);
    put(&l, f->message.p); // its parts are escaped already
    if (f->file != NULL) {
        put_field(&l, "file", waf_cstr(f->file));
        put_number(&l, "line", f->line);
    }
    if (f->id != 0) {
        put_number(&l, "id", f->id);
    }
    put_field(&l, "rev", f->rev);
    put_field(&l, "msg", f->msg);
    put_field(&l, "data", f->logdata);
    if (f->severity >= 0) {
        put_field(&l, "severity", waf_cstr(severities[f->severity & 7]));
    }
    put_field(&l, "ver", f->ver);
    if (f->maturity != 0) {
        put_number(&l, "maturity", f->maturity);
    }
    if (f->accuracy != 0) {
        put_number(&l, "accuracy", f->accuracy);
    }
    for (size_t t = 0; t < f->tag_count; t++) {
        put_field(&l, "tag", waf_cstr(f->tags[t]));
    }
    struct waf_str host = waf_request_header(tx, "Host");
    put_field(&l, "hostname", host.p != NULL ? host : WAF_LIT(""));
    put_field(&l, "uri", tx->path.p != NULL ? tx->path : WAF_LIT(""));
    put_field(&l, "unique_id", tx->unique_id.p != NULL ? tx->unique_id : WAF_LIT(""));
    // the room that the line did not need
    char *end = l.p + ((l.n + 7) & ~(size_t)7);
    if (tx->arena.at == l.p + LINE_MAX_BYTES) {
        tx->arena.at = end;
    }
    return (struct waf_str){l.p, l.n};
}
