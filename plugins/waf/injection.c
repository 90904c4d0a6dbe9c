// SPDX-License-Identifier: Apache-2.0
// libinjection, by the copy in Debian's libmodsecurity.a: its headers are not shipped, so what we
// call is declared here. The only file that knows of it.
#include "waf/waf.h"

#include <stdlib.h>

// Its state is opaque here; init clears all of it, so that a state too large for us would be noticed.
union sqli_state {
    void *aligned;
    char bytes[4096];
};

enum sqli_lookup { SQLI_LOOKUP_FINGERPRINT = 4 }; // the others are of words

typedef char (*sqli_lookup_fn)(union sqli_state *, int kind, const char *word, size_t n);

void libinjection_sqli_init(union sqli_state *, const char *text, size_t n, int flags);
void libinjection_sqli_callback(union sqli_state *, sqli_lookup_fn lookup, void *user);
char libinjection_sqli_lookup_word(union sqli_state *, int kind, const char *word, size_t n);
// 1 when the text is SQL injection.
int libinjection_is_sqli(union sqli_state *);
// 1 when the text would run script in any of the HTML contexts that it tries.
int libinjection_xss(const char *text, size_t n);

// Letters, digits and '_' alone make one word, and one word is never SQL injection. Script needs a
// tag or an attribute's value: '<' or '='. Both are checked against the library in spec/plugins/waf.
const uint64_t waf_sqli_bytes[4] = {~0x03ff000000000000ull, ~0x07fffffe87fffffeull, ~0ull, ~0ull};
const uint64_t waf_xss_bytes[4] = {1ull << '<' | 1ull << '=', 0, 0, 0};

enum { WORD_MAX = 30, KEPT_WORDS = 1024, FINGERPRINT_BYTES = 8 };

// What the library says of a word depends on the word alone. It finds out by some dozen comparisons
// in a list of 9,000; words come again, within a request and from one to the next.
static char looked_up(union sqli_state *state, int kind, const char *word, size_t n)
{
    static struct {
        char word[WORD_MAX];
        uint8_t n; // 0: empty
        char type;
    } kept[KEPT_WORDS];
    uint32_t hash = 2166136261u;
    if (n == 0 || n > WORD_MAX) {
        return libinjection_sqli_lookup_word(state, kind, word, n);
    }
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ (unsigned char)word[i]) * 16777619u;
    }
    size_t at = (hash ^ hash >> 16) % KEPT_WORDS;
    if (kept[at].n != n || memcmp(kept[at].word, word, n) != 0) {
        kept[at].type = libinjection_sqli_lookup_word(state, kind, word, n);
        kept[at].n = (uint8_t)n;
        memcpy(kept[at].word, word, n);
    }
    return kept[at].type;
}

static char fingerprint_seen[FINGERPRINT_BYTES + 1]; // the last that the library asked for

static char look_up(union sqli_state *state, int kind, const char *word, size_t n)
{
    if (kind != SQLI_LOOKUP_FINGERPRINT) {
        return looked_up(state, kind, word, n);
    }
    size_t len = n < FINGERPRINT_BYTES ? n : FINGERPRINT_BYTES;
    memcpy(fingerprint_seen, word, len);
    fingerprint_seen[len] = '\0';
    return libinjection_sqli_lookup_word(state, kind, word, n);
}

bool waf_is_sqli(struct waf_str s, char fingerprint[16])
{
    union sqli_state state;
    const char sentinel = 0x5a;
    state.bytes[sizeof state - 1] = sentinel;
    fingerprint_seen[0] = '\0';
    libinjection_sqli_init(&state, s.p, s.n, 0);
    if (state.bytes[sizeof state - 1] != sentinel) {
        abort(); // another library than the one this was written for
    }
    libinjection_sqli_callback(&state, look_up, NULL);
    bool is_sqli = libinjection_is_sqli(&state) != 0;
    memcpy(fingerprint, is_sqli ? fingerprint_seen : "", is_sqli ? sizeof fingerprint_seen : 1);
    return is_sqli;
}

bool waf_is_xss(struct waf_str s)
{
    return libinjection_xss(s.p, s.n) != 0;
}
