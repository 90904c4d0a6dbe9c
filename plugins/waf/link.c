// SPDX-License-Identifier: Apache-2.0
// From rules as read to a plan: removals, transformation tree, filters, a program per phase.
#include "waf/compile.h"
#include "waf/out.h"

#include <stdlib.h>

static struct waf_rule *rule_at(const struct waf_compiler *c, uint32_t i)
{
    return ((struct waf_rule **)c->loaded.items)[i];
}

struct waf_rule *waf_rule_by_id(const struct waf_compiler *c, int id)
{
    uint32_t mask = c->id_size - 1, i = (uint32_t)id * 2654435761u & mask;
    for (; c->id_size != 0 && c->ids[i] != 0; i = (i + 1) & mask) {
        if (rule_at(c, c->ids[i] - 1)->id == id) {
            return rule_at(c, c->ids[i] - 1);
        }
    }
    return NULL;
}

static void id_put(struct waf_compiler *c, int id, uint32_t index)
{
    uint32_t mask = c->id_size - 1, i = (uint32_t)id * 2654435761u & mask;
    while (c->ids[i] != 0) {
        i = (i + 1) & mask;
    }
    c->ids[i] = index + 1;
    c->id_count++;
}

bool waf_note_id(struct waf_compiler *c, struct waf_rule *rule)
{
    if (waf_rule_by_id(c, rule->id) != NULL) {
        return false;
    }
    if (c->id_count * 2 >= c->id_size) {
        c->id_size = c->id_size == 0 ? 2048 : c->id_size * 2;
        c->ids = waf_zalloc(&c->scratch, sizeof *c->ids * c->id_size);
        c->id_count = 0;
        for (uint32_t i = 0; i < c->loaded.n; i++) {
            if (rule_at(c, i)->id != 0) {
                id_put(c, rule_at(c, i)->id, i);
            }
        }
    }
    id_put(c, rule->id, c->loaded.n); // where it goes next
    return true;
}

// --- which rules a removal means ------------------------------------------------------

static bool id_selected(struct waf_str what, int id)
{
    for (size_t i = 0; i < what.n;) {
        while (i < what.n && !waf_is_digit((unsigned char)what.p[i])) {
            i++;
        }
        struct waf_str rest = {what.p + i, what.n - i};
        long from = waf_to_long(rest), to = from;
        while (i < what.n && waf_is_digit((unsigned char)what.p[i])) {
            i++;
        }
        if (i < what.n && what.p[i] == '-') {
            i++;
            to = waf_to_long((struct waf_str){what.p + i, what.n - i});
            while (i < what.n && waf_is_digit((unsigned char)what.p[i])) {
                i++;
            }
        }
        if (rest.n != 0 && id >= from && id <= to) {
            return true;
        }
    }
    return false;
}

static bool rule_selected(const struct waf_selection *s, const struct waf_rule *r,
                          const pcre2_code *re)
{
    if (r->is_marker || r->is_chained) {
        return false;
    }
    switch (s->by) {
    case WAF_SELECT_ID:
        return id_selected(s->what, r->id);
    case WAF_SELECT_MSG:
        return r->msg != NULL && waf_re_match(NULL, re, r->msg_text);
    case WAF_SELECT_TAG:
        for (size_t i = 0; i < r->tag_count; i++) {
            if (waf_re_match(NULL, re, waf_cstr(r->tags[i]))) {
                return true;
            }
        }
    }
    return false;
}

bool waf_select_rules(struct waf_compiler *c, struct waf_selection *s)
{
    const char *error;
    pcre2_code *re = NULL;
    if (s->by != WAF_SELECT_ID) {
        re = waf_re_compile(c->rules, s->what, 0, &error);
        if (re == NULL) {
            return waf_fail(c, "%s", error);
        }
    }
    struct waf_vec found = {0};
    for (uint32_t i = 0; i < c->loaded.n; i++) {
        if (rule_selected(s, rule_at(c, i), re)) {
            *(uint32_t *)waf_push(&c->scratch, &found, sizeof(uint32_t)) = i;
        }
    }
    s->n = found.n;
    s->rules = waf_alloc(&c->rules->arena, sizeof *s->rules * (found.n + 1));
    if (found.n != 0) {
        memcpy(s->rules, found.items, sizeof *s->rules * found.n);
    }
    return true;
}

