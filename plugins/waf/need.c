// SPDX-License-Identifier: Apache-2.0
#include "waf/need.h"

enum {
    MAX_PRODUCT = 48, // texts that joining two sets may give
    MAX_TEXTS = 2500, // texts in one set
    MAX_CASES = 40,
    MAX_CLASS = 4, // a byte class of so many folded members is a set of texts
    MAX_CLAUSES = 8,
    MAX_DEPTH = 60,
};

// What is known of a part of a pattern: all texts it can match, or only a need.
struct info {
    bool exact;
    struct waf_str *texts; // exact
    unsigned n;
    struct waf_need need; // not exact
};

struct reader {
    struct waf_arena *a;
    const char *p, *end;
    int depth;
    bool unsure; // met something that we do not read
};

static struct info read_alternatives(struct reader *r);

static struct waf_need need_empty(struct waf_arena *a)
{
    struct waf_case *c = waf_zalloc(a, sizeof *c);
    return (struct waf_need){c, 1};
}

struct waf_need waf_need_any(struct waf_arena *a, size_t least)
{
    struct waf_need need = need_empty(a);
    need.cases[0].least = least;
    return need;
}

static struct info info_any(struct reader *r)
{
    return (struct info){.need = need_empty(r->a)};
}

static struct info info_text(struct reader *r, const char *p, size_t n)
{
    struct waf_str *t = waf_alloc(r->a, sizeof *t);
    char *low = waf_alloc(r->a, n + 1);
    for (size_t i = 0; i < n; i++) {
        low[i] = (char)waf_lower((unsigned char)p[i]);
    }
    *t = (struct waf_str){low, n};
    return (struct info){.exact = true, .texts = t, .n = 1};
}

static unsigned set_count(const uint64_t *set)
{
    unsigned n = 0;
    for (int i = 0; i < 4; i++) {
        n += (unsigned)__builtin_popcountll(set[i]);
    }
    return n;
}

static void set_fold(uint64_t *set)
{
    for (unsigned c = 'a'; c <= 'z'; c++) {
        if (waf_set_has(set, (unsigned char)c) || waf_set_has(set, (unsigned char)(c - 32))) {
            waf_set_add(set, (unsigned char)c);
            waf_set_add(set, (unsigned char)(c - 32));
        }
    }
}

struct waf_need waf_need_of_bytes(struct waf_arena *a, const uint64_t bytes[4])
{
    struct waf_need need = need_empty(a);
    need.cases[0].least = 1;
    struct waf_clause *c = waf_zalloc(a, sizeof *c);
    c->is_bytes = true;
    memcpy(c->bytes, bytes, sizeof c->bytes);
    set_fold(c->bytes);
    if (set_count(c->bytes) < 200) {
        need.cases[0].clauses = c;
        need.cases[0].n = 1;
    }
    return need;
}

static struct info info_class(struct reader *r, const uint64_t *given)
{
    uint64_t set[4];
    char one;
    memcpy(set, given, sizeof set);
    set_fold(set);
    struct info out = {.exact = true, .texts = waf_alloc(r->a, sizeof(struct waf_str) * MAX_CLASS)};
    for (unsigned c = 0; c < 256; c++) {
        if (!waf_set_has(set, (unsigned char)c) || (c >= 'A' && c <= 'Z')) {
            continue;
        }
        if (out.n == MAX_CLASS) {
            return (struct info){.need = waf_need_of_bytes(r->a, set)};
        }
        one = (char)c;
        out.texts[out.n++] = waf_dup(r->a, (struct waf_str){&one, 1});
    }
    return out.n != 0 ? out : info_any(r);
}

// How telling a byte is, as the sole thing that we look for.
static int rarity(unsigned char c)
{
    if (c == 'e' || c == 'a' || c == 'i' || c == 'o' || c == 't' || c == 'n' || c == 's') {
        return 0;
    }
    if (waf_is_alpha(c)) {
        return c == 'q' || c == 'x' || c == 'z' || c == 'j' ? 2 : 1;
    }
    return waf_is_digit(c) || c == ' ' || c == '.' || c == '-' || c == '_' || c == '/' ? 3 : 5;
}

