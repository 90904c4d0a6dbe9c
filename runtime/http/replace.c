/* SPDX-License-Identifier: Apache-2.0 */
#include "http/replace.h"

enum {
    REPLACE_RUN_BYTES = 65536,        // of output, about; the rest of the run waits
    REPLACE_BUF_BYTES = 64 * 1048576, // far above a run; a ceiling against bugs
};

enum replace_answer { REPLACE_NO, REPLACE_YES, REPLACE_UNSURE };

static bool replace_is_host_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == ':' || c == '-';
}

static bool replace_is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Whether one rule fits where `text` begins.
static enum replace_answer replace_try(const struct moon_replace *r,
                                       const struct moon_replace_rule *rule, struct moon_slice text,
                                       char before)
{
    size_t n = moon_min_size(rule->from.len, text.len);
    struct moon_slice there = moon_slice(text.data, n), wanted = moon_slice(rule->from.data, n);
    if (!rule->is_link) {
        if (memcmp(there.data, wanted.data, n) != 0)
            return REPLACE_NO;
        if (n == rule->from.len)
            return REPLACE_YES;
        return r->is_last ? REPLACE_NO : REPLACE_UNSURE;
    }
    if (replace_is_letter(before) || !moon_slice_is_nocase(there, wanted))
        return REPLACE_NO;
    if (n == rule->from.len && n < text.len)
        return replace_is_host_byte(text.data[n]) ? REPLACE_NO : REPLACE_YES;
    if (r->is_last)
        return n == rule->from.len ? REPLACE_YES : REPLACE_NO;
    return REPLACE_UNSURE;
}

// The first rule that fits where `text` begins. Unsure: with more of the body one might.
static enum replace_answer replace_find(const struct moon_replace *r, struct moon_slice text,
                                        char before, const struct moon_replace_rule **rule)
{
    for (size_t i = 0; i < r->rule_count; i++) {
        enum replace_answer answer = replace_try(r, &r->rules[i], text, before);
        if (answer != REPLACE_NO) {
            *rule = &r->rules[i];
            return answer;
        }
    }
    return REPLACE_NO;
}

// The next place where a text may begin.
static size_t replace_skip(const struct moon_replace *r, struct moon_slice text, size_t at)
{
    if (r->only_first >= 0) {
        const char *hit = memchr(text.data + at, r->only_first, text.len - at);
        return hit == NULL ? text.len : (size_t)(hit - text.data);
    }
    while (at < text.len && !r->is_first[(unsigned char)text.data[at]])
        at++;
    return at;
}

// Goes through a run. @param used  bytes of it that are done with; those from *plain on are unchanged
// and not in r->out
static enum moon_rc replace_scan(struct moon_replace *r, struct moon_slice text, size_t *plain,
                                 size_t *used)
{
    const struct moon_replace_rule *rule = NULL;
    size_t from = 0, at = 0;
    while (!r->has_more && at < text.len && (at = replace_skip(r, text, at)) < text.len) {
        char before = at == 0 ? r->before : text.data[at - 1];
        enum replace_answer answer = replace_find(r, moon_slice_from(text, at), before, &rule);
        if (answer == REPLACE_UNSURE)
            break;
        if (answer == REPLACE_NO) {
            at++;
            continue;
        }
        enum moon_rc rc = moon_buf_append(&r->out, moon_slice(text.data + from, at - from));
        if (rc == MOON_OK)
            rc = moon_buf_append(&r->out, rule->to);
        if (rc != MOON_OK)
            return rc;
        at += rule->from.len;
        from = at;
        r->has_more = moon_buf_len(&r->out) >= REPLACE_RUN_BYTES;
    }
    *plain = from;
    *used = at;
    return MOON_OK;
}

