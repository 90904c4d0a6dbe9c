// SPDX-License-Identifier: Apache-2.0
// Operators: what each prepares at load, what the filter may ask of a value, and the test itself.
#include "waf/out.h"
#include "waf/waf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const struct {
    const char *name;
    bool numeric;
} op_table[] = {
#define OPERATOR(name, kind, numeric) {#name, numeric},
#include "waf/operator.def"
#undef OPERATOR
};

bool waf_op_is_numeric(enum waf_op_kind kind)
{
    return op_table[kind].numeric;
}

static pcre2_match_context *match_context;
static pcre2_jit_stack *jit_stack;
static pcre2_match_data *match_data;

// One match context, stack and result for the process: a worker has one thread.
static bool regex_ready(void)
{
    if (match_context != NULL) {
        return true;
    }
    pcre2_match_context *c = pcre2_match_context_create(NULL);
    jit_stack = pcre2_jit_stack_create(32 * 1024, 512 * 1024, NULL);
    match_data = pcre2_match_data_create(WAF_CAPTURES, NULL);
    if (c == NULL || jit_stack == NULL || match_data == NULL) {
        return false;
    }
    pcre2_jit_stack_assign(c, NULL, jit_stack);
    pcre2_set_match_limit(c, 20000);
    match_context = c;
    return true;
}

void waf_set_match_limit(uint32_t limit)
{
    static uint32_t now;
    if (now != limit && regex_ready()) {
        pcre2_set_match_limit(match_context, limit);
        now = limit;
    }
}

pcre2_code *waf_re_compile(struct waf_ruleset *rules, struct waf_str pattern, uint32_t options,
                           const char **error)
{
    static char text[256];
    int code;
    PCRE2_SIZE at;
    if (!regex_ready()) {
        *error = "out of memory";
        return NULL;
    }
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern.p, pattern.n,
                                   options | PCRE2_DOTALL | PCRE2_DOLLAR_ENDONLY, &code, &at, NULL);
    if (re == NULL) {
        char why[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        (void)snprintf(text, sizeof text, "pattern, offset %zu: %s", at, why);
        *error = text;
        return NULL;
    }
    (void)pcre2_jit_compile(re, PCRE2_JIT_COMPLETE);
    if (rules->code_count == rules->code_cap) {
        rules->code_cap = rules->code_cap == 0 ? 256 : rules->code_cap * 2;
        pcre2_code **more = realloc(rules->codes, rules->code_cap * sizeof(pcre2_code *));
        if (more == NULL) {
            pcre2_code_free(re);
            *error = "out of memory";
            return NULL;
        }
        rules->codes = more;
    }
    rules->codes[rules->code_count++] = re;
    return re;
}

static int regex_run(const pcre2_code *re, struct waf_str s)
{
    PCRE2_SPTR subject = (PCRE2_SPTR)(s.p != NULL ? s.p : "");
    // Straight to the compiled code: what pcre2_match checks before it costs as much as most matches.
    int rc = pcre2_jit_match(re, subject, s.n, 0, 0, match_data, match_context);
    return rc != PCRE2_ERROR_JIT_BADOPTION
               ? rc
               : pcre2_match(re, subject, s.n, 0, PCRE2_NO_UTF_CHECK, match_data, match_context);
}

bool waf_re_match(struct waf_tx *tx, const pcre2_code *re, struct waf_str s)
{
    (void)tx;
    return regex_run(re, s) >= 0;
}

// --- at load -----------------------------------------------------------------------

static const char *add_pm(struct waf_ruleset *rules, struct waf_op *op, struct waf_vec *phrases)
{
    op->pm = waf_pm_new(phrases->items, phrases->n);
    if (op->pm == NULL) {
        return "out of memory";
    }
    if (rules->pm_count == rules->pm_cap) {
        rules->pm_cap = rules->pm_cap == 0 ? 64 : rules->pm_cap * 2;
        struct waf_pm **more = realloc(rules->pms, rules->pm_cap * sizeof *more);
        if (more == NULL) {
            waf_pm_free(op->pm);
            return "out of memory";
        }
        rules->pms = more;
    }
    rules->pms[rules->pm_count++] = op->pm;
    return NULL;
}