static size_t texts_least(const struct waf_str *t, unsigned n)
{
    size_t least = SIZE_MAX;
    for (unsigned i = 0; i < n; i++) {
        least = t[i].n < least ? t[i].n : least;
    }
    return n == 0 ? 0 : least;
}

// Drops texts in which another one of the set occurs anyway.
static unsigned texts_simplify(struct waf_str *t, unsigned n)
{
    unsigned kept = 0;
    if (n > 600) {
        return n;
    }
    for (unsigned i = 0; i < n; i++) {
        bool needed = true;
        for (unsigned k = 0; k < n && needed; k++) {
            needed = k == i || t[k].n > t[i].n || (t[k].n == t[i].n && k > i) || t[k].n == 0 ||
                     waf_find(t[i], t[k]) < 0;
        }
        if (needed) {
            struct waf_str keep = t[i];
            t[i] = t[kept]; // stays visible to the texts that follow
            t[kept++] = keep;
        }
    }
    return kept;
}

static void clause_of_texts(struct waf_arena *a, const struct waf_str *texts, unsigned n,
                            struct waf_clause *c)
{
    *c = (struct waf_clause){0};
    c->texts = waf_alloc(a, sizeof *texts * n);
    memcpy(c->texts, texts, sizeof *texts * n);
    c->n = texts_simplify(c->texts, n);
    if (texts_least(c->texts, c->n) > 1) {
        return;
    }
    c->is_bytes = true;
    for (unsigned i = 0; i < c->n; i++) {
        unsigned char best = (unsigned char)c->texts[i].p[0];
        for (size_t k = 1; k < c->texts[i].n; k++) {
            unsigned char b = (unsigned char)c->texts[i].p[k];
            best = rarity(b) > rarity(best) ? b : best;
        }
        waf_set_add(c->bytes, best);
    }
    set_fold(c->bytes);
}

struct waf_need waf_need_of_texts(struct waf_arena *a, const struct waf_str *texts, unsigned n)
{
    struct waf_need need = need_empty(a);
    size_t least = texts_least(texts, n);
    need.cases[0].least = least;
    if (least == 0 || n > MAX_TEXTS) {
        return need;
    }
    struct waf_str *low = waf_alloc(a, sizeof *low * n);
    for (unsigned i = 0; i < n; i++) {
        char *p = waf_alloc(a, texts[i].n + 1);
        for (size_t k = 0; k < texts[i].n; k++) {
            p[k] = (char)waf_lower((unsigned char)texts[i].p[k]);
        }
        low[i] = (struct waf_str){p, texts[i].n};
    }
    need.cases[0].clauses = waf_alloc(a, sizeof(struct waf_clause));
    clause_of_texts(a, low, n, need.cases[0].clauses);
    need.cases[0].n = 1;
    return need;
}

static struct waf_need info_need(struct reader *r, struct info i)
{
    return i.exact ? waf_need_of_texts(r->a, i.texts, i.n) : i.need;
}

// The larger, the fewer values have it.
static int clause_score(const struct waf_clause *c)
{
    if (c->is_bytes) {
        int worst = 10;
        for (unsigned b = 0; b < 256; b++) {
            if (waf_set_has(c->bytes, (unsigned char)b) && b < 128) {
                int at = rarity((unsigned char)b);
                worst = at < worst ? at : worst;
            }
        }
        return worst * 4 - (int)set_count(c->bytes) / 8;
    }
    return (int)texts_least(c->texts, c->n) * 8 + 8 - (c->n > 8 ? (int)c->n / 8 : 0);
}

