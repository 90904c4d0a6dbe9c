/* SPDX-License-Identifier: Apache-2.0 */
#include "regex/pattern.h"

#include <string.h>

#define RUN_MIN 2 // a single byte is in nearly every subject
#define RUN_MAX 63

// What is read of a pattern: the longest run of plain bytes outside of groups, classes and anything
// optional. Where it is not plain what a piece means, the pattern is given up: a filter may let too
// much through, never too little.
struct reader {
    const char *at, *end;
    char run[RUN_MAX + 1], best[RUN_MAX + 1];
    size_t run_len, best_len;
};

static void end_run(struct reader *r)
{
    if (r->run_len > r->best_len) {
        memcpy(r->best, r->run, r->run_len);
        r->best_len = r->run_len;
    }
    r->run_len = 0;
}

static void add_byte(struct reader *r, char c)
{
    if (r->run_len == RUN_MAX) {
        end_run(r);
    }
    r->run[r->run_len++] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

// At the byte after '['. False: no end, or a form that is not plain.
static bool skip_class(struct reader *r)
{
    if (r->at < r->end && *r->at == '^') {
        r->at++;
    }
    if (r->at < r->end && *r->at == ']') {
        r->at++; // first, it stands for itself
    }
    while (r->at < r->end && *r->at != ']') {
        if (*r->at == '[') {
            return false; // [:alpha:] and its like
        }
        r->at += *r->at == '\\' ? 2 : 1;
    }
    r->at++;
    return r->at <= r->end;
}

// At the byte after '('.
static bool skip_group(struct reader *r)
{
    int depth = 1;
    while (r->at < r->end && depth > 0) {
        char c = *r->at++;
        if (c == '\\') {
            r->at++;
        } else if (c == '[') {
            if (!skip_class(r)) {
                return false;
            }
        } else if (c == '(') {
            depth++;
        } else if (c == ')') {
            depth--;
        }
    }
    return depth == 0 && r->at <= r->end;
}

// A quantifier that may allow none takes the byte before it out of the run; '+' only ends the run.
// False: a brace that is no quantifier.
static bool take_quantifier(struct reader *r, char c)
{
    if (c != '+' && r->run_len > 0) {
        r->run_len--;
    }
    end_run(r);
    if (c != '{') {
        return true;
    }
    while (r->at < r->end && ((*r->at >= '0' && *r->at <= '9') || *r->at == ',')) {
        r->at++;
    }
    return r->at < r->end && *r->at++ == '}';
}

static bool take_escape(struct reader *r)
{
    if (r->at >= r->end) {
        return false;
    }
    char c = *r->at++;
    bool is_word = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    if (c == '\0') {
        return false; // a piece is a C string
    }
    if (!is_word) {
        add_byte(r, c); // \. and its like stand for themselves
        return (unsigned char)c < 0x80;
    }
    end_run(r);
    return strchr("bBdDsSwWAzZGnrtfhHvVR", c) != NULL; // others take arguments
}

// Reads one branch, up to '|' or the end. False: not plain.
static bool read_branch(struct reader *r)
{
    r->run_len = r->best_len = 0;
    while (r->at < r->end && *r->at != '|') {
        char c = *r->at++;
        bool is_plain = true;
        if (c == '\\') {
            is_plain = take_escape(r);
        } else if (c == '[') {
            end_run(r);
            is_plain = skip_class(r);
        } else if (c == '(') {
            end_run(r);
            is_plain = skip_group(r);
        } else if (c == '*' || c == '?' || c == '+' || c == '{') {
            is_plain = take_quantifier(r, c);
        } else if (c == '.' || c == '^' || c == '$') {
            end_run(r);
        } else if (c == ')' || c == '\0') {
            is_plain = false;
        } else {
            add_byte(r, c);
        }
        if (!is_plain) {
            return false;
        }
    }
    end_run(r);
    return r->best_len >= RUN_MIN;
}

static bool has(struct moon_slice text, const char *piece)
{
    return memmem(text.data, text.len, piece, strlen(piece)) != NULL;
}

// "(?:a|b)" and "(a|b)" mean what is in them.
static struct moon_slice unwrapped(struct moon_slice text)
{
    for (;;) {
        size_t before = text.len > 3 && memcmp(text.data, "(?:", 3) == 0             ? 3
                        : text.len > 1 && text.data[0] == '(' && text.data[1] != '?' ? 1
                                                                                     : 0;
        struct reader r = {.at = text.data + before, .end = text.data + text.len};
        if (before == 0 || !skip_group(&r) || r.at != r.end) {
            return text;
        }
        text = (struct moon_slice){text.data + before, text.len - before - 1};
    }
}

size_t regex_pattern_required(struct moon_slice text, const char *flags, char (*out)[64],
                              size_t max)
{
    // Comments, quotations, verbs and settings within; letters that have a third case in Unicode.
    if (strpbrk(flags, "xu") != NULL || has(text, "(?#") || has(text, "\\Q") || has(text, "\\E") ||
        has(text, "(*") || has(text, "(?x") || has(text, "(?^") || has(text, "(?i") ||
        has(text, "(?s") || has(text, "(?m") || has(text, "(?n") || has(text, "(?-") ||
        has(text, "(?J") || has(text, "(?U") || has(text, "(?(") || has(text, "\\c")) {
        return 0;
    }
    text = unwrapped(text);
    struct reader r = {.at = text.data, .end = text.data + text.len};
    size_t count = 0;
    for (;;) {
        if (count == max || !read_branch(&r)) {
            return 0;
        }
        memcpy(out[count], r.best, r.best_len);
        out[count++][r.best_len] = '\0';
        if (r.at >= r.end) {
            return count;
        }
        r.at++; // the bar
    }
}