static struct waf_str trim(struct waf_str s)
{
    while (s.n != 0 && waf_is_space((unsigned char)s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n != 0 && waf_is_space((unsigned char)s.p[s.n - 1])) {
        s.n--;
    }
    return s;
}

// "abc|41 42|def": bytes between bars are hex, as in Snort's content.
static struct waf_str phrase_bytes(struct waf_arena *a, struct waf_str s)
{
    char *p = waf_alloc(a, s.n + 1), *d = p;
    const char *bar = memchr(s.p, '|', s.n);
    if (bar == NULL || memchr(bar + 1, '|', s.n - (size_t)(bar + 1 - s.p)) == NULL) {
        return s;
    }
    bool hex = false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '|') {
            hex = !hex;
        } else if (!hex) {
            *d++ = s.p[i];
        } else if (i + 1 < s.n && waf_hex((unsigned char)s.p[i]) >= 0 &&
                   waf_hex((unsigned char)s.p[i + 1]) >= 0) {
            *d++ = (char)(waf_hex((unsigned char)s.p[i]) * 16 + waf_hex((unsigned char)s.p[i + 1]));
            i++;
        } else if (s.p[i] != ' ') {
            return s;
        }
    }
    return (struct waf_str){p, (size_t)(d - p)};
}

static const char *prepare_pm(struct waf_ruleset *rules, struct waf_op *op,
                              struct waf_arena *scratch)
{
    struct waf_vec phrases = {0};
    struct waf_str s = phrase_bytes(scratch, op->param);
    for (size_t i = 0; i < s.n;) {
        size_t start = i;
        while (i < s.n && !waf_is_space((unsigned char)s.p[i])) {
            i++;
        }
        if (i > start) {
            struct waf_str *p = waf_push(scratch, &phrases, sizeof *p);
            *p = (struct waf_str){s.p + start, i - start};
        }
        i++;
    }
    return phrases.n == 0 ? "@pm wants phrases" : add_pm(rules, op, &phrases);
}

FILE *waf_open_file(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd == -1) {
        return NULL;
    }
    FILE *f = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? fdopen(fd, "r") : NULL;
    if (f == NULL) {
        errno = EINVAL;
        (void)close(fd);
    }
    return f;
}

static FILE *open_beside(const char *file, struct waf_str name)
{
    char path[4096];
    const char *slash = file == NULL ? NULL : strrchr(file, '/');
    int dir = slash == NULL || (name.n != 0 && name.p[0] == '/') ? 0 : (int)(slash + 1 - file);
    int n =
        snprintf(path, sizeof path, "%.*s%.*s", dir, file == NULL ? "" : file, (int)name.n, name.p);
    return n < 0 || (size_t)n >= sizeof path ? NULL : waf_open_file(path);
}

// Lines of a data file, trimmed, without comments; files of one name follow blanks in the parameter.
static const char *read_lines(struct waf_str names, const char *file, struct waf_arena *scratch,
                              struct waf_vec *lines, struct waf_ruleset *rules)
{
    for (size_t i = 0; i < names.n;) {
        size_t start = i;
        while (i < names.n && !waf_is_space((unsigned char)names.p[i])) {
            i++;
        }
        struct waf_str name = {names.p + start, i++ - start};
        if (name.n == 0) {
            continue;
        }
        FILE *f = open_beside(file, name);
        if (f == NULL) {
            return waf_printf(scratch, "cannot open data file '%.*s'", (int)name.n, name.p).p;
        }
        char *line = NULL;
        size_t cap = 0;
        ssize_t n;
        while ((n = getline(&line, &cap, f)) > 0) {
            struct waf_str s = trim((struct waf_str){line, (size_t)n});
            if (s.n != 0 && s.p[0] != '#') {
                struct waf_str *to = waf_push(scratch, lines, sizeof *to);
                *to = waf_dup(scratch, s);
                rules->hash = (rules->hash ^ waf_ihash(s)) * 1099511628211ull;
            }
        }
        free(line);
        (void)fclose(f);
    }
    return NULL;
}