static struct waf_case case_join(struct waf_arena *a, const struct waf_case *x,
                                 const struct waf_case *y)
{
    struct waf_case c = {.least = x->least + y->least, .n = x->n + y->n};
    if (c.least > 4096) {
        c.least = 4096;
    }
    if (x->n == 0 || y->n == 0) {
        c.clauses = x->n == 0 ? y->clauses : x->clauses;
        return c;
    }
    c.clauses = waf_alloc(a, sizeof *c.clauses * c.n);
    memcpy(c.clauses, x->clauses, sizeof *c.clauses * x->n);
    memcpy(c.clauses + x->n, y->clauses, sizeof *c.clauses * y->n);
    while (c.n > MAX_CLAUSES) {
        unsigned worst = 0;
        for (unsigned i = 1; i < c.n; i++) {
            worst = clause_score(&c.clauses[i]) < clause_score(&c.clauses[worst]) ? i : worst;
        }
        c.clauses[worst] = c.clauses[--c.n];
    }
    return c;
}

static const struct waf_clause *case_best(const struct waf_case *c, bool bytes)
{
    const struct waf_clause *best = NULL;
    for (unsigned i = 0; i < c->n; i++) {
        const struct waf_clause *k = &c->clauses[i];
        if (k->is_bytes == bytes && (best == NULL || clause_score(k) > clause_score(best))) {
            best = k;
        }
    }
    return best;
}

// Adds to `out` the OR over all cases of each case's best clause of one kind, if all have one.
static void case_union(struct waf_arena *a, const struct waf_need *need, bool bytes,
                       struct waf_case *out)
{
    struct waf_clause u = {.is_bytes = bytes};
    unsigned total = 0;
    for (unsigned i = 0; i < need->n; i++) {
        const struct waf_clause *k = case_best(&need->cases[i], bytes);
        if (k == NULL) {
            return;
        }
        total += k->n;
    }
    if (!bytes && total > MAX_TEXTS) {
        return;
    }
    u.texts = bytes ? NULL : waf_alloc(a, sizeof *u.texts * total);
    for (unsigned i = 0; i < need->n; i++) {
        const struct waf_clause *k = case_best(&need->cases[i], bytes);
        for (unsigned b = 0; bytes && b < 4; b++) {
            u.bytes[b] |= k->bytes[b];
        }
        if (!bytes) {
            memcpy(u.texts + u.n, k->texts, sizeof *u.texts * k->n);
            u.n += k->n;
        }
    }
    if (!bytes) {
        u.n = texts_simplify(u.texts, u.n);
    } else if (set_count(u.bytes) >= 200) {
        return;
    }
    out->clauses[out->n++] = u;
}

static struct waf_need need_collapse(struct waf_arena *a, const struct waf_need *need)
{
    struct waf_need out = need_empty(a);
    struct waf_case *c = &out.cases[0];
    c->least = SIZE_MAX;
    for (unsigned i = 0; i < need->n; i++) {
        c->least = need->cases[i].least < c->least ? need->cases[i].least : c->least;
    }
    c->clauses = waf_alloc(a, sizeof *c->clauses * 2);
    case_union(a, need, false, c);
    case_union(a, need, true, c);
    return out;
}

static struct waf_need need_and(struct waf_arena *a, struct waf_need x, struct waf_need y)
{
    if (x.n * y.n > MAX_CASES) {
        struct waf_need *big = x.n >= y.n ? &x : &y;
        *big = need_collapse(a, big);
    }
    if (x.n * y.n > MAX_CASES) {
        struct waf_need *big = x.n >= y.n ? &x : &y;
        *big = need_collapse(a, big);
    }
    struct waf_need out = {waf_alloc(a, sizeof(struct waf_case) * x.n * y.n), 0};
    for (unsigned i = 0; i < x.n; i++) {
        for (unsigned k = 0; k < y.n; k++) {
            out.cases[out.n++] = case_join(a, &x.cases[i], &y.cases[k]);
        }
    }
    return out;
}

