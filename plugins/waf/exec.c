// SPDX-License-Identifier: Apache-2.0
// Runs the rules of a phase. Most rules end at one bit: whether any value of the collection they
// look at may match their operator.
#include "waf/waf.h"

bool waf_prefilter_enabled = true;

void waf_set_prefilter(bool enabled)
{
    waf_prefilter_enabled = enabled;
}

static bool any_covers(const struct waf_removal *r, const struct waf_val *v)
{
    for (; r != NULL; r = r->next) {
        if (waf_target_covers(&r->exclusion, v)) {
            return true;
        }
    }
    return false;
}

static bool is_excluded(struct waf_tx *tx, const struct waf_rule *rule, const struct waf_val *v)
{
    for (unsigned i = 0; i < rule->exclude_count; i++) {
        if (waf_target_covers(&rule->excludes[i], v)) {
            return true;
        }
    }
    if (tx->exclusions != NULL && any_covers(tx->exclusions[rule->index], v)) {
        return true;
    }
    return tx->overlay != NULL && tx->overlay->exclusions != NULL &&
           any_covers(tx->overlay->exclusions[rule->index], v);
}

static void intercept(struct waf_tx *tx, const struct waf_rule *starter)
{
    struct waf_verdict *v = &tx->verdict;
    *v = (struct waf_verdict){.rule_id = starter->id};
    v->status = starter->status != 0 ? starter->status : 403;
    if (starter->disruptive == WAF_DISRUPT_REDIRECT) {
        int status = starter->status;
        bool usable = status == 301 || status == 303 || status == 307 || status == 308;
        v->status = usable ? starter->status : 302;
        v->redirect = waf_expand(tx, starter->redirect);
    }
    v->drop = starter->disruptive == WAF_DISRUPT_DROP;
    tx->intercepted = true;
}

static void allow(struct waf_tx *tx, enum waf_disruptive d)
{
    tx->allow_phase = tx->phase;
    tx->allowed_all |= d == WAF_DISRUPT_ALLOW;
    tx->allowed_request |= d == WAF_DISRUPT_ALLOW_REQUEST;
}

// The end of a chain matched one value: log it, and stop the exchange if the rule says so.
static void conclude(struct waf_tx *tx, const struct waf_rule *rule)
{
    const struct waf_rule *starter = rule->starter;
    bool enforce = tx->mode == WAF_MODE_PREVENTION && tx->phase != 5;
    bool deny = enforce && waf_is_denial(starter->disruptive) && !tx->intercepted;
    if (deny) {
        intercept(tx, starter);
    }
    if (starter->log != 0) {
        waf_fire(tx, rule, deny);
    }
    if (enforce && starter->disruptive >= WAF_DISRUPT_ALLOW) {
        allow(tx, starter->disruptive);
    }
}

static void matched(struct waf_tx *tx, const struct waf_rule *rule, const struct waf_val *v,
                    struct waf_text *text)
{
    const struct waf_rule *starter = rule->starter;
    bool is_derived =
        v != NULL && rule != starter &&
        (v->var == WAF_VAR_MATCHED_VAR || v->var == WAF_VAR_MATCHED_VARS || v->var == WAF_VAR_TX);
    if (!is_derived) {
        tx->found = v != NULL ? *v : (struct waf_val){0};
    }
    if (v != NULL) {
        tx->matched = *v;
        tx->matched.text = text;
        if (starter->chain != NULL) {
            struct waf_val *all = waf_push(&tx->arena, &tx->matched_all, sizeof *all);
            *all = tx->matched;
        }
    }
    if (starter->severity >= 0 && starter->severity < tx->highest_severity && rule->chain == NULL) {
        tx->highest_severity = starter->severity;
    }
    tx->rule = starter;
    waf_act(tx, rule);
    if (rule->chain == NULL) {
        conclude(tx, rule);
    }
}

// Whether no more values are looked at; what has been refused is logged all the same.
static bool is_stopped(const struct waf_tx *tx)
{
    return tx->intercepted && tx->phase != WAF_PHASES;
}

static bool test_form(struct waf_tx *tx, const struct waf_rule *rule, const struct waf_val *v,
                      struct waf_text *text, bool cached)
{
    if (cached && !rule->negated && !waf_text_may_match(tx, text, rule->op)) {
        return false;
    }
    if (is_excluded(tx, rule, v) || !waf_op_run(tx, rule, text->s)) {
        return false;
    }
    matched(tx, rule, v, text);
    return true;
}

// multiMatch: the value as it came, and after each transformation that changed it.
static bool test_every_form(struct waf_tx *tx, const struct waf_rule *rule, const struct waf_val *v,
                            bool cached)
{
    struct waf_text *text = v->text;
    bool found = test_form(tx, rule, v, text, cached);
    for (unsigned i = 0; i < rule->list_count && !is_stopped(tx); i++) {
        struct waf_text *before = text;
        text = waf_text_form(tx, v->text, rule->form_steps[i]);
        if (text != before) {
            found |= test_form(tx, rule, v, text, cached);
        }
    }
    return found;
}

