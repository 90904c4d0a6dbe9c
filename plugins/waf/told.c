// SPDX-License-Identifier: Apache-2.0
// Values that speak of something, for the profile for APIs: no prose as a whole, as prose.c knows
// it, but words come before what a rule finds, or around it. An attack breaks out at once; who
// reports one, asks for it or quotes code says so first. What is found in such a value counts less.
// Asked only where a rule has matched.
#include "waf/waf.h"

enum {
    TOLD_FIRST = 400, // bytes that decide for a long value
    LEAD_LEAST = 2,   // words before the first mark of a language
    MARKUP_LEAST = 4, // .. between tags
    LINES_LEAST = 3,  // of code
    LINES_BYTES_LEAST = 60,
    SPAN_MAX = 120,       // bytes of code between back quotes
    FAR_LETTERS_WORD = 9, // bytes, of scripts without spaces
};

struct telling {
    struct waf_str s;
    size_t at;
    size_t lead, words; // before the first mark, and in all
    bool is_marked, breaks_out;
    bool has_no_close; // no tag ends from here on
    int parentheses;
    char quote; // that is open, or '\0'
};

static bool is_letter(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
}

// Where a tag, or a span of code between back quotes, that begins at `at` ends; 0 where none does.
static size_t span_end(struct telling *t)
{
    struct waf_str rest = {t->s.p + t->at, t->s.n - t->at};
    bool is_tag = !t->has_no_close && rest.n > 2 && rest.p[0] == '<' &&
                  (is_letter((unsigned char)rest.p[1]) || memchr("/!?%", rest.p[1], 4) != NULL);
    bool is_code =
        rest.n > 2 && rest.p[0] == '`' && (t->at == 0 || !is_letter((unsigned char)rest.p[-1]));
    if (!is_tag && !is_code) {
        return 0;
    }
    size_t within = is_code && rest.n > SPAN_MAX ? SPAN_MAX : rest.n;
    const char *end = memchr(rest.p + 1, is_tag ? '>' : '`', within - 1);
    t->has_no_close |= is_tag && end == NULL;
    return end == NULL ? 0 : t->at + (size_t)(end - rest.p) + 1;
}

// A word of people: letters alone between gaps and the marks of writing, none of SQL or a shell.
static void count_word(struct telling *t)
{
    size_t start = t->at, high = 0;
    while (t->at < t->s.n && (is_letter((unsigned char)t->s.p[t->at]) ||
                              (t->s.p[t->at] == '\'' && t->at + 1 < t->s.n &&
                               is_letter((unsigned char)t->s.p[t->at + 1]) && t->at > start))) {
        high += (unsigned char)t->s.p[t->at] >= 0x80;
        t->at++;
    }
    struct waf_str word = {t->s.p + start, t->at - start};
    bool begins = start == 0 || memchr(" \t\r\n(`>", t->s.p[start - 1], 7) != NULL;
    bool ends = t->at == t->s.n || memchr(" \t\r\n.,:!?)`<", t->s.p[t->at], 12) != NULL;
    bool has_gap = t->at == t->s.n || memchr(".:", t->s.p[t->at], 2) == NULL ||
                   t->at + 1 == t->s.n || waf_is_space((unsigned char)t->s.p[t->at + 1]);
    if (waf_is_machine_word(word)) {
        t->is_marked = true;
    } else if (word.n >= 2 && begins && ends && has_gap) {
        t->words += 1 + high / FAR_LETTERS_WORD;
        t->lead += t->is_marked ? 0 : 1 + high / FAR_LETTERS_WORD;
    }
}

// Whether a word of SQL follows the quotation mark at `at`: what began before it, it closes.
static bool goes_on(const struct telling *t, size_t at)
{
    size_t start = at + 1;
    while (start < t->s.n && memchr(" \t)", t->s.p[start], 3) != NULL) {
        start++;
    }
    size_t end = start;
    while (end < t->s.n && is_letter((unsigned char)t->s.p[end])) {
        end++;
    }
    return waf_is_machine_word((struct waf_str){t->s.p + start, end - start});
}

// A mark that closes what nobody opened, in the middle of a word or behind it, leads out of the
// place where the words stand: no one speaks of it then.
static void pass_mark(struct telling *t)
{
    char c = t->s.p[t->at], before = t->at > 0 ? t->s.p[t->at - 1] : ' ';
    bool is_behind = is_letter((unsigned char)before) || waf_is_digit((unsigned char)before);
    bool is_quote = c == '\'' || c == '"';
    t->is_marked |= memchr("'\"`;|&<>$(){}\\=%", c, 16) != NULL;
    if (is_quote && t->quote == '\0') {
        t->breaks_out |= is_behind || goes_on(t, t->at);
    } else if (c == ')') {
        t->breaks_out |= t->parentheses == 0 && is_behind;
    } else if (c == '`' || c == '|') {
        t->breaks_out |= is_behind;
    }
    t->quote = !is_quote ? t->quote : t->quote == c ? '\0' : t->quote == '\0' ? c : t->quote;
    t->parentheses += c == '(' ? 1 : c == ')' && t->parentheses > 0 ? -1 : 0;
    t->at++;
}

static void count_words(struct telling *t)
{
    while (t->at < t->s.n) {
        size_t end = span_end(t);
        char c = t->s.p[t->at];
        if (end != 0) {
            t->is_marked |= c == '<';
            t->at = end;
        } else if (is_letter((unsigned char)c)) {
            count_word(t);
        } else {
            pass_mark(t);
        }
    }
}

bool waf_is_told(struct waf_str name, struct waf_str value, enum waf_origin origin)
{
    if (value.n > 0 && memchr("\r\n", value.p[0], 2) != NULL) {
        return false; // as what is injected into protocols of lines
    }
    size_t lead = waf_skip_lead(value);
    value = (struct waf_str){value.p + lead, value.n - lead};
    if (value.n == 0 || memchr("'\")};|&$%", value.p[0], 9) != NULL) {
        return false;
    }
    struct telling t = {.s = {value.p, value.n < TOLD_FIRST ? value.n : TOLD_FIRST}};
    count_words(&t);
    bool is_text = waf_holds_text(name);
    bool is_element = origin != WAF_FROM_QUERY && value.n > 1 && value.p[0] == '<' &&
                      is_letter((unsigned char)value.p[1]);
    bool is_held = (is_element && is_text) || (value.p[0] == '<' && t.words >= MARKUP_LEAST) ||
                   (is_text && is_letter((unsigned char)value.p[0]) && t.words > 0);
    bool speaks = t.lead >= LEAD_LEAST || is_held;
    return (speaks && !t.breaks_out) || waf_is_lines(value, LINES_LEAST, LINES_BYTES_LEAST);
}