// All texts of `x` followed by all of `y`.
static struct info info_product(struct reader *r, const struct info *x, const struct info *y)
{
    struct info out = {.exact = true,
                       .texts = waf_alloc(r->a, sizeof(struct waf_str) * x->n * y->n)};
    for (unsigned i = 0; i < x->n; i++) {
        for (unsigned k = 0; k < y->n; k++) {
            size_t n = x->texts[i].n + y->texts[k].n;
            char *p = waf_alloc(r->a, n + 1);
            memcpy(p, x->texts[i].p, x->texts[i].n);
            memcpy(p + x->texts[i].n, y->texts[k].p, y->texts[k].n);
            out.texts[out.n++] = (struct waf_str){p, n};
        }
    }
    return out;
}

static bool product_fits(const struct info *x, const struct info *y)
{
    unsigned n = x->n * y->n;
    return n <= MAX_PRODUCT || (n <= MAX_TEXTS && (x->n == 1 || y->n == 1));
}

// --- classes and escapes -----------------------------------------------------

static void set_range(uint64_t *set, unsigned from, unsigned to)
{
    for (unsigned c = from; c <= to && c < 256; c++) {
        waf_set_add(set, (unsigned char)c);
    }
}

static bool class_letter(char c, uint64_t *set)
{
    uint64_t s[4] = {0};
    switch (c | 32) {
    case 'd':
        set_range(s, '0', '9');
        break;
    case 'w':
        set_range(s, '0', '9');
        set_range(s, 'A', 'Z');
        set_range(s, 'a', 'z');
        waf_set_add(s, '_');
        break;
    case 's':
        set_range(s, 9, 13);
        waf_set_add(s, ' ');
        break;
    case 'h':
        waf_set_add(s, 9);
        waf_set_add(s, ' ');
        waf_set_add(s, 0xa0);
        break;
    case 'v':
        set_range(s, 10, 13);
        waf_set_add(s, 0x85);
        break;
    default:
        return false;
    }
    for (int i = 0; i < 4; i++) {
        set[i] |= c & 32 ? s[i] : ~s[i];
    }
    return true;
}

// The byte that an escape stands for, or -1. `r->p` is past the backslash, at the letter.
static int escape_byte(struct reader *r)
{
    char c = *r->p++;
    int v = 0, n = 0;
    switch (c) {
    case 'x':
        if (r->p < r->end && *r->p == '{') {
            for (r->p++; r->p < r->end && waf_hex((unsigned char)*r->p) >= 0 && n < 4; n++) {
                v = v * 16 + waf_hex((unsigned char)*r->p++);
            }
            if (r->p >= r->end || *r->p != '}' || v > 255) {
                return -1;
            }
            r->p++;
            return v;
        }
        for (; n < 2 && r->p < r->end && waf_hex((unsigned char)*r->p) >= 0; n++) {
            v = v * 16 + waf_hex((unsigned char)*r->p++);
        }
        return v;
    case '0':
        for (; n < 2 && r->p < r->end && *r->p >= '0' && *r->p <= '7'; n++) {
            v = v * 8 + (*r->p++ - '0');
        }
        return v;
    case 't':
        return '\t';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 'f':
        return '\f';
    case 'a':
        return '\a';
    case 'e':
        return 27;
    default:
        return waf_is_alnum((unsigned char)c) ? -1 : (unsigned char)c;
    }
}

static bool posix_class(struct reader *r, uint64_t *set)
{
    static const char *const names[] = {"alpha", "digit",  "alnum", "upper", "lower",
                                        "space", "xdigit", "punct", "word"};
    struct waf_str rest = {r->p, (size_t)(r->end - r->p)};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t n = strlen(names[i]);
        if (rest.n < n + 4 || memcmp(rest.p, "[:", 2) != 0 ||
            memcmp(rest.p + 2, names[i], n) != 0 || memcmp(rest.p + 2 + n, ":]", 2) != 0) {
            continue;
        }
        for (unsigned c = 0; c < 128; c++) {
            unsigned char b = (unsigned char)c;
            bool in[] = {waf_is_alpha(b),
                         waf_is_digit(b),
                         waf_is_alnum(b),
                         waf_is_alpha(b),
                         waf_is_alpha(b),
                         waf_is_space(b),
                         waf_hex(b) >= 0,
                         c > 32 && c < 127 && !waf_is_alnum(b),
                         waf_is_alnum(b) || c == '_'};
            if (in[i]) {
                waf_set_add(set, b);
            }
        }
        r->p += n + 4;
        return true;
    }
    return false;
}