// Runs one stage over what it holds and `in`.
static enum moon_rc replace_run(struct moon_replace *r, struct moon_slice in, bool is_last,
                                struct moon_slice *data)
{
    bool is_held = moon_buf_len(&r->held) > 0;
    struct moon_slice text = in;
    size_t plain = 0, used = 0;
    enum moon_rc rc = MOON_OK;
    moon_buf_clear(&r->out);
    r->is_last = is_last;
    r->has_more = false;
    if (is_held) {
        rc = moon_buf_append(&r->held, in);
        text = moon_buf_slice(&r->held);
    }
    MOON_ASSERT(text.data != NULL || text.len == 0);
    if (rc == MOON_OK && text.len > 0)
        rc = replace_scan(r, text, &plain, &used);
    if (rc != MOON_OK)
        return rc;
    r->before = used > 0 ? text.data[used - 1] : r->before;
    struct moon_slice rest = moon_slice_from(text, used);
    struct moon_slice unchanged = moon_slice_from(moon_slice(text.data, used), plain);
    r->is_done = r->is_last && rest.len == 0;
    r->has_more = r->has_more && rest.len > 0;
    if (!is_held && moon_buf_len(&r->out) == 0) {
        *data = unchanged; // nothing is copied where nothing was found
    } else {
        rc = moon_buf_append(&r->out, unchanged);
        *data = moon_buf_slice(&r->out);
    }
    if (is_held)
        moon_buf_consume(&r->held, used);
    else if (rc == MOON_OK && rest.len > 0)
        rc = moon_buf_append(&r->held, rest);
    return rc;
}

static void replace_note_only_first(struct moon_replace *r)
{
    int n = 0, last = -1;
    for (int i = 0; i < 256; i++) {
        n += r->is_first[i];
        last = r->is_first[i] ? i : last;
    }
    r->only_first = n == 1 ? last : -1;
}

enum moon_rc moon_replaces_add(struct moon_replaces *all, struct moon_arena *arena,
                               const struct moon_replace_rule *rules, size_t count)
{
    if (all->count == MOON_REPLACE_STAGES)
        return MOON_ERR_LIMIT;
    struct moon_replace *r = moon_arena_zalloc(arena, sizeof(*r));
    if (r == NULL)
        return MOON_ERR_MEMORY;
    r->rules = rules;
    r->rule_count = count;
    for (size_t i = 0; i < count; i++) {
        if (rules[i].from.len == 0 || rules[i].from.len > MOON_REPLACE_TEXT_BYTES)
            return MOON_ERR_LIMIT;
        unsigned char first = (unsigned char)rules[i].from.data[0];
        r->is_first[first] = true;
        if (rules[i].is_link && replace_is_letter((char)first))
            r->is_first[first ^ 0x20] = true;
    }
    replace_note_only_first(r);
    moon_buf_init(&r->held, REPLACE_BUF_BYTES);
    moon_buf_init(&r->out, REPLACE_BUF_BYTES);
    all->stages[all->count++] = r;
    return MOON_OK;
}

// The last stage that has something left to give goes on; without one, the source.
static size_t replaces_resume_at(const struct moon_replaces *all)
{
    size_t i = all->count;
    while (i > 0 && !all->stages[i - 1]->has_more)
        i--;
    return i;
}

enum moon_rc moon_replaces_read(struct moon_replaces *all, moon_replaces_source_fn *source,
                                void *owner, struct moon_slice *data, bool *is_done)
{
    if (all->count == 0)
        return source(owner, data, is_done);
    for (;;) {
        struct moon_slice run = {NULL, 0};
        bool is_last = false;
        size_t i = replaces_resume_at(all);
        if (i == 0) {
            enum moon_rc rc = source(owner, &run, &is_last);
            if (rc != MOON_OK)
                return rc;
        } else {
            is_last = all->stages[--i]->is_last;
        }
        for (; i < all->count; i++) {
            enum moon_rc rc = replace_run(all->stages[i], run, is_last, &run);
            if (rc != MOON_OK)
                return rc;
            is_last = all->stages[i]->is_done;
        }
        *data = run;
        *is_done = is_last;
        if (run.len > 0 || is_last)
            return MOON_OK;
    }
}

void moon_replaces_fini(struct moon_replaces *all)
{
    for (size_t i = 0; i < all->count; i++) {
        moon_buf_fini(&all->stages[i]->held);
        moon_buf_fini(&all->stages[i]->out);
    }
    all->count = 0;
}
