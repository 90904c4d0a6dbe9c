/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A body of any bytes for one body processor, and for what the profile for APIs takes values apart
/// into: no byte beyond the body is read, no limit is passed, and reading it twice finds the same. Each
/// processor's target is this with its Content-Type.

#include "waf/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SETS = 2, BODY_MAX = 16384 };

static const char rules_text[] =
    "SecRuleEngine DetectionOnly\nSecRequestBodyAccess On\nSecArgumentsLimit 200\n"
    "SecRequestBodyJsonDepthLimit 32\n"
    "SecRule REQUEST_HEADERS:Content-Type \"@contains json\" "
    "\"id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON\"\n"
    "SecRule REQUEST_HEADERS:Content-Type \"@contains xml\" "
    "\"id:2,phase:1,pass,nolog,ctl:requestBodyProcessor=XML\"\n"
    "SecAction \"id:10,phase:2,pass,nolog,setvar:tx.seen=0\"\n"
    "SecRule ARGS|ARGS_NAMES|XML:/*|XML://@*|FILES|FILES_NAMES|MULTIPART_PART_HEADERS "
    "\"@rx ^\" \"id:11,phase:2,pass,log,setvar:tx.seen=+1,msg:'%{MATCHED_VAR}'\"\n"
    "SecRule &ARGS \"@gt 200\" \"id:99,phase:2,pass,log\"\n"
    "SecRule REQBODY_ERROR \"@eq 1\" \"id:12,phase:2,pass,log,msg:'%{REQBODY_ERROR_MSG}'\"\n";
static const char values_text[] =
    "SecMoonValues On\nSecMoonCorroborate 21 21 5 3\n"
    "SecRule ARGS|ARGS_PROSE \"@rx ^\" \"id:21,phase:2,pass,nolog,setvar:tx.score=+9\"\n"
    "SecRule ARGS_PROSE \"@rx ^\" \"id:20,phase:2,pass,log,setvar:tx.seen=+1\"\n";

static struct waf_ruleset *load(bool takes_values)
{
    struct waf_error error;
    struct waf_source sources[] = {{WAF_SOURCE_TEXT, "rules", rules_text},
                                   {WAF_SOURCE_TEXT, "values", takes_values ? values_text : ""}};
    struct waf_ruleset *rules = waf_ruleset_load(sources, 2, &error);
    if (rules == NULL) {
        fprintf(stderr, "%s\n", error.text);
        abort();
    }
    return rules;
}

// @return how many values the rules saw
static long run(struct waf_ruleset *rules, const char *type, const uint8_t *data, size_t size)
{
    char *body = malloc(size + (size == 0)); // to its last byte, so that ASan sees a step beyond
    memcpy(body, data, size);
    struct waf_verdict v;
    struct waf_tx *tx = waf_tx_new(rules, NULL);
    waf_tx_request_line(tx, (struct waf_str){"POST", 4}, (struct waf_str){"/", 1},
                        (struct waf_str){"HTTP/1.1", 8});
    waf_tx_request_header(tx, (struct waf_str){"Content-Type", 12},
                          (struct waf_str){type, strlen(type)});
    (void)waf_tx_request_headers(tx, &v);
    (void)waf_tx_request_body_whole(tx, (struct waf_str){body, size}, &v);
    (void)waf_tx_request_body_end(tx, &v);
    waf_tx_logging(tx, 200);
    for (size_t i = 0; i < waf_tx_fired_count(tx); i++) {
        if (waf_tx_fired(tx, i)->id == 99) {
            abort(); // more arguments than the limit
        }
        (void)waf_tx_error_log(tx, i);
    }
    struct waf_str score = waf_tx_get_var(tx, (struct waf_str){"score", 5});
    if (score.p != NULL && (score.n != 1 || (score.p[0] != '3' && score.p[0] != '5'))) {
        abort(); // told of or not, a rule adds once
    }
    struct waf_str seen = waf_tx_get_var(tx, (struct waf_str){"seen", 4});
    long n = seen.p == NULL ? -1 : 0;
    for (size_t i = 0; i < seen.n; i++) {
        n = n * 10 + (seen.p[i] - '0');
    }
    waf_tx_free(tx);
    free(body);
    return n;
}

static int waf_body_fuzz(const char *type, const uint8_t *data, size_t size)
{
    static struct waf_ruleset *sets[SETS];
    for (int i = 0; i < SETS; i++) {
        if (sets[i] == NULL) {
            sets[i] = load(i == 1);
        }
    }
    if (size > BODY_MAX) {
        return 0;
    }
    for (int i = 0; i < SETS; i++) {
        long first = run(sets[i], type, data, size);
        if (first != run(sets[i], type, data, size)) {
            abort();
        }
    }
    return 0;
}