// One member of a class; -1 when it was a whole set, added already.
static int class_member(struct reader *r, uint64_t *set)
{
    char c = *r->p;
    if (c == '[' && r->end - r->p > 1 && (r->p[1] == ':' || r->p[1] == '.' || r->p[1] == '=')) {
        if (!posix_class(r, set)) {
            r->unsure = true;
            r->p++;
        }
        return -1;
    }
    r->p++;
    if (c != '\\' || r->p == r->end) {
        return (unsigned char)c;
    }
    if (class_letter(*r->p, set)) {
        r->p++;
        return -1;
    }
    if (*r->p == 'b') {
        r->p++;
        return '\b';
    }
    int v = escape_byte(r);
    r->unsure |= v < 0;
    return v;
}

static struct info read_class(struct reader *r)
{
    uint64_t set[4] = {0};
    bool negated = r->p < r->end && *r->p == '^';
    r->p += negated;
    bool first = true;
    while (r->p < r->end && (*r->p != ']' || first) && !r->unsure) {
        first = false;
        int from = class_member(r, set);
        if (from < 0) {
            continue;
        }
        if (r->end - r->p >= 2 && r->p[0] == '-' && r->p[1] != ']') {
            const char *dash = r->p++;
            uint64_t extra[4] = {0};
            int to = class_member(r, extra);
            if (to >= 0) {
                set_range(set, (unsigned)from, (unsigned)to);
                continue;
            }
            r->p = dash; // "a-\d": the dash is itself
        }
        waf_set_add(set, (unsigned char)from);
    }
    if (r->p >= r->end) {
        r->unsure = true;
        return info_any(r);
    }
    r->p++;
    for (int i = 0; negated && i < 4; i++) {
        set[i] = ~set[i];
    }
    if (negated) {
        // caseless: [^a] excludes both cases, [^A] too; folding a complement stays a superset
        set_fold(set);
    }
    return info_class(r, set);
}

static struct info read_escape(struct reader *r)
{
    uint64_t set[4] = {0};
    if (r->p == r->end) {
        r->unsure = true;
        return info_any(r);
    }
    char c = *r->p;
    if (class_letter(c, set)) {
        r->p++;
        return info_class(r, set);
    }
    if (c == 'b' || c == 'B' || c == 'A' || c == 'z' || c == 'Z' || c == 'G') {
        r->p++;
        return info_text(r, "", 0);
    }
    if (c >= '1' && c <= '9') { // back reference (or octal, of which CRS has none)
        while (r->p < r->end && waf_is_digit((unsigned char)*r->p)) {
            r->p++;
        }
        return info_any(r);
    }
    int v = escape_byte(r);
    if (v < 0) {
        r->unsure = true;
        return info_any(r);
    }
    char byte = (char)v;
    return info_text(r, &byte, 1);
}

// --- groups, quantifiers, sequences -------------------------------------------

static bool flags_known(const char *p, const char *end)
{
    for (; p < end; p++) {
        if (strchr("ims-", *p) == NULL) {
            return false;
        }
    }
    return true;
}

static bool starts(const struct reader *r, const char *what)
{
    size_t n = strlen(what);
    return (size_t)(r->end - r->p) >= n && memcmp(r->p, what, n) == 0;
}

static struct info close_group(struct reader *r, struct info inner)
{
    if (r->p >= r->end || *r->p != ')') {
        r->unsure = true;
        return inner;
    }
    r->p++;
    return inner;
}