static const char *prepare_pm_file(struct waf_ruleset *rules, struct waf_op *op, const char *file,
                                   struct waf_arena *scratch)
{
    struct waf_vec phrases = {0};
    const char *error = read_lines(op->param, file, scratch, &phrases, rules);
    if (error != NULL) {
        return error;
    }
    if (phrases.n == 0) {
        return "the data file holds no phrase";
    }
    return add_pm(rules, op, &phrases);
}

static const char *prepare_addresses(struct waf_ruleset *rules, struct waf_op *op,
                                     const struct waf_str *items, uint32_t n,
                                     struct waf_arena *scratch)
{
    op->cidrs = waf_alloc(&rules->arena, sizeof *op->cidrs * (n + 1));
    for (uint32_t i = 0; i < n; i++) {
        struct waf_str s = trim(items[i]);
        if (s.n != 0 && !waf_cidr_parse(s, &op->cidrs[op->cidr_count++])) {
            return waf_printf(scratch, "'%.*s' is no address or network", (int)s.n, s.p).p;
        }
    }
    return NULL;
}

static const char *prepare_ip(struct waf_ruleset *rules, struct waf_op *op, const char *file,
                              struct waf_arena *scratch)
{
    struct waf_vec items = {0};
    if (op->kind != WAF_OP_IP_MATCH) {
        const char *error = read_lines(op->param, file, scratch, &items, rules);
        return error != NULL ? error : prepare_addresses(rules, op, items.items, items.n, scratch);
    }
    for (size_t i = 0; i < op->param.n;) {
        size_t start = i;
        while (i < op->param.n && op->param.p[i] != ',') {
            i++;
        }
        struct waf_str *s = waf_push(scratch, &items, sizeof *s);
        *s = (struct waf_str){op->param.p + start, i++ - start};
    }
    return prepare_addresses(rules, op, items.items, items.n, scratch);
}

static const char *prepare_bytes(struct waf_op *op)
{
    struct waf_str s = op->param;
    size_t i = 0;
    while (i < s.n) {
        long v[2] = {-1, -1};
        for (int k = 0; k < 2; k++) {
            while (i < s.n && waf_is_space((unsigned char)s.p[i])) {
                i++;
            }
            size_t start = i;
            while (i < s.n && waf_is_digit((unsigned char)s.p[i])) {
                i++;
            }
            if (i == start) {
                return "a byte range is a number or two joined by '-'";
            }
            v[k] = waf_to_long((struct waf_str){s.p + start, i - start});
            if (k == 1 || i >= s.n || s.p[i] != '-') {
                break;
            }
            i++;
        }
        v[1] = v[1] < 0 ? v[0] : v[1];
        if (v[1] > 255 || v[0] > v[1]) {
            return "a byte range lies within 0-255";
        }
        for (long c = v[0]; c <= v[1]; c++) {
            waf_set_add(op->bytes, (unsigned char)c);
        }
        while (i < s.n && (waf_is_space((unsigned char)s.p[i]) || s.p[i] == ',')) {
            i++;
        }
    }
    return NULL;
}

const char *waf_op_prepare(struct waf_ruleset *rules, struct waf_op *op, const char *file,
                           struct waf_arena *scratch)
{
    const char *error = NULL;
    op->number = waf_to_long(op->param);
    switch (op->kind) {
    case WAF_OP_RX:
        if (op->macro == NULL) {
            op->re = waf_re_compile(rules, op->param, 0, &error);
            size_t jit = 0;
            op->is_jit = op->re != NULL &&
                         pcre2_pattern_info(op->re, PCRE2_INFO_JITSIZE, &jit) == 0 && jit != 0;
        }
        return error;
    case WAF_OP_PM:
        return prepare_pm(rules, op, scratch);
    case WAF_OP_PM_FILE:
    case WAF_OP_PM_FILE2:
        return prepare_pm_file(rules, op, file, scratch);
    case WAF_OP_IP_MATCH:
    case WAF_OP_IP_MATCH_FILE:
    case WAF_OP_IP_MATCH_FILE2:
        return prepare_ip(rules, op, file, scratch);
    case WAF_OP_BYTE_RANGE:
        return prepare_bytes(op);
    case WAF_OP_RBL:
        op->never = true; // a DNS question would stop the worker: see docs
        return NULL;
    case WAF_OP_CONTAINS:
    case WAF_OP_CONTAINS_WORD:
    case WAF_OP_STRMATCH:
    case WAF_OP_BEGINS_WITH:
    case WAF_OP_ENDS_WITH:
    case WAF_OP_STREQ:
    case WAF_OP_WITHIN:
    case WAF_OP_EQ:
    case WAF_OP_GE:
    case WAF_OP_GT:
    case WAF_OP_LE:
    case WAF_OP_LT:
    case WAF_OP_SQLI:
    case WAF_OP_XSS:
    case WAF_OP_URL_ENCODING:
    case WAF_OP_UTF8_ENCODING:
    case WAF_OP_GEO_LOOKUP:
    case WAF_OP_NO_MATCH:
    case WAF_OP_ALWAYS:
    case WAF_OPS:
        return NULL;
    }
    return NULL;
}

