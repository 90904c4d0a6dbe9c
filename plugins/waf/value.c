// SPDX-License-Identifier: Apache-2.0
// Values of a transaction: each is scanned once and transformed once per step.
#include "waf/waf.h"

void *waf_push(struct waf_arena *a, struct waf_vec *v, size_t size)
{
    if (v->n == v->cap) {
        uint32_t cap = v->cap == 0 ? 16 : v->cap * 2;
        void *items = waf_alloc(a, cap * size);
        if (v->n != 0) {
            memcpy(items, v->items, v->n * size);
        }
        v->items = items;
        v->cap = cap;
    }
    return (char *)v->items + size * v->n++;
}

struct waf_text *waf_text_new(struct waf_tx *tx, struct waf_str s, enum waf_family family)
{
    struct waf_text *t = waf_alloc(&tx->arena, sizeof *t);
    *t = (struct waf_text){.s = s, .family = (uint8_t)family};
    return t;
}

void waf_text_scan(struct waf_tx *tx, struct waf_text *text)
{
    struct waf_filter *f = tx->rules->filters[text->family];
    struct waf_facts facts;
    waf_filter_scan(f, &tx->arena, text->s, &facts);
    text->marks = facts.marks;
    text->allowed = tx->prefilter ? facts.allowed : waf_filter_everything(f);
}

// One transformation of `from`; the same text when nothing changes. Done once per text, whatever
// list of transformations leads here.
static struct waf_text *text_apply(struct waf_tx *tx, struct waf_text *from, uint32_t which)
{
    const struct waf_transform *t = waf_transform_at(which);
    struct waf_str out;
    if ((from->marks & t->marks) == 0 && (t->marks & WAF_MARK_ALWAYS) == 0) {
        return from;
    }
    if (from->after == NULL) {
        from->after = waf_zalloc(&tx->arena, sizeof(struct waf_text *) * waf_transform_count());
    }
    if (from->after[which] != NULL) {
        return from->after[which];
    }
    if (!t->fn(&tx->arena, from->s, &out)) {
        return from->after[which] = from;
    }
    struct waf_text *to = waf_text_new(tx, out, from->family);
    if (t->keeps_case_folded) {
        to->allowed = from->allowed; // the filter does not look at case
        to->marks = from->marks | WAF_MARK_UPPER | WAF_MARK_LOWER;
        if (t->marks == WAF_MARK_UPPER) {
            to->marks &= ~(uint32_t)WAF_MARK_UPPER;
        }
    }
    return from->after[which] = to;
}

// A text that another way of `root` gave before, when it is worth the look.
static struct waf_text *known_form(struct waf_tx *tx, struct waf_text *root, struct waf_text *to)
{
    if (to->s.n < 48 || to->allowed != NULL) {
        return to;
    }
    for (uint32_t i = 1; i < tx->rules->step_count; i++) {
        struct waf_text *f = root->forms[i];
        if (f != NULL && f->s.n == to->s.n && f != to && memcmp(f->s.p, to->s.p, to->s.n) == 0) {
            return f;
        }
    }
    return to;
}

struct waf_text *waf_text_form(struct waf_tx *tx, struct waf_text *text, uint32_t step)
{
    const struct waf_step *s = &tx->rules->steps[step];
    if (step == 0) {
        return text;
    }
    if (text->allowed == NULL) {
        waf_text_scan(tx, text);
    }
    if ((text->marks & s->marks) == 0 && (s->marks & WAF_MARK_ALWAYS) == 0) {
        return text;
    }
    if (text->forms == NULL) {
        text->forms = waf_zalloc(&tx->arena, sizeof(struct waf_text *) * tx->rules->step_count);
    }
    if (text->forms[step] == NULL) {
        struct waf_text *from = waf_text_form(tx, text, s->parent);
        if (from->allowed == NULL) {
            waf_text_scan(tx, from);
        }
        text->forms[step] = known_form(tx, text, text_apply(tx, from, s->which));
    }
    return text->forms[step];
}

static inline void add_bits(struct waf_tx *tx, uint64_t **sum, const uint64_t *more,
                            enum waf_family family)
{
    unsigned words = tx->rules->filter_words[family];
    if (more == tx->rules->nothing[family]) {
        return;
    }
    if (*sum == NULL) {
        *sum = memcpy(waf_alloc(&tx->arena, words * sizeof **sum), more, words * sizeof **sum);
        return;
    }
    for (unsigned w = 0; w < words; w++) {
        (*sum)[w] |= more[w];
    }
}

// Operators that may match any value of the list, after the transformations of `step`.
const uint64_t *waf_list_may_match(struct waf_tx *tx, struct waf_list *list, uint32_t step,
                                   enum waf_family family)
{
    const struct waf_step *s = &tx->rules->steps[step];
    if (list->by_step == NULL) {
        list->by_step = waf_zalloc(&tx->arena, sizeof(uint64_t *) * tx->rules->step_count);
        for (uint32_t i = 0; i < list->n; i++) {
            if (list->v[i].text->allowed == NULL) {
                waf_text_scan(tx, list->v[i].text);
            }
            list->marks |= list->v[i].text->marks;
        }
    }
    if ((list->marks & s->marks) == 0 && (s->marks & WAF_MARK_ALWAYS) == 0) {
        step = 0;
    }
    if (list->by_step[step] != NULL) {
        return list->by_step[step];
    }
    uint64_t *all = NULL;
    for (uint32_t i = 0; i < list->n; i++) {
        struct waf_text *t = waf_text_form(tx, list->v[i].text, step);
        if (t->allowed == NULL) {
            waf_text_scan(tx, t);
        }
        add_bits(tx, &all, t->allowed, family);
    }
    list->by_step[step] = all != NULL ? all : tx->rules->nothing[family];
    return list->by_step[step];
}

static void add_target(struct waf_tx *tx, uint64_t **sum, const struct waf_target *t, uint32_t step,
                       enum waf_family family)
{
    if (t->key.p == NULL) {
        struct waf_list *list = waf_list_of(tx, t->var);
        if (list->n != 0) {
            add_bits(tx, sum, waf_list_may_match(tx, list, step, family), family);
        }
        return;
    }
    struct waf_span span = waf_target_values(tx, t);
    for (uint32_t i = 0; i < span.n; i++) {
        struct waf_text *text = waf_text_form(tx, span.v[i].text, step);
        if (text->allowed == NULL) {
            waf_text_scan(tx, text);
        }
        add_bits(tx, sum, text->allowed, family);
    }
}

const uint64_t *waf_watch_may_match(struct waf_tx *tx, uint32_t watch)
{
    const struct waf_watch *w = &tx->rules->watches[watch];
    uint64_t *all = NULL;
    for (uint32_t step = w->step;; step = tx->rules->steps[step].parent) {
        for (unsigned i = 0; i < w->target_count; i++) {
            add_target(tx, &all, &w->targets[i], step, w->family);
        }
        if (!w->every_form || step == 0) {
            break;
        }
    }
    tx->watched[watch] = all != NULL ? all : tx->rules->nothing[w->family];
    return tx->watched[watch];
}
