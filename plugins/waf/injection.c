// SPDX-License-Identifier: Apache-2.0
// libinjection, by the copy in Debian's libmodsecurity.a: its headers are not shipped, so what we
// call is declared here. The only file that knows of it.
#include "waf/waf.h"

// 1 when the text is SQL injection; fingerprint gets up to 8 bytes and a NUL.
int libinjection_sqli(const char *text, size_t n, char fingerprint[]);
// 1 when the text would run script in any of the HTML contexts that it tries.
int libinjection_xss(const char *text, size_t n);

// Letters, digits and '_' alone make one word, and one word is never SQL injection. Script needs a
// tag or an attribute's value: '<' or '='. Both are checked against the library in spec/plugins/waf.
const uint64_t waf_sqli_bytes[4] = {~0x03ff000000000000ull, ~0x07fffffe87fffffeull, ~0ull, ~0ull};
const uint64_t waf_xss_bytes[4] = {1ull << '<' | 1ull << '=', 0, 0, 0};

bool waf_is_sqli(struct waf_str s, char fingerprint[16])
{
    fingerprint[0] = '\0';
    return libinjection_sqli(s.p, s.n, fingerprint) != 0;
}

bool waf_is_xss(struct waf_str s)
{
    return libinjection_xss(s.p, s.n) != 0;
}