static struct info read_group(struct reader *r)
{
    if (starts(r, "?:") || starts(r, "?>")) {
        r->p += 2;
        return close_group(r, read_alternatives(r));
    }
    if (starts(r, "?=") || starts(r, "?!") || starts(r, "?<=") || starts(r, "?<!")) {
        r->p += r->p[1] == '<' ? 3 : 2;
        (void)close_group(r, read_alternatives(r));
        return info_text(r, "", 0);
    }
    if (starts(r, "?P<") || starts(r, "?<")) {
        const char *name_end = memchr(r->p, '>', (size_t)(r->end - r->p));
        if (name_end == NULL) {
            r->unsure = true;
            return info_any(r);
        }
        r->p = name_end + 1;
        return close_group(r, read_alternatives(r));
    }
    if (starts(r, "?")) {
        const char *p = r->p + 1;
        while (p < r->end && *p != ')' && *p != ':') {
            p++;
        }
        if (p >= r->end || !flags_known(r->p + 1, p)) {
            r->unsure = true;
            return info_any(r);
        }
        r->p = p + 1;
        return *p == ')' ? info_text(r, "", 0) : close_group(r, read_alternatives(r));
    }
    if (starts(r, "*")) {
        r->unsure = true;
        return info_any(r);
    }
    return close_group(r, read_alternatives(r));
}

static struct info read_item(struct reader *r)
{
    char c = *r->p++;
    uint64_t set[4] = {0};
    switch (c) {
    case '(':
        return read_group(r);
    case '[':
        return read_class(r);
    case '\\':
        return read_escape(r);
    case '^':
    case '$':
        return info_text(r, "", 0);
    case '.':
        set_range(set, 0, 255);
        return info_class(r, set);
    default:
        return info_text(r, &c, 1);
    }
}

static bool read_number(struct reader *r, unsigned *v)
{
    const char *start = r->p;
    for (*v = 0; r->p < r->end && waf_is_digit((unsigned char)*r->p); r->p++) {
        *v = *v > 100000 ? *v : *v * 10 + (unsigned)(*r->p - '0');
    }
    return r->p != start;
}

// Reads *, +, ?, {m}, {m,}, {m,n} with their suffix. @return false: none here
static bool read_quantifier(struct reader *r, unsigned *min, unsigned *max)
{
    const char *start = r->p;
    if (r->p >= r->end) {
        return false;
    }
    switch (*r->p++) {
    case '*':
        *min = 0, *max = UINT32_MAX;
        break;
    case '+':
        *min = 1, *max = UINT32_MAX;
        break;
    case '?':
        *min = 0, *max = 1;
        break;
    case '{':
        if (!read_number(r, min)) {
            r->p = start;
            return false;
        }
        *max = *min;
        if (r->p < r->end && *r->p == ',') {
            r->p++;
            if (!read_number(r, max)) {
                *max = UINT32_MAX;
            }
        }
        if (r->p >= r->end || *r->p != '}') {
            r->p = start;
            return false;
        }
        r->p++;
        break;
    default:
        r->p = start;
        return false;
    }
    if (r->p < r->end && (*r->p == '?' || *r->p == '+')) {
        r->p++;
    }
    return true;
}

static struct info repeat(struct reader *r, struct info item, unsigned min, unsigned max)
{
    if (max == 0) {
        return info_text(r, "", 0);
    }
    if (min == 0) {
        if (!item.exact || max != 1 || item.n >= MAX_PRODUCT) {
            return info_any(r);
        }
        struct info out = {.exact = true, .n = item.n + 1};
        out.texts = waf_alloc(r->a, sizeof(struct waf_str) * out.n);
        memcpy(out.texts, item.texts, sizeof(struct waf_str) * item.n);
        out.texts[item.n] = WAF_LIT("");
        return out;
    }
    struct info out = item;
    unsigned k = 1;
    while (item.exact && k < min && k < 8 && product_fits(&out, &item)) {
        out = info_product(r, &out, &item);
        k++;
    }
    if (item.exact && k == max) {
        return out;
    }
    struct waf_need need = info_need(r, out), copy;
    size_t times = item.exact ? 1 : min;
    copy = (struct waf_need){waf_alloc(r->a, sizeof *need.cases * need.n), need.n};
    memcpy(copy.cases, need.cases, sizeof *need.cases * need.n);
    for (unsigned i = 0; i < copy.n; i++) {
        copy.cases[i].least = times > 512 ? copy.cases[i].least : copy.cases[i].least * times;
    }
    return (struct info){.need = copy};
}