static bool test_values(struct waf_tx *tx, const struct waf_rule *rule, struct waf_span span,
                        bool cached)
{
    bool found = false;
    for (uint32_t i = 0; i < span.n && !is_stopped(tx); i++) {
        const struct waf_val *v = &span.v[i];
        if (rule->multi_match) {
            found |= test_every_form(tx, rule, v, cached);
        } else {
            found |= test_form(tx, rule, v, waf_text_form(tx, v->text, rule->step), cached);
        }
    }
    return found;
}

static bool test_count(struct waf_tx *tx, const struct waf_rule *rule, const struct waf_target *t)
{
    long n = (long)waf_target_count(tx, t);
    if (waf_op_is_numeric(rule->op->kind) && rule->step == 0 &&
        waf_op_number(tx, rule->op, n) == rule->negated) {
        return false;
    }
    struct waf_str digits = waf_digits(&tx->arena, n);
    struct waf_val v = {.var = t->var,
                        .is_count = true,
                        .key = t->key.p != NULL ? t->key : WAF_LIT(""),
                        .text = waf_text_new(tx, digits, WAF_REQUEST)};
    return test_values(tx, rule, (struct waf_span){&v, 1}, false);
}

static long cell_number(struct waf_cell *cell)
{
    if (!cell->has_number) {
        cell->number = waf_to_long(cell->value);
        cell->has_number = true;
    }
    return cell->number;
}

static bool test_target(struct waf_tx *tx, const struct waf_rule *rule, const struct waf_target *t)
{
    const struct waf_var_info *info = &waf_var_table[t->var];
    if (t->is_count) {
        return test_count(tx, rule, t);
    }
    if (t->var == WAF_VAR_TX && t->slot >= 0) {
        struct waf_cell *cell = &tx->cells[t->slot];
        if (!cell->is_set) {
            return false;
        }
        if (waf_op_is_numeric(rule->op->kind) && rule->step == 0 &&
            waf_op_number(tx, rule->op, cell_number(cell)) == rule->negated) {
            return false;
        }
    }
    bool cached = info->shape <= WAF_SHAPE_MANY;
    if (cached && !rule->negated && !rule->multi_match && t->key.p == NULL) {
        uint32_t bit = rule->op->bit[info->family];
        struct waf_list *list = waf_list_of(tx, t->var);
        if (list->n == 0) {
            return false;
        }
        if (bit != WAF_NO_BIT) {
            const uint64_t *may = waf_list_may_match(tx, list, rule->step, info->family);
            if ((may[bit >> 6] >> (bit & 63) & 1) == 0) {
                return false;
            }
        }
        return test_values(tx, rule, (struct waf_span){list->v, list->n}, true);
    }
    return test_values(tx, rule, waf_target_values(tx, t), cached);
}

static bool test_rule(struct waf_tx *tx, const struct waf_rule *rule)
{
    bool found = false;
    if (rule->target_count == 0) {
        matched(tx, rule, NULL, NULL);
        return true;
    }
    for (unsigned i = 0; i < rule->target_count && !is_stopped(tx); i++) {
        found |= test_target(tx, rule, &rule->targets[i]);
    }
    return found;
}

// Whether the filter leaves the rule a chance. Most rules end here.
static inline bool has_chance(struct waf_tx *tx, uint16_t watch, uint16_t bit)
{
    if (watch == WAF_NO_WATCH) {
        return true;
    }
    const uint64_t *may = tx->watched[watch];
    if (may == NULL) {
        may = waf_watch_may_match(tx, watch);
    }
    return (may[bit >> 6] >> (bit & 63) & 1) != 0;
}

// The rest of the chain, once its start has a chance.
static bool test_chain(struct waf_tx *tx, const struct waf_rule *rule)
{
    if (!test_rule(tx, rule)) {
        return false;
    }
    for (const struct waf_rule *r = rule->chain; r != NULL; r = r->chain) {
        if (!has_chance(tx, r->watch, r->bit) || !test_rule(tx, r)) {
            return false;
        }
    }
    return true;
}

static bool is_over(const struct waf_tx *tx)
{
    if (tx->phase == 5) {
        return tx->mode == WAF_MODE_OFF;
    }
    return tx->intercepted || tx->mode == WAF_MODE_OFF || tx->allow_phase == tx->phase;
}

static bool is_removed(const struct waf_tx *tx, uint32_t index)
{
    return tx->removed_now != NULL && (tx->removed_now[index >> 6] >> (index & 63) & 1) != 0;
}

void waf_run_phase(struct waf_tx *tx, unsigned phase)
{
    const struct waf_program *p = &tx->rules->programs[phase];
    if (phase < 5 && (tx->allowed_all || (tx->allowed_request && phase <= 2))) {
        return;
    }
    tx->phase = phase;
    tx->allow_phase = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct waf_entry *e = &p->entries[i];
        if (is_removed(tx, e->index) || !has_chance(tx, e->watch, e->bit)) {
            continue;
        }
        bool found = test_chain(tx, e->rule);
        tx->matched_all.n = 0;
        if (is_over(tx)) {
            return;
        }
        if (found && e->rule->jump != UINT32_MAX) {
            i = e->rule->jump;
        } else if (found) {
            i += e->rule->skip;
        }
    }
}
