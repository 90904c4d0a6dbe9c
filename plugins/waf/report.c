// SPDX-License-Identifier: Apache-2.0
#include "waf/report.h"

#include "waf/waf.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { VALUE_MAX = 200, REPORT_MAX = 256 * 1024 };

struct text {
    char *p;
    size_t n, cap;
    bool failed;
};

static void put(struct text *t, const char *s, size_t n)
{
    if (t->failed || t->n + n > REPORT_MAX) {
        return;
    }
    if (t->n + n + 1 > t->cap) {
        size_t cap = (t->n + n + 1) * 2 < 1024 ? 1024 : (t->n + n + 1) * 2;
        char *bigger = realloc(t->p, cap);
        if (bigger == NULL) {
            t->failed = true;
            return;
        }
        t->p = bigger;
        t->cap = cap;
    }
    memcpy(t->p + t->n, s, n);
    t->n += n;
    t->p[t->n] = '\0';
}

static void puts_to(struct text *t, const char *s)
{
    put(t, s, strlen(s));
}

// Bytes above 0x7f may be no UTF-8: they are written as \u00XX, like controls.
static void put_json(struct text *t, struct waf_str s, size_t max)
{
    char hex[8];
    puts_to(t, "\"");
    size_t end = s.n < max ? s.n : max, plain = 0; // from `plain` on nothing is written yet
    for (size_t i = 0; i < end; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool is_quoted = c == '"' || c == '\\';
        if (!is_quoted && c >= 32 && c < 127) {
            continue;
        }
        put(t, s.p + plain, i - plain);
        plain = i + 1;
        if (is_quoted) {
            put(t, (char[2]){'\\', (char)c}, 2);
        } else {
            (void)snprintf(hex, sizeof hex, "\\u%04x", c);
            put(t, hex, 6);
        }
    }
    if (plain < end) {
        put(t, s.p + plain, end - plain);
    }
    puts_to(t, "\"");
}

static void put_key(struct text *t, const char *key, struct waf_str value, size_t max)
{
    puts_to(t, ",\"");
    puts_to(t, key);
    puts_to(t, "\":");
    put_json(t, value, max);
}

static void put_number(struct text *t, const char *key, long v)
{
    char buf[64];
    (void)snprintf(buf, sizeof buf, ",\"%s\":%ld", key, v);
    puts_to(t, buf);
}

// Names whose values are nobody's business.
static bool is_secret(struct waf_str name)
{
    static const char *const words[] = {
        "authorization", "cookie",  "passw",  "passwd",  "secret",
        "token",         "api-key", "apikey", "api_key", "subscription-key",
        "credit",        "card",    "cvv"};
    char low[256];
    size_t n = name.n < sizeof low - 1 ? name.n : sizeof low - 1;
    for (size_t i = 0; i < n; i++) {
        low[i] = (char)waf_lower((unsigned char)name.p[i]);
    }
    low[n] = '\0';
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strstr(low, words[i]) != NULL) {
            return true;
        }
    }
    return false;
}

static void put_rule(struct text *t, const struct waf_fired *f)
{
    static const char *const severities[] = {"EMERGENCY", "ALERT",  "CRITICAL", "ERROR",
                                             "WARNING",   "NOTICE", "INFO",     "DEBUG"};
    char head[64];
    (void)snprintf(head, sizeof head, "{\"id\":%d", f->id);
    puts_to(t, head);
    put_number(t, "phase", f->phase);
    if (f->severity >= 0) {
        put_key(t, "severity", waf_cstr(severities[f->severity & 7]), 16);
    }
    put_key(t, "msg", f->msg, 512);
    if (f->variable.p != NULL) {
        bool secret = is_secret(f->variable);
        put_key(t, "variable", f->variable, VALUE_MAX);
        put_key(t, "value", secret ? WAF_LIT("[redacted]") : f->value, VALUE_MAX);
        if (f->logdata.p != NULL) {
            put_key(t, "data", secret ? WAF_LIT("[redacted]") : f->logdata, VALUE_MAX);
        }
    }
    puts_to(t, ",\"tags\":[");
    for (size_t i = 0; i < f->tag_count; i++) {
        puts_to(t, i != 0 ? "," : "");
        put_json(t, waf_cstr(f->tags[i]), 128);
    }
    puts_to(t, f->denied ? "],\"denied\":true}" : "]}");
}

static long score_of(struct waf_tx *tx, const char *a, const char *b)
{
    struct waf_str s = waf_tx_get_var(tx, waf_cstr(a));
    if (s.p == NULL) {
        s = waf_tx_get_var(tx, waf_cstr(b));
    }
    return s.p == NULL ? 0 : waf_to_long(s);
}

static void put_time(struct text *t, int64_t wall_ms, const char *format)
{
    char buf[64];
    time_t s = (time_t)(wall_ms / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    put(t, buf, strftime(buf, sizeof buf, format, &tm));
}

struct waf_str waf_report_json(struct waf_tx *tx, const struct waf_report *r, bool newline)
{
    struct text t = {0};
    size_t n = waf_tx_fired_count(tx);
    bool denied = tx->verdict.status != 0;
    puts_to(&t, "{\"time\":\"");
    put_time(&t, r->wall_ms, "%Y-%m-%dT%H:%M:%SZ\"");
    put_key(&t, "event", WAF_LIT("waf"), 8);
    put_key(&t, "request_id", tx->unique_id, 128);
    put_key(&t, "client", tx->client, 64);
    put_key(&t, "method", tx->method, 32);
    put_key(&t, "path", tx->path, 512);
    put_key(&t, "mode", waf_cstr(r->mode), 16);
    struct waf_str own = denied ? WAF_LIT("block") : WAF_LIT("log");
    put_key(&t, "action", r->action != NULL ? waf_cstr(r->action) : own, 16);
    put_number(&t, "status", denied ? tx->verdict.status : r->status);
    put_number(&t, "score", score_of(tx, "blocking_inbound_anomaly_score", "anomaly_score"));
    put_number(&t, "score_outbound",
               score_of(tx, "blocking_outbound_anomaly_score", "outbound_anomaly_score"));
    if (tx->exhausted) {
        puts_to(&t, ",\"exhausted\":true");
    }
    puts_to(&t, ",\"rules\":[");
    for (size_t i = 0; i < n && t.n < REPORT_MAX - 8192; i++) {
        puts_to(&t, i != 0 ? "," : "");
        put_rule(&t, waf_tx_fired(tx, i));
    }
    puts_to(&t, newline ? "]}\n" : "]}");
    if (t.failed) {
        free(t.p);
        return (struct waf_str){NULL, 0};
    }
    return (struct waf_str){t.p, t.n};
}

struct waf_str waf_report_modsecurity(struct waf_tx *tx, const struct waf_report *r)
{
    struct text t = {0};
    for (size_t i = 0; i < waf_tx_fired_count(tx) && t.n < REPORT_MAX - 32768; i++) {
        struct waf_str line = waf_tx_error_log(tx, i);
        put_time(&t, r->wall_ms, "[%a %b %d %H:%M:%S %Y] [security2:error] ");
        put(&t, line.p, line.n);
        puts_to(&t, "\n");
    }
    if (t.failed) {
        free(t.p);
        return (struct waf_str){NULL, 0};
    }
    return (struct waf_str){t.p, t.n};
}
