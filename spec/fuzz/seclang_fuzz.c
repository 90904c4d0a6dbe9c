/* SPDX-License-Identifier: Apache-2.0 */
// Any text as SecLang: compiled and run once, or refused with a line that says where.

#include "waf/engine.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(struct waf_ruleset *rules)
{
    struct waf_verdict v;
    struct waf_tx *tx = waf_tx_new(rules, NULL);
    waf_tx_request_line(tx, (struct waf_str){"GET", 3}, (struct waf_str){"/a?x=1%27", 9},
                        (struct waf_str){"HTTP/1.1", 8});
    waf_tx_request_header(tx, (struct waf_str){"Cookie", 6}, (struct waf_str){"a=b", 3});
    (void)waf_tx_request_headers(tx, &v);
    (void)waf_tx_request_body_end(tx, &v);
    waf_tx_logging(tx, 200);
    for (size_t i = 0; i < waf_tx_fired_count(tx); i++) {
        (void)waf_tx_error_log(tx, i);
    }
    waf_tx_free(tx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct waf_error error;
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    struct waf_source source = {WAF_SOURCE_TEXT, "fuzz", text};
    // Files of this machine are no part of the test.
    if (strcasestr(text, "include") != NULL || strcasestr(text, "file") != NULL ||
        strcasestr(text, "pmf") != NULL || strcasestr(text, "ipMatchF") != NULL) {
        free(text);
        return 0;
    }
    struct waf_ruleset *rules = waf_ruleset_load(&source, 1, &error);
    if (rules != NULL) {
        run(rules);
        waf_ruleset_release(rules);
    } else if (strstr(error.text, "fuzz:") == NULL) {
        abort();
    }
    free(text);
    return 0;
}
