// SPDX-License-Identifier: Apache-2.0
// What people write, told from input of machines, for the profile for APIs. An injected text is a
// fragment: it begins with what breaks out of the place where it lands, or is all of machine words.
// Prose, prompts with code, source code, tickets with logs begin with a word and go on with more.
#include "waf/waf.h"

enum {
    PROSE_WORDS_LEAST = 8,    // words by which a text can be known as prose
    PROSE_FIRST = 400,        // bytes that decide for a long text
    PROSE_COMMON_PART = 10,   // one in so many words is of those that every sentence has
    TALK_WORDS_LEAST = 6,     // .. by which one that names a target of attacks is talk about it
    FAR_LETTERS_WORD = 3,     // letters of scripts without spaces that count as a word
    DOCUMENT_WORDS_LEAST = 3, // .. by which one that begins with a word is known as a document
};

// The commonest words of the languages that the corpus has; without them a text is no prose.
static const char COMMON[] =
    " the a an and to of in is are was for with on that this it you i my we our your be can how "
    "what please not "
    "do when if as or have has but at by from will would there which "
    "der die das und ist nicht ich ein eine zu mit auf den im von wir sie es bitte für wie "
    "le la les et est un une de des je vous nous pour dans que qui pas du en au sur avec s'il "
    "el los las y es un una por para que con se mi su no lo del al como "
    "il di che e non per una sono con il mi si nel "
    "o os um uma para com não em por que do da "
    "het een van en dat niet ik met voor op te "
    "och att det som en på är för jag inte med "
    "i w na nie się z do to że jest ";

static bool is_common(struct waf_str word)
{
    return WAF_IS_AMONG(COMMON, word);
}

static bool is_letter(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80 || c == '\'';
}

// Texts of scripts without spaces: mostly letters of three bytes and more.
static bool is_far_script(struct waf_str s)
{
    size_t high = 0;
    for (size_t i = 0; i < s.n; i++) {
        high += (unsigned char)s.p[i] >= 0x80;
    }
    return s.n >= 24 && high * 2 > s.n;
}

// Letters, digits and the marks of plain writing, with a gap between two words: no language of
// machines can be written so, but for the words of SQL, which a rule of ARGS_PROSE looks for.
static bool is_plain(struct waf_str s)
{
    bool has_gap = false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool is_gap = c == ' ' || c == '+' || c == '@';
        if (!is_gap && (c == '\'' || (!is_letter(c) && !waf_is_digit(c) &&
                                      (c == '\0' || strchr(".,!?:-", c) == NULL)))) {
            return false;
        }
        if (c == '-' && i + 1 < s.n && s.p[i + 1] == '-') {
            return false;
        }
        has_gap |= is_gap && i > 0 && i + 1 < s.n;
    }
    return has_gap;
}

// Words of SQL and of shells make no document: an attack has them too.
bool waf_is_machine_word(struct waf_str w)
{
    static const char WORDS[] =
        " select union insert update delete drop from where and or xor not having order group by "
        "limit offset into values table exec execute declare waitfor delay sleep benchmark like "
        "null is "
        "all as case when then else end if true false cat ls id whoami uname wget curl nc ncat "
        "bash sh cmd ping nslookup echo powershell passwd alert prompt confirm eval script ";
    return WAF_IS_AMONG(WORDS, w);
}

static bool has_sentences(struct waf_str s, bool has_code)
{
    size_t words = 0, common = 0;
    for (size_t i = 0; i < s.n;) {
        size_t start = i;
        while (i < s.n && is_letter((unsigned char)s.p[i])) {
            i++;
        }
        if (i > start && (start == 0 || waf_is_space((unsigned char)s.p[start - 1])) &&
            (i == s.n || memchr(" \t\r\n.,;:!?)", s.p[i], 11) != NULL)) {
            struct waf_str word = {s.p + start, i - start};
            words++;
            common += is_common(word) && !waf_is_machine_word(word);
        }
        i += i == start;
        if (!has_code && words >= PROSE_WORDS_LEAST && common >= 2 &&
            common * PROSE_COMMON_PART >= words && words * 16 >= i) {
            return true;
        }
    }
    return has_code && words >= 3 && common >= 1;
}

