// SPDX-License-Identifier: Apache-2.0
#include "waf/report.h"

#include "waf/out.h"
#include "waf/waf.h"

enum {
    VALUE_MAX = 200,
    REPORT_MAX = 256 * 1024,
    JSON_RULE_MAX = 8 * 1024, // room that one more rule, or line, is sure to fit in
    LINE_ROOM = 32 * 1024,
};

static struct waf_out report; // its memory serves all of the worker's reports

void waf_report_fini(void)
{
    waf_out_fini(&report);
}

static void put_key(struct waf_out *out, struct waf_str key, struct waf_str value, size_t max)
{
    waf_out_put(out, key);
    waf_out_json(out, value, max);
}

static void put_number(struct waf_out *out, struct waf_str key, long v)
{
    waf_out_put(out, key);
    waf_out_number(out, v);
}

// The variable of the rule before, which most rules of a report share.
struct secrecy {
    struct waf_str variable, origin;
    bool is_hidden;
};

static void put_rule(struct waf_out *out, const struct waf_tx *tx, const struct waf_fired *f,
                     struct secrecy *before)
{
    put_number(out, WAF_LIT("{\"id\":"), f->id);
    put_number(out, WAF_LIT(",\"phase\":"), f->phase);
    if (f->severity >= 0) {
        put_key(out, WAF_LIT(",\"severity\":"), waf_cstr(waf_severities[f->severity & 7]), 16);
    }
    put_key(out, WAF_LIT(",\"msg\":"), f->msg, 512);
    if (f->variable.p != NULL) {
        if (f->is_whole || !waf_eq(f->variable, before->variable) ||
            !waf_eq(f->origin, before->origin)) {
            *before = (struct secrecy){f->variable, f->origin, waf_hides(tx, f)};
        }
        bool secret = before->is_hidden;
        struct waf_str hidden = WAF_LIT("[redacted]");
        put_key(out, WAF_LIT(",\"variable\":"), f->variable, VALUE_MAX);
        put_key(out, WAF_LIT(",\"value\":"), secret ? hidden : f->value, VALUE_MAX);
        if (f->logdata.p != NULL) {
            put_key(out, WAF_LIT(",\"data\":"), secret ? hidden : f->logdata, VALUE_MAX);
        }
    }
    waf_out_put(out, WAF_LIT(",\"tags\":["));
    waf_out_put(out, f->tested->starter->tags_json);
    waf_out_put(out, f->denied ? WAF_LIT("],\"denied\":true}") : WAF_LIT("]}"));
}

static struct waf_str finished(void)
{
    return report.failed ? (struct waf_str){NULL, 0} : (struct waf_str){report.p, report.n};
}

struct waf_str waf_report_json(struct waf_tx *tx, const struct waf_report *r, bool newline)
{
    struct waf_out *out = &report;
    size_t n = waf_tx_fired_count(tx);
    bool denied = tx->verdict.status != 0;
    struct secrecy before = {0};
    waf_out_init(out, REPORT_MAX);
    waf_out_put(out, WAF_LIT("{\"time\":\""));
    waf_out_time(out, r->wall_ms, "%Y-%m-%dT%H:%M:%SZ\"");
    put_key(out, WAF_LIT(",\"event\":"), WAF_LIT("waf"), 8);
    put_key(out, WAF_LIT(",\"request_id\":"), tx->unique_id, 128);
    put_key(out, WAF_LIT(",\"client\":"), tx->client, 64);
    put_key(out, WAF_LIT(",\"method\":"), tx->method, 32);
    put_key(out, WAF_LIT(",\"path\":"), tx->path, 512);
    put_key(out, WAF_LIT(",\"mode\":"), waf_cstr(r->mode), 16);
    struct waf_str own = denied ? WAF_LIT("block") : WAF_LIT("log");
    put_key(out, WAF_LIT(",\"action\":"), r->action != NULL ? waf_cstr(r->action) : own, 16);
    put_number(out, WAF_LIT(",\"status\":"), denied ? tx->verdict.status : r->status);
    if (tx->verdict.reason.n != 0) {
        put_key(out, WAF_LIT(",\"reason\":"), tx->verdict.reason, 128);
    }
    put_number(out, WAF_LIT(",\"score\":"), waf_tx_inbound_score(tx));
    put_number(out, WAF_LIT(",\"score_outbound\":"), waf_tx_outbound_score(tx));
    if (tx->exhausted) {
        waf_out_put(out, WAF_LIT(",\"exhausted\":true"));
    }
    waf_out_put(out, WAF_LIT(",\"rules\":["));
    for (size_t i = 0; i < n && out->n < REPORT_MAX - JSON_RULE_MAX; i++) {
        waf_out_put(out, i != 0 ? WAF_LIT(",") : WAF_LIT(""));
        put_rule(out, tx, waf_tx_fired(tx, i), &before);
    }
    waf_out_put(out, newline ? WAF_LIT("]}\n") : WAF_LIT("]}"));
    return finished();
}

struct waf_str waf_report_modsecurity(struct waf_tx *tx, const struct waf_report *r)
{
    struct waf_out *out = &report;
    waf_out_init(out, REPORT_MAX);
    for (size_t i = 0; i < waf_tx_fired_count(tx) && out->n < REPORT_MAX - LINE_ROOM; i++) {
        waf_out_time(out, r->wall_ms, "[%a %b %d %H:%M:%S %Y] [security2:error] ");
        waf_error_line(out, tx, waf_tx_fired(tx, i));
        waf_out_put(out, WAF_LIT("\n"));
    }
    return finished();
}
