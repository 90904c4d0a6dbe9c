// SPDX-License-Identifier: Apache-2.0
// Macros: "%{tx.0}" in texts of rules.
#include "waf/waf.h"

static struct waf_str part_value(struct waf_tx *tx, const struct waf_part *p)
{
    const struct waf_target *t = p->target;
    if (t == NULL) {
        return p->text;
    }
    if (t->var == WAF_VAR_TX && t->slot >= 0) {
        const struct waf_cell *c = &tx->cells[t->slot];
        return c->is_set ? c->value : WAF_LIT("");
    }
    if (t->var == WAF_VAR_MATCHED_VAR) {
        return tx->matched.text != NULL ? tx->matched.text->s : WAF_LIT("");
    }
    struct waf_span span = waf_target_values(tx, t);
    return span.n != 0 ? span.v[0].text->s : WAF_LIT("");
}

struct waf_str waf_expand(struct waf_tx *tx, const struct waf_macro *m)
{
    struct waf_str parts[32];
    size_t total = 0;
    if (m->n == 1) {
        return part_value(tx, &m->parts[0]);
    }
    unsigned n = m->n < 32 ? m->n : 32; // the compiler makes no more
    for (unsigned i = 0; i < n; i++) {
        parts[i] = part_value(tx, &m->parts[i]);
        total += parts[i].n;
    }
    char *p = waf_alloc(&tx->arena, total + 1), *d = p;
    for (unsigned i = 0; i < n; i++) {
        if (parts[i].n != 0) {
            memcpy(d, parts[i].p, parts[i].n);
            d += parts[i].n;
        }
    }
    return (struct waf_str){p, total};
}