/// Whether people wrote it: plain words, sentences with the words that every sentence has, or
/// sentences around code between fences. A value that begins as one that breaks out of a quotation
/// or of a tag is none, whatever follows; what a long text begins with decides for it.
static bool is_told(struct waf_str s)
{
    size_t lead = 0;
    while (lead < s.n && waf_is_space((unsigned char)s.p[lead])) {
        lead++;
    }
    if (is_plain(s)) {
        return true;
    }
    bool is_quoted = lead + 1 < s.n && (s.p[lead] == '"' || s.p[lead] == '\'') &&
                     is_letter((unsigned char)s.p[lead + 1]); // "Like" is overused
    if (lead == s.n || (!is_quoted && memchr("'\")};|&$%<", s.p[lead], 10) != NULL)) {
        return false;
    }
    struct waf_str first = {s.p, s.n < PROSE_FIRST ? s.n : PROSE_FIRST};
    const char *fence = memmem(s.p, s.n, "```", 3);
    if (fence != NULL && has_sentences((struct waf_str){s.p, (size_t)(fence - s.p)}, true)) {
        return true;
    }
    struct waf_str last = {s.p + (s.n - first.n), first.n};
    return has_sentences(first, false) || (s.n > first.n && has_sentences(last, false)) ||
           is_far_script(s);
}

// --- documents: texts with code in them, code itself -----------------------------------------

static bool is_word_byte(unsigned char c)
{
    return is_letter(c) || waf_is_digit(c) || c == '_' || c == '-';
}

static bool has_text(struct waf_str s, const char *needle)
{
    size_t n = strlen(needle);
    for (size_t i = 0; i + n <= s.n; i++) {
        size_t k = 0;
        while (k < n &&
               (s.p[i + k] | (needle[k] >= 'a' && needle[k] <= 'z' ? 0x20 : 0)) == needle[k]) {
            k++;
        }
        if (k == n) {
            return true;
        }
    }
    return false;
}

// The word that begins at `i`, where one can begin; .n is 0 where none does.
static struct waf_str word_at(struct waf_str s, size_t i)
{
    size_t end = i; // a word that ends with an apostrophe may be one that a quotation ends in
    bool can_begin = i == 0 || memchr(" \t\r\n([\"`", s.p[i - 1], 8) != NULL;
    if (!can_begin || !is_letter((unsigned char)s.p[i]) || s.p[i] == '\'') {
        return (struct waf_str){s.p, 0};
    }
    while (end < s.n && is_word_byte((unsigned char)s.p[end])) {
        end++;
    }
    bool can_end = (end == s.n || memchr(" \t\r\n.,;:!?()[]\"`'=", s.p[end], 18) != NULL) &&
                   s.p[end - 1] != '\'';
    return (struct waf_str){s.p + i, can_end && end - i >= 2 ? end - i : 0};
}

// Where the text begins: behind the marks that lists, quotations, headings and mentions begin with,
// and behind the quote of a word in back quotes.
size_t waf_skip_lead(struct waf_str s)
{
    size_t i = 0;
    while (i < s.n && waf_is_space((unsigned char)s.p[i])) {
        i++;
    }
    if (i + 6 < s.n && memcmp(s.p + i, "- [", 3) == 0 && s.p[i + 4] == ']') {
        i += 6; // a task
    } else if (i + 2 < s.n && strchr(">#*-$", s.p[i]) != NULL && s.p[i + 1] == ' ') {
        i += 2;
    } else if (i + 2 < s.n && s.p[i] == '.' && s.p[i + 1] == '/') {
        i += 2;
    } else if (i + 3 < s.n && waf_is_digit((unsigned char)s.p[i]) && s.p[i + 1] == '.' &&
               s.p[i + 2] == ' ') {
        i += 3; // of a list
    } else if (i + 2 < s.n && s.p[i] == '#' && s.p[i + 1] == '!') {
        i += 2;
        i += s.p[i] == '/';
        while (i + 1 < s.n && s.p[i] != '\n' && memchr(s.p + i, '\n', s.n - i) != NULL) {
            i++;
        }
        i += i < s.n;
    } else if (i + 1 < s.n && s.p[i] == '`') {
        size_t k = i + 1;
        while (k < s.n && is_word_byte((unsigned char)s.p[k])) {
            k++;
        }
        i += k < s.n && s.p[k] == '`'; // a word in back quotes
    } else if (i + 2 < s.n && s.p[i] == '<' && (s.p[i + 1] == '@' || s.p[i + 1] == '#')) {
        const char *close = memchr(s.p + i, '>', s.n - i);
        i = close == NULL ? i : (size_t)(close - s.p) + 2;
    }
    return i < s.n ? i : s.n;
}

// "javascript:" and what runs; "this JavaScript: x" is prose.
static bool has_script_reference(struct waf_str s)
{
    static const char SCHEME[] = "javascript:";
    for (size_t i = 0; i + sizeof SCHEME <= s.n; i++) {
        struct waf_str here = {s.p + i, sizeof SCHEME - 1};
        if (has_text(here, SCHEME) && s.p[i + sizeof SCHEME - 1] != ' ') {
            return true;
        }
    }
    return false;
}