static struct waf_need need_of_pm(const struct waf_op *op, struct waf_arena *a);

struct waf_need waf_op_need(const struct waf_op *op, struct waf_arena *a)
{
    uint64_t set[4] = {0};
    if (op->macro != NULL) {
        return waf_need_any(a, 0);
    }
    switch ((int)op->kind) {
    case WAF_OP_RX:
        return waf_need_of_pattern(a, op->param);
    case WAF_OP_PM:
    case WAF_OP_PM_FILE:
    case WAF_OP_PM_FILE2:
        return need_of_pm(op, a);
    case WAF_OP_CONTAINS:
    case WAF_OP_CONTAINS_WORD:
    case WAF_OP_STRMATCH:
    case WAF_OP_BEGINS_WITH:
    case WAF_OP_ENDS_WITH:
    case WAF_OP_STREQ:
        return op->param.n == 0 ? waf_need_any(a, 0) : waf_need_of_texts(a, &op->param, 1);
    case WAF_OP_SQLI:
        return waf_need_of_bytes(a, waf_sqli_bytes);
    case WAF_OP_XSS:
        return waf_need_of_bytes(a, waf_xss_bytes);
    case WAF_OP_BYTE_RANGE:
        for (int i = 0; i < 4; i++) {
            set[i] = ~op->bytes[i];
        }
        return waf_need_of_bytes(a, set);
    case WAF_OP_URL_ENCODING:
        waf_set_add(set, '%');
        return waf_need_of_bytes(a, set);
    case WAF_OP_UTF8_ENCODING:
        set[2] = set[3] = ~(uint64_t)0;
        return waf_need_of_bytes(a, set);
    default:
        return waf_need_any(a, 0);
    }
}

static struct waf_need need_of_pm(const struct waf_op *op, struct waf_arena *a)
{
    const struct waf_str *phrases;
    unsigned n = waf_pm_phrases(op->pm, &phrases);
    return waf_need_of_texts(a, phrases, n);
}

// --- while a transaction runs --------------------------------------------------------

static struct waf_str param_of(struct waf_tx *tx, const struct waf_op *op)
{
    return op->macro != NULL ? waf_expand(tx, op->macro) : op->param;
}

bool waf_op_number(struct waf_tx *tx, const struct waf_op *op, long value)
{
    long want = op->macro != NULL ? waf_to_long(waf_expand(tx, op->macro)) : op->number;
    switch ((int)op->kind) {
    case WAF_OP_EQ:
        return value == want;
    case WAF_OP_GE:
        return value >= want;
    case WAF_OP_GT:
        return value > want;
    case WAF_OP_LE:
        return value <= want;
    default:
        return value < want;
    }
}

static void capture(struct waf_tx *tx, unsigned i, struct waf_str s)
{
    waf_cell_set(tx, &tx->cells[i], s); // slots 0 to 9 are TX.0 to TX.9
}

static void capture_match(struct waf_tx *tx, struct waf_str value, int groups)
{
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(match_data);
    if (groups == 0 || groups > WAF_CAPTURES) {
        groups = WAF_CAPTURES;
    }
    for (int i = 0; i < WAF_CAPTURES; i++) {
        struct waf_str s = {NULL, 0};
        if (i < groups) {
            bool is_set = at[2 * i] != PCRE2_UNSET && at[2 * i + 1] >= at[2 * i];
            s = is_set ? (struct waf_str){value.p + at[2 * i], at[2 * i + 1] - at[2 * i]}
                       : WAF_LIT("");
        }
        capture(tx, (unsigned)i, s);
    }
}