void waf_exclude_target(struct waf_compiler *c, struct waf_rule *r, const struct waf_target *t)
{
    struct waf_arena *a = &c->rules->arena;
    struct waf_target **list = t->is_exclude ? &r->excludes : &r->targets;
    unsigned *n = t->is_exclude ? &r->exclude_count : &r->target_count;
    struct waf_target *more = waf_alloc(a, sizeof *more * (*n + 1));
    if (*n != 0) {
        memcpy(more, *list, sizeof *more * *n);
    }
    more[(*n)++] = *t;
    *list = more;
}

// --- plan ---------------------------------------------------------------------------------

uint32_t waf_step_of(struct waf_ruleset *rules, const struct waf_transform *const *list, unsigned n)
{
    uint32_t at = 0;
    for (unsigned i = 0; i < n; i++) {
        uint32_t s = 1;
        while (s < rules->step_count &&
               !(rules->steps[s].parent == at && rules->steps[s].transform == list[i])) {
            s++;
        }
        if (s == rules->step_count) {
            struct waf_step *more = realloc(rules->steps, (s + 1) * sizeof *more);
            if (more == NULL) {
                abort();
            }
            rules->steps = more;
            more[s] = (struct waf_step){list[i], (uint32_t)(list[i] - waf_transform_at(0)), at,
                                        more[at].marks | list[i]->marks};
            rules->step_count++;
        }
        at = s;
    }
    return at;
}

static void tx_slots(struct waf_compiler *c, struct waf_target *t)
{
    struct waf_ruleset *rules = c->rules;
    if (t->var != WAF_VAR_TX || t->key_re == NULL) {
        return;
    }
    t->slots = waf_alloc(&rules->arena, sizeof *t->slots * rules->slot_count);
    t->slot_count = 0;
    for (uint32_t i = 0; i < rules->slot_count; i++) {
        if (waf_re_match(NULL, t->key_re, rules->slot_names[i])) {
            t->slots[t->slot_count++] = i;
        }
    }
}

// The families of cached values that an operator of this rule will see.
static void use_families(const struct waf_rule *r, bool used[WAF_FAMILIES])
{
    for (unsigned i = 0; i < r->target_count && !r->negated; i++) {
        const struct waf_target *t = &r->targets[i];
        if (waf_var_table[t->var].shape <= WAF_SHAPE_MANY && !t->is_count) {
            used[waf_var_table[t->var].family] = true;
        }
    }
}

static bool asks_nothing(const struct waf_need *need)
{
    for (unsigned i = 0; i < need->n; i++) {
        if (need->cases[i].n == 0 && need->cases[i].least == 0) {
            return true;
        }
    }
    return false;
}

static void build_filters(struct waf_compiler *c)
{
    struct waf_filter_builder *b[WAF_FAMILIES] = {waf_filter_begin(), waf_filter_begin()};
    uint32_t bits[WAF_FAMILIES] = {0, 0};
    for (uint32_t i = 0; i < c->loaded.n; i++) {
        struct waf_rule *r = rule_at(c, i);
        bool used[WAF_FAMILIES] = {false, false};
        if (r->op == NULL || waf_op_is_numeric(r->op->kind)) {
            continue;
        }
        waf_pace();
        use_families(r, used);
        for (int f = 0; f < WAF_FAMILIES; f++) {
            if (!used[f] || r->op->bit[f] != WAF_NO_BIT) {
                continue;
            }
            struct waf_need need = waf_op_need(r->op, &c->scratch);
            if (!asks_nothing(&need)) {
                waf_filter_add(b[f], &need);
                r->op->bit[f] = bits[f]++;
            }
        }
    }
    for (int f = 0; f < WAF_FAMILIES; f++) {
        c->rules->filters[f] = waf_filter_finish(b[f]);
        c->rules->filter_words[f] = waf_filter_words(c->rules->filters[f]);
        c->rules->nothing[f] = waf_filter_nothing(c->rules->filters[f]);
    }
}

static bool same_key(const struct waf_target *a, const struct waf_target *b)
{
    if (a->key.p == NULL || b->key.p == NULL) {
        return a->key.p == b->key.p;
    }
    return (a->key_re == NULL) == (b->key_re == NULL) && waf_eq(a->key, b->key);
}

