/* SPDX-License-Identifier: Apache-2.0 */
#include "regex/literals.h"

#include <stdlib.h>
#include <string.h>

#define TRANSITIONS_MAX ((size_t)16 << 20)
#define NONE UINT32_MAX

// States are numbered from the root, 0. `next` has a row of `classes` for each of them; bytes that
// stand in no literal share class 0.
struct literals {
    uint8_t class_of[256];
    uint32_t classes;
    uint32_t states;
    uint32_t *next;
    uint32_t *found;    // of a state: a literal that ends here, or NONE
    uint32_t *same;     // of a literal: another one with the same text, or NONE
    uint32_t *shorter;  // of a state: the nearest suffix state where a literal ends, or 0
    uint8_t *is_ending; // of a state: a literal ends here or at a suffix
};

static uint8_t fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : (uint8_t)c;
}

static void number_classes(struct literals *set, const struct moon_slice *texts, size_t count)
{
    set->classes = 1;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < texts[i].len; j++) {
            uint8_t c = fold(texts[i].data[j]);
            if (set->class_of[c] == 0) {
                set->class_of[c] = (uint8_t)set->classes++;
            }
        }
    }
    for (int c = 'A'; c <= 'Z'; c++) {
        set->class_of[c] = set->class_of[c + 32];
    }
}

static bool allocate(struct literals *set, const struct moon_slice *texts, size_t count)
{
    size_t states = 1;
    for (size_t i = 0; i < count; i++) {
        states += texts[i].len;
    }
    if (states > TRANSITIONS_MAX / set->classes) {
        return false;
    }
    set->next = malloc(states * set->classes * sizeof *set->next);
    set->found = malloc(states * sizeof *set->found);
    set->same = malloc((count + 1) * sizeof *set->same);
    set->shorter = calloc(states, sizeof *set->shorter);
    set->is_ending = calloc(states, 1);
    return set->next != NULL && set->found != NULL && set->same != NULL && set->shorter != NULL &&
           set->is_ending != NULL;
}

static uint32_t add_state(struct literals *set)
{
    uint32_t state = set->states++;
    for (uint32_t c = 0; c < set->classes; c++) {
        set->next[(size_t)state * set->classes + c] = NONE;
    }
    set->found[state] = NONE;
    return state;
}

static void add_literal(struct literals *set, struct moon_slice text, uint32_t number)
{
    uint32_t state = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t class = set->class_of[(uint8_t)text.data[i]];
        uint32_t *slot = &set->next[(size_t)state * set->classes + class];
        if (*slot == NONE) {
            *slot = add_state(set);
        }
        state = *slot;
    }
    set->same[number] = set->found[state];
    set->found[state] = number;
    set->is_ending[state] = 1;
}

// Breadth first: when a state is reached its suffix state is finished, so a missing transition can
// take the suffix's, and the trie becomes an automaton.
static bool complete(struct literals *set)
{
    uint32_t *queue = malloc(set->states * sizeof *queue);
    uint32_t *suffix = calloc(set->states, sizeof *suffix);
    size_t head = 0, tail = 0;
    if (queue == NULL || suffix == NULL) {
        free(queue);
        free(suffix);
        return false;
    }
    queue[tail++] = 0;
    while (head < tail) {
        uint32_t state = queue[head++];
        for (uint32_t c = 0; c < set->classes; c++) {
            uint32_t *slot = &set->next[(size_t)state * set->classes + c];
            uint32_t by_suffix =
                state == 0 ? 0 : set->next[(size_t)suffix[state] * set->classes + c];
            if (*slot == NONE) {
                *slot = by_suffix;
                continue;
            }
            uint32_t child = *slot;
            suffix[child] = by_suffix;
            set->shorter[child] =
                set->found[by_suffix] != NONE ? by_suffix : set->shorter[by_suffix];
            set->is_ending[child] |= set->is_ending[by_suffix];
            queue[tail++] = child;
        }
    }
    free(queue);
    free(suffix);
    return true;
}

struct literals *regex_literals_new(const struct moon_slice *texts, size_t count)
{
    struct literals *set = calloc(1, sizeof *set);
    if (set == NULL) {
        return NULL;
    }
    number_classes(set, texts, count);
    if (!allocate(set, texts, count)) {
        goto fail;
    }
    (void)add_state(set);
    for (size_t i = count; i-- > 0;) { // backwards, so that equal ones come in their order
        add_literal(set, texts[i], (uint32_t)i);
    }
    if (!complete(set)) {
        goto fail;
    }
    return set;
fail:
    regex_literals_free(set);
    return NULL;
}

void regex_literals_free(struct literals *set)
{
    if (set == NULL) {
        return;
    }
    free(set->next);
    free(set->found);
    free(set->same);
    free(set->shorter);
    free(set->is_ending);
    free(set);
}

// Reports the literals that end in a state. False: the caller has enough.
static bool report(const struct literals *set, uint32_t state, regex_literals_found_fn found,
                   void *arg)
{
    uint32_t at = set->found[state] != NONE ? state : set->shorter[state];
    for (; at != 0; at = set->shorter[at]) {
        for (uint32_t n = set->found[at]; n != NONE; n = set->same[n]) {
            if (!found(arg, n)) {
                return false;
            }
        }
    }
    return true;
}

void regex_literals_scan(const struct literals *set, struct moon_slice subject,
                         regex_literals_found_fn found, void *arg)
{
    uint32_t state = 0;
    for (size_t i = 0; i < subject.len; i++) {
        state = set->next[(size_t)state * set->classes + set->class_of[(uint8_t)subject.data[i]]];
        if (set->is_ending[state] != 0 && !report(set, state, found, arg)) {
            return;
        }
    }
}

bool regex_literals_test(const struct literals *set, struct moon_slice subject)
{
    uint32_t state = 0;
    for (size_t i = 0; i < subject.len; i++) {
        state = set->next[(size_t)state * set->classes + set->class_of[(uint8_t)subject.data[i]]];
        if (set->is_ending[state] != 0) {
            return true;
        }
    }
    return false;
}