static struct info read_sequence(struct reader *r)
{
    struct waf_need acc = need_empty(r->a);
    struct info run = info_text(r, "", 0);
    bool flushed = false;
    while (r->p < r->end && *r->p != '|' && *r->p != ')' && !r->unsure) {
        unsigned min, max;
        struct info item = read_item(r);
        while (read_quantifier(r, &min, &max)) {
            item = repeat(r, item, min, max);
        }
        if (item.exact && product_fits(&run, &item)) {
            run = info_product(r, &run, &item);
            continue;
        }
        acc = need_and(r->a, acc, info_need(r, run));
        flushed = true;
        run = info_text(r, "", 0);
        if (item.exact && item.n <= MAX_PRODUCT) {
            run = item;
        } else {
            acc = need_and(r->a, acc, info_need(r, item));
        }
    }
    if (!flushed) {
        return run;
    }
    return (struct info){.need = need_and(r->a, acc, info_need(r, run))};
}

static struct info join_alternatives(struct reader *r, const struct info *alts, unsigned n)
{
    unsigned texts = 0, cases = 0;
    struct info exact = {.exact = true};
    for (unsigned i = 0; i < n; i++) {
        texts += alts[i].exact ? alts[i].n : 0;
        cases += alts[i].exact ? 0 : alts[i].need.n;
    }
    exact.texts = waf_alloc(r->a, sizeof(struct waf_str) * (texts + 1));
    for (unsigned i = 0; i < n; i++) {
        if (alts[i].exact) {
            memcpy(exact.texts + exact.n, alts[i].texts, sizeof(struct waf_str) * alts[i].n);
            exact.n += alts[i].n;
        }
    }
    if (cases == 0 && texts <= MAX_TEXTS) {
        return exact;
    }
    struct waf_need need = {waf_alloc(r->a, sizeof(struct waf_case) * (cases + 1)), 0};
    if (texts != 0) {
        need.cases[need.n++] = waf_need_of_texts(r->a, exact.texts, exact.n).cases[0];
    }
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; !alts[i].exact && k < alts[i].need.n; k++) {
            need.cases[need.n++] = alts[i].need.cases[k];
        }
    }
    if (need.n > MAX_CASES) {
        need = need_collapse(r->a, &need);
    }
    return (struct info){.need = need};
}

static struct info read_alternatives(struct reader *r)
{
    unsigned n = 0, cap = 8;
    struct info *alts = waf_alloc(r->a, sizeof *alts * cap);
    if (++r->depth > MAX_DEPTH) {
        r->unsure = true;
        return info_any(r);
    }
    for (;;) {
        if (n == cap) {
            struct info *more = waf_alloc(r->a, sizeof *alts * cap * 2);
            memcpy(more, alts, sizeof *alts * cap);
            alts = more;
            cap *= 2;
        }
        alts[n++] = read_sequence(r);
        if (r->p >= r->end || *r->p != '|' || r->unsure) {
            break;
        }
        r->p++;
    }
    r->depth--;
    return n == 1 ? alts[0] : join_alternatives(r, alts, n);
}

struct waf_need waf_need_of_pattern(struct waf_arena *a, struct waf_str pattern)
{
    struct reader r = {.a = a, .p = pattern.p, .end = pattern.p + pattern.n};
    struct info info = read_alternatives(&r);
    if (r.unsure || r.p != r.end) {
        return need_empty(a);
    }
    return info_need(&r, info);
}
