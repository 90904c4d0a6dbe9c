/* SPDX-License-Identifier: Apache-2.0 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "regex/pattern.h"

#include "regex/filter.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MATCH_LIMIT 100000
#define HEAP_LIMIT_KIB 4096
#define JIT_STACK_MIN ((size_t)32 << 10)
#define JIT_STACK_MAX ((size_t)512 << 10)
#define PATTERN_MAX ((size_t)64 << 10)

struct pattern {
    pcre2_code *code;
    struct piece_filter *filter; // NULL: nothing is known that a match must hold
    uint32_t groups;
    bool is_utf;
    bool is_jit; // and needs no check of UTF-8, so that the compiled code can be entered directly
};

static pcre2_match_context *limits;
static pcre2_match_data *data;
static pcre2_jit_stack *stack;

bool regex_pattern_open(void)
{
    limits = pcre2_match_context_create(NULL);
    data = pcre2_match_data_create(PATTERN_GROUPS_MAX + 1, NULL);
    stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
    if (limits == NULL || data == NULL) {
        return false;
    }
    (void)pcre2_set_match_limit(limits, MATCH_LIMIT);
    (void)pcre2_set_depth_limit(limits, MATCH_LIMIT);
    (void)pcre2_set_heap_limit(limits, HEAP_LIMIT_KIB);
    if (stack != NULL) { // without JIT there is none
        pcre2_jit_stack_assign(limits, NULL, stack);
    }
    return true;
}

void regex_pattern_close(void)
{
    pcre2_match_data_free(data);
    pcre2_match_context_free(limits);
    pcre2_jit_stack_free(stack);
    data = NULL;
    limits = NULL;
    stack = NULL;
}

static bool read_flags(const char *flags, uint32_t *options, char *error, size_t room)
{
    // No \C, which would split UTF-8; a match never looks at what is not valid UTF-8.
    *options = PCRE2_NEVER_BACKSLASH_C;
    for (; *flags != '\0'; flags++) {
        switch (*flags) {
        case 'i':
            *options |= PCRE2_CASELESS;
            break;
        case 'm':
            *options |= PCRE2_MULTILINE;
            break;
        case 's':
            *options |= PCRE2_DOTALL;
            break;
        case 'x':
            *options |= PCRE2_EXTENDED;
            break;
        case 'u':
            *options |= PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF;
            break;
        case 'a':
            *options |= PCRE2_ANCHORED;
            break;
        case 'D':
            *options |= PCRE2_DOLLAR_ENDONLY;
            break;
        case 'U':
            *options |= PCRE2_UNGREEDY;
            break;
        default:
            (void)snprintf(error, room, "there is no flag \"%c\"", *flags);
            return false;
        }
    }
    return true;
}

struct pattern *regex_pattern_new(struct moon_slice text, const char *flags, char *error,
                                  size_t room)
{
    uint32_t options;
    int code_error;
    PCRE2_SIZE at;
    if (!read_flags(flags, &options, error, room)) {
        return NULL;
    }
    if (text.len > PATTERN_MAX) {
        (void)snprintf(error, room, "a pattern has at most 64 KiB");
        return NULL;
    }
    struct pattern *p = calloc(1, sizeof *p);
    if (p == NULL) {
        (void)snprintf(error, room, "no memory");
        return NULL;
    }
    p->code = pcre2_compile((PCRE2_SPTR)text.data, text.len, options, &code_error, &at, NULL);
    if (p->code == NULL) {
        char why[160];
        (void)pcre2_get_error_message(code_error, (PCRE2_UCHAR *)why, sizeof why);
        (void)snprintf(error, room, "%s at byte %zu", why, at + 1);
        goto fail;
    }
    (void)pcre2_pattern_info(p->code, PCRE2_INFO_CAPTURECOUNT, &p->groups);
    if (p->groups > PATTERN_GROUPS_MAX) {
        (void)snprintf(error, room, "a pattern has at most %d groups", PATTERN_GROUPS_MAX);
        goto fail;
    }
    p->is_utf = (options & PCRE2_UTF) != 0;
    p->is_jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0 && !p->is_utf;
    p->filter = regex_filter_new(text, flags);
    return p;
fail:
    regex_pattern_free(p);
    return NULL;
}

void regex_pattern_free(struct pattern *p)
{
    if (p != NULL) {
        pcre2_code_free(p->code);
        regex_filter_free(p->filter);
        free(p);
    }
}

uint32_t regex_pattern_groups(const struct pattern *p)
{
    return p->groups;
}

uint32_t regex_pattern_group(const struct pattern *p, const char *name)
{
    int group = pcre2_substring_number_from_name(p->code, (PCRE2_SPTR)name);
    return group > 0 ? (uint32_t)group : 0;
}

void regex_pattern_names(const struct pattern *p,
                         void (*each)(void *arg, const char *name, uint32_t group), void *arg)
{
    uint32_t count = 0, size = 0;
    PCRE2_SPTR entry = NULL;
    (void)pcre2_pattern_info(p->code, PCRE2_INFO_NAMECOUNT, &count);
    (void)pcre2_pattern_info(p->code, PCRE2_INFO_NAMEENTRYSIZE, &size);
    (void)pcre2_pattern_info(p->code, PCRE2_INFO_NAMETABLE, &entry);
    for (uint32_t i = 0; i < count; i++, entry += size) {
        each(arg, (const char *)entry + 2, (uint32_t)(entry[0] << 8 | entry[1]));
    }
}

enum pattern_result regex_pattern_match(const struct pattern *p, struct moon_slice subject,
                                        size_t from, const size_t **offsets, uint32_t *n_offsets)
{
    if (subject.data == NULL) {
        subject.data = "";
    }
    if (p->filter != NULL && !regex_filter_passes(p->filter, subject, from)) {
        return PATTERN_NO;
    }
    PCRE2_SPTR text = (PCRE2_SPTR)subject.data;
    while (p->is_utf && from < subject.len && (text[from] & 0xC0) == 0x80) {
        from++; // never into the middle of a character
    }
    int n = p->is_jit ? pcre2_jit_match(p->code, text, subject.len, from, 0, data, limits)
                      : pcre2_match(p->code, text, subject.len, from, 0, data, limits);
    if (n > 0) {
        *offsets = pcre2_get_ovector_pointer(data);
        *n_offsets = (uint32_t)n;
        return PATTERN_YES;
    }
    return n == PCRE2_ERROR_NOMATCH ? PATTERN_NO : PATTERN_LIMIT;
}
