// SPDX-License-Identifier: Apache-2.0
// Whole values of a well-known form, for the profile for APIs: conditions of filters, references,
// command lines, listings of code. What is injected into one breaks its form: a quotation that does
// not close, a comparison of two constants, a separator where no word was.
#include "waf/waf.h"

enum {
    EXPRESSION_MAX = 4096, // bytes; longer ones are no filters
    NESTING_MAX = 32,
    WORD_MAX = 32,
    LISTING_LINES_LEAST = 4,
    LISTING_BYTES_LEAST = 100,
};

static bool is_letter(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
}

bool waf_is_among(const char *list, size_t n, struct waf_str word)
{
    char key[WORD_MAX + 2];
    if (word.n == 0 || word.n > WORD_MAX) {
        return false;
    }
    key[0] = ' ';
    for (size_t i = 0; i < word.n; i++) {
        char c = word.p[i];
        key[i + 1] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    key[word.n + 1] = ' ';
    return memmem(list, n, key, word.n + 2) != NULL;
}

// --- conditions ------------------------------------------------------------------------------

enum token {
    TOKEN_END,
    TOKEN_BAD,
    TOKEN_NAME,
    TOKEN_CONSTANT, // a number, a text in quotes
    TOKEN_COMPARE,
    TOKEN_JOIN, // and, or
    TOKEN_NOT,
    TOKEN_OPEN,
    TOKEN_CLOSE,
    TOKEN_COMMA,
};

struct scan {
    const char *at, *end;
    enum token kind;
    struct waf_str text;
};

static bool is_name_byte(char c)
{
    return is_letter((unsigned char)c) || waf_is_digit((unsigned char)c) ||
           (c != '\0' && strchr("_.$@/-*?%", c) != NULL);
}

static enum token scan_quoted(struct scan *s)
{
    char quote = *s->at++;
    while (s->at < s->end) {
        char c = *s->at++;
        if (c == '\\' && s->at < s->end) {
            s->at++;
        } else if (c == quote) {
            if (s->at == s->end || *s->at != quote) {
                return TOKEN_CONSTANT;
            }
            s->at++; // a doubled one stands for itself
        }
    }
    return TOKEN_BAD;
}

// Pairs that open comments, addresses, ways up: no name has them.
static bool has_pair(struct waf_str s)
{
    static const char *const PAIRS[] = {"--", "/*", "*/", "..", "//", "$$", "__"};
    for (size_t i = 0; i < sizeof PAIRS / sizeof PAIRS[0]; i++) {
        if (memmem(s.p, s.n, PAIRS[i], 2) != NULL) {
            return true;
        }
    }
    return false;
}

static enum token scan_word(struct scan *s)
{
    static const char COMPARE[] =
        " eq ne gt ge lt le in like ilike contains matches startswith endswith co sw ew has is ";
    const char *start = s->at;
    bool is_number = waf_is_digit((unsigned char)*start); // or a time, with colons and a zone
    while (s->at < s->end &&
           (is_name_byte(*s->at) || (is_number && (*s->at == ':' || *s->at == '+')))) {
        s->at++;
    }
    s->text = (struct waf_str){start, (size_t)(s->at - start)};
    bool is_substitution = s->at < s->end && *s->at == '(' && s->at[-1] == '$';
    if (is_substitution || has_pair(s->text)) {
        return TOKEN_BAD;
    }
    if (WAF_IS_AMONG(" and or ", s->text)) {
        return TOKEN_JOIN;
    }
    if (WAF_IS_AMONG(" not ", s->text)) {
        return TOKEN_NOT;
    }
    if (WAF_IS_AMONG(COMPARE, s->text)) {
        return TOKEN_COMPARE;
    }
    bool is_constant = is_number ||
                       (*start == '-' && s->text.n > 1 && waf_is_digit((unsigned char)start[1])) ||
                       WAF_IS_AMONG(" null true false ", s->text);
    return is_constant ? TOKEN_CONSTANT : TOKEN_NAME;
}

// The bytes of an operator of FIQL, "=in=", or 0.
static size_t fiql_operator(const struct scan *s)
{
    size_t left = (size_t)(s->end - s->at), n = 1;
    while (n < left && is_letter((unsigned char)s->at[n])) {
        n++;
    }
    return *s->at == '=' && n > 2 && n < left && n < WORD_MAX && s->at[n] == '=' ? n + 1 : 0;
}

static enum token scan_mark(struct scan *s)
{
    static const char *const COMPARE[] = {
        "===", "!==", "==", "!=", "<>", "<=", ">=", "=~", "!~", "~=", "=", "<", ">", "~"};
    static const char *const JOIN[] = {"&&", "||"};
    size_t left = (size_t)(s->end - s->at), word = fiql_operator(s);
    if (word > 0) {
        s->at += word;
        return TOKEN_COMPARE;
    }
    for (size_t i = 0; i < sizeof JOIN / sizeof JOIN[0]; i++) {
        if (left >= 2 && memcmp(s->at, JOIN[i], 2) == 0) {
            s->at += 2;
            return TOKEN_JOIN;
        }
    }
    for (size_t i = 0; i < sizeof COMPARE / sizeof COMPARE[0]; i++) {
        size_t n = strlen(COMPARE[i]);
        if (left >= n && memcmp(s->at, COMPARE[i], n) == 0) {
            s->at += n;
            return TOKEN_COMPARE;
        }
    }
    char c = *s->at++;
    switch (c) {
    case ':':
        return TOKEN_COMPARE;
    case '!':
        return TOKEN_NOT;
    case '(':
    case '[':
        return TOKEN_OPEN;
    case ')':
    case ']':
        return TOKEN_CLOSE;
    case ',':
        return TOKEN_COMMA;
    case ';':
        return TOKEN_JOIN; // of RSQL
    default:
        return TOKEN_BAD;
    }
}

static void scan_next(struct scan *s)
{
    while (s->at < s->end && waf_is_space((unsigned char)*s->at)) {
        s->at++;
    }
    s->text = (struct waf_str){s->at, 0};
    if (s->at == s->end) {
        s->kind = TOKEN_END;
    } else if (*s->at == '\'' || *s->at == '"') {
        s->kind = scan_quoted(s);
    } else if (is_name_byte(*s->at)) {
        s->kind = scan_word(s);
    } else {
        s->kind = scan_mark(s);
    }
}

// From behind an opening mark to behind the one that closes it: arguments, lists, ranges.
static bool scan_inside(struct scan *s)
{
    static const char NEVER[] =
        " select union insert update delete drop exec execute sleep benchmark "
        "pg_sleep waitfor load_file extractvalue updatexml eval system ";
    for (int depth = 1; depth > 0; scan_next(s)) {
        if (s->kind == TOKEN_END || s->kind == TOKEN_BAD || depth > NESTING_MAX ||
            WAF_IS_AMONG(NEVER, s->text)) {
            return false;
        }
        depth += s->kind == TOKEN_OPEN;
        depth -= s->kind == TOKEN_CLOSE;
    }
    return true;
}

// A name, or a call; what follows it is the next token.
static bool scan_operand(struct scan *s)
{
    static const char NEVER[] =
        " select union insert update delete drop exec execute sleep benchmark pg_sleep waitfor "
        "load_file extractvalue updatexml eval system exists case if char chr ascii ord version "
        "database user current_user assert require import declare procedure javascript vbscript "
        "alert confirm prompt constructor process global ";
    bool is_name = s->kind == TOKEN_NAME;
    if (is_name && WAF_IS_AMONG(NEVER, s->text)) {
        return false;
    }
    scan_next(s);
    while (is_name && s->kind == TOKEN_OPEN) { // a call, an index
        scan_next(s);
        if (!scan_inside(s)) {
            return false;
        }
        while (s->kind == TOKEN_NAME && s->text.p[0] == '.') {
            scan_next(s);
        }
    }
    return true;
}

// One condition: a name compared with something, or a name alone. `compared` counts the former.
static bool scan_condition(struct scan *s, unsigned *compared)
{
    struct waf_str name = s->text;
    if (s->kind != TOKEN_NAME || !scan_operand(s)) {
        return false;
    }
    while (s->kind == TOKEN_NOT) { // not in, not like
        scan_next(s);
    }
    if (s->kind != TOKEN_COMPARE) {
        return true;
    }
    scan_next(s);
    if (s->kind == TOKEN_COMPARE || s->kind == TOKEN_NOT) { // ":>", "is not"
        scan_next(s);
    }
    ++*compared;
    if (s->kind == TOKEN_OPEN) {
        scan_next(s);
        return scan_inside(s);
    }
    bool is_value = s->kind == TOKEN_CONSTANT || s->kind == TOKEN_NAME;
    bool is_same = s->text.n == name.n && memcmp(s->text.p, name.p, name.n) == 0;
    return is_value && !is_same && scan_operand(s);
}

// order by name [asc|desc], …
static bool scan_order(struct scan *s)
{
    scan_next(s);
    if (s->kind != TOKEN_NAME || !WAF_IS_AMONG(" by ", s->text)) {
        return false;
    }
    do {
        scan_next(s);
    } while (s->kind == TOKEN_NAME || s->kind == TOKEN_COMMA);
    return s->kind == TOKEN_END;
}

bool waf_is_condition(struct waf_str value)
{
    if (value.n < 4 || value.n > EXPRESSION_MAX) {
        return false;
    }
    struct scan s = {.at = value.p, .end = value.p + value.n};
    unsigned compared = 0, open = 0;
    scan_next(&s);
    for (;;) {
        while (s.kind == TOKEN_NOT || s.kind == TOKEN_OPEN) {
            open += s.kind == TOKEN_OPEN;
            scan_next(&s);
        }
        if (!scan_condition(&s, &compared)) {
            return false;
        }
        while (s.kind == TOKEN_CLOSE && open > 0) {
            open--;
            scan_next(&s);
        }
        if (s.kind == TOKEN_NAME && open == 0 && WAF_IS_AMONG(" order sort ", s.text)) {
            return compared > 0 && scan_order(&s);
        }
        if (s.kind == TOKEN_END) {
            return compared > 0 && open == 0;
        }
        if (s.kind != TOKEN_JOIN && s.kind != TOKEN_COMMA) {
            return false;
        }
        scan_next(&s);
    }
}

// --- references ------------------------------------------------------------------------------

// The bytes up to "://", or 0 where the value begins with a path and has a query.
static bool read_scheme(struct waf_str s, size_t *n)
{
    static const char RUNS[] = " javascript vbscript data view-source blob ";
    size_t i = 0;
    if (s.p[0] == '/' && s.n > 1 && s.p[1] != '/') {
        *n = 0;
        const char *mark = memchr(s.p, '?', s.n);
        return mark != NULL && memchr(s.p, '=', s.n) > (const void *)mark;
    }
    while (i < s.n && (is_letter((unsigned char)s.p[i]) || waf_is_digit((unsigned char)s.p[i]) ||
                       strchr("+.-:", s.p[i]) != NULL)) {
        if (s.p[i] == ':' && i + 2 < s.n && s.p[i + 1] == '/' && s.p[i + 2] == '/') {
            *n = i + 3;
            struct waf_str scheme = {s.p, i};
            return i > 0 && !WAF_IS_AMONG(RUNS, scheme);
        }
        i++;
    }
    return false;
}

// Each value of a query, by itself.
static void keep_query(struct waf_tx *tx, struct waf_str query, struct waf_vec *parts)
{
    for (size_t i = 0; i < query.n; i++) {
        size_t start = i;
        while (i < query.n && query.p[i] != '&' && query.p[i] != '#') {
            start = query.p[i] == '=' && start <= i && query.p[start] != '=' ? i + 1 : start;
            i++;
        }
        if (i > start) {
            *(struct waf_str *)waf_push(&tx->arena, parts, sizeof query) =
                (struct waf_str){query.p + start, i - start};
        }
    }
}

bool waf_is_reference(struct waf_tx *tx, struct waf_str s, struct waf_vec *parts)
{
    size_t scheme = 0;
    if (s.n < 4 || !read_scheme(s, &scheme)) {
        return false;
    }
    for (size_t i = scheme; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        char next = i + 1 < s.n ? s.p[i + 1] : ' ';
        if (c <= 0x20 || c == 0x7F || strchr("'\"`<>\\|{}^", (char)c) != NULL ||
            (c == '$' && (next == '(' || next == '@')) ||
            (c == ';' && !is_letter((unsigned char)next)) || (c == '.' && next == '.')) {
            return false;
        }
    }
    const char *query = memchr(s.p + scheme, '?', s.n - scheme);
    if (query != NULL) {
        keep_query(tx, (struct waf_str){query + 1, (size_t)(s.p + s.n - query - 1)}, parts);
    }
    return true;
}

// --- command lines, listings -----------------------------------------------------------------

bool waf_is_command_line(struct waf_str s)
{
    static const char TOOLS[] =
        " git gh npm npx yarn pnpm bun node deno python python3 pip pip3 uv poetry pytest make "
        "cmake "
        "ninja cargo rustc go gcc clang docker docker-compose podman kubectl helm terraform "
        "ansible "
        "ansible-playbook aws gcloud az apt apt-get yum dnf brew apk pacman snap systemctl service "
        "journalctl ssh scp rsync cd mkdir cp mv touch tar gzip zip unzip sed awk grep rg find "
        "xargs "
        "sort head tail ps kill top df du free export source set echo printf test java javac mvn "
        "gradle dotnet php composer artisan ruby bundle rails rake rspec psql mysql mysqldump "
        "pg_dump redis-cli mongosh openssl chmod chown ln jq yq for while if then trap exec sudo "
        "crontab tsc eslint jest vite webpack flutter adb tmux vim nano man which time nohup "
        "ffmpeg "
        "convert pandoc latexmk ./configure ./gradlew ./mvnw select-string get-childitem ";
    size_t i = 0;
    while (i < s.n && (waf_is_space((unsigned char)s.p[i]) || strchr("!$>#", s.p[i]) != NULL)) {
        i++;
    }
    size_t start = i;
    while (i < s.n && !waf_is_space((unsigned char)s.p[i])) {
        i++;
    }
    struct waf_str tool = {s.p + start, i - start};
    bool has_more = i + 2 < s.n && s.p[i] == ' ';
    bool is_inline = has_more && s.p[i + 1] == '-' && strchr("cer", s.p[i + 2]) != NULL &&
                     (i + 3 == s.n || waf_is_space((unsigned char)s.p[i + 3]));
    return has_more && !is_inline && WAF_IS_AMONG(TOOLS, tool);
}

// A page of HTML, whole.
static bool is_page(struct waf_str s)
{
    static const char *const BEGINS[] = {"<!doctype html", "<html"};
    for (size_t i = 0; i < sizeof BEGINS / sizeof BEGINS[0]; i++) {
        size_t n = strlen(BEGINS[i]);
        if (s.n > n && waf_ieq((struct waf_str){s.p, n}, (struct waf_str){BEGINS[i], n})) {
            return memmem(s.p, s.n, "</html>", 7) != NULL || memmem(s.p, s.n, "</HTML>", 7) != NULL;
        }
    }
    return false;
}

// A filter of LDAP, whole: what is injected into one closes it and opens another, compares constants, or
// guesses a password.
bool waf_is_directory_filter(struct waf_str s)
{
    static const struct waf_str SECRET = {"userpassword", 12};
    int depth = 0;
    if (s.n < 5 || s.p[0] != '(' || s.p[s.n - 1] != ')' || strchr("&|!", s.p[1]) == NULL) {
        return false;
    }
    for (size_t i = 0; i < s.n; i++) {
        depth += s.p[i] == '(';
        depth -= s.p[i] == ')';
        bool is_early = depth == 0 && i + 1 < s.n;
        struct waf_str next = {s.p + i + 1, s.n - i - 1};
        bool is_constant = s.p[i] == '(' && next.n > 0 && waf_is_digit((unsigned char)next.p[0]);
        bool is_secret = s.p[i] == '(' && next.n > SECRET.n &&
                         waf_ieq((struct waf_str){next.p, SECRET.n}, SECRET);
        if (is_early || is_constant || is_secret || s.p[i] == '\0' ||
            strchr("\"`;<{$", s.p[i]) != NULL) {
            return false;
        }
    }
    return depth == 0;
}

// --- fields by their name --------------------------------------------------------------------

// What is said to a language model: the members of the three well-known APIs.
bool waf_is_told_to_model(struct waf_str name)
{
    static const char *const MEMBERS[] = {"messages.messages.content", "contents.contents.parts",
                                          "input.input.content"};
    for (size_t i = 0; i < sizeof MEMBERS / sizeof MEMBERS[0]; i++) {
        const char *at = memmem(name.p, name.n, MEMBERS[i], strlen(MEMBERS[i]));
        if (at != NULL && (at == name.p || at[-1] == '.')) {
            return true;
        }
    }
    return false;
}

static struct waf_str last_of(struct waf_str name)
{
    const char *dot = memrchr(name.p, '.', name.n);
    return dot == NULL ? name : (struct waf_str){dot + 1, (size_t)(name.p + name.n - (dot + 1))};
}

bool waf_holds_code(struct waf_str name)
{
    static const char CODE[] =
        " code snippet source source_code script sql statement rawsql context_line pre_context "
        "post_context diff patch stack stacktrace suggestion template html expression expr xpath "
        "jsonpath css svg latex regex pattern formula selector markup ";
    return WAF_IS_AMONG(CODE, last_of(name));
}

// What a name in several words is a kind of: "commit_message", "shortDescription".
static struct waf_str noun_of(struct waf_str name)
{
    size_t i = name.n;
    while (i > 0 && name.p[i - 1] != '_' && name.p[i - 1] != '-' &&
           !(name.p[i - 1] >= 'A' && name.p[i - 1] <= 'Z')) {
        i--;
    }
    bool is_hump = i > 1 && name.p[i - 1] >= 'A' && name.p[i - 1] <= 'Z';
    size_t start = is_hump ? i - 1 : i;
    return (struct waf_str){name.p + start, name.n - start};
}

bool waf_holds_text(struct waf_str name)
{
    static const char TEXT[] =
        " q search term keyword keywords comment comments content text body message msg "
        "description desc details note notes remark remarks memo title subject summary abstract "
        "excerpt headline caption bio about feedback review reply post prompt question answer log "
        "line query markdown transcript reason ";
    struct waf_str last = last_of(name);
    return waf_holds_code(name) || WAF_IS_AMONG(TEXT, last) || WAF_IS_AMONG(TEXT, noun_of(last));
}

bool waf_is_named_text(struct waf_str name, struct waf_str value, enum waf_origin origin)
{
    static const char TEXT[] =
        " content text prompt input_text system instructions body markdown description comment "
        "message note notes title summary subject question answer input output line log msg query "
        "command cmd run "
        "args arguments params ";
    if (origin == WAF_FROM_JSON && waf_is_told_to_model(name)) {
        return true;
    }
    bool is_code = waf_holds_code(name);
    if (!is_code && !(origin == WAF_FROM_JSON && WAF_IS_AMONG(TEXT, last_of(name)))) {
        return false;
    }
    size_t i = 0;
    while (i < value.n && waf_is_space((unsigned char)value.p[i])) {
        i++;
    }
    char first = i < value.n ? value.p[i] : '\0';
    bool begins = is_letter((unsigned char)first) ||
                  (first != '\0' && strchr("#@", first) != NULL) ||
                  (is_code && first != '\0' && strchr("<.[(/", first) != NULL);
    bool has_gap = memchr(value.p + i, ' ', value.n - i) != NULL ||
                   (is_code && origin == WAF_FROM_JSON); // as "a.map(f)", "(a|b)+" have none
    return value.n >= 12 && begins && has_gap && !waf_has_target(value);
}

// A table of Markdown: its first two lines between bars.
static bool is_table(struct waf_str s)
{
    const char *end = memchr(s.p, '\n', s.n);
    if (s.n < 8 || s.p[0] != '|' || end == NULL || end + 1 == s.p + s.n || end[1] != '|') {
        return false;
    }
    size_t dashes = 0;
    for (const char *p = end + 1; p < s.p + s.n && *p != '\n'; p++) {
        if (strchr("|-: \r", *p) == NULL) {
            return false;
        }
        dashes += *p == '-';
    }
    return dashes >= 3;
}

// A line of an access log: an address and two names, a time in brackets, a request in quotes.
static bool is_access_line(struct waf_str s)
{
    size_t i = 0;
    for (unsigned word = 0; word < 3; word++) {
        size_t start = i;
        while (i < s.n &&
               (is_letter((unsigned char)s.p[i]) || waf_is_digit((unsigned char)s.p[i]) ||
                strchr(".:-_", s.p[i]) != NULL) &&
               s.p[i] != '\0') {
            i++;
        }
        if (i == start || i == s.n || s.p[i++] != ' ') {
            return false;
        }
    }
    const char *end = i < s.n && s.p[i] == '[' ? memchr(s.p + i, ']', s.n - i) : NULL;
    return end != NULL && end - (s.p + i) < WORD_MAX && s.p + s.n - end > 3 &&
           memcmp(end, "] \"", 3) == 0;
}

// What a listing may begin with: a word, one in quotes ('use strict'), a mark that opens a comment, a
// list, a tag, a block.
static bool can_open_listing(struct waf_str s)
{
    static const char MARKS[] = "<{[/#@\"-$*%(!_>` ";
    char first = s.p[0];
    return is_letter((unsigned char)first) || memchr(MARKS, first, sizeof MARKS - 1) != NULL ||
           (first == '\'' && s.n > 1 && is_letter((unsigned char)s.p[1]));
}

bool waf_is_lines(struct waf_str s, size_t lines_least, size_t bytes_least)
{
    if (s.n < bytes_least || !can_open_listing(s)) {
        return false;
    }
    size_t lines = 0, words = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '\0') {
            return false;
        }
        bool begins = i == 0 || s.p[i - 1] == '\n';
        lines += begins && c != '\n' && c != '\r';
        words += is_letter(c) && (i == 0 || !is_letter((unsigned char)s.p[i - 1]));
    }
    return lines >= lines_least && words >= 3 * lines / 2;
}

bool waf_is_listing(struct waf_str s)
{
    return is_table(s) || is_access_line(s) || (s.n >= LISTING_BYTES_LEAST && is_page(s)) ||
           waf_is_lines(s, LISTING_LINES_LEAST, LISTING_BYTES_LEAST);
}