static bool same_targets(const struct waf_watch *w, const struct waf_rule *r)
{
    for (unsigned i = 0; i < r->target_count; i++) {
        if (w->targets[i].var != r->targets[i].var || !same_key(&w->targets[i], &r->targets[i])) {
            return false;
        }
    }
    return true;
}

// Whether the filter tells all that the rule needs to be passed by; if so, of which family.
static bool is_watchable(const struct waf_rule *r, enum waf_family *family)
{
    if (r->op == NULL || r->negated || r->target_count == 0) {
        return false;
    }
    *family = waf_var_table[r->targets[0].var].family;
    for (unsigned i = 0; i < r->target_count; i++) {
        const struct waf_var_info *info = &waf_var_table[r->targets[i].var];
        if (info->shape > WAF_SHAPE_MANY || r->targets[i].is_count || info->family != *family) {
            return false;
        }
    }
    return r->op->bit[*family] < WAF_NO_BIT;
}

static void watch(struct waf_compiler *c, struct waf_vec *watches, struct waf_rule *r)
{
    enum waf_family family;
    r->watch = WAF_NO_WATCH;
    if (!is_watchable(r, &family)) {
        return;
    }
    uint32_t i = 0;
    for (; i < watches->n; i++) {
        const struct waf_watch *w = WAF_AT(watches, struct waf_watch, i);
        if (w->step == r->step && w->every_form == r->multi_match &&
            w->target_count == r->target_count && same_targets(w, r)) {
            break;
        }
    }
    if (i == WAF_NO_WATCH) {
        return;
    }
    if (i == watches->n) {
        *(struct waf_watch *)waf_push(&c->rules->arena, watches, sizeof(struct waf_watch)) =
            (struct waf_watch){.targets = r->targets,
                               .target_count = r->target_count,
                               .step = r->step,
                               .every_form = r->multi_match,
                               .family = family};
    }
    r->watch = (uint16_t)i;
    r->bit = (uint16_t)r->op->bit[family];
}

static void build_watches(struct waf_compiler *c)
{
    struct waf_vec watches = {0};
    for (uint32_t i = 0; i < c->loaded.n; i++) {
        watch(c, &watches, rule_at(c, i));
    }
    c->rules->watches = watches.items;
    c->rules->watch_count = watches.n;
}

static bool is_removed(const struct waf_compiler *c, uint32_t i)
{
    return i / 64 < c->removed_words && (c->removed[i >> 6] >> (i & 63) & 1) != 0;
}

struct plan {
    struct waf_rule **rules; // chain starters and markers of a phase, in order
    uint32_t n;
};

static struct plan plan_of(struct waf_compiler *c, unsigned phase)
{
    struct plan p = {waf_alloc(&c->scratch, sizeof *p.rules * (c->loaded.n + 1)), 0};
    for (uint32_t i = 0; i < c->loaded.n; i++) {
        struct waf_rule *r = rule_at(c, i);
        if (r->is_marker || (r->phase == phase && !r->is_chained && !is_removed(c, i))) {
            p.rules[p.n++] = r;
        }
    }
    for (uint32_t i = 0; i < p.n; i++) {
        struct waf_rule *r = p.rules[i];
        if (r->skip_after.n == 0) {
            continue;
        }
        r->jump = p.n; // no such marker: the phase is over
        for (uint32_t k = i + 1; k < p.n; k++) {
            bool id_hit = !p.rules[k]->is_marker && p.rules[k]->id != 0 &&
                          p.rules[k]->id == waf_to_long(r->skip_after);
            if (id_hit || (p.rules[k]->is_marker && waf_eq(p.rules[k]->label, r->skip_after))) {
                r->jump = k;
                break;
            }
        }
    }
    return p;
}

// Markers are there to be jumped to: they leave the plan, and the jumps are mended.
static void drop_markers(struct plan *p, struct waf_arena *scratch)
{
    uint32_t *moved = waf_alloc(scratch, sizeof *moved * (p->n + 1)), n = 0;
    for (uint32_t i = 0; i <= p->n; i++) {
        moved[i] = n;
        n += i < p->n && !p->rules[i]->is_marker;
    }
    for (uint32_t i = 0; i < p->n; i++) {
        struct waf_rule *r = p->rules[i];
        if (r->jump == UINT32_MAX || r->is_marker) {
            continue;
        }
        // the loop goes on after `jump`
        bool at_marker = r->jump < p->n && p->rules[r->jump]->is_marker;
        r->jump = r->jump >= p->n ? n : at_marker ? moved[r->jump] - 1 : moved[r->jump];
    }
    n = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        if (!p->rules[i]->is_marker) {
            p->rules[n++] = p->rules[i];
        }
    }
    p->n = n;
}

