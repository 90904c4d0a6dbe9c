/* SPDX-License-Identifier: Apache-2.0 */
// A request of any bytes against the Core Rule Set, where it is installed: with the prefilter and
// without it the same rules fire on the same variables.

#include "waf/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FIRED_MAX = 512, NAME_MAX_BYTES = 40 };

struct fired {
    int id;
    char variable[NAME_MAX_BYTES];
};

static const char settings[] =
    "SecRuleEngine DetectionOnly\nSecRequestBodyAccess On\nSecPcreMatchLimit 100000\n"
    "SecAction \"id:1,phase:1,nolog,pass,t:none,setvar:tx.crs_setup_version=334,"
    "setvar:tx.paranoia_level=4,setvar:tx.blocking_paranoia_level=4\"\n"
    "SecRule REQUEST_HEADERS:Content-Type \"@contains json\" "
    "\"id:2,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON\"\n"
    "SecRule REQUEST_HEADERS:Content-Type \"@contains xml\" "
    "\"id:3,phase:1,pass,nolog,ctl:requestBodyProcessor=XML\"\n";

static const char small[] =
    "SecRule ARGS|ARGS_NAMES|REQUEST_COOKIES|XML:/* \"@rx "
    "(?i)union\\s+(?:all\\s+)?select|[<>]script\" "
    "\"id:10,phase:2,pass,log,t:none,t:urlDecodeUni,t:lowercase\"\n"
    "SecRule ARGS \"@detectSQLi\" "
    "\"id:11,phase:2,pass,log,t:none,t:utf8toUnicode,t:urlDecodeUni\"\n"
    "SecRule ARGS \"@detectXSS\" \"id:12,phase:2,pass,log,t:none,t:htmlEntityDecode,t:jsDecode\"\n"
    "SecRule ARGS|REQUEST_URI \"@pm passwd shadow ../\" "
    "\"id:13,phase:2,pass,log,t:none,t:normalizePath\"\n";

static struct waf_ruleset *load(void)
{
    static const char crs[] = "/usr/share/modsecurity-crs/rules/*.conf";
    struct waf_error error;
    bool there = access("/usr/share/modsecurity-crs/rules", R_OK) == 0;
    struct waf_source sources[] = {
        {WAF_SOURCE_TEXT, "settings", settings},
        {there ? WAF_SOURCE_FILE : WAF_SOURCE_TEXT, there ? crs : "small", there ? NULL : small}};
    struct waf_ruleset *rules = waf_ruleset_load(sources, 2, &error);
    if (rules == NULL) {
        fprintf(stderr, "%s\n", error.text);
        abort();
    }
    return rules;
}

// Input: a byte for the content type, then query, cookie and body, divided by newlines.
static size_t run(struct waf_ruleset *rules, const uint8_t *data, size_t size, struct fired *out)
{
    static const char *const types[] = {"application/x-www-form-urlencoded", "application/json",
                                        "text/xml", "multipart/form-data; boundary=b"};
    const char *p = (const char *)data + 1, *end = (const char *)data + size;
    const char *type = types[data[0] & 3];
    struct waf_str parts[3] = {{"", 0}, {"", 0}, {"", 0}};
    for (int i = 0; i < 3 && p < end; i++) {
        const char *nl = i == 2 ? NULL : memchr(p, '\n', (size_t)(end - p));
        parts[i] = (struct waf_str){p, (size_t)((nl == NULL ? end : nl) - p)};
        p += parts[i].n + 1;
    }
    struct waf_verdict v;
    struct waf_tx *tx = waf_tx_new(rules, NULL);
    waf_tx_request_line(tx, (struct waf_str){"POST", 4}, parts[0], (struct waf_str){"HTTP/1.1", 8});
    waf_tx_request_header(tx, (struct waf_str){"Content-Type", 12},
                          (struct waf_str){type, strlen(type)});
    waf_tx_request_header(tx, (struct waf_str){"Cookie", 6}, parts[1]);
    (void)waf_tx_request_headers(tx, &v);
    (void)waf_tx_request_body(tx, parts[2], &v);
    (void)waf_tx_request_body_end(tx, &v);
    size_t n = waf_tx_fired_count(tx);
    n = n > FIRED_MAX ? FIRED_MAX : n;
    for (size_t i = 0; i < n; i++) {
        const struct waf_fired *f = waf_tx_fired(tx, i);
        memset(&out[i], 0, sizeof out[i]);
        out[i].id = f->id;
        if (f->variable.p != NULL) {
            size_t len = f->variable.n < NAME_MAX_BYTES - 1 ? f->variable.n : NAME_MAX_BYTES - 1;
            memcpy(out[i].variable, f->variable.p, len);
        }
    }
    waf_tx_free(tx);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct waf_ruleset *rules;
    static struct fired with[FIRED_MAX], without[FIRED_MAX];
    if (rules == NULL) {
        rules = load();
    }
    if (size < 2 || size > 4096) {
        return 0;
    }
    waf_set_prefilter(true);
    size_t n = run(rules, data, size, with);
    waf_set_prefilter(false);
    size_t m = run(rules, data, size, without);
    if (n != m || memcmp(with, without, n * sizeof *with) != 0) {
        for (size_t i = 0; i < n || i < m; i++) {
            fprintf(stderr, "%d %s | %d %s\n", i < n ? with[i].id : 0,
                    i < n ? with[i].variable : "", i < m ? without[i].id : 0,
                    i < m ? without[i].variable : "");
        }
        abort();
    }
    return 0;
}
