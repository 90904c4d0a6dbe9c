// SPDX-License-Identifier: Apache-2.0
// What of a match is nobody's business, and is not written to a log.
#include "waf/waf.h"

enum { NAME_MAX_BYTES = 255, TEXT_MAX_BYTES = 4096 };

static const char *const WORDS[] = {
    "authorization", "cookie",           "passw",  "secret", "token", "api-key", "apikey",
    "api_key",       "subscription-key", "credit", "card",   "cvv"};

static bool holds_secret_word(struct waf_str s, size_t most)
{
    char low[TEXT_MAX_BYTES];
    size_t n = s.n < most ? s.n : most;
    for (size_t i = 0; i < n; i++) {
        low[i] = (char)waf_lower((unsigned char)s.p[i]);
    }
    for (size_t i = 0; i < sizeof WORDS / sizeof WORDS[0]; i++) {
        if (n != 0 && memmem(low, n, WORDS[i], strlen(WORDS[i])) != NULL) {
            return true;
        }
    }
    return false;
}

// "ARGS:x" of sanitiseArg means the argument wherever it came from.
static bool names_same(struct waf_str wanted, struct waf_str variable)
{
    const char *a = wanted.n == 0 ? NULL : memchr(wanted.p, ':', wanted.n);
    const char *b = variable.n == 0 ? NULL : memchr(variable.p, ':', variable.n);
    if (a == NULL || b == NULL) {
        return waf_eq(wanted, variable);
    }
    struct waf_str key = {a + 1, (size_t)(wanted.p + wanted.n - a) - 1};
    struct waf_str its_key = {b + 1, (size_t)(variable.p + variable.n - b) - 1};
    struct waf_str kind = {wanted.p, (size_t)(a - wanted.p)};
    bool same_kind = (size_t)(b - variable.p) >= kind.n && memcmp(kind.p, variable.p, kind.n) == 0;
    return same_kind && waf_ieq(key, its_key);
}

static bool is_sanitised(const struct waf_tx *tx, struct waf_str variable)
{
    for (uint32_t i = 0; i < tx->sanitised.n; i++) {
        if (names_same(*WAF_AT(&tx->sanitised, struct waf_str, i), variable)) {
            return true;
        }
    }
    return false;
}

bool waf_is_secret(struct waf_str name)
{
    return holds_secret_word(name, NAME_MAX_BYTES);
}

bool waf_hides(const struct waf_tx *tx, const struct waf_fired *f)
{
    return waf_is_secret(f->variable) || waf_is_secret(f->origin) ||
           (f->is_whole && holds_secret_word(f->value, TEXT_MAX_BYTES)) ||
           is_sanitised(tx, f->variable) || is_sanitised(tx, f->origin);
}

bool waf_is_whole(enum waf_var var)
{
    switch ((int)var) {
    case WAF_VAR_FULL_REQUEST:
    case WAF_VAR_QUERY_STRING:
    case WAF_VAR_REQUEST_BODY:
    case WAF_VAR_REQUEST_BODY_WHOLE:
    case WAF_VAR_REQUEST_LINE:
    case WAF_VAR_REQUEST_URI:
    case WAF_VAR_REQUEST_URI_RAW:
        return true;
    default:
        return false;
    }
}

void waf_sanitise(struct waf_tx *tx, struct waf_str what)
{
    struct waf_str name = what;
    if (name.n == 0 && tx->found.text != NULL) {
        name = waf_val_name(tx, &tx->found);
    }
    if (name.n != 0) {
        *(struct waf_str *)waf_push(&tx->arena, &tx->sanitised, sizeof name) = name;
    }
}
