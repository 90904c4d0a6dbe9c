// SPDX-License-Identifier: Apache-2.0
// Many phrases looked for at once, ignoring case: confirms what the filter lets through, so it is
// built to be small, not to be fast.
#include "waf/waf.h"

#include <stdlib.h>

struct node {
    uint32_t child, sibling, fail;
    uint32_t phrase; // index + 1; of this node, or the nearest on its fail links
    unsigned char byte;
};

struct waf_pm {
    struct node *nodes;
    uint32_t n, cap;
    struct waf_str *phrases;
    char *bytes;
    size_t byte_count;
    unsigned phrase_count;
    uint32_t root[256]; // root's children by byte
};

static uint32_t pm_child(const struct waf_pm *pm, uint32_t at, unsigned char byte)
{
    if (at == 0) {
        return pm->root[byte];
    }
    uint32_t c = pm->nodes[at].child;
    while (c != 0 && pm->nodes[c].byte != byte) {
        c = pm->nodes[c].sibling;
    }
    return c;
}

static bool pm_add(struct waf_pm *pm, struct waf_str phrase, unsigned index)
{
    uint32_t at = 0;
    for (size_t i = 0; i < phrase.n; i++) {
        unsigned char byte = waf_lower((unsigned char)phrase.p[i]);
        uint32_t c = pm_child(pm, at, byte);
        if (c == 0) {
            if (pm->n == pm->cap) {
                pm->cap *= 2;
                struct node *more = realloc(pm->nodes, pm->cap * sizeof *more);
                if (more == NULL) {
                    return false;
                }
                pm->nodes = more;
            }
            c = pm->n++;
            pm->nodes[c] = (struct node){.byte = byte, .sibling = pm->nodes[at].child};
            pm->nodes[at].child = c;
            if (at == 0) {
                pm->root[byte] = c;
            }
        }
        at = c;
    }
    if (at != 0 && pm->nodes[at].phrase == 0) {
        pm->nodes[at].phrase = index + 1;
    }
    return true;
}

static bool pm_link(struct waf_pm *pm)
{
    uint32_t *queue = malloc(pm->n * sizeof *queue), done = 0, n = 1;
    if (queue == NULL) {
        return false;
    }
    queue[0] = 0;
    while (done < n) {
        uint32_t at = queue[done++];
        for (uint32_t c = pm->nodes[at].child; c != 0; c = pm->nodes[c].sibling) {
            queue[n++] = c;
            uint32_t f = at, to = 0;
            while (f != 0 && to == 0) {
                f = pm->nodes[f].fail;
                to = pm_child(pm, f, pm->nodes[c].byte);
            }
            pm->nodes[c].fail = at == 0 ? 0 : to;
            if (pm->nodes[c].phrase == 0) {
                pm->nodes[c].phrase = pm->nodes[pm->nodes[c].fail].phrase;
            }
        }
    }
    free(queue);
    return true;
}

struct waf_pm *waf_pm_new(const struct waf_str *phrases, unsigned n)
{
    struct waf_pm *pm = calloc(1, sizeof *pm);
    if (pm == NULL) {
        return NULL;
    }
    pm->cap = 64;
    pm->n = 1;
    pm->nodes = calloc(pm->cap, sizeof *pm->nodes);
    pm->phrases = calloc(n + 1, sizeof *pm->phrases);
    for (unsigned i = 0; i < n; i++) {
        pm->byte_count += phrases[i].n;
    }
    pm->bytes = malloc(pm->byte_count + 1);
    bool ok = pm->nodes != NULL && pm->phrases != NULL && pm->bytes != NULL;
    char *at = pm->bytes;
    for (unsigned i = 0; ok && i < n; i++) {
        memcpy(at, phrases[i].p, phrases[i].n);
        pm->phrases[i] = (struct waf_str){at, phrases[i].n};
        at += phrases[i].n;
        ok = pm_add(pm, phrases[i], i);
    }
    if (!ok || !pm_link(pm)) {
        waf_pm_free(pm);
        return NULL;
    }
    pm->phrase_count = n;
    return pm;
}

void waf_pm_free(struct waf_pm *pm)
{
    if (pm == NULL) {
        return;
    }
    free(pm->nodes);
    free(pm->phrases);
    free(pm->bytes);
    free(pm);
}

size_t waf_pm_memory(const struct waf_pm *pm)
{
    return sizeof *pm + pm->cap * sizeof *pm->nodes + pm->byte_count +
           pm->phrase_count * sizeof *pm->phrases;
}

bool waf_pm_find(const struct waf_pm *pm, struct waf_str s, struct waf_str *found)
{
    uint32_t at = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char byte = waf_lower((unsigned char)s.p[i]);
        uint32_t c = pm_child(pm, at, byte);
        while (c == 0 && at != 0) {
            at = pm->nodes[at].fail;
            c = pm_child(pm, at, byte);
        }
        at = c;
        if (pm->nodes[at].phrase != 0) {
            *found = pm->phrases[pm->nodes[at].phrase - 1];
            return true;
        }
    }
    return false;
}

unsigned waf_pm_phrases(const struct waf_pm *pm, const struct waf_str **out)
{
    *out = pm->phrases;
    return pm->phrase_count;
}