static void build_program(struct waf_compiler *c, unsigned phase)
{
    struct waf_program *program = &c->rules->programs[phase];
    struct plan p = plan_of(c, phase);
    drop_markers(&p, &c->scratch);
    program->n = p.n;
    program->entries = waf_alloc(&c->rules->arena, sizeof *program->entries * (p.n + 1));
    for (uint32_t i = 0; i < p.n; i++) {
        const struct waf_rule *r = p.rules[i];
        program->entries[i] = (struct waf_entry){r, r->index, r->watch, r->bit};
    }
}

static void note_form_steps(struct waf_compiler *c, struct waf_rule *r)
{
    if (!r->multi_match) {
        return;
    }
    r->form_steps = waf_alloc(&c->rules->arena, sizeof *r->form_steps * (r->list_count + 1));
    for (unsigned i = 0; i < r->list_count; i++) {
        r->form_steps[i] = waf_step_of(c->rules, r->list, i + 1);
    }
}

// What reports say of a rule whenever it matches.
static bool write_tags(struct waf_compiler *c)
{
    enum { TAGS_BYTES_MAX = 64 * 1024, TAG_BYTES_MAX = 128 };
    struct waf_out out = {0};
    for (uint32_t i = 0; i < c->rules->rule_count && !out.failed; i++) {
        struct waf_rule *r = c->rules->rules[i];
        waf_out_init(&out, TAGS_BYTES_MAX);
        for (size_t t = 0; t < r->tag_count; t++) {
            waf_out_put(&out, t != 0 ? WAF_LIT(",") : WAF_LIT(""));
            waf_out_json(&out, waf_cstr(r->tags[t]), TAG_BYTES_MAX);
        }
        r->tags_json = waf_dup(&c->rules->arena, (struct waf_str){out.p, out.n});
    }
    bool is_whole = !out.failed;
    waf_out_fini(&out);
    return is_whole || waf_fail(c, "out of memory");
}

// Logs and policies ask for the scores of each request.
static void name_scores(struct waf_ruleset *rules)
{
    rules->inbound_scores[0] = waf_slot_intern(rules, WAF_LIT("blocking_inbound_anomaly_score"));
    rules->inbound_scores[1] = waf_slot_intern(rules, WAF_LIT("anomaly_score"));
    rules->outbound_scores[0] = waf_slot_intern(rules, WAF_LIT("blocking_outbound_anomaly_score"));
    rules->outbound_scores[1] = waf_slot_intern(rules, WAF_LIT("outbound_anomaly_score"));
}

bool waf_link(struct waf_compiler *c)
{
    struct waf_ruleset *rules = c->rules;
    if (c->chain != NULL) {
        c->file = c->chain->file;
        c->line = c->chain->line;
        return waf_fail(c, "the chain that starts here has no next rule");
    }
    waf_vars_of_phases(rules);
    name_scores(rules);
    rules->rule_count = c->loaded.n;
    rules->rules = waf_alloc(&rules->arena, sizeof *rules->rules * (c->loaded.n + 1));
    for (uint32_t i = 0; i < c->loaded.n; i++) {
        struct waf_rule *r = rule_at(c, i);
        rules->rules[i] = r;
        r->step = waf_step_of(rules, r->list, r->list_count);
        note_form_steps(c, r);
        for (unsigned t = 0; t < r->target_count; t++) {
            tx_slots(c, &r->targets[t]);
        }
        for (unsigned a = 0; a < r->action_count; a++) {
            bool selects = r->actions[a].kind == WAF_ACTION_CTL_REMOVE ||
                           r->actions[a].kind == WAF_ACTION_CTL_REMOVE_TARGET;
            c->file = r->file;
            c->line = r->line;
            if (selects && !waf_select_rules(c, &r->actions[a].select)) {
                return false;
            }
        }
        waf_pace();
    }
    build_filters(c);
    waf_pace();
    build_watches(c);
    for (unsigned phase = 1; phase <= WAF_PHASES; phase++) {
        build_program(c, phase);
        waf_pace();
    }
    return write_tags(c);
}
