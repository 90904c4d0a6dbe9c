// SPDX-License-Identifier: Apache-2.0
// Non-disruptive actions: variables, collections, and ctl.
#include "waf/waf.h"

#include <stdio.h>

static struct waf_str sum(struct waf_tx *tx, struct waf_str old, struct waf_str by, bool add)
{
    long a = waf_to_long(old), b = waf_to_long(by), v;
    bool over = add ? __builtin_add_overflow(a, b, &v) : __builtin_sub_overflow(a, b, &v);
    if (over) {
        v = a;
    }
    v = v < 0 ? 0 : v; // counters do not go below
    return waf_digits(&tx->arena, v);
}

static bool is_score(const struct waf_tx *tx, const struct waf_action *a)
{
    struct waf_str name = a->slot < 0 ? (struct waf_str){"", 0} : tx->rules->slot_names[a->slot];
    return a->kind == WAF_ACTION_SETVAR && a->collection == WAF_VAR_TX &&
           a->assign == WAF_ASSIGN_ADD && memmem(name.p, name.n, "score", 5) != NULL;
}

static const struct waf_weak *weak_of(const struct waf_tx *tx, int id)
{
    const struct waf_options *o = &tx->rules->options;
    for (unsigned i = 0; i < o->weak_count; i++) {
        if (id >= o->weak[i].first && id <= o->weak[i].last) {
            return &o->weak[i];
        }
    }
    return NULL;
}

static enum waf_origin origin_of(const struct waf_tx *tx, const struct waf_text *value)
{
    for (uint32_t i = 0; i < tx->args.n; i++) {
        const struct waf_arg *a = WAF_AT(&tx->args, struct waf_arg, i);
        if (a->value == value) {
            return a->origin;
        }
    }
    return WAF_FROM_QUERY;
}

// Whether an argument speaks of what a rule finds in it, or is a member of JSON whose name says that
// it holds code; in forms "code" is as often the number of a coupon.
static bool speaks(const struct waf_tx *tx, const struct waf_val *v)
{
    enum waf_origin origin = origin_of(tx, v->text);
    return (origin == WAF_FROM_JSON && waf_holds_code(v->key)) ||
           waf_is_told(v->key, v->text->s, origin);
}

// Whether what the rule found is told of; judged once a value.
static bool is_told(const struct waf_tx *tx)
{
    const struct waf_val *v = &tx->found;
    if (v->text == NULL) {
        return false;
    }
    if (v->var == WAF_VAR_ARGS_PROSE) {
        return waf_is_told_to_model(v->key);
    }
    if (v->var != WAF_VAR_ARGS && v->var != WAF_VAR_ARGS_GET && v->var != WAF_VAR_ARGS_POST) {
        return false;
    }
    if (v->text->telling == WAF_TELLING_UNKNOWN) {
        v->text->telling = speaks(tx, v) ? WAF_TELLING : WAF_TELLING_NOT;
    }
    return v->text->telling == WAF_TELLING;
}

// What an addition to a score counts: rules that need corroboration add little, and less for what
// is told of. Where a rule has found the same again, and not told of, the rest is added.
static struct waf_str points(struct waf_tx *tx, const struct waf_action *a, struct waf_str value)
{
    bool has_weak = tx->rules->options.weak_count > 0;
    int id = !has_weak || tx->rule == NULL || !is_score(tx, a) ? 0 : tx->rule->id;
    const struct waf_weak *w = id > 0 ? weak_of(tx, id) : NULL;
    long full = waf_to_long(value);
    if (w == NULL) {
        return value;
    }
    long most = full > w->most ? w->most : full, told = full > w->told ? w->told : full;
    long counts = tx->scoring == WAF_SCORING_REST   ? most - told
                  : tx->scoring == WAF_SCORING_TOLD ? told
                                                    : most;
    return counts == full ? value : waf_digits(&tx->arena, counts);
}

static void set_tx(struct waf_tx *tx, const struct waf_action *a)
{
    struct waf_cell *c =
        a->slot >= 0 ? &tx->cells[a->slot] : waf_cell_find(tx, waf_expand(tx, a->name), true);
    struct waf_str value = {NULL, 0};
    if (a->assign != WAF_ASSIGN_UNSET) {
        value = waf_expand(tx, a->value);
        if (value.p == NULL) {
            value = WAF_LIT("");
        }
        if (a->assign != WAF_ASSIGN_SET) {
            value = sum(tx, c->is_set ? c->value : WAF_LIT("0"), points(tx, a, value),
                        a->assign == WAF_ASSIGN_ADD);
        }
    }
    waf_cell_set(tx, c, value);
}

static void set_stored(struct waf_tx *tx, const struct waf_action *a)
{
    struct waf_record *r = waf_record_of(tx, a->collection);
    if (r == NULL) {
        return;
    }
    struct waf_str name = waf_expand(tx, a->name), value = waf_expand(tx, a->value);
    if (a->assign == WAF_ASSIGN_UNSET) {
        waf_record_unset(r, name);
    } else if (a->assign == WAF_ASSIGN_SET) {
        waf_record_set(tx, r, name, value);
    } else {
        long by = waf_to_long(value);
        waf_record_add(tx, r, name, a->assign == WAF_ASSIGN_ADD ? by : -by);
    }
}

static void expire(struct waf_tx *tx, const struct waf_action *a)
{
    struct waf_record *r = waf_record_of(tx, a->collection);
    if (r != NULL) {
        waf_record_expire(r, waf_expand(tx, a->name),
                          tx->now_s + waf_to_long(waf_expand(tx, a->value)));
    }
}