// What no document needs to say and attacks do: such a value is judged by all rules.
bool waf_has_target(struct waf_str s)
{
    static const char *const TARGETS[] = {
        "/etc/passwd",   "/etc/shadow",    "/dev/tcp/",     "xp_cmdshell",   "information_schema.",
        "load_file(",    "into outfile",   "waitfor delay", "pg_sleep(",     "document.cookie",
        "fromcharcode(", "{{constructor.", "__globals__",   "extractvalue(", "updatexml(",
        "$(curl",        "$(wget",         "@@version"};
    if (has_script_reference(s)) {
        return true;
    }
    for (size_t i = 0; i < sizeof TARGETS / sizeof TARGETS[0]; i++) {
        if (has_text(s, TARGETS[i])) {
            return true;
        }
    }
    return false;
}

// What a statement does beyond its tables.
static bool runs_out(struct waf_str s)
{
    static const char *const CALLS[] = {
        "xp_",    "load_file(", "into outfile", "into dumpfile", "pg_sleep", "waitfor delay",
        "sleep(", "benchmark(", "@@",           "utl_",          "dbms_"};
    for (size_t i = 0; i < sizeof CALLS / sizeof CALLS[0]; i++) {
        if (has_text(s, CALLS[i])) {
            return true;
        }
    }
    return false;
}

// One statement of SQL from its first word on: it breaks out of nothing.
static bool is_statement(struct waf_str s)
{
    static const char *const VERBS[][2] = {{"select ", " from "},      {"with ", " select "},
                                           {"insert into ", "values"}, {"update ", " set "},
                                           {"create table ", "("},     {"alter table ", " "},
                                           {"explain ", "select "}};
    for (size_t i = 0; i < sizeof VERBS / sizeof VERBS[0]; i++) {
        size_t n = strlen(VERBS[i][0]);
        if (s.n > n && has_text((struct waf_str){s.p, n}, VERBS[i][0])) {
            return has_text(s, VERBS[i][1]) && !has_text(s, "password") && !has_text(s, "--") &&
                   !runs_out(s);
        }
    }
    return false;
}

// Scripts without spaces have several words in what stands between two of them.
static size_t words_in(struct waf_str run)
{
    size_t high = 0;
    for (size_t i = 0; i < run.n && (unsigned char)run.p[0] >= 0x80; i++) {
        high += (unsigned char)run.p[i] >= 0xE0; // the first bytes of three and more
    }
    return 1 + high / FAR_LETTERS_WORD;
}

static bool is_document(struct waf_str s)
{
    size_t lead = waf_skip_lead(s), words = 0, common = 0;
    if (s.n > 0 && (s.p[0] == '\r' || s.p[0] == '\n')) {
        return false; // as what is injected into protocols of lines
    }
    struct waf_str rest = {s.p + lead, s.n - lead};
    struct waf_str first = rest.n == 0 ? rest : word_at(rest, 0);
    bool is_single = first.n == 0 && rest.n > 1 && is_letter((unsigned char)rest.p[0]) &&
                     rest.p[1] == ' '; // "A list", "I want"
    if (first.n == 0 && !is_single) {
        return false;
    }
    if (is_statement(rest)) {
        return true;
    }
    char after = first.n < rest.n ? rest.p[first.n] : ' ';
    char next = first.n + 1 < rest.n ? rest.p[first.n + 1] : ' ';
    bool is_lone = is_single || waf_is_space((unsigned char)after) || after == '`' ||
                   (strchr(":,.!?", after) != NULL && waf_is_space((unsigned char)next));
    if (!is_lone) {
        return false;
    }
    size_t end = rest.n < PROSE_FIRST ? rest.n : PROSE_FIRST;
    for (size_t i = 0; i < end; i++) {
        struct waf_str word = word_at((struct waf_str){rest.p, end}, i);
        if (word.n > 0) {
            bool is_machine = waf_is_machine_word(word);
            words += is_machine ? 0 : words_in(word);
            common += !is_machine && is_common(word);
            i += word.n - 1;
        }
    }
    bool is_talk = words >= TALK_WORDS_LEAST && common >= 2; // about a target
    return is_talk ||
           ((words >= DOCUMENT_WORDS_LEAST || (words == 2 && common >= 1)) && !waf_has_target(s));
}

// Without the marks around a text that is code as a whole: ```, {code}, [code].
static struct waf_str unfenced(struct waf_str s)
{
    static const char *const FENCES[] = {"```", "{code}", "{noformat}", "[code]"};
    for (size_t i = 0; i < sizeof FENCES / sizeof FENCES[0]; i++) {
        size_t n = strlen(FENCES[i]);
        if (s.n > 2 * n && memcmp(s.p, FENCES[i], n) == 0) {
            return (struct waf_str){s.p + n, s.n - n};
        }
    }
    return s;
}

bool waf_is_prose(struct waf_str s)
{
    struct waf_str inside = unfenced(s);
    bool has_fence = inside.n < s.n && !waf_has_target(inside); // code that says so itself
    return is_told(s) || has_fence || is_document(s);
}
