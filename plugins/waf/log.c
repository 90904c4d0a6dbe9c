// SPDX-License-Identifier: Apache-2.0
// What fired, and ModSecurity's way to write it down.
#include "waf/out.h"
#include "waf/waf.h"

enum { FIRED_MAX = 4096, FIELD_MAX = 1024, NAME_MAX_BYTES = 512, LINE_MAX_BYTES = 16 * 1024 };

const char *const waf_severities[8] = {"EMERGENCY", "ALERT",  "CRITICAL", "ERROR",
                                       "WARNING",   "NOTICE", "INFO",     "DEBUG"};

void waf_fire(struct waf_tx *tx, const struct waf_rule *tested, bool denied)
{
    const struct waf_rule *rule = tested->starter;
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
                            .tested = tested,
                            .operand = waf_op_operand(tx, tested),
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
    if (tested->op != NULL && tx->matched.text != NULL) {
        const struct waf_val *v = &tx->matched;
        bool is_same = v->var == WAF_VAR_MATCHED_VAR;
        if (tested != rule && (is_same || v->var == WAF_VAR_TX) && tx->found.text != NULL) {
            f->origin = waf_val_name(tx, &tx->found);
        }
        f->variable = is_same && f->origin.p != NULL ? f->origin : waf_val_name(tx, v);
        f->value = v->text->s;
        f->is_whole = waf_is_whole(v->var);
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

static void put_field(struct waf_out *out, struct waf_str name, struct waf_str value)
{
    if (value.p == NULL) {
        return;
    }
    waf_out_put(out, WAF_LIT(" ["));
    waf_out_put(out, name);
    waf_out_put(out, WAF_LIT(" \""));
    waf_out_escaped(out, value, FIELD_MAX);
    waf_out_put(out, WAF_LIT("\"]"));
}

static void put_number(struct waf_out *out, struct waf_str name, long value)
{
    char digits[WAF_DIGITS_MAX];
    if (value != 0) {
        put_field(out, name, waf_format_long(digits, value));
    }
}

static void put_what(struct waf_out *out, const struct waf_fired *f)
{
    waf_out_put(out, WAF_LIT("] ModSecurity: "));
    if (f->denied) {
        waf_out_put(out, WAF_LIT("Access denied with code "));
        waf_out_number(out, f->status);
        waf_out_put(out, WAF_LIT(" (phase "));
        waf_out_number(out, f->phase);
        waf_out_put(out, WAF_LIT("). "));
    } else {
        waf_out_put(out, WAF_LIT("Warning. "));
    }
    waf_op_describe(out, f->tested, f->operand);
    if (f->tested->op != NULL) {
        waf_out_put(out, WAF_LIT(" "));
        waf_out_escaped(out, f->variable, NAME_MAX_BYTES);
        waf_out_put(out, WAF_LIT("."));
    }
}

static struct waf_str or_empty(struct waf_str s)
{
    return s.p != NULL ? s : WAF_LIT("");
}

void waf_error_line(struct waf_out *out, const struct waf_tx *tx, const struct waf_fired *f)
{
    size_t whole = out->max;
    out->max = whole - out->n < LINE_MAX_BYTES ? whole : out->n + LINE_MAX_BYTES;
    waf_out_put(out, WAF_LIT("[client "));
    waf_out_escaped(out, tx->client, 64);
    put_what(out, f);
    if (f->file != NULL) {
        put_field(out, WAF_LIT("file"), waf_cstr(f->file));
        put_number(out, WAF_LIT("line"), f->line);
    }
    put_number(out, WAF_LIT("id"), f->id);
    put_field(out, WAF_LIT("rev"), f->rev);
    put_field(out, WAF_LIT("msg"), f->msg);
    bool is_hidden = f->logdata.p != NULL && waf_hides(tx, f);
    put_field(out, WAF_LIT("data"), is_hidden ? WAF_LIT("[redacted]") : f->logdata);
    if (f->severity >= 0) {
        put_field(out, WAF_LIT("severity"), waf_cstr(waf_severities[f->severity & 7]));
    }
    put_field(out, WAF_LIT("ver"), f->ver);
    put_number(out, WAF_LIT("maturity"), f->maturity);
    put_number(out, WAF_LIT("accuracy"), f->accuracy);
    for (size_t t = 0; t < f->tag_count; t++) {
        put_field(out, WAF_LIT("tag"), waf_cstr(f->tags[t]));
    }
    put_field(out, WAF_LIT("hostname"), or_empty(waf_request_header(tx, "Host")));
    put_field(out, WAF_LIT("uri"), or_empty(tx->path));
    put_field(out, WAF_LIT("unique_id"), or_empty(tx->unique_id));
    out->max = whole;
}

struct waf_str waf_tx_error_log(const struct waf_tx *tx, size_t i)
{
    static struct waf_out out;
    waf_out_init(&out, LINE_MAX_BYTES);
    waf_error_line(&out, tx, waf_tx_fired(tx, i));
    return (struct waf_str){out.p, out.n};
}