static void deprecate(struct waf_tx *tx, const struct waf_action *a)
{
    struct waf_record *r = waf_record_of(tx, a->collection);
    if (r != NULL) {
        waf_record_deprecate(tx, r, waf_expand(tx, a->name), waf_expand(tx, a->value));
    }
}

static void init_collection(struct waf_tx *tx, const struct waf_action *a)
{
    int at = waf_store_index(a->collection);
    if (at >= 0 && !tx->stores[at].is_open) {
        tx->stores[at].is_open = true;
        tx->stores[at].key = waf_expand(tx, a->value);
    }
}

static void remove_rules(struct waf_tx *tx, const struct waf_action *a)
{
    size_t words = (tx->rules->rule_count + 63) / 64;
    if (tx->removed == NULL) {
        tx->removed = waf_zalloc(&tx->arena, words * sizeof(uint64_t));
        if (tx->removed_now != NULL) {
            memcpy(tx->removed, tx->removed_now, words * sizeof(uint64_t));
        }
        tx->removed_now = tx->removed;
    }
    for (uint32_t i = 0; i < a->select.n; i++) {
        uint32_t r = a->select.rules[i];
        tx->removed[r >> 6] |= (uint64_t)1 << (r & 63);
    }
}

static void remove_target(struct waf_tx *tx, const struct waf_action *a)
{
    if (tx->exclusions == NULL) {
        tx->exclusions =
            waf_zalloc(&tx->arena, sizeof(struct waf_removal *) * tx->rules->rule_count);
    }
    for (uint32_t i = 0; i < a->select.n; i++) {
        struct waf_removal *r = waf_alloc(&tx->arena, sizeof *r);
        r->exclusion = *a->exclusion;
        r->next = tx->exclusions[a->select.rules[i]];
        tx->exclusions[a->select.rules[i]] = r;
    }
}

static void set_processor(struct waf_tx *tx, const struct waf_action *a)
{
    static const char *const names[] = {"", "URLENCODED", "MULTIPART", "JSON", "XML"};
    struct waf_str name = waf_expand(tx, a->value);
    tx->processor = WAF_PROCESSOR_UNKNOWN;
    tx->processor_name = name;
    for (unsigned i = 1; i < sizeof names / sizeof names[0]; i++) {
        if (waf_ieq(name, waf_cstr(names[i]))) {
            tx->processor = (enum waf_processor)i;
        }
    }
}

static void act_one(struct waf_tx *tx, const struct waf_action *a)
{
    switch (a->kind) {
    case WAF_ACTION_SETVAR:
        if (a->collection == WAF_VAR_TX) {
            set_tx(tx, a);
        } else {
            set_stored(tx, a);
        }
        break;
    case WAF_ACTION_EXPIREVAR:
        expire(tx, a);
        break;
    case WAF_ACTION_INITCOL:
        init_collection(tx, a);
        break;
    case WAF_ACTION_CTL_RULE_ENGINE:
        tx->mode = (enum waf_mode)a->number;
        break;
    case WAF_ACTION_CTL_REMOVE:
        remove_rules(tx, a);
        break;
    case WAF_ACTION_CTL_REMOVE_TARGET:
        remove_target(tx, a);
        break;
    case WAF_ACTION_CTL_FORCE_BODY:
        tx->force_body = a->number != 0;
        break;
    case WAF_ACTION_CTL_PROCESSOR:
        set_processor(tx, a);
        break;
    case WAF_ACTION_CTL_REQUEST_BODY:
        tx->request_body_access = a->number != 0;
        break;
    case WAF_ACTION_CTL_RESPONSE_BODY:
        tx->response_body_access = a->number != 0;
        break;
    case WAF_ACTION_CTL_REQUEST_LIMIT:
        tx->request_limit = (size_t)a->number;
        break;
    case WAF_ACTION_CTL_RESPONSE_LIMIT:
        tx->response_limit = (size_t)a->number;
        break;
    case WAF_ACTION_DEPRECATEVAR:
        deprecate(tx, a);
        break;
    case WAF_ACTION_SANITISE:
        waf_sanitise(tx, a->target);
        break;
    case WAF_ACTION_SETENV:
        break; // a gateway has no environment per request
    }
}

// By SecMoonValues a rule adds to a score once: another value of the same form proves nothing more.
static enum waf_scoring scoring_of(struct waf_tx *tx, const struct waf_rule *rule)
{
    const struct waf_weak *w = tx->rule == NULL ? NULL : weak_of(tx, tx->rule->id);
    bool again = tx->rules->options.values && tx->acted == rule;
    bool told = w != NULL && w->told < w->most && (!again || tx->acted_told) && is_told(tx);
    enum waf_scoring scoring = told ? WAF_SCORING_TOLD : WAF_SCORING_FULL;
    if (again) {
        scoring = tx->acted_told && !told ? WAF_SCORING_REST : WAF_SCORING_NONE;
    }
    tx->acted_told = told;
    tx->acted = rule;
    return scoring;
}

void waf_act(struct waf_tx *tx, const struct waf_rule *rule)
{
    if (rule->action_count == 0) {
        return;
    }
    tx->scoring = scoring_of(tx, rule);
    for (unsigned i = 0; i < rule->action_count; i++) {
        if (tx->scoring != WAF_SCORING_NONE || !is_score(tx, &rule->actions[i])) {
            act_one(tx, &rule->actions[i]);
        }
    }
}