enum { REGEX_BUDGET_US = 50000 };

// Books the CPU time since the last match of this phase that hit its limit. Limits are hit by hostile
// values only; the clock is read then, not on the way. Time that a worker waits for its core, or a
// client takes to send its body, is not the request's. Without the prefilter there is no budget: that
// is the reference which the plan is compared with.
static void book_limited_match(struct waf_tx *tx)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    int64_t now_us = (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
    tx->limited_us += tx->limit_hit_us != 0 ? now_us - tx->limit_hit_us : 0;
    tx->limit_hit_us = now_us;
    if (tx->limited_us > REGEX_BUDGET_US && tx->prefilter) {
        tx->exhausted = true;
    }
}

// A pattern with macros: what it is now is compiled, and kept for as long as it stays so.
static pcre2_code *regex_now(struct waf_tx *tx, const struct waf_op *op)
{
    static struct {
        const struct waf_op *op;
        uint32_t hash;
        char *text;
        size_t n;
        pcre2_code *re;
    } kept[16];
    int code;
    PCRE2_SIZE at;
    struct waf_str s = waf_expand(tx, op->macro);
    uint32_t hash = waf_ihash(s);
    size_t i = (((uintptr_t)op >> 4) ^ hash) % 16;
    if (kept[i].op == op && waf_eq((struct waf_str){kept[i].text, kept[i].n}, s)) {
        return kept[i].re;
    }
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)s.p, s.n, PCRE2_DOTALL | PCRE2_DOLLAR_ENDONLY, &code, &at, NULL);
    char *text = malloc(s.n + 1);
    if (re == NULL || text == NULL) {
        pcre2_code_free(re);
        free(text);
        return NULL;
    }
    (void)pcre2_jit_compile(re, PCRE2_JIT_COMPLETE);
    pcre2_code_free(kept[i].re);
    free(kept[i].text);
    memcpy(text, s.p, s.n);
    kept[i].op = op;
    kept[i].hash = hash;
    kept[i].text = text;
    kept[i].n = s.n;
    kept[i].re = re;
    return re;
}

static bool run_rx(struct waf_tx *tx, const struct waf_rule *rule, struct waf_str value)
{
    const pcre2_code *re = rule->op->macro != NULL ? regex_now(tx, rule->op) : rule->op->re;
    if (re == NULL || tx->exhausted) {
        return false;
    }
    int groups = rule->op->is_jit
                     ? pcre2_jit_match(re, (PCRE2_SPTR)(value.p != NULL ? value.p : ""), value.n, 0,
                                       0, match_data, match_context)
                     : regex_run(re, value);
    if (groups >= 0) {
        if (rule->capture && !rule->negated) {
            capture_match(tx, value, groups);
        }
        return true;
    }
    if (groups != PCRE2_ERROR_NOMATCH) {
        struct waf_cell *flag = waf_cell_find(tx, WAF_LIT("MSC_PCRE_LIMITS_EXCEEDED"), true);
        waf_cell_set(tx, flag, WAF_LIT("1"));
        tx->pcre_limits_exceeded = true;
        book_limited_match(tx);
    }
    return false;
}

static bool word_around(struct waf_str hay, size_t at, size_t n)
{
    bool left = at == 0 || !(waf_is_alnum((unsigned char)hay.p[at - 1]) || hay.p[at - 1] == '_');
    bool right =
        at + n == hay.n || !(waf_is_alnum((unsigned char)hay.p[at + n]) || hay.p[at + n] == '_');
    return left && right;
}

static bool contains_word(struct waf_str hay, struct waf_str needle)
{
    size_t from = 0;
    if (needle.n == 0) {
        return true;
    }
    while (from + needle.n <= hay.n) {
        ptrdiff_t at = waf_find((struct waf_str){hay.p + from, hay.n - from}, needle);
        if (at < 0) {
            return false;
        }
        if (word_around(hay, from + (size_t)at, needle.n)) {
            return true;
        }
        from += (size_t)at + 1;
    }
    return false;
}

static bool bad_url_encoding(struct waf_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '%') {
            continue;
        }
        if (i + 2 >= s.n || waf_hex((unsigned char)s.p[i + 1]) < 0 ||
            waf_hex((unsigned char)s.p[i + 2]) < 0) {
            return true;
        }
        i += 2;
    }
    return false;
}

static bool bad_utf8(struct waf_str s)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    for (size_t i = 0; i < s.n;) {
        const unsigned char *p = (const unsigned char *)s.p + i;
        size_t len = p[0] < 0x80   ? 1
                     : p[0] < 0xc0 ? 0
                     : p[0] < 0xe0 ? 2
                     : p[0] < 0xf0 ? 3
                     : p[0] < 0xf8 ? 4
                                   : 0;
        if (len == 0 || len > s.n - i) {
            return true;
        }
        unsigned v = len == 1 ? p[0] : p[0] & (0xffu >> (len + 1));
        for (size_t k = 1; k < len; k++) {
            if ((p[k] & 0xc0) != 0x80) {
                return true;
            }
            v = v << 6 | (p[k] & 0x3f);
        }
        if ((len > 1 && v < least[len]) || (v >= 0xd800 && v <= 0xdfff) || v > 0x10ffff) {
            return true;
        }
        i += len;
    }
    return false;
}

static bool out_of_range(const struct waf_op *op, struct waf_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (!waf_set_has(op->bytes, (unsigned char)s.p[i])) {
            return true;
        }
    }
    return false;
}

static bool address_in(const struct waf_op *op, struct waf_str s)
{
    unsigned char address[16];
    if (!waf_address_parse(s, address)) {
        return false;
    }
    for (uint32_t i = 0; i < op->cidr_count; i++) {
        if (waf_cidr_holds(&op->cidrs[i], address)) {
            return true;
        }
    }
    return false;
}

static bool geo_lookup(struct waf_tx *tx, struct waf_str s)
{
    struct waf_place found = {0};
    if (tx->geo == NULL || !tx->geo(tx->geo_arg, s, &found)) {
        return false;
    }
    tx->place = waf_alloc(&tx->arena, sizeof found);
    *tx->place = found;
    return true;
}

static bool run_sqli(struct waf_tx *tx, const struct waf_rule *rule, struct waf_str value)
{
    char fingerprint[16];
    if (!waf_is_sqli(value, fingerprint)) {
        return false;
    }
    if (rule->capture) {
        capture(tx, 0, waf_dup(&tx->arena, waf_cstr(fingerprint)));
    }
    return true;
}

static bool run_pm(struct waf_tx *tx, const struct waf_rule *rule, struct waf_str value)
{
    struct waf_str found;
    if (!waf_pm_find(rule->op->pm, value, &found)) {
        return false;
    }
    if (rule->capture && !rule->negated) {
        capture(tx, 0, found);
    }
    return true;
}

static bool op_test(struct waf_tx *tx, const struct waf_rule *rule, struct waf_str v)
{
    const struct waf_op *op = rule->op;
    struct waf_str p;
    switch (op->kind) {
    case WAF_OP_RX:
        return run_rx(tx, rule, v);
    case WAF_OP_PM:
    case WAF_OP_PM_FILE:
    case WAF_OP_PM_FILE2:
        return run_pm(tx, rule, v);
    case WAF_OP_CONTAINS:
    case WAF_OP_STRMATCH:
        return waf_find(v, param_of(tx, op)) >= 0;
    case WAF_OP_CONTAINS_WORD:
        return contains_word(v, param_of(tx, op));
    case WAF_OP_BEGINS_WITH:
        p = param_of(tx, op);
        return p.n <= v.n && (p.n == 0 || memcmp(v.p, p.p, p.n) == 0);
    case WAF_OP_ENDS_WITH:
        p = param_of(tx, op);
        return p.n <= v.n && (p.n == 0 || memcmp(v.p + v.n - p.n, p.p, p.n) == 0);
    case WAF_OP_STREQ:
        return waf_eq(v, param_of(tx, op));
    case WAF_OP_WITHIN:
        return waf_find(param_of(tx, op), v) >= 0;
    case WAF_OP_EQ:
    case WAF_OP_GE:
    case WAF_OP_GT:
    case WAF_OP_LE:
    case WAF_OP_LT:
        return waf_op_number(tx, op, waf_to_long(v));
    case WAF_OP_SQLI:
        return run_sqli(tx, rule, v);
    case WAF_OP_XSS:
        return waf_is_xss(v);
    case WAF_OP_BYTE_RANGE:
        return out_of_range(op, v);
    case WAF_OP_URL_ENCODING:
        return bad_url_encoding(v);
    case WAF_OP_UTF8_ENCODING:
        return bad_utf8(v);
    case WAF_OP_IP_MATCH:
    case WAF_OP_IP_MATCH_FILE:
    case WAF_OP_IP_MATCH_FILE2:
        return address_in(op, v);
    case WAF_OP_GEO_LOOKUP:
        return geo_lookup(tx, v);
    case WAF_OP_ALWAYS:
        return true;
    case WAF_OP_RBL:
    case WAF_OP_NO_MATCH:
    case WAF_OPS:
        return false;
    }
    return false;
}

static const char *op_verb(enum waf_op_kind kind)
{
    switch ((int)kind) {
    case WAF_OP_RX:
        return "Pattern match";
    case WAF_OP_PM:
    case WAF_OP_PM_FILE:
    case WAF_OP_PM_FILE2:
        return "Matched phrase";
    case WAF_OP_SQLI:
        return "detected SQLi using libinjection";
    case WAF_OP_XSS:
        return "detected XSS using libinjection.";
    case WAF_OP_BYTE_RANGE:
        return "Found byte(s) outside range:";
    case WAF_OP_URL_ENCODING:
        return "Invalid URL Encoding";
    case WAF_OP_UTF8_ENCODING:
        return "Invalid UTF-8 encoding";
    case WAF_OP_IP_MATCH:
    case WAF_OP_IP_MATCH_FILE:
    case WAF_OP_IP_MATCH_FILE2:
        return "IPmatch:";
    case WAF_OP_ALWAYS:
        return "Unconditional match in SecAction.";
    default:
        return waf_op_is_numeric(kind) ? "Operator" : "String match";
    }
}

bool waf_op_run(struct waf_tx *tx, const struct waf_rule *rule, struct waf_str value)
{
    if (rule->op->never) {
        return false;
    }
    return op_test(tx, rule, value) != rule->negated;
}

struct waf_str waf_op_operand(struct waf_tx *tx, const struct waf_rule *rule)
{
    if (rule->op == NULL) {
        return WAF_LIT("");
    }
    return rule->op->kind == WAF_OP_SQLI ? tx->cells[0].value : param_of(tx, rule->op);
}

enum { OPERAND_MAX = 256 };

void waf_op_describe(struct waf_out *out, const struct waf_rule *rule, struct waf_str operand)
{
    const struct waf_op *op = rule->op;
    if (op == NULL) {
        waf_out_put(out, WAF_LIT("Unconditional match in SecAction"));
        return;
    }
    bool is_number = waf_op_is_numeric(op->kind), is_sqli = op->kind == WAF_OP_SQLI;
    if (rule->negated) {
        waf_out_put(out, WAF_LIT("Match of \""));
        waf_out_escaped(out, rule->op_text, OPERAND_MAX);
        waf_out_put(out, WAF_LIT("\" against"));
        return;
    }
    waf_out_put(out, waf_cstr(op_verb(op->kind)));
    if (is_number) {
        waf_out_put(out, WAF_LIT(" "));
        waf_out_put(out, waf_cstr(op->name));
    }
    waf_out_put(out, is_number ? WAF_LIT(" matched ")
                     : is_sqli ? WAF_LIT(" with fingerprint '")
                               : WAF_LIT(" \""));
    waf_out_escaped(out, operand, OPERAND_MAX);
    waf_out_put(out, is_number ? WAF_LIT(" at") : is_sqli ? WAF_LIT("' at") : WAF_LIT("\" at"));
}
